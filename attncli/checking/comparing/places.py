"""Where errors lie in a tensor, in words."""

from collections.abc import Sequence

import numpy as np

from attncli.arrays import Array
from attncli.translation import Sentence

_WORDS = {
    "N": "item",
    "heads": "head",
    "kv_heads": "key head",
    "T_dec": "decoder step",
    "T_enc": "encoder step",
}
_LISTED = 6
# Errors in no more than this share of an axis are worth being told apart from the rest of it.
_FEW = 0.5


def places(counts: Sequence[Array | None], axes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Say along which axes errors keep to some of the indices.

    Parameters
    ----------
    counts : sequence of (ndarray of int, or None)
        For every axis of the tensor, how many errors there are at each of its indices; None
        where that was not counted.
    axes : sequence of str, optional
        The names of the axes.

    Returns
    -------
    tuple of str
        Nothing where the errors are all over.

    Examples
    --------
    >>> places([np.array([0, 9, 0]), np.array([3, 3, 3])], ("N", "H"))
    ('only at item 1 of 3',)
    >>> places([np.array([6, 6]), np.array([0, 0, 0, 4, 4, 4])], ("T_dec", "H"))
    ('only at H 3 to 5 of 6',)
    >>> places([np.array([4, 4, 4, 0])], ("T_dec",))
    ('all but decoder step 3 of 4',)
    >>> places([np.array([1, 1, 95, 3])], ("heads",))
    ('95 % at head 2 of 4',)
    """
    found = []
    for number, count in enumerate(counts):
        if count is None or count.size < 2 or not count.any():
            continue
        axis = axes[number] if axes else ""
        word = _WORDS.get(axis, axis or Sentence("axis {number}, index", number=number))
        touched, spared = np.flatnonzero(count), np.flatnonzero(count == 0)
        most = int(count.argmax())
        share = float(count[most] / count.sum())
        if touched.size <= max(1, _FEW * count.size):
            found.append(
                Sentence(
                    "only at {word} {listed} of {size}",
                    word=word,
                    listed=_listed(touched.tolist()),
                    size=count.size,
                )
            )
        elif spared.size:
            found.append(
                Sentence(
                    "all but {word} {listed} of {size}",
                    word=word,
                    listed=_listed(spared.tolist()),
                    size=count.size,
                )
            )
        elif share >= 0.9:
            found.append(
                Sentence(
                    "{percent} % at {word} {most} of {size}",
                    percent=f"{100 * share:.0f}",
                    word=word,
                    most=most,
                    size=count.size,
                )
            )
    return tuple(found)


def count_along_axes(wrong: Array) -> list[Array]:
    """Count the errors at every index of every axis."""
    every = range(wrong.ndim)
    return [
        np.asarray(np.count_nonzero(wrong, axis=tuple(a for a in every if a != axis)), np.int64)
        for axis in every
    ]


def _listed(indices: list[int]) -> str:
    if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
        return Sentence("{first} to {last}", first=indices[0], last=indices[-1])
    if len(indices) > _LISTED:
        first = ", ".join(map(str, indices[:_LISTED]))
        return Sentence("{first} and {count} more", first=first, count=len(indices) - _LISTED)
    return ", ".join(map(str, indices))


@np.errstate(all="ignore")  # numbers may be as large as they like
def patterns(got: Array, expected: Array) -> tuple[str, ...]:
    """Recognise what `got` is made of `expected`: a multiple, a transposition, all zeros.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [3.0, 5.0]])
    >>> patterns(2 * x, x), patterns(x.T, x), patterns(0 * x, x), patterns(-x, x)
    (('off by the factor 2.0',), ('transposed',), ('all zero',), ('the sign is reversed',))
    """
    if got.shape != expected.shape or not got.size:
        return ()
    a, b = got.astype(np.float64), expected.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all() and b.any()):
        return ()
    if float(np.abs(a).max()) <= 1e-12 * float(np.abs(b).max()):
        return ("all zero",)  # but for rounding
    # The factor that fits best in the sense of least squares, and whether it fits everywhere.
    factor = float(np.vdot(a, b) / np.vdot(b, b))
    size = max(float(np.abs(a).max()), float(np.abs(b).max()))
    near = 1e-6 * size
    if abs(factor - 1) > 1e-4 and float(np.abs(a - factor * b).max()) <= near:
        if abs(factor + 1) < 1e-6:
            return ("the sign is reversed",)
        return (Sentence("off by the factor {float}", float=float(f"{factor:.6g}")),)
    for axis in range(b.ndim):
        if np.ptp(a, axis=axis).max() <= near < np.ptp(b, axis=axis).max():
            return (Sentence("the same along axis {axis}", axis=axis),)
    for first in range(b.ndim):
        for second in range(first + 1, b.ndim):
            swapped = b.swapaxes(first, second)
            if swapped.shape == a.shape and float(np.abs(a - swapped).max()) <= near:
                pair = (
                    ""
                    if b.ndim == 2
                    else Sentence(" in axes {first} and {second}", first=first, second=second)
                )
                return (Sentence("transposed{pair}", pair=pair),)
    return ()
