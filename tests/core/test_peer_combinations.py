"""Every option, alone and with others, against torch, JAX and ONNX's own vectors.

What a peer has by itself is computed by the peer; for everything together torch differentiates
the formulas, which `formula.places` tells what a query sees.
"""

import math
import pathlib

import numpy as np
import pytest

from attncli import attention, attention_backward
from attncli.core.extras import standard_slopes

from . import formula
from .drawn import LARGE, drawn
from .test_combinations import LARGE_CASES, SMALL_CASES, WAYS, assert_same, everything

pytestmark = pytest.mark.filterwarnings("ignore")  # what peers warn of is their business


def by_torch(torch, arrays, options):
    """Return what torch gives for the formulas in float64, with its own gradients, by name."""
    leaf = {
        name: torch.tensor(x, requires_grad=True)
        for name, x in {**arrays, **options}.items()
        if name in ("query", "key", "value", "sinks", "alibi")
    }
    N, heads, T_dec, H = leaf["query"].shape
    group = heads // leaf["key"].shape[1]
    key, value = (leaf[name].repeat_interleave(group, dim=1) for name in ("key", "value"))
    both = [formula.places(T_dec, key.shape[2], item, options) for item in range(N)]
    seen = torch.tensor(np.stack([x[0] for x in both])[:, None])
    distance = torch.tensor(np.stack([x[1] for x in both])[:, None])

    scores = leaf["query"] @ key.mT * options.get("scale", 1 / math.sqrt(H))
    if "softcap" in options:
        scores = options["softcap"] * torch.tanh(scores / options["softcap"])
    mask = options.get("mask")
    if mask is not None and mask.dtype == bool:
        seen = seen & torch.tensor(mask)
    elif mask is not None:
        seen = seen & torch.tensor(mask != -np.inf)
        leaf["mask"] = torch.tensor(np.where(mask == -np.inf, 0, mask), requires_grad=True)
        scores = scores + leaf["mask"]
    if "alibi" in leaf:
        scores = scores - leaf["alibi"][:, None, None] * distance
    scores = scores.masked_fill(~seen, -torch.inf)
    beside = torch.full((N, heads, T_dec, 1), -torch.inf, dtype=torch.float64)
    if "sinks" in leaf:
        beside = leaf["sinks"][:, None, None].expand(N, heads, T_dec, 1)
    full = torch.cat([scores, beside], dim=-1)
    blind = (full == -torch.inf).all(dim=-1, keepdim=True)
    full = full.masked_fill(blind, 0.0)
    weights = full.softmax(dim=-1).masked_fill(blind, 0.0)[..., :-1]
    logsumexp = full.logsumexp(dim=-1).masked_fill(blind[..., 0], -torch.inf)
    left = weights
    if "keep" in options:
        left = weights * torch.tensor(options["keep"]) / options.get("keep_prob", 1.0)
    out = left @ value
    loss = (out * torch.tensor(arrays["dout"])).sum()
    if arrays["dlogsumexp"] is not None:
        visible = logsumexp.masked_fill(blind[..., 0], 0.0)
        loss = loss + (visible * torch.tensor(arrays["dlogsumexp"])).sum()
    loss.backward()
    result = {"out": out, "weights": weights, "logsumexp": logsumexp}
    result = {name: x.detach().numpy() for name, x in result.items()}
    for name, x in leaf.items():
        grad = torch.zeros_like(x) if x.grad is None else x.grad
        result[f"d{name}"] = grad.numpy()
    if "dmask" in result:
        result["dmask"] = np.where(mask == -np.inf, 0, result["dmask"])
    return result


@pytest.mark.parametrize("seed", SMALL_CASES)
def test_torch_differentiates_any_options_together_to_the_same(seed):
    torch = pytest.importorskip("torch")
    _, arrays, options = drawn(seed)
    wanted = by_torch(torch, arrays, options)
    for engine, kept in WAYS:
        tile = (3, 2) if engine == "tiled" else None
        assert_same(everything(arrays, options, engine, kept, tile), wanted, kept)


@pytest.mark.parametrize("seed", LARGE_CASES)
def test_torch_differentiates_any_options_across_tiles_to_the_same(seed):
    torch = pytest.importorskip("torch")
    _, arrays, options = drawn(seed, LARGE)
    wanted = by_torch(torch, arrays, options)
    for engine, kept in WAYS:
        tile = (128, 64) if engine == "tiled" else None
        assert_same(everything(arrays, options, engine, kept, tile, threads=2), wanted, kept)


# What torch's flex_attention is told of a score: (score, item, head, query, key) -> score.
T_DEC, T_ENC, HEADS = 13, 29, 4
LENGTHS, IDS = np.array([29, 7]), (np.arange(T_DEC) // 5, np.arange(T_ENC) // 11)
SLOPES = standard_slopes(HEADS)


def _flex_rules(torch):
    """Return, for each option, ours and the rule that says the same to flex_attention."""
    slopes, lengths = torch.tensor(SLOPES), torch.tensor(LENGTHS)
    ids = [torch.tensor(x) for x in IDS]
    hidden = torch.tensor(-torch.inf, dtype=torch.float64)
    last = T_ENC - T_DEC
    return {
        "softcap": ({"softcap": 1.5}, lambda s, b, h, t, k: 1.5 * torch.tanh(s / 1.5)),
        "alibi": ({"alibi": SLOPES}, lambda s, b, h, t, k: s - slopes[h] * (t - k).abs()),
        "alibi at the end": (
            {"alibi": SLOPES, "align": "lower_right"},
            lambda s, b, h, t, k: s - slopes[h] * (t + last - k).abs(),
        ),
        "window": (
            {"window": (3, 2)},
            lambda s, b, h, t, k: torch.where((k >= t - 3) & (k <= t + 2), s, hidden),
        ),
        "lower right": (
            {"causal": "lower_right", "window": (5, 0)},
            lambda s, b, h, t, k: torch.where((k <= t + last) & (k >= t + last - 5), s, hidden),
        ),
        "segments": (
            {"segments": IDS}, lambda s, b, h, t, k: torch.where(ids[0][t] == ids[1][k], s, hidden)
        ),
        "lengths": (
            {"kv_lengths": LENGTHS}, lambda s, b, h, t, k: torch.where(k < lengths[b], s, hidden)
        ),
        "lengths at the end": (
            {"kv_lengths": LENGTHS, "causal": "lower_right"},
            lambda s, b, h, t, k: torch.where(
                (k < lengths[b]) & (k <= t + lengths[b] - T_DEC), s, hidden
            ),
        ),
    }  # fmt: skip


FLEX = [
    "softcap", "alibi", "alibi at the end", "window", "lower right", "segments", "lengths",
    "lengths at the end",
]  # fmt: skip


@pytest.mark.parametrize("rule", FLEX)
def test_flex_attention_of_torch_agrees_with_its_logsumexp(rule):
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention").flex_attention
    options, score_mod = _flex_rules(torch)[rule]
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, HEADS, T, 8)) for T in (T_DEC, T_ENC, T_ENC))
    with torch.no_grad():
        expected, logsumexp = flex(
            *map(torch.from_numpy, (query, key, value)), score_mod=score_mod, return_lse=True
        )
    out, cache = attention(query, key, value, **options)
    seen = np.isfinite(cache.logsumexp)
    assert np.array_equal(np.isfinite(logsumexp.numpy()), seen)
    np.testing.assert_allclose(out, expected.numpy(), atol=1e-12)
    np.testing.assert_allclose(cache.logsumexp[seen], logsumexp.numpy()[seen], atol=1e-6)


def test_every_rule_of_flex_attention_is_tried():
    torch = pytest.importorskip("torch")
    assert list(_flex_rules(torch)) == FLEX


@pytest.mark.parametrize("causal", [None, "upper_left"])
@pytest.mark.parametrize("sides", [(3, 2), (0, 4), (5, 0)])
@pytest.mark.parametrize("shape", [(13, 29), (29, 13), (131, 131)])
def test_the_window_of_jax_is_aligned_at_the_start(shape, sides, causal):
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    query, key = (rng.standard_normal((2, 3, T, 8)).astype(np.float32) for T in shape)
    out, cache = attention(query, key, key, window=sides, causal=causal)
    expected = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (query, key, key)),
        local_window_size=sides, is_causal=bool(causal),
    )  # fmt: skip
    seen = np.isfinite(cache.logsumexp)[..., None]  # JAX averages where we give 0
    np.testing.assert_allclose(
        np.where(seen, out, 0), np.where(seen, np.asarray(expected).swapaxes(1, 2), 0), atol=3e-6
    )


def test_the_lengths_of_jax_hide_keys_from_there_on():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    query, key = (rng.standard_normal((2, 3, T, 8)).astype(np.float32) for T in (5, 11))
    out, cache = attention(query, key, key, kv_lengths=[3, 11])
    gradients = attention_backward(np.ones_like(out), cache)
    expected, vjp = jax.vjp(
        lambda *x: jax.nn.dot_product_attention(
            *(jax.numpy.swapaxes(y, 1, 2) for y in x),
            key_value_seq_lengths=jax.numpy.array([3, 11]),
        ),
        query, key, key,
    )  # fmt: skip
    np.testing.assert_allclose(out, np.asarray(expected).swapaxes(1, 2), atol=3e-6)
    for ours, theirs in zip(gradients, vjp(jax.numpy.ones_like(expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6)


def onnx_vectors():
    """Yield the folders of the Attention vectors in the wheel of onnx."""
    try:
        import onnx
    except ImportError:
        return []
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data/node"
    return sorted(x for x in folder.glob("test_attention_*") if "expanded" not in x.name)


@pytest.mark.parametrize("folder", onnx_vectors() or [None], ids=lambda x: x and x.name[15:])
def test_the_vectors_of_onnx_come_out(folder):
    onnx = pytest.importorskip("onnx")
    if folder is None:
        pytest.skip("this wheel of onnx carries no vectors")
    model = onnx.load(folder / "model.onnx")
    (node,) = model.graph.node
    attributes = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}

    def read(path):
        return onnx.numpy_helper.to_array(onnx.load_tensor(path))

    places = ("Q", "K", "V", "mask", "past_key", "past_value", "lengths")
    names = [place for place, name in zip(places, node.input, strict=False) if name]
    given = {name: read(folder / f"test_data_set_0/input_{i}.pb") for i, name in enumerate(names)}
    expected = read(folder / "test_data_set_0/output_0.pb")
    query, key, value = (given[name] for name in "QKV")
    packed = query.ndim == 3
    if packed:
        heads = attributes["q_num_heads"], *2 * (attributes["kv_num_heads"],)
        query, key, value = (
            x.reshape(*x.shape[:2], n, -1).swapaxes(1, 2)
            for x, n in zip((query, key, value), heads, strict=True)
        )
    if "past_key" in given:
        key, value = (
            np.concatenate([given[past], x], axis=2)
            for past, x in (("past_key", key), ("past_value", value))
        )
    mask = given.get("mask")
    if mask is not None and mask.shape[-1] < key.shape[2]:  # keys beyond the mask are hidden
        beyond = [(0, 0)] * (mask.ndim - 1) + [(0, key.shape[2] - mask.shape[-1])]
        fill = False if mask.dtype == bool else -np.inf
        mask = np.pad(mask, beyond, constant_values=fill)
    causal = "upper_left" if attributes.get("is_causal") else None
    if causal and "past_key" in given:  # positions go on from the past: neither start nor end
        causal, band = None, np.tri(query.shape[2], key.shape[2], given["past_key"].shape[2])
        mask = np.where(band, 0 if mask is None else mask, -np.inf)
    out, _ = attention(
        query, key, value, mask=mask, causal=causal, kv_lengths=given.get("lengths"),
        scale=attributes.get("scale") or None, softcap=attributes.get("softcap") or None,
    )  # fmt: skip
    if packed:
        out = out.swapaxes(1, 2).reshape(expected.shape)
    tolerance = 2e-3 if expected.dtype == np.float16 else 2e-6
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
