"""What happens to a run of `attn` on a cluster while it is in its midst, and what is left of it."""

import contextlib
import os
import shutil
import signal
import subprocess

import pytest

pytest.importorskip("distributed", reason="the cluster extra is not installed")
pytest.importorskip("zarr", reason="the cluster extra is not installed")

from clusters import (
    attn,
    children,
    count_tasks,
    ended,
    in_the_midst,
    is_running,
    scheduler,
    wait_until,
    worker,
    write_input,
    written,
)

from attncli.cluster.cluster_settings import Settings
from attncli.cluster.connecting import connect

SHORT, LONG = 9_973, 60_013


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A folder with an input, and what comes of it when nothing happens."""
    folder = tmp_path_factory.mktemp("right")
    write_input(folder, SHORT)
    assert ended(attn(folder, "--workers", 2, "-o", "out.zarr")) == (0, [])
    assert sorted(os.listdir(folder)) == ["in.npz", "out.zarr"]
    return folder


def bytes_of(store):
    """What a store holds, but for what tells of the run."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def test_a_worker_is_killed(right, tmp_path):
    """The same blocks give the same bytes, however often they are computed."""
    shutil.copy(right / "in.npz", tmp_path)
    process = attn(tmp_path, "--workers", 2, "-o", "out.zarr")
    in_the_midst(process, tmp_path)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    assert ended(process) == (0, ["warning: 1 worker lost, the work is done again"])
    assert bytes_of(tmp_path / "out.zarr") == bytes_of(right / "out.zarr") != {}
    assert sorted(os.listdir(tmp_path)) == ["in.npz", "out.zarr"]


def workers_of(process):
    """Those that a run has started: they are spawned, and are no tracker of resources."""
    found = []
    for pid in children(process.pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"spawn_main" in file.read():
                found.append(pid)
    return found


SIGNALS = {
    signal.SIGINT: (130, ["interrupted"]),
    signal.SIGTERM: (143, []),
    signal.SIGHUP: (129, []),
}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_run_is_interrupted(tmp_path, number):
    """With all its processes, as a terminal does it; nothing is left of any."""
    write_input(tmp_path, LONG)
    process = attn(tmp_path, "--workers", 2, "-o", "out.zarr")
    in_the_midst(process, tmp_path)
    started = children(process.pid)
    os.killpg(process.pid, number)
    assert ended(process) == SIGNALS[number]
    wait_until(lambda: not any(map(is_running, started)), "the end of all processes")
    assert os.listdir(tmp_path) == ["in.npz"]


def test_a_run_is_interrupted_before_its_workers_are_there(tmp_path):
    write_input(tmp_path, SHORT)
    process = attn(tmp_path, "--workers", 2, "-o", "out.zarr")
    wait_until(lambda: workers_of(process), "the first process")
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, ["interrupted"])
    assert os.listdir(tmp_path) == ["in.npz"]


def test_what_others_are_still_about_leaves_nothing(tmp_path):
    """A worker of somebody else's goes on with its task when nobody wants it any more."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_input(folder, LONG)
    with scheduler(tmp_path) as process, worker(process.address, tmp_path):
        run = attn(folder, "--scheduler", process.address, "-o", "out.zarr")
        in_the_midst(run, folder)
        os.killpg(run.pid, signal.SIGINT)
        assert ended(run) == (130, ["interrupted"])
        with connect(Settings(scheduler=process.address)) as client:
            wait_until(lambda: not any(client.run(count_tasks).values()), "the last task")
    assert os.listdir(folder) == ["in.npz"]


def test_what_is_resumed_is_kept_and_done_once(right, tmp_path):
    shutil.copy(right / "in.npz", tmp_path)
    process = attn(tmp_path, "--workers", 2, "-o", "out.zarr", "--resume")
    in_the_midst(process, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process)[0] == 130
    (unfinished,) = tmp_path.glob(".out.zarr.*.tmp")
    done = [path for path in written(tmp_path) if path.suffix != ".tmp"]
    before = {str(path.relative_to(unfinished)): path.stat().st_ino for path in done}
    assert len(before) > 2
    assert ended(attn(tmp_path, "--workers", 2, "-o", "out.zarr", "--resume")) == (0, [])
    after = {name: (tmp_path / "out.zarr" / name).stat().st_ino for name in before}
    assert after == before  # the very same files: each was put in its place once
    assert bytes_of(tmp_path / "out.zarr") == bytes_of(right / "out.zarr")
    assert sorted(os.listdir(tmp_path)) == ["in.npz", "out.zarr"]


def test_the_scheduler_is_killed(tmp_path):
    write_input(tmp_path, LONG)
    gone = (2, ["error: the scheduler is gone"])
    for resume in ([], ["--resume"]):
        with scheduler(tmp_path) as process, worker(process.address, tmp_path):
            run = attn(tmp_path, "--scheduler", process.address, "-o", "out.zarr", *resume)
            in_the_midst(run, tmp_path)
            process.kill()
            code, said = ended(run)
            assert (code, said[:1]) == gone
            assert len(said) == 1 + len(resume)
            assert said[-1].endswith(" --resume") == bool(resume)  # the hint
            assert bool(written(tmp_path)) == bool(resume)


BROKEN = """
import attncli.core.parts
def forward_part(*arguments, **options):
    raise ZeroDivisionError("ours")
attncli.core.parts.forward_part = forward_part
"""


def test_a_bug_of_ours_on_a_worker_is_shown_with_its_traceback(tmp_path):
    write_input(tmp_path, SHORT)
    with (
        scheduler(tmp_path) as process,
        worker(process.address, tmp_path / "worker", prelude=BROKEN),
    ):
        code, said = ended(attn(tmp_path, "--scheduler", process.address, "-o", "out.zarr"))
    assert code == 70
    assert any("tasks.py" in line for line in said)
    assert "ZeroDivisionError: ours" in said
    assert not (tmp_path / "out.zarr").exists()


def test_the_disk_is_full(tmp_path):
    """It was not when the run began: somebody else takes what is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = 'mount -t tmpfs -o size=10m tmpfs disk && cp in.npz disk && cd disk && exec "$@"'
    apart = ["unshare", "-rm", "sh", "-c", mounting, "-"]
    write_input(tmp_path, LONG, H=3)
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here, to mount a small file system with")
    if subprocess.run([*apart, "true"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    process = attn(tmp_path, "--workers", 2, "-o", "out.zarr", before=apart)
    inside = f"/proc/{process.pid}/root{disk}"
    in_the_midst(process, inside)
    with open(f"{inside}/filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    started = os.open(inside, os.O_RDONLY)
    code, said = ended(process)
    assert (code, said) == (2, ["error: out.zarr: no space left on device"])
    assert sorted(os.listdir(started)) == ["filler", "in.npz"]
    os.close(started)
