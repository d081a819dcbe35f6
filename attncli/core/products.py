"""The one place in the core that multiplies matrices, so that who multiplies is chosen here alone.

The definition of correct (`attncli.layers`) stays with the array API standard.
"""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array

# The product of matrices on the last two axes: ``matmul(first, second, out=None)``.
matmul = np.matmul

# The products of rows with rows of the same numbers: ``vecdot(first, second)``, (…, n) to (…).
vecdot = np.vecdot


def row_sums(x: Array) -> Array:
    """Return the sums over the last axis, by a product: it is the faster way.

    Examples
    --------
    >>> row_sums(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    sums: Array = np.matmul(x, np.ones(x.shape[-1], x.dtype))
    return sums


def sum_of_squares(x: Array) -> float:
    """Return one number that is not finite if any of `x` is not: no sum is had for less.

    Examples
    --------
    >>> sum_of_squares(np.array([3.0, 4.0])), sum_of_squares(np.array([3.0, np.nan]))
    (25.0, nan)
    """
    return float(np.vdot(x, x))
