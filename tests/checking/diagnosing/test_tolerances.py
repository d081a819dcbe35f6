"""The error model from both sides: right in any way passes, wrong by little fails."""

import numpy as np
import pytest
from checking.ways import WAYS, make

import attncli
from attncli.checking.comparing.rounding import rounding
from attncli.checking.diagnosing.cases import Suite
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS
from attncli.operations.steps import QKV, Calculation

DTYPES = ("float64", "float32", "float16", "bfloat16")
# Every choice with every other one, in two sevenths of all combinations.
SOME = [way for number, way in enumerate(WAYS) if number % 7 in (0, 3)]
# Each softmax once, which has the large sizes to pass as well.
FEW = SOME[:: len(SOME) // 6]


def name(way):
    return ", ".join(getattr(choice, "__name__", choice) for choice in way)


def wrong(report):
    return [(f.name, f.part, f.detail) for f in report.findings if f.status == "wrong"]


def test_there_are_many_ways_and_every_choice_is_among_them():
    assert len(SOME) >= 40
    for choices, some in zip(zip(*WAYS, strict=True), zip(*SOME, strict=True), strict=True):
        assert set(choices) == set(some)
    assert {softmax for softmax, *_ in FEW} == {softmax for softmax, *_ in WAYS}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", SOME, ids=name)
def test_no_way_that_is_right_is_blamed(way, dtype, monkeypatch):
    if way not in FEW:
        monkeypatch.setattr(Suite, "large", lambda *args, **options: [])
    report = attncli.check(make(*way), layer=QKV, dtype=dtype)
    assert wrong(report) == []
    assert report.passed


# What is wrong, by how little in each dtype, and where it has to show.
def times(factor):
    return lambda x: x * factor


def one_element(by):
    def change(x):
        x = np.array(x)
        x[..., -1, -1] += x.dtype.type(by) * np.abs(x).max()
        return x

    return change


def without_the_last(x):
    if np.shape(x)[-1] > 1:
        x = np.array(x)
        x[..., -1] = 0
    return x


SMALL = {
    "scale": ("scale", lambda u: times(1 + 300 * u), "forward"),
    "out": ("out", lambda u: times(1 + 300 * u), "forward"),
    "one element of out": ("out", lambda u: one_element(300 * u), "forward"),
    "one key": ("weights", lambda u: without_the_last, "forward"),
    "added to delta": ("delta", lambda u: lambda x: x + 1000 * u, "backward"),
    "dquery": ("dquery", lambda u: times(1 + 1000 * u), "backward"),
    "one element of dkey": ("dkey", lambda u: one_element(1000 * u), "backward"),
    "dvalue": ("dvalue", lambda u: times(1 + 300 * u), "backward"),
}
# Beside float64's own rounding, constants may be written with nine digits.
UNITS = {"float64": 1e-10, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-9}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", SMALL)
@pytest.mark.parametrize("way", FEW[::3], ids=name)
def test_what_is_wrong_by_little_is_not_let_pass(way, mistake, dtype, monkeypatch):
    monkeypatch.setattr(Suite, "large", lambda *args, **options: [])
    what, of, part = SMALL[mistake]
    small = of(min(UNITS[dtype], 2.0**-11))

    def change(name, x):
        return small(x) if name == what else x

    report = attncli.check(make(*way, change), layer=QKV, dtype=dtype)
    assert ("different prime sizes", part) in {(where, which) for where, which, _ in wrong(report)}


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("layer", ["softmax", "weight-sum", "attention-weight", "attention",
                                   "time-attention", QKV])  # fmt: skip
def test_the_model_is_above_what_rounding_does_and_not_far(layer, precision):
    """The formula in a coarser dtype, held against itself in float64."""
    case = Suite(layer, Semantics(), {}, 4 if layer == QKV else 3).ordinary()
    narrow = [array.astype(precision) for array in case.inputs]
    exact = Calculation(layer, [array.astype(np.float64) for array in narrow], Semantics())
    rough = Calculation(layer, narrow, Semantics())
    out, dout = exact.forward()["out"], case.truth.dout.astype(precision)
    gradients = exact.backward(dout.astype(np.float64))
    far = rounding(exact, dout.astype(np.float64), precision)
    found = [rough.forward()["out"], *rough.backward(dout)]
    names = ["out", *OPERATIONS[layer].inputs]
    pairs = zip(names, found, [out, *gradients], [far.results["out"], *far.gradients], strict=True)
    for name, observed, right, allowed in pairs:
        error = np.abs(observed.astype(np.float64) - right)
        assert (error <= allowed).all(), name
        assert (allowed < 300 * max(error.max(), 2.0**-30)).any(), name
