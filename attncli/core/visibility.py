"""Which keys a query may see: causal order, window and mask, whole or one tile at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from attncli.arrays import Array

Index = tuple[int | slice, ...]  # a place on the leading axes


class Band(NamedTuple):
    """The diagonal band that causal order and a window leave: ``low <= key - query <= high``.

    Parameters
    ----------
    low, high : int or None
        Bounds of (key step − query step), both inclusive; None for no bound on that side.

    Examples
    --------
    >>> Band(None, 0).seen(slice(0, 3), slice(0, 3)).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """

    low: int | None
    high: int | None

    def keys(self, rows: slice, T_enc: int) -> slice:
        """Return the smallest range of keys outside of which no query of `rows` sees any."""
        start = 0 if self.low is None else min(max(rows.start + self.low, 0), T_enc)
        stop = T_enc if self.high is None else min(max(rows.stop + self.high, 0), T_enc)
        return slice(start, max(start, stop))

    def rows(self, rows: slice, keys: slice) -> slice:
        """Return the smallest range of `rows` outside of which none sees any of `keys`."""
        start, stop = rows.start, rows.stop
        if self.high is not None:
            start = min(max(keys.start - self.high, start), stop)
        if self.low is not None:
            stop = max(min(keys.stop - self.low, stop), start)
        return slice(start, stop)

    def seen(self, rows: slice, keys: slice) -> Array | None:
        """Return the band as a boolean (rows, keys) tile, or None if all of the tile is in it."""
        first, last = keys.start - rows.stop + 1, keys.stop - 1 - rows.start  # offsets in the tile
        above = self.low is None or first >= self.low
        below = self.high is None or last <= self.high
        if above and below:
            return None
        return _diagonals(self, first, last, keys.stop - keys.start)


@lru_cache(16)  # the tiles along a band's edge all look the same
def _diagonals(band: Band, first: int, last: int, width: int) -> Array:
    """Return the tile of a band whose key − query runs from `first` to `last`."""
    offsets = np.arange(first, last + 1)
    inside = np.ones(len(offsets), bool)
    if band.low is not None:
        inside &= offsets >= band.low
    if band.high is not None:
        inside &= offsets <= band.high
    # The tile is constant along its diagonals, so a view of one line of it is enough.
    return sliding_window_view(inside, width)[::-1]


class Masking(NamedTuple):
    """A mask and a band together.

    Parameters
    ----------
    mask : ndarray or None
        Broadcastable to (…, T_dec, T_enc).  Boolean: True takes part.  Float: added to the
        scores, and −inf hides.
    band : Band or None
        What causal order and the window leave.
    """

    mask: Array | None
    band: Band | None

    @property
    def adds(self) -> bool:
        """Whether the mask is added to the scores, and so has a gradient."""
        return self.mask is not None and self.mask.dtype != bool

    def __bool__(self) -> bool:
        """Whether there is anything at all that may hide a key or add to a score."""
        return self.mask is not None or self.band is not None

    def keys(self, rows: slice, T_enc: int) -> slice:
        """Return the range of keys that `rows` can see at all by the band."""
        return slice(0, T_enc) if self.band is None else self.band.keys(rows, T_enc)

    def rows(self, rows: slice, keys: slice) -> slice:
        """Return the range of `rows` that can see any of `keys` at all by the band."""
        return rows if self.band is None else self.band.rows(rows, keys)

    def tile(
        self, rows: slice, keys: slice, index: Index = ()
    ) -> tuple[Array | None, Array | None]:
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
            What is added to the scores: the tile of a float mask.
        seen : ndarray of bool or None
            True where the query sees the key; None where every query sees every key.
        """
        seen = None if self.band is None else self.band.seen(rows, keys)
        if self.mask is None:
            return None, seen
        part = tile_of(self.mask, rows, keys, index)
        if part.dtype == bool:
            bias, visible = None, part
        else:
            bias, visible = part, part != -np.inf  # NaN counts as seen: it is the caller's number
        if not visible.all():
            seen = visible if seen is None else seen & visible
        return bias, seen


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
