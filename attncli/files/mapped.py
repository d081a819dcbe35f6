"""Mapped files: room for what is written, and not keeping what was read in memory."""

import ctypes
import mmap
import os
import signal
from collections.abc import Callable
from typing import Any, BinaryIO

from attncli.arrays import Array

_handlers: list[Any] = []  # kept, for the system calls them


def when_cut_short(end: Callable[[str], Any]) -> None:
    """End with a message, and not by the system, where a mapped file becomes shorter meanwhile.

    Python's own handlers would wait for the very step that cannot be done.
    """
    if not _handlers and hasattr(signal, "SIGBUS"):
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        _handlers.append(kind(lambda number: end("a file was cut short while it was read")))
        ctypes.CDLL(None).signal(signal.SIGBUS, _handlers[0])


def release(array: Array) -> None:
    """Give back the pages of a mapped array that were read; touching them reads them again.

    Nothing happens to an array that is not mapped, or where the system has no such call.
    """
    base: object = array
    while isinstance(base, memoryview) or hasattr(base, "base"):
        base = base.obj if isinstance(base, memoryview) else base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def reserve(stream: BinaryIO, start: int, nbytes: int) -> None:
    """Make a file long enough for `nbytes` from `start` on, with room for them on the disk.

    Raises
    ------
    OSError
        If there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), start, nbytes)
        return
    stream.seek(start)
    zeros = bytes(min(nbytes, 1 << 20))
    for at in range(0, nbytes, len(zeros)):
        stream.write(zeros[: nbytes - at])
    stream.flush()
