"""The type of a NumPy array, and walking through a large one.

``numpy.typing`` is not imported: it takes longer than our start.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Tokens: TypeAlias = np.ndarray[Any, np.dtype[np.str_]]

_AT_ONCE = 1 << 20


def parts(array: Array, count: int = _AT_ONCE) -> Iterator[Array]:
    """Yield an array's elements, `count` at a time, so that what is made of them stays small.

    In the order in which they lie in memory.

    Examples
    --------
    >>> [part.tolist() for part in parts(np.arange(5).reshape(1, 5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    flat = array.ravel(order="K")  # a view of every contiguous array, mapped ones included
    return (flat[start : start + count] for start in range(0, flat.size, count))
