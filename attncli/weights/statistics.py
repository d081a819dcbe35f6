"""What a matrix of weights does, in a few numbers: whole heads told apart at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.weights.tokens import is_special

# So many numbers are looked at in one go: a large head is never there twice.
_AT_ONCE = 1 << 20
# Less than this of a row's weight, or spread of its positions, is what rounding makes.
_NOTHING = 1e-5


class Statistics(NamedTuple):
    """What one matrix of weights does, in numbers.

    Attributes
    ----------
    entropy : float
        Mean over the rows, in bits; 0 looks at one key, log2(T_enc) at all alike.
    maximum : float
        The largest weight.
    first, diagonal, previous : float
        Mean weight on the first key, on the keys that the line from corner to corner goes through
        (where there are as many rows as keys, the key of the same position), and on the one before.
    dead : int
        Rows that are all zero: every key masked. They count in no mean.
    peak : float
        Mean over the rows of the largest weight.
    monotonic : float
        How far the keys rise with the rows, as an alignment's do: the correlation of the positions
        of row and key, each pair counted by its weight beyond what all rows look at alike. 1 is a
        sharp and even rise, 0 none; None where it was not asked for.
    induction : float or None
        Mean weight on what followed the word of the row where it was before, over the rows whose
        word was there before; None where there is no such row, or nothing is known of words.
    """

    entropy: float
    maximum: float
    first: float
    diagonal: float
    previous: float
    dead: int
    peak: float
    monotonic: float | None
    induction: float | None = None


def head_statistics(
    weights: Array,
    rows: Sequence[int] | None = None,
    columns: Sequence[int] | None = None,
    shape: tuple[int, int] | None = None,
    following: Mapping[int, Sequence[int]] | None = None,
    *,
    monotonic: bool = True,
) -> Statistics:
    """Compute the statistics of a matrix of weights.

    Parameters
    ----------
    weights : ndarray (T_dec, T_enc)
    rows, columns : sequence of int, optional
        The positions in the sequence, ascending, where they are not 0, 1, 2, …
    shape : (int, int), optional
        Of the whole, where this is a part.
    following : mapping of int to sequence of int, optional
        For a row whose word was there before, where what followed it stands; see
        `after_former_words`.
    monotonic : bool, default True
        Whether that is wanted as well, for which the weights are gone through once more.

    Examples
    --------
    >>> found = head_statistics(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]))
    >>> [round(x, 2) for x in found[:6]], round(found.peak, 2), round(found.monotonic, 2)
    ([0.5, 1.0, 0.75, 1.0, 0.5, 1], 0.75, 1.0)
    """
    if not weights.size:
        return Statistics(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0.0)
    T_dec, T_enc = weights.shape
    row_at = np.arange(T_dec) if rows is None else np.asarray(rows)
    column_at = np.arange(T_enc) if columns is None else np.asarray(columns)
    whole = weights.shape if shape is None else shape
    entropies = np.zeros(T_dec)
    largest = np.zeros(T_dec)
    step = max(1, _AT_ONCE // T_enc)
    for start in range(0, T_dec, step):
        part = weights[start : start + step].astype(np.float64)
        largest[start : start + step] = part.max(axis=1)
        logs = np.log2(part, where=part > 0, out=np.zeros_like(part))
        entropies[start : start + step] = -np.einsum("qk,qk->q", part, logs)
    alive = np.array([weights[start].any() for start in range(T_dec)])

    def on(first: Array, behind: Array) -> float:
        """The mean weight of every row on keys of its own, over the rows that have them."""
        starts, ends = np.searchsorted(column_at, np.stack([first, behind]))
        there = np.flatnonzero(alive & (ends > starts))
        if (ends - starts <= 1).all():
            sums = weights[there, starts[there]].astype(np.float64)
        else:
            every = zip(there.tolist(), starts[there].tolist(), ends[there].tolist(), strict=True)
            sums = np.array([weights[row, i:j].sum(dtype=np.float64) for row, i, j in every])
        return float(sums.mean()) if sums.size else 0.0

    def mean(values: Array) -> float:
        return float(values[alive].mean()) if alive.any() else 0.0

    return Statistics(
        mean(entropies),
        float(largest.max()),
        on(np.zeros_like(row_at), np.ones_like(row_at)),
        on(row_at * whole[1] // whole[0], -(-(row_at + 1) * whole[1] // whole[0])),
        on(row_at - 1, row_at),
        int(T_dec - np.count_nonzero(alive)),
        mean(largest),
        _correlation(weights, alive, row_at, column_at) if monotonic else None,
        _on_what_followed(weights, alive, row_at, column_at, following or {}),
    )


def _correlation(weights: Array, alive: Array, row_at: Array, column_at: Array) -> float:
    """Of the positions of row and key, each pair counted by its weight, all rows alike.

    What all rows look at alike, as at a sink, does not count.
    """
    if np.count_nonzero(alive) < 2:
        return 0.0
    # Single precision is enough to weigh positions by, and half of what is to be moved.
    totals = weights.sum(axis=0, dtype=np.float64) / np.count_nonzero(alive)
    common = np.nan_to_num(totals, posinf=0.0, neginf=0.0).astype("f4")
    powers = ((column_at / (1 + column_at[-1]))[:, None] ** np.arange(3)).astype("f4")
    moments = np.zeros((len(weights), 3))  # of the positions of the keys: their powers 0, 1 and 2
    step = max(1, _AT_ONCE // len(column_at))
    for start in range(0, len(weights), step):
        own = np.subtract(weights[start : start + step], common, dtype="f4")
        moments[start : start + step] = np.maximum(own, 0, out=own) @ powers
    told = alive & np.isfinite(moments).all(axis=1) & (moments[:, 0] > _NOTHING)
    sums, firsts, squares = moments[told].T
    if len(sums) < 2:
        return 0.0
    places = row_at[told] - row_at[told].mean()
    firsts, squares = firsts / sums, squares / sums
    variance = max(0.0, float(squares.mean() - firsts.mean() ** 2)) * float(np.mean(places**2))
    return float(np.mean(places * firsts) / np.sqrt(variance)) if variance > _NOTHING else 0.0


def _on_what_followed(
    weights: Array,
    alive: Array,
    row_at: Array,
    column_at: Array,
    following: Mapping[int, Sequence[int]],
) -> float | None:
    at = {position: place for place, position in enumerate(column_at.tolist())}
    sums = []
    for row in np.flatnonzero(alive).tolist():
        keys = [at[key] for key in following.get(int(row_at[row]), ()) if key in at]
        if keys:
            sums.append(float(weights[row, keys].sum(dtype=np.float64)))
    return float(np.mean(sums)) if sums else None


def after_former_words(words: Sequence[str]) -> dict[int, list[int]]:
    """Say for each word that was there before what followed it then: what induction looks at.

    The word itself does not count where it follows itself, nor do tokens that are no words.

    Examples
    --------
    >>> after_former_words(["<s>", "a", "cat", "saw", "a", "cat", "<s>"])
    {4: [2], 5: [3]}
    >>> after_former_words(["no", "no", "no"])
    {2: [1]}
    """
    before: dict[str, list[int]] = {}
    following: dict[int, list[int]] = {}
    for place, word in enumerate(words):
        if is_special(word):
            continue
        found = [former + 1 for former in before.get(word, ()) if former + 1 < place]
        if found:
            following[place] = found
        before.setdefault(word, []).append(place)
    return following
