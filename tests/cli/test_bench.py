"""``attn bench``: that it measures; no test looks at how fast."""

import numpy as np
import pytest

import attncli
from attncli.benchmarks import contenders
from attncli.benchmarks.measure import Worker, crossed, measure
from attncli.reports import Cell

SMALL = ("--shapes", "2,5,3", "--repeat", 1, "--threads", 1)


def test_everybody_is_measured(attn):
    result = attn(
        "bench",
        *SMALL,
        "--engines",
        "core,direct-kept,direct-again,tiled-kept,tiled-again,loop",
        "--json",
    )
    assert (result.code, result.err) == (0, "")
    measured = {(one["contender"], one["dtype"]) for one in result.json["measurements"]}
    names = [*contenders.OURS, "products"]
    names += [peer for peer in contenders.PEERS if contenders.is_installed(peer)]
    assert measured == {(name, dtype) for name in names for dtype in ("float32", "float64")}
    for one in result.json["measurements"]:
        assert one["forward_seconds"] > 0
        assert (one["both_seconds"] is None) == (one["contender"] in ("products", "onnxruntime"))
    absent = [peer for peer in contenders.PEERS if not contenders.is_installed(peer)]
    assert result.json["not_installed"] == absent
    assert result.json["failures"] == {}


def test_memory_is_what_a_run_takes_and_not_what_its_process_has(attn):
    """A process that has loaded NumPy has some tens of megabytes by itself."""
    shapes = ("--shapes", "1,2000,3", "--shapes", "1,5,3", "--dtype", "float64", "--repeat", 1)
    measured = attn("bench", *shapes, "--engines", "direct-kept", "--json").json["measurements"]
    memory = {
        one["T"]: one["memory_bytes"] for one in measured if one["contender"] == "direct-kept"
    }
    if memory[5] is None:
        pytest.skip("nobody tells it here")
    assert memory[5] < 10_000_000
    assert memory[2000] > 8 * 2000**2


def test_the_table(attn):
    result = attn("bench", *SMALL, "--dtype", "float32", "--causal", "--accuracy", columns=100)
    assert result.code == 0
    lines = [line.rstrip() for line in result.out.splitlines()]
    assert lines[0] == "bench · 1 thread · medians of 1 interleaved rounds"
    assert "N=2 T=5 H=3  float32" in lines
    assert "N=2 T=5 H=3  float32  causal" in lines
    heading = lines[lines.index("N=2 T=5 H=3  float32") + 1].split()
    assert heading[:2] == ["forward", "×best"]
    assert heading[-1] == "error"
    assert sum(line.startswith("core ") for line in lines) == 2
    assert sum(line.startswith("products ") for line in lines) == 1  # causal has no such floor


def test_products_leave_where_their_scores_would_take_gigabytes(attn):
    shape = ("--shapes", "1,1000000,64", "--dtype", "float32", "--peers", "torch")
    result = attn("bench", *shape, "--engines", "tiled-again", "--max-memory", "1GB")
    assert result.code == 2
    assert "products" not in result.err


def test_scaling_doubles(attn, monkeypatch):
    monkeypatch.setattr("attncli.benchmarks.measure._LAST_T", 64)
    result = attn("bench", "--scaling", "--shapes", "1,16,2", "--json")
    assert [one["T"] for one in result.json["measurements"]] == [16, 32, 64]
    assert all(one["memory_bytes"] is not None for one in result.json["measurements"])
    table = attn("bench", "--scaling", "--shapes", "1,32,2", columns=80)
    assert table.out.splitlines()[0].startswith("bench, scaling in T · N=1 H=2  float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "8,512"], "'8,512' is not N,T,H"),
        (["--shapes", "8,0,4"], "'8,0,4' has a size below 1"),
        (["--peers", "tensorflow"], "'tensorflow' is not one of torch, jax, onnxruntime"),
        (["--engines", "fast"], "'fast' is not one of core, direct-kept"),
        (["--repeat", "0"], "0, expected a whole number, 1 or more"),
    ],
)
def test_bad_options(attn, arguments, message):
    result = attn("bench", *arguments)
    assert result.code == 2
    assert message in result.err


def test_without_shapes_some_are_measured_that_take_seconds_and_with_all_every():
    short, every = crossed([], []), crossed([], [], every=True)
    assert [(one.N, one.T, one.H) for one in short] == [(3, 5, 4), (64, 29, 256), (8, 512, 64)]
    assert {one.dtype for one in short} == {"float32"}
    assert set(short) < set(every)
    assert len(every) == 12


def test_what_nobody_sees_is_not_measured(attn, monkeypatch):
    monkeypatch.setattr("attncli.benchmarks.measure.measure", lambda *a, **k: 1 / 0)
    assert (attn("bench", *SMALL, "-q").code, attn("bench", *SMALL).code) == (0, 70)


def test_piped_it_says_how_far_it_is(attn, monkeypatch):
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._SAID_EVERY", -1.0)
    result = attn("bench", *SMALL, "--peers", ",", "--dtype", "float32", "--causal")
    assert result.err.splitlines() == ["measuring: 1 of 2", "measuring: 2 of 2"]
    assert "measuring" not in result.out


def test_no_peers_are_none(attn):
    report = attn("bench", *SMALL, "--dtype", "float32", "--peers", ",", "--json").json
    assert {one["contender"] for one in report["measurements"]} == {"core", "loop", "products"}
    assert report["not_installed"] == []


def test_a_contender_that_fails_is_named_and_the_others_go_on(monkeypatch):
    report = measure([Cell(1, 2, 2, "float16")], ["core", "nobody"], repeat=1, threads=1)
    assert [one.contender for one in report.measurements] == ["core"]
    assert "nobody" in report.failures


def test_contenders_compute_the_same():
    cell = Cell(2, 7, 3, "float64")
    core = contenders.make("core", cell, 1)
    for name in contenders.OURS[1:5]:
        other = contenders.make(name, cell, 1)
        for ours, theirs in zip(core.both(), other.both(), strict=True):
            assert abs(ours - theirs).max() < 1e-13


def error_of(ours, exact):
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, exact, strict=True))


def test_accuracy_is_that_of_the_output_and_the_gradients(attn):
    rng = np.random.default_rng(0)  # query, key, value, dout: as every contender draws them
    drawn = [rng.standard_normal((2, 3, 13)).astype(np.float32) for _ in range(4)]
    found = []
    for tensors in (drawn, [tensor.astype(np.float64) for tensor in drawn]):
        *inputs, dout = tensors
        out, cache = attncli.attention(*inputs)
        found.append((out, *attncli.attention_backward(dout, cache)))
    ours, exact = found
    of_out, of_all = error_of(ours[:1], exact[:1]), error_of(ours, exact)
    assert of_all > 3 * of_out
    options = ("--shapes", "2,3,13", "--dtype", "float32", "--repeat", 1, "--threads", 1)
    report = attn("bench", *options, "--engines", "core", "--accuracy", "--json").json
    (core,) = [one for one in report["measurements"] if one["contender"] == "core"]
    assert core["error"] == pytest.approx(of_all, rel=0.2)


def test_what_is_measured_under_a_causal_mask_is_causal(attn):
    """Its results are those of causal attention in float64, and nobody else's."""
    options = (*SMALL, "--dtype", "float32", "--engines", "core,direct-kept,tiled-again")
    report = attn("bench", *options, "--causal", "--accuracy", "--json").json
    names = {"core", "direct-kept", "tiled-again"}
    judged = [one for one in report["measurements"] if one["contender"] in names]
    assert sorted(one["causal"] for one in judged) == [False] * 3 + [True] * 3
    assert max(one["error"] for one in judged) < 1e-5


@pytest.mark.parametrize("engine", contenders.OURS[:5])
def test_a_contender_runs_what_the_cell_says(engine):
    query, key, value, dout = contenders.tensors(Cell(2, 7, 3, "float64"))
    results = []
    for causal in (None, "upper_left"):
        out, cache = attncli.attention(query, key, value, causal=causal)
        results.append((out, *attncli.attention_backward(dout, cache)))
        contender = contenders.make(engine, Cell(2, 7, 3, "float64", causal is not None), 1)
        np.testing.assert_allclose(contender.forward(), out, atol=1e-13)
        for ours, expected in zip(contender.both(), results[-1], strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-13)
    assert error_of(*results) > 0.1


@pytest.mark.parametrize("peer", contenders.PEERS)
@pytest.mark.parametrize("causal", [False, True])
def test_peers_compute_the_same(peer, causal):
    if not contenders.is_installed(peer):
        pytest.skip(f"{peer} is not installed")
    cell = Cell(2, 7, 4, "float32", causal)
    with Worker(peer, 1) as worker:
        assert "failed" not in worker.ask(cell=cell._asdict())
        assert worker.ask(error=True)["error"] < 1e-5


def test_a_window_and_segments_are_what_is_measured(attn):
    """Results and gradients are those of the same options in float64."""
    options = [*SMALL, "--dtype", "float64", "--engines", "core,tiled-again", "--repeat", "1"]
    report = attn("bench", *options, "--window", "2,1", "--segments", "3", "--accuracy", "--json")
    judged = [one for one in report.json["measurements"] if one["window"] or one["segments"] > 1]
    assert len(judged) == 4
    assert all(one["error"] < 1e-12 for one in judged)


@pytest.mark.parametrize("option", [("--window", "1,2,3"), ("--segments", "1")])
def test_a_window_or_segments_that_there_are_not(attn, option):
    assert attn("bench", *SMALL, *option).code == 2


def test_where_the_time_goes(attn):
    options = ("--profile", "--shapes", "2,5,3", "--dtype", "float32", "--repeat", 1)
    report = attn("bench", *options, "--engines", "core,tiled-again", "--causal", "--json").json
    assert report["measurements"] == []
    asked = [(one["contender"], one["causal"]) for one in report["profiles"]]
    assert asked == [(name, by) for name in ("core", "tiled-again") for by in (False, True)]
    for one in report["profiles"]:
        assert one["weights_kept"] == (one["contender"] == "core")
        for part, whole in (("forward", 2), ("both", 6 + (not one["weights_kept"]))):
            assert round(one[part]["whole_products"]) == whole
            assert one[part]["of_bare"] > 0
            assert sum(one[part]["shares"].values()) == pytest.approx(1)
    lines = attn("bench", *options, columns=80).out.splitlines()
    assert lines[2].rstrip() == "N=2 T=5 H=3  float32  core: direct, weights kept"
    assert lines[3].split() == [
        "time", "×bare", "whole", "products", "softmax", "masks", "copies", "overhead"
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[4:7]] == ["forward", "backward", "both"]


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (("--peers", "torch"), "attn bench --profile"),
        (("--threads", 2), "attn bench --profile"),
        (("--accuracy",), "attn bench --profile"),
        (("--scaling",), "attn bench --profile"),
        (("--engines", "core,loop"), "--engines core"),
    ],
)
def test_what_says_nothing_about_where_the_time_goes_is_refused(attn, option, hint):
    result = attn("bench", "--profile", *option)
    assert result.code == 2
    error, hinted = result.err.splitlines()
    assert option[0].lstrip("-") in error
    assert hint in hinted
