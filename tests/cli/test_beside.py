"""The arrays beside query, key, value and mask, in files and on the command line."""

import json

import numpy as np
import pytest

import attncli
from attncli.core.extras import standard_slopes

N, HEADS, KV_HEADS, T, T_ENC, H, H_V = 2, 6, 3, 5, 7, 4, 11
PUBLIC = ("causal", "align", "window", "scale", "softcap", "keep_prob")
GRADIENTS = ("dquery", "dkey", "dvalue", "dsinks", "dalibi", "dmask")


def drawn(T_dec=T, T_enc=T_ENC, seed=3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    arrays = {
        "query": rng.normal(size=(N, HEADS, T_dec, H)),
        "key": rng.normal(size=(N, KV_HEADS, T_enc, H)),
        "value": rng.normal(size=(N, KV_HEADS, T_enc, H_V)),
        "dout": rng.normal(size=(N, HEADS, T_dec, H_V)),
    }
    return {name: x.astype(dtype) for name, x in arrays.items()}


def tensors(result):
    assert result.code == 0, result.err
    return {
        name: np.array(x["data"], dtype=x["dtype"]) for name, x in result.json["tensors"].items()
    }


def expected(arrays, dlogsumexp=None, **options):
    """Results and gradients by the public functions."""
    q, k, v, dout = (arrays[name] for name in ("query", "key", "value", "dout"))
    out, cache = attncli.attention(q, k, v, **options)
    found = dict(zip(GRADIENTS, attncli.attention_backward(dout, cache, dlogsumexp), strict=False))
    found |= {"out": out, "logsumexp": cache.logsumexp}
    beside = {"dsinks": cache.dsinks, "dalibi": cache.dalibi, "dmask": cache.dmask}
    return found | {name: x for name, x in beside.items() if x is not None}


def assert_same(found, wanted, **tolerance):
    assert {name for name in GRADIENTS if name in found} == {*GRADIENTS} & {*wanted}
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, err_msg=name, **{"atol": 1e-13} | tolerance)


rng = np.random.default_rng(5)
SINKS, SLOPES = rng.normal(size=HEADS), rng.random(HEADS)
KEEP = rng.random((N, HEADS, T, T_ENC)) < 0.8
IDS_DEC, IDS_ENC = (
    np.array([0, 0, 1, 1, 2]),
    np.array([[1, 0, 0, 1, 2, 1, 2], [0, 0, 1, 1, 1, 2, 2]]),
)
MASK = rng.normal(size=(T, T_ENC))

# What a file holds, the options beside it, and the same for the public functions.
IN_FILE = {
    "sinks": ({"sinks": SINKS}, [], {"sinks": SINKS}),
    "alibi": ({"alibi": SLOPES}, ["--causal"], {"alibi": SLOPES, "causal": "upper_left"}),
    "alibi_slopes": (
        {"alibi_slopes": SLOPES}, ["--causal-align", "lower-right"],
        {"alibi": SLOPES, "align": "lower_right"},
    ),
    "segments": (
        {"segments_dec": IDS_DEC, "segments_enc": IDS_ENC}, ["--window", "2,1"],
        {"segments": (IDS_DEC, IDS_ENC), "window": (2, 1)},
    ),
    "cu_seqlens": (
        {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 3, 7]},
        ["--causal", "--causal-align", "lower_right"],
        {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 3, 7], "causal": "lower_right"},
    ),
    "flash-attention's names": (
        {"cu_seqlens_q": [0, 2, 5], "cu_seqlens_k": [0, 3, 7], "seqused_k": [1, 4]}, [],
        {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 3, 7], "kv_lengths": [1, 4]},
    ),
    "kv_lengths": ({"kv_lengths": [7, 3]}, [], {"kv_lengths": [7, 3]}),
    "cache_seqlens": (
        {"cache_seqlens": np.array([6, 7], np.int32)},
        ["--causal", "--causal-align", "lower-right"],
        {"kv_lengths": [6, 7], "causal": "lower_right"},
    ),
    "keep": (
        {"keep": KEEP}, ["--keep-prob", 0.8], {"keep": KEEP, "keep_prob": 0.8},
    ),
    "a floating mask": ({"mask": MASK}, ["--softcap", 2], {"mask": MASK, "softcap": 2.0}),
    "all": (
        {
            "sinks": SINKS, "alibi": SLOPES, "keep": KEEP, "kv_lengths": [7, 6], "mask": MASK,
            "segments_dec": np.zeros(T, int), "segments_enc": np.array([0, 0, 1, 0, 0, 0, 0]),
        },
        ["--keep-prob", 0.8, "--window", "-1,3", "--scale", 0.3],
        {
            "sinks": SINKS, "alibi": SLOPES, "keep": KEEP, "kv_lengths": [7, 6], "mask": MASK,
            "segments": (np.zeros(T, int), np.array([0, 0, 1, 0, 0, 0, 0])),
            "keep_prob": 0.8, "window": (-1, 3), "scale": 0.3,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["direct", "tiled", "reference"])
@pytest.mark.parametrize("case", IN_FILE)
def test_a_file_is_computed_with_the_arrays_it_holds(attn, folder, case, engine):
    held, words, options = IN_FILE[case]
    np.savez("in.npz", **drawn(), **held)
    found = tensors(attn("backward", "in.npz", *words, "--engine", engine, "--json"))
    assert_same(found, expected(drawn(), **options), atol=1e-12)


@pytest.mark.parametrize("case", IN_FILE)
def test_a_run_file_holds_them_for_every_command(attn, folder, case):
    held, words, _ = IN_FILE[case]
    given = drawn()
    np.savez("in.npz", **given, **held)
    first = attn("backward", "in.npz", *words, "-o", "run.npz", "--json")
    run = dict(np.load("run.npz"))

    again = attn("backward", "run.npz", "--json")
    assert again.json["tensors"] == first.json["tensors"]
    options = {name: again.json[name] for name in PUBLIC if name in again.json}
    assert options == {name: first.json[name] for name in PUBLIC if name in first.json}

    judged = ["out", "weights", "logsumexp", "dquery", "dkey", "dvalue"]
    judged += [name for name in ("dsinks", "dalibi") if name in run]
    only = [word for name in judged for word in ("--only", name)]
    report = attn("compare", "run.npz", "run.npz", *only, "--budget", "run.npz", "--json")
    assert report.code == 0, report.err
    assert all(one["budget"] is not None for one in report.json["tensors"])

    forgetful = {name: x for name, x in run.items() if name not in ("weights", "out")}
    np.savez("less.npz", **forgetful)
    for item, head in np.ndindex(N, HEADS):
        place = ["--item", item, "--head", head, "--json"]
        for part, rows in ([], slice(None)), (["--rows", "1:4"], slice(1, 4)):
            shown = attn("show-weights", "less.npz", *place, *part).json["matrices"][0]["weights"]
            np.testing.assert_allclose(shown, run["weights"][item, head, rows], atol=1e-14)
        step = (item * HEADS + head) % T  # every one is some pair's
        traced = attn("trace", "run.npz", *place, "--step", step).json["trace"]
        steps = {one["name"]: np.array(one["data"]) for one in traced}
        for name in ("out", "dquery"):
            np.testing.assert_allclose(steps[name], run[name][item, head, step], atol=1e-13)


# What short options say.

ON_THE_LINE = {
    "one sink": (["--sinks", 0], {"sinks": np.zeros(HEADS)}),
    "sinks": (["--sinks", "0,1,2,-1,-2,.5"], {"sinks": [0, 1, 2, -1, -2, 0.5]}),
    "alibi": (["--alibi"], {"alibi": standard_slopes(HEADS)}),
    "segments": (
        ["--segments", "1,3,3/2,4,1"],
        {"segments": (np.repeat(range(3), [1, 3, 3]), np.repeat(range(3), [2, 4, 1]))},
    ),
    "cu_seqlens": (["--cu-seqlens", "0,3,7"], {"cu_seqlens": [0, 3, 7]}),
    "cu_seqlens_k": (
        ["--cu-seqlens", "0,3,7", "--cu-seqlens-k", "0,6,7", "--kv-lengths", "4,1"],
        {"cu_seqlens": [0, 3, 7], "cu_seqlens_k": [0, 6, 7], "kv_lengths": [4, 1]},
    ),
    "kv_lengths": (["--kv-lengths", "3,7"], {"kv_lengths": [3, 7]}),
    "one length": (["--kv-lengths", "3"], {"kv_lengths": [3, 3]}),
}


@pytest.mark.parametrize("case", ON_THE_LINE)
def test_a_short_option_says_an_array(attn, folder, case):
    words, options = ON_THE_LINE[case][0], dict(ON_THE_LINE[case][1])
    arrays = drawn(T_dec=7)
    np.savez("in.npz", **arrays)
    found = tensors(attn("backward", "in.npz", *words, "-o", "run.npz", "--json"))
    assert_same(found, expected(arrays, **options))
    assert tensors(attn("backward", "run.npz", "--json")).keys() == found.keys()
    if "segments" in options:
        dec, enc = options.pop("segments")
        options |= {"segments_dec": dec, "segments_enc": enc}
    for name, x in options.items():
        np.testing.assert_array_equal(np.load("run.npz")[name], x)


@pytest.mark.parametrize("layer", ["time-attention", "scaled-dot-product"])
@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (["--kv-lengths", "5,3"], {"N": 2, "T_dec": 5, "T_enc": 5}),
        (["--segments", "3,4,5"], {"N": 3, "T_dec": 12, "T_enc": 12}),
        (["--segments", "3,4/1,8"], {"N": 3, "T_dec": 7, "T_enc": 9}),
        (["--kv-lengths", "5,8"], {"N": 2, "T_dec": 8, "T_enc": 8}),
        (["--cu-seqlens", "0,3,7"], {"N": 1, "T_dec": 7, "T_enc": 7}),
        (["--cu-seqlens", "0,3,7", "--cu-seqlens-k", "0,1,9"], {"N": 1, "T_dec": 7, "T_enc": 9}),
        (["--cu-seqlens", "0,3,7", "--N", 2], {"N": 2, "T_dec": 7, "T_enc": 7}),
    ],
)
def test_random_tensors_have_the_sizes_that_an_option_needs(attn, layer, words, sizes):
    result = attn("forward", "--layer", layer, *words, "--json")
    assert result.json["sizes"].items() >= sizes.items()


def test_dropout_of_random_tensors_is_drawn_by_the_seed(attn):
    command = ["backward", "--T", 30, "--H", 2, "--N", 2, "--keep-prob", 0.75, "--json"]
    found = tensors(attn(*command))
    assert found["keep"].dtype == bool
    assert abs(found["keep"].mean() - 0.75) < 0.03
    query, states = found["hs_dec"], found["hs_enc"]
    out, cache = attncli.attention(
        query, states, states, scale=1.0, keep=found["keep"], keep_prob=0.75
    )
    np.testing.assert_allclose(found["out"], out, atol=1e-13)
    _, dkey, dvalue = attncli.attention_backward(found["dout"], cache)
    np.testing.assert_allclose(found["dhs_enc"], dkey + dvalue, atol=1e-13)
    assert (tensors(attn(*command))["keep"] == found["keep"]).all()
    assert (tensors(attn(*command, "--seed", 1))["keep"] != found["keep"]).any()


def test_one_decoder_step_takes_them_too(attn, folder):
    rng = np.random.default_rng(0)
    hs, h = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 3))
    keep = rng.random((2, 7)) < 0.7
    np.savez("in.npz", hs=hs, h=h, keep=keep, kv_lengths=[3, 6], sinks=[0.5])
    found = tensors(attn("forward", "in.npz", "--keep-prob", 0.7, "--json"))
    out, cache = attncli.attention(
        h[:, None], hs, hs, scale=1.0, keep=keep[:, None], keep_prob=0.7, kv_lengths=[3, 6],
        sinks=[0.5],
    )  # fmt: skip
    np.testing.assert_allclose(found["out"], out[:, 0], atol=1e-14)
    np.testing.assert_allclose(found["logsumexp"], cache.logsumexp[:, 0])


def test_lengths_of_sequences_are_no_items(attn, folder):
    """As many sequences as there are items: each item has all of their lengths."""
    words = ["--N", 2, "--cu-seqlens", "0,3,7", "--kv-lengths", "1,4"]
    attn("forward", *words, "-o", "run.npz", "-q")
    run = dict(np.load("run.npz"))
    np.savez("less.npz", **{x: run[x] for x in run if x not in ("weights", "out")})
    for item in range(2):
        shown = attn("show-weights", "less.npz", "--item", item, "--json").json
        weights = shown["matrices"][0]["weights"]
        np.testing.assert_allclose(weights, run["weights"][item], atol=1e-14)


@pytest.mark.parametrize("layer", ["luong", "bahdanau", "multi-head"])
@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--kv-lengths", "5,3"], np.arange(5) < np.array([[[5]], [[3]]])),
        (["--segments", "2,3"], np.equal.outer([0, 0, 1, 1, 1], [0, 0, 1, 1, 1])),
        (
            ["--cu-seqlens", "0,1,5", "--causal", "--window", 2],
            np.equal.outer([0, 1, 1, 1, 1], [0, 1, 1, 1, 1]) & np.tri(5, dtype=bool)
            & ~np.tri(5, k=-3, dtype=bool),
        ),
    ],
)  # fmt: skip
def test_layers_with_weights_take_what_hides_keys(attn, folder, layer, words, seen):
    sizes = ["--layer", layer, "--N", 2, "--T", 5, "--H", 4]
    run = tensors(attn("backward", *sizes, *words, "-o", "run.npz", "--json"))
    names = [name for name in run if f"d{name}" in run]
    seen = np.broadcast_to(seen, (2, 5, 5))
    mask = seen[:, None] if layer == "multi-head" else seen
    np.savez("in.npz", **{name: run[name] for name in names}, dout=run["dout"], mask=mask)
    by_mask = tensors(attn("backward", "in.npz", "--layer", layer, "--heads", 2, "--json")
                      if layer == "multi-head" else
                      attn("backward", "in.npz", "--layer", layer, "--json"))  # fmt: skip
    for name in ("out", "weights", *(f"d{name}" for name in names)):
        np.testing.assert_allclose(run[name], by_mask[name], atol=1e-13, err_msg=name)
    for step in range(5):
        traced = attn("trace", "run.npz", "--item", 1, "--step", step, "--json").json["trace"]
        (weights,) = (one["data"] for one in traced if one["name"] == "weights")
        want = run["weights"][1, 0, step] if layer == "multi-head" else run["weights"][1, step]
        np.testing.assert_allclose(weights, want, atol=1e-14)


def test_a_budget_takes_them_as_options(attn, folder):
    arrays = drawn(T_dec=7, dtype=np.float32)
    np.savez("in.npz", **arrays)
    words = ["--sinks", "0,1,2,0,1,2", "--alibi", "--kv-lengths", "3,7", "--causal"]
    attn("backward", "in.npz", *words, "-o", "run.npz", "-q")
    only = [word for name in ("out", "dkey", "dsinks") for word in ("--only", name)]
    command = ["compare", "run.npz", "run.npz", *only, "--budget", "in.npz"]
    assert attn(*command, *words).code == 0
    assert attn(*command, *words[:-1]).code == 1
    assert attn(*command, "--sinks", 0, *words[2:]).code == 1
    result = attn("compare", "in.npz", "in.npz", "--kv-lengths", 3)
    assert result.err == (
        "error: --kv-lengths: has a meaning with --budget only\nhint:  attn compare in.npz in.npz\n"
    )


@pytest.mark.parametrize("rows", [[], ["--rows", "1:3"]])
def test_the_weights_that_states_imply_are_those_of_a_run(attn, folder, rows):
    """The book's states are cut by item and by step before anything is computed."""
    rng = np.random.default_rng(1)
    held = {
        "hs_enc": rng.normal(size=(3, 7, 5)), "hs_dec": rng.normal(size=(3, 4, 5)),
        "sinks": np.array([0.3]), "alibi": np.array([0.2]), "kv_lengths": np.array([7, 2, 5]),
        "segments_dec": rng.integers(0, 2, (3, 4)), "segments_enc": rng.integers(0, 2, 7),
        "keep": rng.random((3, 4, 7)) < 0.5, "enc_mask": rng.random((3, 7)) < 0.9,
    }  # fmt: skip
    np.savez("in.npz", **held)
    words = ["--causal-align", "lower-right", "--window", 4, "--keep-prob", 0.5]
    attn("forward", "in.npz", *words, "-o", "run.npz")
    run = dict(np.load("run.npz"))
    np.savez("less.npz", **{x: run[x] for x in run if x not in ("weights", "out")})
    for item in range(3):
        result = attn("show-weights", "less.npz", "--item", item, *rows, "--json")
        want = run["weights"][item][slice(1, 3) if rows else slice(None)]
        np.testing.assert_allclose(result.json["matrices"][0]["weights"], want, atol=1e-14)


# Log-sum-exp, as a result and its gradient.


def test_dlogsumexp_goes_into_backward(attn, folder):
    arrays, rows = drawn(), np.random.default_rng(8).normal(size=(N, HEADS, T))
    np.savez("in.npz", **arrays, sinks=SINKS, dlogsumexp=rows)
    result = attn("backward", "in.npz", "-o", "run.npz", "--json")
    wanted = expected(arrays, rows, sinks=SINKS)
    assert_same(tensors(result), wanted)
    assert_same(tensors(attn("backward", "run.npz", "--json")), wanted)
    assert "dlogsumexp  (2, 6, 5) = (N, heads, T_dec)" in attn("backward", "in.npz").out
    only = [word for name in ("dquery", "dkey", "dsinks") for word in ("--only", name)]
    assert attn("compare", "run.npz", "run.npz", *only, "--budget", "in.npz").code == 0
    traced = attn("trace", "in.npz", "--step", 3, "--head", 4, "--json").json["trace"]
    (dquery,) = (one["data"] for one in traced if one["name"] == "dquery")
    np.testing.assert_allclose(dquery, wanted["dquery"][0, 4, 3], atol=1e-14)

    np.savez("in.npz", **arrays, dlogsumexp=rows[0])
    assert attn("backward", "in.npz").err == (
        "error: in.npz: dlogsumexp is (6, 5), expected the shape of logsumexp, "
        "(2, 6, 5) = (N, heads, T_dec)\n"
    )
    book = {"hs_enc": np.ones((1, 3, 2)), "hs_dec": np.ones((1, 3, 2)), "dlogsumexp": np.ones(3)}
    np.savez("in.npz", **book)
    assert attn("backward", "in.npz", "--engine", "reference").err == (
        "error: in.npz: dlogsumexp has no meaning here: time-attention by the reference engine "
        "has no logsumexp\nhint:  attn backward in.npz --engine auto\n"
    )


@pytest.mark.parametrize("name", ["lse", "logsumexp"])
def test_a_logsumexp_in_a_file_is_compared(attn, folder, name):
    arrays = drawn()
    rows = expected(arrays)["logsumexp"]
    np.savez("in.npz", **arrays, **{name: rows})
    shown = attn("forward", "in.npz")
    assert f"agrees with {name} in the file" in shown.out
    assert "\nlogsumexp  (2, 6, 5) = (N, heads, T_dec)" in shown.out
    np.savez("in.npz", **arrays, **{name: rows / np.log(2)})
    assert f"DIFFERS from {name} in the file" in attn("forward", "in.npz").out


def test_the_gradient_of_a_mask_has_its_shape(attn, folder):
    arrays = drawn()
    padding = np.arange(T_ENC) < np.array([[7], [4]])
    np.savez("in.npz", **arrays, mask=MASK, enc_mask=padding)
    found = tensors(attn("backward", "in.npz", "--json"))["dmask"]
    both = np.where(padding[:, None, None, :], MASK, -np.inf)
    assert found.shape == MASK.shape
    np.testing.assert_allclose(found, expected(arrays, mask=both)["dmask"].sum(axis=(0, 1)))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sinks_and_slopes_are_computed_in_the_dtype_asked_for(attn, folder, dtype):
    np.savez("in.npz", **drawn(), sinks=SINKS, alibi=SLOPES)
    found = tensors(attn("backward", "in.npz", "--dtype", dtype, "--json"))
    for name in ("sinks", "alibi", "dsinks", "dalibi", "logsumexp"):
        assert found[name].dtype == dtype
    np.testing.assert_array_equal(found["sinks"], SINKS.astype(dtype))


# What does not fit, and what is not used.


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--kv-lengths", "3,9", "--T", 4],
         "--kv-lengths 3,9: expected one number, or one for each item: 4,4 at most",
         "--kv-lengths 3,4"),
        (["--kv-lengths", "3,4,2", "--N", 2],
         "--kv-lengths 3,4,2: expected one number, or one for each item: 5,5 at most",
         "--kv-lengths 3,4"),
        (["--cu-seqlens", "0,2,5", "--kv-lengths", "1,4"],
         "--kv-lengths 1,4: expected one number, or one for each sequence: 2,3 at most",
         "--kv-lengths 1,3"),
        (["--segments", "3,4", "--T", 5],
         "--segments 3,4: expected as many steps: T_dec = 5 and T_enc = 5", "--segments 3,2"),
        (["--segments", "3,4", "--T", 10, "--T-enc", 11],
         "--segments 3,4: expected as many steps: T_dec = 10 and T_enc = 11",
         "--segments 3,4,3/3,4,4"),
        (["--cu-seqlens", "0,9,4"],
         "--cu-seqlens 0,9,4: expected numbers from 0 that never fall, to 9 (T_dec)",
         "--cu-seqlens 0,4,9"),
        (["--cu-seqlens", "1,2", "--T", 4],
         "--cu-seqlens 1,2: expected numbers from 0 that never fall, to 4 (T_dec)",
         "--cu-seqlens 0,1,2,4"),
        (["--sinks", "1,2"], "--sinks 1,2: expected one number, or one for each head: 1",
         "--sinks 1"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_is_said_with_one_that_does(attn, words, message, hint):
    result = attn("forward", *words)
    error, hinted = result.err.splitlines()
    assert (result.code, error) == (2, f"error: {message}")
    assert f"{hinted} ".startswith("hint:  attn forward ")
    assert f" {hint} " in f"{hinted} "
    option, value = hint.split()
    changed = [value if words[i - 1] == option else word for i, word in enumerate(words)]
    assert attn("forward", *changed).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sinks", "nan"], "'nan' is not a list of finite numbers such as 0,1.5"),
        (["--sinks", "x"], "'x' is not a list of finite numbers such as 0,1.5"),
        (["--sinks", ","], "',' is not a list of finite numbers such as 0,1.5"),
        (["--sinks", "1" * 999], "is not a list of finite numbers such as 0,1.5"),
        (["--segments", "0,0"], "'0,0' has no length above 0"),
        (["--kv-lengths", "1.5"], "'1.5' is not a list of whole numbers such as 3,4,5"),
        (["--kv-lengths", "-1"], "'-1' is not a list of whole numbers such as 3,4,5"),
        (["--cu-seqlens-k", "0,5"], "cu_seqlens_k is there without cu_seqlens"),
        (["--keep-prob", 0], "'--keep-prob': 0.0, expected a number above 0, up to 1"),
        (["--layer", "softmax", "--sinks", 0], "softmax takes no --sinks"),
        (["--layer", "weight-sum", "--kv-lengths", 2], "weight-sum takes no --kv-lengths"),
        (["--layer", "softmax", "--keep-prob", 0.5], "softmax takes no --keep-prob"),
        (["--layer", "luong", "--alibi"], "luong takes no --alibi"),
    ],
)
@pytest.mark.parametrize("command", ["forward", "trace"])
def test_what_has_no_meaning_is_refused(attn, command, words, said):
    result = attn(command, *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"sinks": np.ones(5)}, "sinks is (5,), expected one number for each query head: (6,)"),
        ({"sinks": np.full(6, np.nan)}, "sinks holds NaN or infinity, expected finite numbers"),
        ({"alibi": ["a"] * 6}, "alibi is <U1"),
        ({"kv_lengths": [3.0, 4.0]}, "kv_lengths is float64, expected integers"),
        ({"cache_seqlens": [3, 9]}, "kv_lengths holds 9, expected 0 to the number of keys, 7"),
        ({"segments": np.zeros(7, int)}, "segments is one array, and T_dec differs from T_enc"),
        ({"segments_dec": np.zeros(5, int)}, "segments_dec is there without segments_enc"),
        (
            {"segments": np.zeros(7, int), "segments_enc": np.zeros(7, int)},
            "segments and segments_enc are both there",
        ),
        ({"cu_seqlens": [0, 5]}, "cu_seqlens ends at 5, expected the number of keys, 7"),
        ({"keep": np.full((5, 7), 2)}, "keep is int64 with other values than 0 and 1"),
        ({"kv_lengths": [3, 4], "cache_seqlens": [3, 4]}, "kv_lengths is there twice"),
    ],
)
def test_an_array_that_does_not_fit_is_said_with_its_file(attn, folder, held, said):
    np.savez("in.npz", **drawn(), **held)
    for command in ("forward", "trace", "show-weights"):
        result = attn(command, "in.npz")
        assert result.code == 2
        assert f"error: in.npz: {said}" in result.err


def test_packed_tensors_as_flash_attention_has_them(attn, folder):
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(size=(11, heads, 5)) for heads in (4, 2, 2))
    np.savez("in.npz", q=q, k=k, v=v, cu_seqlens_q=np.array([0, 3, 4, 11], np.int32))
    said = attn("forward", "in.npz").err
    assert "in.npz: cu_seqlens ends at 11, expected the number of queries, 4" in said
    assert said.endswith(" --layout total,heads,H\n")
    words = ["--layout", "total,heads,H", "--causal", "--causal-align", "lower-right"]
    found = tensors(attn("backward", "in.npz", *words, "--json"))
    for first, end in ((0, 3), (3, 4), (4, 11)):
        own = [x[None, first:end].swapaxes(1, 2) for x in (q, k, v, found["dout"])]
        out, cache = attncli.attention(*own[:3], causal="lower_right")
        gradients = attncli.attention_backward(own[3], cache)
        for name, want in zip(("out", "dquery", "dkey", "dvalue"), (out, *gradients), strict=True):
            np.testing.assert_allclose(found[name][first:end], want[0].swapaxes(0, 1), atol=1e-13)


def test_rows_that_leave_something_to_a_sink_are_no_oddity(attn, folder):
    np.savez("in.npz", **drawn(), sinks=SINKS)
    attn("forward", "in.npz", "-o", "run.npz", "-q")
    for name in ("in.npz", "run.npz"):  # computed, and stored
        assert attn("show-weights", name).err == ""
    run = dict(np.load("run.npz"))
    np.savez("run.npz", **run | {"weights": run["weights"] / run["weights"].sum(-1, keepdims=True)})
    assert attn("show-weights", "run.npz").err == ""
    np.savez("run.npz", **run | {"weights": run["weights"] * 3})
    assert "not sum to 1" in attn("show-weights", "run.npz").err


def test_minus_infinity_is_a_sink_that_is_not_there(attn, folder):
    np.savez("in.npz", **drawn(), sinks=np.full(HEADS, -np.inf))
    assert_same(
        {"out": tensors(attn("forward", "in.npz", "--json"))["out"]},
        {"out": expected(drawn())["out"]},
    )


def test_an_option_in_the_place_of_an_array_is_said(attn, folder):
    np.savez("in.npz", **drawn(T_dec=7), kv_lengths=[7, 7], segments=np.arange(7))
    words = ["--layout", "N,heads,T,H", "--kv-lengths", "3,4", "--segments", 7]
    result = attn("forward", "in.npz", *words, "--json")
    assert result.err == (
        "warning: in.npz: segments not used: --segments is in its place\n"
        "warning: in.npz: kv_lengths not used: --kv-lengths is in its place\n"
    )
    want = expected(drawn(T_dec=7), kv_lengths=[3, 4])["out"]
    np.testing.assert_allclose(tensors(result)["out"], want, atol=1e-13)


def test_sequences_asked_for_are_those_of_keys_too(attn, folder):
    np.savez("in.npz", **drawn(T_dec=7), cu_seqlens=[0, 2, 7], cu_seqlens_k=[0, 1, 7])
    result = attn("forward", "in.npz", "--cu-seqlens", "0,1,4,7", "--json")
    assert result.err == (
        "warning: in.npz: cu_seqlens not used: --cu-seqlens is in its place\n"
        "warning: in.npz: cu_seqlens_k not used: --cu-seqlens is in its place\n"
    )
    want = expected(drawn(T_dec=7), cu_seqlens=[0, 1, 4, 7])["out"]
    np.testing.assert_allclose(tensors(result)["out"], want, atol=1e-13)


def test_an_array_that_an_operation_does_not_take_is_said(attn, folder):
    np.savez("in.npz", scores=np.ones((2, 3, 5)), kv_lengths=[2, 3])
    assert attn("forward", "in.npz", "-q").err == "warning: kv_lengths has no effect on softmax\n"


def test_half_of_dropout_is_said(attn, folder):
    np.savez("in.npz", **drawn())
    result = attn("forward", "in.npz", "--keep-prob", 0.9)
    assert result.code == 2
    assert "in.npz: keep is missing" in result.err
    np.savez("in.npz", **drawn(), keep=KEEP)
    result = attn("forward", "in.npz", "-q")
    assert result.err == (
        "warning: in.npz: keep without --keep-prob: weights that stay are not scaled\n"
    )


def test_an_alignment_that_slopes_or_a_rotation_go_by_has_an_effect(attn):
    words = ["--layer", "scaled-dot-product", "--T-enc", 7, "--causal-align", "lower-right"]
    assert attn("forward", *words, "--alibi").err == ""
    assert attn("forward", *words, "--rotary", "halves").err == ""
    assert "--causal-align has no effect" in attn("forward", *words, "--kv-lengths", 3).err


@pytest.mark.parametrize(
    "options", [{"keep_prob": "0.5"}, {"keep_prob": True}, {"keep_prob": 2}, {"keep_prob": [0.5]}]
)
def test_options_that_no_run_writes_are_an_error(attn, folder, options):
    np.savez("run.npz", **drawn(), keep=KEEP, options=np.array(json.dumps(options)))
    for command in ("forward", "show-weights"):
        result = attn(command, "run.npz")
        assert result.code == 2
        assert "run.npz: its options" in result.err


# What others call it, what it holds, and the option that is named in a note.
ELSEWHERE = [
    ("is_causal", True, "--causal"),
    ("softmax_scale", 0.3, "--scale 0.3"),
    ("window_size", [2, 1], "--window 2,1"),
    ("logit_cap", 1.5, "--softcap 1.5"),
    ("attn_bias", MASK, "--rename mask=attn_bias"),
    ("s_aux", SINKS, "--rename sinks=s_aux"),
    ("slopes", SLOPES, "--rename alibi=slopes"),
    ("nonpad_kv_seqlen", [7, 3], "--rename kv_lengths=nonpad_kv_seqlen"),
    ("cos", np.ones((T, H // 2)), "--rotary halves"),
]


@pytest.mark.parametrize(("name", "array", "option"), ELSEWHERE)
def test_what_bears_on_the_answer_is_named_with_the_option_that_computes_with_it(
    attn, folder, name, array, option
):
    np.savez("plain.npz", **drawn())
    np.savez("x.npz", **drawn(), **{name: array})
    result = attn("forward", "x.npz", "--json")
    assert f"warning: x.npz: {name} not used; {option} computes with it" in result.err
    followed = attn("forward", "x.npz", *option.split(), "--json")
    assert name not in followed.err
    plain = tensors(attn("forward", "plain.npz", "--json"))["out"]
    np.testing.assert_array_equal(tensors(result)["out"], plain)
    assert not np.allclose(tensors(followed)["out"], plain)


def test_ids_and_dropout_under_other_names_are_read_by_the_options_of_the_note(attn, folder):
    ids = {"q_segment_ids": IDS_DEC, "kv_segment_ids": IDS_ENC}
    np.savez("x.npz", **drawn(), **ids, dropout_mask=KEEP, dropout_p=0.2)
    pair = "--rename segments_dec=q_segment_ids --rename segments_enc=kv_segment_ids"
    dropout = "--rename keep=dropout_mask --keep-prob 0.8"
    said = attn("forward", "x.npz").err
    assert said.count(f"not used; {pair} computes with it") == 2
    assert f"dropout_p not used; {dropout} computes with it" in said
    followed = attn("forward", "x.npz", *pair.split(), *dropout.split(), "--json")
    assert followed.err == ""
    beside = {"segments": (IDS_DEC, IDS_ENC), "keep": KEEP, "keep_prob": 0.8}
    arrays = {name: x for name, x in drawn().items() if name != "dout"}
    out, _ = attncli.attention(*arrays.values(), **beside)
    np.testing.assert_allclose(tensors(followed)["out"], out, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "array"),
    [("is_causal", False), ("window_size", [-1, -1]), ("softcap", 0.0), ("dropout_p", 0.0)],
)
def test_nothing_is_said_of_what_is_off(attn, folder, name, array):
    np.savez("x.npz", **drawn(), **{name: array})
    assert attn("forward", "x.npz").err == ""


@pytest.mark.parametrize(
    ("name", "array"),
    [("block_table", [[0, 1]]), ("query_seq_lengths", [5, 4]), ("scale", np.ones(H))],
)
def test_what_nothing_computes_with_is_named_all_the_same(attn, folder, name, array):
    np.savez("x.npz", **drawn(), **{name: array})
    said = f"warning: x.npz: {name} not used: nothing here computes with it\n"
    assert attn("forward", "x.npz").err == said


def test_what_stays_in_dropout_is_scaled_by_the_file_unless_an_option_says_otherwise(attn, folder):
    np.savez("x.npz", **drawn(), keep=KEEP, keep_prob=0.5)
    inputs = [drawn()[name] for name in ("query", "key", "value")]
    for words, keep_prob in ([], 0.5), (["--keep-prob", "0.8"], 0.8):
        result = attn("forward", "x.npz", *words, "--json")
        assert result.err == ""
        out, _ = attncli.attention(*inputs, keep=KEEP, keep_prob=keep_prob)
        np.testing.assert_allclose(tensors(result)["out"], out, atol=1e-13)
    np.savez("x.npz", **drawn(), keep=KEEP, keep_prob=[0.5, 0.5])
    assert "x.npz: keep_prob is (2,), expected one number" in attn("forward", "x.npz").err


def test_sinks_that_are_no_numbers_are_refused_without_a_way_around(attn, folder):
    np.savez("x.npz", **drawn(), sinks=[np.nan, *SINKS[1:]])
    for words in [], ["--allow-nonfinite"]:
        result = attn("forward", "x.npz", *words)
        assert (result.code, "hint" in result.err) == (2, False)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--cu-seqlens", "0,3,5"], ["--cu-seqlens", "0,3,5", "--cu-seqlens-k", "0,3,7"]),
        (
            ["--cu-seqlens", "0,3,5", "--cu-seqlens-k", "0,7"],
            ["--cu-seqlens", "0,3,5", "--cu-seqlens-k", "0,3,7"],
        ),
        (["--cu-seqlens-k", "0,3,7"], None),
    ],
)
def test_an_option_is_not_blamed_on_the_file(attn, folder, words, hint):
    np.savez("x.npz", **drawn())
    result = attn("forward", "x.npz", *words)
    assert result.code == 2
    assert "x.npz" not in result.err.splitlines()[0]
    if hint is not None:
        assert " ".join(hint[2:]) in result.err
        assert attn("forward", "x.npz", *hint).code == 0


def test_lengths_of_a_file_that_do_not_fit_are_hinted_at_as_far_as_they_do(attn, folder):
    np.savez("x.npz", **drawn(), kv_lengths=[-3, 9])
    assert attn("forward", "x.npz").err.endswith(" --kv-lengths 0,7\n")
    assert attn("forward", "x.npz", "--kv-lengths", "0,7").code == 0


def test_an_array_that_is_there_twice_is_named_by_both_names(attn, folder):
    np.savez("x.npz", **drawn(), kv_lengths=[7, 3], cache_seqlens=[7, 3])
    assert "kv_lengths is there twice, also as cache_seqlens" in attn("forward", "x.npz").err


def test_a_claim_of_another_shape_is_said_with_both(attn, folder):
    np.savez("x.npz", **drawn(), lse=np.zeros((HEADS, T)))
    result = attn("forward", "x.npz")
    assert result.code == 1
    assert "DIFFERS from lse in the file: shapes differ: (6, 5) and (2, 6, 5)\n" in result.out


@pytest.mark.parametrize("command", ["forward", "backward", "trace"])
def test_the_heading_names_what_is_beside_as_it_can_be_pasted(attn, folder, command):
    np.savez("x.npz", **drawn())
    words = ["--window=-1,2", "--sinks", "1.5", "--kv-lengths", "7,3", "--segments", "5/3,4"]
    heading = attn(command, "x.npz", *words).out.splitlines()[0]
    for said in ("window -1,2", "sinks 1.5,1.5", "kv lengths 7,3", "segments 5/3,4"):
        assert f" · {said}" in heading


def test_tensors_of_a_run_are_compared_by_the_axes_that_it_says_they_have(attn, folder):
    packed = {name: np.ones((11, 2, 3)) for name in ("query", "key", "value")}
    np.savez("x.npz", **packed)
    assert attn("forward", "x.npz", "--layout", "total,heads,H", "-o", "run.npz").code == 0
    held = dict(np.load("run.npz"))
    held["query"][:, 1] = 2
    np.savez("other.npz", **held)
    result = attn("compare", "run.npz", "other.npz")
    assert "query  (11, 2, 3) = (T_dec, heads, H)" in result.out
    assert "only at head 1 of 2" in result.out
