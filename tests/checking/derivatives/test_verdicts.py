"""What a gradient check lets pass and what not: tolerances to the edge, and no wrong excuses."""

import itertools

import numpy as np
import pytest
from crossing import crossed

import attncli
from attncli import layers
from attncli.tensors import random_tensor


class Base:
    """The square of h, right; `factor` spoils its gradient."""

    factor = 1.0

    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, h):
        self.h = h
        return h**2

    def backward(self, dout):
        return self.factor * 2 * self.h * dout


class Real(Base):
    """The same, which takes real numbers only."""

    def forward(self, h):
        assert h.dtype.kind == "f"
        return super().forward(h)


class Linear(Base):
    """Twice h, so that differences are right to rounding in any precision."""

    def forward(self, h):
        return 2 * h.real

    def backward(self, dout):
        return (2 * self.factor) * dout


class Weighted(Base):
    """Has a parameter, whose gradient is spoilt by `factor`."""

    dtype = "f8"

    def __init__(self):
        self.params, self.grads = [np.full(4, 2, self.dtype)], [np.zeros(4, self.dtype)]

    def forward(self, h):
        self.h = h
        return h * self.params[0]

    def backward(self, dout):
        self.grads[0][...] = self.factor * (self.h * dout).sum(axis=0)
        return dout * self.params[0]


class Weighted32(Weighted):
    dtype = "f4"


def spoilt(layer, error):
    return type(layer.__name__, (layer,), {"factor": 1 + error})


def found(report):
    (check,) = report.checks
    return check


# Tolerances.


@pytest.mark.parametrize(
    ("layer", "options", "tolerance"),
    [
        (Base, {}, 1e-9),
        (Base, {"method": "central"}, 1e-6),
        (Real, {}, 1e-6),
        (Weighted, {}, 1e-6),
        (Weighted32, {}, 1e-3),
        (Linear, {"dtype": "float32"}, 1e-3),
    ],
    ids=["complex", "central", "real", "params", "params32", "float32"],
)
def test_somebodys_gradient_may_be_off_by_the_default_tolerance_and_no_more(
    layer, options, tolerance
):
    assert attncli.gradcheck(spoilt(layer, 0.9 * tolerance), **options).passed
    report = attncli.gradcheck(spoilt(layer, 1.1 * tolerance), **options)
    assert not report.passed
    assert [check.passed for check in report.checks][-1] is False
    assert report.checks[-1].tolerance == tolerance
    assert report.judged == sum(check.elements for check in report.checks)


@pytest.mark.parametrize(("method", "tolerance"), [("auto", 1e-12), ("central", 1e-6)])
@pytest.mark.parametrize(
    "own",
    [
        {"Softmax": "softmax", "WeightSum": "weight-sum"},
        {"AttentionWeight": "attention-weight"},  # which has a softmax in it
    ],
)
def test_our_own_gradients_may_be_off_by_the_default_tolerance_and_no_more(
    monkeypatch, own, method, tolerance
):
    right = {layer: getattr(layers, layer).backward for layer in own}
    for error, passes in ((0.9 * tolerance, True), (1.1 * tolerance, False)):
        for layer, backward in right.items():

            def off(self, dout, error=error, backward=backward):
                result = backward(self, dout)
                if isinstance(result, tuple):
                    return tuple((1 + error) * gradient for gradient in result)
                return (1 + error) * result

            monkeypatch.setattr(getattr(layers, layer), "backward", off)
        report = attncli.gradcheck(method=method)
        wrong = {check.layer for check in report.checks if not check.passed}
        assert wrong & {*own.values()} == (set() if passes else {*own.values()})
        assert passes or not report.passed


def test_exactly_at_the_tolerance_passes():
    class Zero(Base):
        factor = 0.0

    # Every gradient is 0 instead of d: off by exactly |d|, relative to |d|.
    assert attncli.gradcheck(Zero, tolerance=1.0).passed
    assert not attncli.gradcheck(Zero, tolerance=np.nextafter(1.0, 0)).passed


@pytest.mark.parametrize(("error", "linear"), [(0.009, True), (0.011, False)])
def test_in_float32_single_elements_of_the_jacobian_may_be_off_by_a_hundredth(error, linear):
    class Bent(Linear):
        def backward(self, dout):
            right = super().backward(dout)
            return right * np.float32(1 + error) if np.count_nonzero(dout) == 1 else right

    report = attncli.gradcheck(Bent, dtype="float32")
    assert report.passed == linear
    assert found(report).passed
    assert ("is backward linear in dout?" in "".join(report.problems)) != linear


@pytest.mark.parametrize(("error", "method"), [(5e-6, "complex"), (2e-5, "central")])
def test_the_complex_step_is_trusted_where_differences_agree_with_it(error, method):
    class Bent(Base):
        def forward(self, h):
            self.h = h.real
            out = h**2
            return out.real + (1 + error) * 1j * out.imag if h.dtype.kind == "c" else out

    report = attncli.gradcheck(Bent)
    assert report.method == method
    assert report.passed == (method == "central")


@pytest.mark.parametrize("seed", range(5))
def test_differences_are_as_exact_as_their_step_allows(seed):
    """At twice the step they would be sixteen times less exact."""

    class Waves(Base):
        def forward(self, h):
            self.h = h
            return np.sin(30 * h)

        def backward(self, dout):
            return 30 * np.cos(30 * self.h) * dout

    check = found(attncli.gradcheck(Waves, seed=seed, method="central"))
    farthest = max(1.0, np.abs(random_tensor("h", (3, 4), seed=seed)).max())  # steps grow with it
    assert check.passed
    assert 1e-10 < check.relative_error < 6e-10 * farthest**4


# Nothing is excused that is wrong.


class Steep(Base):
    """So steep that slopes to the left and right differ a lot, and there is no kink anywhere."""

    def forward(self, h):
        self.h = h
        return np.exp(3 * h)

    def backward(self, dout):
        return self.factor * (3 * np.exp(3 * self.h) * dout)


class Steep16(Steep):
    """The same with results in float16."""

    def forward(self, h):
        return super().forward(h.real.astype("f4")).astype("f2")


@pytest.mark.parametrize(
    **crossed(
        case=[
            (Steep, {"dtype": "float32"}),
            (Steep, {"dtype": "float32", "tolerance": 1e-5}),
            (Steep, {"dtype": "float32", "tolerance": 1e-3}),
            (Steep, {"dtype": "float32", "tolerance": 0.05}),
            (Steep, {"method": "central"}),
            (Steep, {"method": "central", "tolerance": 1e-12}),
            (Steep16, {"tolerance": 1e-3}),
        ],
        factor=[1.5, -1.0, 0.0, 1.1],
        seed=range(3),
    )
)
def test_no_wrong_element_is_excused_however_coarse_the_differences(case, factor, seed):
    layer, options = case
    wrong = type("Wrong", (layer,), {"factor": factor})
    report = attncli.gradcheck(wrong, seed=seed, **options)
    assert not report.passed
    assert found(report).not_differentiable == 0


@pytest.mark.parametrize("tolerance", [None, 1e-4])
@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_attention_in_float32_is_wrong_in_all_its_elements(tolerance, seed):
    class Attention(layers.Attention):
        def backward(self, dout):
            return tuple(np.float32(1.5) * gradient for gradient in super().backward(dout))

    report = attncli.gradcheck(Attention, dtype="float32", tolerance=tolerance, seed=seed)
    for wrong in report.checks:
        assert (wrong.passed, wrong.not_differentiable) == (False, 0)


def test_a_wrong_parameter_in_float32_is_not_excused_by_a_tolerance_of_ones_own():
    class Bent(Weighted32):
        def forward(self, h):
            self.h = h
            return np.exp(h * self.params[0])

        def backward(self, dout):
            out = np.exp(self.h * self.params[0])
            self.grads[0][...] = 1.5 * (self.h * out * dout).sum(axis=0)
            return dout * self.params[0] * out

    report = attncli.gradcheck(Bent, tolerance=1e-5)
    assert [check.passed for check in report.checks] == [True, False]
    assert report.checks[1].not_differentiable == 0


@pytest.mark.parametrize("lift", [0.0, 1.5])  # results whose rounding is none, and is some
@pytest.mark.parametrize("options", [{}, {"method": "central"}, {"dtype": "float32"}])
def test_at_kinks_nothing_is_judged_and_beside_them_all_is(options, lift):
    kinks = random_tensor("h", (3, 4)).copy()
    kinks[0] += 0.5  # the kinks of the first item lie elsewhere

    class Kinked(Base):
        def forward(self, h):
            self.h = h.real
            if h.dtype.kind == "c":
                return h.real
            return np.abs(h - kinks.astype(h.dtype)) + h.dtype.type(lift)

        def backward(self, dout):
            return self.factor * dout * np.where(self.h < kinks.astype(self.h.dtype), -1, 1)

    report = attncli.gradcheck(Kinked, **options)
    assert report.passed
    assert (found(report).not_differentiable, report.judged) == (8, 4)
    wrong = attncli.gradcheck(spoilt(Kinked, 0.1), **options)
    assert not wrong.passed
    assert found(wrong).not_differentiable == 8
    assert {one.index[0] for one in found(wrong).worst_elements} == {0}


# Beside the numbers.


def test_a_dout_that_is_changed_in_place_is_said():
    class Greedy(Base):
        def backward(self, dout):
            dout *= 2 * self.h
            return dout

    report = attncli.gradcheck(Greedy)
    assert report.problems == ("dout is changed in place",)
    assert (report.passed, found(report).passed) == (False, True)


def test_what_is_random_is_said_to_be_that_whatever_it_draws_with():
    class Dropout(Base):
        def forward(self, h):
            self.kept = np.random.default_rng().random(h.shape) < 0.5
            return h * self.kept

        def backward(self, dout):
            return dout * self.kept

    report = attncli.gradcheck(Dropout)
    assert not report.passed
    assert report.problems[0].startswith("forward is not deterministic")
    assert not any("filled" in problem for problem in report.problems)


class Caching(Base):
    """Allocates what holds no numbers, whose elements NumPy does set."""

    def forward(self, h):
        self.held = np.empty(3, object)
        self.texts = np.empty(2, "U5")
        self.times = np.empty(2, "M8[s]")
        self.records = np.empty(2, [("x", float), ("name", "U3")])
        self.flags = np.empty_like(np.zeros(2, bool))
        for t in range(3):
            if self.held[t] is None:  # not yet computed
                self.held[t] = h[t] ** 2
        self.h = h
        return np.stack(list(self.held))


def test_arrays_of_texts_objects_times_and_records_are_left_alone():
    report = attncli.gradcheck(Caching)
    assert (report.problems, report.passed) == ((), True)


ORDERS = list(itertools.permutations(("query", "key", "value")))


def attention_in_order(order, names=None):
    """Make a layer of query, key and value that takes them in this order."""
    names = names or order
    source = f"""
class Looking:
    def forward(self, {", ".join(names)}):
        given = dict(zip({order}, ({", ".join(names)}), strict=True))
        query, key, value = (given[name] for name in ("query", "key", "value"))
        s = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        self.cache = query, key, value, e / e.sum(axis=-1, keepdims=True)
        return self.cache[-1] @ value

    def backward(self, dout):
        query, key, value, a = self.cache
        da = dout @ value.swapaxes(-1, -2)
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True)) / np.sqrt(query.shape[-1])
        found = {{"query": ds @ key, "key": ds.swapaxes(-1, -2) @ query,
                 "value": a.swapaxes(-1, -2) @ dout}}
        return tuple(found[name] for name in {order})
"""
    held = {"np": np}
    exec(source, held)
    return held["Looking"]


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_gradients_are_checked_in_whatever_order_the_arguments_come(order):
    report = attncli.gradcheck(attention_in_order(order))
    assert report.passed
    assert tuple(check.input for check in report.checks) == order


@pytest.mark.parametrize("twice", ["added up", "used up", "refused"])
def test_a_second_backward_after_one_forward_adds_nothing(twice):
    class Twice(Base):
        def forward(self, h):
            self.total = 0
            return super().forward(h)

        def backward(self, dout):
            if twice == "refused" and self.total is None:
                raise RuntimeError("once only")
            gradient = super().backward(dout)
            if twice == "added up":
                self.total = self.total + gradient
                return self.total
            self.h, self.total = 3 * self.h, None
            return gradient

    problems = attncli.gradcheck(Twice).problems
    adds = "a second backward after one forward adds to the gradients"
    assert problems == ((adds,) if twice == "added up" else ())
