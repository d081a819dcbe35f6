"""Code whose axes come in another order is right in the layout that is said, and in no other."""

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


@pytest.mark.parametrize("layout", ["total,heads,H", "N,T,3,heads,H", "mask=N,T,H"])
def test_a_layout_that_a_target_cannot_have_is_refused(layout):
    with pytest.raises(ParameterError, match="takes hs_enc, hs_dec and gives out"):
        check(TimeFirst, layer="time-attention", layout=layout)


def test_what_lies_in_order_lies_in_order_in_their_layout_too():
    def attend(query, key, value):
        assert query.flags.c_contiguous or query.strides[-1] != query.itemsize
        return laid_out(HEADS_INSIDE, HEADS_INSIDE)[0](query, key, value)[0]

    assert check(attend, layer="scaled-dot-product", layout="N,T,heads,H").passed
