"""`forward` and `backward --engine dask`: what contradicts it, and what it would cost."""

import subprocess
import sys

import numpy as np
import pytest

LONG = ("--N", 1, "--T", 10**7, "--H", 64, "--dtype", "float32")


@pytest.fixture
def installed(monkeypatch):
    """Whatever is installed here."""
    monkeypatch.setattr("attncli.cli.cluster_options.find_spec", lambda name: True)


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["--weights"], "--weights", "--no-weights"),
        (["--threads", 3], "--workers says how many", "backward --engine dask --workers 3"),
        (["--blas", "numpy"], "what ATTN_BLAS says to a worker", "backward --engine dask"),
        (["--json", "-o", "x.zarr"], "--json", "--dry-run"),
        (["--full", "-o", "x.zarr"], "--full", "backward --engine dask -o x.zarr"),
        ([], "needs a file", "-o out.zarr"),
        (["-o", "-"], "a stream", "-o out.zarr"),
        (["-o", "my x.npz"], "my x.npz", "-o 'my x.zarr'"),
        (["-o", "x.safetensors"], "x.safetensors", "-o x.zarr"),
        (["-o", "x.npy"], "several", "-o x.zarr"),
        (["--scheduler", "a:1", "--workers", 3, "-o", "x.zarr"], "--workers",
         "backward --engine dask --workers 3 -o x.zarr"),
        (["--scheduler", "a:1", "--worker-memory", "2GB", "-o", "x.zarr"], "--worker-memory",
         "backward --engine dask --worker-memory 2GB -o x.zarr"),
        (["--layer", "softmax", "--dry-run"], "softmax has no dask engine", "--layer"),
    ],
)  # fmt: skip
def test_what_a_cluster_cannot_do_is_said_with_what_can_be_done(
    attn, folder, installed, arguments, says, hint
):
    result = attn("backward", "--engine", "dask", *arguments)
    assert (result.code, result.out) == (2, "")
    error, hinted = result.err.splitlines()
    assert says in error
    assert hint in hinted
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "option", [["--workers", 2], ["--dry-run"], ["--block", 64], ["--resume"], ["--scratch", "."]]
)
@pytest.mark.parametrize("engine", [[], ["--engine", "auto"], ["--engine", "tiled"]])
def test_options_of_a_cluster_mean_nothing_without_one(attn, folder, option, engine):
    pytest.importorskip("distributed")
    result = attn("forward", *option, *engine)
    assert result.code == 2
    assert result.err.splitlines()[1].startswith("hint:  attn forward ")
    assert "--engine dask" in result.err.splitlines()[1]


def test_a_scheduler_is_one_that_is_meant(attn, folder):
    result = attn("forward", "--scheduler", "node:8786", "--dry-run")
    assert result.code == 0
    assert attn("forward", "--scheduler", "node", "--engine", "direct").code == 2


def test_what_is_not_installed_is_said_in_one_line(attn, folder, monkeypatch):
    monkeypatch.setattr("attncli.cli.cluster_options.find_spec", lambda name: None)
    result = attn("forward", "--engine", "dask", "-o", "x.zarr")
    assert result.err.splitlines() == [
        "error: --engine dask needs distributed and zarr",
        "hint:  pip install 'attncli[cluster]'",
    ]


@pytest.mark.parametrize("command", ["forward", "backward"])
def test_a_plan_of_any_length_is_there_without_a_cluster(attn, command):
    found = attn(command, *LONG, "--engine", "dask", "--dry-run", "--workers", 3, "--json").json
    assert found["engine"] == "dask"
    assert [one["workers"] for one in found["plans"]] == [1, 3, 8, 64]
    seconds = [one["seconds"] for one in found["plans"]]
    assert seconds == sorted(seconds, reverse=True)
    assert all(one["tasks"] <= 60_000 for one in found["plans"])
    # Forward is two products of T · T · H, two operations each.
    least = 4 * 64 * 1e14 / 90e9
    assert seconds[0] > (3.4 if command == "backward" else 1) * least


def test_what_is_hidden_is_no_work(attn):
    def seconds(*more):
        plans = attn("forward", *LONG, "--engine", "dask", "--dry-run", "--json", *more).json
        return plans["plans"][0]["seconds"]

    assert seconds("--causal") == pytest.approx(seconds() / 2, rel=0.01)


def test_a_plan_is_of_the_file_that_is_there(attn, folder):
    np.savez("x.npz", query=np.ones((2, 3, 700, 5)), key=np.ones((2, 3, 900, 5)),
             value=np.ones((2, 3, 900, 7)), mask=np.ones((700, 900), bool))  # fmt: skip
    small = attn("forward", "x.npz", "--engine", "dask", "--dry-run", "--json", "--block", 100)
    (first, *_) = small.json["plans"]
    assert (first["block"], first["tiles"]) == (100, 2 * 3 * 7 * 9)
    assert small.json["sizes"]["T_enc"] == 900
    assert "done sooner in process: --engine auto" in small.err


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_plan_fits_the_screen(attn, columns):
    result = attn("backward", *LONG, "--engine", "dask", "--dry-run", columns=columns)
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= columns
    for told in ("workers", "block", "tiles", "tasks", "read", "moved", "memory", "time", "64"):
        assert any(told in line.split() for line in lines), told
    assert (columns > 40) == any({"block", "time"} <= set(line.split()) for line in lines)


WITHOUT = """
import sys
from attncli.cli.main import run
for line in sys.stdin.read().splitlines():
    far = {"dask", "distributed", "zarr"} | ({"attncli.cluster"} if "dask" not in line else set())
    assert run(line.split()) == 0, line
    assert not far & set(sys.modules), (line, far & set(sys.modules))
"""


def test_nobody_pays_who_does_not_ask(folder):
    commands = """forward -o run.npz
        backward run.npz -q
        show-weights run.npz
        gradcheck --layer softmax
        compare run.npz run.npz
        bench --help
        forward --engine dask --dry-run"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=commands, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
