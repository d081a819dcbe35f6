"""The same calculation by torch, JAX and ONNX Runtime, where they are installed.

Each of them draws some of the lines elsewhere; wherever that is so, a test says how.
"""

import numpy as np
import pytest
from crossing import crossed

from attncli.core import attention, attention_backward

from .common import assert_near, compute, tensors

pytestmark = pytest.mark.filterwarnings("ignore")  # what peers warn of is their business

SHAPES = {
    "plain": ((2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 7)),
    "wide values": ((2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 13)),
    "grouped": ((2, 6, 5, 7), (2, 2, 11, 7), (2, 2, 11, 7)),
    "long": ((1, 2, 131, 17), (1, 2, 257, 17), (1, 2, 257, 17)),
}
MASKS = ["none", "boolean", "float"]
GRID = {
    "shape": list(SHAPES),
    "dtype": ["float32", "float64"],
    "mask": MASKS,
    "causal": [None, "upper_left"],
    "scale": [None, 0.3],
}
# Both sides err, and some peers accumulate in other orders.
FACTOR = 4


def problem(shape, dtype, mask):
    """Query, key, value, a mask in which every query sees the first key, and dout."""
    query, key, value = tensors(SHAPES[shape], dtype=dtype)
    rng = np.random.default_rng(1)
    scores = (*query.shape[:3], key.shape[2])
    seen = rng.random(scores) < 0.7
    seen[..., 0] = True
    added = rng.standard_normal(scores).astype(dtype)
    masks = {"none": None, "boolean": seen, "float": added}
    return (
        query,
        key,
        value,
        masks[mask],
        rng.standard_normal((*scores[:3], value.shape[3])).astype(dtype),
    )


def both_masks(mask, causal, shape):
    """What peers that refuse a mask together with causal order want: one mask for both."""
    lower = np.tri(*shape, dtype=bool)
    if mask is None or mask.dtype == bool:
        return lower if mask is None else mask & lower
    return np.where(lower, mask, -np.inf).astype(mask.dtype)


@pytest.mark.parametrize(**crossed(**GRID, engine=["direct", "tiled"]))
def test_torch_agrees_forward_and_backward(shape, dtype, mask, causal, scale, engine):
    torch = pytest.importorskip("torch")
    query, key, value, mask, dout = problem(shape, dtype, mask)
    out, cache = compute(query, key, value, mask=mask, causal=causal, scale=scale, engine=engine)
    gradients = attention_backward(dout, cache)

    theirs = mask
    if causal and mask is not None:  # torch refuses is_causal together with a mask
        theirs, causal = both_masks(mask, causal, (query.shape[2], key.shape[2])), None
    leaves = [torch.from_numpy(x).requires_grad_() for x in (query, key, value)]
    if theirs is not None:
        theirs = torch.from_numpy(theirs)
        if theirs.is_floating_point():
            leaves.append(theirs.requires_grad_())
    expected = torch.nn.functional.scaled_dot_product_attention(
        *leaves[:3], attn_mask=theirs, is_causal=bool(causal), scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    expected.backward(torch.from_numpy(dout))
    assert_near(out, expected.detach().numpy(), dtype, FACTOR)
    if cache.dmask is not None:
        gradients = (*gradients, cache.dmask)
    for ours, leaf in zip(gradients, leaves, strict=True):
        assert_near(ours, leaf.grad.numpy(), dtype, FACTOR, scale=1)


def test_torch_gives_zero_for_a_row_that_sees_nothing_as_we_do():
    torch = pytest.importorskip("torch")
    query, key, value, mask, _ = problem("plain", "float64", "boolean")
    mask[0, 1, 2] = False
    out, _ = attention(query, key, value, mask=mask)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (query, key, value)), attn_mask=torch.from_numpy(mask)
    )
    assert not out[0, 1, 2].any()
    assert_near(out, expected.numpy(), factor=FACTOR)


def test_torch_lets_a_hidden_nan_through_and_we_do_not():
    torch = pytest.importorskip("torch")
    query, key, value, mask, _ = problem("plain", "float64", "boolean")
    mask[..., 4] = False
    value[:, :, 4] = np.nan
    expected = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, (query, key, value)), attn_mask=torch.from_numpy(mask)
    )
    assert torch.isnan(expected).all()
    assert np.isfinite(attention(query, key, value, mask=mask)[0]).all()


def test_jax_wants_values_as_wide_as_keys():
    jax = pytest.importorskip("jax")
    query, key, value, *_ = problem("wide values", "float32", "none")
    with pytest.raises(ValueError, match="shape"):
        jax.nn.dot_product_attention(*(x.swapaxes(1, 2) for x in (query, key, value)))


@pytest.mark.parametrize(
    **crossed(**{**GRID, "shape": [shape for shape in SHAPES if shape != "wide values"]})
)
def test_jax_agrees_forward_and_backward(shape, dtype, mask, causal, scale):
    jax = pytest.importorskip("jax")
    query, key, value, mask, dout = problem(shape, dtype, mask)
    out, cache = attention(query, key, value, mask=mask, causal=causal, scale=scale)
    gradients = attention_backward(dout, cache)
    with jax.enable_x64(True):
        # JAX puts heads behind steps: (N, T, heads, H); masks stay (N, heads, T_dec, T_enc).
        def turn(x):
            return jax.numpy.swapaxes(jax.numpy.asarray(x), 1, 2)

        options = {"is_causal": bool(causal), "scale": scale}
        if mask is not None:
            options["mask" if mask.dtype == bool else "bias"] = jax.numpy.asarray(mask)
        expected, vjp = jax.vjp(
            lambda *x: jax.nn.dot_product_attention(*x, **options), *map(turn, (query, key, value))
        )
        theirs = [np.asarray(turn(x)) for x in (expected, *vjp(turn(dout)))]
    for ours, right in zip((out, *gradients), theirs, strict=True):
        # JAX carries out the softmax of float64 scores in float32.
        assert_near(ours.astype(np.float32), right, "float32", FACTOR, scale=1)


def test_jax_window_is_ours():
    jax = pytest.importorskip("jax")
    query, key, value, _, _ = problem("plain", "float32", "none")
    for causal in (None, "upper_left"):
        out, _ = attention(query, key, value, window=2, causal=causal)
        expected = jax.nn.dot_product_attention(
            *(x.swapaxes(1, 2) for x in (query, key, value)),
            local_window_size=2, is_causal=bool(causal),
        )  # fmt: skip
        assert_near(out, np.asarray(expected).swapaxes(1, 2), "float32", FACTOR)


def test_jax_averages_all_values_where_nothing_is_seen_and_we_give_zero():
    jax = pytest.importorskip("jax")
    query, key, value, mask, _ = problem("plain", "float32", "boolean")
    mask[0, 1, 2] = False
    expected = np.asarray(
        jax.nn.dot_product_attention(*(x.swapaxes(1, 2) for x in (query, key, value)), mask=mask)
    ).swapaxes(1, 2)
    assert_near(expected[0, 1, 2], value[0, 1].mean(0), "float32", FACTOR)
    assert not attention(query, key, value, mask=mask)[0][0, 1, 2].any()


def onnx_attention(query, key, value, mask, **attributes):
    """Run the Attention operator of ONNX opset 23."""
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    arrays = {"Q": query, "K": key, "V": value} | ({} if mask is None else {"M": mask})
    kind = {np.dtype(x): getattr(onnx.TensorProto, y) for x, y in
            {"float32": "FLOAT", "float64": "DOUBLE", "bool": "BOOL"}.items()}  # fmt: skip
    node = onnx.helper.make_node("Attention", list(arrays), ["Y"], **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "attention",
        [onnx.helper.make_tensor_value_info(n, kind[x.dtype], x.shape) for n, x in arrays.items()],
        [onnx.helper.make_tensor_value_info("Y", kind[query.dtype], None)],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, arrays)[0]


@pytest.mark.parametrize(**crossed(**GRID, softcap=[None, 1.5]))
def test_onnxruntime_agrees_forward(shape, dtype, mask, causal, scale, softcap):
    query, key, value, mask, _ = problem(shape, dtype, mask)
    theirs, theirs_causal = mask, causal
    if dtype == "float64" and causal and mask is not None and mask.dtype != bool:
        # ONNX Runtime refuses this combination: its own causal mask is float32 then.
        theirs, theirs_causal = both_masks(mask, causal, (query.shape[2], key.shape[2])), None
    attributes = {"is_causal": int(bool(theirs_causal))}
    attributes |= {} if scale is None else {"scale": scale}
    attributes |= {} if softcap is None else {"softcap": softcap}
    expected = onnx_attention(query, key, value, theirs, **attributes)
    out, _ = attention(query, key, value, mask=mask, causal=causal, scale=scale, softcap=softcap)
    # ONNX Runtime's float64 results agree with anybody's to float32's precision only.
    assert_near(out.astype(np.float32), expected, "float32", FACTOR)
