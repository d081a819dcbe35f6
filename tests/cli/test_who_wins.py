"""Who wins and who is refused: options, files, run files, and indices that are none."""

import json

import numpy as np
import pytest

import attncli


def arrays_in(result, said=""):
    assert (result.code, result.err) == (0, said)
    return {name: np.array(one["data"]) for name, one in result.json["tensors"].items()}


@pytest.fixture
def run(attn, folder, states):
    """A run file in which every option is set, and none to its default."""
    np.savez("states.npz", **states)
    options = ["--scale", 2, "--causal", "--causal-align", "lower-right", "--window", 3]
    command = ["backward", "states.npz", *options, "--softcap", 4, "--seed", 6]
    assert attn(*command, "-o", "run.npz", "-q").code == 0
    return "run.npz"


STORED = {"scale": 2.0, "causal": "lower_right", "window": 3, "softcap": 4.0}
ASKED = {
    "nothing": ([], {}),
    "scale": (["--scale", 3], {"scale": 3.0}),
    "negative scale": (["--scale", -1], {"scale": -1.0}),
    "no scale at all": (["--scale", 0], {"scale": 0.0}),
    "window": (["--window", 1], {"window": 1}),
    "window 0": (["--window", 0], {"window": 0}),
    "softcap": (["--softcap", 0.5], {"softcap": 0.5}),
    "causal": (["--causal"], {"causal": "upper_left"}),
    "two": (["--window", 2, "--scale", 0.5], {"window": 2, "scale": 0.5}),
}


@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("command", ["forward", "backward", "trace"])
def test_an_option_wins_over_the_runs_and_the_others_stay(attn, run, states, command, asked):
    options, changed = ASKED[asked]
    semantics = {**STORED, **changed}
    query, key = states["hs_dec"], states["hs_enc"]
    out, cache = attncli.attention(query, key, key, **semantics)
    result = attn(command, run, *options, "--json")
    assert result.code == 0
    assert {name: result.json[name] for name in STORED} == semantics
    if command == "trace":
        at = {one["name"]: one["data"] for one in result.json["trace"]}
        np.testing.assert_allclose(at["out"], out[0], atol=1e-14)
        return
    got = {name: np.array(one["data"]) for name, one in result.json["tensors"].items()}
    if command == "forward":
        np.testing.assert_allclose(got["out"], out, atol=1e-14)
    else:
        dquery, dkey, dvalue = attncli.attention_backward(got["dout"], cache)
        np.testing.assert_allclose(got["dhs_dec"], dquery, atol=1e-13)
        np.testing.assert_allclose(got["dhs_enc"], dkey + dvalue, atol=1e-13)


def test_the_runs_dtype_layer_and_dout_stay_unless_others_are_asked_for(attn, run, folder):
    kept = arrays_in(attn("backward", run, "--json"))
    assert {x.dtype for x in kept.values()} == {np.dtype(float)}
    narrow = attn("backward", run, "--dtype", "float32", "--json").json["tensors"]
    assert {one["dtype"] for name, one in narrow.items() if name != "dout"} == {"float32"}
    attn("forward", "--layer", "attention", "-o", "one.npz", "-q")
    assert attn("forward", "one.npz", "--json").json["layer"] == "attention"
    asked = attn("forward", "one.npz", "--layer", "attention-weight", "--json")
    assert asked.json["layer"] == "attention-weight"
    assert list(asked.json["tensors"]) == ["hs", "h", "a"]


@pytest.mark.parametrize("seed", [0, 6])
def test_a_seed_wins_over_the_runs(attn, folder, seed):
    attn("forward", "--seed", 5, "-o", "run.npz", "-q")
    own = attn("backward", "run.npz", "--json").json
    other = attn("backward", "run.npz", "--seed", seed, "--json").json
    assert (own["seed"], other["seed"]) == (5, seed)
    same = attn("backward", "--seed", seed, "--json").json
    assert other["tensors"]["dout"] == same["tensors"]["dout"]
    assert other["tensors"]["hs_enc"] == own["tensors"]["hs_enc"]


@pytest.mark.parametrize("seed", [-1, -(2**70), 2.5, "5", True, [5]])
def test_a_stored_seed_that_is_none_is_refused(attn, folder, states, seed):
    np.savez("x.npz", **states, options=np.array(json.dumps({"seed": seed})))
    result = attn("backward", "x.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: x.npz: its options hold what no run writes: seed is ")


# Heads


@pytest.fixture
def packed(attn, folder):
    """A run with four query heads and two key heads in the last axis."""
    rng = np.random.default_rng(0)
    widths = {"query": (3, 40), "key": (7, 20), "value": (7, 22)}
    arrays = {name: rng.normal(size=(2, T, width)) for name, (T, width) in widths.items()}
    np.savez("packed.npz", **arrays)
    command = ["forward", "packed.npz", "--heads", 4, "--kv-heads", 2]
    assert attn(*command, "-o", "run.npz", "-q").code == 0
    return arrays


@pytest.mark.parametrize(
    ("options", "heads", "shape"),
    [
        ([], {"heads": 4, "kv_heads": 2}, (2, 4, 3, 7)),
        (["--heads", 2, "--kv-heads", 1], {"heads": 2, "kv_heads": 1}, (2, 2, 3, 7)),
    ],
)
def test_heads_asked_for_win_over_the_runs(attn, packed, options, heads, shape):
    result = attn("forward", "run.npz", *options, "--json")
    assert arrays_in(result)["weights"].shape == shape
    assert {name: result.json[name] for name in heads} == heads


@pytest.mark.parametrize("more", [[], ["--causal", "--causal-align", "lower-right"]])
def test_weights_that_a_run_did_not_keep_are_those_of_its_heads(attn, packed, more):
    command = ["forward", "packed.npz", "--heads", 4, "--kv-heads", 2, *more]
    expected = np.array(attn(*command, "--json").json["tensors"]["weights"]["data"])
    attn(*command, "--no-weights", "-o", "bare.npz", "-q")
    matrices = attn("show-weights", "bare.npz", "--json").json["matrices"]
    assert [(one["item"], one["head"]) for one in matrices] == list(np.ndindex(2, 4))
    for one in matrices:
        np.testing.assert_allclose(one["weights"], expected[one["item"], one["head"]], atol=1e-15)
    chosen = ("--item", 1, "--head", 2, "--rows", "1:3")
    (part,) = attn("show-weights", "bare.npz", *chosen, "--json").json["matrices"]
    np.testing.assert_allclose(part["weights"], expected[1, 2, 1:3], atol=1e-15)


def test_kv_heads_alone_stand_beside_the_runs_heads(attn, folder):
    shapes = {"query": (2, 3, 40), "key": (2, 7, 40), "value": (2, 7, 40)}
    np.savez("x.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    attn("forward", "x.npz", "--heads", 4, "-o", "run.npz", "-q")
    assert attn("forward", "run.npz", "--kv-heads", 4, "--json").json["kv_heads"] == 4
    wrong = attn("forward", "run.npz", "--kv-heads", 3)
    assert wrong.err.startswith("error: --heads 4,3: expected a divisor")
    alone = attn("forward", "x.npz", "--kv-heads", 2)
    assert alone.code == 2
    assert alone.err.startswith("error: --kv-heads has no meaning without --heads\n")


def test_heads_of_a_key_that_has_none_are_an_error(attn, folder):
    arrays = {"query": np.ones((2, 2, 3, 5))} | dict.fromkeys(
        ("key", "value"), np.ones((2, 0, 7, 5))
    )
    np.savez("x.npz", **arrays)
    for command in ("forward", "backward", "trace", "show-weights"):
        result = attn(command, "x.npz")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(("error: x.npz: query has 2", "error: x.npz: key is (2, 0,"))


# Options of a run that no run writes


UNTRUSTED = {
    '{"heads": 0}': "heads is 0, expected 1 or more",
    '{"heads": -2}': "heads is -2, expected 1 or more",
    '{"heads": true}': "hold what no run writes",
    '{"heads": 2.0}': "hold what no run writes",
    '{"heads": 4, "kv_heads": 0}': "kv_heads is 0, expected 1 or more",
    '{"heads": 4, "kv_heads": 3}': "heads",
    '{"heads": 3}': "cannot be split into 3 heads",
    '{"scale": [1]}': "hold what no run writes",
    '{"scale": [1, 2]}': "hold what no run writes",
    '{"scale": true}': "hold what no run writes",
    '{"scale": NaN}': "scale is nan, expected a finite number",
    '{"scale": -Infinity}': "scale is -inf, expected a finite number",
    f'{{"scale": 1{"0" * 400}}}': "expected a finite number",
    f'{{"softcap": 1{"0" * 400}}}': "expected a finite number",
    '{"softcap": Infinity}': "softcap is inf, expected a finite number",
    '{"softcap": 0}': "softcap is 0, expected a finite number above 0",
    '{"window": 1.5}': "hold what no run writes",
    '{"window": true}': "hold what no run writes",
    '{"window": -2}': "window is -2, expected 0 or more, or -1 for no limit",
    '{"window": [1]}': "window is (1,), expected one number, or two",
    '{"window": [1, true]}': "window is [1, True], expected a whole number",
    '{"align": 3}': "hold what no run writes",
    '{"causal": true}': "hold what no run writes",
    '{"causal": "left"}': "causal is left, expected upper_left or lower_right",
}


@pytest.mark.parametrize("options", UNTRUSTED, ids=lambda text: text[:24])
@pytest.mark.parametrize("command", ["forward", "backward", "trace", "show-weights"])
def test_options_that_no_run_writes_are_one_error_that_names_the_file(
    attn, folder, command, options
):
    x = np.ones((2, 3, 8))
    np.savez("x.npz", query=x, key=x, value=x, options=np.array(options))
    result = attn(command, "x.npz")
    assert (result.code, result.out) == (2, "")
    first, *hints = result.err.splitlines()
    assert first.startswith("error: x.npz: ")
    assert UNTRUSTED[options] in first
    assert all(line.startswith("hint:  ") for line in hints)


@pytest.mark.parametrize("option", ["--softcap", "--scale"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("command", ["forward", "backward", "trace"])
def test_options_that_are_no_finite_number_are_refused(attn, command, option, value):
    result = attn(command, f"{option}={value}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert option.removeprefix("--") in result.err.splitlines()[0]


# Sizes beside a file


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--T", 3], "--T 3 contradicts x.npz: T_enc is 7"),
        (["--T", 7], "--T 7 contradicts x.npz: T_dec is 3"),
        (["--T", 5], "--T 5 contradicts x.npz: T_dec is 3"),
        (["--T", 3, "--T-enc", 3], "--T-enc 3 contradicts x.npz: T_enc is 7"),
        (["--T", 7, "--T-enc", 7], "--T 7 contradicts x.npz: T_dec is 3"),
        (["--T-enc", 5], "--T-enc 5 contradicts x.npz: T_enc is 7"),
        (["--H", 3], "--H 3 contradicts x.npz: H is 5"),
        (["--N", 3], "--N 3 contradicts x.npz: N is 2"),
        (["--N", 2, "--T", 3, "--T-enc", 7, "--H", 5], None),
        (["--T-enc", 7], None),
    ],
)
def test_a_size_that_the_file_does_not_have_is_refused(attn, folder, states, options, message):
    np.savez("x.npz", **states)
    for command in ("forward", "backward", "trace"):
        result = attn(command, "x.npz", *options)
        if message is None:
            assert (result.code, result.err) == (0, "")
        else:
            error = result.err.splitlines()[0]
            assert (result.code, result.out, error) == (2, "", f"error: {message}")


def test_T_alone_is_that_of_the_only_sequence_there_is(attn, folder):
    np.savez("x.npz", hs=np.ones((2, 7, 5)), h=np.ones((2, 5)))
    assert attn("forward", "x.npz", "--T", 7).code == 0
    result = attn("forward", "x.npz", "--T", 5)
    assert result.code == 2
    assert result.err.startswith("error: --T 5 contradicts x.npz: T_enc is 7\n")


# One thing given twice, and options that contradict each other


@pytest.mark.parametrize(
    ("name", "shape"),
    [("hs-dec", (2, 3, 5)), ("mask", (3, 7)), ("enc-mask", (2, 7)), ("dout", (2, 3, 5))],
)
def test_a_tensor_from_two_files_is_refused_and_neither_wins(attn, folder, states, name, shape):
    array = np.ones(shape, bool if "mask" in name else float)
    np.savez("x.npz", **{**states, name.replace("-", "_"): array})
    np.save("one.npy", array)
    result = attn("backward", "x.npz", f"--{name}", "one.npy")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: --{name} one.npy: x.npz holds {name.replace('-', '_')}")


CONTRADICTIONS = {
    "--quiet and --verbose": ["--quiet", "--verbose"],
    "-o - and --json": ["-o", "-", "--json"],
    "--force has no meaning without -o": ["--force"],
    "--kv-heads has no meaning without --heads": [
        *("--layer", "scaled-dot-product", "--kv-heads", 2),
    ],
    "--heads 3,2: expected a divisor": [
        *("--layer", "scaled-dot-product", "--H", 6, "--heads", 3, "--kv-heads", 2),
    ],
    "--rename has no meaning without FILE": ["--hs-enc", "x.npy", "--rename", "hs_dec=x"],
    "--scores has no meaning here: time-attention takes": ["states.npz", "--scores", "x.npy"],
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
@pytest.mark.parametrize("command", ["forward", "backward"])
def test_what_contradicts_itself_is_refused(attn, folder, states, command, message):
    np.savez("states.npz", **states)
    np.save("x.npy", states["hs_enc"])
    result = attn(command, *CONTRADICTIONS[message])
    assert (result.code, result.out) == (2, "")
    assert message in result.err.splitlines()[0]


# Indices


@pytest.mark.parametrize("index", [-1, -2, 2, 99])
@pytest.mark.parametrize(
    ("command", "option"),
    [("trace", option) for option in ("item", "head", "step")]
    + [("show-weights", option) for option in ("item", "head", "layer")],
)
def test_an_index_that_is_none_is_refused_and_never_counts_from_the_end(
    attn, folder, command, option, index
):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(2, 2, 2, 5)) for name in ("query", "key", "value")}
    np.savez("x.npz", **arrays)
    result = attn(command, "x.npz", f"--{option}", index)
    assert (result.code, result.out) == (2, "")
    assert f"error: --{option} {index}: x.npz has no such {option}; there " in result.err


# Masks of every number of axes, beside --item

MASKS = {
    "(T_enc,)": (7,),
    "(T_dec, T_enc)": (3, 7),
    "(1, T_dec, T_enc)": (1, 3, 7),
    "(N, T_dec, T_enc)": (2, 3, 7),
    "(N, 1, T_enc)": (2, 1, 7),
    "(T_dec, 1)": (3, 1),
}


@pytest.mark.parametrize("kind", ["boolean", "float", "integer"])
@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("shape", MASKS)
def test_one_item_is_looked_at_under_its_own_part_of_the_mask(
    attn, folder, states, shape, item, kind
):
    rng = np.random.default_rng(5)
    mask = rng.random(MASKS[shape]) < 0.6
    mask[..., 0] = True
    given = {
        "boolean": mask,
        "float": np.where(mask, rng.normal(size=mask.shape), -np.inf),
        "integer": mask.astype(int),
    }[kind]
    np.savez("x.npz", **states, mask=given)
    said = ""
    if kind == "integer":
        said = "warning: mask is int64, read as boolean: 1 takes part, 0 is hidden\n"
    weights = arrays_in(attn("forward", "x.npz", "--json"), said)["weights"]
    expected = attncli.attention_weights(
        states["hs_dec"], states["hs_enc"], mask=given if kind == "float" else mask, scale=1.0
    )
    np.testing.assert_allclose(weights, expected, atol=1e-15)
    (matrix,) = attn("show-weights", "x.npz", "--item", item, "--json").json["matrices"]
    np.testing.assert_allclose(matrix["weights"], expected[item], atol=1e-15)
    for step in (0, 2):
        place = ("--item", item, "--step", step)
        traced = attn("trace", "x.npz", *place, "--only", "weights", "--json").json["trace"]
        np.testing.assert_allclose(traced[0]["data"], expected[item, step], atol=1e-15)


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 7), (2, 2, 3, 7), (2, 1, 3, 7), (1, 2, 1, 7)])
@pytest.mark.parametrize("place", [(0, 1), (1, 0)])
def test_one_head_is_looked_at_under_its_own_part_of_the_mask(attn, folder, shape, place):
    """With as many heads as items: a mask of three axes is one of heads, as in NumPy."""
    rng = np.random.default_rng(5)
    query, key, value = (rng.normal(size=(2, 2, T, 5)) for T in (3, 7, 7))
    mask = rng.random(shape) < 0.6
    mask[..., 0] = True
    np.savez("x.npz", query=query, key=key, value=value, mask=mask)
    expected = attncli.attention_weights(query, key, mask=mask)[place]
    chosen = ("--item", place[0], "--head", place[1])
    (matrix,) = attn("show-weights", "x.npz", *chosen, "--json").json["matrices"]
    np.testing.assert_allclose(matrix["weights"], expected, atol=1e-15)
    for step in range(3):
        traced = attn("trace", "x.npz", *chosen, "--step", step, "--json").json["trace"]
        at = {one["name"]: one["data"] for one in traced}
        np.testing.assert_allclose(at["weights"], expected[step], atol=1e-15)
