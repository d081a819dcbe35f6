"""Commands on a real cluster of two workers: what they print, write and leave."""

import sys

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("zarr")

from attncli.cluster import Settings
from attncli.cluster.connecting import connect


@pytest.fixture(scope="module")
def scheduler():
    with connect(Settings(workers=2)) as client:
        yield ("--scheduler", client.scheduler.address)


def test_random_tensors_are_those_of_the_same_seed_here(attn, folder, scheduler):
    sizes = ("--N", 2, "--T", 131, "--T-enc", 67, "--H", 5, "--seed", 3, "--causal")
    there = attn("backward", *sizes, *scheduler, "--block", 41, "-o", "x.zarr", "-v")
    assert there.code == 0, there.err
    assert attn("backward", *sizes, "-o", "x.npz").code == 0
    alone = [x for name in ("hs_enc", "hs_dec", "dout", "weights") for x in ("--ignore", name)]
    assert attn("compare", "x.zarr", "x.npz", *alone).code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["x.npz", "x.zarr"]
    assert "dhs_enc  (2, 67, 5) = (N, T_enc, H)  float64" in there.out
    assert "all are in x.zarr" in there.out
    assert "engine: dask, 2 workers, blocks of 41" in there.err
    assert "done sooner in process" in there.err


def test_the_corner_is_that_of_the_result(attn, folder, scheduler):
    rng = np.random.default_rng(0)
    shapes = {"query": (2, 31, 3, 5), "key": (2, 17, 3, 5), "value": (2, 17, 3, 7)}
    np.savez("in.npz", **{name: rng.normal(size=shape) for name, shape in shapes.items()})
    how = ("forward", "in.npz", "--layout", "N,T,heads,H", "--window", "3,2", "--precision", 6)
    there = attn(*how, *scheduler, "-o", "out.npy").out
    here = attn(*how, "--no-weights").out
    corner = here[here.index("out  (") :].splitlines()[2:6]  # behind the title and the statistics
    assert "\n".join(corner) in there
    assert "query  (2, 31, 3, 5) = (N, T_dec, heads, H)  float64" in there


def test_a_quiet_run_says_nothing(attn, folder, scheduler):
    result = attn("forward", "--T", 7, *scheduler, "-o", "x.zarr", "-q")
    assert (result.code, result.out) == (0, "")
    assert "note" not in result.err


def test_code_is_judged_on_a_worker(attn, folder, scheduler):
    source = "from attncli.layers import WeightSum as Right\nclass WeightSum(Right):\n    pass\n"
    (folder / "mine.py").write_text(source)
    assert attn("gradcheck", "mine.py", *scheduler) == attn("gradcheck", "mine.py")


def test_nobody_waits_for_a_worker_that_measures_nothing(attn, scheduler):
    result = attn("bench", *scheduler)
    assert (result.code, "no worker has bench=1" in result.err) == (2, True)
    assert result.err.splitlines()[1].endswith("--resources bench=1")


@pytest.mark.skipif(sys.platform == "win32", reason="no terminal to pretend")
def test_a_long_run_says_how_far_it_is_and_who_is_at_work(attn, folder, scheduler, monkeypatch):
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._APPEARS_AFTER", 0.0)
    how = ("forward", "--T", 200, "--block", 50, *scheduler, "-o", "x.zarr")
    result = attn(*how, columns=80, colors="truecolor")
    assert "left · 2 workers" in result.err
    assert " % " in result.err
