"""The type of a NumPy array, making one of what others hold, and walking through a large one.

``numpy.typing`` is not imported: it takes longer than our start.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Tokens: TypeAlias = np.ndarray[Any, np.dtype[np.str_]]

_AT_ONCE = 1 << 20


def as_array(numbers: Any) -> Array:
    """Give numbers as a NumPy array, whoever holds them: lists, torch's tensors, JAX's arrays.

    Tensors come from any device and without the graph of their gradient; bfloat16 and float8,
    which NumPy does not have, are widened to float32, which is exact. Memory is shared if it can.

    Examples
    --------
    >>> as_array([[0.25, 0.75]])
    array([[0.25, 0.75]])
    """
    for step in ("detach", "cpu"):  # torch's; NumPy's have neither
        numbers = getattr(numbers, step, lambda same=numbers: same)()
    if str(getattr(numbers, "dtype", "")).startswith(("torch.bfloat16", "torch.float8")):
        numbers = numbers.float()
    array = np.asarray(numbers)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


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
