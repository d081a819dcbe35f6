"""``attn convention``."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.core import attention
from attncli.core.extras import standard_slopes
from attncli.core.rotary import rotary


def dump(name, change=lambda out: out, **options):
    """Save inputs and the output that was computed from them."""
    rng = np.random.default_rng(5)
    sizes = {"q": (2, 3, 7, 4), "k": (2, 3, 7, 4), "v": (2, 3, 7, 5)}
    given = {name: rng.normal(size=size) for name, size in sizes.items()}
    out, _ = attention(*given.values(), **options)
    np.savez(name, **given, out=change(out))


def spoilt(out):
    out[1, 2, 3:5] *= 1.1
    return out


def test_a_reading_is_a_finished_command(attn, folder):
    dump("x.npz", causal="upper_left", window=2, scale=0.7)
    result = attn("convention", "x.npz")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    words = "causal, window left 2 (right 0), scale 0.7, layout (N, heads, T, H)  within "
    assert lines[0].startswith(words)
    assert lines[1] == "    attn forward x.npz --scale 0.7 --causal --window 2"
    assert attn(*lines[1].split()[1:]).code == 0


def test_what_holds_for_a_part_alone_says_where_it_does_not(attn, folder):
    dump("x.npz", spoilt)
    result = attn("convention", "x.npz")
    assert result.code == 1
    first, second = result.out.splitlines()[:2]
    assert first == "no reading leads to the results"
    words = "the nearest: scale 1/√H, layout (N, heads, T, H) holds for all but "
    assert second == f"{words}item 1, head 2, rows 3-4 (95.2 % of rows)"


def test_options_restrict_the_search(attn, folder):
    dump("x.npz", causal="upper_left", window=2)
    assert attn("convention", "x.npz", "--causal", "--window", 2).code == 0
    assert attn("convention", "x.npz", "--causal", "--window", 3).code == 1
    assert attn("convention", "x.npz", "--scale", 0.6).code == 1
    assert attn("convention", "x.npz", "--softcap", 9).code == 1


def test_json_of_one_file_and_of_several(attn, folder):
    dump("x.npz", causal="upper_left", scale=0.7)
    dump("y.npz", spoilt)
    result = attn("convention", "x.npz", "--json")
    assert (result.code, result.json["passed"]) == (0, True)
    (reading,) = result.json["readings"]
    assert reading["options"]["causal"] == "upper_left"
    assert reading["options"]["scale"] == 0.7
    assert reading["fails"] == []
    assert 0 <= reading["distance"] < 1e-12
    result = attn("convention", "x.npz", "y.npz", "--json")
    assert (result.code, result.json["passed"]) == (1, False)
    assert [one["passed"] for one in result.json["files"]] == [True, False]
    where = {"items": [[1, 1]], "heads": [[2, 2]], "rows": [[3, 4]]}
    assert result.json["files"][1]["nearest"]["fails"] == [where]
    assert result.json["files"][1]["readings"] == []


def test_several_files_have_a_line_each_and_one_verdict(attn, folder):
    dump("x.npz", causal="upper_left", scale=0.7)
    dump("y.npz", spoilt)
    result = attn("convention", "x.npz", "y.npz")
    assert result.code == 1
    first, second, verdict = result.out.splitlines()
    assert first == "x.npz: causal, scale 0.7, layout (N, heads, T, H)"
    assert second.startswith("y.npz: no reading; scale 1/√H, ")
    assert verdict == "1 of 2 files have a reading"
    result = attn("convention", "x.npz", "x.npz")
    assert (result.code, result.out.splitlines()[-1]) == (0, "2 of 2 files have a reading")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_of_few_digits_are_judged_as_what_they_are(attn, folder, dtype):
    dump("x.npz", lambda out: out.astype(dtype).astype(np.float64), scale=0.7)
    result = attn("convention", "x.npz")
    assert result.code == 0
    assert f"the results hold {dtype} numbers, and are judged at that precision" in result.out


def test_an_array_that_is_not_used_is_named(attn, folder):
    dump("x.npz")
    with np.load("x.npz") as held:
        np.savez("x.npz", **held, past_length=np.array(3))
    assert "not used: past_length" in attn("convention", "x.npz").out


def test_a_sample(attn):
    result = attn("convention", SAMPLES / "minilm_qkv.npz")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("scale 1/√H, layout (N, heads, T, H)")


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_a_terminal(attn, folder, columns):
    dump("x.npz", spoilt)
    lines = attn("convention", "x.npz", columns=columns).out.splitlines()
    assert max(map(len, lines)) <= columns


def test_a_mean_of_all_values_is_no_reading_by_a_scale_of_0(attn, folder):
    dump("x.npz", lambda out: np.full_like(out, 0.25))
    with np.load("x.npz") as held:
        given = dict(held)
    mean = np.broadcast_to(given["v"].mean(axis=-2, keepdims=True), given["v"].shape)
    np.savez("mean.npz", **{**given, "out": mean})
    result = attn("convention", "mean.npz")
    assert result.code == 1
    assert "every key that is seen counts the same" in result.out
    # Where the queries are zeros it has a reason.
    np.savez("zeros.npz", **{**given, "q": np.zeros_like(given["q"]), "out": mean})
    assert attn("convention", "zeros.npz").code == 0


@pytest.mark.parametrize("name", ["mask", "attn_mask", "attn_bias"])
def test_a_mask_that_is_added_may_hide_by_minus_infinity_under_any_name(attn, folder, name):
    rng = np.random.default_rng(3)
    mask = np.where(rng.random((7, 7)) < 0.3, -np.inf, rng.normal(size=(7, 7)))
    mask[:, 0] = 0.5
    dump("x.npz", mask=mask)
    with np.load("x.npz") as held:
        np.savez("x.npz", **held, **{name: mask})
    result = attn("convention", "x.npz")
    assert result.code == 0
    assert "mask added" in result.out


@pytest.mark.parametrize("masked", [False, True])
def test_an_output_of_zeros_is_nothing_to_judge(attn, folder, masked):
    dump("x.npz", lambda out: 0 * out)
    if masked:
        with np.load("x.npz") as held:
            np.savez("x.npz", **held, mask=np.zeros((7, 7), bool))
    result = attn("convention", "x.npz")
    assert (result.code, result.out) == (2, "")
    assert "error: x.npz: out holds no finite number but 0" in result.err


def test_a_file_that_cannot_be_judged_leaves_the_others_to_be(attn, folder):
    dump("x.npz", causal="upper_left", scale=0.7)
    dump("y.npz", spoilt)
    Path("z.npz").write_bytes(b"no archive")
    result = attn("convention", "z.npz", "x.npz", "none.npz")
    assert result.code == 2
    first, second, third, verdict = result.out.splitlines()
    assert first.startswith("z.npz: not judged: z.npz")
    assert second == "x.npz: causal, scale 0.7, layout (N, heads, T, H)"
    assert third.startswith("none.npz: not judged: none.npz")
    assert verdict == "1 of 3 files have a reading; 2 could not be judged"
    assert attn("convention", "z.npz", "x.npz", "y.npz").code == 1
    result = attn("convention", "z.npz", "x.npz", "--json")
    assert (result.code, result.json["passed"]) == (2, False)
    assert [one["passed"] for one in result.json["files"]] == [False, True]
    assert result.json["files"][0]["error"].startswith("z.npz")
    assert (attn("convention", "z.npz").code, attn("convention", "z.npz").out) == (2, "")


def test_a_layout_restricts_the_search(attn, folder):
    rng = np.random.default_rng(5)
    q, k, v = rng.normal(size=(3, 2, 7, 7, 4))
    out, _ = attention(*(x.swapaxes(1, 2) for x in (q, k, v)), scale=0.7)
    np.savez("x.npz", q=q, k=k, v=v, out=out)
    right = "q=N,T,heads,H,k=N,T,heads,H,v=N,T,heads,H,out=N,heads,T,H"
    for layout in ((), ("--layout", right)):
        assert attn("convention", "x.npz", *layout).code == 0
    for wrong in ("N,T,heads,H", "N,heads,T,H", "T,N,heads,H"):
        assert attn("convention", "x.npz", "--layout", wrong).code == 1
    result = attn("convention", "x.npz", "--layout", "N,T,H")
    assert result.code == 2
    assert "--layout N,T,H does not fit the shapes: query (2, 7, 7, 4), " in result.err


def tensors(heads=(4, 2), T_dec=11, T_enc=13, H=8, H_v=5):
    rng = np.random.default_rng(7)
    shapes = {"query": (2, heads[0], T_dec, H), "key": (2, heads[1], T_enc, H)}
    shapes["value"] = (2, heads[1], T_enc, H_v)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


SQUARE = {"T_enc": 11}
SEEN = np.random.default_rng(1).random((11, 13)) < 0.6
SEEN[:, 0] = True
PADDING = np.arange(13) < np.array([[9], [13]])
KINDS = {
    "plain": {},
    "scale": {"scale": 0.7},
    "causal": {"causal": "upper_left", "softcap": 1.7},
    "lower right": {"causal": "lower_right", "window": 3},
    "window": {"window": (3, 2), "align": "lower_right"},
    "one sink": {"sinks": np.zeros(4)},
    "sinks": {"sinks": np.array([0.5, -1.0, 2.0, 0.25])},
    "sinks of the file": {"sinks": np.array([0.5, -1.0, 2.0, 0.25]), "held": ["sinks"]},
    "slopes of the file": {
        "alibi": np.array([0.5, 0.25, 0.2, 0.1]),
        "align": "lower_right",
        "held": ["alibi"],
    },
    "lengths": {"kv_lengths": np.array([7, 13]), "held": ["kv_lengths"]},
    "boolean mask": {"mask": SEEN, "held": ["mask"]},
    "mask by another name": {"mask": SEEN, "held": ["attn_mask"]},
    "mask of numbers": {"mask": SEEN, "held": ["mask"], "as": np.int32},
    "added mask": {"mask": np.where(SEEN, 0.5, -np.inf), "held": ["bias"]},
    "padding": {"mask": PADDING[:, None, None], "held": ["attention_mask"], "shown": PADDING},
    "halves": {"rotary": {}, "causal": "lower_right"},
    "interleaved": {"rotary": {"style": "interleaved", "base": 500000.0}},
    "width": {"rotary": {"width": 4, "base": 1000000.0}, "sizes": SQUARE, "causal": "upper_left"},
    "N T heads H": {"order": "N T heads H", "causal": "upper_left", "sizes": SQUARE},
    "T N heads H": {"order": "T N heads H"},
    "N T heads·H": {"order": "N T heads·H", "scale": 0.3},
    "another output": {"order": ("N heads T H", "N heads T H", "N T heads H")},
    "another key": {"order": ("N heads T H", "N T heads H", "N heads T H")},
    "packed": {"order": "total heads H", "cu_seqlens": np.array([0, 3, 8, 11]), "sizes": SQUARE,
               "causal": "lower_right", "held": ["cu_seqlens"]},
    "output by another name": {"scale": 0.7, "renamed": {"out": "attn_output"}},
    "lengths of its own": {"kv_lengths": np.array([7, 13])},
    "slopes of its own": {"alibi": standard_slopes(4), "align": "lower_right", "scale": 0.3},
    "logarithms": {"causal": "upper_left", "held": ["lse"]},
    "float16": {"scale": 0.7, "causal": "upper_left", "dtype": "float16"},
}  # fmt: skip


def in_order(x, order):
    x = {"N heads T H": x, "N T heads H": x.swapaxes(1, 2)}.get(order, x)
    if order == "T N heads H":
        return x.transpose(2, 0, 1, 3)
    if order == "total heads H":
        return x[0].swapaxes(0, 1)
    return x.swapaxes(1, 2).reshape(2, x.shape[2], -1) if "·" in order else x


def dump_kind(kind):
    """Save a dump of a kind, without a word on how it was computed."""
    how = dict(KINDS[kind])
    order, held = how.pop("order", "N heads T H"), how.pop("held", [])
    orders = (order,) * 3 if isinstance(order, str) else order
    given = tensors(**how.pop("sizes", {}))
    given = {name: x.astype(how.get("dtype", x.dtype)) for name, x in given.items()}
    given = {name: x[:1] for name, x in given.items()} if "packed" in kind else given
    _, renamed, shown = how.pop("dtype", None), how.pop("renamed", {}), how.pop("shown", None)
    read, seen, turn = how.pop("as", None), how.get("mask"), how.pop("rotary", None)
    used = dict(given)
    if turn is not None:
        ahead = 2 if how.get("causal") == "lower_right" else 0
        used["query"] = rotary(used["query"], ahead + np.arange(11), **turn)
        used["key"] = rotary(used["key"], **turn)
    out, cache = attention(**used, **how)
    saved = dict(zip(given, map(in_order, given.values(), (*orders[:2], orders[1])), strict=True))
    saved[renamed.get("out", "out")] = in_order(out, orders[2])
    for name in held:
        beside = {"lse": cache.logsumexp, **dict.fromkeys(("attn_mask", "bias", "mask"), seen)}
        value = beside[name] if name in beside else how.get(name, shown)
        saved[name] = value if read is None else value.astype(read)
    np.savez("x.npz", **saved)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_is_printed_agrees_with_the_file(attn, folder, kind):
    dump_kind(kind)
    result = attn("convention", "x.npz")
    assert result.code == 0, result.out
    command = next(x for x in result.out.splitlines() if x.startswith("    attn forward x.npz"))
    again = attn(*shlex.split(command)[1:])
    assert again.code == 0, (command, again.out, again.err)
    assert "agrees with" in again.out
