"""Operations: one way to run every layer, with masks, dtypes and sizes made right."""

import warnings

import numpy as np
import pytest

from attncli.errors import AttnWarning, DtypeError, ShapeError
from attncli.operations import OPERATIONS
from attncli.tensors import random_tensor

SIZES = {"N": 2, "T_dec": 3, "T_enc": 7, "H": 5}
NAMES = list(OPERATIONS)
TIME = OPERATIONS["time-attention"]


def draw(operation, dtype="float64"):
    shapes = operation.shapes(SIZES)
    return {name: random_tensor(name, shape, dtype=dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_have_the_shapes_of_the_inputs(name):
    operation = OPERATIONS[name]
    inputs = draw(operation)
    done = operation.forward(inputs)
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
    done = operation.forward(draw(operation, dtype))
    assert all(array.dtype == result for array in done.results.values())
    gradients = done.backward(np.ones_like(done.results[operation.result]))
    assert all(array.dtype == result for array in gradients.values())


def test_float16_is_computed_in_float32():
    inputs = {k: v * 20 for k, v in draw(TIME).items()}
    half = {k: v.astype(np.float16) for k, v in inputs.items()}
    exact = TIME.forward({k: v.astype(np.float64) for k, v in half.items()}).results["out"]
    got = TIME.forward(half).results["out"]
    np.testing.assert_array_equal(got, exact.astype(np.float32).astype(np.float16))


@pytest.mark.parametrize("axis", ["N", "T_dec"])
def test_no_items_or_steps_give_empty_results(axis):
    sizes = SIZES | {axis: 0}
    inputs = {name: np.zeros(shape) for name, shape in TIME.shapes(sizes).items()}
    with pytest.warns(AttnWarning, match=f"{axis} is 0: the result is empty"):
        done = TIME.forward(inputs)
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
        TIME.forward({name: np.zeros(shape) for name, shape in (fitting | shapes).items()})


def test_dout_of_another_shape_is_refused():
    done = TIME.forward(draw(TIME))
    with pytest.raises(ShapeError, match=r"dout is \(2, 3, 4\), expected .* \(N, T_dec, H\)"):
        done.backward(np.zeros((2, 3, 4)))


# Masks


def test_masks_combine():
    inputs = draw(TIME)
    rng = np.random.default_rng(0)
    masks = {
        "mask": rng.random((3, 7)) > 0.2,
        "enc_mask": rng.random((2, 7)) > 0.2,
        "dec_mask": np.array([[True, True, False], [True, True, True]]),
    }
    combined = TIME.mask({**inputs, **masks})
    expected = masks["mask"] & masks["enc_mask"][:, None, :] & masks["dec_mask"][:, :, None]
    np.testing.assert_array_equal(combined, expected)


def test_boolean_masks_take_keys_out_of_a_floating_one():
    inputs = draw(TIME)
    bias = np.full((2, 3, 7), 0.5)
    enc_mask = np.arange(14).reshape(2, 7) % 3 > 0
    combined = TIME.mask({**inputs, "mask": bias, "enc_mask": enc_mask})
    np.testing.assert_array_equal(combined, np.where(enc_mask[:, None, :], bias, -np.inf))


def test_zero_and_one_are_booleans():
    inputs = draw(TIME)
    mask = TIME.mask({**inputs, "enc_mask": np.array([[1] * 7, [0] * 7])})
    assert mask is not None
    assert mask.dtype == bool


@pytest.mark.parametrize("name", ["attention", "attention-weight"])
def test_one_step_layers_take_the_encoders_mask(name):
    operation = OPERATIONS[name]
    inputs = draw(operation)
    enc_mask = np.array([[True] * 3 + [False] * 4] * 2)
    done = operation.forward(inputs, operation.mask({**inputs, "enc_mask": enc_mask}))
    assert (done.results["a"][:, 3:] == 0).all()


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 7), (2, 2, 3, 7)])
def test_softmax_takes_scores_and_masks_of_any_number_of_axes(shape):
    operation = OPERATIONS["softmax"]
    inputs = {"scores": random_tensor("scores", shape)}
    mask = np.arange(np.prod(shape)).reshape(shape) % 3 > 0
    weights = operation.forward(inputs, operation.mask({**inputs, "mask": mask})).results["weights"]
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
        ({"enc_mask": np.full((2, 7), 3)}, DtypeError, "0/1"),
        ({"enc_mask": np.full((2, 7), 0.5)}, DtypeError, "True = takes part"),
    ],
)
def test_masks_that_do_not_fit(mask, error, message):
    with pytest.raises(error, match=message):
        TIME.mask({**draw(TIME), **mask})


def test_fully_masked_rows_are_counted_once():
    inputs = draw(TIME)
    mask = np.ones((2, 3, 7), bool)
    mask[0, 1] = mask[1, 2] = False
    with pytest.warns(AttnWarning, match="2 of 6 rows have every key masked") as caught:
        done = TIME.forward(inputs, mask)
    assert len(caught) == 1
    assert (done.results["out"][0, 1] == 0).all()


def test_padding_is_no_reason_to_warn():
    inputs = draw(TIME)
    dec_mask = np.array([[True, True, False], [True, True, True]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TIME.forward(inputs, TIME.mask({**inputs, "dec_mask": dec_mask}), padding=dec_mask)
