"""Walking through mapped files without keeping what was read in memory."""

import mmap

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
