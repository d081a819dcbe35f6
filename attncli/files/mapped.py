"""Mapped files: room for what is written, and not keeping what was read in memory."""

import mmap
import os
from typing import BinaryIO

from attncli.arrays import Array


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
