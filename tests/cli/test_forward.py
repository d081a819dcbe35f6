"""``attn forward``."""

import errno
import io
import json
import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from conftest import SAMPLES

from attncli.files.contents import open_tensors
from attncli.layers import TimeAttention


def test_random_tensors_of_the_given_sizes(attn):
    result = attn("forward", "--N", 2, "--T", 5, "--T-enc", 7, "--H", 3, "--seed", 1, "--json")
    assert (result.code, result.err) == (0, "")
    shapes = {name: tensor["shape"] for name, tensor in result.json["tensors"].items()}
    assert shapes == {
        "hs_enc": [2, 7, 3],
        "hs_dec": [2, 5, 3],
        "out": [2, 5, 3],
        "weights": [2, 5, 7],
        "logsumexp": [2, 5],
    }
    assert result.json["tensors"]["weights"]["axes"] == ["N", "T_dec", "T_enc"]
    assert (result.json["seed"], result.json["layer"]) == (1, "time-attention")
    assert result.json["sizes"] == {"N": 2, "T_dec": 5, "T_enc": 7, "H": 3}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_json_round_trips_every_digit(attn, dtype):
    tensors = attn("forward", "--dtype", dtype, "--engine", "reference", "--json").json["tensors"]
    arrays = {k: np.array(v["data"], dtype=v["dtype"]) for k, v in tensors.items()}
    assert all(array.dtype == dtype for array in arrays.values())
    wide = {k: arrays[k].astype("float32" if dtype == "float16" else dtype) for k in arrays}
    out = TimeAttention().forward(wide["hs_enc"], wide["hs_dec"])
    np.testing.assert_array_equal(out.astype(dtype), arrays["out"])


def test_an_option_never_changes_another_tensor(attn):
    few = attn("forward", "--N", 2, "--T", 3, "--json").json["tensors"]
    more = attn("forward", "--N", 2, "--T", 3, "--T-enc", 9, "--json").json["tensors"]
    assert few["hs_dec"] == more["hs_dec"]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        ("softmax", ["scores", "weights"]),
        ("weight-sum", ["hs", "a", "out"]),
        ("attention-weight", ["hs", "h", "a"]),
        ("attention", ["hs", "h", "out", "a", "logsumexp"]),
        ("time-attention", ["hs_enc", "hs_dec", "out", "weights", "logsumexp"]),
    ],
)
def test_every_layer_runs_and_its_run_file_runs_again(attn, folder, layer, names):
    first = attn(
        "forward", "--layer", layer, "--N", 2, "--T", 3, "--H", 5, "-o", "run.npz", "--json"
    )
    assert list(first.json["tensors"]) == names
    again = attn("forward", "run.npz", "--json")
    assert again.json["layer"] == layer
    assert again.json["tensors"] == first.json["tensors"]


def test_layer_follows_from_the_arrays(attn, folder):
    rng = np.random.default_rng(0)
    np.savez("x.npz", hs=rng.normal(size=(2, 7, 5)), h=rng.normal(size=(2, 5)))
    assert attn("forward", "x.npz", "--json").json["layer"] == "attention"
    asked = attn("forward", "x.npz", "--layer", "attention-weight", "--json")
    assert asked.json["layer"] == "attention-weight"


def test_piped_output_is_full_precision_and_never_cut(attn):
    result = attn("forward", "--N", 1, "--T", 2, "--H", 3)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "time-attention forward · random, seed 0 · N=1 T_dec=2 T_enc=2 H=3"
    assert lines[2] == "hs_enc  (1, 2, 3) = (N, T_enc, H)  float64"
    data = attn("forward", "--N", 1, "--T", 2, "--H", 3, "--json").json["tensors"]
    for name, tensor in data.items():
        if name == "logsumexp":  # only where somebody asks for it
            assert name not in result.out
            continue
        for number in np.ravel(tensor["data"]).tolist():
            assert repr(number) in result.out
    assert "\x1b" not in result.out
    assert "…" not in result.out
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_line_fits_the_terminal(attn, columns):
    result = attn("forward", columns=columns)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= columns
    assert "weights" in result.out


def test_tokens_are_headings(attn, folder):
    np.savez(
        "x.npz",
        hs_enc=np.ones((1, 2, 3)),
        hs_dec=np.ones((1, 2, 3)),
        tokens_enc=np.array([["[/INST]", "日本"]]),
        tokens_dec=np.array(["\x1b[31m", ":heart:"]),
    )
    out = attn("forward", "x.npz", columns=120).out
    for text in ("[/INST]", "日本", "\\x1b[31m", ":heart:"):
        assert text in out
    assert "\x1b[31m" not in out


def test_large_tensors_are_summed_up_unless_full(attn):
    brief = attn("forward", SAMPLES / "dates.npz")
    assert "12 of 11136 numbers shown; --full shows all" in brief.out
    assert "attn show-weights draws them" in brief.out
    full = attn("forward", SAMPLES / "dates.npz", "--full")
    assert len(full.out) > 200_000


def test_the_models_own_results_are_held_against_ours(attn, folder):
    result = attn("forward", SAMPLES / "minilm_qkv.npz", columns=80)
    assert "agrees with output in the file to " in result.out
    assert "agrees with weights in the file to " in result.out
    agreement = attn("forward", SAMPLES / "minilm_qkv.npz", "--json").json["agreement"]
    assert agreement["output"]["agrees"] is True
    assert agreement["output"]["largest_difference"] < 1e-6
    other = attn("forward", SAMPLES / "minilm_qkv.npz", "--causal")
    assert other.code == 1
    assert "DIFFERS from output in the file by up to " in other.out
    assert other.err.endswith(f"hint:  attn convention {SAMPLES / 'minilm_qkv.npz'}\n")


@pytest.mark.parametrize(("ours", "theirs"), [("float64", "float32"), ("float32", "float64")])
def test_results_agree_to_the_coarser_precision_of_the_two(attn, folder, ours, theirs):
    rng = np.random.default_rng(2)
    inputs = {"hs_enc": rng.normal(size=(2, 7, 5)), "hs_dec": rng.normal(size=(2, 3, 5))}
    inputs = {name: array.astype(ours) for name, array in inputs.items()}
    out = TimeAttention().forward(**inputs)
    for off, agrees in ((3e-6, True), (3e-4, False)):
        np.savez("x.npz", **inputs, output=(out + off).astype(theirs))
        agreement = attn("forward", "x.npz", "--json").json["agreement"]
        assert agreement["output"]["agrees"] is agrees


def test_results_of_another_shape_differ(attn, folder, states):
    out = TimeAttention().forward(**states)
    np.savez("x.npz", **states, output=out[:, :, :4], weights=np.ones((2, 3, 7)) / 7)
    result = attn("forward", "x.npz")
    assert result.code == 1
    assert "DIFFERS from output in the file" in result.out
    agreement = attn("forward", "x.npz", "--json").json["agreement"]
    assert {name: one["agrees"] for name, one in agreement.items()} == {
        "output": False, "weights": False,
    }  # fmt: skip


def test_a_run_is_not_held_against_itself_by_other_options(attn, folder):
    attn("forward", "-o", "run.npz", "-q")
    for options in ([], ["--scale", 3], ["--causal"]):
        result = attn("forward", "run.npz", *options)
        assert (result.code, result.err) == (0, "")
        assert "the file" not in result.out
        assert "agreement" not in attn("forward", "run.npz", *options, "--json").json


def test_a_floating_mask_is_added_to_given_scores(attn, folder):
    scores = np.random.default_rng(4).normal(size=(2, 3, 7))
    mask = np.random.default_rng(5).normal(size=(3, 7))
    mask[1, 2] = -np.inf
    np.savez("x.npz", scores=scores, mask=mask)
    exps = np.exp(scores + mask)
    weights = attn("forward", "x.npz", "--json").json["tensors"]["weights"]["data"]
    np.testing.assert_allclose(weights, exps / exps.sum(axis=-1, keepdims=True), atol=1e-15)


def test_plain_tokens_may_be_other_ones_in_every_item(attn, folder):
    states = {"hs_enc": np.ones((2, 3, 5)), "hs_dec": np.ones((2, 3, 5))}
    np.savez("x.npz", **states, tokens=[["a", "b", "c"], ["d", "e", "f"]])
    result = attn("forward", "x.npz", "--json")
    assert (result.code, result.err) == (0, "")
    items = [["a", "b", "c"], ["d", "e", "f"]]
    assert result.json["tokens"] == {"tokens_enc": items, "tokens_dec": items}


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (["--causal"], {"causal": "upper_left"}),
        (["--causal", "--causal-align", "lower-right"], {"causal": "lower_right"}),
        (["--causal", "--causal-align", "lower_right"], {"causal": "lower_right"}),
        (["--window", "2", "--scale", "0.5"], {"window": 2, "scale": 0.5}),
        (["--window", "1,-1"], {"window": [1, -1]}),
        (["--window", "-1,1"], {"window": [-1, 1]}),
        (
            ["--window", "0,1", "--causal-align", "lower-right"],
            {"window": [0, 1], "align": "lower_right"},
        ),
        (["--softcap", "3"], {"softcap": 3.0}),
    ],
)
def test_semantics_change_the_result_and_are_kept_in_the_run(attn, folder, options, given):
    plain = attn("forward", "--T-enc", 7, "--json").json
    result = attn("forward", "--T-enc", 7, *options, "-o", "run.npz", "--json").json
    assert result["tensors"]["out"] != plain["tensors"]["out"]
    assert {name: result[name] for name in given} == given
    again = attn("forward", "run.npz", "--json").json
    assert again["tensors"] == result["tensors"]
    reference = attn("forward", "run.npz", "--engine", "reference", "--json").json
    assert reference["engine"] == "reference"
    np.testing.assert_allclose(
        reference["tensors"]["out"]["data"], result["tensors"]["out"]["data"], atol=1e-14
    )


def test_an_alignment_that_nothing_goes_by_is_said(attn):
    result = attn("forward", "--causal-align", "lower-right")
    assert result.code == 0
    assert result.err == (
        "warning: --causal-align has no effect: nothing here goes by a query's own position\n"
    )


def test_an_alignment_beside_a_run_in_causal_order_is_that_order_s(attn, folder):
    attn("forward", "--T-enc", 7, "--causal", "-o", "run.npz")
    moved = attn("forward", "run.npz", "--causal-align", "lower-right", "--json").json
    whole = attn("forward", "--T-enc", 7, "--causal", "--causal-align", "lower-right", "--json")
    assert moved["causal"] == "lower_right"
    assert "align" not in moved
    assert moved["tensors"]["out"] == whole.json["tensors"]["out"]


def test_packed_heads_are_split_and_merged(attn, folder):
    rng = np.random.default_rng(0)
    packed = {name: rng.normal(size=(2, 5, width)) for name, width in
              (("query", 12), ("key", 6), ("value", 6))}  # fmt: skip
    np.savez("x.npz", **packed)
    result = attn("forward", "x.npz", "--heads", 4, "--kv-heads", 2, "-o", "run.npz", "--json").json
    assert result["tensors"]["out"]["shape"] == [2, 5, 12]
    assert result["tensors"]["weights"]["shape"] == [2, 4, 5, 5]
    gradients = attn("backward", "run.npz", "--json").json["tensors"]
    assert gradients["dkey"]["shape"] == [2, 5, 6]


def test_weights_are_left_out_where_they_are_large_and_it_is_said(attn):
    large = attn("forward", "--N", 1, "--T", 3000, "--H", 2)
    assert large.err == (
        "weights (1, 3000, 3000) not kept: they would take 72.0 MB; --weights keeps them\n"
    )
    assert "weights" not in large.out
    assert "weights" in attn("forward", "--N", 1, "--T", 3000, "--H", 2, "--weights").out
    small = attn("forward", "--no-weights")
    assert (small.err, "weights" in small.out) == ("", False)
    assert "weights" not in attn("forward", "--no-weights", "--engine", "reference").out


@pytest.mark.parametrize("engine", ["direct", "tiled"])
@pytest.mark.parametrize(
    ("option", "fate"), [("--weights", "kept"), ("--no-weights", "computed again")]
)
def test_every_engine_with_weights_kept_or_not(attn, engine, option, fate):
    result = attn("forward", "--engine", engine, option, "--threads", 1, "-v")
    assert f"engine: {engine}, weights {fate}, threads: 1" in result.err
    assert ("weights" in result.out) == (fate == "kept")
    out = attn("forward", "--json").json["tensors"]["out"]["data"]
    again = attn("forward", "--engine", engine, option, "--json").json
    assert again["engine"] == engine
    np.testing.assert_allclose(again["tensors"]["out"]["data"], out, atol=1e-14)


def test_the_reference_by_name(attn):
    result = attn("forward", "--engine", "reference", "--threads", 1, "-v")
    assert "engine: reference, threads: 1" in result.err


def test_masks_are_honoured(attn):
    sample = SAMPLES / "paraphrase.npz"
    tensors = attn("forward", sample, "--json").json["tensors"]
    weights = np.array(tensors["weights"]["data"])
    enc_mask, dec_mask = (np.array(tensors[name]["data"]) for name in ("enc_mask", "dec_mask"))
    assert (weights[~np.broadcast_to(enc_mask[:, None], weights.shape)] == 0).all()
    assert (weights[~dec_mask] == 0).all()
    np.testing.assert_allclose(weights[dec_mask].sum(axis=-1), 1, rtol=1e-6)


def test_fully_masked_row_is_warned_of_once(attn, folder):
    mask = np.ones((2, 3, 7), bool)
    mask[1, 1] = False
    np.savez("x.npz", hs_enc=np.ones((2, 7, 5)), hs_dec=np.ones((2, 3, 5)), mask=mask)
    result = attn("forward", "x.npz")
    assert result.code == 0
    assert result.err == (
        "warning: 1 of 6 rows has every key masked: weights, output and gradient are 0\n"
    )


@pytest.mark.parametrize("which", ["N", "T_dec"])
def test_nothing_to_compute_is_an_empty_result_with_a_warning(attn, folder, which):
    shape = (0, 3, 5) if which == "N" else (2, 0, 5)
    np.savez("x.npz", hs_enc=np.ones((shape[0], 7, 5)), hs_dec=np.ones(shape))
    result = attn("forward", "x.npz")
    assert result.code == 0
    assert "empty" in result.out
    assert f"{which} is 0: the result is empty" in result.err


def test_separate_files(attn, folder, states):
    np.save("enc.npy", states["hs_enc"])
    np.save("dec.npy", states["hs_dec"])
    result = attn("forward", "--hs-enc", "enc.npy", "--hs-dec", "dec.npy", "--json")
    expected = TimeAttention().forward(states["hs_enc"], states["hs_dec"])
    np.testing.assert_allclose(result.json["tensors"]["out"]["data"], expected)
    assert result.json["source"] == "enc.npy, dec.npy"
    again = attn("forward", "--hs-dec", "dec.npy", "--hs-enc", "enc.npy", "--json")
    assert again.out == result.out  # whichever is given first


def test_a_file_and_a_mask_beside_it(attn, folder, states):
    np.savez("x.npz", **states)
    enc_mask = np.arange(14).reshape(2, 7) % 2 == 0
    np.save("mask.npy", enc_mask)
    weights = attn("forward", "x.npz", "--enc-mask", "mask.npy", "--json").json["tensors"][
        "weights"
    ]
    assert (np.array(weights["data"])[:, :, 1] == 0).sum() == 3  # masked in the first item alone


def test_rename_and_standard_input(attn, folder, states):
    stream = io.BytesIO()
    np.savez(stream, e=states["hs_enc"], d=states["hs_dec"])
    result = attn(
        "forward", "-", "--rename", "hs_enc=e", "--rename", "hs_dec=d", stdin=stream.getvalue()
    )
    assert result.code == 0
    assert "standard input" in result.out.splitlines()[0]


def test_dtype_of_a_file_can_be_changed(attn, folder, states):
    np.savez("x.npz", **states)
    tensors = attn("forward", "x.npz", "--dtype", "float32", "--json").json["tensors"]
    assert {tensor["dtype"] for tensor in tensors.values()} == {"float32"}


# Writing


@pytest.mark.parametrize("ending", ["npz", "safetensors", "zarr"])
def test_run_file_holds_the_whole_calculation(attn, folder, ending):
    result = attn("forward", SAMPLES / "dates.npz", "-o", f"run.{ending}")
    assert (result.code, result.err) == (0, f"wrote the run to run.{ending}\n")
    run = open_tensors(f"run.{ending}")
    assert set(run) == {
        *("hs_enc", "hs_dec", "out", "weights", "logsumexp", "tokens_enc", "tokens_dec"),
        "options",
    }
    assert run.options["layer"] == "time-attention"
    assert run.options["command"] == "forward"


def test_npy_takes_the_result_alone(attn, folder):
    assert attn("forward", "-o", "out.npy").err == "wrote out to out.npy\n"
    assert np.load("out.npy").shape == (3, 5, 4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("engine", ["reference", "direct", "tiled"])
def test_npy_holds_the_same_numbers_whichever_way_they_came(attn, folder, engine, dtype):
    options = ("forward", "--engine", engine, "--dtype", dtype, "--causal")
    attn(*options, "-o", "out.npy")
    attn(*options, "-o", "run.npz")
    out = np.load("out.npy")
    assert out.dtype == dtype
    assert (out == np.load("run.npz")["out"]).all()


def test_a_result_larger_than_memory_goes_into_its_file_as_it_is_computed(attn, folder):
    """Under a limit on what the process itself may hold; mapped files do not count."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "RLIMIT_DATA"):
        pytest.skip("this system has no such limit")
    rows = 300_000
    np.save("q.npy", np.zeros((1, rows, 64), np.float32))
    np.save("k.npy", np.ones((1, 4, 64), np.float32))
    np.save("v.npy", np.full((1, 4, 64), 2, np.float32))
    limited = """
import resource, sys
import attncli.core.tiled, attncli.cli.posing, attncli.problems.from_files
with open("/proc/self/status") as status:
    taken = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + 60_000_000,) * 2)
from attncli.cli.main import run
sys.exit(run(["forward", "--query", "q.npy", "--key", "k.npy", "--value", "v.npy",
              "--no-weights", "--threads", "1", *sys.argv[1:]]))
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not say what a process holds")

    def forward(*more):
        command = [sys.executable, "-c", limited, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert forward("-o", "out.npz", "-q").returncode == 2  # 77 MB do not fit
    done = forward("-o", "out.npy")
    assert (done.returncode, done.stderr) == (0, "wrote out to out.npy\n")
    out = np.load("out.npy", mmap_mode="r")
    assert out.shape == (1, rows, 64)
    assert (out == 2).all()


def test_what_stops_while_computing_leaves_the_old_file(attn, folder, monkeypatch):
    (folder / "out.npy").write_bytes(b"old")

    def stop(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("attncli.operations.running.compute", stop)
    assert attn("forward", "-o", "out.npy", "--force").code == 130
    assert (folder / "out.npy").read_bytes() == b"old"
    assert os.listdir(folder) == ["out.npy"]


def test_no_room_for_the_result_is_said_before_it_is_computed(attn, folder, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("attncli.files.npy.reserve", full)
    compute = mock.Mock()
    monkeypatch.setattr("attncli.operations.running.compute", compute)
    result = attn("forward", "-o", "out.npy")
    assert result.err == "error: out.npy: cannot be written: no space left on device\n"
    assert (result.code, os.listdir(folder)) == (2, [])
    compute.assert_not_called()


def test_run_file_on_standard_output(attn, folder, monkeypatch):
    import contextlib

    with contextlib.chdir(folder):
        done = subprocess.run(
            [sys.executable, "-m", "attncli", "forward", "-o", "-"], capture_output=True, check=True
        )
    assert done.stderr == b""
    with np.load(io.BytesIO(done.stdout)) as run:
        assert run["weights"].shape == (3, 5, 5)
    assert attn("show-weights", "-", stdin=done.stdout).code == 0


BAD = {
    "N differs": (
        {"hs_enc": np.ones((3, 5, 4)), "hs_dec": np.ones((2, 5, 4))},
        "error: bad.npz: hs_enc is (3, 5, 4), hs_dec is (2, 5, 4): N differs (3 and 2)",
    ),
    "no encoder steps": (
        {"hs_enc": np.ones((3, 0, 4)), "hs_dec": np.ones((3, 5, 4))},
        "error: bad.npz: hs_enc is (3, 0, 4): T_enc = 0 leaves nothing to attend",
    ),
    "wrong axes": (
        {"hs_enc": np.ones((3, 5)), "hs_dec": np.ones((3, 5, 4))},
        "error: bad.npz: hs_enc is (3, 5), expected 3 axes: (N, T_enc, H)",
    ),
    "NaN": (
        {"hs_enc": np.full((1, 2, 2), np.nan), "hs_dec": np.ones((1, 2, 2))},
        "error: bad.npz: hs_enc holds 4 non-finite values, the first (nan) at [0, 0, 0]",
    ),
    "complex": (
        {"hs_enc": np.ones((1, 2, 2), complex), "hs_dec": np.ones((1, 2, 2))},
        "error: bad.npz: hs_enc is complex128 (complex), expected real numbers",
    ),
    "tokens": (
        {
            "hs_enc": np.ones((1, 2, 2)),
            "hs_dec": np.ones((1, 2, 2)),
            "tokens_enc": np.array(["a", "b", "c"]),
        },
        "error: bad.npz: tokens_enc is (3,), expected one token a step: "
        "(1, 2) = (N, T_enc) or (2,) = (T_enc,)",
    ),
    "nothing known": (
        {"x": np.ones(3)},
        "error: bad.npz: expected hs_enc and hs_dec; query, key and value; hs and h; hs and a; "
        "or scores; it holds x",
    ),
    "half": (
        {"hs_enc": np.ones((1, 2, 2)), "options": np.array('{"layer": "time-attention"}')},
        "error: bad.npz: hs_dec is missing: time-attention needs hs_enc and hs_dec; it holds "
        "hs_enc, options",
    ),
    "layer that is none": (
        {"hs": np.ones((1, 2, 2)), "options": np.array('{"layer": "[red]"}')},
        "error: bad.npz: its options name the layer [red], which is not known",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_and_exit_2(attn, folder, kind):
    arrays, message = BAD[kind]
    np.savez("bad.npz", **arrays)
    result = attn("forward", "bad.npz", "-o", "out.npz")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0] == message
    assert all(line.startswith("hint:  ") for line in result.err.splitlines()[1:])
    assert not (folder / "out.npz").exists()


def test_nonfinite_is_allowed_on_request(attn, folder):
    np.savez("x.npz", hs_enc=np.full((1, 2, 2), np.nan), hs_dec=np.ones((1, 2, 2)))
    result = attn("forward", "x.npz", "--allow-nonfinite", "--json")
    assert result.code == 0
    assert result.json["tensors"]["out"]["data"] == [[["NaN", "NaN"], ["NaN", "NaN"]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--N", "0"],
            "invalid value for '--N' / '--batch': 0, expected a whole number, 1 or more",
        ),
        (["--N", "-1"], "'--N' / '--batch'"),
        (["--T", "2.5"], "'2.5', expected a whole number, 1 or more"),
        (["--H", ""], "'', expected a whole number, 1 or more"),
        (["--T-enc", "1e3"], "'1e3', expected a whole number, 1 or more"),
        (["--dtype", "complex64"], "'complex64' is not one of"),
        (["--layer", "softmx"], "'softmx' is not one of"),
        (
            ["--sed", "1"],
            "no such option '--sed'",
        ),
        (["--force"], "--force has no meaning without -o"),
        (["-o", "out.dat"], "out.dat: the ending .dat, expected one of .npz, .npy, .safetensors"),
        (["-o", "out"], "out: no ending, expected one of .npz"),
        (["-o", "nowhere/out.npz"], "nowhere/out.npz: the folder "),
        (["-o", "-", "--json"], "-o - and --json would both write to standard output"),
        (["--threads", "0"], "'--threads': 0, expected a whole number, 1 or more"),
        (["--window", "-2"], "'--window': '-2' is not a number of steps, or LEFT,RIGHT"),
        (["--window", "1,2,3"], "'--window': '1,2,3' is not a number of steps, or LEFT,RIGHT"),
        (["--window", "9" * 400], "is not a number of steps, or LEFT,RIGHT"),
        (["--softcap", "0"], "'--softcap': 0.0, expected a number above 0"),
        (
            ["--heads", "2", "--layer", "time-attention"],
            "--heads has no meaning for time-attention",
        ),
        (["--layer", "softmax", "--causal"], "softmax takes no --causal"),
        (["--layer", "softmax", "--engine", "tiled"], "softmax has no tiled engine"),
        (["--layer", "weight-sum", "--no-weights"], "--no-weights has no meaning for weight-sum"),
        (
            ["--N", "1", "--T", "9000", "--weights", "--max-memory", "100MB"],
            "weights (1, 9000, 9000) beside the 576.0 KB of the inputs would take",
        ),
        (["--max-memory", "lots"], "'lots' is not a size such as 500MB or 2GiB"),
        (["--rename", "hs_enc"], "'hs_enc' is not OURS=THEIRS"),
        (["--rename", "a=b", "--rename", "a=c"], "a is there twice"),
        (
            ["--T", "10000000"],
            "weights (3, 10000000, 10000000) beside the 1.9 GB of the inputs would take 2.4 PB",
        ),
        (
            ["--H", "10000000000000"],
            "random hs_enc (3, 5, 10000000000000) = (N, T_enc, H), "
            "hs_dec (3, 5, 10000000000000) = (N, T_dec, H) would take 2.4 PB",
        ),
        (
            ["--max-memory", "100", "--N", "2"],
            "random hs_enc (2, 5, 4) = (N, T_enc, H), hs_dec (2, 5, 4) = (N, T_dec, H) "
            "would take 640 B, there is 100 B",
        ),
        (["x.npz", "--N", "3"], "--N 3 contradicts x.npz: N is 2"),
        (["x.npz", "--T", "7"], "--T 7 contradicts x.npz: T_dec is 3"),
        (["x.npz", "--T-enc", "3"], "--T-enc 3 contradicts x.npz: T_enc is 7"),
        (["x.npz", "--layer", "softmax"], "x.npz: softmax needs scores; it holds hs_enc, hs_dec"),
        (["x.npz", "--hs-enc", "x.npz"], "--hs-enc x.npz: x.npz holds hs_enc too"),
        (["x.npz", "-o", "x.npz", "--force"], "x.npz: is an input of this command"),
        (["x.npy"], "x.npy: an .npy file holds one array without a name"),
        (["missing.npz"], "missing.npz: no such file"),
        (["--hs-enc", "x.npy"], "expected hs_enc and hs_dec"),
        (["x.npz", "extra"], "got unexpected extra argument (extra)"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(attn, folder, states, arguments, message):
    np.savez("x.npz", **states)
    np.save("x.npy", states["hs_enc"])
    before = sorted(path.name for path in folder.iterdir())
    result = attn("forward", *arguments)
    assert (result.code, result.out) == (2, "")
    first, *rest = result.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert all(line.startswith("hint:  ") for line in rest)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_existing_output_is_refused_before_any_work(attn, folder):
    (folder / "out.npz").write_bytes(b"precious")
    refused = attn("forward", "-o", "out.npz")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: out.npz: exists already\nhint:  --force replaces it\n"
    assert (folder / "out.npz").read_bytes() == b"precious"
    assert attn("forward", "-o", "out.npz", "--force").code == 0


def test_seed_beside_a_file_is_said_to_do_nothing(attn):
    result = attn("forward", SAMPLES / "dates.npz", "--seed", 3)
    assert result.code == 0
    assert "warning: --seed has no effect" in result.err


def test_quiet_prints_nothing(attn, folder):
    result = attn("forward", "-q", "-o", "out.npz")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert (folder / "out.npz").exists()


# What a run file must not lose


def test_dout_tokens_and_seed_stay_in_the_run(attn, folder):
    attn("forward", SAMPLES / "by_hand.npz", "-o", "run.npz", "-q")
    straight = attn("backward", SAMPLES / "by_hand.npz", "--json").json["tensors"]
    assert attn("backward", "run.npz", "--json").json["tensors"] == straight

    np.savez("t.npz", hs_enc=np.ones((1, 2, 3)), hs_dec=np.ones((1, 2, 3)), tokens=["a", "b"])
    attn("forward", "t.npz", "-o", "t-run.npz", "-q")
    (matrix,) = attn("show-weights", "t-run.npz", "--json").json["matrices"]
    assert (matrix["tokens_dec"], matrix["tokens_enc"]) == (["a", "b"], ["a", "b"])

    attn("forward", "--seed", 5, "-o", "s.npz", "-q")
    assert attn("backward", "s.npz", "--json").json["seed"] == 5
    continued = attn("backward", "s.npz", "--json").json["tensors"]["dout"]
    assert continued == attn("backward", "--seed", 5, "--json").json["tensors"]["dout"]


# What overflows, and what does nothing, is said


def test_overflow_is_one_warning_and_never_silent(attn, folder):
    np.savez("x.npz", hs_enc=np.full((1, 2, 2), 1e200), hs_dec=np.full((1, 2, 2), -1e200))
    result = attn("forward", "x.npz")
    assert result.code == 0
    assert "4 of 4 values of out are not finite" in result.err
    assert "RuntimeWarning" not in result.err
    narrow = attn("forward", "x.npz", "--dtype", "float16")
    assert narrow.code == 2
    assert "x.npz: hs_enc as float16 holds 4 non-finite values" in narrow.err


def test_masks_and_options_without_effect_are_said(attn, folder):
    np.savez("x.npz", hs=np.ones((1, 2, 2)), a=np.ones((1, 2)), enc_mask=np.ones((1, 2), bool))
    assert "warning: enc_mask has no effect on weight-sum" in attn("forward", "x.npz").err
    np.savez("one.npz", hs=np.ones((1, 2, 2)), h=np.ones((1, 2)), dec_mask=np.ones((1, 2), bool))
    result = attn("forward", "one.npz")
    assert (result.code, result.err) == (0, "warning: dec_mask has no effect on attention\n")
    assert "warning: --H has no effect" in attn("forward", "--layer", "softmax", "--H", 9).err
    np.save("scores.npy", np.ones((1, 2)))
    result = attn("forward", SAMPLES / "dates.npz", "--scores", "scores.npy")
    assert result.code == 2
    assert "--scores has no meaning here: time-attention takes hs_enc, hs_dec" in result.err


def test_of_several_arrays_in_a_tensors_own_file_that_of_its_name_counts(attn, folder, states):
    np.savez("x.npz", **states)
    whole = attn("forward", "x.npz", "--json").json["tensors"]
    parts = attn("forward", "--hs-enc", "x.npz", "--hs-dec", "x.npz", "--json")
    assert (parts.code, parts.json["tensors"]) == (0, whole)
    np.savez("y.npz", mine=states["hs_dec"], other=states["hs_dec"])
    refused = attn("forward", "x.npz", "--mask", "y.npz")
    assert refused.code == 2
    assert "expected one array, or one named mask; it holds: ['mine', 'other']" in refused.err


@pytest.mark.parametrize("engine", ["auto", "direct", "tiled", "reference"])
def test_a_floating_mask_hides_by_minus_infinity_alone(attn, folder, states, engine):
    mask = np.full((3, 7), -5.0)
    np.savez("x.npz", **states, mask=mask)
    result = attn("forward", "x.npz", "--engine", engine)
    assert (result.code, "masked" in result.err) == (0, False)
    mask[1] = -np.inf
    np.savez("x.npz", **states, mask=mask)
    result = attn("forward", "x.npz", "--engine", engine)
    assert "2 of 6 rows have every key masked" in result.err


def test_what_is_written_lies_at_multiples_of_its_elements_size(attn, folder, states):
    """As other readers of .safetensors files expect who map them."""
    np.savez("x.npz", **states, enc_mask=np.ones((2, 7), bool))
    assert attn("forward", "x.npz", "-o", "run.safetensors", "-q").code == 0
    data = (folder / "run.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:start])
    del fields["__metadata__"]
    assert {name: one["dtype"] for name, one in fields.items()} == {
        **dict.fromkeys(["hs_enc", "hs_dec", "out", "weights", "logsumexp"], "F64"),
        "enc_mask": "BOOL",
    }
    for one in fields.values():
        size = {"F64": 8, "BOOL": 1}[one["dtype"]]
        assert (start + one["data_offsets"][0]) % size == 0


def test_float_mask_from_a_file_of_its_own(attn, folder, states):
    np.savez("x.npz", **states)
    np.save("mask.npy", np.where(np.arange(7) < 5, 0.5, -np.inf))
    weights = attn("forward", "x.npz", "--mask", "mask.npy", "--json").json["tensors"]["weights"]
    assert (np.array(weights["data"])[..., 5:] == 0).all()


def test_masks_as_integers(attn, folder, states):
    np.savez(
        "x.npz", **states, enc_mask=np.array([[1] * 5 + [0] * 2] * 2), dec_mask=np.ones((2, 3), int)
    )
    assert attn("forward", "x.npz").code == 0
    assert attn("show-weights", "x.npz").code == 0


def test_rename_is_for_the_file_alone(attn, folder, states):
    np.savez("x.npz", E=states["hs_enc"])
    np.save("d.npy", states["hs_dec"])
    assert attn("forward", "x.npz", "--rename", "hs_enc=E", "--hs-dec", "d.npy").code == 0
    result = attn("forward", "--hs-enc", "d.npy", "--hs-dec", "d.npy", "--rename", "a=b")
    assert "--rename has no meaning without FILE" in result.err


@pytest.mark.parametrize("layer", ["[]", "3", '{"a": 1}'])
def test_options_that_no_run_writes(attn, folder, states, layer):
    np.savez("x.npz", **states, options=np.array(f'{{"layer": {layer}}}'))
    assert attn("forward", "x.npz").code == 2
    np.savez("y.npz", **states, options=np.array('{"window": "wide"}'))
    result = attn("forward", "y.npz")
    assert (result.code, "its options hold what no run writes" in result.err) == (2, True)


def test_long_doubles_in_json(attn, folder, states):
    np.savez("x.npz", **{name: x.astype(np.longdouble) for name, x in states.items()})
    tensors = attn("forward", "x.npz", "--json").json["tensors"]
    assert tensors["out"]["dtype"] == str(np.dtype(np.longdouble))
    assert np.longdouble(tensors["out"]["data"][0][0][0]).dtype == np.longdouble


def test_impossible_tokens(attn, folder):
    tokens = np.array([0x110000, 0x41], np.uint32).view("<U1")
    np.savez("x.npz", hs_enc=np.ones((1, 2, 2)), hs_dec=np.ones((1, 1, 2)), tokens_enc=tokens)
    result = attn("forward", "x.npz")
    assert result.code == 2
    assert "x.npz: tokens_enc holds what is no Unicode character" in result.err


@pytest.mark.parametrize("columns", range(20, 132, 8))
@pytest.mark.parametrize("size", [3, 7, 9])
def test_no_digit_is_lost_at_any_width(attn, columns, size):
    result = attn("forward", "--N", 2, "--T", size, "--H", 2, columns=columns)
    weights = attn("forward", "--N", 2, "--T", size, "--H", 2, "--json").json["tensors"]["weights"]
    for number in np.ravel(weights["data"]):
        assert f"{number:.4f}" in result.out
    assert max(map(len, result.out.splitlines())) <= columns


@pytest.mark.parametrize(
    ("T", "chosen", "size"),
    [
        (5, "direct, weights kept", "600 B"),
        (600, "tiled, weights kept", "8.6 MB"),
        (1500, "tiled, weights computed again", "54.0 MB"),
    ],
)
def test_verbose_says_what_was_chosen_and_why(attn, T, chosen, size):
    err = attn("forward", "--T", T, "-v").err
    assert (
        f"engine: {chosen} (they take {size}, kept up to 67.1 MB, 16.8 MB a head), threads: " in err
    )
