"""Code that does what no layer should: it is said plainly, and never taken for a bug of ours."""

import threading

import numpy as np
import pytest

from attncli import layers
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.checking.targets.loading import load_targets
from attncli.errors import CodeError, TargetError


class Right(layers.WeightSum):
    pass


class Stop(BaseException):
    pass


class Unreadable:
    def __array__(self, *arguments, **options):
        raise RuntimeError("no array")


def endless():
    held = []
    held.append(held)
    return held


def raising(error):
    raise error


async def coroutine():
    return np.zeros(3)


# What forward or backward may do beside returning arrays, and what is said of it.
CALLS = {
    "a class of exceptions of its own": (lambda: raising(Stop("stop")), "raises Stop: stop"),
    "an end of the process": (lambda: raising(SystemExit(0)), "raises SystemExit: 0"),
    "a generator's end": (lambda: raising(GeneratorExit()), "raises GeneratorExit: no message"),
    "a coroutine": (coroutine, "returns coroutine, expected"),
    "a generator": (lambda: (x for x in ()), "returns generator, expected"),
    "a dict": (dict, "returns dict, expected"),
    "what cannot be made an array": (Unreadable, "returns Unreadable, expected"),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_forward_does_instead_is_said(call):
    act, said = CALLS[call]

    class WeightSum(Right):
        def forward(self, hs, a):
            return act()

    with pytest.raises(TargetError, match=f"forward {said}"):
        gradcheck(WeightSum)
    findings = [f for f in check(WeightSum).findings if f.status == "wrong"]
    assert all(f.detail.startswith(f"forward {said}") for f in findings)
    assert findings


@pytest.mark.parametrize("call", CALLS)
def test_what_backward_does_instead_is_said(call):
    act, said = CALLS[call]

    class WeightSum(Right):
        def backward(self, dout):
            return act()

    report = check(WeightSum)
    assert not report.passed
    assert report.no_gradients.startswith(f"backward {said}")
    assert (report.diagnoses, report.differs) == ((), False)
    if "raises" in said:
        with pytest.raises(TargetError, match=f"backward {said}"):
            gradcheck(WeightSum)
    else:
        assert gradcheck(WeightSum).problems[0].startswith(f"backward {said}")


def test_gradients_that_hold_themselves_are_no_arrays():
    class WeightSum(Right):
        def backward(self, dout):
            return endless(), endless()

    assert "dhs is list, expected an array" in check(WeightSum).no_gradients
    assert "dhs is list, expected an array" in gradcheck(WeightSum).problems


def test_a_result_of_a_wrong_shape_is_not_copied_however_large_it_is():
    class WeightSum(Right):
        def forward(self, hs, a):
            return np.broadcast_to(0.0, (10**6, 10**6, 100))

    findings = check(WeightSum).findings
    assert findings[0].detail == "forward returns (1000000, 1000000, 100), expected (2, 7)"


def test_attributes_that_raise_are_as_good_as_none():
    class WeightSum:
        params = grads = property(lambda self: raising(RuntimeError("mine")))

        def forward(self, hs, a):
            self.inner = layers.WeightSum()
            return self.inner.forward(hs, a)

        def backward(self, dout):
            return self.inner.backward(dout)

    assert check(WeightSum).passed
    assert gradcheck(WeightSum).passed


def test_an_instance_that_cannot_be_copied_is_said_to_be_so():
    layer = Right()
    layer.lock = threading.Lock()
    with pytest.raises(TargetError, match="copying it raises TypeError"):
        gradcheck(layer)
    report = check(layer, layer="weight-sum")
    assert not report.passed
    assert "copying it raises TypeError" in report.findings[0].detail


def test_a_call_that_is_told_to_end_the_process_ends_it():
    class WeightSum(Right):
        def forward(self, hs, a):
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        check(WeightSum)


def test_forward_may_be_any_callable():
    class Forward:
        def __call__(self, hs, a):
            return layers.WeightSum().forward(hs, a)

    class WeightSum(Right):
        forward = Forward()

        def backward(self, dout):
            return None

    assert "backward returns None, expected dhs, da" in gradcheck(WeightSum).problems


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("def forward(self): return 1", "forward takes no array"),
        ("def forward(self, *args): return 1", "forward takes no array"),
        ("def forward(self, *, depth=1): return 1", "forward takes no array"),
        ("def forward(self, **arrays): return 1", "forward takes no array"),
        ("forward = max", "forward's arguments cannot be read"),
    ],
)
def test_why_the_only_class_of_a_file_is_no_layer_is_said(signature, said, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"class Mine:\n    {signature}\n    def backward(self, d): return d\n")
    (target,) = load_targets(str(file))
    with pytest.raises(CodeError, match=f"mine.py:Mine: {said}"):
        raise target.fault


def test_a_relative_import_is_told_how_it_works(tmp_path):
    file = tmp_path / "no-package" / "mine.py"
    file.parent.mkdir()
    file.write_text("from . import helper\n")
    with pytest.raises(TargetError, match="relative import") as error:
        load_targets(str(file))
    assert error.value.hint.startswith("package.module:Name")
