"""Checking the gradients of somebody's own layer."""

import ml_dtypes
import numpy as np
import pytest

import attncli
from attncli import layers
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.targets.target import as_gradients
from attncli.errors import ParameterError, TargetError


class Base:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, h):
        self.h = h
        return h**2

    def backward(self, dout):
        return 2 * self.h * dout


def found(report):
    (check,) = report.checks
    return check


@pytest.mark.parametrize(
    "layer",
    ["Softmax", "WeightSum", "AttentionWeight", "Attention", "TimeAttention"],
)
def test_our_layers_are_right_to_the_last_digit(layer):
    report = gradcheck(getattr(layers, layer))
    assert (report.passed, report.method, report.notes) == (True, "complex", ())
    assert report.worst.relative_error < 1e-12
    assert all(check.jacobian_error < 1e-12 for check in report.checks)


def test_our_core_is_right_by_central_differences():
    report = gradcheck("attncli.core:attention")
    assert (report.passed, report.method) == (True, "central")
    assert report.notes == ("central differences, since the code does not take complex numbers",)


def test_a_wrong_gradient_is_shown_with_its_worst_elements_and_its_pattern():
    class Doubled(Base):
        def backward(self, dout):
            return 2 * super().backward(dout)

    check = found(gradcheck(Doubled))
    assert not check.passed
    assert check.patterns == ("off by the factor 2.0",)
    worst = check.worst_elements[0]
    assert worst.index == check.worst
    assert worst.backward == pytest.approx(2 * worst.derivative)
    assert check.errors.shape == (3, 4)


def test_where_it_is_wrong_is_named():
    class Partly(Base):
        def backward(self, dout):
            dh = super().backward(dout)
            dh[1] = 0
            return dh

    assert found(gradcheck(Partly)).patterns == ("only at item 1 of 3",)


def test_code_that_drops_imaginary_parts_gets_central_differences():
    class Real(Base):
        def forward(self, h):
            self.h = h
            out = np.empty(h.shape)
            out[...] = h.real**2
            return out

    report = gradcheck(Real)
    assert (report.passed, report.method) == (True, "central")
    assert "drops imaginary parts" in report.notes[0]
    with pytest.raises(ParameterError, match="complex step cannot be used"):
        gradcheck(Real, method="complex")


def test_complex_code_that_is_not_analytic_is_found_out():
    class Conjugate(Base):
        def forward(self, h):
            self.h = np.real(h)
            return h * np.conj(h) + 0j * h if h.dtype.kind == "c" else h * h

    report = gradcheck(Conjugate)
    assert (report.passed, report.method) == (True, "central")
    assert "disagree" in report.notes[0]


def test_float32_only_code_has_float32_tolerances_and_is_told_so():
    class Narrow(Base):
        def forward(self, h):
            self.h = np.asarray(h.real, np.float32)
            return self.h**2

    report = gradcheck(Narrow)
    assert (report.passed, report.dtype) == (True, "float32")
    assert "computes in float32 whatever it is given" in report.notes[0]


def in_bfloat16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


ROUNDED = {
    "float16": lambda x: np.asarray(x.real, np.float16),
    "float16 inside": lambda x: np.asarray(x.real, np.float16).astype(np.float32),
    "bfloat16 inside": lambda x: in_bfloat16(x.real),
    "bfloat16": lambda x: in_bfloat16(x.real).astype(ml_dtypes.bfloat16),
    "float32 inside": lambda x: np.asarray(x.real, np.float32).astype(np.float64),
}


@pytest.mark.parametrize("rounded", ROUNDED)
def test_what_precision_the_code_computes_in_is_told_by_its_numbers(rounded):
    class Rounding(layers.Attention):
        sign = 1

        def forward(self, hs, h):
            wide = [np.asarray(ROUNDED[rounded](x), np.float64) for x in (hs, h)]
            return ROUNDED[rounded](super().forward(*wide))

        def backward(self, dout):
            dhs, dh = super().backward(np.asarray(dout, np.float64))
            return self.sign * dhs, dh

    class Wrong(Rounding):
        sign = -1

    report = gradcheck(Rounding)
    assert (report.passed, report.dtype) == (True, rounded.removesuffix(" inside"))
    assert f"computes in {report.dtype} whatever it is given" in report.notes[0]
    assert f"by the noise in {report.dtype}" in report.notes[-1]
    assert [check.passed for check in gradcheck(Wrong).checks] == [False, True]


def test_parameters_that_are_no_real_numbers_have_no_gradient():
    class Counted(Base):
        def __init__(self):
            self.params, self.grads = [np.zeros(3, int)], [np.zeros(3, int)]

    report = gradcheck(Counted)
    assert report.passed
    assert "params[0] holds int64: it has no gradient to check" in report.notes


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("layer", ["Softmax", "WeightSum", "Attention", "TimeAttention"])
def test_right_float32_code_passes_and_two_percent_are_wrong(layer, seed):
    class Wrong(getattr(layers, layer)):
        def backward(self, dout):
            first, *others = as_gradients(super().backward(dout), 2)
            first = np.float32(1.02) * first
            return (first, *others) if others else first

    report = gradcheck(getattr(layers, layer), dtype="float32", seed=seed)
    assert (report.passed, report.dtype, report.method) == (True, "float32", "central")
    assert all(check.tolerance < 0.015 for check in report.checks)
    assert report.tolerance == max(check.tolerance for check in report.checks)
    assert "tolerances are measured" in report.notes[-1]
    first, *others = gradcheck(Wrong, dtype="float32", seed=seed).checks
    assert not first.passed
    assert all(check.passed for check in others)


class Float32Only(layers.Attention):
    def forward(self, hs, h):
        assert hs.dtype == h.dtype == np.float32, "need float32"
        return super().forward(hs, h)


def test_code_that_refuses_float64_is_checked_in_float32_and_told_so():
    report = gradcheck(Float32Only)
    assert (report.passed, report.dtype) == (True, "float32")
    assert report.notes[0].startswith("the code does not take float64")
    assert gradcheck(Float32Only, dtype="float32").passed


def test_code_that_is_wrong_in_any_dtype_is_reported_as_it_was_first():
    class Broken(Base):
        def forward(self, h):
            raise ValueError(str(h.dtype))

    with pytest.raises(TargetError, match="ValueError: float64"):
        gradcheck(Broken)


def test_parameters_in_float32_are_not_judged_more_mildly_than_need_be():
    class Narrow:
        factor = 1.0

        def __init__(self):
            self.params = [np.eye(4, dtype="f")]
            self.grads = [np.zeros((4, 4), "f")]

        def forward(self, hs):
            self.hs = hs
            return hs @ self.params[0]

        def backward(self, dout):
            self.grads[0][...] = self.factor * np.einsum("nth,ntk->hk", self.hs, dout)
            return dout @ self.params[0].T

    class Wrong(Narrow):
        factor = 1.02

    report = gradcheck(Narrow)
    assert report.passed
    assert [check.tolerance for check in report.checks] == [1e-9, 1e-3]
    assert [check.passed for check in gradcheck(Wrong).checks] == [True, False]


def test_a_parameter_may_be_a_single_number():
    class Scaled(Base):
        factor = 1

        def __init__(self):
            self.params, self.grads = [np.array(2.0)], [np.array(0.0)]

        def forward(self, h):
            return super().forward(h) * self.params[0]

        def backward(self, dout):
            self.grads[0][...] = self.factor * np.sum(dout * self.h**2)
            return super().backward(dout) * self.params[0]

    class Wrong(Scaled):
        factor = 2

    assert gradcheck(Scaled).passed
    assert [check.passed for check in gradcheck(Wrong).checks] == [True, False]


def test_backward_may_use_up_what_forward_kept():
    class Used(Base):
        def backward(self, dout):
            h, self.h = self.h, None
            return 2 * h * dout

    report = attncli.gradcheck(Used)
    assert report.passed
    assert found(report).jacobian_error < 1e-12


@pytest.mark.parametrize("size", [1e-3, 1.0, 3e8])
@pytest.mark.parametrize("share", [0, 1e-4])
def test_parameters_may_be_of_any_size(size, share):
    """They are moved in proportion: a step that is small beside 1 is lost in a large number."""

    class Scaled(Base):
        def __init__(self):
            self.params, self.grads = [np.array([2.0, 3.0, 5.0, 7.0]) * size], [np.zeros(4)]

        def forward(self, h):
            return super().forward(h) * self.params[0]

        def backward(self, dout):
            self.grads[0][...] = (dout * self.h**2).sum(axis=0) * (1 + share)
            return super().backward(dout) * self.params[0]

    report = attncli.gradcheck(Scaled)
    assert [check.input for check in report.checks] == ["h", "params[0]"]
    assert [check.passed for check in report.checks] == [True, share == 0]


def test_a_parameter_that_cannot_be_moved_is_left_out_and_told_so():
    class Fixed(Base):
        def __init__(self):
            self.params, self.grads = [np.broadcast_to(1.0, 3)], [np.zeros(3)]

    report = gradcheck(Fixed)
    assert report.passed
    assert "params[0] is read-only: its gradient is not checked" in report.notes


def test_kinks_are_no_errors():
    class Abs(Base):
        def forward(self, h):
            self.h = h
            return np.abs(h - SAME)

        def backward(self, dout):
            return dout * np.where(self.h < SAME, -1, 1)

    from attncli.tensors import random_tensor

    SAME = random_tensor("h", (3, 4)).copy()
    SAME[0] = 5.0
    report = gradcheck(Abs)
    assert report.passed
    assert found(report).not_differentiable == 8


def test_what_is_random_is_reported_and_the_gradients_still_checked():
    class Dropout(Base):
        def forward(self, h):
            self.mask = np.random.rand(*h.shape) > 0.5  # noqa: NPY002 (as the book has it)
            return h * self.mask

        def backward(self, dout):
            return dout * self.mask

    report = gradcheck(Dropout)
    assert not report.passed
    assert "not deterministic" in report.problems[0]
    assert all(check.passed for check in report.checks)


def test_state_that_survives_a_call_is_reported():
    class Growing(Base):
        def backward(self, dout):
            self.total = getattr(self, "total", 0) + super().backward(dout)
            return self.total

    assert "a second forward and backward" in gradcheck(Growing).problems[0]


def test_memory_that_is_never_filled_is_no_state_that_survives():
    class Partly(Base):
        def backward(self, dout):
            dh = np.empty_like(dout)
            dh[:-1] = super().backward(dout)[:-1]
            return dh

    (problem,) = gradcheck(Partly).problems
    assert problem.startswith("not every element is filled: dh (only at item 2 of 3)")


def test_a_changed_input_is_reported():
    class Greedy(Base):
        def forward(self, h):
            h *= 2
            self.h = h
            return h**2

    assert "the input h is changed in place" in gradcheck(Greedy).problems


def test_backward_that_is_not_linear_is_reported():
    class Bent(Base):
        def backward(self, dout):
            return np.where(np.count_nonzero(dout) == 1, 3, 2) * self.h * dout

    report = gradcheck(Bent)
    assert found(report).passed
    assert "is backward linear in dout?" in report.problems[0]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (lambda d: None, "backward returns None, expected dhs, dh"),
        (lambda d: d, "backward returns one array, expected 2: dhs, dh"),
        (lambda d: (d, "text"), "dh is str, expected an array"),
        (lambda d: (d, d, d), "backward returns 3 values, expected 2"),
        (lambda d: (d, d), "dhs is (3, 4), expected (3, 7, 4) as the input is"),
    ],
)
def test_what_backward_should_return_is_said(result, problem):
    class Wrong:
        def forward(self, hs, h):
            return h

        def backward(self, dout):
            return result(dout)

    report = gradcheck(Wrong)
    assert not report.passed
    assert problem in " | ".join(report.problems)


def test_forward_without_a_return():
    class Silent(Base):
        def forward(self, h):
            self.h = h

    with pytest.raises(TargetError, match="forward returns None") as error:
        gradcheck(Silent)
    assert error.value.hint == "is there a return?"


class Luong:
    """Scores hs · W · h, with a weight matrix, in the book's style."""

    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, hs, h):
        (W,) = self.params
        hW = np.dot(h, W.T)
        s = np.sum(hs * hW[:, None, :], axis=2)
        e = np.exp(s - s.max(axis=1, keepdims=True))
        a = e / e.sum(axis=1, keepdims=True)
        self.cache = (hs, h, hW, a)
        return np.sum(hs * a[:, :, None], axis=1)

    def backward(self, dout):
        (W,) = self.params
        hs, h, hW, a = self.cache
        da = np.sum(hs * dout[:, None, :], axis=2)
        ds = a * (da - np.sum(a * da, axis=1, keepdims=True))
        dhW = np.sum(ds[:, :, None] * hs, axis=1)
        dhs = a[:, :, None] * dout[:, None, :] + ds[:, :, None] * hW[:, None, :]
        self.grads[0][...] = np.dot(dhW.T, h)
        return dhs, np.dot(dhW, W)


class Bahdanau:
    """Scores v · tanh(hs Wk + h Wq)."""

    def __init__(self, Wq, Wk, v):
        self.params = [Wq, Wk, v]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, hs, h):
        Wq, Wk, v = self.params
        t = np.tanh(hs @ Wk + (h @ Wq)[:, None, :])
        s = t @ v
        e = np.exp(s - s.max(axis=1, keepdims=True))
        a = e / e.sum(axis=1, keepdims=True)
        self.cache = (hs, h, t, a)
        return (a[:, None, :] @ hs)[:, 0]

    def backward(self, dout):
        Wq, Wk, v = self.params
        hs, h, t, a = self.cache
        da = (hs @ dout[:, :, None])[:, :, 0]
        ds = a * (da - np.sum(a * da, axis=1, keepdims=True))
        dt = ds[:, :, None] * v * (1 - t**2)
        self.grads[0][...] = h.T @ dt.sum(axis=1)
        self.grads[1][...] = np.einsum("nth,ntd->hd", hs, dt)
        self.grads[2][...] = np.einsum("nt,ntd->d", ds, t)
        return a[:, :, None] * dout[:, None, :] + dt @ Wk.T, dt.sum(axis=1) @ Wq.T


@pytest.mark.parametrize(
    ("layer", "shapes", "names"),
    [
        (Luong, {"W": (4, 4)}, ["hs", "h", "params[0]"]),
        (
            Bahdanau,
            {"Wq": (4, 6), "Wk": (4, 6), "v": (6,)},
            ["hs", "h", "params[0]", "params[1]", "params[2]"],
        ),
    ],
)
def test_layers_with_weights_are_checked_to_their_parameters(layer, shapes, names):
    report = gradcheck(layer, inputs=shapes)
    assert report.passed
    assert [check.input for check in report.checks] == names


def test_a_wrong_gradient_of_a_parameter_is_found():
    class Wrong(Luong):
        def backward(self, dout):
            result = super().backward(dout)
            self.grads[0][...] = self.grads[0].T.copy()
            return result

    report = gradcheck(Wrong, inputs={"W": (4, 4)})
    assert [check.passed for check in report.checks] == [True, True, False]
    assert report.checks[2].patterns == ("transposed",)


def test_gradients_of_parameters_that_add_up_are_reported():
    class Adding(Luong):
        def backward(self, dout):
            before = self.grads[0].copy()
            result = super().backward(dout)
            self.grads[0] += before
            return result

    (problem,) = gradcheck(Adding, inputs={"W": (4, 4)}).problems
    assert problem.startswith("grads are not the same after a second forward and backward")


class Heads:
    def forward(self, query, key, value):
        assert query.ndim == 4, "heads are missing"
        self.value = value
        return query + key.sum(axis=(2, 3), keepdims=True) + value.sum(axis=(2, 3), keepdims=True)

    def backward(self, dout):
        shared = np.broadcast_to(dout.sum(axis=(2, 3), keepdims=True), self.value.shape)
        return dout, shared, shared


def test_layers_of_query_key_and_value_that_need_heads_get_them():
    report = gradcheck(Heads)
    assert report.passed
    assert report.notes == ("the code takes no arrays of three axes: 2 heads",)
    assert report.checks[0].elements == 3 * 2 * 5 * 4

    class Five(Heads):
        def forward(self, query, key, value):
            raise ValueError("five axes")

    with pytest.raises(TargetError, match="five axes") as error:
        gradcheck(Five)
    assert "--input" in error.value.hint


def test_nothing_judged_is_not_a_pass():
    class Stepped(Base):
        def forward(self, h):
            self.h = h
            return np.abs(h - SAME)

        def backward(self, dout):
            return 0.3 * dout

    from attncli.tensors import random_tensor

    SAME = random_tensor("h", (3, 4)).copy()
    report = gradcheck(Stepped)
    assert (report.judged, report.passed) == (0, False)


def test_an_exception_that_cannot_be_written_is_reported_all_the_same():
    class Odd(Exception):  # noqa: N818 (theirs)
        def __str__(self):
            raise ValueError("no")

    class Raising(Base):
        def forward(self, h):
            raise Odd

    with pytest.raises(TargetError, match="raises Odd: its message cannot be read"):
        gradcheck(Raising)


def test_parameters_drawn_by_the_constructor_stay_the_same():
    class Drawn(Luong):
        def __init__(self, H):
            super().__init__(np.random.default_rng().normal(size=(H, H)))

    assert gradcheck(Drawn).passed


def test_a_large_result_is_checked_without_its_jacobian():
    report = gradcheck(layers.Attention, sizes={"N": 17, "H": 11})
    assert report.passed
    assert report.checks[0].jacobian_error is None


class Tiles:
    """Attention whose backward goes over 16 queries at a time."""

    def __init__(self):
        self.params, self.grads = [np.ones(3)], [np.zeros(3)]

    def summed(self, total, part):
        return total + part

    def forward(self, query, key, value):
        s = query @ key.swapaxes(-1, -2) * self.params[0].mean()
        e = np.exp(s - s.max(-1, keepdims=True) if s.dtype.kind == "f" else s)
        self.cache = query, key, value, e / e.sum(-1, keepdims=True), s
        return self.cache[3] @ value

    def backward(self, dout):
        query, key, value, p, s = self.cache
        dp = dout @ value.swapaxes(-1, -2)
        ds = p * (dp - (p * dp).sum(-1, keepdims=True))
        scale, dkey, total = self.params[0].mean(), 0, 0
        for start in range(0, query.shape[-2], 16):
            rows = np.s_[..., start : start + 16, :]
            dkey = dkey + scale * ds[rows].swapaxes(-1, -2) @ query[rows]
            total = self.summed(total, (ds[rows] * s[rows]).sum() / scale)
        self.grads[0][...] = total / 3
        return scale * ds @ key, dkey, p.swapaxes(-1, -2) @ dout


class LastTile(Tiles):
    def summed(self, total, part):
        return part


def test_large_sizes_are_proved_along_random_directions():
    shapes = set()

    class Seen(Tiles):
        def forward(self, query, key, value):
            shapes.add((query.shape[-2], *key.shape[-2:]))
            return super().forward(query, key, value)

    report = gradcheck(Seen)
    assert report.passed, report.problems
    assert {(5, 7, 136), (5, 257, 4), (257, 7, 4), (67, 131, 71)} < shapes


def test_what_is_wrong_in_large_sizes_alone_is_found_and_from_which_size_on():
    report = gradcheck(LastTile)
    assert all(check.passed for check in report.checks)
    assert not report.passed
    (problem,) = report.problems
    assert problem.startswith("grads[0]: right up to T_dec = 16, wrong from 17 on; along a random")


def test_large_sizes_are_proved_in_float32_too():
    class Narrow(Tiles):
        def __init__(self):
            self.params, self.grads = [np.ones(3, "f4")], [np.zeros(3, "f4")]

        def forward(self, query, key, value):
            return super().forward(*(x.astype("f4") for x in (query, key, value)))

    assert gradcheck(Narrow).problems == ()
    assert gradcheck(type("Wrong", (Narrow, LastTile), {})).problems != ()


def test_code_for_sizes_of_its_own_is_proved_at_these_alone():
    class Fixed(Tiles):
        def forward(self, query, key, value):
            assert query.shape[-1] == 4, "made for H = 4"
            return super().forward(query, key, value)

    report = gradcheck(Fixed)
    assert report.passed
    # Long rows as well, if not by H.
    assert sum("made for H = 4" in note for note in report.notes) == 4


class Grouped(Tiles):
    """Key heads that serve groups of query heads."""

    def forward(self, query, key, value):
        self.groups = query.shape[1] // key.shape[1] if query.ndim == 4 else 1
        return super().forward(query, *(self.spread(x) for x in (key, value)))

    def spread(self, x):
        return x.repeat(self.groups, axis=1) if self.groups > 1 else x

    def gathered(self, x):
        heads = x.shape[1] // self.groups
        return x.reshape(len(x), heads, self.groups, *x.shape[2:]).sum(axis=2)

    def backward(self, dout):
        dquery, *others = super().backward(dout)
        return dquery, *(self.gathered(x) if self.groups > 1 else x for x in others)


class OneHead(Grouped):
    def backward(self, dout):
        dquery, dkey, dvalue = super().backward(dout)
        if dkey.ndim == 4:
            dkey[:, 12:13] *= 2
        return dquery, dkey, dvalue


class FirstOfGroup(Grouped):
    def gathered(self, x):
        return x[:, :: self.groups]


class Unsummed(Grouped):
    def gathered(self, x):
        return x


class OneItem(Grouped):
    def backward(self, dout):
        dout = dout.copy()
        dout[16:17] *= 2
        return super().backward(dout)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (OneHead, "dkey: right up to heads = 12, wrong from 13 on"),
        (FirstOfGroup, "dkey is wrong at T_enc = 67, heads = 26, kv_heads = 13"),
        (Unsummed, "at T_enc = 67, heads = 26, kv_heads = 13: dkey is (1, 26, 67, 4)"),
        (OneItem, "dkey: right up to N = 16, wrong from 17 on"),
    ],
)
def test_heads_and_items_beyond_the_first_few_are_proved_too(layer, said):
    assert gradcheck(Grouped).passed
    problems = gradcheck(layer).problems
    assert any(problem.startswith(said) for problem in problems), problems
