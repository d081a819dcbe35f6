"""``--arg``, ``--input`` and ``--layout`` of check and gradcheck reach the code in its process."""

import pytest

LAYER = """\
import numpy as np
from attncli.layers import TimeAttention as Right
class TimeAttention(Right):
    def __init__(self, factor, name="plain", pair=None, on=False):
        super().__init__()
        assert (name, pair, on) == ("mine", (1, 2), True), (name, pair, on)
        self.factor = factor
    def forward(self, hs_enc, hs_dec):
        return self.factor * super().forward(hs_enc, hs_dec)
    def backward(self, dout):
        return super().backward(self.factor * dout)
"""
GIVEN = ["--arg", "name=mine", "--arg", "pair=1,2", "--arg", "on=True"]


@pytest.fixture
def mine(folder):
    (folder / "mine.py").write_text(LAYER)
    return folder


@pytest.mark.parametrize(("factor", "code"), [("1", 0), ("1.5", 1)])
def test_arguments_are_read_as_python_would_write_them(attn, mine, factor, code):
    result = attn("check", "mine.py", *GIVEN, "--arg", f"factor={factor}")
    assert (result.code, result.err) == (code, "")
    assert attn("gradcheck", "mine.py", *GIVEN, "--arg", f"factor={factor}").code == 0


def test_one_that_is_missing_is_named_with_the_option(attn, mine):
    result = attn("check", "mine.py", *GIVEN)
    assert result.code == 2
    assert "nothing says what factor should be" in result.err
    assert "--arg factor=4" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arg", "facor=1"], "no argument facor: the constructor takes factor, name, pair, on"),
        (["--arg", "facor=1"], " --arg factor=1"),
        (["--arg", "factor"], "'factor' is not NAME=VALUE"),
        (["--arg", "factor=random:a"], "'factor=a' is not NAME=VALUE"),
        (["--arg", "factor=1", "--arg", "factor=2"], "factor is there twice"),
        (["--layout", "T,H,N,x"], "is not a layout such as N,T,heads,H"),
        (
            [*GIVEN, "--arg", "factor=1", "--layout", "query=T,N,H"],
            "takes hs_enc, hs_dec and gives out",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(attn, mine, options, said):
    result = attn("check", "mine.py", *options)
    assert result.code == 2
    assert said in result.err


def test_time_first_is_right_where_it_is_said(attn, folder):
    (folder / "first.py").write_text("""\
from attncli.layers import TimeAttention as Right
class TimeAttention(Right):
    def forward(self, hs_enc, hs_dec):
        return super().forward(hs_enc.swapaxes(0, 1), hs_dec.swapaxes(0, 1)).swapaxes(0, 1)
    def backward(self, dout):
        return [x.swapaxes(0, 1) for x in super().backward(dout.swapaxes(0, 1))]
""")
    result = attn("check", "first.py")
    assert result.code == 1
    assert "--layout T,N,H" in result.out
    assert attn("check", "first.py", "--layout", "T,N,H").code == 0
    assert attn("gradcheck", "first.py", "--layout", "T,N,H").code == 0
