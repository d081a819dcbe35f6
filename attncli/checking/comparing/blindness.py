"""What else would agree at a tolerance that somebody chose, though nobody would call it right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near, tiles

_WORDS = {"N": "another item's result", "heads": "another head's result"}


def blind_to(
    b: Array, tolerance: Tolerance, usual: Tolerance, axes: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Say what would agree with `b` at a tolerance, though at the usual one it does not.

    Parameters
    ----------
    b : ndarray
        What is expected.
    tolerance, usual : Tolerance
        The one that was chosen, and that of the dtypes.
    axes : sequence of str, optional
        The names of the axes.

    Examples
    --------
    >>> b = np.array([[0.5, 0.75], [0.6, 0.85]])
    >>> loose, usual = Tolerance(0.2, 0.1), Tolerance(1e-5)
    >>> blind_to(b, loose, usual, ("T_dec", "H_v"))
    ('one constant', 'the mean of all rows', 'rows exchanged')
    """

    def agree(a: Array, b: Array, tolerance: Tolerance) -> bool:
        return all(near(a[where], b[where], tolerance).agrees for where in tiles(b.shape))

    with np.errstate(all="ignore"):
        return tuple(
            name
            for name, wrong, right in _wrong(np.atleast_1d(b), tolerance, axes)
            if agree(wrong, right, tolerance) and not agree(wrong, right, usual)
        )


def _wrong(
    b: Array, tolerance: Tolerance, axes: Sequence[str] | None
) -> Iterator[tuple[str, Array, Array]]:
    """Give what nobody would call right, and what it would have to agree with."""
    if not b.size:
        return
    yield "all zeros", np.broadcast_to(0.0, b.shape), b
    yield "one constant", np.broadcast_to(_constant(b, tolerance), b.shape), b
    names = list(axes or [""] * b.ndim)
    steps = next((x for x in ("T_dec", "T_enc") if x in names), "")
    rows = names.index(steps) if steps else max(0, b.ndim - 2)
    if b.shape[rows] > 1:
        mean = b.mean(axis=rows, dtype=np.float64, keepdims=True)
        yield "the mean of all rows", np.broadcast_to(mean, b.shape), b
        yield "rows exchanged", *_moved(b, rows)
    for axis, name in enumerate(names):
        if name in _WORDS and axis != rows and b.shape[axis] > 1:
            yield _WORDS[name], *_moved(b, axis)


def _constant(b: Array, tolerance: Tolerance) -> float:
    """Give the constant that agrees with all of `b`, if one does."""
    low, high = -np.inf, np.inf
    for where in tiles(b.shape):
        part = np.asarray(b[where]).astype(np.float64)
        room = tolerance.absolute + tolerance.relative * np.abs(part)
        low, high = max(low, float((part - room).max())), min(high, float((part + room).min()))
    return (low + high) / 2


def _moved(b: Array, axis: int) -> tuple[Array, Array]:
    """Give what stands in the places of its neighbours along an axis, and those."""
    lead = (slice(None),) * axis
    return b[(*lead, slice(1, None))], b[(*lead, slice(None, -1))]
