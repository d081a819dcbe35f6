"""Adding up, tile by tile, how far two tensors are apart.

A tile is small enough to stay in the processor's cache, so that the passes over it cost little
beside reading it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.places import count_along_axes
from attncli.reports import Element

Corner = tuple[int, ...]
Room = Callable[[str, tuple[int, ...], Any], Array]

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
        self.rooms: dict[tuple[str, np.dtype[Any]], Array] = {}
        self.absolute_bins = np.zeros(_BINS, np.int64)
        self.ulp_bins = np.zeros(_BINS, np.int64)
        self.wrong_along: list[Array | None] = [
            np.zeros(size, np.int64) if size <= _LONGEST_AXIS else None for size in self.shape
        ]

    def room(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Give an array to compute in; the same one for every tile, since new ones cost more."""
        key = (name, np.dtype(dtype))
        size = prod(shape)
        if key not in self.rooms or self.rooms[key].size < size:
            self.rooms[key] = np.empty(size, dtype)
        return self.rooms[key][:size].reshape(shape)

    def add(self, a: Array, b: Array, corner: Corner) -> None:
        """Add one tile of numbers; `corner` is its first element's index, trailing zeros left out.

        The tiles of both must have one floating dtype.
        """
        with np.errstate(all="ignore"):
            self._add(a, b, corner)

    def _add(self, a: Array, b: Array, corner: Corner) -> None:
        room = self.room
        difference = np.subtract(a, b, out=room("difference", a.shape, a.dtype))
        np.abs(difference, out=difference)
        size = np.abs(b, out=room("size", a.shape, a.dtype))
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

        dtype = difference.dtype
        excess = np.multiply(size, dtype.type(self.rtol), out=room("excess", a.shape, dtype))
        np.subtract(difference, excess, out=excess)
        most = float(excess.max())
        self.needed_atol = max(self.needed_atol, most)
        if most > self.atol:
            outside = excess > self.atol
            wrong = outside if wrong is None else wrong | outside
            needed = (difference[outside] - self.atol) / size[outside]
            self.needed_rtol = max(self.needed_rtol, float(needed.max()))

        relative = np.divide(difference, size, out=excess)
        if not largest or np.isnan(relative.max()):
            relative[difference == 0] = 0  # 0 / 0
        self.sum_relative += float(relative.sum(dtype=np.float64))
        largest = float(relative.max())
        if largest > self.max_relative:
            self.max_relative = largest
            self.worst_relative = self._element(a, b, int(relative.argmax()), corner)

        self.absolute_bins += _bincount(difference, room)
        self.ulp_bins += _bincount(_ulps(a, b, self.ulp_dtype, room), room)
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
        return Element(index, _exactly(a[inside]), _exactly(b[inside]))

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


def _bincount(distances: Array, room: Room) -> Array:
    narrow = distances
    if distances.dtype != np.float32:
        narrow = room("narrow", distances.shape, np.float32)
        np.copyto(narrow, distances, casting="unsafe")
    numbers = room("numbers", (narrow.size,), np.int64)
    np.right_shift(narrow.ravel().view(np.uint32), _BIN_SHIFT, out=numbers)
    return np.bincount(numbers, minlength=_BINS)


def _ulps(a: Array, b: Array, dtype: str, room: Room) -> Array:
    """How many steps of a dtype lie between two numbers."""
    steps_a, steps_b = _steps(a, dtype, "a", room), _steps(b, dtype, "b", room)
    low = np.minimum(steps_a, steps_b, out=room("low", a.shape, steps_a.dtype))
    high = np.maximum(steps_a, steps_b, out=steps_a)
    high -= low  # may wrap: as an unsigned number the result is right all the same
    return high.view(f"u{high.itemsize}")


def _steps(x: Array, dtype: str, name: str, room: Room) -> Array:
    """Number all values of a dtype in order, with zero at 0."""
    if dtype == "bfloat16":  # the upper half of a float32, rounded
        return (_steps(x, "float32", name, room) + 0x8000) >> 16
    if dtype not in ("float16", "float32", "float64"):  # whole numbers
        return x.astype(np.int64)
    bits = np.ascontiguousarray(x, dtype).view(f"i{np.dtype(dtype).itemsize}")
    wide = bits.astype(np.int32) if dtype == "float16" else bits  # to have room for differences
    sign = room("sign", x.shape, wide.dtype)
    np.right_shift(wide, 8 * wide.itemsize - 1, out=sign)
    magnitude = room(f"steps of {name}", x.shape, wide.dtype)
    np.bitwise_and(wide, np.iinfo(bits.dtype).max, out=magnitude)
    magnitude ^= sign
    magnitude -= sign
    return magnitude


def bin_values() -> Array:
    """Give the smallest distance that each bin of a `Tally` holds."""
    edges = (np.arange(_BINS, dtype=np.uint32) << _BIN_SHIFT).view(np.float32)
    with np.errstate(invalid="ignore"):
        return edges.astype(np.float64)


def _exactly(value: Any) -> float:
    """A number as Python has it; a whole one that float64 would round stays what it is."""
    if isinstance(value, np.longdouble) and np.isfinite(value):
        whole = int(value)
        if whole == value and abs(whole) > 1 << 53:
            return whole
    return float(value)
