"""A scheduler and workers on machines of their own, and their network: what it carries, and cut."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the cluster extra is not installed")
pytest.importorskip("zarr", reason="the cluster extra is not installed")

pytestmark = pytest.mark.netns

SCRIPT = Path(__file__).parent.parent / "network.py"
APART = ["unshare", "-rmn"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What happened to three runs; they share the machines, which take long to make up."""
    trying = [
        "sh",
        "-c",
        "mount -t tmpfs tmpfs /run && ip link add bridge type bridge && ip netns add a",
    ]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no unshare and no ip here, to make up networks with")
    if subprocess.run([*APART, *trying], capture_output=True).returncode:
        pytest.skip("making up networks is not permitted here")
    folder = tmp_path_factory.mktemp("network")
    done = subprocess.run(
        [*APART, sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_it_carries_what_was_planned(seen):
    """At worst, says the plan: partial results, and of everything else a fifth more at most."""
    _, saw = seen
    assert saw["planned"] / 4 < saw["sent"] < saw["planned"] * 1.2


def test_a_network_that_is_not_encrypted_is_warned_of_once(seen):
    _, saw = seen
    code, (said, *more) = saw["run"]
    assert (code, more) == (0, [])
    assert said.startswith("warning: tcp://10.77.0.2:")
    assert "neither encrypted nor asks who one is" in said


def test_a_cable_is_cut(seen):
    """The worker behind it is lost; what it was about is done again, to the same bytes."""
    folder, saw = seen
    assert saw["cut"] == [0, [saw["run"][1][0], "warning: 1 worker lost, the work is done again"]]
    runs = [folder / "short" / name / "out" for name in ("run.zarr", "out.zarr")]
    held = [
        {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for run in runs
    ]
    assert len(held[0]) > 4
    assert held[0] == held[1]


def test_a_scheduler_dies_on_its_machine(seen):
    _, saw = seen
    assert saw["scheduler"] == [2, [saw["run"][1][0], "error: the scheduler is gone"]]
    assert saw["left"] == ["in.npz"]
