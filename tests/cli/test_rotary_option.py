"""``--rotary``: query and key turned by their positions before they meet, and gradients back."""

import json

import numpy as np
import pytest

import attncli
from attncli.core import rotary as module

N, HEADS, KV_HEADS, T_DEC, T_ENC, H, H_V = 2, 6, 3, 5, 7, 10, 11
SHAPES = {
    "three axes": ((N, T_DEC, H), (N, T_ENC, H), (N, T_ENC, H_V)),
    "grouped": ((N, HEADS, T_DEC, H), (N, KV_HEADS, T_ENC, H), (N, KV_HEADS, T_ENC, H_V)),
    "side by side": (
        (N, T_DEC, HEADS * H),
        (N, T_ENC, KV_HEADS * H),
        (N, T_ENC, KV_HEADS * H_V),
    ),
}
STYLES = {
    "halves": (["--rotary", "halves"], {}),
    "interleaved": (["--rotary", "interleaved", "--rotary-base", 500], {"base": 500.0}),
    "narrow": (["--rotary", "halves", "--rotary-width", 4], {"width": 4}),
}


def drawn(form, dtype=np.float64):
    rng = np.random.default_rng(3)
    shapes = dict(zip(("query", "key", "value"), SHAPES[form], strict=True))
    arrays = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    width = H_V * HEADS if form == "side by side" else H_V
    arrays["dout"] = rng.normal(size=(*arrays["query"].shape[:-1], width)).astype(dtype)
    return arrays


def split(name, x, form):
    if form != "side by side":
        return x
    heads = HEADS if name in ("query", "dout") else KV_HEADS
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def merged(x, form):
    return x.swapaxes(1, 2).reshape(N, x.shape[2], -1) if form == "side by side" else x


def expected(arrays, form, style, more, own, **options):
    """Output and gradients by the public functions: rotated before, and back behind."""
    q, k, v, dout = (split(name, x, form) for name, x in arrays.items())
    own, at = np.arange(T_DEC) + own, np.arange(T_ENC)
    how = {"style": "halves" if style == "narrow" else style, **more}
    out, cache = attncli.attention(
        attncli.rotary(q, own, **how), attncli.rotary(k, at, **how), v, **options
    )
    dq, dk, dv = attncli.attention_backward(dout, cache)
    found = {
        "out": out,
        "dquery": attncli.rotary(dq, own, inverse=True, **how),
        "dkey": attncli.rotary(dk, at, inverse=True, **how),
        "dvalue": dv,
    }
    return {name: merged(x, form) for name, x in found.items()}


def asked(form):
    return ["--heads", HEADS, "--kv-heads", KV_HEADS] if form == "side by side" else []


def tensors(result):
    return {name: np.array(x["data"]) for name, x in result.json["tensors"].items()}


@pytest.mark.parametrize("engine", ["direct", "tiled", "reference"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("form", SHAPES)
def test_query_and_key_are_rotated_and_their_gradients_back(attn, tmp_path, form, style, engine):
    arrays, (words, more) = drawn(form), STYLES[style]
    np.savez(tmp_path / "in.npz", **arrays)
    result = attn(
        "backward", tmp_path / "in.npz", *asked(form), *words, "--engine", engine, "--json"
    )
    assert (result.code, result.err) == (0, "")
    for name, want in expected(arrays, form, style, more, 0).items():
        np.testing.assert_allclose(tensors(result)[name], want, atol=1e-13, err_msg=name)


def test_a_query_is_rotated_as_its_own_key_is(attn, tmp_path):
    arrays = drawn("grouped")
    np.savez(tmp_path / "in.npz", **arrays)
    right = ["--causal", "--causal-align", "lower-right"]
    result = attn("backward", tmp_path / "in.npz", "--rotary", "halves", *right, "--json")
    want = expected(arrays, "grouped", "halves", {}, T_ENC - T_DEC, causal="lower_right")
    for name, x in want.items():
        np.testing.assert_allclose(tensors(result)[name], x, atol=1e-13, err_msg=name)
    left = attn("forward", tmp_path / "in.npz", "--rotary", "halves", "--causal", "--json")
    assert np.abs(tensors(left)["out"] - want["out"]).max() > 0.1


def test_half_precision_is_rotated_in_float32(attn, tmp_path):
    arrays = drawn("three axes", np.float16)
    np.savez(tmp_path / "in.npz", **arrays)
    result = attn("backward", tmp_path / "in.npz", "--rotary", "interleaved", "--json")
    assert result.json["tensors"]["dquery"]["dtype"] == "float16"
    wide = {name: x.astype(np.float32) for name, x in arrays.items()}
    for name, want in expected(wide, "three axes", "interleaved", {}, 0).items():
        np.testing.assert_array_equal(tensors(result)[name], want.astype(np.float16))


def test_nan_in_a_hidden_key_leaks_nowhere(attn, tmp_path):
    arrays = drawn("three axes")
    clean = dict(arrays, mask=np.arange(T_ENC) < 6)
    dirty = dict(clean, key=arrays["key"].copy())
    dirty["key"][:, 6] = np.nan
    found = []
    for name, x in {"clean": clean, "dirty": dirty}.items():
        np.savez(tmp_path / f"{name}.npz", **x)
        command = ["backward", tmp_path / f"{name}.npz", "--rotary", "halves"]
        result = attn(*command, "--allow-nonfinite", "--json")
        assert (result.code, result.err) == (0, "")
        found.append(tensors(result))
    for name in ("out", "dquery", "dkey", "dvalue"):
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.fixture
def run_file(attn, tmp_path):
    """A run of grouped heads side by side, decoded, and its arrays."""
    np.savez(tmp_path / "in.npz", **drawn("side by side"))
    options = [
        *asked("side by side"), "--rotary", "interleaved", "--rotary-base", 77,
        "--rotary-width", 6, "--causal", "--causal-align", "lower-right",
    ]  # fmt: skip
    path = tmp_path / "run.npz"
    assert attn("backward", tmp_path / "in.npz", *options, "-o", path).code == 0
    return path, dict(np.load(path))


def test_a_run_file_carries_the_rotation(attn, run_file):
    path, arrays = run_file
    options = json.loads(str(arrays["options"]))
    own = {name: x for name, x in options.items() if name.startswith("rotary")}
    assert own == {"rotary": "interleaved", "rotary_base": 77.0, "rotary_width": 6}
    again = attn("backward", path, "--json")
    for name in ("out", "weights", "dquery", "dkey"):
        np.testing.assert_array_equal(tensors(again)[name], arrays[name])
    assert {x: again.json[x] for x in own} == own
    other = attn("forward", path, "--rotary-base", 10000, "--json").json
    assert (other["rotary"], other["rotary_base"]) == ("interleaved", 10000)


@pytest.mark.parametrize("rows", [[], ["--rows", "2:4"]])
def test_the_weights_of_a_run_are_those_of_rotated_queries(attn, tmp_path, run_file, rows):
    path, arrays = run_file
    kept = {name: x for name, x in arrays.items() if name not in ("weights", "out")}
    np.savez(tmp_path / "less.npz", **kept)
    words = ["--item", 1, "--head", 4, *rows, "--json"]
    shown = attn("show-weights", tmp_path / "less.npz", *words)
    want = attn("show-weights", path, *words).json
    assert shown.code == 0
    picture, wanted = (x["matrices"][0]["weights"] for x in (shown.json, want))
    np.testing.assert_allclose(picture, wanted, atol=1e-15)


def test_a_budget_is_computed_from_rotated_queries(attn, tmp_path):
    np.savez(tmp_path / "in.npz", **drawn("grouped", np.float32))
    run = tmp_path / "run.npz"
    attn("backward", tmp_path / "in.npz", "--rotary", "halves", "-o", run, "--no-weights")
    names = [x for name in ("out", "dquery", "dkey", "dvalue") for x in ("--only", name)]
    command = ["compare", run, run, *names, "--budget", tmp_path / "in.npz"]
    assert attn(*command, "--rotary", "halves").code == 0
    assert attn(*command, "--rotary", "interleaved").code == 1
    assert attn(*command).code == 1
    assert attn("compare", run, run, *names, "--budget", run).code == 0  # the run's own


def test_gradcheck_proves_the_rotation(attn, monkeypatch):
    command = ["gradcheck", "--rotary", "interleaved", "--rotary-width", 2, "--N", 1, "--T", 2]
    assert attn(*command).code == 0
    assert attn(*command, "--method", "central").code == 0

    monkeypatch.setattr(module, "_turned", lambda *x, f=module._turned: x[0] if x[-1] else f(*x))
    wrong = attn(*command)
    assert wrong.code == 1
    assert wrong.out.count("WRONG") == 10  # dquery and dkey by five engines


def test_the_steps_of_a_trace_sum_up_to_the_gradients(attn, run_file):
    path, arrays = run_file
    dkey = np.zeros((N, HEADS, T_ENC, H))
    for item, head, step in np.ndindex(N, HEADS, T_DEC):
        place = ["--item", item, "--head", head, "--step", step]
        traced = attn("trace", path, *place, "--json").json
        steps = {one["name"]: np.array(one["data"]) for one in traced["trace"]}
        own = slice(head * H, (head + 1) * H)
        np.testing.assert_array_equal(steps["query"], arrays["query"][item, step, own])
        np.testing.assert_allclose(steps["dquery"], arrays["dquery"][item, step, own], atol=1e-14)
        np.testing.assert_allclose(steps["weights"], arrays["weights"][item, head, step])
        scores = steps["rotated_key"] @ steps["rotated_query"] / np.sqrt(H)
        np.testing.assert_allclose(steps["scores"], scores)
        assert {"drotated_query", "drotated_key"} <= steps.keys()
        dkey[item, head] += steps["dkey"]
    summed = dkey.reshape(N, KV_HEADS, -1, T_ENC, H).sum(axis=2)
    np.testing.assert_allclose(merged(summed, "side by side"), arrays["dkey"], atol=1e-13)


@pytest.mark.parametrize("style", STYLES)
def test_a_trace_works_out_the_rotation_of_each_feature(attn, style):
    sizes = ["--layer", "scaled-dot-product", "--N", 1, "--T", 2, "--H", 4, "--step", 1]
    words = ["--rotary", "halves", "--rotary-width", 2] if style == "narrow" else STYLES[style][0]
    text = attn("trace", *sizes, *words).out
    shown = [line.strip() for line in text.splitlines()]
    for name in ("rotated_query", "dquery"):
        worked = [line for line in shown if line.startswith(f"{name}[")]
        assert len(worked) == 4
        for line in worked:
            _, formula, value = line.split(" = ")
            formula = formula.replace("−", "-").replace("·", "*")
            computed = eval(formula, {"cos": np.cos, "sin": np.sin})
            assert computed == pytest.approx(float(value), abs=1e-14)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--layer", "time-attention", "--rotary", "halves"],
            "error: --rotary has no meaning for time-attention: it turns query and key\n"
            "hint:  attn forward --layer scaled-dot-product --rotary halves\n",
        ),
        (
            ["--layer", "scaled-dot-product", "--rotary-width", 2],
            "error: --rotary-width has no meaning without --rotary\n"
            "hint:  attn forward --layer scaled-dot-product --rotary-width 2 --rotary halves\n",
        ),
        (
            ["--layer", "scaled-dot-product", "--rotary", "halves", "--H", 5],
            "error: query is (3, 5, 5): H is 5, expected an even number of features, or a rotary "
            "width of fewer\n",
        ),
        (
            ["--layer", "scaled-dot-product", "--rotary", "halves", "--rotary-width", 3],
            "error: rotary width is 3, expected an even number, 2 or more\n",
        ),
        (
            ["--layer", "scaled-dot-product", "--rotary", "halves", "--rotary-base", "nan"],
            "error: invalid value for '--rotary-base': nan is not a finite number\n"
            "hint:  attn forward --layer scaled-dot-product --rotary halves\n",
        ),
    ],
)
@pytest.mark.parametrize("command", ["forward", "trace"])
def test_what_cannot_be_rotated_is_said(attn, command, words, said):
    result = attn(command, *words)
    assert (result.code, result.out, result.err) == (
        2,
        "",
        said.replace("attn forward", f"attn {command}"),
    )


def test_a_width_of_more_features_than_a_head_has_is_an_error(attn, tmp_path):
    np.savez(tmp_path / "in.npz", **drawn("side by side"))
    command = ["forward", tmp_path / "in.npz", *asked("side by side"), "--rotary", "halves"]
    result = attn(*command, "--rotary-width", H + 2)
    assert result.code == 2
    assert f"H is {H}, expected at least the rotary width {H + 2}" in result.err


@pytest.mark.parametrize(
    "options",
    [
        {"rotary": "sideways"},
        {"rotary": 1},
        {"rotary": "halves", "rotary_width": 2.0},
        {"rotary": "halves", "rotary_base": "10"},
        {"rotary": "halves", "rotary_base": 0},
        {"rotary_base": 10},
        {"layer": "time-attention", "rotary": "halves"},
    ],
    ids=str,
)
def test_options_that_no_run_writes_are_an_error(attn, tmp_path, options):
    states = {"hs_enc": np.ones((2, 3, 4)), "hs_dec": np.ones((2, 3, 4))}
    text = json.dumps({"layer": "scaled-dot-product", **options})
    np.savez(tmp_path / "run.npz", **drawn("three axes"), **states, options=np.array(text))
    result = attn("forward", tmp_path / "run.npz")
    assert result.code == 2
    assert "run.npz: its options" in result.err


def test_rotary_is_for_our_own_calculations(attn, tmp_path):
    (tmp_path / "mine.py").write_text("def f(q, k, v):\n    return q\n")
    result = attn("gradcheck", tmp_path / "mine.py", "--rotary", "halves")
    assert result.code == 2
    assert "--rotary is for the layers of attn" in result.err
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    result = attn("compare", tmp_path / "a.npz", tmp_path / "a.npz", "--rotary", "halves")
    error = "error: --rotary: has a meaning with --budget only"
    assert (result.code, result.err.splitlines()[0]) == (2, error)


def test_other_positions_than_the_steps_are_not_ignored_in_silence(attn, tmp_path):
    arrays = drawn("three axes")
    steps = np.arange(T_ENC)
    for positions, told in ((steps, False), (np.tile(steps, (N, 1)), False), (steps + 1, True)):
        np.savez(tmp_path / "in.npz", **arrays, position_ids=positions)
        result = attn("forward", tmp_path / "in.npz", "--rotary", "halves", "-q")
        assert (result.code, "position_ids not used: " in result.err) == (0, told)
        unturned = attn("forward", tmp_path / "in.npz", "-q").err
        assert "position_ids not used; --rotary halves computes with it" in unturned
