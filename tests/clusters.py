"""Schedulers and workers as real processes, as people start them, and who pretends to be one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 60  # seconds: on a busy machine everything takes its time, and ends early on others

SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


def wait_until(holds, what="it"):
    """Wait until something holds, and give it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE} s in vain for {what}")


@contextlib.contextmanager
def program(code, *arguments, before=(), prelude="", **environment):
    """Run a program of Dask's in a process of its own, and end it hard."""
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    surroundings = os.environ | ours | environment
    process = subprocess.Popen(
        [*before, sys.executable, "-c", f"{prelude}\n{code}", *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={name: value for name, value in surroundings.items() if value is not None},
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def scheduler(folder, *arguments, **options):
    """Start a scheduler; give its process, address, and the file that it wrote."""
    file = Path(folder) / f"scheduler-{os.urandom(3).hex()}.json"
    given = ["--scheduler-file", file, *arguments]
    if "--dashboard-address" not in arguments:
        given.append("--no-dashboard")
    if "--host" not in arguments:
        given += ["--host", "127.0.0.1"]
    with program(SCHEDULER, "--port", 0, *given, **options) as process:

        def written():
            with contextlib.suppress(OSError, ValueError):
                return json.loads(file.read_text())

        said = wait_until(written, "a scheduler")
        process.address, process.file, process.said = said["address"], file, said
        yield process


@contextlib.contextmanager
def worker(address, folder, *arguments, **options):
    """Start a worker of one thread, without a nanny."""
    given = ["--local-directory", folder, *arguments]
    if "--nanny" not in arguments:
        given.append("--no-nanny")
    if "--nthreads" not in arguments:
        given += ["--nthreads", "1"]
    with program(WORKER, address, "--no-dashboard", *given, **options) as process:
        yield process


@contextlib.contextmanager
def listener(answer=b""):
    """Listen, accept, and give an answer, whatever is said, or say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    if answer:
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


def free_port():
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def children(pid):
    """The processes that a process has started, and those that they have."""
    found, level = [], [pid]
    while level:
        level = [
            int(child)
            for parent in level
            for task in Path(f"/proc/{parent}/task").glob("*/children")
            for child in task.read_text().split()
        ]
        found += level
    return found


def is_running(pid):
    """Whether a process is there, and not merely waiting to be buried."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# What runs on workers: functions of a module that they find.


def about_worker(dask_worker=None):
    """Say what a worker is like."""
    held = dask_worker
    names = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS")
    return {
        "pid": os.getpid(),
        "threads": held.state.nthreads,
        "limit": held.memory_manager.memory_limit,
        "folder": held.local_directory,
        "ignores": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "environment": {name: os.environ[name] for name in names},
    }


def status(dask_worker=None):
    """Say whether a worker takes tasks."""
    return dask_worker.status.name


def count_tasks(dask_worker=None):
    """Count the tasks that a worker is about."""
    return len(dask_worker.state.executing) + len(dask_worker.state.long_running)


def fail(error):
    """Raise an error."""
    raise error


def slowly(number, seconds, started=None):
    """Take some time, and write beforehand who does."""
    if started is not None:
        Path(started, f"{number}-{os.getpid()}").touch()
    time.sleep(seconds)
    return number


def die():
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


kept = []


def keep(nbytes):
    """Take memory and never give it back."""
    kept.append(b"x" * nbytes)


def hold(nbytes, seconds):
    """Take memory, and give it back after some time."""
    held = b"x" * nbytes
    time.sleep(seconds)
    return len(held)


def take(nbytes):
    """Take more and more memory."""
    held = []
    for _ in range(nbytes // 10_000_000):
        held.append(b"x" * 10_000_000)
        time.sleep(0.02)
    time.sleep(PATIENCE)
    return len(held)


# Runs of `attn` of their own, which something happens to.


def write_input(folder, T, H=17):
    """Write a file of one head, large enough to be in the midst of it."""
    import numpy as np

    rng = np.random.default_rng(3)
    arrays = {
        name: rng.normal(size=(1, 1, T, H)).astype("f4") for name in ("query", "key", "value")
    }
    np.savez(Path(folder) / "in.npz", **arrays)


def attn(folder, *arguments, before=(), **environment):
    """Start `attn forward` on a cluster, as a group of processes of its own."""
    command = [sys.executable, "-m", "attncli", "forward", "in.npz", "--engine", "dask"]
    command += [] if "--json" in arguments else ["-q"]
    return subprocess.Popen(
        [*before, *command, "--block", "2048", *map(str, arguments)], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | environment,
    )  # fmt: skip


def written(folder):
    """The pieces of a result that are there while it is being made."""
    return [path for path in Path(folder).glob(".out.zarr.*.tmp/out/**/*") if path.is_file()]


def in_the_midst(process, folder):
    """Wait until some of the result is written, and not all."""
    wait_until(lambda: len(written(folder)) > 2 or process.poll() is not None, "results")
    assert process.poll() is None, process.communicate()


def ended(process):
    """Wait for the end of a run: its exit code, and the lines that it said."""
    out, err = process.communicate(timeout=5 * PATIENCE)
    assert out == ""
    return process.returncode, [line for line in err.splitlines() if line]
