"""Fewer cells than weights: each block of them becomes its maximum or its mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from attncli.arrays import Array

Pool = Literal["max", "mean"]

# So many numbers are reduced in one go.
_AT_ONCE = 1 << 20


def pool(weights: Array, down: int, across: int, how: Pool = "max") -> Array:
    """Reduce every block of `down` rows and `across` columns to one number.

    The last blocks are smaller where the size is no multiple. The maximum is that of magnitudes,
    so that a difference keeps its sign.

    Examples
    --------
    >>> pool(np.array([[0.1, 0.9, 0.3], [0.2, 0.4, 0.0], [0.5, 0.0, 0.1]]), 2, 2)
    array([[0.9, 0.3],
           [0.5, 0.1]])
    >>> pool(np.array([[1.0, 0.0, 0.25]]), 1, 2, "mean")
    array([[0.5 , 0.25]])
    """
    if down == across == 1:
        return weights
    T_dec, T_enc = weights.shape
    # Some rows at a time: NumPy copies an array whose bytes lie at odd places, as in an archive.
    at_once = down * max(1, _AT_ONCE // max(1, down * T_enc))
    parts = [
        _pool(weights[first : first + at_once], down, across, how)
        for first in range(0, T_dec, at_once)
    ]
    return np.concatenate(parts) if parts else weights[:, ::across]


def _pool(weights: Array, down: int, across: int, how: Pool) -> Array:
    T_dec, T_enc = weights.shape
    row_starts, column_starts = np.arange(0, T_dec, down), np.arange(0, T_enc, across)

    def blocks(reduce: Any, dtype: Any = None) -> Array:
        # Rows first: whole lines are reduced with each other, and little is left for the columns.
        lines: Array = reduce(weights, row_starts, axis=0, dtype=dtype)
        reduced: Array = reduce(lines, column_starts, axis=1)
        return reduced

    if how == "max":
        most = blocks(np.maximum.reduceat)
        if weights.min() >= 0:
            return most
        least = blocks(np.minimum.reduceat)
        return np.where(-least > most, least, most)
    heights = np.diff(row_starts, append=T_dec)[:, None]
    widths = np.diff(column_starts, append=T_enc)[None, :]
    mean: Array = blocks(np.add.reduceat, np.float64) / (heights * widths)
    return mean


def factor(size: int, room: int) -> int:
    """Give the smallest number of weights a cell that lets `size` of them into `room` cells.

    Examples
    --------
    >>> factor(300, 100), factor(301, 100), factor(3, 100)
    (3, 4, 1)
    """
    return max(1, -(-size // max(1, room)))


def stated(factors: Collection[tuple[int, int]], how: Pool) -> str:
    """Say what a cell stands for, of one picture or of several; nothing where it is one weight.

    Examples
    --------
    >>> stated([(3, 2)], "max"), stated([(3, 2), (1, 1)], "mean"), stated([(1, 1)], "max")
    ('1 cell = the maximum of 3 × 2 weights', '1 cell = the mean of up to 3 × 2 weights', '')
    """
    down = max((down for down, _ in factors), default=1)
    across = max((across for _, across in factors), default=1)
    if down == across == 1:
        return ""
    kind = "maximum" if how == "max" else "mean"
    up_to = "up to " if len(set(factors)) > 1 else ""
    return f"1 cell = the {kind} of {up_to}{down} × {across} weights"
