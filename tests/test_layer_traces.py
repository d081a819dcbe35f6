"""The traces of layers with weights of their own: summed up, they are the layer."""

import re

import numpy as np
import pytest

from attncli.core.semantics import Semantics
from attncli.errors import ParameterError
from attncli.operations import OPERATIONS, run
from attncli.operations.layer_traces import TRACES
from attncli.operations.tracing import Place

N, T_DEC, T_ENC, H, H_DEC, A, HEADS = 2, 5, 7, 3, 11, 13, 2
SIZES = {
    "N": N, "T_dec": T_DEC, "T_enc": T_ENC, "H": H, "H_dec": H_DEC, "A": A, "D": 22, "D/heads": 11,
}  # fmt: skip
SEMANTICS = [Semantics(), Semantics(causal="lower_right"), Semantics(window=1)]


def problem(name, inputs=None, seed=0):
    """An operation and its inputs; `inputs` names those that are there."""
    rng = np.random.default_rng(seed)
    operation = OPERATIONS[name]
    if inputs is not None:
        operation = operation.of({*inputs, *operation.parameters})
    shapes = operation.shapes(SIZES)
    return operation, {key: rng.normal(size=shape) for key, shape in shapes.items()}, rng


def traced(operation, inputs, place, dout, **options):
    step = TRACES[operation.name](operation, inputs, place, **options)
    return step.forward() + step.backward(dout)


def masks_of(shape, rng):
    seen = rng.random(shape) > 0.3
    seen[..., 0] = True
    seen[1, ..., 2, :] = False
    yield None
    yield seen
    yield np.where(seen, rng.normal(size=shape), -np.inf)


def test_every_layer_with_weights_has_a_trace():
    assert set(TRACES) == {name for name, one in OPERATIONS.items() if one.parameters}


@pytest.mark.filterwarnings("ignore:.*every key masked")
@pytest.mark.parametrize("semantics", SEMANTICS, ids=str)
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("luong", None),
        ("bahdanau", None),
        ("multi-head", None),
        ("multi-head", ["query"]),
        ("multi-head", ["query", "key"]),
    ],
)
def test_steps_and_heads_together_are_the_layer(name, given, semantics):
    operation, inputs, rng = problem(name, given)
    heads = HEADS if name == "multi-head" else 1
    for mask in masks_of(operation.weights_shape(inputs), rng):
        if semantics.window is not None and mask is not None:
            continue  # more rows that see nothing: no other case
        done = run(operation, inputs, mask, semantics=semantics)
        dout = rng.normal(size=done.results["out"].shape)
        expected = done.backward(dout)
        out = np.zeros_like(dout)
        sums = {key: np.zeros_like(gradient) for key, gradient in expected.items()}
        for item, head, step in np.ndindex(N, heads, dout.shape[1]):
            place = Place(step, item, head)
            at = {
                one.name: one.array
                for one in traced(operation, inputs, place, dout, mask=mask, semantics=semantics)
            }
            out[item, step] += at["out"]
            weights = done.results["weights"][item]
            weights = weights[head] if heads > 1 else weights
            np.testing.assert_allclose(at["weights"], weights[step], atol=1e-13)
            add(operation, sums, at, place)
        np.testing.assert_allclose(out, done.results["out"], atol=1e-11)
        for key, gradient in sums.items():
            np.testing.assert_allclose(gradient, expected[key], atol=1e-10, err_msg=key)


def add(operation, sums, at, place):
    """Add the shares of a step to the gradients as a whole."""
    own = slice(place.head * 11, (place.head + 1) * 11)
    for name in operation.parameters:
        if operation.name != "multi-head":
            sums[f"d{name}"] += at[f"d{name}"]
        elif name == "Wo":
            sums["dWo"][own] += at["dWo"]
        else:
            sums[f"d{name}"][:, own] += at[f"d{name}"]
    if operation.name != "multi-head":
        sums["dhs_enc"][place.item] += at["dhs_enc"]
        sums["dhs_dec"][place.item, place.step] += at["dhs_dec"]
        return
    key = "dkey" if "dkey" in sums else "dquery"
    sums["dquery"][place.item, place.step] += at["dquery"]
    sums[key][place.item] += at["dkey"]
    sums["dvalue" if "dvalue" in sums else key][place.item] += at["dvalue"]


@pytest.mark.parametrize("name", TRACES)
def test_every_array_has_axes_a_formula_and_what_made_it(name):
    operation, inputs, rng = problem(name)
    mask = rng.normal(size=operation.weights_shape(inputs))
    dout = np.ones(operation.result_shape(inputs))
    trace = traced(
        operation, inputs, Place(), dout, mask=mask, semantics=Semantics(causal="upper_left")
    )
    names = [one.name for one in trace]
    assert len(set(names)) == len(names)
    known = {*operation.inputs, "mask"}
    for one in trace:
        assert one.array.shape == tuple(SIZES[axis] for axis in one.axes), one.name
        assert one.formula
        assert one.meaning
        assert set(one.made_of) <= known, one.name  # nothing is used before it is there
        known.add(one.name)


@pytest.mark.parametrize("name", TRACES)
def test_every_worked_example_comes_out_right(name):
    operation, inputs, rng = problem(name)
    inputs = {key: x / 2 for key, x in inputs.items()}
    dout = rng.normal(size=operation.result_shape(inputs))
    worked = [one for one in traced(operation, inputs, Place(1), dout) if one.work is not None]
    assert len(worked) > 12
    for one in worked:
        for index in np.ndindex(one.array.shape):
            text = one.work(index, lambda value: f"({float(value)!r})")
            for symbol, python in {"·": "*", "−": "-", "²": "**2"}.items():
                text = text.replace(symbol, python)
            value = eval(text, {"exp": np.exp, "tanh": np.tanh})
            np.testing.assert_allclose(value, one.array[index], atol=1e-12, err_msg=one.name)


@pytest.mark.parametrize("name", TRACES)
def test_nan_in_what_is_hidden_does_not_leak(name):
    operation, inputs, _ = problem(name)
    mask = np.ones(operation.weights_shape(inputs), bool)
    mask[..., 3] = False
    for key in {"hs_enc", "key", "value"} & {*inputs}:
        inputs[key][:, 3] = np.nan
    dout = np.ones(operation.result_shape(inputs))
    for one in traced(operation, inputs, Place(), dout, mask=mask):
        assert not np.isnan(one.array).any(), one.name


@pytest.mark.parametrize("name", TRACES)
def test_a_step_that_is_padding_is_all_zero(name):
    operation, inputs, _ = problem(name)
    padding = np.ones((N, T_DEC), bool)
    padding[1, 2] = False
    dout = np.ones(operation.result_shape(inputs))
    trace = traced(operation, inputs, Place(2, 1), dout, padding=padding)
    found = {one.name: one.array for one in trace}
    zero = ["weights", "out", *(f"d{key}" for key in inputs)]
    assert all(not found[key].any() for key in zero)


@pytest.mark.parametrize("name", TRACES)
def test_options_that_a_layer_does_not_have_are_refused(name):
    operation, inputs, _ = problem(name)
    with pytest.raises(ParameterError, match=f"{name} takes no --scale, --softcap: it is a layer"):
        TRACES[name](operation, inputs, Place(), semantics=Semantics(scale=2.0, softcap=1.0))


@pytest.mark.parametrize("name", TRACES)
def test_infinity_is_shown_without_a_warning(name):
    operation, inputs, _ = problem(name)
    inputs = {key: np.full_like(x, np.inf) for key, x in inputs.items()}
    dout = np.zeros(operation.result_shape(inputs))
    assert np.isnan(traced(operation, inputs, Place(), dout)[-1].array).all()


def test_formulas_name_what_the_layer_has():
    """Of every formula's words, each is an array that is there, or a function."""
    for name in TRACES:
        operation, inputs, _ = problem(name)
        dout = np.ones(operation.result_shape(inputs))
        known = {"scale", "exp", "tanh", "max", "largest", "given", "item", "step", "head"}
        for one in traced(operation, inputs, Place(), dout):
            words = set(re.findall(r"[A-Za-z]\w*", one.formula, re.ASCII))
            assert words <= known | {*operation.inputs}, (name, one.name, words)
            known.add(one.name)
