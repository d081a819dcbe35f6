"""What running an operation forward gives, whichever engine ran it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from attncli.arrays import Array

Gradients = tuple[Array, ...]


class Forward(NamedTuple):
    """Results, and the way back.

    Attributes
    ----------
    results : dict of str to ndarray
        By name; the weights only where they were materialised.
    backward : callable
        ``backward(dout)`` returns the gradients in the order of the inputs, and that of a
        floating mask, in the mask's own shape, or None.
    engine : str
        Which one ran.
    blind : ndarray of bool or None
        Where True, a row saw no key at all; None where there is nothing that hides keys.
    """

    results: dict[str, Array]
    backward: Callable[[Array], tuple[Gradients, Array | None]]
    engine: str
    blind: Array | None = None


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes on which an array of `shape` was broadcast to the shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> sum_to(np.ones((2, 3, 4)), (3, 1))
    array([[8.],
           [8.],
           [8.]])
    """
    extra = x.ndim - len(shape)
    axes = tuple(
        axis
        for axis in range(x.ndim)
        if axis < extra or (shape[axis - extra] == 1 != x.shape[axis])
    )
    summed: Array = x.sum(axis=axes, keepdims=True).reshape(shape)
    return summed
