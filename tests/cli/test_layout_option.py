"""``--layout`` and ``--heads``: tensors whose axes come in another order, and go back in it."""

import json

import numpy as np
import pytest

import attncli

N, HEADS, KV_HEADS, T_DEC, T_ENC, H, H_V = 2, 6, 3, 5, 7, 4, 11
LETTERS = {"N": "n", "heads": "h", "T": "t", "total": "t", "H": "d"}
GROUPED = [
    "N,T,heads,H",
    "N,heads,T,H",
    "T,N,heads,H",
    "heads,T,N,H",
    "N,T,H,heads",
    "total,heads,H",
]
BESIDE = ["N,T,H", "T,N,H", "total,H"]


def lying(x, words):
    """A tensor (N, heads, T, H) in the order of these words; heads beside each other if need be."""
    words = words.split(",")
    if "N" not in words:
        x = x[:1]
    if "heads" not in words:
        x = x.swapaxes(1, 2).reshape(len(x), x.shape[2], 1, -1).swapaxes(1, 2)
    letters = "".join(LETTERS[word] for word in words)
    gone = {"n", "h"} - {*letters}
    own = "".join(letter for letter in "nhtd" if letter not in gone)
    return np.einsum(f"{own}->{letters}", x.squeeze(tuple("nhtd".index(letter) for letter in gone)))


@pytest.fixture
def drawn():
    """Query, key, value and dout as (N, heads, T, H)."""
    rng = np.random.default_rng(3)
    shapes = {
        "query": (N, HEADS, T_DEC, H),
        "key": (N, KV_HEADS, T_ENC, H),
        "value": (N, KV_HEADS, T_ENC, H_V),
        "dout": (N, HEADS, T_DEC, H_V),
    }
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.fixture
def expected(drawn):
    """What comes of it, as (N, heads, T, H)."""
    out, cache = attncli.attention(drawn["query"], drawn["key"], drawn["value"], weights=True)
    gradients = attncli.attention_backward(drawn["dout"], cache)
    found = dict(zip(("dquery", "dkey", "dvalue"), gradients, strict=True))
    return {"out": out, "weights": cache.weights, "logsumexp": cache.logsumexp, **found}


def saved(path, arrays, layouts):
    np.savez(path, **{name: lying(x, layouts[name]) for name, x in arrays.items()})


def tensors(result):
    return {name: np.array(x["data"]) for name, x in result.json["tensors"].items()}


def asked(words):
    return ["--layout", words, *([] if "heads" in words else ["--heads", f"{HEADS},{KV_HEADS}"])]


@pytest.mark.parametrize("words", [*GROUPED, *BESIDE])
@pytest.mark.parametrize("engine", ["direct", "tiled", "reference"])
def test_results_and_gradients_lie_as_the_inputs_do(attn, folder, drawn, expected, words, engine):
    saved("in.npz", drawn, dict.fromkeys(drawn, words))
    result = attn("backward", "in.npz", *asked(words), "--engine", engine, "--json")
    assert (result.code, result.err) == (0, "")
    found = tensors(result)
    items = N if "N" in words else 1
    np.testing.assert_allclose(found.pop("weights"), expected["weights"][:items], atol=1e-13)
    rows = expected["logsumexp"] if "N" in words else expected["logsumexp"][0]
    np.testing.assert_allclose(found.pop("logsumexp"), rows, atol=1e-13)
    for name, x in found.items():
        want = lying({**drawn, **expected}[name], words)
        np.testing.assert_allclose(x, want, atol=1e-13, err_msg=name)
    T = {"T": "T_dec", "total": "T_dec", "H": "H" if "heads" in words else "heads·H"}
    axes = [T.get(word, word) for word in words.split(",")]
    assert result.json["tensors"]["dquery"]["axes"] == axes
    assert result.json["layout"] == words


@pytest.mark.parametrize("words", ["T,N,heads,H", "T,N,H"])
def test_every_command_reads_the_layout_of_a_run(attn, folder, drawn, expected, words):
    saved("in.npz", drawn, dict.fromkeys(drawn, words))
    assert attn("backward", "in.npz", *asked(words), "--no-weights", "-o", "run.npz").code == 0
    with np.load("run.npz") as run:
        np.testing.assert_allclose(run["dkey"], lying(expected["dkey"], words), atol=1e-13)
    for result in (
        attn("forward", "run.npz", "--weights", "--json"),
        attn("backward", "run.npz", "--json"),
    ):
        assert (result.code, result.err) == (0, "")
        assert result.json["layout"] == words
        np.testing.assert_allclose(
            tensors(result)["out"], lying(expected["out"], words), atol=1e-13
        )
    for rows in ((), ("--rows", "1:4")):
        words_of = ["--item", 1, "--head", 4, *rows, "--json"]
        (one,) = attn("show-weights", "run.npz", *words_of).json["matrices"]
        part = slice(1, 4) if rows else slice(None)
        np.testing.assert_allclose(one["weights"], expected["weights"][1, 4, part], atol=1e-14)
    traced = attn("trace", "run.npz", "--item", 1, "--head", 4, "--step", 3, "--json").json["trace"]
    steps = {one["name"]: np.array(one["data"]) for one in traced}
    np.testing.assert_array_equal(steps["query"], drawn["query"][1, 4, 3])
    np.testing.assert_array_equal(steps["dout"], drawn["dout"][1, 4, 3])
    np.testing.assert_allclose(steps["out"], expected["out"][1, 4, 3], atol=1e-13)


@pytest.mark.parametrize("words", ["T,N,heads,H", "T,N,H"])
def test_a_budget_is_held_against_tensors_in_the_layout(attn, folder, drawn, words):
    narrow = {name: x.astype(np.float32) for name, x in drawn.items()}
    saved("in.npz", narrow, dict.fromkeys(drawn, words))
    attn("backward", "in.npz", *asked(words), "-o", "run.npz")
    names = [x for name in ("out", "weights", "dquery", "dkey") for x in ("--only", name)]
    command = ["compare", "run.npz", "run.npz", *names]
    own = attn(*command, "--budget", "run.npz", "--json")
    assert own.code == 0
    assert all(one["budget"] for one in own.json["tensors"])
    assert attn(*command, "--budget", "in.npz", *asked(words)).code == 0
    with np.load("run.npz") as run:
        wrong = {**run, "dkey": run["dkey"].copy()}
    wrong["dkey"].reshape(-1)[-1] += 1e-4
    np.savez("wrong.npz", **wrong)
    command[1] = "wrong.npz"
    assert attn(*command, "--budget", "in.npz", *asked(words)).code == 1


def test_each_tensor_has_a_layout_of_its_own(attn, folder, drawn, expected):
    layouts = {
        "query": "T,heads,N,H", "key": "N,T,heads,H", "value": "heads,N,T,H",
        "out": "N,heads,T,H", "dout": "N,heads,T,H",
    }  # fmt: skip
    saved("in.npz", drawn, layouts)
    text = ",".join(f"{name}={layouts[name]}" for name in ("query", "key", "value", "out"))
    assert attn("backward", "in.npz", "--layout", text, "-o", "run.npz").code == 0
    layouts |= {f"d{name}": words for name, words in layouts.items()}
    result = attn("backward", "run.npz", "--json")
    assert result.json["layout"] == text
    for name, x in tensors(result).items():
        want = expected.get(name, drawn.get(name))
        want = lying(want, layouts[name]) if name in layouts else want
        np.testing.assert_allclose(x, want, atol=1e-13, err_msg=name)


def test_a_key_without_heads_serves_all(attn, folder, drawn):
    shared = {name: x if name in ("query", "dout") else x[:, :1] for name, x in drawn.items()}
    own = {**dict.fromkeys(("query", "dout"), "N,T,heads,H"), "key": "N,T,H", "value": "T,N,H"}
    saved("in.npz", shared, own)
    text = "query=N,T,heads,H,key=N,T,H,value=T,N,H"
    found = tensors(attn("forward", "in.npz", "--layout", text, "--json"))
    out, _ = attncli.attention(shared["query"], shared["key"], shared["value"])
    np.testing.assert_allclose(found["out"], out.swapaxes(1, 2), atol=1e-13)


@pytest.mark.parametrize(
    ("words", "heads"),
    [
        ("N,T,3,heads,H", []),
        ("3,N,heads,T,H", []),
        ("T,N,3,heads,H", []),
        ("N,T,3,H", ["--heads", HEADS]),
        ("N,T,H", ["--heads", HEADS]),
        ("N,T,H", ["--heads", f"{HEADS},{KV_HEADS}"]),
        ("N,T,heads,H", ["--heads", f"{HEADS},{KV_HEADS}"]),
        ("T,N,heads,H", []),
    ],
)
def test_query_key_and_value_in_one_array(attn, folder, words, heads):
    rng = np.random.default_rng(4)
    shared = KV_HEADS if f"{HEADS},{KV_HEADS}" in heads else HEADS
    three = [rng.normal(size=(N, count, T_ENC, H)) for count in (HEADS, shared, shared)]
    apart = ",".join(word for word in words.split(",") if word != "3")
    parts = [lying(x, apart) for x in three]
    if "3" in words:
        qkv = np.stack(parts, axis=words.split(",").index("3"))
    else:
        at = words.split(",").index("heads" if "heads" in words else "H")
        qkv = np.concatenate(parts, axis=at)
    out, cache = attncli.attention(*three)
    dout = rng.normal(size=out.shape)
    np.savez("in.npz", qkv=qkv, dout=lying(dout, apart))
    np.save("qkv.npy", qkv)
    result = attn("backward", "in.npz", "--layout", words, *heads, "-o", "run.npz", "--json")
    assert (result.code, result.err) == (0, "wrote the run to run.npz\n")
    gradients = attncli.attention_backward(dout, cache)
    names = ("out", "dquery", "dkey", "dvalue")
    for name, want in zip(names, (out, *gradients), strict=True):
        np.testing.assert_allclose(tensors(result)[name], lying(want, apart), atol=1e-13)
    again = attn("backward", "run.npz", "--json")
    np.testing.assert_array_equal(tensors(again)["dkey"], tensors(result)["dkey"])
    single = attn("forward", "--qkv", "qkv.npy", "--layout", words, *heads, "--json")
    np.testing.assert_array_equal(tensors(single)["out"], tensors(result)["out"])


def test_masks_and_padding_stay_as_they_are(attn, folder, drawn):
    rng = np.random.default_rng(5)
    masks = {
        "mask": rng.random((N, HEADS, T_DEC, T_ENC)) < 0.8,
        "enc_mask": np.arange(T_ENC) < [[T_ENC], [4]],
        "dec_mask": np.arange(T_DEC) < [[3], [T_DEC]],
    }
    masks["mask"][..., 0] = True
    found = []
    for words in ("N,heads,T,H", "T,heads,N,H"):
        arrays = {name: lying(x, words) for name, x in drawn.items()}
        np.savez("in.npz", **arrays, **masks)
        result = attn("backward", "in.npz", "--layout", words, "--json")
        assert (result.code, result.err) == (0, "")
        found.append(tensors(result))
    for name in ("out", "dquery", "dkey", "dvalue"):
        np.testing.assert_allclose(found[1][name], lying(found[0][name], words), atol=1e-14)
    np.testing.assert_array_equal(found[1]["weights"], found[0]["weights"])
    assert not found[0]["dquery"][0, :, 3:].any()


BOOK = {
    "time-attention": ["hs_enc", "hs_dec"],
    "attention": ["hs"],
    "attention-weight": ["hs"],
    "weight-sum": ["hs"],
    "luong": ["hs_enc", "hs_dec"],
    "multi-head": ["query", "key", "value"],
}


@pytest.mark.parametrize("engine", [[], ["--engine", "reference"]], ids=str)
@pytest.mark.parametrize("layer", BOOK)
def test_layers_of_the_book_take_steps_first(attn, folder, layer, engine):
    heads = ["--heads", 2] if layer == "multi-head" else []
    sizes = ["--N", 2, "--T", 3, "--T-enc", 5, "--H", 4]
    assert attn("backward", "--layer", layer, *sizes, *heads, "-o", "run.npz").code == 0
    moved = {x for name in BOOK[layer] for x in (name, f"d{name}")} | {"out", "dout"}
    with np.load("run.npz") as run:
        stay = ("options", "weights", "logsumexp")
        arrays = {name: run[name] for name in run.files if name not in stay}
    turned = {
        name: x.swapaxes(0, 1) if name in moved and x.ndim == 3 else x  # out may be (N, H)
        for name, x in arrays.items()
    }
    inputs = {name: x for name, x in turned.items() if name == "dout" or not name.startswith("d")}
    inputs.pop("out", None)
    np.savez("in.npz", **inputs)
    command = ["backward", "in.npz", "--layer", layer, *heads, "--layout", "T,N,H", *engine]
    result = attn(*command, "-o", "again.npz")
    assert (result.code, "error" in result.err) == (0, False)
    with np.load("again.npz") as again:
        for name, x in turned.items():
            np.testing.assert_allclose(again[name], x, atol=1e-14, err_msg=name)


def test_the_result_alone_is_computed_into_its_file(attn, folder, drawn, expected):
    saved("in.npz", drawn, dict.fromkeys(drawn, "T,N,H"))
    result = attn("forward", "in.npz", *asked("T,N,H"), "-o", "out.npy", "-q")
    assert (result.code, result.err) == (0, "")
    np.testing.assert_allclose(np.load("out.npy"), lying(expected["out"], "T,N,H"), atol=1e-13)


def test_results_in_the_file_are_compared_as_they_lie(attn, folder, drawn, expected):
    arrays = {name: lying(drawn[name], "N,T,heads,H") for name in ("query", "key", "value")}
    out = lying(expected["out"], "N,T,heads,H")
    np.savez("same.npz", **arrays, output=out)
    assert "agrees with output" in attn("forward", "same.npz", "--layout", "N,T,heads,H").out
    np.savez("other.npz", **arrays, output=out.swapaxes(1, 2))
    words = "N,T,heads,H,output=N,heads,T,H"
    assert "agrees with output" in attn("forward", "other.npz", "--layout", words).out
    assert "DIFFERS" in attn("forward", "other.npz", "--layout", "N,T,heads,H").out


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        (["--layout", "T,N,H"], [(3, 2, 8), (5, 2, 8)]),
        (["--layout", "N,T,heads,H"], [(2, 3, 2, 8), (2, 5, 2, 8)]),
        (["--layout", "total,heads,H", "--heads", "6,3"], [(3, 6, 8), (5, 3, 8)]),
        (["--heads", "4,2"], [(2, 3, 8), (2, 5, 4)]),
        (["--layout", "T,N,H", "--heads", "4,1"], [(3, 2, 8), (5, 2, 2)]),
    ],
)
def test_random_tensors_lie_as_asked(attn, words, shapes):
    sizes = ["--N", 2, "--T", 3, "--T-enc", 5, "--H", 8]
    result = attn("backward", "--layer", "scaled-dot-product", *sizes, *words, "--json")
    assert result.code == 0
    found = tensors(result)
    query, key = shapes
    want = {"query": query, "key": key, "value": key, "out": query, "dkey": key, "dquery": query}
    assert {name: found[name].shape for name in want} == want
    warned = "warning: --N has no effect: scaled-dot-product has no such size\n"
    assert result.err == (warned if "total,heads,H" in words else "")


# What can be read in two ways


def shapes_file(shapes, **more):
    arrays = dict(zip(("query", "key", "value"), shapes, strict=True))
    np.savez("x.npz", **{name: np.ones(shape) for name, shape in arrays.items()}, **more)


@pytest.mark.parametrize(
    ("shapes", "read", "other"),
    [
        ([(2, 5, 5, 4)] * 3, "N, heads, T, H", "N,T,heads,H"),
        ([(2, 6, 4, 4), (2, 3, 2, 4), (2, 3, 2, 5)], "N, heads, T, H", "N,T,heads,H"),
        ([(5, 2, 4), (5, 2, 4), (5, 2, 3)], "N, T, H", "T,N,H"),
    ],
)
def test_what_can_be_read_in_two_ways_is_said(attn, folder, shapes, read, other):
    shapes_file(shapes)
    result = attn("forward", "x.npz", "-o", "run.npz")
    assert result.code == 0
    assert result.err.splitlines()[0] == (
        f"warning: x.npz: query {shapes[0]} was read as ({read}); --layout {other} reads it "
        "otherwise"
    )
    for words in (other, read.replace(" ", "")):
        assert attn("forward", "x.npz", "--layout", words, "-q").err == ""
    assert attn("forward", "run.npz", "-q").err == ""  # a run says how


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)],
        [(2, 5, 4), (2, 7, 4), (2, 7, 3)],
        [(1, 5, 4), (1, 5, 4), (1, 5, 4)],
        [(5, 4), (7, 4), (7, 4)],
    ],
)
def test_what_can_be_read_in_one_way_needs_no_word(attn, folder, shapes):
    shapes_file(shapes)
    result = attn("forward", "x.npz", "-q")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(2, 5, 6, 4), (2, 7, 3, 4), (2, 7, 3, 4)], "N,T,heads,H"),
        ([(5, 2, 4), (7, 2, 4), (7, 2, 3)], "T,N,H"),
    ],
)
def test_what_fits_in_another_layout_alone_is_an_error_that_names_it(attn, folder, shapes, words):
    shapes_file(shapes)
    result = attn("forward", "x.npz")
    assert (result.code, result.out) == (2, "")
    _, hint = result.err.splitlines()
    assert hint == f"hint:  attn forward x.npz --layout {words}"
    assert attn(*hint.split()[2:]).code == 0


def test_states_with_the_steps_first_are_told_of(attn, folder):
    np.savez("x.npz", hs_enc=np.ones((7, 2, 4)), hs_dec=np.ones((5, 2, 4)))
    result = attn("forward", "x.npz")
    assert (result.code, result.err.splitlines()[1]) == (
        2,
        "hint:  attn forward x.npz --layout T,N,H",
    )
    np.savez("x.npz", hs_enc=np.ones((2, 2, 4)), hs_dec=np.ones((2, 2, 4)))
    assert attn("forward", "x.npz", "-q").err == ""  # the book says how they lie


@pytest.mark.parametrize(
    ("shape", "words", "more"),
    [
        ((2, 5, 3, 6, 4), "N,T,3,heads,H", []),
        ((3, 2, 6, 5, 4), "3,N,heads,T,H", []),
        ((2, 3, 6, 5, 4), "N,3,heads,T,H", []),
        ((2, 5, 3, 4), "N,T,3,H", []),
        ((5, 3, 6, 4), "total,3,heads,H", []),
        ((2, 5, 40), "N,T,H", ["--heads", "6,2"]),
    ],
)
def test_how_one_array_of_all_three_was_read_is_said(attn, folder, shape, words, more):
    np.savez("x.npz", qkv=np.random.default_rng(0).normal(size=shape))
    result = attn("forward", "x.npz", *more, "--json")
    assert result.err == (
        f"warning: x.npz: qkv {shape} was read as ({words.replace(',', ', ')}), as by --layout "
        f"{words}; any other --layout reads it otherwise\n"
    )
    asked_for = attn("forward", "x.npz", *more, "--layout", words, "--json")
    assert asked_for.err == ""
    assert tensors(asked_for)["out"].tolist() == tensors(result)["out"].tolist()


# Errors


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["N,T,foo"], "'N,T,foo' is not a layout such as N,T,heads,H", "--layout N,T,heads,H"),
        (["hs=N,T,H"], "--layout hs=… has no meaning for scaled-dot-product: it has query", None),
        (
            ["T,N,H"],
            "x.npz: query is (2, 5, 6, 4), expected 3 axes: (T_dec, N, H)",
            "--layout N,heads,T,H",
        ),
        (
            ["N,heads,T,H"],
            "x.npz: query has 5 heads, key has 7: expected a divisor",
            None,
        ),
        (
            ["N,T,heads,H", "--heads", 3],
            "x.npz: --heads says 3 heads, and query is (2, 5, 6, 4) = (N, T_dec, heads, H)",
            None,
        ),
        (["N,T,heads,H", "--heads", "6,4"], "--heads 6,4: expected a divisor", None),
        (["N,T,heads,H", "--heads", "6,2", "--kv-heads", 3], "--heads 6,2 contradicts", None),
        (["N,T,3,heads,H"], "--layout: 3 is an axis of qkv", None),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(attn, folder, words, error, hint):
    shapes_file([(2, 5, 6, 4), (2, 7, 3, 4), (2, 7, 3, 4)])
    result = attn("forward", "x.npz", "--layout", *words)
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert lines[0].startswith(f"error: {error}")
    assert lines[1].endswith(f" {hint}") if hint else all("hint:  attn " in x for x in lines[1:])


@pytest.mark.parametrize("layer", ["softmax", "time-attention"])
def test_a_layer_without_such_axes(attn, layer):
    words = "T,N,H" if layer == "softmax" else "N,T,heads,H"
    result = attn("forward", "--layer", layer, "--layout", words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: --layout")


@pytest.mark.parametrize(
    ("qkv", "words", "said"),
    [
        ((2, 5, 4, 6, 4), [], "nothing says which axis is what"),
        ((2, 5, 2, 6, 4), ["N,T,3,heads,H"], "expected 3 of query, key and value"),
        ((2, 5, 40), ["N,T,H"], "H cannot be split into query, key and value"),
        ((2, 5, 40), ["N,T,heads,H"], "expected 4 axes: (N, T, heads, H)"),
    ],
)
def test_one_array_that_does_not_hold_all_three(attn, folder, qkv, words, said):
    np.savez("x.npz", qkv=np.ones(qkv))
    result = attn("forward", "x.npz", *[x for word in words for x in ("--layout", word)])
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("text", ["N,T", 5, ["N", "T", "H"], "N,T,3,heads,H", "key=", "h=T,N,H"])
@pytest.mark.parametrize("command", ["forward", "show-weights"])
def test_a_layout_that_no_run_writes(attn, folder, command, text):
    options = np.array(json.dumps({"layer": "scaled-dot-product", "layout": text}))
    shapes_file([(2, 5, 4), (2, 7, 4), (2, 7, 4)], options=options)
    result = attn(command, "x.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: x.npz: its options")


# What other arrays tell, and other commands


def test_what_other_arrays_tell_of_the_sizes_needs_no_word(attn, folder):
    shapes = [(2, 6, 5, 4)] * 3
    shapes_file(shapes, sinks=np.zeros(6))
    assert attn("forward", "x.npz", "-q").err == ""
    shapes_file(shapes, alibi=np.ones(5))
    result = attn("forward", "x.npz")
    assert result.code == 2
    assert result.err.endswith(" --layout N,T,heads,H\n")
    assert attn("forward", "x.npz", "--layout", "N,T,heads,H", "-q").code == 0


def test_packed_sequences_without_a_layout_are_told_of(attn, folder):
    shapes_file([(7, 3, 4)] * 3, cu_seqlens=np.array([0, 3, 7]))
    result = attn("forward", "x.npz")
    assert (result.code, len(result.err.splitlines())) == (2, 2)
    assert result.err.endswith(" --layout total,heads,H\n")
    found = attn("forward", "x.npz", "--layout", "total,heads,H", "--json")
    assert (found.code, found.err) == (0, "")
    assert tensors(found)["weights"].shape == (1, 3, 7, 7)
    assert not tensors(found)["weights"][..., :3, 3:].any()


def test_packed_sequences_are_attended_to_each_by_itself(attn, folder, drawn):
    packed = {name: lying(x, "total,heads,H") for name, x in drawn.items()}
    np.savez("x.npz", **packed, cu_seqlens=[0, 2, T_DEC], cu_seqlens_k=[0, 3, T_ENC])
    words = ["--layout", "total,heads,H", "--causal", "--causal-align", "lower-right"]
    found = tensors(attn("backward", "x.npz", *words, "--rotary", "halves", "--json"))
    for dec, enc in ((slice(0, 2), slice(0, 3)), (slice(2, T_DEC), slice(3, T_ENC))):
        one = {name: x[enc if name in ("key", "value") else dec] for name, x in packed.items()}
        np.savez("one.npz", **one)
        alone = attn("backward", "one.npz", *words, "--rotary", "halves", "--json")
        for name, x in tensors(alone).items():
            if name in ("out", "dquery"):
                np.testing.assert_allclose(found[name][dec], x, atol=1e-13, err_msg=name)
            if name in ("dkey", "dvalue"):
                np.testing.assert_allclose(found[name][enc], x, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("words", ["T,N,heads,H", "heads,N,H,T", "T,N,H"])
def test_weights_are_computed_from_queries_that_lie_as_said(attn, folder, drawn, expected, words):
    saved("x.npz", {name: drawn[name] for name in ("query", "key")}, dict.fromkeys(drawn, words))
    for rows in ((), ("--rows", "1:4")):
        place = ["--item", 1, "--head", 4, *rows]
        result = attn("show-weights", "x.npz", *asked(words), *place, "--json")
        assert (result.code, result.err) == (0, "")
        part = slice(1, 4) if rows else slice(None)
        (one,) = result.json["matrices"]
        np.testing.assert_allclose(one["weights"], expected["weights"][1, 4, part], atol=1e-14)


def test_weights_of_one_array_of_all_three(attn, folder):
    qkv = np.random.default_rng(0).normal(size=(2, 5, 3, 6, 4))
    np.savez("x.npz", qkv=qkv)
    words = ["--layout", "N,T,3,heads,H"]
    (one,) = attn("show-weights", "x.npz", *words, "--item", 1, "--head", 2, "--json").json[
        "matrices"
    ]
    want = attncli.attention_weights(qkv[1, :, 0, 2], qkv[1, :, 1, 2])
    np.testing.assert_allclose(one["weights"], want, atol=1e-14)
    seen = attn("show-mask", "x.npz", *words, "--causal", "--json").json
    assert seen["sizes"] == {"N": 2, "heads": 6, "T_dec": 5, "T_enc": 5}


@pytest.mark.parametrize("command", ["show-weights", "show-mask"])
def test_what_is_looked_at_is_not_guessed_in_silence_either(attn, folder, command):
    shapes_file([(2, 5, 5, 4)] * 3)
    said = "--layout N,T,heads,H reads it otherwise"
    assert said in attn(command, "x.npz", "-q").err
    assert attn(command, "x.npz", "--layout", "N,T,heads,H", "-q").err == ""


def test_a_layout_of_what_is_not_there(attn, folder):
    np.savez("weights.npz", weights=np.ones((2, 2)) / 2)
    result = attn("show-weights", "weights.npz", "--layout", "N,T,H")
    assert result.code == 2
    assert result.err.startswith("error: --layout has no meaning for weights.npz")


@pytest.mark.parametrize("words", [["--layout", "T,N,heads,H"], ["--heads", "4,2"]])
def test_gradcheck_proves_a_layout(attn, words):
    command = ["gradcheck", *words, "--N", 1, "--T", 2, "--T-enc", 3, "--json"]
    result = attn(*command)
    assert (result.code, result.json["passed"]) == (0, True)


def test_gradcheck_of_a_target_takes_no_number_of_heads(attn):
    result = attn("gradcheck", "x.py", "--heads", "4,2")
    assert result.err.startswith("error: --heads is for the layers")
