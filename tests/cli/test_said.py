"""What is said beside a result: rows without keys, numbers that are none, what would not fit."""

import re
import tracemalloc

import numpy as np
import pytest

ENGINES = ["auto", "direct", "tiled", "reference"]


def blind(count, of):
    have = "has" if count == 1 else "have"
    rows = f"{count} of {of} rows {have} every key masked"
    return f"warning: {rows}: weights, output and gradient are 0\n"


# Rows that see no key are counted, whatever it is that hides all keys from them


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("command", ["forward", "backward"])
@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--window", 1], 6),
        (["--window", 0], 8),
        (["--causal", "--causal-align", "lower-right"], 8),
        (["--causal", "--window", 1], 6),
        (["--causal"], 0),
        (["--window", 4], 0),
        ([], 0),
    ],
)
def test_rows_that_a_band_alone_leaves_without_keys(attn, command, engine, options, count):
    sizes = ("--N", 2, "--T", 7, "--T-enc", 3)
    result = attn(command, *sizes, *options, "--engine", engine, "--json")
    assert result.code == 0
    assert result.err == (blind(count, 14) if count else "")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("command", ["forward", "backward"])
@pytest.mark.parametrize(("more", "count"), [([], 0), ([(0, 1)], 1), ([(1, 0), (1, 2)], 2)])
def test_padded_rows_are_no_reason_to_warn(attn, folder, states, command, engine, more, count):
    """Of rows without keys, those that the decoder's mask pads are not counted."""
    mask, dec_mask = np.ones((2, 3, 7), bool), np.ones((2, 3), bool)
    dec_mask[0, 2] = mask[0, 2] = False
    for place in more:
        mask[place] = False
    np.savez("x.npz", **states, mask=mask, dec_mask=dec_mask)
    result = attn(command, "x.npz", "--engine", engine, "--json")
    assert result.code == 0
    assert result.err == (blind(count, 6) if count else "")


def test_padded_rows_of_several_heads_are_no_reason_to_warn(attn, folder):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(2, 5, 3, 4)) for name in ("query", "key", "value")}
    mask, dec_mask = np.ones((2, 1, 3, 3), bool), np.ones((2, 3), bool)
    dec_mask[0, 2] = mask[0, :, 2] = False
    mask[1, :, 0] = False
    np.savez("x.npz", **arrays, mask=mask, dec_mask=dec_mask)
    assert attn("forward", "x.npz", "--layout", "N,heads,T,H", "-q").err == blind(5, 30)


# Numbers that are none


def overflowing(command):
    """States whose output is finite, and whose gradients are not."""
    rng = np.random.default_rng(0)
    hs_enc, hs_dec = 1e10 * rng.normal(size=(2, 7, 5)), 1e-10 * rng.normal(size=(2, 3, 5))
    np.savez("x.npz", hs_enc=hs_enc, hs_dec=hs_dec, dout=np.full((2, 3, 5), 1e300))
    return command


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", [["--json"], ["-q"], []], ids=str)
def test_gradients_that_are_not_finite_are_said(attn, folder, engine, options):
    result = attn(overflowing("backward"), "x.npz", "--engine", engine, *options)
    assert result.code == 0
    lines = result.err.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("dhs_enc", "dhs_dec"), strict=True):
        assert re.match(rf"warning: \d+ of \d+ values of {name} are not finite: ", line)
    assert attn("forward", "x.npz", *options).err == ""


def test_only_the_gradient_that_is_not_finite_is_named(attn, folder):
    hs, a = np.ones((1, 2, 3)), np.full((1, 2), 0.5)
    np.savez("x.npz", hs=1e10 * hs, a=a, dout=np.full((1, 3), 1e300))
    result = attn("backward", "x.npz", "--json")
    assert result.err.startswith("warning: 2 of 2 values of da are not finite: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_what_is_hidden_may_hold_anything_and_nothing_is_said(attn, folder, states, engine, junk):
    enc_mask = np.arange(14).reshape(2, 7) % 7 != 4
    clean = {**states, "enc_mask": enc_mask, "dout": np.ones((2, 3, 5))}
    np.savez("clean.npz", **clean)
    dirty = states["hs_enc"].copy()
    dirty[:, 4] = junk
    np.savez("dirty.npz", **{**clean, "hs_enc": dirty})
    results = [
        attn("backward", f"{name}.npz", "--engine", engine, "--allow-nonfinite", "--json")
        for name in ("clean", "dirty")
    ]
    assert [(one.code, one.err) for one in results] == [(0, "")] * 2
    expected, got = (one.json["tensors"] for one in results)
    for name in ("dhs_enc", "dhs_dec"):
        np.testing.assert_allclose(got[name]["data"], expected[name]["data"], atol=1e-14)


# What would not fit is estimated at no less than it takes, and at no multiple of it

WOULD_TAKE = re.compile(r"would take ([\d.]+) ([KM]?B), there is ")


def told(attn, *arguments):
    """How many bytes a command says it needs."""
    result = attn(*arguments)
    assert (result.code, result.out) == (2, "")
    number, unit = WOULD_TAKE.search(result.err).groups()
    return float(number) * {"B": 1, "KB": 1e3, "MB": 1e6}[unit]


@pytest.fixture
def long(folder):
    rng = np.random.default_rng(0)
    states = {name: rng.normal(size=(1, 401, 3)) for name in ("hs_enc", "hs_dec")}
    np.savez("plain.npz", **states)
    np.savez("masked.npz", **states, mask=np.tri(401, dtype=bool))
    np.savez("padded.npz", **states, enc_mask=np.arange(401)[None] < 350)


@pytest.mark.parametrize("name", ["plain", "masked", "padded"])
def test_the_reference_is_told_to_take_what_it_takes(attn, long, name):
    command = ["forward", f"{name}.npz", "--engine", "reference", "-q"]
    estimate = told(attn, *command, "--max-memory", "300KB")
    attn(*command)  # whatever is loaded once
    tracemalloc.start()
    attn(*command)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / 1.1 < estimate < 2 * peak


def test_kept_weights_are_told_to_take_what_they_take(attn, long):
    command = ["forward", "plain.npz", "--weights"]
    assert told(attn, *command, "--max-memory", "300KB") == pytest.approx(8 * 401**2, abs=5e4)
    assert attn(*command, "--max-memory", "1.3MB", "-q").code == 0
    assert attn("forward", "plain.npz", "--no-weights", "--max-memory", "300KB", "-q").code == 0


def test_random_tensors_count_beside_their_weights(attn):
    command = ["forward", "--N", 1, "--T", 100, "--H", 3, "--max-memory"]
    assert told(attn, *command, "1KB") == pytest.approx(2 * 8 * 300, rel=0.02)
    assert told(attn, *command, "50KB") == pytest.approx(2 * 8 * 300 + 8 * 100**2, rel=0.01)
    assert attn(*command, 2 * 8 * 300 + 8 * 100**2).code == 0
    assert attn(*command, 2 * 8 * 300 + 8 * 100**2 - 1).code == 2
    assert attn(*command, 2 * 8 * 300 + 8 * 100**2 - 1, "-q").code == 0  # nobody sees any weights


def test_whole_heads_of_weights_that_are_not_kept_count_by_the_thread(attn):
    command = ("forward", "--T", 1000, "--engine", "direct", "--no-weights", "--max-memory", "1MB")
    for threads in (1, 2):
        result = attn(*command, "--threads", threads)
        size = threads * 8 * 1000**2 + 2 * 8 * 3 * 1000 * 4  # beside the inputs
        what = "weights (3, 1000, 1000), whole heads of them at a time,"
        assert result.err.splitlines() == [
            f"error: {what} would take {size / 1e6:.1f} MB, there is 1.0 MB",
            "hint:  attn forward --T 1000 --engine tiled --no-weights --max-memory 1MB "
            f"--threads {threads}",
        ]
    assert attn(*command, "--engine", "tiled", "-q").code == 0


@pytest.mark.parametrize(
    ("engines", "matrices"),
    [
        ("core", 0),
        ("tiled-again", 0),
        ("tiled-kept", 1),
        ("direct-again", 3),
        ("direct-kept", 3),
        ("loop", 4),
        ("core,direct-kept,loop", 4),
    ],
)
@pytest.mark.parametrize("N", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("accuracy", [[], ["--accuracy"]], ids=["", "accuracy"])
def test_a_measurement_needs_everybodys_tensors_and_one_contenders_matrices(
    attn, engines, matrices, N, dtype, accuracy
):
    """The products hold one matrix of their own beside them, whatever N is."""
    T, H, itemsize = 1000, 64, np.dtype(dtype).itemsize
    sizes = ("--shapes", f"{N},{T},{H}", "--dtype", dtype, "--peers", "torch")
    result = attn("bench", *sizes, "--engines", engines, *accuracy, "--max-memory", "1KB")
    names = re.search(r"measuring (.*) at N=", result.err)[1].split(", ")
    assert set(names) - {"torch"} == {*engines.split(","), "products"}
    tensor, matrix = N * T * H, T**2 * itemsize
    exact = 8 * tensor * 8 if accuracy else 0  # in float64, in place of what computes
    needed = (
        8 * len(names) * tensor * itemsize  # query, key, value, dout, out and three gradients
        + matrix
        + max(matrices * N * matrix, exact, 8 * tensor)  # or one float64 tensor as it is drawn
    )
    stated = float(re.search(r"would take ([\d.]+) MB", result.err)[1])
    assert stated == pytest.approx(needed / 1e6, abs=0.051)


# What the process itself may still take


@pytest.mark.parametrize("limit", [1, 10_000_000])
def test_a_process_that_is_beyond_its_limit_has_nothing_left(attn, monkeypatch, limit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (limit, limit))
    result = attn("forward", "--N", 1, "--T", 1000)
    assert result.code == 2
    assert "there is 0 B" in result.err


def test_what_a_process_has_taken_counts_against_its_limit(attn, monkeypatch):
    resource = pytest.importorskip("resource")
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        pytest.skip("this system does not say what a process has taken")
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (taken + 40_000_000,) * 2)
    result = attn("forward", "--N", 1, "--T", 3000, "--weights")
    left = re.search(r"there is ([\d.]+) MB", result.err)
    assert result.code == 2
    assert 10 < float(left[1]) <= 40
