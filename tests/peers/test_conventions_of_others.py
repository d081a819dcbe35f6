"""What torch, JAX and ONNX computed is read without a word on how they did it."""

from pathlib import Path

import numpy as np
import pytest

from attncli.checking.conventions.readings import find_convention

DRAWS = 204


# The Attention vectors of the ONNX project.


def vectors():
    """Give the folders of the vectors whose mask is as long as the keys."""
    onnx = pytest.importorskip("onnx")
    nodes = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
    for folder in sorted(nodes.glob("test_attention_*")):
        if not folder.name.endswith(("_expanded", "_padded_kv")):
            yield folder


def read_vector(folder):
    """Return the inputs and output as a dump has them, and the attributes."""
    import onnx
    from onnx import numpy_helper

    node = onnx.load(folder / "model.onnx").graph.node[0]
    arrays = {}
    for kind, names in (("input", node.input), ("output", node.output)):
        for number, name in enumerate(filter(None, names)):
            tensor = onnx.TensorProto()
            path = folder / "test_data_set_0" / f"{kind}_{number}.pb"
            tensor.ParseFromString(path.read_bytes())
            arrays[name] = numpy_helper.to_array(tensor)
    held = {
        "query": arrays["Q"],
        "key": arrays.get("present_key", arrays["K"]),
        "value": arrays.get("present_value", arrays["V"]),
        "out": arrays["Y"],
    }
    if "attn_mask" in arrays:
        held["mask"] = arrays["attn_mask"]
    past = arrays["past_key"].shape[2] if "past_key" in arrays else 0
    given = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
    return held, given, past


def test_the_vectors_of_onnx_are_read_with_the_right_name():
    names = []
    for folder in vectors():
        held, given, past = read_vector(folder)
        report = find_convention(held)
        assert report.passed, folder.name
        options = report.readings[0].options
        if "scale" in given:
            assert options["scale"] == pytest.approx(given["scale"], rel=1e-4)
        else:
            assert options["formula"] == "1/√H", folder.name
        if "softcap" in given:
            assert options["softcap"] == pytest.approx(given["softcap"], rel=1e-4)
        else:
            assert "softcap" not in options, folder.name
        if "is_causal" in given and past:
            assert options["window"] == [-1, past], folder.name
        else:
            assert ("causal" in options) == ("is_causal" in given), folder.name
        if given.get("q_num_heads", 1) > 1 and held["query"].ndim == 3:
            heads = f"of {given['q_num_heads']} heads"
            assert any(heads in one.described for one in report.readings), folder.name
        names.append(folder.name)
    assert len(names) == 63


# Drawn outputs.


def draw(seed):
    """Compute attention by one of the peers: what is held, its dtype, and how it was done."""
    rng = np.random.default_rng(seed)
    kv_heads, groups = int(rng.choice([1, 2, 3])), int(rng.choice([1, 1, 2, 3]))
    N, T_dec = int(rng.choice([1, 2, 3])), int(rng.choice([5, 7, 11, 13, 17, 29]))
    T_enc = T_dec + int(rng.choice([0, 0, 6, 11]))
    H = int(rng.choice([8, 16, 24, 32, 64]))
    dtype = str(rng.choice(["float32", "float32", "float16", "bfloat16"]))
    scale = None
    if rng.random() < 0.5:
        scale = float(rng.choice([0.1, 0.37, 18**-0.5, 0.25, round(rng.uniform(0.03, 0.6), 3)]))
    shapes = ((N, kv_heads * groups, T_dec, H), *[(N, kv_heads, T_enc, H)] * 2)
    arrays = [rng.normal(size=shape) for shape in shapes]
    peer = (by_sdpa, by_flex, by_jax)[seed % 3]
    held, meant = peer(rng, arrays, dtype, scale)
    meant["scale"] = H**-0.5 if scale is None else scale
    return held, dtype, meant


def numbers(tensor):
    import torch

    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def by_sdpa(rng, arrays, dtype, scale):
    torch = pytest.importorskip("torch")
    q, k, v = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays)
    lead, pattern = q.shape[:1], (q.shape[2], k.shape[2])
    how = str(rng.choice(["plain", "causal", "boolean", "float", "boolean of items"]))
    mask = None
    if how == "float":
        mask = torch.from_numpy(rng.normal(size=pattern)).to(q.dtype)
    elif how.startswith("boolean"):
        shape = (*lead, 1, *pattern) if how.endswith("items") else pattern
        mask = torch.from_numpy(rng.random(shape) < 0.6)
        mask[..., 0] = True
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, mask, is_causal=how == "causal", scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    held = dict(zip(("query", "key", "value", "out"), map(numbers, (q, k, v, out)), strict=True))
    meant = {"causal": "upper_left"} if how == "causal" else {}
    if mask is not None:
        held["mask"] = numbers(mask)
        meant["mask"] = "mask added" if how == "float" else "mask True = takes part"
    return held, meant


def by_flex(rng, arrays, dtype, scale):
    torch = pytest.importorskip("torch")
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    q, k, v = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in arrays)
    (N, heads, T_dec, _), T_enc = q.shape, k.shape[2]
    kinds = ["causal", "window", "softcap", "alibi", "lengths"]
    how = set(map(str, rng.choice(kinds, size=int(rng.integers(1, 3)), replace=False)))
    last = bool(rng.integers(2)) and "lengths" not in how
    ahead = T_enc - T_dec if last else 0
    left, cap = int(rng.integers(1, 5)), float(rng.choice([1.5, 2.0, 5.0]))
    slopes = torch.from_numpy(rng.uniform(0.05, 0.6, size=heads).astype(np.float32))
    lengths = torch.from_numpy(rng.integers(2, T_enc + 1, size=N))

    def score(value, n, head, i, j):
        if "softcap" in how:
            value = cap * torch.tanh(value / cap)
        return value - slopes[head] * (i + ahead - j).abs() if "alibi" in how else value

    def seen(n, head, i, j):
        kept = i >= 0
        if "causal" in how:
            kept = kept & (j <= i + ahead)
        if "window" in how:
            kept = kept & (i + ahead - j <= left) & (j - i - ahead <= left)
        return kept & (j < lengths[n]) if "lengths" in how else kept

    hides = how & {"causal", "window", "lengths"}
    blocks = flex.create_block_mask(seen, N, heads, T_dec, T_enc, device="cpu") if hides else None
    out = flex.flex_attention(
        q, k, v, score_mod=score, block_mask=blocks, scale=scale, enable_gqa=heads != k.shape[1]
    )
    held = dict(zip(("query", "key", "value", "out"), map(numbers, (q, k, v, out)), strict=True))
    meant = {}
    if "causal" in how:
        meant["causal"] = "lower_right" if ahead else "upper_left"
    if "window" in how:
        meant["window"] = [left, 0 if "causal" in how else left]
    if "softcap" in how:
        meant["softcap"] = cap
    if "alibi" in how:
        held["alibi"], meant["alibi"] = slopes.numpy(), "ALiBi"
    if "lengths" in how:
        held["kv_lengths"], meant["lengths"] = lengths.numpy(), "cache_seqlens"
    return held, meant


def by_jax(rng, arrays, dtype, scale):
    jax = pytest.importorskip("jax")
    q, k, v = (jax.numpy.asarray(x.swapaxes(1, 2)).astype(dtype) for x in arrays)
    (N, T_dec, heads, _), T_enc = q.shape, k.shape[1]
    how = str(rng.choice(["plain", "causal", "window", "lengths", "mask", "bias"]))
    held, meant, options = {}, {}, {}
    if how == "causal":
        options["is_causal"], meant["causal"] = True, "upper_left"
    elif how == "window":
        options["local_window_size"] = (int(rng.integers(5)), 1 + int(rng.integers(4)))
        meant["window"] = list(options["local_window_size"])
    elif how == "lengths":
        held["kv_lengths"], meant["lengths"] = rng.integers(2, T_enc + 1, size=N), "cache_seqlens"
        options["key_value_seq_lengths"] = jax.numpy.asarray(held["kv_lengths"])
    elif how == "mask":
        held["mask"] = rng.random((N, 1, T_dec, T_enc)) < 0.6
        held["mask"][..., 0] = True
        options["mask"], meant["mask"] = jax.numpy.asarray(held["mask"]), "mask True = takes part"
    elif how == "bias":
        bias = jax.numpy.asarray(rng.normal(size=(1, heads, T_dec, T_enc))).astype(dtype)
        held["mask"], options["bias"], meant["mask"] = wide(bias), bias, "mask added"
    out = jax.nn.dot_product_attention(q, k, v, scale=scale, **options)
    tensors = zip(("query", "key", "value", "out"), (q, k, v, out), strict=True)
    return {**held, **{name: wide(x) for name, x in tensors}}, meant


def wide(x):
    return np.asarray(x.astype("float32") if x.dtype == "bfloat16" else x)


def is_meant(options, meant, keys, dtype):
    """Whether a reading says what was done.

    A window wider than the keys says nothing, and in half precision neither does a softcap that is
    large beside the scores.
    """
    if abs(options["scale"] / meant["scale"] - 1) > 0.03:
        return False
    cap = meant.get("softcap", 0)
    faint = cap > 2 and dtype != "float32" and "softcap" not in options
    if abs(options.get("softcap", 0) - cap) > 0.05 * cap and not faint:
        return False
    for name in ("mask", "alibi", "lengths"):
        said = str(options.get(name)).partition(", aligned")[0]
        if said != str(meant.get(name)):
            return False
    if max(meant.get("window", [0])) + 2 >= keys:
        return True
    return all(options.get(name) == meant.get(name) for name in ("causal", "window"))


@pytest.mark.filterwarnings("ignore")  # the peers' own
@pytest.mark.parametrize("seed", range(DRAWS))
def test_a_drawn_output_is_read_and_with_one_wrong_row_is_not(seed):
    held, dtype, meant = draw(seed)
    report = find_convention(held, dtype)
    assert report.passed, (meant, report.nearest)
    readings = [one.options for one in report.readings]
    keys = held["key"].shape[1 if seed % 3 == 2 else 2]
    assert any(is_meant(one, meant, keys, dtype) for one in readings), (meant, readings)
    wrong = held["out"].copy()
    rng = np.random.default_rng(seed)
    n, axis = int(rng.integers(len(wrong))), 1 if seed % 3 == 2 else 2
    row = [n, 0, 0]
    row[axis] = int(rng.integers(wrong.shape[axis]))
    if not wrong[tuple(row)].any():
        return  # a row that sees no key
    wrong[tuple(row)] *= wrong.dtype.type(1.1)
    assert not find_convention({**held, "out": wrong}, dtype).passed
