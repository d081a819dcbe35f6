"""Answers that were not computed from the inputs at hand, and those that only look like it."""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check
from attncli.layers import WeightSum

PLAIN = """
import numpy as np

def weigh(hs, a):
    return (hs * a[:, :, None]).sum(axis=1)

def spread(dc, hs, a):
    return dc[:, None, :] * a[:, :, None], (dc[:, None, :] * hs).sum(axis=2)
"""
LAYER = """
class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, hs, a):
        self.cache = hs, a
        return once(hs, a)

    def backward(self, dc):
        return spread(dc, *self.cache)
"""
# Functions in place of `weigh`, and what is said of them.
KEPT = {
    "by shape": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    return kept.setdefault((hs.shape, a.shape), weigh(hs, a))\n",
        "of other numbers in the same shapes",
    ),
    "by object": (
        "kept = []\n"
        "def once(hs, a):\n"
        "    for x, y, out in kept:\n"
        "        if x is hs and y is a: return out\n"
        "    kept.append((hs, a, weigh(hs, a)))\n"
        "    return kept[-1][-1]\n",
        "the same array objects",
    ),
    "by address": (
        "kept = []\n"
        "def once(hs, a):\n"
        "    key = hs.__array_interface__['data'], a.__array_interface__['data']\n"
        "    for x, out, *alive in kept:\n"
        "        if x == key and out.shape == (len(hs), hs.shape[2]): return out\n"
        "    kept.append((key, weigh(hs, a), hs, a))\n"
        "    return kept[-1][1]\n",
        "earlier inputs: the same",
    ),
    "by a first number": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    key = hs.shape, hs.flat[0], a.flat[0]\n"
        "    return kept.setdefault(key, weigh(hs, a))\n",
        "of which a part is the same",
    ),
    "by a sum": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    key = hs.shape, hs.sum().round(6), a.sum().round(6)\n"
        "    return kept.setdefault(key, weigh(hs, a))\n",
        "in other order",
    ),
}


def judged(folder, source, name="WeightSum"):
    (folder / "mine.py").write_text(PLAIN + source)
    report = check(f"mine.py:{name}", layer="weight-sum")
    wrong = {f.name: f.detail for f in report.findings if f.status == "wrong"}
    return report, wrong


@pytest.mark.parametrize("how", KEPT)
def test_results_of_earlier_inputs_are_named(folder, how):
    source, said = KEPT[how]
    report, wrong = judged(folder, source + LAYER)
    assert said in wrong["of the inputs at hand"]
    assert [d.mistakes[0].name for d in report.diagnoses] == ["result of earlier inputs"]


RIGHT = {
    "remembered by all of their contents": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    key = hs.shape, hs.tobytes(), a.tobytes(), str(hs.dtype), hs.strides\n"
        "    if key not in kept: kept[key] = weigh(hs, a)\n"
        "    return kept[key]\n"
    ),
    "with what follows from sizes alone kept": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    ones = kept.setdefault(hs.shape, np.ones(hs.shape))\n"
        "    return weigh(hs * ones, a)\n"
    ),
    "by a buffer that nobody else sees": (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    buffer = kept.setdefault(hs.shape, np.zeros(hs.shape))\n"
        "    np.multiply(hs, a[:, :, None], out=buffer)\n"
        "    return buffer.sum(axis=1)\n"
    ),
    "as a view of new memory": (
        "def once(hs, a):\n    return np.stack([weigh(hs, a)] * 2)[1]\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", RIGHT)
def test_right_results_are_right_however_they_are_come_by(folder, how):
    report, wrong = judged(folder, RIGHT[how] + LAYER)
    assert (report.passed, wrong) == (True, {})


@pytest.mark.parametrize("calls", [3, 10, 20])
def test_from_which_call_on_it_is_wrong_is_said(folder, calls):
    source = (
        "calls = [0]\n"
        "def once(hs, a):\n"
        "    calls[0] += 1\n"
        f"    return weigh(hs, a) + (calls[0] > {calls}) * (np.arange(hs.shape[2]) == 0)\n"
    )
    report, wrong = judged(folder, source + LAYER)
    assert wrong["call after call"] == f"right for {calls} calls, and not from call {calls + 1} on"
    assert [d.mistakes[0].name for d in report.diagnoses] == ["right for some calls only"]


def test_wrong_after_any_number_of_calls_is_wrong(folder):
    source = (
        "calls = [0]\n"
        "def once(hs, a):\n"
        "    calls[0] += 1\n"
        "    return weigh(hs, a) * (1 + (calls[0] > 39))\n"
    )
    report, _ = judged(folder, source + LAYER)
    assert not report.passed


def test_a_buffer_that_the_next_call_overwrites_is_named(folder):
    source = (
        "kept = {}\n"
        "def once(hs, a):\n"
        "    buffer = kept.setdefault(hs.shape, np.zeros((len(hs), hs.shape[2])))\n"
        "    buffer[...] = weigh(hs, a)\n"
        "    return buffer\n"
    )
    report, wrong = judged(folder, source + LAYER)
    assert wrong == {"results left alone": "forward writes into what an earlier forward returned"}
    assert [d.mistakes[0].name for d in report.diagnoses] == ["an earlier result is overwritten"]


def test_gradients_that_the_next_call_overwrites_are_named():
    class Mine(WeightSum):
        buffer = np.zeros((2, 5))

        def backward(self, dout):
            dhs, da = super().backward(dout)
            if da.shape == self.buffer.shape and da.dtype == np.float64:
                self.buffer[...] = da
                da = self.buffer
            return dhs, da

    wrong = {f.name: f.detail for f in check(Mine).findings if f.status == "wrong"}
    assert wrong == {"results left alone": "backward writes into the gradients of the call before"}


def test_backward_that_works_in_what_forward_returned_is_named():
    class Mine(WeightSum):
        def forward(self, hs, a):
            self.out = super().forward(hs, a)
            return self.out

        def backward(self, dout):
            self.out *= 2
            return super().backward(dout)

    wrong = {f.name: f.detail for f in check(Mine).findings if f.status == "wrong"}
    assert wrong["results left alone"] == "backward writes into what forward returned"


def test_inputs_that_are_emptied_are_said_and_nothing_is_made_of_the_zeros(folder):
    source = "def once(hs, a):\n    hs[...] = 0\n    a[...] = 0\n    return weigh(hs, a)\n"
    report, wrong = judged(folder, source + LAYER)
    assert wrong["inputs unchanged"] == "hs, a is changed"
    assert [d.mistakes[0].name for d in report.diagnoses] == ["input modified in place"]


def test_memory_that_is_never_written_is_named(folder):
    source = "def once(hs, a):\n    return np.empty((len(hs), hs.shape[2]), hs.dtype)\n"
    report, wrong = judged(folder, source + LAYER)
    assert "not every element is filled" in wrong["every element filled"]
    assert [d.mistakes[0].name for d in report.diagnoses] == ["memory never written"]


def test_who_lets_attncli_compute_is_right_and_told_so(folder):
    source = (
        "def once(hs, a):\n"
        "    from attncli.layers import WeightSum\n"
        "    return WeightSum().forward(hs, a)\n"
    )
    report, wrong = judged(folder, source + LAYER)
    notes = [f.detail for f in report.findings if f.name == "computed by itself"]
    assert (wrong, notes) == ({}, ["attncli is what computed it: it is compared with itself"])
    report, _ = judged(folder, "once = weigh\n" + LAYER)
    assert "computed by itself" not in {f.name for f in report.findings}


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("self.total = self.total + dhs; return self.total", "wrong", "adds to the gradients"),
        ("self.total = dhs + self.total; dhs *= 0; return self.total", "wrong", "adds to the grad"),
        ("self.calls += 1; return dhs if self.calls == 1 else dhs + 1", "note", "uses up what"),
        ("self.calls += 1; return dhs if self.calls == 1 else None[0]", "note", "is refused"),
        ("return dhs", "ok", ""),
    ],
)
def test_a_second_backward_after_one_forward_adds_nothing(folder, source, status, said):
    body = "; ".join(f"{line.strip()}" for line in source.split(";"))
    text = LAYER.replace(
        "        self.cache = hs, a\n",
        "        self.cache = hs, a\n        self.total, self.calls = 0.0, 0\n",
    )
    text = text.replace(
        "return spread(dc, *self.cache)",
        "dhs, da = spread(dc, *self.cache)\n        return self.dhs(dhs), da",
    )
    text += f"\n    def dhs(self, dhs):\n        {body}\n"
    report, _ = judged(folder, "def once(hs, a):\n    return weigh(hs, a)\n" + text)
    (found,) = (f for f in report.findings if f.name == "backward twice")
    assert (found.status, report.passed) == (status, status != "wrong")
    assert said in found.detail


SIZES = {
    "a number of items": ("N", "self.N = self.N or len(hs)", "hs, a = hs[: self.N], a[: self.N]"),
    "a buffer that grows": (
        "T_dec",  # the first with fewer items than there were
        "self.N = max(self.N, len(hs))",
        "hs = np.concatenate([hs, hs[: self.N - len(hs)]]); a = np.concatenate([a, a])[: len(hs)]",
    ),
    "a mask by T alone": (
        "H",
        "self.N = self.N or hs.shape[2]",
        "hs = hs * (np.arange(hs.shape[2]) < self.N)",
    ),
}


@pytest.mark.parametrize("how", SIZES)
def test_sizes_that_an_instance_keeps_from_an_earlier_call_are_found(folder, how):
    axis, keep, use = SIZES[how]
    text = LAYER.replace(
        "        return once", f"        {keep}\n        {use}\n        return once"
    )
    text = text.replace(
        "self.params, self.grads = [], []", "self.params, self.grads = [], []; self.N = 0"
    )
    report, wrong = judged(folder, "def once(hs, a):\n    return weigh(hs, a)\n" + text)
    assert not report.passed
    assert f"for {axis} = " in wrong["other sizes between"]
    assert report.diagnoses[0].mistakes[0].name == "sizes left over from the call before"


def test_what_is_made_for_sizes_of_its_own_is_not_blamed_for_others(folder):
    text = LAYER.replace("def __init__(self):", "def __init__(self, H):\n        self.H = H")
    text = text.replace(
        "        return once", "        assert hs.shape[2] == self.H\n        return once"
    )
    report, _ = judged(folder, "def once(hs, a):\n    return weigh(hs, a)\n" + text)
    assert report.passed
