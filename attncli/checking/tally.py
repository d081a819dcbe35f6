"""Adding up, tile by tile, how far two tensors are apart.

A tile is small enough to stay in the processor's cache, so that the passes over it cost little
beside reading it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np

from attncli.arrays import Array
from attncli.checking.places import count_along_axes
from attncli.reports import Element

Corner = tuple[int, ...]

TILE = 1 << 16
"""Elements of a tile."""

# Errors along longer axes are not told apart: the counts themselves would be large.
_LONGEST_AXIS = 1 << 16
_NONFINITE_SHOWN = 5
# Distances are counted in bins given by the upper half of a float32: 1/128 of a power of two.
_BIN_SHIFT = 16
_BINS = 1 << 15  # the sign bit is never set


def tiles(shape: tuple[int, ...], size: int = TILE) -> Iterator[tuple[Corner, int]]:
    """Cut a tensor into tiles of at most about `size` elements that lie in one piece.

    Yields
    ------
    (corner, rows)
        The tile is ``array[corner[:-1]][corner[-1] : corner[-1] + rows]``.

    Examples
    --------
    >>> list(tiles((2, 5, 3), size=9))
    [((0, 0), 3), ((0, 3), 2), ((1, 0), 3), ((1, 3), 2)]
    """
    axis = 0
    while axis < len(shape) - 1 and prod(shape[axis + 1 :]) > size:
        axis += 1
    step = max(1, size // max(1, prod(shape[axis + 1 :])))
    for outer in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*outer, start), min(step, shape[axis] - start)


@dataclass
class Tally:
    """The running sums over the tiles of two tensors.

    Parameters
    ----------
    shape : tuple of int
        Of the tensors; at least one axis.
    rtol, atol : float
    equal_nan : bool
        Whether NaN equals NaN.
    ulp_dtype : dtype
        In whose steps distances are counted.
    """

    shape: tuple[int, ...]
    rtol: float
    atol: float
    equal_nan: bool
    ulp_dtype: str
    finite: int = 0
    outside: int = 0
    nan_a: int = 0
    nan_b: int = 0
    nan_both: int = 0
    infinite: int = 0
    nonfinite: list[Element] = field(default_factory=list)
    sum_absolute: float = 0.0
    sum_relative: float = 0.0
    max_absolute: float = -1.0
    max_relative: float = -1.0
    worst_absolute: Element | None = None
    worst_relative: Element | None = None
    needed_atol: float = 0.0
    needed_rtol: float = 0.0

    def __post_init__(self) -> None:
        self.absolute_bins = np.zeros(_BINS, np.int64)
        self.ulp_bins = np.zeros(_BINS, np.int64)
        self.wrong_along: list[Array | None] = [
            np.zeros(size, np.int64) if size <= _LONGEST_AXIS else None for size in self.shape
        ]

    def add(self, a: Array, b: Array, corner: Corner) -> None:
        """Add one tile of numbers; `corner` is its first element's index, trailing zeros left out.

        The tiles of both must have one floating dtype.
        """
        with np.errstate(all="ignore"):
            self._add(a, b, corner)

    def _add(self, a: Array, b: Array, corner: Corner) -> None:
        difference = a - b
        np.abs(difference, out=difference)
        size = np.abs(b)
        largest = float(difference.max())
        if not np.isfinite(largest):  # NaN and infinity are rare: all care is taken only then
            a, b, difference, size, wrong = self._set_nonfinite_aside(a, b, corner)
            largest = float(difference.max())
        else:
            wrong = None
        self.finite += a.size if wrong is None else 0
        self.sum_absolute += float(difference.sum(dtype=np.float64))
        if largest > self.max_absolute:
            self.max_absolute = largest
            self.worst_absolute = self._element(a, b, int(difference.argmax()), corner)

        excess = difference - size * difference.dtype.type(self.rtol)
        most = float(excess.max())
        self.needed_atol = max(self.needed_atol, most)
        if most > self.atol:
            outside = excess > self.atol
            wrong = outside if wrong is None else wrong | outside
            needed = (difference[outside] - self.atol) / size[outside]
            self.needed_rtol = max(self.needed_rtol, float(needed.max()))

        relative = np.divide(difference, size, out=excess)
        relative[difference == 0] = 0  # also 0 / 0
        self.sum_relative += float(relative.sum(dtype=np.float64))
        largest = float(relative.max())
        if largest > self.max_relative:
            self.max_relative = largest
            self.worst_relative = self._element(a, b, int(relative.argmax()), corner)

        self.absolute_bins += _bincount(difference)
        self.ulp_bins += _bincount(_ulps(a, b, self.ulp_dtype))
        if wrong is not None:
            self._count_wrong(wrong, corner)

    def _set_nonfinite_aside(
        self, a: Array, b: Array, corner: Corner
    ) -> tuple[Array, Array, Array, Array, Array | None]:
        """Count NaN and infinities, and put equal zeros in their places."""
        a, b = a.astype(np.float64), b.astype(np.float64)  # float32 differences can overflow
        nan_a, nan_b = np.isnan(a), np.isnan(b)
        both = nan_a & nan_b
        unequal_infinite = (np.isinf(a) | np.isinf(b)) & (a != b) & ~nan_a & ~nan_b
        self.nan_a += int((nan_a & ~nan_b).sum())
        self.nan_b += int((nan_b & ~nan_a).sum())
        self.nan_both += int(both.sum())
        self.infinite += int(unequal_infinite.sum())
        wrong = unequal_infinite | (nan_a ^ nan_b if self.equal_nan else nan_a | nan_b)
        if wrong.any():
            self.needed_atol = self.needed_rtol = np.inf
            room = _NONFINITE_SHOWN - len(self.nonfinite)
            for flat in np.flatnonzero(wrong)[:room].tolist():
                self.nonfinite.append(self._element(a, b, flat, corner))
        aside = ~(np.isfinite(a) & np.isfinite(b))
        self.finite += int(a.size - aside.sum())
        a, b = np.where(aside, 0, a), np.where(aside, 0, b)
        self.absolute_bins[0] -= int(aside.sum())
        self.ulp_bins[0] -= int(aside.sum())
        return a, b, np.abs(a - b), np.abs(b), wrong

    def _element(self, a: Array, b: Array, flat: int, corner: Corner) -> Element:
        inside = np.unravel_index(flat, a.shape)
        last = len(corner) - 1
        index = (*corner[:last], corner[last] + int(inside[0]), *(int(i) for i in inside[1:]))
        return Element(index, float(a[inside]), float(b[inside]))

    def _count_wrong(self, wrong: Array, corner: Corner) -> None:
        total = int(np.count_nonzero(wrong))
        self.outside += total
        if not total:
            return
        last = len(corner) - 1
        for axis, at in enumerate(corner[:last]):
            if (along := self.wrong_along[axis]) is not None:
                along[at] += total
        for axis, count in enumerate(count_along_axes(wrong), start=last):
            if (along := self.wrong_along[axis]) is not None:
                start = corner[last] if axis == last else 0
                along[start : start + count.size] += count


def _bincount(distances: Array) -> Array:
    bits = distances.astype(np.float32, copy=False).ravel().view(np.uint32) >> _BIN_SHIFT
    return np.bincount(bits.astype(np.int64), minlength=_BINS)


def _ulps(a: Array, b: Array, dtype: str) -> Array:
    """How many steps of a dtype lie between two numbers."""
    steps_a, steps_b = _steps(a, dtype), _steps(b, dtype)
    high, low = np.maximum(steps_a, steps_b), np.minimum(steps_a, steps_b)
    high -= low  # may wrap: as an unsigned number the result is right all the same
    return high.view(f"u{high.itemsize}")


def _steps(x: Array, dtype: str) -> Array:
    """Number all values of a dtype in order, with zero at 0."""
    if dtype == "bfloat16":  # the upper half of a float32, rounded
        return (_steps(x, "float32") + 0x8000) >> 16
    if dtype not in ("float16", "float32", "float64"):  # whole numbers
        return x.astype(np.int64)
    bits = np.ascontiguousarray(x, dtype).view(f"i{np.dtype(dtype).itemsize}")
    if dtype == "float16":
        bits = bits.astype(np.int32)
        magnitude, sign = bits & 0x7FFF, bits >> 31
    else:
        magnitude, sign = bits & np.iinfo(bits.dtype).max, bits >> (8 * bits.itemsize - 1)
    magnitude ^= sign
    magnitude -= sign
    return magnitude


def bin_values() -> Array:
    """Give the smallest distance that each bin of a `Tally` holds."""
    edges = (np.arange(_BINS, dtype=np.uint32) << _BIN_SHIFT).view(np.float32)
    with np.errstate(invalid="ignore"):
        return edges.astype(np.float64)
