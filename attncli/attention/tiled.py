"""The tiled engine: one block of queries at a time, and the keys it sees tile by tile.

No thread ever holds more than a tile of weights, so memory is linear in T: backward visits the
same tiles and computes their weights again from what forward kept of each row.  Asked to keep the
weights, it leaves the tiles in one large array instead, and backward has one product less to do.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.attention import blocks
from attncli.attention.cache import Cache
from attncli.attention.inputs import Operands
from attncli.attention.masks import Index, pick, tile_of
from attncli.attention.threads import Scratch, run

Array = NDArray[Any]
Columns = Callable[[Index], Array]

# Queries × keys of a tile.  Measured: smaller ones starve the products, larger ones leave the
# core's own cache.
TILE = (256, 512)

# From so many queries on, a copy of key that suits the products better has paid for itself.
MANY_QUERIES = 1024

LOG2E = math.log2(math.e)


def forward(
    operands: Operands, threads: int = 1, tile: tuple[int, int] = TILE, keep: bool = False
) -> tuple[Array, Cache]:
    """Return (out, cache), in the shapes of the operands."""
    query, key, value = operands[:3]
    rows = (*operands.lead, query.shape[-2])
    out = np.empty((*rows, value.shape[-1]), query.dtype)
    moderate = _moderate(operands, keep)
    cache = Cache(
        operands,
        engine="direct" if keep else "tiled",
        threads=threads,
        shift=np.empty(rows, query.dtype),
        total=np.empty(rows, query.dtype),
        # The caller may write into what is returned, and backward needs it as it is.
        out=np.empty_like(out),
        tile=tile,
        moderate=moderate,
        normalised=moderate and not keep,
    )
    if keep:  # tiles that nobody sees are not visited
        allocate = np.zeros if operands.masking else np.empty
        cache.kept = allocate((*rows, key.shape[-2]), query.dtype)
    columns = lru_cache(threads + 1)(partial(_columns, key))
    scratch = Scratch(tile, query.dtype)
    tasks = [
        partial(_forward, cache, out, index, block, columns, scratch)
        for index in np.ndindex(operands.lead)
        for block in _blocks(0, rows[-1], tile[0])
    ]
    run(tasks, threads)
    return out, cache


def _forward(
    cache: Cache, out: Array, index: Index, rows: slice, columns: Columns, scratch: Scratch
) -> None:
    """Compute what one block of queries of one (batch, head) pair attends to."""
    operands, row, same_out = cache.operands, (*index, rows), cache.out
    assert same_out is not None  # this engine keeps it
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    if len(query) >= MANY_QUERIES:
        key = columns(index)
    unit, exp = _unit(cache)
    query = query[rows] * (operands.scale * unit)
    done = None
    for keys, bias, seen in _tiles(cache, index, rows):
        weights = blocks.scores(
            query,
            key[keys],
            softcap=operands.softcap,
            bias=bias,
            seen=seen,
            out=_place(cache, scratch, row, keys),
        )
        shift = 0.0 if cache.moderate else None
        part = blocks.partial(weights, value[keys], seen=seen, shift=shift, exp=exp)
        done = part if done is None else blocks.merge(done, part)
    if done is None:
        out[row], same_out[row], cache.shift[row], cache.total[row] = 0, 0, 0, 0
        return
    same_out[row], logsumexp = blocks.finish(done)
    out[row] = same_out[row]
    if cache.normalised:
        cache.shift[row], cache.total[row] = logsumexp, 1
    else:
        cache.shift[row], cache.total[row] = done.shift, done.total
    if operands.masking:
        nothing = done.total == 0
        cache.shift[row][nothing], cache.total[row][nothing] = 0, 0


def backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``mask_gradient``."""
    operands, threads = cache.operands, cache.threads
    dquery, dkey, dvalue = (np.zeros(x.shape, x.dtype) for x in operands[:3])
    # With few pairs, several threads share the query blocks of each.
    pairs = math.prod(operands.lead)
    parts = threads if pairs < 4 * threads and pairs % threads else 1
    all_blocks = list(_blocks(0, operands.query.shape[-2], cache.tile[0]))
    shared = _Shared(
        (dquery, dkey, dvalue),
        Lock(),
        lru_cache(threads + 1)(partial(_columns, operands.key, ones=True)),
        lru_cache(threads + 1)(partial(_columns, operands.value, ones=True)),
        (Scratch(cache.tile, dout.dtype), Scratch(cache.tile, dout.dtype)),
    )
    tasks = [
        partial(_backward, dout, cache, shared, index, all_blocks[part::parts])
        for index in np.ndindex(operands.lead)
        for part in range(parts)
    ]
    run(tasks, threads)
    return dquery, dkey, dvalue


class _Shared(NamedTuple):
    """What the tasks of one backward calculation share."""

    gradients: tuple[Array, Array, Array]
    lock: Lock
    key_one: Columns
    value_one: Columns
    scratch: tuple[Scratch, Scratch]


def _backward(
    dout: Array, cache: Cache, shared: _Shared, index: Index, row_blocks: list[slice]
) -> None:
    """Add what some query blocks of one (batch, head) pair contribute to all gradients."""
    operands, out = cache.operands, cache.out
    assert out is not None  # this engine keeps it
    scale, softcap = operands.scale, operands.softcap
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    sum_dquery, sum_dkey, sum_dvalue = (x[pick(index, x.shape)] for x in shared.gradients)
    value_one = shared.value_one(index)
    dkey, dvalue = np.zeros_like(key), np.zeros_like(value)
    for rows in row_blocks:
        row = (*index, rows)
        q, do = query[rows], dout[row]
        if not cache.normalised:  # cheaper done to dout than to the weights
            total = cache.total[row][:, None]
            do = do / np.where(total == 0, 1, total)
        again = None if cache.kept is not None else _again(cache, shared, index, rows)
        # The column of ones beside value subtracts delta for nothing.
        delta = np.vecdot(do, out[row])[:, None]
        do_delta = np.concatenate([do, -delta], axis=1)
        dq = np.zeros_like(q)
        for keys, bias, seen in _tiles(cache, index, rows):
            seen_by = None if seen is None else seen.T
            weights = _place(cache, shared.scratch[0], row, keys)
            if again is not None:
                again(keys, bias, seen, weights)
            dvalue[keys] += blocks.product(weights.T, do, seen_by)
            dscores = shared.scratch[1](weights.shape)
            np.matmul(do_delta, value_one[keys].T, out=dscores)
            dscores *= weights
            if seen is not None:
                np.copyto(dscores, 0, where=~seen)  # what is hidden may hold NaN
            if cache.mask_gradient is not None:
                place = tile_of(cache.mask_gradient, rows, keys, index)
                with shared.lock:
                    place += blocks.sum_to(dscores, place.shape)
            if softcap is not None:
                dscores *= blocks.softcap_slope(
                    blocks.scores(q * scale, key[keys], seen=seen), softcap
                )
            dq += blocks.product(dscores, key[keys], seen)
            dkey[keys] += blocks.product(dscores.T, q, seen_by)
        dq *= scale
        with shared.lock:
            sum_dquery[rows] += dq
    dkey *= scale
    with shared.lock:
        sum_dkey += dkey
        sum_dvalue += dvalue


def _again(
    cache: Cache, shared: _Shared, index: Index, rows: slice
) -> Callable[[slice, Array | None, Array | None, Array], None]:
    """Return what computes the weights of a tile of these rows once more: exp(scores − shift)."""
    operands, (unit, exp) = cache.operands, _unit(cache)
    query = operands.query[pick(index, operands.query.shape)][rows] * (operands.scale * unit)
    shift = cache.shift[(*index, rows)][:, None] * unit
    key_one = shared.key_one(index)
    # A column beside query that meets the column of ones beside key subtracts for nothing; but
    # only moderate scores that stay as they are come out as exact that way.
    fold = cache.moderate and operands.softcap is None
    query = np.concatenate([query, -shift if fold else np.zeros_like(shift)], axis=1)

    def compute(keys: slice, bias: Array | None, seen: Array | None, weights: Array) -> None:
        blocks.scores(
            query, key_one[keys], softcap=operands.softcap, bias=bias, seen=seen, out=weights
        )
        if not fold:
            np.subtract(weights, shift, out=weights)
        exp(weights, out=weights)

    return compute


def _unit(cache: Cache) -> tuple[float, Callable[..., Array]]:
    """Return the unit of the scores and its exponential.

    Moderate scores to which nothing but the scale happens are computed in units of log 2, at no
    cost, because the power of 2 is the faster exponential.
    """
    operands = cache.operands
    plain = cache.moderate and operands.softcap is None and operands.query.itemsize <= 8
    return (LOG2E, np.exp2) if plain else (1.0, np.exp)


def _moderate(operands: Operands, keep: bool) -> bool:
    """Tell whether the scores are so moderate that no reference need be subtracted from them.

    By Cauchy and Schwarz no score is larger than |scale| · max |query| · max |key|.  Neither the
    exponentials of such scores, nor their sums, nor their products with value may leave the range
    in which the dtype has its full precision; nor dout divided by the sums, if they are kept.
    """
    query, key, value, masking = operands[:4]
    if (masking.mask is not None and masking.mask.dtype != bool) or 0 in query.shape:
        return False
    largest = np.vecdot(query, query).max() * np.vecdot(key, key).max()
    bound = abs(operands.scale) * math.sqrt(largest)
    if operands.softcap is not None:
        bound = min(bound, operands.softcap)
    size = max(float(value.max(initial=0)), -float(value.min(initial=0))) or 1.0
    room = math.log(np.finfo(query.dtype).max) - math.log(key.shape[-2]) - abs(math.log(size))
    return bound < (0.4 if keep else 0.8) * room  # False for NaN


def _columns(x: Array, index: Index, ones: bool = False) -> Array:
    """Return a copy of one pair's keys or values whose columns lie each in one piece.

    Products with its transpose prefer it so.  With `ones`, it has one more column, of ones.
    """
    x = x[pick(index, x.shape)]
    steps, size = x.shape
    result = np.ones((size + ones, steps), x.dtype)
    for part in _blocks(0, steps, 128):  # a square that stays in cache while it is turned
        result[:size, part] = x[part].T
    return result.T


def _place(cache: Cache, scratch: Scratch, row: Index, keys: slice) -> Array:
    """Return where the weights of a tile go, or lie."""
    if cache.kept is not None:
        return cache.kept[row][:, keys]
    rows = row[-1]
    assert isinstance(rows, slice)
    return scratch((rows.stop - rows.start, keys.stop - keys.start))


def _tiles(
    cache: Cache, index: Index, rows: slice
) -> Iterator[tuple[slice, Array | None, Array | None]]:
    """Yield (keys, bias, seen) of the tiles in which some query of `rows` sees some key."""
    masking, T_enc = cache.operands.masking, cache.operands.key.shape[-2]
    reach, step = masking.keys(rows, T_enc), cache.tile[1]
    if cache.kept is not None and not cache.moderate:
        step = T_enc  # what is kept of a row must have one reference
    for keys in _blocks(reach.start, reach.stop, step):
        bias, seen = masking.tile(rows, keys, index)
        if seen is None or seen.any():
            yield keys, bias, seen


def _blocks(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))
