"""What a matrix of weights does, in a few numbers: whole heads told apart at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array

# So many numbers are looked at in one go: a large head is never there twice.
_AT_ONCE = 1 << 20


class Statistics(NamedTuple):
    """What one matrix of weights does, in numbers.

    Attributes
    ----------
    entropy : float
        Mean over the rows, in bits; 0 looks at one key, log2(T_enc) at all alike.
    maximum : float
        The largest weight.
    first, diagonal, previous : float
        Mean weight on the first key, on the key of the same position, and on the one before it.
    dead : int
        Rows that are all zero: every key masked. They count in no mean.
    """

    entropy: float
    maximum: float
    first: float
    diagonal: float
    previous: float
    dead: int


def head_statistics(
    weights: Array, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None
) -> Statistics:
    """Compute the statistics of a matrix of weights.

    Parameters
    ----------
    weights : ndarray (T_dec, T_enc)
    rows, columns : sequence of int, optional
        The positions in the sequence, ascending, where they are not 0, 1, 2, …

    Examples
    --------
    >>> [round(x, 2) for x in head_statistics(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]))]
    [0.5, 1.0, 0.75, 0.75, 0.5, 1]
    """
    if not weights.size:
        return Statistics(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    T_dec, T_enc = weights.shape
    entropies = np.zeros(T_dec)
    largest = np.zeros(T_dec)
    step = max(1, _AT_ONCE // T_enc)
    for start in range(0, T_dec, step):
        part = weights[start : start + step].astype(np.float64)
        largest[start : start + step] = part.max(axis=1)
        logs = np.log2(part, where=part > 0, out=np.zeros_like(part))
        entropies[start : start + step] = -np.einsum("qk,qk->q", part, logs)
    alive = np.array([weights[start].any() for start in range(T_dec)])
    row_at = np.arange(T_dec) if rows is None else np.asarray(rows)
    column_at = np.arange(T_enc) if columns is None else np.asarray(columns)

    def on(keys: Array) -> float:
        """The mean weight of every row on a key of its own, over the rows that have it."""
        places = np.clip(np.searchsorted(column_at, keys), 0, T_enc - 1)
        there = alive & (column_at[places] == keys)
        picked = weights[np.flatnonzero(there), places[there]].astype(np.float64)
        return float(picked.mean()) if picked.size else 0.0

    return Statistics(
        float(entropies[alive].mean()) if alive.any() else 0.0,
        float(largest.max()),
        on(np.zeros_like(row_at)),
        on(row_at),
        on(row_at - 1),
        int(T_dec - np.count_nonzero(alive)),
    )
