"""Operations: one way to run every layer, with masks, dtypes and sizes made right."""

import numpy as np
import pytest

from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.operations import OPERATIONS, Execution, run
from attncli.operations.layout import Layout
from attncli.operations.loop import OptionAttention
from attncli.problems.masks import combine_masks
from attncli.tensors import random_tensor

SIZES = {"N": 2, "T_dec": 3, "T_enc": 7, "H": 5, "H_v": 4}
NAMES = list(OPERATIONS)
TIME = OPERATIONS["time-attention"]


def draw(operation, dtype="float64"):
    shapes = operation.shapes(SIZES)
    return {name: random_tensor(name, shape, dtype=dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_as_described(name, dtype):
    operation = OPERATIONS[name]
    inputs = {name: x.astype(dtype) for name, x in draw(operation).items()}
    result = run(operation, inputs).results[operation.result]
    assert (operation.result_shape(inputs), operation.result_dtype(inputs)) == (
        result.shape,
        result.dtype,
    )


@pytest.mark.parametrize("tile", [None, (2, 3)])
@pytest.mark.parametrize("heads", [{}, {"heads": 6}, {"heads": 6, "kv_heads": 3}])
def test_the_core_computes_into_the_place_it_is_given(tile, heads):
    operation = OPERATIONS["scaled-dot-product"]
    layout = Layout.of(operation, {}, heads)
    inputs = layout.read(
        {
            "query": random_tensor("query", (2, 5, 6 * 4)),
            "key": random_tensor("key", (2, 7, heads.get("kv_heads", 6) * 4)),
            "value": random_tensor("value", (2, 7, heads.get("kv_heads", 6) * 3)),
        }
    )
    expected = run(operation, inputs, execution=Execution("reference"))
    shape, dtype = operation.result_shape(inputs), operation.result_dtype(inputs)
    given = layout.to_given("out", np.empty(shape)).shape
    out = layout.to_own("out", np.full(given, np.nan, dtype))
    done = run(operation, inputs, execution=Execution(tile=tile, out=out))
    assert np.may_share_memory(done.results["out"], out)
    assert np.allclose(out, expected.results["out"], rtol=1e-12, atol=1e-14)
    dout = random_tensor("dout", shape)
    gradients, those = done.backward(dout), expected.backward(dout)
    for name, gradient in gradients.items():
        assert np.allclose(gradient, those[name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_have_the_shapes_of_the_inputs(name):
    operation = OPERATIONS[name]
    inputs = draw(operation)
    done = run(operation, inputs)
    gradients = done.backward(np.ones_like(done.results[operation.result]))
    assert {k: v.shape for k, v in gradients.items()} == {
        f"d{k}": v.shape for k, v in inputs.items()
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "result"), [("float16", "float16"), ("float32", "float32"), ("int64", "float64")]
)
def test_results_in_the_dtype_of_the_inputs(name, dtype, result):
    operation = OPERATIONS[name]
    done = run(operation, draw(operation, dtype))
    assert all(array.dtype == result for array in done.results.values())
    gradients = done.backward(np.ones_like(done.results[operation.result]))
    assert all(array.dtype == result for array in gradients.values())


def test_float16_is_computed_in_float32():
    inputs = {k: v * 20 for k, v in draw(TIME).items()}
    half = {k: v.astype(np.float16) for k, v in inputs.items()}
    exact = run(TIME, {k: v.astype(np.float64) for k, v in half.items()}).results["out"]
    got = run(TIME, half).results["out"]
    np.testing.assert_array_equal(got, exact.astype(np.float32).astype(np.float16))


@pytest.mark.parametrize("axis", ["N", "T_dec"])
def test_no_items_or_steps_give_empty_results(axis):
    sizes = SIZES | {axis: 0}
    inputs = {name: np.zeros(shape) for name, shape in TIME.shapes(sizes).items()}
    with pytest.warns(AttnWarning, match=f"{axis} is 0: the result is empty"):
        done = run(TIME, inputs)
    assert done.results["out"].shape == tuple(sizes[a] for a in ("N", "T_dec", "H"))
    gradients = done.backward(done.results["out"])
    assert {k: v.shape for k, v in gradients.items()} == {
        f"d{k}": v.shape for k, v in inputs.items()
    }
    assert all((gradient == 0).all() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {"hs_dec": (3, 3, 5)},
            r"hs_enc is \(2, 7, 5\), hs_dec is \(3, 3, 5\): N differs \(2 and 3\)",
        ),
        ({"hs_dec": (2, 3, 4)}, r"H differs \(5 and 4\)"),
        ({"hs_enc": (2, 7)}, r"hs_enc is \(2, 7\), expected 3 axes: \(N, T_enc, H\)"),
        ({"hs_dec": ()}, r"hs_dec is \(\), expected 3 axes"),
        ({"hs_enc": (2, 0, 5)}, "T_enc = 0 leaves nothing to attend"),
    ],
)
def test_shapes_that_do_not_fit_name_the_axes(shapes, message):
    fitting = TIME.shapes(SIZES)
    with pytest.raises(ShapeError, match=message):
        run(TIME, {name: np.zeros(shape) for name, shape in (fitting | shapes).items()})


def test_dout_of_another_shape_is_refused():
    done = run(TIME, draw(TIME))
    with pytest.raises(ShapeError, match=r"dout is \(2, 3, 4\), expected .* \(N, T_dec, H\)"):
        done.backward(np.zeros((2, 3, 4)))


# Masks


def test_masks_combine():
    inputs = draw(TIME)
    rng = np.random.default_rng(0)
    mask, enc_mask = rng.random((3, 7)) > 0.2, rng.random((2, 7)) > 0.2
    both = combined(TIME, inputs, {"mask": mask, "enc_mask": enc_mask})
    np.testing.assert_array_equal(both, mask & enc_mask[:, None, :])


def test_an_encoder_mask_alone_stays_small():
    mask = combined(TIME, draw(TIME), {"enc_mask": np.ones((2, 7), bool)})
    assert mask is not None
    assert mask.shape == (2, 1, 7)


def test_boolean_masks_take_keys_out_of_a_floating_one():
    inputs = draw(TIME)
    bias = np.full((2, 3, 7), 0.5)
    enc_mask = np.arange(14).reshape(2, 7) % 3 > 0
    both = combined(TIME, inputs, {"mask": bias, "enc_mask": enc_mask})
    np.testing.assert_array_equal(both, np.where(enc_mask[:, None, :], bias, -np.inf))


@pytest.mark.parametrize("name", ["attention", "attention-weight"])
def test_one_step_layers_take_the_encoders_mask(name):
    operation = OPERATIONS[name]
    inputs = draw(operation)
    enc_mask = np.array([[True] * 3 + [False] * 4] * 2)
    done = run(operation, inputs, combined(operation, inputs, {"enc_mask": enc_mask}))
    assert (done.results["a"][:, 3:] == 0).all()


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 7), (2, 2, 3, 7)])
def test_softmax_takes_scores_and_masks_of_any_number_of_axes(shape):
    operation = OPERATIONS["softmax"]
    inputs = {"scores": random_tensor("scores", shape)}
    mask = np.arange(np.prod(shape)).reshape(shape) % 3 > 0
    weights = run(operation, inputs, combined(operation, inputs, {"mask": mask})).results["weights"]
    assert (weights[~mask] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            {"enc_mask": np.ones((2, 6), bool)},
            ShapeError,
            r"enc_mask is \(2, 6\), expected \(2, 7\)",
        ),
        ({"mask": np.ones((4, 7), bool)}, ShapeError, r"expected a shape that broadcasts to"),
    ],
)
def test_masks_that_do_not_fit(mask, error, message):
    with pytest.raises(error, match=message):
        combined(TIME, draw(TIME), mask)


def test_fully_masked_rows_are_counted_once():
    inputs = draw(TIME)
    mask = np.ones((2, 3, 7), bool)
    mask[0, 1] = mask[1, 2] = False
    with pytest.warns(AttnWarning, match="2 of 6 rows have every key masked") as caught:
        done = run(TIME, inputs, mask)
    assert len(caught) == 1
    assert (done.results["out"][0, 1] == 0).all()


@pytest.mark.parametrize("engine", ["reference", "direct", "tiled"])
def test_padding_takes_no_part_and_is_no_reason_to_warn(engine):
    inputs = draw(TIME)
    dec_mask = np.array([[True, True, False], [True, True, True]])
    inputs["hs_dec"][0, 2] = np.nan  # whatever stands there
    done = run(TIME, inputs, padding=dec_mask, execution=Execution(engine))
    gradients = done.backward(np.ones((2, 3, 5)))
    assert (done.results["out"][0, 2] == 0).all()
    assert (gradients["dhs_dec"][0, 2] == 0).all()
    if "weights" in done.results:
        assert (done.results["weights"][0, 2] == 0).all()
    # The first item is as if it had two decoder steps.
    short = {"hs_enc": inputs["hs_enc"][:1], "hs_dec": inputs["hs_dec"][:1, :2]}
    expected = run(TIME, short, execution=Execution("reference"))
    np.testing.assert_allclose(done.results["out"][:1, :2], expected.results["out"], atol=1e-14)
    want = expected.backward(np.ones((1, 2, 5)))["dhs_enc"]
    np.testing.assert_allclose(gradients["dhs_enc"][:1], want, atol=1e-14)


# Engines: all agree with the reference, whatever the options

GENERAL = OPERATIONS["scaled-dot-product"]
CORE = [
    Execution(engine, threads, tile, weights)
    for engine, threads, tile in (("direct", 1, None), ("tiled", 1, (2, 3)), ("tiled", 2, None))
    for weights in (True, False)
]
SEMANTICS = [
    Semantics(),
    Semantics(scale=0.3),
    Semantics(scale=-2.0),
    Semantics(causal="upper_left"),
    Semantics(causal="lower_right"),
    Semantics(window=0),
    Semantics(window=2),
    Semantics(window=(1, 3)),
    Semantics(window=(-1, 0), align="lower_right"),
    Semantics(causal="upper_left", window=1),
    Semantics(causal="lower_right", window=2, softcap=1.5),
    Semantics(softcap=0.7, scale=3.0),
]
MASKS = ["none", "bool", "float", "enc"]


def combined(operation, inputs, masks):
    return combine_masks(masks, operation.mask_axes(inputs), operation.sizes(inputs))


def with_masks(operation, inputs, kind):
    shape = operation.weights_shape(inputs)
    rng = np.random.default_rng(5)
    if kind == "none":
        return None
    if kind == "bool":
        mask = rng.random(shape) > 0.4
        mask[..., 1, :] = False
        return combined(operation, inputs, {"mask": mask})
    if kind == "float":
        mask = np.where(rng.random(shape[-2:]) > 0.2, rng.normal(size=shape[-2:]), -np.inf)
        return combined(operation, inputs, {"mask": mask})
    enc_mask = rng.random((2, 7)) > 0.3
    return combined(operation, inputs, {"enc_mask": enc_mask})


def operands(kind):
    rng = np.random.default_rng(3)
    shapes = {
        "states": {"hs_enc": (2, 7, 5), "hs_dec": (2, 3, 5)},
        "step": {"hs": (2, 7, 5), "h": (2, 5)},
        "plain": {"query": (2, 3, 5), "key": (2, 7, 5), "value": (2, 7, 4)},
        "grouped": {"query": (2, 6, 3, 5), "key": (2, 2, 7, 5), "value": (2, 2, 7, 4)},
        "packed": {"query": (2, 3, 30), "key": (2, 7, 10), "value": (2, 7, 8)},
    }[kind]
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    if kind == "packed":  # views whose heads lie beside each other
        arrays = Layout.of(GENERAL, {}, {"heads": 6, "kv_heads": 2}).read(arrays)
    return arrays


def operation_for(kind):
    return {"states": TIME, "step": OPERATIONS["attention"]}.get(kind, GENERAL)


@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
@pytest.mark.parametrize("semantics", SEMANTICS, ids=str)
@pytest.mark.parametrize("kind", ["states", "step", "plain", "grouped", "packed"])
def test_engines_agree_with_the_reference(kind, semantics):
    operation, inputs = operation_for(kind), operands(kind)
    for masking in MASKS:
        if kind == "step" and masking == "float":
            continue  # its mask is (N, T_enc): covered by the others
        mask = (
            with_masks(operation, inputs, masking) if kind != "step" or masking != "bool" else None
        )
        passes = [
            run(operation, inputs, mask, semantics=semantics, execution=execution)
            for execution in (Execution("reference"), *CORE)
        ]
        dout = np.random.default_rng(9).normal(size=passes[0].results["out"].shape)
        gradients = [one.backward(dout) for one in passes]
        for one, gradient in zip(passes[1:], gradients[1:], strict=True):
            for name, array in one.results.items():
                np.testing.assert_allclose(array, passes[0].results[name], atol=1e-13)
            assert set(gradient) == set(gradients[0])
            for name, array in gradient.items():
                np.testing.assert_allclose(array, gradients[0][name], atol=1e-12)


@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
@pytest.mark.parametrize("semantics", SEMANTICS, ids=str)
def test_reference_gradients_are_derivatives(semantics):
    """The loop that the core is held against, held against complex step itself."""
    inputs, operation = operands("grouped"), GENERAL
    mask = with_masks(operation, inputs, "float")
    done = run(operation, inputs, mask, semantics=semantics, execution=Execution("reference"))
    dout = np.random.default_rng(9).normal(size=done.results["out"].shape)
    gradients = done.backward(dout)
    arrays = {**inputs, "mask": mask}

    def loss(**moved):
        loop = OptionAttention(semantics, operation.scale(semantics, 5))
        out = loop.attend(moved["query"], moved["key"], moved["value"], moved["mask"])
        return (dout * out).sum()

    rng = np.random.default_rng(1)
    for name, array in arrays.items():
        for _ in range(6):  # a few elements of each: all of them are checked by `attn gradcheck`
            index = tuple(int(rng.integers(size)) for size in array.shape)
            if not np.isfinite(array[index]):
                continue
            moved = {k: v.astype(complex) if k == name else v for k, v in arrays.items()}
            moved[name][index] += 1e-100j
            derivative = loss(**moved).imag / 1e-100
            assert gradients[f"d{name}"][index] == pytest.approx(derivative, rel=1e-10, abs=1e-14)


def test_parts_take_neither_engine_nor_semantics():
    softmax = OPERATIONS["softmax"]
    with pytest.raises(ParameterError, match="softmax has no tiled engine"):
        run(softmax, draw(softmax), execution=Execution("tiled"))
    with pytest.raises(ParameterError, match="softmax takes no --scale"):
        run(softmax, draw(softmax), semantics=Semantics(scale=2.0))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"key": (2, 3, 7, 5)}, "query has 4 heads, key has 3: expected a divisor"),
        ({"value": (2, 7, 4)}, "expected as many axes in each"),
        ({"key": (2, 2, 7, 6)}, r"H differs \(5 and 6\)"),
    ],
)
def test_operands_that_do_not_fit(shapes, message):
    fitting = {"query": (2, 4, 3, 5), "key": (2, 2, 7, 5), "value": (2, 2, 7, 4)} | shapes
    if "key" in shapes and len(shapes["key"]) == 4:
        fitting["value"] = (*shapes["key"][:2], 7, 4)
    with pytest.raises(ShapeError, match=message):
        run(GENERAL, {name: np.zeros(shape) for name, shape in fitting.items()})


def test_heads_that_do_not_split():
    packed = Layout.of(GENERAL, {}, {"heads": 4})
    inputs = {name: np.zeros((2, 3, 10)) for name in ("query", "key", "value")}
    with pytest.raises(ShapeError, match=r"query is \(2, 3, 10\): 10 cannot be split into 4 heads"):
        packed.read(inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -2}, "window is -2, expected 0 or more, or -1 for no limit"),
        ({"window": (1, -2)}, r"window is \(1, -2\)"),
        ({"window": (1, 2, 3)}, "expected one number, or two"),
        ({"align": "left"}, "align is left, expected upper_left or lower_right"),
        (
            {"causal": "upper_left", "align": "lower_right"},
            "align is lower_right, and causal upper_left",
        ),
        ({"softcap": 0.0}, "softcap is 0.0, expected a finite number above 0"),
        ({"scale": np.nan}, "scale is nan"),
        ({"causal": "left"}, "causal is left"),
    ],
)
def test_semantics_outside_their_range(options, message):
    with pytest.raises(ParameterError, match=message):
        Semantics(**options)
