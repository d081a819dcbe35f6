"""What each query sees: the one place where causal order, windows and masks are read.

A `Visibility` is a tuple of entries, each a class with the methods of `Entry`; what else may hide
a key, or add to a score, is one more entry.  Whoever computes asks for the whole, for a row, or
for a tile, and gets two arrays: what is added to the scores, and what is seen.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning, DtypeError

Index = tuple[int | slice, ...]  # a place on the leading axes
Says = Literal["all", "some", "none"]
Tile = tuple[Array | None, Array | None]


class Entry(ABC):
    """One thing that hides keys or adds to scores.

    Attributes
    ----------
    by_step : bool
        Whether `says` goes by the steps of queries and keys alone, so that asking costs nothing.
    """

    __slots__ = ()
    by_step: ClassVar[bool] = False

    @property
    def adds(self) -> bool:
        """Whether it is added to the scores and has a gradient."""
        return False

    @abstractmethod
    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return (bias, seen) of a tile, as `Visibility.tile` does."""

    @abstractmethod
    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is seen."""

    @abstractmethod
    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Entry:
        """Return what means the same where these queries are all there are."""

    def keys(self, rows: slice, keys: slice) -> slice:
        """Return the part of `keys` outside of which no query of `rows` sees any by its step."""
        return keys

    def rows(self, rows: slice, keys: slice) -> slice:
        """Return the part of `rows` outside of which none sees any of `keys` by its step."""
        return rows


@dataclass(frozen=True, slots=True)
class Band(Entry):
    """The diagonal band that causal order and a window leave: ``low <= key - query <= high``.

    Parameters
    ----------
    low, high : int or None
        Bounds of (key step − query step), both inclusive; None for no bound on that side.

    Examples
    --------
    >>> _, seen = Band(None, 0).tile(slice(0, 3), slice(0, 3))
    >>> seen.astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """

    low: int | None
    high: int | None

    by_step: ClassVar[bool] = True

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return no bias, and the tile of the band, or None if all of the tile is in it."""
        first, last = keys.start - rows.stop + 1, keys.stop - 1 - rows.start  # offsets in the tile
        above = self.low is None or first >= self.low
        below = self.high is None or last <= self.high
        if above and below:
            return None, None
        return None, _diagonals(self.low, self.high, first, last, keys.stop - keys.start)

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is in the band."""
        first, last = keys.start - rows.stop + 1, keys.stop - 1 - rows.start
        low = first if self.low is None else max(first, self.low)
        high = last if self.high is None else min(last, self.high)
        if low > high:
            return "none"
        return "all" if (low, high) == (first, last) else "some"

    def keys(self, rows: slice, keys: slice) -> slice:
        """Return the smallest part of `keys` outside of which no query of `rows` sees any."""
        start, stop = keys.start, keys.stop
        if self.low is not None:
            start = min(max(rows.start + self.low, start), stop)
        if self.high is not None:
            stop = max(min(rows.stop + self.high, stop), start)
        return slice(start, stop)

    def rows(self, rows: slice, keys: slice) -> slice:
        """Return the smallest part of `rows` outside of which none sees any of `keys`."""
        start, stop = rows.start, rows.stop
        if self.high is not None:
            start = min(max(keys.start - self.high, start), stop)
        if self.low is not None:
            stop = max(min(keys.stop - self.low, stop), start)
        return slice(start, stop)

    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Entry:
        """Return the band of these queries: moved, or as a mask if they do not follow each other.

        Examples
        --------
        >>> Band(-2, 0).of_rows(slice(3, 5), 5, 5)
        Band(low=1, high=3)
        """
        if isinstance(rows, slice):
            start, _, step = rows.indices(T_dec)
            if step == 1:
                low, high = (None if x is None else x + start for x in (self.low, self.high))
                return Band(low, high)
        queries = np.arange(T_dec)[rows]
        return Mask(_inside(self.low, self.high, np.arange(T_enc) - queries[:, None]))


@lru_cache(16)  # the tiles along a band's edge all look the same
def _diagonals(low: int | None, high: int | None, first: int, last: int, width: int) -> Array:
    """Return the tile of a band whose key − query runs from `first` to `last`."""
    # The tile is constant along its diagonals, so a view of one line of it is enough.
    return sliding_window_view(_inside(low, high, np.arange(first, last + 1)), width)[::-1]


def _inside(low: int | None, high: int | None, offsets: Array) -> Array:
    inside = np.ones(offsets.shape, bool)
    if low is not None:
        inside &= offsets >= low
    if high is not None:
        inside &= offsets <= high
    return inside


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Entry):
    """An array that says of every query and key whether the one sees the other.

    Parameters
    ----------
    array : ndarray
        Broadcastable to (…, T_dec, T_enc), with at least two axes.  Boolean: True takes part.
        Float: added to the scores, and −inf hides.
    """

    array: Array

    @property
    def adds(self) -> bool:
        """Whether the mask is added to the scores, and so has a gradient."""
        return self.array.dtype != bool

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return the tile of a float mask, and what is seen; each None if there is no need."""
        part = tile_of(self.array, rows, keys, index)
        seen = _seen(part)
        return None if seen is part else part, None if seen.all() else seen

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is seen."""
        seen = _seen(tile_of(self.array, rows, keys, index))
        return "all" if seen.all() else "some" if seen.any() else "none"

    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Mask:
        """Return the rows of these queries."""
        return self if self.array.shape[-2] == 1 else Mask(self.array[..., rows, :])


def _seen(mask: Array) -> Array:
    seen: Array = mask if mask.dtype == bool else mask != -np.inf
    return seen  # NaN counts as seen: it is the caller's number


class Visibility(NamedTuple):
    """What each query sees, and what is added to its scores.

    Parameters
    ----------
    entries : tuple of Entry
        What all of them leave is seen; what they add is added up.
    T_dec, T_enc : int
        How many queries and keys there are.

    Examples
    --------
    >>> visibility = Visibility.of(Semantics(causal="lower_right"), T_dec=2, T_enc=3)
    >>> visibility.pattern().astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    >>> visibility.row(0)
    (None, array([ True,  True, False]))
    >>> visibility.says(slice(0, 2), slice(0, 2)), visibility.says(slice(0, 1), slice(2, 3))
    ('all', 'none')
    """

    entries: tuple[Entry, ...]
    T_dec: int
    T_enc: int

    @classmethod
    def of(
        cls, semantics: Semantics, T_dec: int, T_enc: int, mask: Array | None = None
    ) -> Visibility:
        """Build it from the options.

        Parameters
        ----------
        semantics : Semantics
        T_dec, T_enc : int
        mask : ndarray, optional
            Boolean or float, as `read_mask` gives it, broadcastable to (…, T_dec, T_enc).
        """
        entries: list[Entry] = []
        if semantics.orders:
            own, (before, after) = own_key(semantics, T_dec, T_enc), semantics.reach
            entries.append(
                Band(
                    None if before is None else own - before,
                    None if after is None else own + after,
                )
            )
        if mask is not None:
            entries.append(Mask(mask if mask.ndim > 1 else np.atleast_2d(mask)))
        return cls(tuple(entries), T_dec, T_enc)

    def __bool__(self) -> bool:
        """Whether there is anything at all that may hide a key or add to a score."""
        return bool(self.entries)

    @property
    def adds(self) -> bool:
        """Whether a mask is added to the scores, and so has a gradient."""
        return True in [entry.adds for entry in self.entries]

    @property
    def mask(self) -> Array | None:
        """The mask that it was built with, if there is one."""
        return next((entry.array for entry in self.entries if isinstance(entry, Mask)), None)

    @property
    def by_step(self) -> Visibility:
        """What of it goes by the steps alone, so that nothing has to be looked at to know it."""
        if not self.entries:
            return self
        entries = tuple([entry for entry in self.entries if entry.by_step])
        return Visibility(entries, self.T_dec, self.T_enc)

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return (bias, seen) of one tile, each broadcastable to it.

        Parameters
        ----------
        rows, keys : slice
            The tile's queries and keys.
        index : tuple, optional
            The tile's place on the leading axes; all of them if left out.

        Returns
        -------
        bias : ndarray or None
            What is added to the scores.
        seen : ndarray of bool or None
            True where the query sees the key; None where every query sees every key.
        """
        bias = seen = None
        for entry in self.entries:
            added, visible = entry.tile(rows, keys, index)
            if added is not None:
                bias = added if bias is None else bias + added
            if visible is not None:
                seen = visible if seen is None else seen & visible
        return bias, seen

    def whole(self, index: Index = ()) -> Tile:
        """Return (bias, seen) of all queries and keys."""
        return self.tile(slice(0, self.T_dec), slice(0, self.T_enc), index)

    def row(self, t: int, index: Index = ()) -> Tile:
        """Return (bias, seen) of query t, each broadcastable to (…, T_enc)."""
        bias, seen = self.tile(slice(t, t + 1), slice(0, self.T_enc), index)
        return (
            None if bias is None else bias[..., 0, :],
            None if seen is None else seen[..., 0, :],
        )

    def pattern(self, index: Index = ()) -> Array:
        """Return what is seen as (…, T_dec, T_enc) booleans, also where that is everything."""
        seen = self.whole(index)[1]
        lead = () if seen is None else seen.shape[:-2]
        return np.broadcast_to(True if seen is None else seen, (*lead, self.T_dec, self.T_enc))

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is seen: all of it, some, or none."""
        some = 0
        for entry in self.entries:
            said = entry.says(rows, keys, index)
            if said == "none":
                return "none"
            some += said == "some"
        if some > 1:  # together they may leave nothing
            seen = self.tile(rows, keys, index)[1]
            return "none" if seen is not None and not seen.any() else "some"
        return "some" if some else "all"

    def keys(self, rows: slice) -> slice:
        """Return the range of keys outside of which `rows` see none by their steps."""
        keys = slice(0, self.T_enc)
        for entry in self.entries:
            keys = entry.keys(rows, keys)
        return keys

    def rows(self, rows: slice, keys: slice) -> slice:
        """Return the range of `rows` outside of which none sees any of `keys` by their steps."""
        for entry in self.entries:
            rows = entry.rows(rows, keys)
        return rows

    def of_rows(self, rows: slice | Array) -> Visibility:
        """Return what means the same where these queries are all there are.

        Parameters
        ----------
        rows : slice or ndarray of int
            The queries that stay.

        Examples
        --------
        >>> Visibility.of(Semantics(causal="upper_left"), 3, 3).of_rows(slice(1, 2)).as_mask()
        array([[ True,  True, False]])
        """
        entries = tuple(entry.of_rows(rows, self.T_dec, self.T_enc) for entry in self.entries)
        T_dec = len(range(self.T_dec)[rows] if isinstance(rows, slice) else rows)
        return Visibility(entries, T_dec, self.T_enc)

    def as_mask(self, index: Index = ()) -> Array | None:
        """Return one mask that says all of it; None if it says nothing."""
        return as_mask(*self.whole(index))


def as_mask(bias: Array | None, seen: Array | None) -> Array | None:
    """Return one mask out of what is added and what is seen."""
    if bias is None or seen is None:
        return seen if bias is None else bias
    return np.where(seen, bias, bias.dtype.type(-np.inf))


def own_key(semantics: Semantics, T_dec: int, T_enc: int) -> int:
    """Return (key step − query step) of a query's own key."""
    return T_enc - T_dec if semantics.side == "lower_right" else 0


def read_mask(name: str, mask: Array, stacklevel: int = 2) -> Array:
    """Return a mask as booleans (True takes part), or floating (added to the scores).

    Parameters
    ----------
    name : str
        ``mask``, or what else it is called; only a ``mask`` may be floating.
    mask : ndarray
    stacklevel : int, optional
        Whose line the warning names; 2 is the caller's.

    Raises
    ------
    DtypeError
        If it is of another kind: complex, say, or integers other than 0 and 1.

    Warns
    -----
    AttnWarning
        If a ``mask`` of integers was read as booleans: nothing else says that it is not added.

    Examples
    --------
    >>> read_mask("enc_mask", np.array([[1, 0]]))
    array([[ True, False]])
    """
    if mask.dtype == bool:
        return mask
    floating = mask.dtype.kind == "f" or mask.dtype.name == "bfloat16"
    if name == "mask" and floating:
        return mask
    number = floating or mask.dtype.kind in "iu"
    if number and np.isin(mask, (0, 1)).all():
        if name == "mask":
            warnings.warn(
                f"mask is {mask.dtype}, read as boolean: 1 takes part, 0 is hidden",
                AttnWarning,
                stacklevel=stacklevel,
            )
        return mask.astype(bool)
    values = " with other values than 0 and 1" if number else ""
    expected = "bool or 0/1 (True = takes part)" + (", or floating" if name == "mask" else "")
    raise DtypeError(f"{name} is {mask.dtype}{values}, expected {expected}")


def tile_of(mask: Array, rows: slice, keys: slice, index: Index = ()) -> Array:
    """Return the view of a mask that belongs to one tile; its axes of size 1 stay so."""
    tile: Array = mask[pick(index, mask.shape)] if index else mask
    return tile[
        ...,
        rows if tile.shape[-2] > 1 else slice(None),
        keys if tile.shape[-1] > 1 else slice(None),
    ]


def pick(index: Index, shape: tuple[int, ...]) -> Index:
    """Return `index` for an array of `shape` in which an axis of size 1 stands for all."""
    return tuple(
        at if size > 1 else (0 if isinstance(at, int) else slice(None))
        for at, size in zip(index, shape, strict=False)
    )
