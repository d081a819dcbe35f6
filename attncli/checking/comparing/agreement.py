"""Whether numbers agree: the one judgement that every comparison asks.

`near` is the cheap answer: whether two arrays agree, how far they are apart, and where most.
`attncli.checking.comparing.comparison` adds to the same judgement what a person wants to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import ParameterError

Room = Callable[[str, tuple[int, ...], Any], Array]

TORCH: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "longdouble": (1e-7, 1e-7),
}
"""(rtol, atol) of each floating dtype, as ``torch.testing.assert_close`` has them; integers and
booleans must be equal."""

TILE = 1 << 16
"""Elements of a tile: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Tolerance:
    """How far an element a may be from b: |a − b| ≤ absolute + relative · size.

    The size of an element is |b|, but no less than what `floor` says.  Infinities agree with
    their like alone.

    Attributes
    ----------
    relative, absolute : float
    share : float
        The size is at least this share of the largest finite |b|, which is 1 where all are 0.
    least : float
        The size is at least this number: what is left below is rounding.
    equal_nan : bool
        Whether NaN agrees with NaN.

    Raises
    ------
    ParameterError
        If a tolerance is negative or NaN.
    """

    relative: float = 0.0
    absolute: float = 0.0
    share: float = 0.0
    least: float = 0.0
    equal_nan: bool = False

    def __post_init__(self) -> None:
        for option, value in (("rtol", self.relative), ("atol", self.absolute)):
            if not value >= 0:
                raise ParameterError(f"{option} is {value}, expected 0 or more")

    @classmethod
    def of_dtypes(
        cls,
        *dtypes: str,
        rtol: float | None = None,
        atol: float | None = None,
        equal_nan: bool = False,
    ) -> Tolerance:
        """Give what is asked for, else torch's defaults for the dtypes: of each the largest.

        Examples
        --------
        >>> found = Tolerance.of_dtypes("float64", "float16")
        >>> found.relative, found.absolute
        (0.001, 1e-05)
        >>> Tolerance.of_dtypes("int64") == Tolerance()
        True
        """
        pairs = [TORCH.get(dtype, (0.0, 0.0)) for dtype in dtypes]
        relative = max(pair[0] for pair in pairs) if rtol is None else rtol
        absolute = max(pair[1] for pair in pairs) if atol is None else atol
        return cls(relative, absolute, equal_nan=equal_nan)

    @classmethod
    def of_largest(
        cls, relative: float, *, least: float = 0.0, equal_nan: bool = True
    ) -> Tolerance:
        """Measure every element against the largest of them."""
        return cls(relative, share=1.0, least=least, equal_nan=equal_nan)

    def floor(self, b: Array) -> float:
        """Give the least size of an element of `b`.

        Examples
        --------
        >>> b = np.array([2.0, -8.0, np.inf])
        >>> Tolerance(share=0.25, least=1.0).floor(b), Tolerance(least=1.0).floor(b)
        (2.0, 1.0)
        """
        if not self.share:
            return self.least
        largest = _largest(b) if b.size <= TILE else max(_largest(b[x]) for x in tiles(b.shape))
        return max(self.share * largest, self.least) or 1.0


EXACT = Tolerance(equal_nan=True)
"""The same numbers."""


class Nearness(NamedTuple):
    """How near two arrays are.

    Attributes
    ----------
    agrees : bool
    absolute : float
        The largest |a − b|; infinite where shapes differ, or two that are not both finite do.
    relative : float
        The largest |a − b| / size, as the tolerance measures size.
    place : int
        Where that is, counted along the flat array.
    shape : tuple of int
    """

    agrees: bool
    absolute: float
    relative: float
    place: int
    shape: tuple[int, ...]

    @property
    def worst(self) -> tuple[int, ...]:
        """The index of the element with the largest relative distance."""
        return tuple(int(i) for i in np.unravel_index(self.place, self.shape)) if self.shape else ()


def near(a: Array, b: Array, tolerance: Tolerance) -> Nearness:
    """Say whether two arrays agree, how far they are apart, and where most.

    Examples
    --------
    >>> found = near(np.array([1.0, np.inf]), np.array([2.0, np.inf]), Tolerance(0.25))
    >>> found.agrees, found.absolute, found.relative, found.worst
    (False, 1.0, 0.5, (0,))
    >>> near(np.zeros(2), np.zeros(3), Tolerance()).relative
    inf
    """
    shape = a.shape
    if shape != b.shape:
        return Nearness(False, np.inf, np.inf, 0, ())
    if not a.size:
        return Nearness(True, 0.0, 0.0, 0, ())
    with np.errstate(all="ignore"):
        floor = tolerance.floor(b)
        if a.size <= TILE:
            return Nearness(*_near(a, b, tolerance, floor), shape)
        agrees, absolute, relative, place, before = True, 0.0, -1.0, 0, 0
        for where in tiles(shape):
            part = a[where]
            fine, far, error, at = _near(part, b[where], tolerance, floor)
            agrees, absolute = agrees and fine, max(absolute, far)
            if error > relative:
                relative, place = error, before + at
            before += part.size
    return Nearness(agrees, absolute, relative, place, shape)


def _near(a: Array, b: Array, tolerance: Tolerance, floor: float) -> tuple[bool, float, float, int]:
    apart = set_apart(*_alike(a, b), tolerance, floor)
    largest = apart.largest
    if apart.wrong is not None:
        return False, np.inf, np.inf, int(apart.wrong.argmax())
    if tolerance.share >= 1:  # every size is the floor
        agrees = largest <= tolerance.absolute + tolerance.relative * floor
        return agrees, largest, largest / floor, int(apart.distance.argmax())
    agrees = not largest or bool(apart.excess(tolerance).max() <= tolerance.absolute)
    relative = apart.relative()
    place = int(relative.argmax())
    return agrees, largest, float(relative.flat[place]), place


@np.errstate(all="ignore")
def outside(a: Array, b: Array, tolerance: Tolerance) -> Array:
    """Say of every element whether it is outside the tolerance; of small arrays of one shape.

    Examples
    --------
    >>> outside(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.5, np.nan]), EXACT)
    array([False,  True, False])
    """
    return set_apart(*_alike(a, b), tolerance, tolerance.floor(b)).outside(tolerance)


@np.errstate(all="ignore")
def errors(a: Array, b: Array, tolerance: Tolerance) -> Array:
    """Give every element's |a − b| / size; infinite where two that are not finite differ.

    Examples
    --------
    >>> errors(np.array([1.0, 0.1, np.nan]), np.array([2.0, 0.0, 0.0]), Tolerance(least=0.5))
    array([0.5, 0.2, inf])
    """
    apart = set_apart(*_alike(a, b), tolerance, tolerance.floor(b))
    relative = apart.relative()
    if apart.wrong is not None:
        relative[apart.wrong] = np.inf
    return relative


class Apart(NamedTuple):
    """How far the elements of two arrays are apart.

    Attributes
    ----------
    a, b : ndarray
        The two, with zeros where either is not finite.
    distance, size : ndarray
        |a − b|, and what a relative tolerance refers to.
    largest : float
        The largest distance.
    aside : ndarray of bool or None
        Where either is not finite; None where both always are.
    wrong : ndarray of bool or None
        Where these do not agree; None where they do.
    """

    a: Array
    b: Array
    distance: Array
    size: Array
    largest: float
    aside: Array | None
    wrong: Array | None

    def excess(self, tolerance: Tolerance, out: Array | None = None) -> Array:
        """What is left of the distance beyond the relative tolerance: at most the absolute one."""
        factor = self.size.dtype.type(tolerance.relative)
        allowed = np.asarray(np.multiply(self.size, factor, out=out))
        np.subtract(self.distance, allowed, out=allowed)
        return allowed

    def outside(self, tolerance: Tolerance) -> Array:
        """Which elements are outside the tolerance."""
        beyond = np.asarray(self.excess(tolerance) > tolerance.absolute)
        return beyond if self.wrong is None else beyond | self.wrong

    def relative(self, out: Array | None = None) -> Array:
        """The distances relative to the sizes; 0 / 0 is 0."""
        relative = np.asarray(np.divide(self.distance, self.size, out=out))
        if not self.largest or np.isnan(relative.max()):
            relative[self.distance == 0] = 0
        return relative


def _new(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    return np.empty(shape, dtype)


def set_apart(
    a: Array, b: Array, tolerance: Tolerance, floor: float = 0.0, room: Room = _new
) -> Apart:
    """Measure how far two arrays of one shape and one floating dtype are apart.

    NumPy's warnings of NaN and infinity are the caller's to silence.

    Parameters
    ----------
    a, b : ndarray
    tolerance : Tolerance
    floor : float
        The least size, since `b` may be a tile of a larger array.
    room : callable, optional
        Gives the arrays to compute in.
    """
    aside = wrong = None
    distance = np.subtract(a, b, out=room("distance", a.shape, a.dtype))
    np.abs(distance, out=distance)
    size = np.abs(b, out=room("size", a.shape, a.dtype))
    largest = float(distance.max())
    if not isfinite(largest):  # NaN and infinity are rare: all care is taken only then
        wide = np.result_type(a.dtype, np.float64)  # float32 differences can overflow
        a, b = a.astype(wide), b.astype(wide)
        aside = ~(np.isfinite(a) & np.isfinite(b))
        alike = a == b
        if tolerance.equal_nan:
            alike |= np.isnan(a) & np.isnan(b)
        differing = aside & ~alike
        wrong = differing if differing.any() else None
        a, b = np.where(aside, 0, a), np.where(aside, 0, b)
        distance, size = np.asarray(np.abs(a - b)), np.asarray(np.abs(b))
        largest = float(distance.max())
    if floor:
        np.maximum(size, size.dtype.type(floor), out=size)
    return Apart(a, b, distance, size, largest, aside, wrong)


@cache
def computed_in(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """A floating dtype that holds the numbers of both exactly."""
    dtype = np.result_type(a, b, np.float32)
    wide = any(x.kind in "iu" and x.itemsize == 8 for x in (a, b))
    return np.dtype(np.longdouble) if wide else np.dtype(dtype.newbyteorder("="))


def tiles(shape: tuple[int, ...], size: int = TILE) -> Iterator[tuple[int | slice, ...]]:
    """Cut a tensor into tiles of at most about `size` elements that lie in one piece.

    Yields
    ------
    tuple of int and slice
        The index of a tile; the last entry is a slice, and axes behind it are whole.

    Examples
    --------
    >>> list(tiles((2, 5, 3), size=9))[:2]
    [(0, slice(0, 3, None)), (0, slice(3, 5, None))]
    """
    if prod(shape) <= size:
        yield (slice(0, shape[0]),) if shape else ()
        return
    axis = 0
    while axis < len(shape) - 1 and prod(shape[axis + 1 :]) > size:
        axis += 1
    step = max(1, size // max(1, prod(shape[axis + 1 :])))
    for outer in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, min(start + step, shape[axis])))


def _alike(a: Array, b: Array) -> tuple[Array, Array]:
    common = computed_in(a.dtype, b.dtype)
    return np.asarray(a).astype(common, copy=False), np.asarray(b).astype(common, copy=False)


def _largest(b: Array) -> float:
    """The largest finite |b|."""
    largest = float(np.abs(b).max(initial=0))
    if isfinite(largest):
        return largest
    return float(np.abs(b[np.isfinite(b)]).max(initial=0))
