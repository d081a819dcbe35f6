"""Holding somebody's layer against the reference."""

import numpy as np
import pytest

import attncli
from attncli import layers
from attncli.checking.diagnosing.examination import check
from attncli.errors import ParameterError, TargetError


class Loops:
    """TimeAttention in plain loops."""

    def __init__(self):
        self.params, self.grads, self.attention_weights = [], [], None

    def forward(self, hs_enc, hs_dec):
        (N, T_enc, H), T_dec = hs_enc.shape, hs_dec.shape[1]
        out = np.zeros((N, T_dec, H))
        weights = np.zeros((T_dec, N, T_enc))
        for n in range(N):
            for t in range(T_dec):
                s = [sum(hs_enc[n, i, h] * hs_dec[n, t, h] for h in range(H)) for i in range(T_enc)]
                e = [np.exp(x - max(s)) for x in s]
                for i in range(T_enc):
                    weights[t, n, i] = e[i] / sum(e)
                    for h in range(H):
                        out[n, t, h] += weights[t, n, i] * hs_enc[n, i, h]
        self.cache, self.attention_weights = (hs_enc, hs_dec), list(weights)
        return out

    def backward(self, dout):
        hs_enc, hs_dec = self.cache
        dhs_enc, dhs_dec = np.zeros(hs_enc.shape), np.zeros(hs_dec.shape)
        for n in range(len(hs_enc)):
            for t in range(hs_dec.shape[1]):
                a = self.attention_weights[t][n]
                da = hs_enc[n] @ dout[n, t]
                ds = a * (da - a @ da)
                dhs_dec[n, t] = ds @ hs_enc[n]
                dhs_enc[n] += np.outer(a, dout[n, t]) + np.outer(ds, hs_dec[n, t])
        return dhs_enc, dhs_dec


class Float32Only(layers.Attention):
    def forward(self, hs, h):
        assert hs.dtype == h.dtype == np.float32, "need float32"
        return super().forward(hs, h)

    def backward(self, dout):
        assert dout.dtype == np.float32
        return super().backward(dout)


def test_code_that_refuses_float64_is_checked_in_float32_and_told_so():
    report = check(Float32Only, layer="attention")
    assert report.passed
    (note,) = [f for f in report.findings if f.name == "float64 inputs"]
    assert note.status == "note"
    assert "AssertionError: need float32" in note.detail


def test_a_mistake_in_code_that_refuses_float64_is_named():
    class Wrong(Float32Only):
        def backward(self, dout):
            dhs, dh = super().backward(dout)
            return -dhs, -dh

    report = check(Wrong, layer="attention")
    assert not report.passed
    assert report.diagnoses[0].mistakes[0].name == "sign of the gradients reversed"


class Einsum:
    """TimeAttention without a loop."""

    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, hs_enc, hs_dec):
        s = np.einsum("nth,nsh->nts", hs_dec, hs_enc)
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        a = e / e.sum(axis=-1, keepdims=True)
        self.cache = hs_enc, hs_dec, a
        self.attention_weights = a.swapaxes(0, 1)
        self.attention_weights = list(self.attention_weights)
        return np.einsum("nts,nsh->nth", a, hs_enc)

    def backward(self, dout):
        hs_enc, hs_dec, a = self.cache
        da = np.einsum("nth,nsh->nts", dout, hs_enc)
        ds = a * (da - np.einsum("nts,nts->nt", a, da)[:, :, None])
        dhs = np.einsum("nts,nth->nsh", a, dout) + np.einsum("nts,nth->nsh", ds, hs_dec)
        return dhs, np.einsum("nts,nsh->nth", ds, hs_enc)


class Matmul(Einsum):
    """TimeAttention by matrix products; gradients in a list."""

    def forward(self, hs_enc, hs_dec):
        s = hs_dec @ hs_enc.transpose(0, 2, 1)
        s = np.exp(s - s.max(axis=2)[..., None])
        a = s / s.sum(axis=2)[..., None]
        self.cache = hs_enc, hs_dec, a
        self.attention_weights = [a[:, t] for t in range(a.shape[1])]
        return a @ hs_enc

    def backward(self, dout):
        hs_enc, hs_dec, a = self.cache
        da = dout @ hs_enc.transpose(0, 2, 1)
        ds = a * da
        ds -= a * ds.sum(axis=2, keepdims=True)
        return [a.transpose(0, 2, 1) @ dout + ds.transpose(0, 2, 1) @ hs_dec, ds @ hs_enc]


class ReshapeWeightSum:
    """WeightSum with repeat and reshape."""

    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, hs, a):
        N, T, H = hs.shape
        self.cache = hs, np.repeat(a, H, axis=1).reshape(N, T, H)
        return np.sum(hs * self.cache[1], axis=1)

    def backward(self, dc):
        hs, ar = self.cache
        N, T, H = hs.shape
        dt = np.repeat(dc.reshape(N, 1, H), T, axis=1)
        return dt * ar, np.sum(dt * hs, axis=2)


class MatmulWeightSum(ReshapeWeightSum):
    """WeightSum by a matrix product."""

    def forward(self, hs, a):
        self.cache = hs, a[:, :, None]
        return (a[:, None, :] @ hs)[:, 0, :]

    def backward(self, dc):
        hs, ar = self.cache
        return ar * dc[:, None, :], (hs @ dc[:, :, None]).squeeze(-1)


@pytest.mark.parametrize("layer", [Loops, Einsum, Matmul])
def test_right_variants_of_time_attention_pass(layer):
    report = check(layer, layer="time-attention")
    assert [f for f in report.findings if f.status == "wrong"] == []


@pytest.mark.parametrize("layer", [ReshapeWeightSum, MatmulWeightSum])
def test_right_variants_of_weight_sum_pass(layer):
    report = check(layer)
    assert (report.layer, report.passed) == ("weight-sum", True)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("Softmax", "softmax"),
        ("WeightSum", "weight-sum"),
        ("AttentionWeight", "attention-weight"),
        ("Attention", "attention"),
        ("TimeAttention", "time-attention"),
    ],
)
def test_our_layers_pass_and_are_recognised(name, layer):
    report = check(getattr(layers, name))
    assert (report.layer, report.passed, report.diagnoses) == (layer, True, ())


def test_our_core_passes_in_everything_it_can_do():
    report = check("attncli.core:attention")
    assert report.layer == "scaled-dot-product"
    noted = {f.name for f in report.findings if f.status != "ok"}
    # Two arrays that go together, a share that bears on nothing without a mask, and who computes.
    beside = {"cu_seqlens", "cu_seqlens_k", "keep_prob", "engine", "weights"}
    assert noted == {"computed by itself", "lengths of keys by query", *beside}
    names = {finding.name for finding in report.findings}
    assert {"causal", "window 1", "softcap 1.5", "floating mask"} < names
    assert {"grouped heads: 6 queries, 2 keys", "row with every key masked"} < names


def test_the_masks_of_our_layers_are_tried():
    names = {finding.name for finding in check(layers.TimeAttention).findings}
    assert {"boolean mask", "floating mask", "row with every key masked"} < names


def test_what_it_claims_to_be_is_what_it_is_compared_with():
    class Scaled(layers.TimeAttention):
        def forward(self, hs_enc, hs_dec):
            return super().forward(hs_enc, hs_dec * 0.5)

        def backward(self, dout):
            dhs_enc, dhs_dec = super().backward(dout)
            return dhs_enc, 0.5 * dhs_dec

    assert not check(Scaled).passed
    report = check(Scaled, scale=0.5)
    assert (report.passed, report.claims) == (True, "scale 0.5")


class Base(layers.Attention):
    """Attention that is right, to be spoilt."""


def spoilt(**methods):
    return type("Attention", (Base,), methods)


def sentences(report):
    return " | ".join(f.detail for f in report.findings if f.status == "wrong")


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (
            {"forward": lambda self, hs, h: None},
            "forward returns None, expected one array: is there a",
        ),
        ({"forward": lambda self, hs, h: ...}, "a gap (...) that is still to be filled in"),
        ({"forward": lambda self, hs, h: "text"}, "forward returns str, expected one array"),
        ({"forward": lambda self, hs, h: hs}, "forward returns (2, 5, 7), expected (2, 7)"),
        ({"backward": lambda self, d: None}, "backward returns None, expected dhs, dh: is there a"),
        (
            {"backward": lambda self, d: layers.Attention.backward(self, d)[0]},
            "backward returns one array, expected 2: dhs, dh",
        ),
        (
            {"backward": lambda self, d: (*layers.Attention.backward(self, d), d)},
            "backward returns 3 values, expected 2",
        ),
        (
            {"backward": lambda self, d: layers.Attention.backward(self, d)[::-1]},
            "backward returns its gradients in the wrong order, expected dhs, dh",
        ),
        ({"backward": lambda self, d: (None, d)}, "dhs is None, expected an array"),
        (
            {"backward": lambda self, d: (d, d)},
            "dhs is (2, 7), expected (2, 5, 7) as the input is",
        ),
        (
            {"backward": lambda self, d: 1 / 0},
            "backward raises ZeroDivisionError: division by zero",
        ),
        (
            {"backward": lambda self, d: self.nothing},
            "does forward keep what backward needs (self.cache = …)?",
        ),
    ],
)
def test_mistakes_in_the_shape_of_the_api_get_a_plain_sentence(methods, sentence):
    report = check(spoilt(**methods))
    assert not report.passed
    assert sentence in sentences(report)


def test_a_layer_that_raises_in_every_case_fails_in_every_case():
    def forward(self, hs, h):
        raise RuntimeError("not\nyet")

    report = check(spoilt(forward=forward))
    judged = [finding for finding in report.findings if finding.status != "skipped"]
    assert {finding.status for finding in judged} == {"wrong"}
    assert "forward raises RuntimeError: not yet" in sentences(report)


def test_a_layer_that_raises_in_one_case_is_checked_in_the_others():
    def forward(self, hs, h):
        if hs.shape[0] == 1:
            raise RuntimeError("no single items")
        return layers.Attention.forward(self, hs, h)

    report = check(spoilt(forward=forward))
    assert not report.passed
    assert [f.name for f in report.findings if f.status == "wrong"] == ["one item: N = 1"]


def test_truncation_of_whole_numbers_is_a_note_and_no_fault():
    def forward(self, hs, h):
        return layers.Attention.forward(self, hs, h).astype(h.dtype)

    report = check(spoilt(forward=forward))
    assert report.passed
    assert [(f.name, f.status) for f in report.findings if f.status != "ok"] == [
        ("whole numbers (int64)", "note"),
        ("computed by itself", "note"),
    ]


def test_weights_of_other_numbers_are_noticed():
    def forward(self, hs, h):
        out = layers.Attention.forward(self, hs, h)
        self.attention_weight = self.attention_weight + 1
        return out

    assert "attention_weight holds other numbers" in sentences(check(spoilt(forward=forward)))


def test_which_layer_it_is_has_to_be_clear():
    class Mystery(Base):
        def forward(self, x, y):
            return super().forward(x, y)

    with pytest.raises(TargetError, match="which layer is it") as error:
        check(Mystery)
    assert "--as" in error.value.hint
    assert check(Mystery, layer="attention").passed
    with pytest.raises(TargetError, match="scaled-dot-product takes query, key, value"):
        check(Mystery, layer="scaled-dot-product")
    with pytest.raises(ParameterError, match="no layer nothing"):
        check(Mystery, layer="nothing")


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_query_key_value_with_or_without_items_and_heads(axes):
    class Plain:
        params, grads = [], []

        def forward(self, q, k, v):
            if q.ndim != axes:
                raise ValueError("other axes")
            s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
            e = np.exp(s - s.max(-1, keepdims=True))
            self.cache = q, k, v, e / e.sum(-1, keepdims=True)
            return self.cache[-1] @ v

        def backward(self, dout):
            q, k, v, a = self.cache
            da = dout @ v.swapaxes(-1, -2)
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
            return ds @ k, ds.swapaxes(-1, -2) @ q, a.swapaxes(-1, -2) @ dout

    report = check(Plain)
    assert [f for f in report.findings if f.status == "wrong"] == []


def test_in_python_it_is_one_line():
    assert attncli.check(layers.TimeAttention).passed
    assert attncli.gradcheck(layers.TimeAttention).passed
    assert attncli.compare([1.0], [1.0]).passed
    attncli.assert_close([1.0], [1.0])
    assert {"check", "compare", "gradcheck", "assert_close"} <= set(attncli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = attncli.nothing


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, -1e300, 0.0])
@pytest.mark.parametrize("part", ["forward", "backward"])
def test_any_numbers_may_come_out(value, part):
    class Attention(Base):
        def forward(self, hs, h):
            return super().forward(hs, h) * (value if part == "forward" else 1)

        def backward(self, dout):
            dhs, dh = super().backward(dout)
            return dhs * value, dh + value

    assert not check(Attention).passed
    assert not attncli.gradcheck(Attention).passed


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)])
def test_weights_may_be_kept_as_one_array(axes):
    class TimeAttention(layers.TimeAttention):
        def forward(self, hs_enc, hs_dec):
            out = super().forward(hs_enc, hs_dec)
            self.attention_weights = np.array(self.attention_weights).transpose(axes)
            return out

    assert check(TimeAttention).passed


def test_a_report_in_which_nothing_was_judged_is_no_pass():
    from attncli.reports import CheckReport, Finding

    noted = Finding("float32", "forward", "skipped"), Finding("backward", "contract", "note")
    assert not CheckReport("mine", "softmax", "", noted).passed
    assert CheckReport("mine", "softmax", "", (*noted, Finding("N = 1", "forward", "ok"))).passed


def test_inputs_that_are_not_contiguous_are_given_as_they_are(folder):
    (folder / "mine.py").write_text(
        "from attncli import layers\n"
        "class WeightSum(layers.WeightSum):\n"
        "    def forward(self, hs, a):\n"
        "        assert hs.flags.c_contiguous, f'steps of {hs.strides[-1]}'\n"
        "        return super().forward(hs, a)\n"
    )
    report = check("mine.py:WeightSum")
    wrong = [(f.name, f.detail) for f in report.findings if f.status == "wrong"]
    assert [name for name, _ in wrong] == ["non-contiguous inputs", "Fortran order"]
    assert "steps of 16" in wrong[0][1]
