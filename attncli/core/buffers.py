"""Memory for arrays: aligned, in large pieces, and used again.

NumPy's own arrays begin anywhere, and then every other load of a wide register takes two lines of
the processor's cache: products and exponentials on them take 3 to 8 % longer.  And memory that is
new has to be cleared and mapped page by page, which takes as long as computing what goes there;
so a little of what was used is kept for the next calculation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from attncli.arrays import Array

LINE = 64  # bytes that the processor loads at a time
SMALL = 1 << 14  # bytes up to which it does not matter where an array begins
KEPT = 32 << 20  # bytes that may stay here when nobody uses them


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised array that begins where a line of the processor's cache does.

    Examples
    --------
    >>> x = empty((200, 300), np.dtype(float))
    >>> x.shape, x.ctypes.data % LINE
    ((200, 300), 0)
    """
    if math.prod(shape) * dtype.itemsize <= SMALL:
        return np.empty(shape, dtype)
    return together([shape], dtype)[0]


def together(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[Array]:
    """Return such arrays of these shapes, all in one piece of memory.

    One large piece is more often given in large pages, and more often found again.

    Examples
    --------
    >>> [x.shape for x in together([(2, 3), (5,)], np.dtype(float))]
    [(2, 3), (5,)]
    """
    sizes = [math.prod(shape) * dtype.itemsize for shape in shapes]
    if sum(sizes) <= SMALL:
        return [np.empty(shape, dtype) for shape in shapes]
    starts = [0, *accumulate(-(-size // LINE) * LINE for size in sizes)]
    memory = _memory(starts[-1] + LINE)
    first = -memory.ctypes.data % LINE
    return [
        memory[first + start : first + start + size].view(dtype).reshape(shape)
        for shape, size, start in zip(shapes, sizes, starts, strict=False)
    ]


_memories: list[Array] = []


def _memory(nbytes: int) -> Array:
    """Return at least so many bytes: those of an earlier call if all its arrays are gone.

    Whoever has an array in it, or a view of one, refers to it through that array's base.
    """
    free = (x for x in _memories if sys.getrefcount(x) == _ALONE and nbytes <= len(x) <= 2 * nbytes)
    memory: Array | None = next(free, None) if _ALONE else None
    if memory is None:
        memory = np.empty(nbytes, np.uint8)
        if _ALONE and nbytes <= KEPT:
            _memories.append(memory)
            while sum(map(len, _memories)) > KEPT:
                del _memories[0]  # whoever uses it still has it
    return memory


def _count_alone() -> int:
    """Return how often an object is referred to that only a list holds, asked as above.

    0 where counting does not tell who else holds it.
    """
    one_at_a_time = getattr(sys, "_is_gil_enabled", lambda: True)()
    if sys.implementation.name != "cpython" or not one_at_a_time:
        return 0
    return next(sys.getrefcount(x) for x in [object()])


_ALONE = _count_alone()
