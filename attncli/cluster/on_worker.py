"""What runs on a scheduler or a worker: getting it ready, and what it says of itself."""

from __future__ import annotations

import logging
import os
import platform
import signal
import tempfile
import warnings
from importlib import metadata
from typing import Any

import numpy as np

from attncli.memory import available_memory
from attncli.version import __version__

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SILENT = logging.CRITICAL + 1

Stamp = tuple[int, int]
"""How long a file is, in bytes, and when it was written, in nanoseconds."""


def dask_setup(worker: Any) -> None:
    """Get a worker of ours ready, before it takes any task: Dask calls this.

    Ctrl-C reaches every process of a terminal.  It is for the client, which ends its workers; what
    they would say of it, or of being ended, is nothing that anybody has to know.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silence()
    warnings.simplefilter("ignore")  # a terminal is the client's


def silence() -> dict[logging.Logger, int]:
    """Silence the loggers of Dask and what it is made of; give them with the levels they had."""
    roots = ("distributed", "tornado", "asyncio", "bokeh")
    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in roots]
    loggers = [logging.getLogger(name) for name in {*roots, *known}]
    before = {logger: logger.level for logger in loggers}
    for logger in loggers:
        logger.setLevel(SILENT)
    return before


def at_work(dask_scheduler: Any = None) -> tuple[int, int]:
    """Say, on a scheduler, how many workers there are and how many bytes they have exchanged.

    Parameters
    ----------
    dask_scheduler : Scheduler
        Which Dask fills in.
    """
    sent = dask_scheduler.cumulative_worker_metrics.get(("get-data", "memory-read", "bytes"), 0)
    return len(dask_scheduler.workers), int(sent)


def stamp(path: str) -> Stamp:
    """Tell one state of a file from another; of a folder, by what is in it.

    Raises
    ------
    OSError
    """
    if not os.path.isdir(path):
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns
    with os.scandir(path) as entries:
        inside = [entry.stat() for entry in entries if not entry.is_dir()]
    return sum(one.st_size for one in inside), max((one.st_mtime_ns for one in inside), default=0)


def versions() -> dict[str, str]:
    """Say which versions there are of what both ends must have alike."""
    found = {
        "attncli": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    for name in ("zarr", "distributed", "dask"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def report(
    inputs: tuple[str, ...] = (), marker: str | None = None, dask_worker: Any = None
) -> dict[str, Any]:
    """Say what a worker has: versions, memory, and how it sees files.

    Parameters
    ----------
    inputs : tuple of str
        Files, of which it gives the stamps, or what is wrong with them.
    marker : str, optional
        A file that the client has just written, beside which this one has to be able to write.
    dask_worker : Worker
        Which Dask fills in.
    """
    manager = getattr(dask_worker, "memory_manager", None)
    return {
        "versions": versions(),
        "machine": platform.node(),
        "threads": dask_worker.state.nthreads if dask_worker is not None else 0,
        "limit": getattr(manager, "memory_limit", None),
        "free": available_memory(),
        "blas": [os.environ[name] for name in BLAS_THREADS if name in os.environ],
        "cores": os.cpu_count() or 1,
        "inputs": {path: _seen(path) for path in inputs},
        "writing": _writing(marker) if marker is not None else None,
    }


def _seen(path: str) -> Stamp | str:
    try:
        return stamp(path)
    except OSError as error:
        return _reason(error)


def _writing(marker: str) -> str | None:
    """Say why it cannot write where the client does, if it cannot."""
    if not os.path.exists(marker):
        return "what is written there is not seen"
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(marker)):
            return None
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
