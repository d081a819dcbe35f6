"""A trace with sinks, slopes, lengths, segments or dropout is what the core computes."""

import numpy as np
import pytest

from attncli.core.extras import EXTRAS, Extras
from attncli.core.semantics import Semantics
from attncli.errors import ParameterError
from attncli.operations import OPERATIONS, run
from attncli.operations.tracing import Place, StepTrace

from .core.drawn import drawn

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")


def given(options):
    names = Semantics.__dataclass_fields__
    semantics = Semantics(**{name: x for name, x in options.items() if name in names})
    return semantics, Extras(**{name: x for name, x in options.items() if name in EXTRAS})


@pytest.mark.parametrize("seed", range(60))
def test_the_steps_of_one_head_add_up_to_its_gradients(seed):
    _, arrays, options = drawn(seed)
    semantics, extras = given(options)
    operation, mask = OPERATIONS["scaled-dot-product"], options.get("mask")
    inputs = {name: arrays[name] for name in operation.inputs}
    done = run(operation, inputs, mask, extras=extras, semantics=semantics)
    found = done.backward(arrays["dout"], arrays["dlogsumexp"])
    N, heads, T_dec, _ = arrays["query"].shape
    item, head = N - 1, heads - 1
    alone = {"dsinks": 0.0, "dalibi": 0.0}
    for step in range(T_dec):
        trace = StepTrace(
            operation, inputs, Place(step, item, head),
            mask=mask, extras=extras, semantics=semantics,
        )  # fmt: skip
        steps = [*trace.forward(), *trace.backward(arrays["dout"], arrays["dlogsumexp"])]
        named = {one.name: one.array for one in steps}
        at = (item, head, step)
        for name, whole in (("out", done.results["out"]), ("weights", done.results["weights"]),
                            ("dquery", found["dquery"])):  # fmt: skip
            np.testing.assert_allclose(named[name], whole[at], rtol=1e-9, atol=1e-11)
        for name in alone:
            alone[name] += float(named.get(name, 0.0))
    if N == 1:  # the shares of all other items are 0
        for name, share in alone.items():
            if name in found:
                np.testing.assert_allclose(share, found[name][head], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_every_line_of_work_comes_out_right(seed):
    _, arrays, options = drawn(seed)
    semantics, extras = given(options)
    operation = OPERATIONS["scaled-dot-product"]
    trace = StepTrace(
        operation, {name: arrays[name] for name in operation.inputs}, Place(),
        mask=options.get("mask"), extras=extras, semantics=semantics,
    )  # fmt: skip
    lines = [*trace.forward(), *trace.backward(arrays["dout"], arrays["dlogsumexp"])]
    names = {"exp": np.exp, "tanh": np.tanh}
    checked = 0
    for one in lines:
        if one.work is None or not one.array.size:
            continue
        index = tuple(size - 1 for size in one.array.shape)
        text = one.work(index, lambda x: f"({float(x)!r})")
        text = text.replace("·", "*").replace("−", "-").replace("²", "**2")
        if "inf" in text or "nan" in text or "/ (0.0)" in text:
            continue  # of a step that sees nothing
        result = eval(text, names)
        np.testing.assert_allclose(result, one.array[index], rtol=1e-7, atol=1e-9)
        checked += 1
    assert checked > 8


def test_layers_with_weights_of_their_own_take_no_sinks():
    operation = OPERATIONS["luong"]
    inputs = {
        name: np.ones(shape)
        for name, shape in operation.shapes({"N": 1, "T_dec": 2, "T_enc": 3, "H": 2}).items()
    }
    with pytest.raises(ParameterError, match="luong takes no --sinks"):
        StepTrace(operation, inputs, Place(), extras=Extras(sinks=0.0))
