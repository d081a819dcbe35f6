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


# Half precision, and what takes one dtype alone.


def noted(report, name):
    return [finding.detail for finding in report.findings if finding.name == name]


@pytest.mark.parametrize(
    ("asked", "taken", "said"),
    [
        ("float16", "float32", "every case is in float32 that holds numbers of float16"),
        ("bfloat16", "float64", "every case is in float64 that holds numbers of bfloat16"),
        ("float64", "float16", "every case is in float16, and so is the tolerance"),
        ("float32", "bfloat16", "every case is in bfloat16, and so is the tolerance"),
    ],
)
@pytest.mark.parametrize("scale", [1, 1.5])
def test_what_refuses_a_dtype_is_given_what_it_takes_and_that_is_said(asked, taken, said, scale):
    class Attention(make(*WAYS[0], lambda name, x: x * scale if name == "scale" else x)):
        def forward(self, query, key, value):
            assert query.dtype == taken, f"only {taken}"
            return super().forward(query, key, value)

    report = attncli.check(Attention, layer=QKV, dtype=asked)
    assert report.passed == (scale == 1)
    (detail,) = noted(report, f"{asked} inputs")
    assert detail.endswith(said)
    assert f"only {taken}" in detail
    if scale != 1:
        assert "scale" in report.diagnoses[0].mistakes[0].name


@pytest.mark.usefixtures("unnamed")
def test_what_is_right_to_half_precision_is_wrong_where_more_is_meant():
    class Attention(make(*WAYS[0])):
        def forward(self, query, key, value):
            return super().forward(*(x.astype("f2") for x in (query, key, value)))

    assert attncli.check(Attention, layer=QKV, dtype="float16").passed
    assert not attncli.check(Attention, layer=QKV, dtype="float32").passed


@pytest.mark.usefixtures("unnamed")
def test_a_head_that_is_small_is_held_to_its_own_size():
    class Attention(make(*WAYS[0])):
        def forward(self, query, key, value):
            out = super().forward(query, key, value)
            out[..., 0, :] *= np.where(np.abs(value).max() > 20, 0, 1).astype(out.dtype)
            return out

    assert not attncli.check(Attention, layer=QKV, dtype="bfloat16").passed


# Layouts.


def time_first(layer, axes):
    class Turned(layer):
        def forward(self, *arrays):
            return super().forward(*(x.swapaxes(*axes) for x in arrays)).swapaxes(*axes)

        def backward(self, dout):
            return [x.swapaxes(*axes) for x in super().backward(dout.swapaxes(*axes))]

    return Turned


@pytest.mark.parametrize(
    ("axes", "said"), [((0, 1), "(T, N, H), time first"), ((1, 2), "(N, T, heads, H)")]
)
def test_another_layout_is_named_and_nothing_else(axes, said):
    class Attention(time_first(make(*WAYS[0]), axes)):
        def forward(self, query, key, value):
            assert query.ndim == (4 if axes == (1, 2) else 3)
            return super().forward(query, key, value)

    report = attncli.check(Attention, layer=QKV)
    ((name, part, detail),) = wrong(report)
    assert (name, part, report.diagnoses, report.chain) == ("layout", "contract", (), ())
    assert said in detail


@pytest.mark.usefixtures("unnamed")
def test_what_is_wrong_in_another_layout_does_not_pass():
    doubled = make(*WAYS[0], lambda name, x: 2 * x if name == "scale" else x)

    class Attention(time_first(doubled, (0, 1))):
        def forward(self, query, key, value):
            assert query.ndim == 3
            return super().forward(query, key, value)

    assert not attncli.check(Attention, layer=QKV).passed
