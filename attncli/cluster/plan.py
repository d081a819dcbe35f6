"""How a calculation is cut into parts, and what that costs: known before any of it is paid for.

Leading axes are cut first, for what lies in different ones never meets; then the queries into
blocks of rows, and the keys into blocks.  A *tile* is a block of rows by a block of keys.  Forward
goes row by row: the partial results of a row's tiles are merged in a tree.  Backward goes by
*bands*: the tiles that share a block of keys are summed in a tree, and what each contributes to
the gradient of its rows is carried from band to band.  The order of all additions follows from the
plan alone, so the same blocks give the same bytes, whoever computes them and however often.

The costs follow from rates that were measured on one core, products and all, with float32.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from attncli.arrays import Array
from attncli.core.operands import Shape, dtypes_of, fit
from attncli.core.tiles import blocks_of
from attncli.core.visibility import Band, Visibility, pick
from attncli.errors import ParameterError

BLOCK = 16384  # rows, and keys, of a tile unless there is a reason for others
LEAST = 4096  # smaller blocks are never chosen: they cost a quarter more
MOST_TILES, MOST_TASKS = 25_000, 60_000
# How many come together at a time: partial results of rows; gradients of keys and values, which are
# larger, so that few wait on a worker unless that makes too many tasks; what is carried from band
# to band.
MERGED, SUMMED, CARRIED = 8, (3, 5), 8
PARTS_A_THREAD = 4  # so that nobody waits long for the last one
MASKED = 64 << 20  # bytes of a mask's tile

RATES = 88e9, 90e9  # float operations a second and core, forward and backward
OVERHEAD = 1.2  # of blocks, and of handing them round
WORKER = 100_000_000  # bytes that a worker takes beside its tiles
TASK_SECONDS = 0.001  # of the scheduler

Box = tuple[slice, ...]
Kind = tuple[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of queries by a block of keys, at some places of the leading axes.

    Attributes
    ----------
    box : tuple of slice
        The places, counted in query heads.
    rows, keys : slice
    area : int
        How many pairs of a query and a key are seen, as far as their steps say.
    """

    box: Box
    rows: slice
    keys: slice
    area: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The tiles of a calculation, in order, and what they cost.

    Attributes
    ----------
    shapes : tuple of three shapes
        Of query, key and value.
    visibility : Visibility
        What each query sees; only what goes by steps is looked at.
    itemsize : int
        Of the numbers that are computed in.
    threads : int
        How many tasks run at once.
    backward : bool
        Whether it is walked back too.
    block : (int, int)
        How many rows, and keys, a tile has.
    box : tuple of int
        How many places of each leading axis it has.
    beside : int
        The bytes for each pair of a query and a key: of a mask, its gradient, and dropout.
    sinks : bool
        Whether there are any: they are counted with the first keys, seen or not.
    summed : int
        How many gradients of keys and values come together at a time.
    """

    shapes: tuple[Shape, Shape, Shape]
    visibility: Visibility
    itemsize: int
    threads: int
    backward: bool
    block: tuple[int, int]
    box: Shape
    beside: int = 0
    sinks: bool = False
    summed: int = SUMMED[1]

    @cached_property
    def lead(self) -> Shape:
        """The leading axes of the result, and so of the queries' heads."""
        return fit(*self.shapes)[0]

    @property
    def T_dec(self) -> int:
        """How many queries there are."""
        return self.shapes[0][-2]

    @property
    def T_enc(self) -> int:
        """How many keys there are."""
        return self.shapes[1][-2]

    @property
    def sizes(self) -> tuple[int, int]:
        """The sizes of a query or key, and of a value."""
        return self.shapes[0][-1], self.shapes[2][-1]

    @cached_property
    def row_blocks(self) -> list[slice]:
        """The blocks of queries."""
        return list(blocks_of(0, self.T_dec, self.block[0]))

    @cached_property
    def key_blocks(self) -> list[slice]:
        """The blocks of keys."""
        return list(blocks_of(0, self.T_enc, self.block[1]))

    @cached_property
    def boxes(self) -> list[Box]:
        """The places on the leading axes, as they are cut."""
        cuts = [
            list(blocks_of(0, size, step)) for size, step in zip(self.lead, self.box, strict=True)
        ]
        return [
            tuple(cut[at] for cut, at in zip(cuts, place, strict=True))
            for place in np.ndindex(*map(len, cuts))
        ]

    @cached_property
    def _counted(self) -> dict[tuple[int, ...], Array]:
        """How many pairs are seen in every tile, at each place where that is something else."""
        lead = self.visibility.by_step.lead
        return {at: counted(self.visibility, self.block, at) for at in np.ndindex(lead)}

    def areas(self, box: Box) -> Array:
        """Return how many pairs are seen in every tile of a box, (row blocks, key blocks)."""
        lead = self.visibility.by_step.lead
        if not lead or math.prod(lead) == 1:  # the same everywhere
            found = self._counted[(0,) * len(lead)]
            scaled: Array = found * math.prod(at.stop - at.start for at in box)
            return scaled
        ranges = [range(at.start, at.stop) for at in box]
        total = np.zeros((len(self.row_blocks), len(self.key_blocks)), np.int64)
        for place in np.ndindex(*map(len, ranges)):
            at = tuple(range_[i] for range_, i in zip(ranges, place, strict=True))
            total += self._counted[pick_ints(at, lead)]
        return total

    def visited(self, areas: Array) -> Array:
        """Tell which tiles are computed: in which a pair is seen, or that are needed all the same.

        Rows that see nothing have a result too.
        """
        visited: Array = areas > 0
        visited[:, :1] |= True if self.sinks else ~visited.any(axis=1, keepdims=True)
        return visited

    def rows(self) -> Iterator[tuple[Tile, ...]]:
        """Yield the tiles of each block of rows, what is longest first."""
        for box in self.boxes:
            found = self.areas(box)
            visited = self.visited(found)
            for i in np.argsort(-found.sum(axis=1), kind="stable"):
                yield tuple(
                    Tile(box, self.row_blocks[i], self.key_blocks[j], int(found[i, j]))
                    for j in np.flatnonzero(visited[i])
                )

    def bands(self) -> Iterator[tuple[Tile, ...]]:
        """Yield the tiles of each block of keys, over all rows and heads that share the keys."""
        shared: dict[tuple[int, ...], list[Box]] = {}
        for box in self.boxes:
            shared.setdefault(self.shared(box), []).append(box)
        for boxes in shared.values():
            found = [self.areas(box) for box in boxes]
            visited = [self.visited(areas) for areas in found]
            for j, keys in enumerate(self.key_blocks):
                band = tuple(
                    Tile(box, self.row_blocks[i], keys, int(areas[i, j]))
                    for box, areas, some in zip(boxes, found, visited, strict=True)
                    for i in np.flatnonzero(some[:, j])
                )
                if band:
                    yield band

    def shared(self, box: Box) -> tuple[int, ...]:
        """Return what boxes with keys or values in common have in common, as a name for them."""
        places = [index_of(shape, self.lead, box) for shape in self.shapes[1:]]
        least = min(map(len, places))  # an axis that one of them lacks is common to all
        return tuple(min(place[at].start for place in places) for at in range(-least, 0))

    # What it costs.

    @cached_property
    def _seen(self) -> tuple[int, ...]:
        """Tiles, seen pairs, rows and keys of all tiles, merges, what is carried, sums."""
        heights, widths = (
            np.array([x.stop - x.start for x in blocks])
            for blocks in (self.row_blocks, self.key_blocks)
        )
        # What boxes of the same sizes are the same in is counted once.
        kinds: dict[Kind, tuple[Box, int]] = {}
        sharing: dict[tuple[int, ...], dict[Kind, int]] = {}
        uniform = math.prod(self.visibility.by_step.lead) == 1
        for box in self.boxes:
            places = math.prod(at.stop - at.start for at in box)
            kind = places, () if uniform else tuple((at.start, at.stop) for at in box)
            kinds[kind] = box, kinds.get(kind, (box, 0))[1] + 1
            alike = sharing.setdefault(self.shared(box), {})
            alike[kind] = alike.get(kind, 0) + 1
        totals, columns = np.zeros(6, np.int64), {}
        for kind, (box, times) in kinds.items():
            visited = self.visited(found := self.areas(box))
            columns[kind] = visited.sum(axis=0)
            number, area = visited.sum(axis=1), found.sum()
            high, wide = (visited * heights[:, None]).sum(), (visited * widths).sum()
            merges = [
                sum(joints(n, MERGED) for n in number.tolist()),
                (-(-number // CARRIED)).sum(),
            ]
            each = number.sum(), area, kind[0] * high, kind[0] * wide, *merges
            totals += times * np.array(each, np.int64)
        sums = sum(
            sum(
                joints(n, self.summed)
                for n in sum(columns[kind] * times for kind, times in alike).tolist()
                if n
            )
            * among
            for alike, among in Counter(tuple(x.items()) for x in sharing.values()).items()
        )
        return (*totals.tolist(), sums)

    @property
    def tiles(self) -> int:
        """How many tiles are computed, each way."""
        return self._seen[0]

    @property
    def area(self) -> int:
        """How many pairs of a query and a key are seen."""
        return self._seen[1]

    @property
    def tasks(self) -> int:
        """How many tasks there are in all."""
        tiles, *_, merges, carried, sums = self._seen
        return tiles + merges + self.backward * (tiles + carried + sums)

    @property
    def operations(self) -> tuple[int, int]:
        """How many float operations the products take, forward and backward."""
        H, H_v = self.sizes
        return 2 * self.area * (H + H_v), self.backward * 2 * self.area * (3 * H + 2 * H_v)

    @property
    def seconds(self) -> float:
        """How long it takes, from measured rates."""
        each = sum(work / rate for work, rate in zip(self.operations, RATES, strict=True))
        each *= OVERHEAD * self.itemsize / 4  # those of float64 take twice as long
        return max(each / self.threads, self.tasks * TASK_SECONDS)

    @property
    def read(self) -> int:
        """How many bytes are read from files."""
        _, area, rows, keys, *_ = self._seen
        (H, H_v), beside = self.sizes, area * self.beside
        forward = rows * H + keys * (H + H_v)
        backward = rows * (2 * H + 2 * H_v + 1) + keys * (H + H_v)
        return (forward + self.backward * backward) * self.itemsize + beside * (1 + self.backward)

    @property
    def written(self) -> int:
        """How many bytes are written, what is carried from band to band included."""
        rows, (H, H_v) = self._seen[2], self.sizes
        result = math.prod(self.lead) * self.T_dec * (H_v + 1)
        gradients = sum(math.prod(shape) for shape in self.shapes) + rows * H
        return (result + self.backward * gradients) * self.itemsize

    @property
    def moved(self) -> int:
        """How many bytes move between workers, at worst: partial results and sums."""
        _, _, rows, keys, *_ = self._seen
        H, H_v = self.sizes
        numbers = rows * (H_v + 1) + self.backward * keys * (H + H_v)
        return numbers * self.itemsize * (self.threads - 1) // self.threads

    @property
    def worker_nbytes(self) -> int:
        """How many bytes a worker takes beside its tasks."""
        return WORKER

    @property
    def task_nbytes(self) -> int:
        """How many bytes a task takes on its worker."""
        rows, keys = min(self.block[0], self.T_dec), min(self.block[1], self.T_enc)
        numbers = 8 * max(rows, keys) * sum(self.sizes) * self.itemsize
        places = math.prod(min(one) for one in zip(self.box, self.lead, strict=True))
        return places * (numbers + rows * keys * self.beside)


def plan(
    shapes: tuple[Shape, Shape, Shape],
    visibility: Visibility | None = None,
    *,
    dtype: str = "float32",
    threads: int = 1,
    backward: bool = False,
    block: int | None = None,
    chunk: int = 1,
    beside: int = 0,
    sinks: bool = False,
) -> Plan:
    """Cut a calculation into tiles.

    Parameters
    ----------
    shapes : tuple of three shapes
        Of query, key and value, as `attncli.attention` takes them.
    visibility : Visibility, optional
        What each query sees; what goes by steps is not computed where nothing is seen.
    dtype : str
        What is computed in.
    threads : int
        How many tasks run at once.
    backward : bool
        Whether it is walked back too.
    block : int, optional
        How many rows, and keys, a tile is to have; else as many as are right.
    chunk : int
        How many steps are stored together: of that a block is a multiple, if it can be.
    beside : int
        The bytes for each pair of a query and a key, where masks have some.
    sinks : bool
        Whether there are any.

    Raises
    ------
    ParameterError
        If neither the block is a multiple of the chunk, nor the chunk of the block.
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> causal = Visibility.of(Semantics(causal="upper_left"), 10**6, 10**6)
    >>> found = plan(((10**6, 64),) * 3, causal, threads=8, block=32768)
    >>> found.tiles, found.tasks, f"{found.seconds / 60:.1f} minutes"
    (496, 595, '3.6 minutes')
    """
    T_dec, T_enc = shapes[0][-2], shapes[1][-2]
    lead = fit(*shapes)[0]
    if block is not None and (block < 1 or (block % chunk and chunk % block)):
        near = max(1, round(block / chunk)) * chunk
        raise ParameterError(
            f"block is {block}, expected a multiple of the {chunk} steps that are stored together",
            hint=f"--block {near}",
        )
    if chunk > BLOCK:  # no reason for so large a block: each task decodes what it needs a part of
        chunk = 1
    visible = Visibility((), T_dec, T_enc) if visibility is None else visibility
    size = block or -(-BLOCK // chunk) * chunk
    itemsize = dtypes_of(np.dtype(dtype))[0].itemsize
    found = Plan(
        shapes, visible, itemsize, threads, backward, (size, size), (1,) * len(lead), beside, sinks
    )

    def cut(size: int) -> Plan:
        return replace(found, block=(size, size))

    if block is not None:
        return _gathered(found)
    longest = max(T_dec, T_enc)
    while -(-longest // size) > 2048:  # before anything is counted
        size *= 2
    found = cut(size)
    while _too_many(found) and size < longest:
        size *= 2
        found = cut(size)
    while size // 2 >= LEAST and size // 2 % chunk == 0:
        few = found.tiles < PARTS_A_THREAD * threads and size < 2 * longest
        halved = cut(size // 2)
        if not (few or size * size * beside > MASKED) or _too_many(halved):
            break
        size, found = size // 2, halved
    return _gathered(found)


def _too_many(found: Plan) -> bool:
    return found.tiles > MOST_TILES or found.tasks > MOST_TASKS


def _gathered(found: Plan) -> Plan:
    """Let a tile have several places of the leading axes, where there are too many for one each."""
    lead, box = found.lead, list(found.box)
    whole = len(found.row_blocks) == len(found.key_blocks) == 1
    shared = fit(*found.shapes)[1] > 1
    for axis, size in enumerate(lead):
        while whole and box[axis] < size and _too_many(found):
            all_heads = shared and axis == len(lead) - 1
            box[axis] = size if all_heads else min(size, 2 * box[axis])
            found = replace(found, box=tuple(box))
    fewer = replace(found, summed=SUMMED[0])
    return found if _too_many(fewer) else fewer


def counted(visibility: Visibility, block: tuple[int, int], index: tuple[int, ...]) -> Array:
    """Count the pairs that are seen in each tile at a place, as far as their steps say.

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> counted(Visibility.of(Semantics(causal="upper_left"), 5, 5), (2, 3), ())
    array([[3, 0],
           [6, 1],
           [3, 2]])
    """
    rows, keys = (
        list(blocks_of(0, size, step))
        for size, step in zip((visibility.T_dec, visibility.T_enc), block, strict=True)
    )
    by_step = visibility.by_step
    edges = np.array([0, *(x.stop for x in keys)])
    if all(isinstance(entry, Band) for entry in by_step.entries):
        ends = np.array([0, *(x.stop for x in rows)])[:, None]
        lows = [x.low for x in by_step.entries if isinstance(x, Band) and x.low is not None]
        highs = [x.high for x in by_step.entries if isinstance(x, Band) and x.high is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        before = ends * edges if high is None else _before(ends, edges, high)
        if low is not None:
            before = np.maximum(before, hidden := _before(ends, edges, low - 1)) - hidden
        return np.diff(np.diff(before, axis=0), axis=1)
    found = np.empty((len(rows), len(keys)), np.int64)
    for i, some in enumerate(rows):
        start, stop = by_step.span(some, index)
        found[i] = np.diff(_below(stop, edges) - _below(np.minimum(start, stop), edges))
    return found


def _before(rows: Array, keys: Array, high: int) -> Array:
    """Return how many pairs of the first queries and keys have key − query ≤ `high`."""

    def ramp(steps: Array | int) -> Array:
        """Σ of min(max(step, 0), keys) over all steps before these."""
        up = np.clip(steps, 0, keys + 1)
        found: Array = up * (up - 1) // 2 + np.maximum(steps - keys - 1, 0) * keys
        return found

    return ramp(rows + high + 1) - ramp(high + 1)


def _below(ends: Array, edges: Array) -> Array:
    """Return Σ min(end, edge) for every edge."""
    if (ends[1:] < ends[:-1]).any():
        ends = np.sort(ends)
    sums = np.concatenate([[0], np.cumsum(ends)])
    below = np.searchsorted(ends, edges)
    found: Array = sums[below] + (len(ends) - below) * edges
    return found


def joints(number: int, fan: int) -> int:
    """Return how many times some of so many come together until they are one: once at least."""
    total = 0
    while True:
        number = -(-number // fan)
        total += number
        if number <= 1:
            return total


def index_of(shape: Shape, lead: Shape, box: Box) -> Box:
    """Return where in an operand of `shape` a box of the query heads' leading axes lies.

    Examples
    --------
    >>> index_of((1, 2, 7, 5), (3, 4), (slice(2, 3), slice(3, 4)))
    (slice(0, 1, None), slice(1, 2, None))
    """
    own = shape[:-2]
    missing = len(lead) - len(own)
    found = []
    for size, whole, at in zip(own, lead[missing:], box[missing:], strict=True):
        if size == whole:
            found.append(at)
        else:  # one for all, or each for a group of heads
            group = whole // size
            found.append(slice(at.start // group, -(-at.stop // group)))
    return tuple(found)


def pick_ints(at: tuple[int, ...], lead: Shape) -> tuple[int, ...]:
    """Return a place where an axis of size 1 stands for all."""
    return tuple(int(x) for x in pick(at[len(at) - len(lead) :], (*lead, 1, 1)))  # type: ignore[arg-type]
