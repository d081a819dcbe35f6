"""The tiled engine: never more than a tile of weights per thread, memory linear in T.

Forward visits one block of queries at a time, and the keys it sees tile by tile.  Backward
visits the same tiles and computes their weights again from the scores and logsumexp.
"""

import math
from collections.abc import Iterator
from functools import partial
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

# Queries × keys of a tile.  Measured: smaller ones starve the products, larger ones leave the
# core's own cache.
TILE = (256, 512)


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
        row_logsumexp=np.empty(rows, query.dtype),
        out=out,
        tile=tile,
    )
    scratch = Scratch(tile, query.dtype)
    tasks = [
        partial(_forward, cache, index, block, scratch)
        for index in np.ndindex(operands.lead)
        for block in _blocks(0, rows[-1], tile[0])
    ]
    run(tasks, threads)
    # The caller may write into what is returned, and backward needs it as it is.
    return (out.copy() if out.dtype == operands.dtype else out), cache


def _forward(cache: Cache, index: Index, rows: slice, scratch: Scratch) -> None:
    operands, out = cache.operands, cache.out
    assert out is not None  # this engine keeps it
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    query = query[rows] * operands.scale
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
        part = blocks.partial(weights, value[keys], seen=seen)
        done = part if done is None else blocks.merge(done, part)
    if done is None:
        out[index][rows], cache.row_logsumexp[index][rows] = 0, -np.inf
    else:
        out[index][rows], cache.row_logsumexp[index][rows] = blocks.finish(done)


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
    scratch = Scratch(cache.tile, dout.dtype), Scratch(cache.tile, dout.dtype)
    tasks = [
        partial(_backward, dout, cache, index, all_blocks[part::parts], gradients, scratch, lock)
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
    gradients: tuple[Array, Array, Array],
    scratch: tuple[Scratch, Scratch],
    lock: Lock,
) -> None:
    """Add what some query blocks of one (batch, head) pair contribute to all gradients."""
    operands, out = cache.operands, cache.out
    assert out is not None  # this engine keeps it
    scale, softcap = operands.scale, operands.softcap
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    sum_dquery, sum_dkey, sum_dvalue = (x[pick(index, x.shape)] for x in gradients)
    dkey, dvalue = np.zeros_like(key), np.zeros_like(value)
    for rows in row_blocks:
        q, do = query[rows], dout[index][rows]
        delta = np.vecdot(do, out[index][rows])[:, None]
        logsumexp = cache.row_logsumexp[index][rows, None]
        logsumexp = np.where(logsumexp == -np.inf, 0, logsumexp)
        dq = np.zeros_like(q)
        for keys, bias, seen in _tiles(operands, index, rows, cache.tile[1]):
            seen_by = None if seen is None else seen.T
            weights = blocks.scores(
                q * scale,
                key[keys],
                softcap=softcap,
                bias=bias,
                seen=seen,
                out=scratch[0](*_shape(rows, keys)),
            )
            weights -= logsumexp
            np.exp(weights, out=weights)
            dvalue[keys] += blocks.product(weights.T, do, seen_by)
            dscores = np.matmul(do, value[keys].T, out=scratch[1](*_shape(rows, keys)))
            dscores -= delta
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
