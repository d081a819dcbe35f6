"""The tiled engine: never more than a tile of weights per thread, memory linear in T.

Forward visits one block of queries at a time, and the keys it sees tile by tile.  Backward
visits the same tiles and computes their weights again from the scores and logsumexp.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.attention import blocks
from attncli.attention.cache import Cache
from attncli.attention.inputs import Operands
from attncli.attention.masks import Index, pick, tile_of
from attncli.attention.threads import Scratch, run

Array = NDArray[Any]
Pair = Callable[[Index], tuple[Array, Array, Array]]

# Queries × keys of a tile.  Measured: smaller ones starve the products, larger ones leave the
# core's own cache.
TILE = (256, 512)

LOG2E = math.log2(math.e)


def forward(
    operands: Operands, threads: int = 1, tile: tuple[int, int] = TILE
) -> tuple[Array, Cache]:
    """Return (out, cache), in the shapes of the operands."""
    query, value = operands.query, operands.value
    rows = (*operands.lead, query.shape[-2])
    out = np.empty((*rows, value.shape[-1]), query.dtype)
    cache = Cache(
        operands,
        engine="tiled",
        threads=threads,
        shift=np.empty(rows, query.dtype),
        total=np.empty(rows, query.dtype),
        out=out,
        tile=tile,
    )
    scratch = Scratch(tile, query.dtype)
    pair = lru_cache(threads + 1)(partial(_pair, operands))
    tasks = [
        partial(_forward, cache, index, block, pair, scratch)
        for index in np.ndindex(operands.lead)
        for block in _blocks(0, rows[-1], tile[0])
    ]
    run(tasks, threads)
    # The caller may write into what is returned, and backward needs it as it is.
    return (out.copy() if out.dtype == operands.dtype else out), cache


def _forward(cache: Cache, index: Index, rows: slice, pair: Pair, scratch: Scratch) -> None:
    operands, out = cache.operands, cache.out
    assert out is not None  # this engine keeps it
    query, key, value = pair(index)
    unit, exp, shift = _unit(cache, index)
    query = query[rows] * (operands.scale * unit)
    done = None
    for keys, bias, seen in _tiles(operands, index, rows, cache.tile[1]):
        weights = blocks.scores(
            query,
            key[keys],
            softcap=operands.softcap,
            bias=bias,
            seen=seen,
            out=scratch(*_shape(rows, keys)),
        )
        part = blocks.partial(weights, value[keys], seen=seen, shift=shift, exp=exp)
        done = part if done is None else blocks.merge(done, part)
    row = (*index, rows)
    if done is None:
        out[row], cache.shift[row], cache.total[row] = 0, 0, 0
        return
    out[row], logsumexp = blocks.finish(done)
    if shift is None:
        cache.shift[row], cache.total[row] = done.shift, done.total
    else:  # for backward, where a sum far from 1 would take too much of the dtype's range
        cache.shift[row], cache.total[row] = logsumexp, 1
    if (empty := done.total == 0).any():
        cache.shift[row][empty], cache.total[row][empty] = 0, 0


def _unit(cache: Cache, index: Index) -> tuple[float, Callable[..., Array], float | None]:
    """Return how the weights of one pair are computed: (unit, exponential, shift).

    Scores of moderate size need no reference subtracted (a shift of 0).  And if nothing but the
    scale happens to them, they are computed in units of log 2, at no cost, because the power of
    2 is the faster exponential.
    """
    if index not in cache.bounded:
        cache.bounded[index] = _bounded(cache.operands, index)
    if not cache.bounded[index]:
        return 1.0, np.exp, None
    plain = cache.operands.softcap is None and cache.operands.query.itemsize <= 8
    return (LOG2E, np.exp2, 0.0) if plain else (1.0, np.exp, 0.0)


def _bounded(operands: Operands, index: Index) -> bool:
    """Tell whether the scores of one pair are so moderate that no reference need be subtracted.

    By Cauchy and Schwarz no score is larger than |scale| · max |query| · max |key|.  Neither the
    exponentials of such scores, nor their sums, nor their products with value may leave the range
    in which the dtype has its full precision.
    """
    mask = operands.masking.mask
    if mask is not None and mask.dtype != bool:
        return False
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    largest = (np.vecdot(query, query).max() * np.vecdot(key, key).max()) ** 0.5
    bound = abs(operands.scale) * float(largest)
    if operands.softcap is not None:
        bound = min(bound, operands.softcap)
    size = max(float(value.max(initial=0)), -float(value.min(initial=0))) or 1.0
    room = math.log(np.finfo(query.dtype).max) - math.log(len(key)) - abs(math.log(size))
    return bound < 0.8 * room  # False for NaN


def backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``mask_gradient``."""
    operands, threads = cache.operands, cache.threads
    dquery, dkey, dvalue = (np.zeros(x.shape, x.dtype) for x in operands[:3])
    gradients = dquery, dkey, dvalue
    # With fewer pairs than threads, several threads share the query blocks of a pair.
    pairs = math.prod(operands.lead)
    parts = threads if pairs < 4 * threads and pairs % threads else 1
    all_blocks = list(_blocks(0, operands.query.shape[-2], cache.tile[0]))
    lock = Lock()
    pair = lru_cache(threads + 1)(partial(_pair, operands, ones=True))
    scratch = Scratch(cache.tile, dout.dtype), Scratch(cache.tile, dout.dtype)
    tasks = [
        partial(
            _backward, dout, cache, index, all_blocks[part::parts], pair, gradients, scratch, lock
        )
        for index in np.ndindex(operands.lead)
        for part in range(parts)
    ]
    run(tasks, threads)
    return gradients


def _backward(
    dout: Array,
    cache: Cache,
    index: Index,
    row_blocks: list[slice],
    pair: Pair,
    gradients: tuple[Array, Array, Array],
    scratch: tuple[Scratch, Scratch],
    lock: Lock,
) -> None:
    """Add what some query blocks of one (batch, head) pair contribute to all gradients."""
    operands, out = cache.operands, cache.out
    assert out is not None  # this engine keeps it
    scale, softcap = operands.scale, operands.softcap
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    _, key_one, value_one = pair(index)
    sum_dquery, sum_dkey, sum_dvalue = (x[pick(index, x.shape)] for x in gradients)
    dkey, dvalue = np.zeros_like(key), np.zeros_like(value)
    unit, exp, fixed = _unit(cache, index)
    # A column beside query that meets the column of ones beside key subtracts for nothing; but
    # only moderate scores are as exact that way.
    fold = fixed is not None and softcap is None
    for rows in row_blocks:
        row = (*index, rows)
        # weights = exp(scores − shift) / total, and the division is cheaper done to dout
        total = cache.total[row][:, None]
        shift = cache.shift[row][:, None] * unit
        q, do = query[rows], dout[row] / np.where(total == 0, 1, total)
        delta = np.vecdot(do, out[row])[:, None]
        scaled = q * (scale * unit)
        scaled_shift = np.concatenate([scaled, -shift if fold else 0 * shift], axis=1)
        do_delta = np.concatenate([do, -delta], axis=1)
        dq = np.zeros_like(q)
        for keys, bias, seen in _tiles(operands, index, rows, cache.tile[1]):
            seen_by = None if seen is None else seen.T
            shape = _shape(rows, keys)
            weights = blocks.scores(
                scaled_shift,
                key_one[keys],
                softcap=softcap,
                bias=bias,
                seen=seen,
                out=scratch[0](*shape),
            )
            if not fold:
                weights -= shift
            exp(weights, out=weights)
            dvalue[keys] += blocks.product(weights.T, do, seen_by)
            dscores = np.matmul(do_delta, value_one[keys].T, out=scratch[1](*shape))
            dscores *= weights
            if seen is not None:
                np.copyto(dscores, 0, where=~seen)  # what is hidden may hold NaN
            if cache.mask_gradient is not None:
                place = tile_of(cache.mask_gradient, rows, keys, index)
                with lock:
                    place += blocks.sum_to(dscores, place.shape)
            if softcap is not None:
                dscores *= blocks.softcap_slope(
                    blocks.scores(q * scale, key[keys], seen=seen, out=weights), softcap
                )
            dq += blocks.product(dscores, key[keys], seen)
            dkey[keys] += blocks.product(dscores.T, q, seen_by)
        dq *= scale
        with lock:
            sum_dquery[rows] += dq
    dkey *= scale
    with lock:
        sum_dkey += dkey
        sum_dvalue += dvalue


def _pair(operands: Operands, index: Index, ones: bool = False) -> tuple[Array, Array, Array]:
    """Return query, key and value of one pair, laid out for the products of the tiles.

    With `ones`, key and value have one more column, of ones.
    """
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    if ones:
        return query, _columns(key, ones), _columns(value, ones)
    # Not worth a copy for a few queries.
    return query, _columns(key) if len(query) >= TILE[0] else key, value


def _columns(x: Array, ones: bool = False) -> Array:
    """Return a copy of `x` whose columns lie in one piece, which products with xᵀ prefer."""
    steps, size = x.shape
    result = np.ones((size + ones, steps), x.dtype)
    for part in _blocks(0, steps, 128):  # a square that stays in cache while it is turned
        result[:size, part] = x[part].T
    return result.T


def _tiles(
    operands: Operands, index: Index, rows: slice, step: int
) -> Iterator[tuple[slice, Array | None, Array | None]]:
    """Yield (keys, bias, seen) of the tiles in which some query of `rows` sees some key."""
    masking = operands.masking
    reach = masking.keys(rows, operands.key.shape[-2])
    for keys in _blocks(reach.start, reach.stop, step):
        bias, seen = masking.tile(rows, keys, index)
        if seen is None or seen.any():
            yield keys, bias, seen


def _blocks(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))


def _shape(rows: slice, keys: slice) -> tuple[int, int]:
    return rows.stop - rows.start, keys.stop - keys.start
