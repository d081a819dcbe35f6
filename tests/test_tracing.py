"""A trace, step by step, is what the reference computes as a whole."""

import numpy as np
import pytest

from attncli.core.semantics import Semantics
from attncli.errors import ParameterError
from attncli.operations import OPERATIONS, Execution, run
from attncli.operations.layout import Layout
from attncli.operations.tracing import Place, StepTrace

N, HEADS, T_DEC, T_ENC, H, H_V = 2, 6, 5, 7, 3, 4
SHAPES = {
    "time-attention": [(N, T_ENC, H), (N, T_DEC, H)],
    "attention": [(N, T_ENC, H), (N, H)],
    "scaled-dot-product": [
        (N, HEADS, T_DEC, H),
        (N, 2, T_ENC, H),  # grouped queries: three heads share a key head
        (N, 2, T_ENC, H_V),
    ],
}
SEMANTICS = [
    Semantics(),
    Semantics(scale=0.3, softcap=0.7),
    Semantics(causal="upper_left"),
    Semantics(causal="lower_right", window=1, softcap=2.0),
]


def problem(name, seed=0):
    rng = np.random.default_rng(seed)
    operation = OPERATIONS[name]
    inputs = {
        key: rng.normal(size=shape)
        for key, shape in zip(operation.inputs, SHAPES[name], strict=True)
    }
    return operation, inputs, rng


def masks_of(shape, rng):
    seen = rng.random(shape) > 0.3
    seen[..., 0] = True
    yield None
    yield seen
    yield np.where(seen, rng.normal(size=shape), -np.inf)


@pytest.mark.filterwarnings("ignore:.*every key masked")
@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("name", SHAPES)
def test_steps_together_are_the_reference(name, semantics):
    operation, inputs, rng = problem(name)
    for mask in masks_of(operation.weights_shape(inputs), rng):
        done = run(operation, inputs, mask, semantics=semantics, execution=Execution("reference"))
        out = done.results["out"]
        dout = rng.normal(size=out.shape)
        expected = done.backward(dout)
        sums = {f"d{key}": np.zeros_like(x) for key, x in inputs.items()}
        heads = HEADS if name == "scaled-dot-product" else 1
        steps = 1 if name == "attention" else T_DEC
        for item, head, step in np.ndindex(N, heads, steps):
            trace = StepTrace(
                operation, inputs, Place(step, item, head), mask=mask, semantics=semantics
            )
            at = {one.name: one.array for one in trace.forward() + trace.backward(dout)}
            index = (item, head, step) if heads > 1 else (item, step)[: out.ndim - 1]
            np.testing.assert_allclose(at["out"], out[index], atol=1e-12)
            weights = done.results["a" if name == "attention" else "weights"]
            np.testing.assert_allclose(at["weights"], weights[index], atol=1e-12)
            if heads > 1:
                sums["dquery"][index] += at["dquery"]
                sums["dkey"][item, head // 3] += at["dkey"]
                sums["dvalue"][item, head // 3] += at["dvalue"]
            else:
                states, state = operation.inputs
                sums[f"d{states}"][item] += at[f"d{states}"]
                sums[f"d{state}"][index] += at[f"d{state}"]
        for key, gradient in sums.items():
            np.testing.assert_allclose(gradient, expected[key], atol=1e-12)


def test_two_dimensions_and_heads_in_the_last_axis():
    rng = np.random.default_rng(0)
    flat = {key: rng.normal(size=(4, 3)) for key in ("query", "key", "value")}
    trace = StepTrace(OPERATIONS["scaled-dot-product"], flat, Place(2)).forward()
    expected = run(OPERATIONS["scaled-dot-product"], flat).results["out"][2]
    np.testing.assert_allclose(trace[-1].array, expected, atol=1e-12)

    merged = {key: rng.normal(size=(2, 4, 6)) for key in ("query", "key", "value")}
    operation = OPERATIONS["scaled-dot-product"]
    layout = Layout.of(operation, {}, {"heads": 3})
    apart = layout.read(merged)
    step = StepTrace(operation, apart, Place(1, 1, 2))
    out = layout.to_given("out", run(operation, apart).results["out"])
    np.testing.assert_allclose(step.forward()[-1].array, out[1, 1, 4:], atol=1e-12)
    dout = rng.normal(size=out.shape)
    last = {one.name: one.array for one in step.backward(layout.to_own("dout", dout))}
    np.testing.assert_array_equal(last["dout"], dout[1, 1, 4:])


def test_what_is_added_is_added_to_keys_that_causal_order_hides_as_well():
    operation, inputs, rng = problem("time-attention")
    mask = rng.normal(size=(N, T_DEC, T_ENC))
    mask[..., 2] = -np.inf
    semantics = Semantics(causal="upper_left")
    trace = StepTrace(operation, inputs, Place(1, 1), mask=mask, semantics=semantics).forward()
    at = {one.name: one.array for one in trace}
    added = np.where(np.isinf(mask[1, 1]), 0, mask[1, 1])
    np.testing.assert_allclose(at["biased"], at["scores"] + added, atol=1e-15)
    seen = np.arange(T_ENC) <= 1
    np.testing.assert_array_equal(np.isneginf(at["masked"]), ~seen)


@pytest.mark.parametrize("hidden", ["mask", "padding"])
def test_a_step_that_sees_nothing_is_all_zero(hidden):
    operation, inputs, _ = problem("time-attention")
    mask = np.ones((N, T_DEC, T_ENC), bool)
    mask[1, 2] = hidden == "padding"
    padding = np.ones((N, T_DEC), bool)
    padding[1, 2] = hidden == "mask"
    step = StepTrace(operation, inputs, Place(2, 1), mask=mask, padding=padding)
    at = {one.name: one.array for one in step.forward() + step.backward(np.ones((N, T_DEC, H)))}
    for name in ("weights", "out", "dvalue", "dscores", "dquery", "dkey", "dhs_enc", "dhs_dec"):
        assert not at[name].any()
        assert np.isfinite(at[name]).all()


def test_nan_in_what_is_hidden_does_not_leak():
    operation, inputs, _ = problem("time-attention")
    mask = np.ones((N, T_DEC, T_ENC), bool)
    mask[..., 3] = False
    inputs["hs_enc"][:, 3] = np.nan
    step = StepTrace(operation, inputs, Place(), mask=mask)
    for one in step.forward() + step.backward(np.ones((N, T_DEC, H))):
        assert not np.isnan(one.array).any(), one.name


def test_every_array_has_axes_a_formula_and_what_made_it():
    operation, inputs, rng = problem("scaled-dot-product")
    mask = rng.normal(size=operation.weights_shape(inputs))
    step = StepTrace(
        operation, inputs, Place(), mask=mask, semantics=Semantics(softcap=1.0, causal="upper_left")
    )
    trace = step.forward() + step.backward(np.ones(operation.result_shape(inputs)))
    sizes = {"T_enc": T_ENC, "H": H, "H_v": H_V}
    names = [one.name for one in trace]
    assert len(set(names)) == len(names)
    known = {*operation.inputs, "mask"}
    for one in trace:
        assert one.array.shape == tuple(sizes[axis] for axis in one.axes), one.name
        assert one.formula
        assert one.meaning
        assert set(one.made_of) <= known, one.name  # nothing is used before it is there
        known.add(one.name)


def test_every_worked_example_comes_out_right():
    operation, inputs, rng = problem("time-attention")
    mask = rng.normal(size=(N, T_DEC, T_ENC))
    step = StepTrace(operation, inputs, Place(1), mask=mask, semantics=Semantics(softcap=0.7))
    trace = step.forward() + step.backward(rng.normal(size=(N, T_DEC, H)))
    worked = [one for one in trace if one.work is not None]
    assert len(worked) > 12
    for one in worked:
        for index in np.ndindex(one.array.shape):
            text = one.work(index, lambda value: f"({float(value)!r})")
            for symbol, python in {"·": "*", "−": "-", "²": "**2"}.items():
                text = text.replace(symbol, python)
            value = eval(text, {"exp": np.exp, "tanh": np.tanh})
            np.testing.assert_allclose(value, one.array[index], atol=1e-12, err_msg=one.name)


def test_parts_of_attention_have_no_trace():
    with pytest.raises(ParameterError, match="softmax has no trace: it is a part"):
        StepTrace(OPERATIONS["softmax"], {"scores": np.zeros((1, 2, 3))}, Place())
