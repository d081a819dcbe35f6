"""Which tiles there are to be computed: those in which some query sees some key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from attncli.arrays import Array
from attncli.core.visibility import Index, Visibility

# Queries and keys.  Measured: smaller tiles starve the products, larger ones gain nothing more.
TILE = (512, 512)


class SeenTile(NamedTuple):
    """Some queries of a block, some keys, and how the ones see the others."""

    rows: slice
    inside: slice  # the same, counted from the block's first
    keys: slice
    bias: Array | None
    seen: Array | None


def tiles(
    visibility: Visibility,
    step: int,
    index: Index,
    block: slice,
    *,
    whole_rows: bool = False,
    whole_keys: bool = False,
) -> Iterator[SeenTile]:
    """Yield the tiles of `step` keys in which some query of `block` sees some key.

    Without the rows at either end that see none of the keys, unless `whole_rows`; if
    `whole_keys`, all keys that the block can see are one tile.

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> causal = Visibility.of(Semantics(causal="upper_left"), 4, 4)
    >>> [tile.keys for tile in tiles(causal, 2, (), slice(0, 2))]
    [slice(0, 1, None), slice(1, 2, None)]
    """
    by_step = visibility.by_step
    width = visibility.T_enc if whole_keys else step
    for wide in aligned(visibility.keys(block, index), width):
        # At an edge half as wide, so that less is computed for nothing.
        halve = not whole_keys and by_step.says(block, wide, index) == "some"
        for keys in aligned(wide, -(-width // 2)) if halve else (wide,):
            rows = block if whole_rows else visibility.rows(block, keys, index)
            if rows.start == rows.stop or by_step.says(rows, keys, index) == "none":
                continue
            bias, seen = visibility.tile(rows, keys, index)
            if seen is None or seen.any():
                inside = slice(rows.start - block.start, rows.stop - block.start)
                yield SeenTile(rows, inside, keys, bias, seen)


def aligned(keys: slice, step: int) -> Iterator[slice]:
    """Yield the parts of `keys` between the multiples of `step`."""
    for part in blocks_of(keys.start - keys.start % step, keys.stop, step):
        if part.stop > keys.start:  # not so if there are no keys
            yield slice(max(part.start, keys.start), part.stop)


def blocks_of(start: int, stop: int, step: int) -> Iterator[slice]:
    """Yield the parts of a range, each of `step` but the last.

    Examples
    --------
    >>> list(blocks_of(0, 5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))
