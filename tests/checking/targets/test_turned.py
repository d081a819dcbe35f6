"""Code that turns query and key by cosines and sines is given such, and judged by how it turns."""

import numpy as np
import pytest

from attncli import attention, attention_backward, rotary
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check


class Halves:
    """As transformers has it: (N, T, H), the angles of all pairs twice."""

    style, forwards, key_too = "halves", 1, True

    def __init__(self):
        self.params, self.grads = [], []

    def tables(self, cos, sin):
        assert cos.ndim == 3
        assert cos.shape == sin.shape
        return cos[:, None, :, : cos.shape[-1] // 2], sin[:, None, :, : cos.shape[-1] // 2]

    def turn(self, x, *, inverse):
        cos, sin = self.held
        return rotary(x, cos=cos, sin=self.forwards * sin, style=self.style, inverse=inverse)

    def forward(self, query, key, value, cos, sin):
        self.held = self.tables(cos, sin)
        key = self.turn(key, inverse=False) if self.key_too else key
        out, self.cache = attention(self.turn(query, inverse=False), key, value)
        return out

    def backward(self, dout):
        dquery, dkey, dvalue = attention_backward(dout, self.cache)
        dkey = self.turn(dkey, inverse=True) if self.key_too else dkey
        return self.turn(dquery, inverse=True), dkey, dvalue


class Interleaved(Halves):
    """As flash-attention has it: pairs side by side, without an axis of items."""

    style = "interleaved"

    def tables(self, cos, sin):
        assert cos.ndim == 2
        return cos, sin


class KeyLeftAsItIs(Halves):
    key_too = False


class Backwards(Interleaved):
    forwards = -1


class GradientNotTurnedBack(Halves):
    def backward(self, dout):
        return attention_backward(dout, self.cache)


QKV = "scaled-dot-product"


@pytest.mark.parametrize(("right", "said"), [(Halves, "(N, T, H)"), (Interleaved, "(T, H)")])
def test_tables_are_given_as_the_code_takes_them(right, said):
    report = check(right, layer=QKV)
    assert report.passed
    (note,) = (one.detail for one in report.findings if one.name == "cos and sin")
    assert f"{said}, pairs {right.style}" in note
    assert gradcheck(right).passed


def test_layout_and_tables_go_together():
    class Inside(Halves):
        def tables(self, cos, sin):
            return tuple(x[:, :, None, : x.shape[-1] // 2] for x in (cos, sin))

        def forward(self, query, key, value, cos, sin):
            self.held = self.tables(cos, sin)
            query, key = (self.turn(x, inverse=False) for x in (query, key))
            return attention(*(x.swapaxes(1, 2) for x in (query, key, value)))[0].swapaxes(1, 2)

        backward = None

    assert check(Inside, layer=QKV, layout="N,T,heads,H").passed


@pytest.mark.parametrize("wrong", [KeyLeftAsItIs, Backwards, GradientNotTurnedBack])
@pytest.mark.usefixtures("unnamed")
def test_what_turns_otherwise_is_wrong(wrong):
    assert not check(wrong, layer=QKV).passed


def test_a_gradient_that_is_not_turned_back_is_none():
    assert not gradcheck(GradientNotTurnedBack).passed
    assert np.isfinite(gradcheck(GradientNotTurnedBack).worst.relative_error)
