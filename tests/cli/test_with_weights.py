"""``--layer luong``, ``bahdanau`` and ``multi-head``: layers whose weights are inputs by name."""

import numpy as np
import pytest

from attncli.layers import BahdanauAttention, LuongAttention, MultiHeadAttention
from attncli.tensors import random_tensor

PARAMETERS = {
    "luong": ["W"],
    "bahdanau": ["W_enc", "W_dec", "v"],
    "multi-head": ["Wq", "Wk", "Wv", "Wo"],
}
ARGUMENTS = {
    "luong": ["hs_enc", "hs_dec"],
    "bahdanau": ["hs_enc", "hs_dec"],
    "multi-head": ["query", "key", "value"],
}
LAYERS = list(PARAMETERS)
CLASSES = {"luong": LuongAttention, "bahdanau": BahdanauAttention, "multi-head": MultiHeadAttention}
SIZES = ["--N", 2, "--T", 3, "--T-enc", 5, "--H", 4]
# As in a file, where all sizes may differ: the steps, the hidden sizes, and what they meet in.
SHAPES = {
    "hs_enc": (2, 7, 3),
    "hs_dec": (2, 5, 11),
    "query": (2, 5, 3),
    "key": (2, 7, 3),
    "value": (2, 7, 3),
    "W": (11, 3),
    "W_enc": (3, 13),
    "W_dec": (11, 13),
    "v": (13,),
    "Wq": (3, 22),
    "Wk": (3, 22),
    "Wv": (3, 22),
    "Wo": (22, 3),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return request.param


@pytest.fixture
def arrays(layer):
    """Inputs and parameters of one layer, by name."""
    names = ARGUMENTS[layer] + PARAMETERS[layer]
    return {name: random_tensor(name, SHAPES[name], seed=3) for name in names}


def heads(layer):
    return ["--heads", 2] if layer == "multi-head" else []


def instance(layer, arrays):
    parameters = [arrays[name] for name in PARAMETERS[layer]]
    return CLASSES[layer](*parameters, *([2] if layer == "multi-head" else []))


def tensors(result):
    return {name: np.array(x["data"]) for name, x in result.json["tensors"].items()}


def test_random_parameters_are_drawn_each_from_the_stream_of_its_name(attn, layer):
    result = attn("forward", "--layer", layer, *SIZES, "--seed", 5, "--json")
    assert (result.code, result.err) == (0, "")
    found = tensors(result)
    assert list(found) == [*ARGUMENTS[layer], *PARAMETERS[layer], "out", "weights"]
    for name in ARGUMENTS[layer] + PARAMETERS[layer]:
        np.testing.assert_array_equal(found[name], random_tensor(name, found[name].shape, seed=5))
    one = instance(layer, found)
    np.testing.assert_array_equal(found["out"], one.forward(*(found[x] for x in ARGUMENTS[layer])))
    np.testing.assert_array_equal(found["weights"], one.attention_weight)


@pytest.mark.parametrize("size", [1, 5, 6])
def test_random_heads_share_out_the_features_whatever_the_hidden_size(attn, size):
    result = attn("forward", "--layer", "multi-head", "--H", size, "--heads", 3, "--json")
    assert result.json["sizes"]["D"] == max(3, size // 3 * 3)
    assert result.json["heads"] == 3


def test_inputs_and_parameters_come_from_a_file_and_the_run_runs_again(attn, folder, layer, arrays):
    np.savez("in.npz", **arrays)
    first = attn("backward", "in.npz", "--layer", layer, *heads(layer), "-o", "run.npz", "--json")
    assert (first.code, first.err) == (0, "wrote the run to run.npz\n")
    held = np.load("run.npz")
    one = instance(layer, arrays)
    np.testing.assert_array_equal(
        held["out"], one.forward(*(arrays[name] for name in ARGUMENTS[layer]))
    )
    gradients = [*one.backward(held["dout"]), *one.grads]
    for name, gradient in zip(arrays, gradients, strict=True):
        np.testing.assert_array_equal(held[f"d{name}"], gradient)
        np.testing.assert_array_equal(held[name], arrays[name])
    again = attn("backward", "run.npz", "--json")
    assert (again.code, again.err) == (0, "")
    assert again.json["layer"] == layer
    assert again.json["tensors"] == first.json["tensors"]


def test_parameters_and_their_gradients_have_named_axes(attn):
    found = attn("backward", "--layer", "bahdanau", "--json").json["tensors"]
    axes = {name: tensor["axes"] for name, tensor in found.items()}
    assert axes["hs_dec"] == axes["dhs_dec"] == ["N", "T_dec", "H_dec"]
    assert axes["W_enc"] == axes["dW_enc"] == ["H", "A"]
    assert axes["v"] == axes["dv"] == ["A"]
    assert axes["out"] == axes["dout"] == ["N", "T_dec", "H"]


def test_self_attention_is_a_file_of_one_input(attn, folder):
    names = ["query", *PARAMETERS["multi-head"]]
    arrays = {name: random_tensor(name, SHAPES[name]) for name in names}
    np.savez("in.npz", **arrays)
    attn("backward", "in.npz", "--layer", "multi-head", "--heads", 2, "-o", "run.npz")
    held = np.load("run.npz")
    one = instance("multi-head", arrays)
    np.testing.assert_array_equal(held["out"], one.forward(arrays["query"]))
    np.testing.assert_array_equal(held["dquery"], one.backward(held["dout"]))
    assert held["weights"].shape == (2, 2, 5, 5)
    assert "key" not in held
    again = attn("forward", "run.npz", "--json")
    np.testing.assert_array_equal(tensors(again)["out"], held["out"])


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (["--causal"], np.tri(5, 7)),
        (["--causal", "--causal-align", "lower-right"], np.tri(5, 7, 2)),
        (["--window", 1], np.tri(5, 7, 1) - np.tri(5, 7, -2)),
    ],
    ids=str,
)
def test_causal_order_and_windows_hide(attn, folder, layer, arrays, options, seen):
    np.savez("in.npz", **arrays)
    np.savez("masked.npz", **arrays, mask=seen == 1)
    found = attn("forward", "in.npz", "--layer", layer, *heads(layer), *options, "--json")
    masked = attn("forward", "masked.npz", "--layer", layer, *heads(layer), "--json")
    weights = tensors(found)["weights"]
    assert ((weights > 0) == np.broadcast_to(seen == 1, weights.shape)).all()
    np.testing.assert_array_equal(tensors(found)["out"], tensors(masked)["out"])


def test_masks_of_a_file_are_honoured(attn, folder, layer, arrays):
    enc_mask, dec_mask = np.arange(14).reshape(2, 7) % 3 > 0, np.arange(10).reshape(2, 5) % 4 > 0
    arrays[ARGUMENTS[layer][0 if "hs_enc" in arrays else 1]][~enc_mask] = np.nan
    np.savez("in.npz", **arrays, enc_mask=enc_mask, dec_mask=dec_mask)
    found = attn(
        "backward", "in.npz", "--layer", layer, *heads(layer), "--allow-nonfinite", "-o", "run.npz"
    )
    assert (found.code, found.err) == (0, "wrote the run to run.npz\n")
    held = np.load("run.npz")
    weights = held["weights"]
    assert (np.moveaxis(weights, -1, 1)[~enc_mask] == 0).all()
    assert (held["out"][~dec_mask] == 0).all()
    assert (held["dhs_dec" if "hs_dec" in arrays else "dquery"][~dec_mask] == 0).all()
    assert all(np.isfinite(held[f"d{name}"]).all() for name in arrays)


def test_rows_that_see_nothing_are_counted(attn, folder, layer, arrays):
    mask = np.ones((5, 7), bool)
    mask[2] = False
    np.savez("in.npz", **arrays, mask=mask)
    result = attn("forward", "in.npz", "--layer", layer, *heads(layer))
    count, rows = (4, 20) if layer == "multi-head" else (2, 10)
    assert f"{count} of {rows} rows have every key masked" in result.err


def test_show_weights_computes_those_of_the_layer(attn, folder, layer, arrays):
    mask = np.arange(70).reshape(2, 5, 7) % 4 > 0
    mask = mask[:, None] if layer == "multi-head" else mask
    np.savez("in.npz", **arrays, mask=mask)
    attn("forward", "in.npz", "--layer", layer, *heads(layer), "--no-weights", "-o", "run.npz")
    assert "weights" not in np.load("run.npz")
    one = instance(layer, arrays)
    one.forward(*(arrays[name] for name in ARGUMENTS[layer]), mask=mask)
    choice = ["--item", 1, *(["--head", 1] if layer == "multi-head" else [])]
    expected = one.attention_weight[1, 1] if layer == "multi-head" else one.attention_weight[1]
    shown = attn("show-weights", "run.npz", *choice, "--json").json["matrices"][0]["weights"]
    np.testing.assert_allclose(shown, expected, rtol=1e-14)
    rows = attn("show-weights", "run.npz", *choice, "--rows", "1:3", "--json").json["matrices"][0]
    np.testing.assert_allclose(rows["weights"], expected[1:3], rtol=1e-14)


def test_gradcheck_by_name_needs_no_argument(attn, layer):
    result = attn("gradcheck", "--layer", layer, "--json")
    assert (result.code, result.err) == (0, "")
    (target,) = result.json["targets"]
    names = {check["input"] for check in target["checks"]}
    assert names == {*ARGUMENTS[layer], *PARAMETERS[layer]}
    assert {check["tolerance"] for check in target["checks"]} == {1e-12}
    assert all(check["relative_error"] < 1e-12 for check in target["checks"])


@pytest.mark.parametrize(
    ("name", "shapes", "count"),
    [
        ("LuongAttention", ["W=4,4"], 3 * 7 * 4 + 3 * 5 * 4 + 16),
        (
            "BahdanauAttention",
            ["W_enc=4,11", "W_dec=4,11", "v=11"],
            3 * 7 * 4 + 3 * 5 * 4 + 9 * 11,
        ),
        (
            "MultiHeadAttention",
            ["Wq=4,22", "Wk=4,22", "Wv=4,22", "Wo=22,4"],
            3 * 5 * 4 + 2 * 3 * 7 * 4 + 4 * 88,
        ),
    ],
)
def test_gradcheck_of_the_class_takes_shapes_of_its_parameters(attn, name, shapes, count):
    given = [x for shape in shapes for x in ("--input", shape)]
    result = attn("gradcheck", f"attncli.layers:{name}", *given)
    assert result.code == 0
    assert f"{count} gradients right" in result.out


# What is refused, and what is said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "luong", "--scale", 2], "luong takes no --scale: it is a layer with weights"),
        (["--layer", "bahdanau", "--engine", "tiled"], "bahdanau has no tiled engine: it is a"),
        (["--layer", "luong", "--heads", 2], "--heads has no meaning for luong"),
        (
            ["--layer", "multi-head", "--heads", 2, "--kv-heads", 1],
            "--heads A,B has no meaning for multi-head",
        ),
    ],
)
def test_options_that_a_layer_does_not_have(attn, arguments, message):
    result = attn("forward", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        ("luong", {"W": (3, 11)}, "hs_dec is (2, 5, 11), W is (3, 11): H_dec differs (11 and 3)"),
        ("luong", {"W": (3,)}, "W is (3,), expected 2 axes: (H_dec, H)"),
        ("bahdanau", {"v": (12,)}, "W_enc is (3, 13), v is (12,): A differs (13 and 12)"),
        ("multi-head", {"Wo": (21, 3)}, "Wq is (3, 22), Wo is (21, 3): D differs (22 and 21)"),
        ("multi-head", {"query": (2, 2, 5, 3)}, "query is (2, 2, 5, 3), expected 3 axes"),
    ],
)
def test_parameters_that_do_not_fit_name_the_axes(attn, folder, layer, change, message):
    shapes = {name: SHAPES[name] for name in ARGUMENTS[layer] + PARAMETERS[layer]} | change
    np.savez("in.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    result = attn("forward", "in.npz", "--layer", layer, *heads(layer))
    assert result.code == 2
    assert result.err.startswith(f"error: in.npz: {message}")


def test_what_does_not_fit_is_said_before_it_is_computed(attn):
    result = attn("forward", "--layer", "bahdanau", "--T", 500, "--H", 64, "--max-memory", "100MB")
    assert result.code == 2
    assert "weights (3, 500, 500)" in result.err


def test_heads_of_a_file_are_never_guessed(attn, folder):
    names = ARGUMENTS["multi-head"] + PARAMETERS["multi-head"]
    np.savez("in.npz", **{name: np.ones(SHAPES[name]) for name in names})
    result = attn("forward", "in.npz", "--layer", "multi-head")
    assert result.code == 2
    assert result.err == (
        "error: in.npz: nothing says how many heads multi-head has\n"
        "hint:  attn forward in.npz --layer multi-head --heads 2\n"
    )
    assert attn("forward", "in.npz", "--layer", "multi-head", "--heads", 3).err == (
        "error: in.npz: Wq is (3, 22): D = 22 cannot be split into 3 heads\n"
        "hint:  attn forward in.npz --layer multi-head --heads 2\n"
    )


def test_a_missing_parameter_is_named(attn, folder):
    np.savez("in.npz", hs_enc=np.ones((1, 2, 3)), hs_dec=np.ones((1, 2, 3)))
    result = attn("forward", "in.npz", "--layer", "luong")
    assert result.code == 2
    assert "luong needs hs_enc and hs_dec and W; it holds hs_enc, hs_dec" in result.err


def test_parameters_in_a_file_are_used_on_request_alone_and_that_is_said(
    attn, folder, layer, arrays
):
    shapes = {"hs_dec": (2, 5, 3)}
    np.savez("in.npz", **{x: np.ones(shapes.get(x, y.shape)) for x, y in arrays.items()})
    if layer == "bahdanau":  # whose v would be a value elsewhere
        arrays.pop("v")
    result = attn("forward", "in.npz")
    assert result.code == 0
    names = ", ".join(PARAMETERS[layer])
    assert f"in.npz: {names} not used; --layer {layer} computes with them" in result.err


def test_the_trace_shows_every_intermediate_with_the_numbers_of_the_run(attn, folder, layer):
    attn("backward", "--layer", layer, *SIZES, "-o", "run.npz")
    head = ["--head", 1] if layer == "multi-head" else []
    result = attn("trace", "run.npz", "--step", 2, "--item", 1, *head, "-o", "trace.npz")
    assert (result.code, result.err) == (0, "wrote the trace to trace.npz\n")
    held, traced = np.load("run.npz"), np.load("trace.npz")
    weights = held["weights"][1, 1, 2] if layer == "multi-head" else held["weights"][1, 2]
    np.testing.assert_allclose(traced["weights"], weights, rtol=1e-13)
    if layer != "multi-head":
        np.testing.assert_allclose(traced["out"], held["out"][1, 2], rtol=1e-12)
        np.testing.assert_allclose(traced["dhs_dec"], held["dhs_dec"][1, 2], rtol=1e-12)
    shown = {
        "luong": "query = hs_dec · W",
        "bahdanau": "scores = met · v",
        "multi-head": "dWq = queryᵀ · dq",
    }
    assert shown[layer] in result.out


def test_a_step_of_several_heads_is_shown_head_by_head(attn):
    result = attn("trace", "--layer", "multi-head", "--heads", 2, "--head", 2)
    assert result.code == 2
    assert "--head 2: random, seed 0 has no such head; there are 2, 0 to 1" in result.err


def test_other_widths_than_without_its_weights_lead_to_the_layer(attn, folder):
    rng = np.random.default_rng(3)
    np.savez(
        "x.npz",
        hs_enc=rng.normal(size=(2, 7, 4)),
        hs_dec=rng.normal(size=(2, 5, 3)),
        W=rng.normal(size=(3, 4)),
    )
    assert attn("forward", "x.npz").err.endswith(" --layer luong\n")
    shown = attn("show-mask", "x.npz", "--causal")
    assert (shown.code, shown.err) == (0, "")
    assert "T_dec=5 T_enc=7" in shown.out
    said = attn("forward", "x.npz", "--layer", "luong", "--threads", "2").err
    assert said == "warning: --threads has no effect: luong is computed by one here\n"


def test_options_that_a_layer_does_not_take_lead_to_one_that_does(attn):
    result = attn("forward", "--layer", "luong", "--sinks", "0")
    assert "hint:  attn forward --layer time-attention " in result.err
    assert attn("forward", "--layer", "time-attention", "--sinks", "0").code == 0


def test_heads_that_do_not_fit_lead_to_as_many_as_do(attn, folder):
    arrays = {name: np.ones((2, 5, 6)) for name in ("query", "key", "value")}
    arrays |= {name: np.ones((6, 6)) for name in ("Wq", "Wk", "Wv", "Wo")}
    np.savez("x.npz", **arrays)
    result = attn("forward", "x.npz", "--layer", "multi-head", "--heads", "4")
    assert result.err.endswith(" --heads 3\n")
    assert attn("forward", "x.npz", "--layer", "multi-head", "--heads", "3").code == 0
