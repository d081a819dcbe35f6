"""A cluster that is started here: what it is, how it ends, and what is said of all that fails."""

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the cluster extra is not installed")

from clusters import (
    PATIENCE,
    about_worker,
    children,
    die,
    fail,
    hold,
    is_running,
    keep,
    scheduler,
    slowly,
    status,
    take,
    wait_until,
    worker,
)

from attncli.cluster.cluster_settings import Needs, Settings
from attncli.cluster.connecting import connect, divided
from attncli.cluster.failing import Watch, explained
from attncli.errors import ClusterError, FileError, MemoryLimitError

NEEDS = Needs(task=10_000_000, worker=100_000_000, block=8192, output="out.zarr")


def here(folder, **settings):
    """Two workers on this machine."""
    ours = Settings(workers=2, worker_memory=400_000_000, scratch=str(folder), **settings)
    return connect(ours, lambda threads: NEEDS)


def surroundings():
    """What a run must leave as it was."""
    levels = {name: logging.getLogger(name).level for name in ("distributed", "tornado", "asyncio")}
    names = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return (
        [os.environ.get(name) for name in names],
        levels,
        signal.pthread_sigmask(signal.SIG_BLOCK, []),
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two workers on this machine; it leaves nothing, here and anywhere else."""
    folder = tmp_path_factory.mktemp("scratch")
    before, known = surroundings(), set(children(os.getpid()))
    with here(folder) as client:
        client.folder = folder
        yield client
    started = set(children(os.getpid())) - known
    # Python keeps one process for itself, to its end.
    assert [pid for pid in started if b"resource_tracker" not in _command(pid)] == []
    assert os.listdir(folder) == []
    assert surroundings() == before


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.contextmanager
def watched(client, **options):
    """Be told of failures in a run of one's own on a cluster that is there."""
    with explained(Watch(client, PATIENCE), NEEDS, resume=False, **options):
        yield


def test_a_worker_of_ours(cluster):
    found = cluster.run(about_worker)
    assert len(found) == len({one["pid"] for one in found.values()}) == 2
    for one in found.values():
        assert one["threads"] == 1
        assert one["limit"] == 400_000_000
        assert Path(one["folder"]).is_relative_to(cluster.folder)
        assert one["ignores"]
        assert one["environment"] == {
            "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
            "OMP_NUM_THREADS": "1",
        }


def test_nobody_else_reaches_it(cluster):
    """Whoever reaches a scheduler or a worker can run what he likes."""
    pids = [os.getpid(), *(one["pid"] for one in cluster.run(about_worker).values())]
    inodes = {
        os.readlink(entry)
        for pid in pids
        for entry in Path(f"/proc/{pid}/fd").iterdir()
        if entry.is_symlink()
    }
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in inodes:
                found.append(local.split(":")[0])
    assert len(found) >= 3
    assert set(found) == {"0100007F"}


FAILED = {
    OSError(errno.ENOSPC, "No space left on device"): (
        FileError, "out.zarr: no space left on device", None,
    ),
    PermissionError(errno.EACCES, "Permission denied", "/data/a.npy"): (
        FileError, "/data/a.npy: permission denied", None,
    ),
    MemoryError(): (
        MemoryLimitError, "a task needs more memory than a worker has", "--block 4096",
    ),
    FileError("a.npy: cut short", hint="write it again"): (
        FileError, "a.npy: cut short", "write it again",
    ),
}  # fmt: skip


@pytest.mark.parametrize("error", FAILED, ids=lambda error: type(error).__name__)
def test_what_a_task_raises_is_said(cluster, error):
    kind, message, hint = FAILED[error]
    with pytest.raises(kind) as caught, watched(cluster):
        cluster.submit(fail, error, pure=False).result()
    assert (str(caught.value), caught.value.hint) == (message, hint)


def test_what_is_a_bug_of_ours_comes_with_its_traceback(cluster):
    with pytest.raises(ZeroDivisionError) as caught, watched(cluster):
        cluster.submit(fail, ZeroDivisionError("ours")).result()
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))


def killed_three_times(cluster, folder):
    """Let twelve tasks be done by workers that are killed from outside meanwhile."""
    futures = cluster.map(slowly, range(12), seconds=0.3, started=str(folder))
    for count in (1, 3, 5):
        wait_until(lambda enough=count: len(os.listdir(folder)) >= enough, "tasks")
        seen = {int(name.split("-")[1]) for name in os.listdir(folder)}
        os.kill(max(pid for pid in seen if is_running(pid)), signal.SIGKILL)
        wait_until(lambda: len(cluster.nthreads()) == 2, "a new worker")
    return cluster.gather(futures)


def test_a_worker_that_is_killed_again_and_again(cluster, tmp_path):
    with warnings.catch_warnings(record=True) as said, watched(cluster):
        warnings.simplefilter("always")
        assert killed_three_times(cluster, tmp_path) == list(range(12))
    assert [str(one.message) for one in said] == ["3 workers lost, the work is done again"]


def test_a_task_over_the_memory_of_a_worker(cluster, monkeypatch):
    monkeypatch.setattr(cluster.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(MemoryLimitError) as caught, watched(cluster):
        cluster.submit(take, 2_000_000_000).result()
    assert str(caught.value) == "a task needs more memory than a worker has (400.0 MB)"
    assert caught.value.hint == "--block 4096"


def test_a_task_that_ends_its_workers_by_itself(cluster, monkeypatch):
    """Nothing says why: it may be memory, and may be not."""
    monkeypatch.setattr(cluster.cluster.scheduler, "allowed_failures", 1)
    with pytest.raises(ClusterError) as caught, watched(cluster):
        cluster.submit(die).result()
    assert str(caught.value).startswith("2 workers ended in the midst of the same task, the last ")
    assert caught.value.hint == "--block 4096"


def left_in_the_midst(folder, pids):
    with here(folder) as client:
        futures = client.map(slowly, range(2), seconds=PATIENCE, started=str(folder))
        wait_until(lambda: len(os.listdir(folder)) > 2, "tasks")
        pids += [one["pid"] for one in client.run(about_worker).values()]
        raise KeyboardInterrupt(len(futures))


def test_whoever_leaves_in_the_midst_waits_for_no_task(tmp_path):
    pids = []
    with pytest.raises(KeyboardInterrupt):
        left_in_the_midst(tmp_path, pids)
    assert len(pids) == 2
    assert [pid for pid in pids if is_running(pid)] == []


def ended(address, gone, within):
    """Wait for a task until a process that it needs has gone."""
    with connect(Settings(scheduler=address, workers_within=PATIENCE)):
        pass  # a worker is there
    settings = Settings(scheduler=address, workers_within=within, resume=True)
    with connect(settings) as client:
        future = client.submit(slowly, 1, seconds=PATIENCE, pure=False)
        wait_until(lambda: any(client.processing().values()), "a task")
        gone.kill()
        future.result()


def stuck(address, done):
    settings = Settings(scheduler=address, workers_within=1)
    with connect(settings, lambda threads: Needs(block=8192)) as client:
        done.append(client.submit(hold, 300_000_000, seconds=3).result())
        client.submit(keep, 300_000_000, pure=False).result()
        wait_until(lambda: "paused" in client.run(status).values(), "a worker to wait")
        client.submit(slowly, 1, 0, pure=False).result()


def test_workers_that_wait_for_memory_are_not_waited_for(tmp_path):
    """Without a nanny nobody ends them.  Who is about a task may have memory again."""
    little, done = ["--memory-limit", "300MB"], []
    with scheduler(tmp_path) as process, worker(process.address, tmp_path, *little):
        with connect(Settings(scheduler=process.address, workers_within=PATIENCE)):
            pass  # a worker is there
        with pytest.raises(MemoryLimitError) as caught:
            stuck(process.address, done)
    assert done == [300_000_000]
    assert str(caught.value) == "a task needs more memory than a worker has"
    assert caught.value.hint == "--block 4096"


def test_all_workers_go_and_then_the_scheduler(tmp_path):
    with scheduler(tmp_path) as process:
        address = process.address
        with worker(address, tmp_path) as other, pytest.raises(ClusterError) as caught:
            ended(address, other, within=0.5)
        assert (str(caught.value), caught.value.hint) == ("no worker is left", "--resume")
        with worker(address, tmp_path), pytest.raises(ClusterError) as caught:
            ended(address, process, within=PATIENCE)
        assert (str(caught.value), caught.value.hint) == ("the scheduler is gone", "--resume")


LITTLE = {
    "less than a worker needs": (
        Settings(workers=1, worker_memory=10**9),
        Needs(task=10**9, worker=10**8, block=64),
        "--worker-memory 1.0 GB: a worker needs 1.1 GB",
        "--block 32",
    ),
    "less than any block needs": (
        Settings(workers=1, worker_memory=90_000_000),
        Needs(task=10**6, worker=10**8, block=64),
        "--worker-memory 90.0 MB: a worker needs 101.0 MB",
        "--worker-memory 101MB",
    ),
    "more than there is": (
        Settings(workers=1),
        Needs(task=10**15, block=64),
        "a worker needs 1.0 PB, there is ",
        None,
    ),
}


@pytest.mark.parametrize("kind", LITTLE)
def test_what_does_not_fit_is_said_before_anything_is_started(kind):
    settings, needs, message, hint = LITTLE[kind]
    with pytest.raises(MemoryLimitError) as caught, connect(settings, lambda threads: needs):
        raise AssertionError("started")
    assert str(caught.value).startswith(message)
    assert caught.value.hint == hint


def test_as_many_workers_as_fit(monkeypatch):
    """Those that are asked for, or none; else as many as there is memory for."""
    monkeypatch.setattr("attncli.cluster.connecting.available_memory", lambda: 5 * 10**9)
    monkeypatch.setattr("attncli.cluster.connecting.CPU_COUNT", 16)
    asked = []

    def needs(threads):
        asked.append(threads)
        return Needs(task=10**9, worker=10**8, block=64)

    assert divided(Settings(), needs)[:2] == (3, 4 * 10**9 // 3)
    assert asked == [16, 3]
    with pytest.raises(MemoryLimitError) as caught:
        divided(Settings(workers=4), needs)
    assert str(caught.value) == "a worker needs 1.1 GB, there is 4.0 GB for 4"
    assert caught.value.hint == "--workers 3"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(FileError) as caught, connect(Settings(workers=1, scratch=str(missing))):
        raise AssertionError("started")
    assert str(caught.value) == f"--scratch {missing}: no such file or directory"


KILLED = """
import sys, os
sys.path.insert(0, sys.argv[2])
from clusters import slowly
from attncli.cluster.cluster_settings import Settings
from attncli.cluster.connecting import connect
if __name__ == "__main__":
    with connect(Settings(workers=2, scratch=sys.argv[1])) as client:
        client.gather(client.map(slowly, range(2), seconds=60, started=sys.argv[1]))
"""


def test_workers_do_not_outlive_who_started_them(tmp_path):
    """Killed, so that it can end nobody."""
    tests = str(Path(__file__).parent.parent)
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, tests]) as process:
        wait_until(lambda: len(os.listdir(tmp_path)) > 2, "tasks")
        started = children(process.pid)
        assert len(started) >= 2
        process.kill()
    wait_until(lambda: not any(map(is_running, started)), "the end of all workers")
