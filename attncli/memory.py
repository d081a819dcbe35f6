"""How much memory there is, and the question whether something fits, asked before allocating."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from attncli.errors import MemoryLimitError

# So little is not worth asking the system for.
_SURELY_THERE = 1_000_000

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")


def available_memory() -> int | None:
    """Return the bytes that this process can still take, or None where nothing says.

    The least of what the machine has free, what the control group leaves, and what the
    process's own limit (``ulimit -v``) leaves.
    """
    return min(_limits(), default=None)


def require(nbytes: int, what: str, limit: int | None, *, hint: str | None = None) -> None:
    """Raise unless `nbytes` more bytes fit.

    Parameters
    ----------
    nbytes : int
        How much is needed.
    what : str
        What needs it; begins the message.
    limit : int or None
        The bytes there are; None takes `available_memory`.
    hint : str, optional
        The option that avoids it.

    Raises
    ------
    MemoryLimitError

    Examples
    --------
    >>> require(2_000_000, "weights (1, 500, 500)", 1_000_000)
    Traceback (most recent call last):
    attncli.errors.MemoryLimitError: weights (1, 500, 500) would take 2.0 MB, there is 1.0 MB
    """
    if limit is None:
        if nbytes < _SURELY_THERE:
            return
        limit = available_memory()
    if limit is not None and nbytes > limit:
        message = f"{what} would take {readable(nbytes)}, there is {readable(limit)}"
        raise MemoryLimitError(message, hint=hint)


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def readable(nbytes: int) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> readable(999), readable(61_542), readable(10**18)
    ('999 B', '61.5 KB', '1.0 EB')
    """
    size = float(nbytes)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{nbytes} B" if unit == "B" else f"{size:.1f} {unit}"


def _limits() -> Iterator[int]:
    """Every limit that can be read on this system."""
    meminfo = read_system("/proc/meminfo")
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    if not meminfo and sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    # Control groups, version 2 and 1: a file holding a number, or "max" for none.
    for folder, maximum, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, now = (
            read_system(f"{folder}/{maximum}").strip(),
            read_system(f"{folder}/{used}").strip(),
        )
        if most.isdecimal() and now.isdecimal():
            yield max(0, int(most) - int(now))

    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            pages = read_system("/proc/self/statm").split()
            taken = int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
            yield max(0, soft - taken)


def read_system(path: str) -> str:
    """Return what the system says in one of its files, nothing where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
