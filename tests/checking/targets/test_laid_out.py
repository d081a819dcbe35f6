"""Code whose axes come in another order is right in the layout that is said, and in no other."""

from itertools import pairwise

import numpy as np
import pytest

from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.core import attention, attention_backward
from attncli.errors import ParameterError
from attncli.layers import TimeAttention


def laid_out(into, out, scale=1.0):
    """Attention that takes (N, heads, T, H) through `into`, and gives `out` of it."""

    def forward(q, k, v):
        result, cache = attention(*(x.transpose(into) for x in (scale * q, k, v)))
        return result.transpose(np.argsort(out)), cache

    def backward(dout, cache):
        gradients = attention_backward(dout.transpose(out), cache)
        dq, dk, dv = (x.transpose(np.argsort(into)) for x in gradients)
        return scale * dq, dk, dv

    return forward, backward


HEADS_INSIDE, TIME_FIRST, OURS = (0, 2, 1, 3), (1, 2, 0, 3), (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("into", "out", "layout"),
    [
        (HEADS_INSIDE, HEADS_INSIDE, "N,T,heads,H"),
        (TIME_FIRST, TIME_FIRST, "T,N,heads,H"),
        (HEADS_INSIDE, OURS, "query=N,T,heads,H,key=N,T,heads,H,value=N,T,heads,H,out=N,heads,T,H"),
        (OURS, HEADS_INSIDE, "out=N,T,heads,H"),
    ],
)
def test_right_in_the_layout_that_is_said(into, out, layout):
    right = laid_out(into, out)
    assert check(right, layer="scaled-dot-product", layout=layout).passed
    assert gradcheck(right, layout=layout).passed
    assert not check(right, layer="scaled-dot-product").passed
    wrong = check(laid_out(into, out, 1.1), layer="scaled-dot-product", layout=layout)
    assert "scale" in wrong.diagnoses[0].mistakes[0].name


@pytest.mark.parametrize(
    ("into", "said"),
    [(HEADS_INSIDE, "--layout N,T,heads,H"), (TIME_FIRST, "--layout T,N,heads,H")],
)
def test_without_the_option_the_layout_is_named_and_nothing_else(into, said):
    report = check(laid_out(into, into), layer="scaled-dot-product")
    (wrong,) = (finding for finding in report.findings if finding.status == "wrong")
    assert (wrong.name, report.diagnoses) == ("layout", ())
    assert said in wrong.detail


class TimeFirst(TimeAttention):
    def forward(self, hs_enc, hs_dec):
        return super().forward(hs_enc.swapaxes(0, 1), hs_dec.swapaxes(0, 1)).swapaxes(0, 1)

    def backward(self, dout):
        return tuple(x.swapaxes(0, 1) for x in super().backward(dout.swapaxes(0, 1)))


def test_the_books_layers_have_a_layout_too():
    assert check(TimeFirst, layer="time-attention", layout="T,N,H").passed
    assert gradcheck(TimeFirst, layout="T,N,H").passed
    assert not check(TimeFirst, layer="time-attention").passed


def test_shapes_are_given_as_the_code_takes_them():
    class Inputs(TimeFirst):
        def forward(self, hs_enc, hs_dec):
            assert (hs_enc.shape, hs_dec.shape) == ((5, 2, 4), (3, 2, 4))
            return super().forward(hs_enc, hs_dec)

    inputs = {"hs_enc": (5, 2, 4), "hs_dec": (3, 2, 4)}
    assert gradcheck(Inputs, inputs=inputs, layout="T,N,H").passed


def _turned(x):
    """(T, heads, H) as ours, and back."""
    return x.swapaxes(-3, -2)


class Varlen:
    """Sequences one behind the other, in the arguments that flash-attention has for them."""

    def __init__(self):
        self.params, self.grads = [], []

    def spans(self, starts, most):
        return [slice(a, b) for a, b in pairwise(starts)]

    def forward(self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale=None):
        assert cu_seqlens_q.dtype == np.int32
        assert (max_seqlen_q, max_seqlen_k) == tuple(
            np.diff(x).max() for x in (cu_seqlens_q, cu_seqlens_k)
        )
        out, self.cache = np.zeros((*q.shape[:2], v.shape[-1]), q.dtype), []
        spans = self.spans(cu_seqlens_q, max_seqlen_q), self.spans(cu_seqlens_k, max_seqlen_k)
        for of_q, of_k in zip(*spans, strict=True):
            one, cache = attention(*map(_turned, (q[of_q], k[of_k], v[of_k])), scale=scale)
            out[of_q] = _turned(one)
            self.cache.append((of_q, of_k, cache))
        self.inputs = q, k, v
        return out

    def backward(self, dout):
        gradients = [np.zeros_like(x) for x in self.inputs]
        for of_q, of_k, cache in self.cache:
            found = attention_backward(_turned(dout[of_q]), cache)
            for gradient, one, where in zip(gradients, found, (of_q, of_k, of_k), strict=True):
                gradient[where] += _turned(one)
        return tuple(gradients)


class AllAsLongAsTheLongest(Varlen):
    def spans(self, starts, most):
        return [slice(a, a + most) for a in starts[:-1]]


class AllAsLongAsTheFirst(Varlen):
    def spans(self, starts, most):
        return [slice(starts[1] * i, starts[1] * (i + 1)) for i in range(len(starts) - 1)]


class FirstGradientAlone(Varlen):
    def backward(self, dout):
        self.cache = self.cache[:2]
        return super().backward(dout)


class Packed(Varlen):
    """Query, key and value in one array."""

    axis = 2

    def forward(self, qkv, softmax_scale=None):
        parts = (_turned(x) for x in np.moveaxis(qkv, self.axis, 0))
        out, self.cache = attention(*parts, scale=softmax_scale)
        return _turned(out)

    def backward(self, dout):
        gradients = attention_backward(_turned(dout), self.cache)
        return np.stack([_turned(x) for x in gradients], axis=self.axis)


class ThreeFirst(Packed):
    axis = 0


class WithoutDvalue(Packed):
    def backward(self, dout):
        gradient = super().backward(dout)
        gradient[:, :, 2] *= 0.5
        return gradient


class VarlenOfAll(Varlen):
    def forward(self, qkv, cu_seqlens, max_seqlen, softmax_scale=None):
        q, k, v = np.moveaxis(qkv, 1, 0)
        twice = cu_seqlens, cu_seqlens, max_seqlen, max_seqlen
        return super().forward(q, k, v, *twice, softmax_scale)

    def backward(self, dout):
        return np.stack(super().backward(dout), axis=1)


class SideBySide(Varlen):
    """Heads that lie beside each other in H."""

    def apart(self, x):
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

    def beside(self, x):
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)

    def forward(self, query, key, value, num_heads):
        self.heads = num_heads
        out, self.cache = attention(*map(self.apart, (query, key, value)))
        return self.beside(out)

    def backward(self, dout):
        return tuple(map(self.beside, attention_backward(self.apart(dout), self.cache)))


class MadeForSoManyHeads(SideBySide):
    def __init__(self, num_heads):
        super().__init__()
        self.heads = num_heads

    def forward(self, query, key, value):
        return super().forward(query, key, value, self.heads)


QKV = "scaled-dot-product"


@pytest.mark.parametrize(
    ("right", "layout"),
    [
        (Varlen, "total,heads,H"),
        (Packed, "N,T,3,heads,H"),
        (VarlenOfAll, "total,3,heads,H"),
        (SideBySide, "N,T,heads·H"),
        (MadeForSoManyHeads, "N,T,heads*H"),
    ],
)
def test_packed_and_side_by_side_are_layouts_like_any_other(right, layout):
    assert check(right, layer=QKV, layout=layout).passed
    assert gradcheck(right, layout=layout).passed


@pytest.mark.parametrize("right", [Varlen, ThreeFirst])
def test_what_can_come_in_no_layout_of_ours_needs_no_option(right):
    report = check(right)
    assert report.passed
    (said,) = (one for one in report.findings if one.name == "layout")
    assert said.status == "note"


@pytest.mark.parametrize(
    ("right", "said", "named"),
    [
        (Varlen, "N,T,heads,H", "total,heads,H"),
        (ThreeFirst, "N,T,3,heads,H", "3,N,T,heads,H"),
        (SideBySide, "N,T,heads,H", "N,T,heads·H"),
        (laid_out(HEADS_INSIDE, HEADS_INSIDE), "T,N,heads,H", "N,T,heads,H"),
    ],
)
def test_where_another_layout_is_said_the_right_one_is_named(right, said, named):
    report = check(right, layer=QKV, layout=said)
    (wrong,) = (one for one in report.findings if one.status == "wrong")
    assert (wrong.name, report.diagnoses) == ("layout", ())
    assert f"expected {said}: --layout {named} if they" in wrong.detail


@pytest.mark.parametrize(
    ("wrong", "layout"),
    [
        (AllAsLongAsTheLongest, "total,heads,H"),
        (AllAsLongAsTheFirst, "total,heads,H"),
        (FirstGradientAlone, "total,heads,H"),
        (WithoutDvalue, "N,T,3,heads,H"),
    ],
)
@pytest.mark.usefixtures("unnamed")
def test_what_mixes_items_or_loses_a_gradient_is_wrong(wrong, layout):
    assert not check(wrong, layer=QKV, layout=layout).passed


@pytest.mark.parametrize("layout", ["total,heads,H", "N,T,3,heads,H", "mask=N,T,H"])
def test_a_layout_that_a_target_cannot_have_is_refused(layout):
    with pytest.raises(ParameterError, match="takes hs_enc, hs_dec and gives out"):
        check(TimeFirst, layer="time-attention", layout=layout)


def test_what_lies_in_order_lies_in_order_in_their_layout_too():
    def attend(query, key, value):
        assert query.flags.c_contiguous or query.strides[-1] != query.itemsize
        return laid_out(HEADS_INSIDE, HEADS_INSIDE)[0](query, key, value)[0]

    assert check(attend, layer="scaled-dot-product", layout="N,T,heads,H").passed
