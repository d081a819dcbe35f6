"""How much of what is there each query sees, counted exactly and never held as a whole.

It is counted on the tiles that the tiled engine visits, so what it takes grows with their number,
and of memory with T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.core.tiles import TILE, blocks_of, tiles
from attncli.core.visibility import Index, Visibility
from attncli.memory import require

Step = Callable[[int, int], Any]
"""Called with what is done and what there is."""

Runs = list[tuple[int, int]]
"""Keys that follow each other: the first and the last of each run."""

_AT_ONCE = 64  # queries
_OF_A_BLOCK = 100  # bytes that a block of queries takes beside its tiles, as a slice


class Survey(NamedTuple):
    """What the queries of one item see.

    Attributes
    ----------
    counts : ndarray of int (T_dec,)
        How many keys each query sees.
    cells : ndarray of int
        How many pairs are seen in each cell of `down` queries and `across` keys.
    visited : ndarray of bool
        For every block of queries, which tiles of keys an engine of such tiles visits.
    """

    counts: Array
    cells: Array
    visited: Array

    @property
    def seen(self) -> int:
        """How many pairs of a query and a key that it sees there are."""
        return int(self.counts.sum())

    @property
    def blind(self) -> Array:
        """Which queries see nothing."""
        return np.flatnonzero(self.counts == 0)


class _Tally:
    """Pairs that are counted by query, and by cell."""

    def __init__(self, visibility: Visibility, down: int, across: int) -> None:
        T_dec, T_enc = visibility.T_dec, visibility.T_enc
        self.down, self.across = down, across
        cells = -(-T_dec // down), -(-T_enc // across)
        _require_counts(T_dec, prod(cells))
        self.counts = np.zeros(T_dec, np.int64)
        self.cells = np.zeros(cells, np.int64)

    def add(self, rows: slice, keys: slice, seen: Array | None) -> None:
        """Count what is seen of a tile; None is all of it."""
        (at, heights), (to, widths) = _cells(rows, self.down), _cells(keys, self.across)
        place = self.cells[at : at + len(heights), to : to + len(widths)]
        if seen is None:
            self.counts[rows] += keys.stop - keys.start
            place += np.outer(heights, widths)
            return
        seen = np.broadcast_to(seen, (rows.stop - rows.start, keys.stop - keys.start))
        by_query = np.add.reduceat(seen, np.cumsum(widths) - widths, axis=1, dtype=np.int64)
        self.counts[rows] += by_query.sum(axis=1)
        place += np.add.reduceat(by_query, np.cumsum(heights) - heights, axis=0)


def _require_counts(T_dec: int, cells: int) -> None:
    require(8 * (T_dec + cells), f"counts of {T_dec:,} queries", None)


def require_survey(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    """Refuse what is too large to be counted, before anything of it is shown.

    Raises
    ------
    MemoryLimitError
    """
    _require_counts(shape[0], 1)
    down, across = (-(-size // by) for size, by in zip(shape, tile, strict=True))
    require(down * (across + _OF_A_BLOCK), f"to count {down:,} × {across:,} tiles", None)


def _cells(part: slice, by: int) -> tuple[int, Array]:
    """Give the first cell that a part of an axis is in, and how much of it is in each."""
    first = part.start // by
    ends = np.append(np.arange((first + 1) * by, part.stop, by), part.stop)
    return first, np.diff(ends, prepend=part.start)


def pairs_of_cells(shape: tuple[int, int], down: int, across: int) -> Array:
    """Give how many pairs there are in each cell.

    Examples
    --------
    >>> pairs_of_cells((3, 5), 2, 4)
    array([[8, 2],
           [4, 1]])
    """
    heights, widths = (
        _cells(slice(0, size), by)[1] for size, by in zip(shape, (down, across), strict=True)
    )
    return np.outer(heights, widths)


def survey(
    visibility: Visibility,
    index: Index = (),
    down: int = 1,
    across: int = 1,
    *,
    tile: tuple[int, int] = TILE,
    step: Step = lambda done, total: None,
) -> Survey:
    """Count what is seen at a place on the leading axes.

    Parameters
    ----------
    visibility : Visibility
    index : tuple
    down, across : int
        How many queries and keys share a cell.
    tile : (int, int)
        Queries and keys of an engine's tiles; default: the tiled engine's.
    step : callable, optional

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> causal = Visibility.of(Semantics(causal="upper_left"), 5, 5)
    >>> found = survey(causal, down=2, across=3, tile=(2, 2))
    >>> found.counts, found.seen
    (array([1, 2, 3, 4, 5]), 15)
    >>> found.cells
    array([[3, 0],
           [6, 1],
           [3, 2]])
    >>> found.visited.astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    tally = _Tally(visibility, down, across)
    require_survey((visibility.T_dec, visibility.T_enc), tile)
    blocks = list(blocks_of(0, visibility.T_dec, tile[0]))
    visited = np.zeros((len(blocks), -(-visibility.T_enc // tile[1])), bool)
    for number, block in enumerate(blocks):
        for part in tiles(visibility, tile[1], index, block):
            tally.add(part.rows, part.keys, part.seen)
            visited[number, part.keys.start // tile[1]] = True
        step(number + 1, len(blocks))
    return Survey(tally.counts, tally.cells, visited)


def alone(
    one: Visibility,
    other: Visibility,
    index: Index = (),
    down: int = 1,
    across: int = 1,
    *,
    step: Step = lambda done, total: None,
) -> tuple[Array, Array]:
    """Count what is seen in one reading and not in the other: by query, and by cell.

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> left = Visibility.of(Semantics(causal="upper_left"), 2, 3)
    >>> right = Visibility.of(Semantics(causal="lower_right"), 2, 3)
    >>> alone(right, left)[0], alone(left, right)[0]
    (array([1, 1]), array([0, 0]))
    """
    tally = _Tally(one, down, across)
    blocks = list(blocks_of(0, one.T_dec, TILE[0]))
    for number, rows in enumerate(blocks):
        visible = one.keys(rows, index)
        for keys in blocks_of(visible.start, visible.stop, TILE[1]):
            if one.says(rows, keys, index) == "none" or other.says(rows, keys, index) == "all":
                continue
            here, there = (x.tile(rows, keys, index)[1] for x in (one, other))
            hidden = None if there is None else ~there
            if there is None:  # all of it, which says could not know
                continue
            tally.add(rows, keys, hidden if here is None else here & hidden)
        step(number + 1, len(blocks))
    return tally.counts, tally.cells


def keys_of(visibility: Visibility, index: Index = (), rows: slice | None = None) -> Iterator[Runs]:
    """Give for every query the runs of keys that it sees, a few queries at a time.

    Examples
    --------
    >>> visibility = Visibility((), 1, 4)
    >>> list(keys_of(visibility))
    [[(0, 3)]]
    """
    rows = rows or slice(0, visibility.T_dec)
    for block in blocks_of(rows.start, rows.stop, _AT_ONCE):
        keys = visibility.keys(block, index)
        seen = visibility.tile(block, keys, index)[1]
        shape = block.stop - block.start, keys.stop - keys.start
        for row in np.broadcast_to(True if seen is None else seen, shape):
            yield [(first + keys.start, last + keys.start) for first, last in runs(row)]


def runs(seen: Array) -> Runs:
    """Give the first and the last of every run of what is True.

    Examples
    --------
    >>> runs(np.array([True, True, False, True]))
    [(0, 1), (3, 3)]
    """
    edges = np.flatnonzero(np.diff(np.r_[0, seen.astype(np.int8), 0]))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))
