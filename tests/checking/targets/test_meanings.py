"""What an exception means to who wrote the layer."""

import pytest

from attncli.checking.diagnosing.examination import check

HEAD = """
import numpy as np

class Inner:
    def forward(self, x):
        self.y = x
        return x
    def backward(self, dx):
        return dx

class WeightSum:
    def __init__(self):
        self.params, self.grads, self.cache, self.inner = [], [], None, Inner()
"""
FORWARD = """
    def forward(self, hs, a):
        ar = a[:, :, None]
        self.cache = hs, ar
        return (hs * ar).sum(axis=1)
"""
BACKWARD = """
    def backward(self, dc):
        hs, ar = self.cache
        return dc[:, None] * ar, (dc[:, None] * hs).sum(axis=2)
"""
# What is written in place of a line, and what is said.
SAID = [
    ("Inner()", "Inner", "self.inner.forward(hs)", "Inner is the class, not an instance of it"),
    ("Inner()", "Inner", "self.inner.y", "Inner is the class, not an instance of it: Inner()"),
    ("", "", "self.inner(hs)", "self.inner is a layer and no function: self.inner.forward(…)"),
    ("", "", "self.inner.foward(hs)", "there is no foward: is forward meant?"),
    ("", "", "self.nothing.shape", "has no attribute 'nothing'"),
    ("", "", "hs.reshape(2, 5, axis=1)", "line 16: broken = hs.reshape(2, 5, axis=1)"),
    ("", "", "hs @ hs", "line 16: broken = hs @ hs"),
    ("", "", "sh.sum()", "sh is never assigned: is hs meant?"),
    ("", "", "None.sum()", "it is None: is there a return?"),
    ("", "", "hs * ...", "a gap (...) is still to be filled in"),
    ("", "", "self.forward(hs, a)", "it calls itself without end"),
]


def said(folder, source):
    (folder / "mine.py").write_text(source)
    report = check("mine.py:WeightSum")
    assert not report.passed
    return " ".join(f.detail for f in report.findings if f.status == "wrong")


@pytest.mark.parametrize(("old", "new", "broken", "means"), SAID)
def test_what_stops_forward_is_explained(folder, old, new, broken, means):
    forward = FORWARD.replace("(self, hs, a):", f"(self, hs, a):\n        broken = {broken}", 1)
    head = HEAD.replace(f"[], [], None, {old}", f"[], [], None, {new}") if old else HEAD
    assert means in said(folder, head + forward + BACKWARD)


@pytest.mark.parametrize(
    ("forward", "backward", "means"),
    [
        (FORWARD.replace("self.cache = ", "kept = "), BACKWARD, "does forward keep what backward"),
        (
            FORWARD,
            BACKWARD.replace("hs, ar = self.cache", "N = len(dc)"),
            "ar is a name of forward: forward must keep it (self.cache = …) for backward",
        ),
        (
            FORWARD,
            BACKWARD.replace("self.cache", "self.kept"),
            "forward does not set self.kept; does forward keep what backward needs",
        ),
        (
            FORWARD,
            BACKWARD.replace("hs, ar = self.cache", "dsh = dc").replace("dc[:, None] * ar", "dhs"),
            "dhs is never assigned: is dsh meant?",
        ),
        (FORWARD, BACKWARD.replace("axis=2", "axis=7"), "line 22: return dc[:, None] * ar"),
    ],
)
def test_what_stops_backward_is_explained(folder, forward, backward, means):
    assert means in said(folder, HEAD + forward + backward)


def test_a_method_with_too_few_arguments_is_not_taken_for_one_of_the_class(folder):
    forward = FORWARD.replace("self.cache =", "self.inner.forward(); self.cache =")
    text = said(folder, HEAD + forward + BACKWARD)
    assert "missing 1 required positional argument" in text
    assert "not an instance" not in text
