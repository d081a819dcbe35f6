"""Adding up, tile by tile, how far two tensors are apart.

A tile is small enough to stay in the processor's cache, so that the passes over it cost little
beside reading it.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Apart, Room, Tolerance, set_apart
from attncli.checking.comparing.places import count_along_axes
from attncli.reports import Element

Corner = tuple[int, ...]

# Errors along longer axes are not told apart: the counts themselves would be large.
_LONGEST_AXIS = 1 << 16
_NONFINITE_SHOWN = 5
# Distances are counted in bins given by the upper half of a float32: 1/128 of a power of two.
_BIN_SHIFT = 16
_BINS = 1 << 15  # the sign bit is never set


@dataclass
class Tally:
    """The running sums over the tiles of two tensors.

    Parameters
    ----------
    shape : tuple of int
        Of the tensors; at least one axis.
    tolerance : Tolerance
    floor : float
        The least size of an element, as the tolerance has it.
    ulp_dtype : dtype or None
        In whose steps distances are counted; None where nobody asks for their distribution.
    """

    shape: tuple[int, ...]
    tolerance: Tolerance
    floor: float
    ulp_dtype: str | None
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

    def add(self, a: Array, b: Array, where: tuple[int | slice, ...]) -> None:
        """Add the tile of numbers at an index; those of both must have one floating dtype."""
        corner = tuple(i.start if isinstance(i, slice) else i for i in where)
        with np.errstate(all="ignore"):
            apart = set_apart(a, b, self.tolerance, self.floor, self.room)
            self._count_nonfinite(a, b, apart, corner)
            agrees = self._measure(apart, corner)
            if self.ulp_dtype is not None:
                self.absolute_bins += _bincount(apart.distance, self.room)
                self.ulp_bins += _bincount(_ulps(apart, self.ulp_dtype, self.room), self.room)
            if not agrees:
                self._count_wrong(apart.outside(self.tolerance), corner)

    def _measure(self, apart: Apart, corner: Corner) -> bool:
        """Add the distances that are finite; say whether no element is outside the tolerance."""
        a, b, distance, size, _, aside, wrong = apart
        self.sum_absolute += float(distance.sum(dtype=np.float64))
        place, largest = _largest(distance, aside)
        if largest > self.max_absolute:
            self.max_absolute = largest
            self.worst_absolute = self._element(a, b, place, corner)

        scratch = self.room("excess", a.shape, distance.dtype)
        excess, atol = apart.excess(self.tolerance, scratch), self.tolerance.absolute
        most = float(excess.max())
        self.needed_atol = max(self.needed_atol, most)
        if most > atol:
            outside = excess > atol
            needed = (distance[outside] - atol) / size[outside]
            self.needed_rtol = max(self.needed_rtol, float(needed.max()))

        relative = apart.relative(scratch)
        self.sum_relative += float(relative.sum(dtype=np.float64))
        place, largest = _largest(relative, aside)
        if largest > self.max_relative:
            self.max_relative = largest
            self.worst_relative = self._element(a, b, place, corner)
        return most <= atol and wrong is None

    def _count_nonfinite(self, a: Array, b: Array, apart: Apart, corner: Corner) -> None:
        """Count NaN and infinities, and keep the first of those that do not agree."""
        if apart.aside is None:
            self.finite += a.size
            return
        aside = int(apart.aside.sum())
        self.finite += a.size - aside
        if self.ulp_dtype is not None:  # they will be counted as zeros
            self.absolute_bins[0] -= aside
            self.ulp_bins[0] -= aside
        nan_a, nan_b = np.isnan(a), np.isnan(b)
        self.nan_a += int((nan_a & ~nan_b).sum())
        self.nan_b += int((nan_b & ~nan_a).sum())
        self.nan_both += int((nan_a & nan_b).sum())
        if apart.wrong is None:
            return
        self.infinite += int((apart.wrong & ~nan_a & ~nan_b).sum())
        self.needed_atol = self.needed_rtol = np.inf
        room = _NONFINITE_SHOWN - len(self.nonfinite)
        for flat in np.flatnonzero(apart.wrong)[:room].tolist():
            self.nonfinite.append(self._element(a, b, flat, corner))

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


def _largest(x: Array, aside: Array | None) -> tuple[int, float]:
    """Find the largest number, and where it is; −1 where all are aside."""
    counted = x if aside is None else np.where(aside, -1, x)
    place = int(counted.argmax())
    return place, float(counted.flat[place])


def _bincount(distances: Array, room: Room) -> Array:
    narrow = distances
    if distances.dtype != np.float32:
        narrow = room("narrow", distances.shape, np.float32)
        np.copyto(narrow, distances, casting="unsafe")
    numbers = room("numbers", (narrow.size,), np.int64)
    np.right_shift(narrow.ravel().view(np.uint32), _BIN_SHIFT, out=numbers)
    return np.bincount(numbers, minlength=_BINS)


def _ulps(apart: Apart, dtype: str, room: Room) -> Array:
    """How many steps of a dtype lie between two numbers."""
    steps_a, steps_b = _steps(apart.a, dtype, "a", room), _steps(apart.b, dtype, "b", room)
    low = np.minimum(steps_a, steps_b, out=room("low", steps_a.shape, steps_a.dtype))
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
