"""What each query sees: the one place where order, windows, lengths, segments and masks are read.

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
from attncli.core.blocks import sum_to
from attncli.core.extras import NOTHING, Placed
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
        """Whether something is added to the scores, which has a gradient then."""
        return False

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes of what hides keys; none where it is the same everywhere."""
        return ()

    def new_gradient(self) -> Array | None:
        """Return zeros for the gradient of what is added, in its shape; None if nothing is."""
        return None

    def add_gradient(
        self, gradient: Array, dscores: Array, rows: slice, keys: slice, index: Index
    ) -> None:
        """Add to the gradient of what is added what a tile's scores contribute to it."""
        raise NotImplementedError

    @abstractmethod
    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return (bias, seen) of a tile, as `Visibility.tile` does."""

    @abstractmethod
    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is seen."""

    @abstractmethod
    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Entry:
        """Return what means the same where these queries are all there are."""

    def keys(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the part of `keys` outside of which no query of `rows` sees any by its step."""
        return keys

    def rows(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the part of `rows` outside of which none sees any of `keys` by its step."""
        return rows

    def span(self, rows: slice, index: Index = ()) -> tuple[Array | None, Array | None]:
        """Return the first key that each query sees by its step, and the one after the last.

        None where nothing of it limits that end.
        """
        return None, None


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

    def keys(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the smallest part of `keys` outside of which no query of `rows` sees any."""
        start, stop = keys.start, keys.stop
        if self.low is not None:
            start = min(max(rows.start + self.low, start), stop)
        if self.high is not None:
            stop = max(min(rows.stop + self.high, stop), start)
        return slice(start, stop)

    def rows(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the smallest part of `rows` outside of which none sees any of `keys`."""
        start, stop = rows.start, rows.stop
        if self.high is not None:
            start = min(max(keys.start - self.high, start), stop)
        if self.low is not None:
            stop = max(min(keys.stop - self.low, stop), start)
        return slice(start, stop)

    def span(self, rows: slice, index: Index = ()) -> tuple[Array | None, Array | None]:
        """Return the first key that each query sees, and the one after the last."""
        at = np.arange(rows.start, rows.stop)
        return (
            None if self.low is None else at + self.low,
            None if self.high is None else at + (self.high + 1),
        )

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
class Ranges(Entry):
    """A range of keys for each query: what lengths, sequences and runs of ids leave.

    Parameters
    ----------
    start, stop : ndarray of int, broadcastable to (…, T_dec, 1)
        The first key that a query sees, and the one after the last.

    Examples
    --------
    >>> ranges = Ranges(np.array([[0], [1]]), np.array([[1], [3]]))
    >>> ranges.tile(slice(0, 2), slice(0, 3))[1].astype(int)
    array([[1, 0, 0],
           [0, 1, 1]])
    >>> ranges.keys(slice(1, 2), slice(0, 3)), ranges.says(slice(0, 1), slice(1, 3))
    (slice(1, 3, None), 'none')
    """

    start: Array
    stop: Array

    by_step: ClassVar[bool] = True

    @property
    def lead(self) -> tuple[int, ...]:
        """Those of both ends."""
        return np.broadcast_shapes(self.start.shape[:-2], self.stop.shape[:-2])

    def _of(self, rows: slice, index: Index) -> tuple[Array, Array]:
        every = slice(0, 1)
        return tile_of(self.start, rows, every, index), tile_of(self.stop, rows, every, index)

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return no bias, and what is in range, or None if all of the tile is."""
        start, stop = self._of(rows, index)
        if start.max(initial=0) <= keys.start and stop.min(initial=keys.stop) >= keys.stop:
            return None, None
        at = np.arange(keys.start, keys.stop)
        return None, (start <= at) & (at < stop)

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is in range."""
        start, stop = self._of(rows, index)
        if (start <= keys.start).all() and (stop >= keys.stop).all():
            return "all"
        return "some" if self._meets(start, stop, keys).any() else "none"

    def keys(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the smallest part of `keys` outside of which no query of `rows` sees any."""
        start, stop = np.broadcast_arrays(*self._of(rows, index))
        meets = self._meets(start, stop, keys)
        if not meets.any():
            return slice(keys.start, keys.start)
        first, last = int(start[meets].min()), int(stop[meets].max())
        return slice(max(first, keys.start), min(last, keys.stop))

    def rows(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the smallest part of `rows` outside of which none sees any of `keys`."""
        start, stop = self._of(rows, index)
        meets = self._meets(start, stop, keys)[..., 0]
        if meets.shape[-1] == 1:  # the same for all
            return rows if meets.any() else slice(rows.start, rows.start)
        at = np.flatnonzero(meets.any(axis=tuple(range(meets.ndim - 1))))
        if not len(at):
            return slice(rows.start, rows.start)
        return slice(rows.start + int(at[0]), rows.start + int(at[-1]) + 1)

    def span(self, rows: slice, index: Index = ()) -> tuple[Array, Array]:
        """Return the first key that each query sees, and the one after the last."""
        start, stop = self._of(rows, index)
        return start[..., 0], stop[..., 0]

    @staticmethod
    def _meets(start: Array, stop: Array, keys: slice) -> Array:
        met: Array = np.maximum(start, keys.start) < np.minimum(stop, keys.stop)
        return met

    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Ranges:
        """Return the ranges of these queries."""
        return Ranges(_rows_of(self.start, rows), _rows_of(self.stop, rows))


@dataclass(frozen=True, slots=True, eq=False)
class Segments(Entry):
    """Ids of queries and keys, of which only equal ones see each other.

    Parameters
    ----------
    queries : ndarray, broadcastable to (…, T_dec, 1)
    ids : ndarray, broadcastable to (…, 1, T_enc)
    """

    queries: Array
    ids: Array

    @property
    def lead(self) -> tuple[int, ...]:
        """Those of both ids."""
        return np.broadcast_shapes(self.queries.shape[:-2], self.ids.shape[:-2])

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return no bias, and what is seen, or None if all of the tile is."""
        seen: Array = tile_of(self.queries, rows, keys, index) == tile_of(
            self.ids, rows, keys, index
        )
        return None, None if seen.all() else seen

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say how much of a tile is seen."""
        seen = self.tile(rows, keys, index)[1]
        return "all" if seen is None else "some" if seen.any() else "none"

    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Segments:
        """Return the segments of these queries."""
        return Segments(_rows_of(self.queries, rows), self.ids)

    @property
    def ranges(self) -> tuple[Ranges, bool]:
        """The smallest ranges that hold what is seen, and whether they hold nothing else.

        Examples
        --------
        >>> segments = Segments(np.array([[7], [8]]), np.array([[8, 7, 7]]))
        >>> ranges, exact = segments.ranges
        >>> ranges.start.ravel(), ranges.stop.ravel(), exact
        (array([1, 0]), array([3, 1]), True)
        """
        queries, ids = self.queries[..., 0], self.ids[..., 0, :]
        outer = np.broadcast_shapes(queries.shape[:-1], ids.shape[:-1])
        queries = np.broadcast_to(queries, (*outer, queries.shape[-1]))
        ids = np.broadcast_to(ids, (*outer, ids.shape[-1]))
        start = np.empty(queries.shape, np.int64)
        stop, exact = np.empty_like(start), True
        for at in np.ndindex(outer):
            known, first, counts = np.unique(ids[at], return_index=True, return_counts=True)
            last = ids.shape[-1] - np.unique(ids[at][::-1], return_index=True)[1]
            place = np.minimum(np.searchsorted(known, queries[at]), len(known) - 1)
            there = known[place] == queries[at]
            start[at], stop[at] = np.where(there, (first[place], last[place]), 0)
            exact &= bool((last - first == counts).all())
        return Ranges(start[..., None], stop[..., None]), exact


@dataclass(frozen=True, slots=True, eq=False)
class Alibi(Entry):
    """Linear biases: −slope · |own position − key position| is added to the scores.

    Parameters
    ----------
    slopes : ndarray, broadcastable to (…, 1, 1)
        In the dtype that is computed in.
    own : int or ndarray of int, broadcastable to (…, T_dec, 1)
        (key step − query step) of a query's own key; or its step.
    """

    slopes: Array
    own: int | Array

    @property
    def adds(self) -> bool:
        """Whether something is added to the scores: always."""
        return True

    def _biased(self, rows: slice, keys: slice, index: Index, slopes: Array) -> Array:
        """Return slope · |own position − key position|."""
        if isinstance(self.own, int):  # constant along diagonals: a view of one line is enough
            first, last = keys.start - rows.stop + 1, keys.stop - rows.start
            line = slopes[..., 0] * np.abs(np.arange(first, last) - self.own).astype(slopes.dtype)
            lines: Array = sliding_window_view(line, keys.stop - keys.start, axis=-1)
            return lines[..., ::-1, :]
        own = tile_of(self.own, rows, slice(0, 1), index)
        biased: Array = slopes * np.abs(own - np.arange(keys.start, keys.stop)).astype(slopes.dtype)
        return biased

    def tile(self, rows: slice, keys: slice, index: Index = ()) -> Tile:
        """Return the bias of a tile; it hides nothing."""
        slopes = self.slopes[pick(index, self.slopes.shape)] if index else self.slopes
        return self._biased(rows, keys, index, -slopes), None

    def says(self, rows: slice, keys: slice, index: Index = ()) -> Says:
        """Say that all of a tile is seen."""
        return "all"

    def of_rows(self, rows: slice | Array, T_dec: int, T_enc: int) -> Alibi:
        """Return the biases of these queries."""
        if isinstance(self.own, int):
            return Alibi(self.slopes, (np.arange(T_dec)[:, None] + self.own)[rows])
        return Alibi(self.slopes, _rows_of(self.own, rows))

    def new_gradient(self) -> Array:
        """Return zeros for the gradient of the slopes."""
        return np.zeros_like(self.slopes)

    def add_gradient(
        self, gradient: Array, dscores: Array, rows: slice, keys: slice, index: Index
    ) -> None:
        """Add −Σ dscores · |own position − key position| to that of each slope."""
        place = gradient[pick(index, gradient.shape)]
        distance = self._biased(rows, keys, index, np.ones_like(place))
        place -= sum_to(dscores * distance, place.shape)


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

    @property
    def lead(self) -> tuple[int, ...]:
        """Those of the array."""
        axes: tuple[int, ...] = self.array.shape[:-2]
        return axes

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
        return Mask(_rows_of(self.array, rows))

    def new_gradient(self) -> Array | None:
        """Return zeros for the gradient of a mask that is added."""
        return np.zeros_like(self.array) if self.adds else None

    def add_gradient(
        self, gradient: Array, dscores: Array, rows: slice, keys: slice, index: Index
    ) -> None:
        """Add dscores, summed over the axes on which the mask was broadcast."""
        place = tile_of(gradient, rows, keys, index)
        place += sum_to(dscores, place.shape)


def _rows_of(array: Array, rows: slice | Array) -> Array:
    return array if array.shape[-2] == 1 else array[..., rows, :]


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
        cls,
        semantics: Semantics,
        T_dec: int,
        T_enc: int,
        mask: Array | None = None,
        extras: Placed = NOTHING,
        part: tuple[slice, slice] | None = None,
    ) -> Visibility:
        """Build it from the options.

        Parameters
        ----------
        semantics : Semantics
        T_dec, T_enc : int
        mask : ndarray, optional
            Boolean or float, as `read_mask` gives it, broadcastable to (…, T_dec, T_enc).
        extras : Placed, optional
            Lengths, sequences, segments and slopes, as `Extras.placed` gives them.
        part : (slice, slice), optional
            The queries and the keys that are all there are here, out of T_dec and T_enc.  Mask and
            segments are theirs alone; sequences are those of the whole.

        Examples
        --------
        >>> part = slice(2, 4), slice(1, 4)
        >>> Visibility.of(Semantics(causal="upper_left"), 4, 4, part=part).pattern().astype(int)
        array([[1, 1, 0],
               [1, 1, 1]])
        """
        if mask is None and not semantics.orders and extras is NOTHING and not part:
            return cls((), T_dec, T_enc)
        entries: list[Entry] = []
        rows, keys = part or (slice(0, T_dec), slice(0, T_enc))
        offset = own_key(semantics, T_dec, T_enc) + rows.start - keys.start
        own: int | Array = offset
        before, after = semantics.reach
        if extras.sequences is not None or extras.lengths is not None:
            ends = _keys_of(semantics, T_dec, T_enc, extras, rows)
            start, stop, own = (x - keys.start for x in ends)
            if before is not None:
                start = np.maximum(start, own - before)
            if after is not None:
                stop = np.minimum(stop, own + after + 1)
            entries.append(Ranges(start, stop))
        elif semantics.orders:
            entries.append(
                Band(
                    None if before is None else offset - before,
                    None if after is None else offset + after,
                )
            )
        if extras.ids_dec is not None and extras.ids_enc is not None:
            segments = Segments(extras.ids_dec, extras.ids_enc)
            ranges, exact = segments.ranges
            entries += [ranges] if exact else [ranges, segments]
        if mask is not None:
            entries.append(Mask(mask if mask.ndim > 1 else np.atleast_2d(mask)))
        if extras.alibi is not None:
            entries.append(Alibi(extras.alibi, own))
        if part:
            T_dec, T_enc = rows.stop - rows.start, keys.stop - keys.start
            every = slice(0, T_dec), slice(0, T_enc)
            # In most parts there is nothing of a band, and then nothing to be looked at.
            entries = [one for one in entries if not one.by_step or one.says(*every) != "all"]
        return cls(tuple(entries), T_dec, T_enc)

    def __bool__(self) -> bool:
        """Whether there is anything at all that may hide a key or add to a score."""
        return bool(self.entries)

    @property
    def adds(self) -> bool:
        """Whether something is added to the scores, and so has a gradient."""
        return True in [entry.adds for entry in self.entries]

    def new_gradients(self) -> list[Array | None]:
        """Return zeros for the gradient of what each entry adds; None where one adds nothing."""
        return [entry.new_gradient() for entry in self.entries]

    def add_gradients(
        self,
        gradients: list[Array | None],
        dscores: Array,
        rows: slice,
        keys: slice,
        index: Index,
    ) -> None:
        """Add what the scores of a tile contribute to the gradient of what each entry adds."""
        for entry, gradient in zip(self.entries, gradients, strict=True):
            if gradient is not None:
                entry.add_gradient(gradient, dscores, rows, keys, index)

    def gradient_of(self, kind: type[Entry], gradients: list[Array | None]) -> Array | None:
        """Return the gradient of the entry of this kind, if there is one."""
        found = zip(self.entries, gradients, strict=False)  # before backward there are none
        return next((gradient for entry, gradient in found if isinstance(entry, kind)), None)

    @property
    def mask(self) -> Array | None:
        """The mask that it was built with, if there is one."""
        return next((entry.array for entry in self.entries if isinstance(entry, Mask)), None)

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes of what hides keys, of size 1 where they make no difference.

        Examples
        --------
        >>> mask = np.ones((2, 1, 3, 3), bool)
        >>> Visibility.of(Semantics(), 3, 3, mask).lead
        (2, 1)
        """
        return np.broadcast_shapes(*[entry.lead for entry in self.entries])

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

    def keys(self, rows: slice, index: Index = ()) -> slice:
        """Return the range of keys outside of which `rows` see none by their steps."""
        keys = slice(0, self.T_enc)
        for entry in self.entries:
            keys = entry.keys(rows, keys, index)
        return keys

    def rows(self, rows: slice, keys: slice, index: Index = ()) -> slice:
        """Return the range of `rows` outside of which none sees any of `keys` by their steps."""
        for entry in self.entries:
            rows = entry.rows(rows, keys, index)
        return rows

    def span(self, rows: slice, index: Index = ()) -> tuple[Array, Array]:
        """Return the first key that each of `rows` sees by its step, and the one after the last.

        Examples
        --------
        >>> Visibility.of(Semantics(causal="upper_left", window=1), 3, 5).span(slice(0, 3))
        (array([0, 0, 1]), array([1, 2, 3]))
        """
        start, stop = np.zeros(rows.stop - rows.start, np.int64), np.asarray(self.T_enc)
        for entry in self.entries:
            first, last = entry.span(rows, index)
            start = start if first is None else np.maximum(start, first)
            stop = stop if last is None else np.minimum(stop, last)
        return start, np.maximum(start, stop)

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


def own_keys(
    semantics: Semantics,
    T_dec: int,
    T_enc: int,
    extras: Placed = Placed(),  # noqa: B008 (it is immutable)
    index: Index = (),
) -> Array:
    """Return the step of every query's own key, (T_dec,), at one place on the leading axes."""
    if extras.sequences is None and extras.lengths is None:
        return np.arange(T_dec) + own_key(semantics, T_dec, T_enc)
    own = _keys_of(semantics, T_dec, T_enc, extras)[2]
    return tile_of(own, slice(0, T_dec), slice(0, 1), index)[:, 0]


def positions(
    semantics: Semantics,
    T_dec: int,
    T_enc: int,
    extras: Placed = Placed(),  # noqa: B008 (it is immutable)
) -> tuple[Array, Array]:
    """Return where queries and keys stand: a key at its step, a query at its own key.

    In packed tensors both count within their sequence.

    Returns
    -------
    queries : ndarray of int, shape (T_dec,), or (N, T_dec) where lengths differ by item
    keys : ndarray of int, shape (T_enc,)

    Examples
    --------
    >>> positions(Semantics(causal="lower_right"), 2, 3)
    (array([1, 2]), array([0, 1, 2]))
    """
    keys = np.arange(T_enc)
    if extras.sequences is None and extras.lengths is None:
        return np.arange(T_dec) + own_key(semantics, T_dec, T_enc), keys
    start, _, own = _keys_of(semantics, T_dec, T_enc, extras)
    if extras.sequences is not None:
        firsts = extras.sequences[1]
        return (own - start)[:, 0], keys - np.repeat(firsts[:-1], np.diff(firsts))
    queries = own.reshape(-1, T_dec)
    return queries if len(queries) > 1 else queries[0], keys


def _keys_of(
    semantics: Semantics, T_dec: int, T_enc: int, extras: Placed, rows: slice | None = None
) -> tuple[Array, Array, Array]:
    """Return the first key, the one after the last, and the own key of each query of `rows`.

    They differ by item where lengths do; with sequences they count within each.
    """
    t = (np.arange(T_dec) if rows is None else np.arange(rows.start, rows.stop))[:, None]
    lower_right = semantics.side == "lower_right"
    if extras.sequences is None:
        assert extras.lengths is not None
        stop = np.broadcast_to(extras.lengths, (*extras.lengths.shape[:-2], len(t), 1))
        own = t + stop - T_dec if lower_right else np.broadcast_to(t, stop.shape)
        return np.zeros_like(stop), stop, own
    queries, keys = extras.sequences
    count = np.diff(queries)
    lengths = np.diff(keys) if extras.lengths is None else extras.lengths
    own_first = keys[:-1] + (lengths - count if lower_right else 0)
    which = np.searchsorted(queries, t, side="right") - 1
    start, stop, own = (
        of_sequence[which]
        for of_sequence in (keys[:-1], keys[:-1] + lengths, own_first - queries[:-1])
    )
    return start, stop, t + own


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
    # Of two axes it is the same at every place.
    tile: Array = mask[pick(index, mask.shape)] if index and mask.ndim > 2 else mask
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
