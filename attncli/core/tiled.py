"""The tiled engine: one block of queries at a time, and the keys it sees tile by tile.

No thread ever holds more than a tile of weights, so memory is linear in T: backward visits the
same tiles and computes their weights again from what forward kept of each row.  Asked to keep the
weights, it leaves the tiles in one large array instead, and backward has one product less to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.core import blocks, buffers, products
from attncli.core.cache import Cache
from attncli.core.moderate import in_range, unit_of
from attncli.core.operands import Operands
from attncli.core.progress import steps
from attncli.core.threads import Scratch, run
from attncli.core.tiles import TILE, SeenTile, aligned, blocks_of, tiles
from attncli.core.visibility import Index, pick, tile_of


def forward(
    operands: Operands,
    threads: int = 1,
    tile: tuple[int, int] | None = None,
    keep: bool = False,
    out: Array | None = None,
) -> tuple[Array, Cache]:
    """Return (out, cache), in the shapes of the operands."""
    query, key, value = operands[:3]
    tile = tile or TILE
    rows = (*operands.lead, query.shape[-2])
    same_out = out
    if out is None:
        out = buffers.empty((*rows, value.shape[-1]), query.dtype)
        # The caller may write into what is returned, and backward needs it as it is.
        same_out = buffers.empty(out.shape, out.dtype)
    cache = Cache(
        operands,
        engine="tiled",
        threads=threads,
        shift=np.empty(rows, query.dtype),
        total=np.empty(rows, query.dtype),
        out=same_out,
        tile=tile,
        moderate=np.empty(rows, bool),
    )
    if keep:  # tiles that nobody sees are not visited
        count, step = -(-key.shape[-2] // tile[1]), min(tile[1], key.shape[-2])
        cache.kept = buffers.empty((*operands.lead, count, rows[-1], step), query.dtype)
        if operands.visibility:
            cache.kept[...] = 0
        else:
            cache.kept[..., -1, :, (key.shape[-2] - 1) % step + 1 :] = 0  # beyond the last key
    scratch = Scratch(tile, query.dtype), Scratch((tile[0], value.shape[-1]), query.dtype)
    all_blocks = list(blocks_of(0, rows[-1], tile[0]))
    # Later queries may see more keys: nobody should end with the longest.
    if operands.visibility.by_step:
        all_blocks.reverse()
    tasks = [
        partial(_forward, cache, out, index, block, scratch)
        for index in np.ndindex(operands.lead)
        for block in all_blocks
    ]
    run(tasks, threads, steps(len(tasks)))
    return out, cache


def _forward(
    cache: Cache,
    out: Array,
    index: Index,
    rows: slice,
    scratch: tuple[Scratch, Scratch],
) -> None:
    """Compute what one block of queries of one (batch, head) pair attends to."""
    operands, row, same_out = cache.operands, (*index, rows), cache.out
    assert same_out is not None
    assert cache.moderate is not None  # this engine keeps both
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    sinks = _sinks(operands, (*index, rows))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not moderate is done again
        done = _partial(cache, index, rows, (query, key, value), scratch, moderate=True)
        # One infinity or NaN is enough to show in the product, and no large sum does harm.
        moderate = done is None or (
            in_range(done.total, _seen(operands, index, rows, done.total))
            and math.isfinite(products.sum_of_squares(done.out))
        )
        if moderate and done is not None and sinks is not None:
            done.total[...] += np.exp(sinks)
            moderate = in_range(done.total)
    shrunk = 1.0
    if not moderate:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is done again
            done = _partial(cache, index, rows, (query, key, value), scratch, moderate=False)
        if done is not None and not np.isfinite(done.out).all():
            # Values may be so large that their sum overflows, though their mean does not.
            shrunk = 2.0 ** -len(value).bit_length()
            done = _partial(cache, index, rows, (query, key, value * shrunk), scratch, False)
        if done is not None and sinks is not None:
            done.total[...] += np.exp(sinks - done.shift)
    cache.moderate[row] = moderate
    if done is None:
        out[row], same_out[row], cache.shift[row], cache.total[row] = 0, 0, 0, 0
        if sinks is not None:
            cache.shift[row], cache.total[row] = sinks, 1
            cache.moderate[row] = False
        return
    if not done.total.all():  # nothing was seen, or all that was overflowed to −inf
        seen, overflowed = _seen(operands, index, rows, done.total), done.total == 0
        done.total[overflowed if seen is None else overflowed & seen.any(axis=-1)] = np.nan
    blocks.divide(done.out, done.total, out=same_out[row])
    if shrunk != 1:
        same_out[row] /= shrunk
    if out is not same_out:
        out[row] = same_out[row]
    cache.shift[row], cache.total[row] = done.shift, done.total
    if operands.visibility:
        nothing = done.total == 0
        cache.shift[row][nothing], cache.total[row][nothing] = 0, 0


def _sinks(operands: Operands, row: Index) -> Array | None:
    """Return the sinks of some queries, one for each or for all."""
    return None if operands.sinks is None else operands.sinks[pick(row, operands.sinks.shape)]


def _keep(operands: Operands, rows: slice, keys: slice, index: Index) -> Array | None:
    """Return which weights of a tile stay, if dropout takes any."""
    return None if operands.keep is None else tile_of(operands.keep, rows, keys, index)


def _seen(operands: Operands, index: Index, rows: slice, total: Array) -> Array | None:
    """Return which keys these queries see, if it matters: if some seem to see none."""
    if not operands.visibility or total.all():
        return None
    return operands.visibility.tile(rows, slice(0, operands.key.shape[-2]), index)[1]


def _partial(
    cache: Cache,
    index: Index,
    rows: slice,
    pair: tuple[Array, Array, Array],
    scratch: tuple[Scratch, Scratch],
    moderate: bool,
) -> blocks.Partial | None:
    """Return the partial result of a block of queries for all keys; None if they see no tile.

    Moderate scores need no reference subtracted from them, which saves passes over them.
    """
    operands, (query, key, value) = cache.operands, pair
    unit, exp = unit_of(operands, moderate)
    query = query[rows] * (operands.scale * unit)
    done = None
    assert cache.out is not None  # this engine keeps it
    place = cache.out[(*index, rows)]
    spare = cache.kept is not None
    whole, least = spare and not moderate, _sinks(operands, (*index, rows))
    for tile in tiles(
        operands.visibility,
        cache.tile[1],
        index,
        rows,
        whole_rows=not moderate,
        whole_keys=whole,
    ):
        keys, seen = tile.keys, tile.seen
        weights = blocks.scores(
            query[tile.inside],
            key[keys],
            softcap=operands.softcap,
            bias=tile.bias,
            seen=None if moderate else seen,
            out=_place(cache, scratch[0], (*index, tile.rows), keys),
        )
        keep = _keep(operands, tile.rows, keys, index)
        if not moderate:
            part = blocks.partial(
                weights, value[keys], seen=seen, least=least, keep=keep, spare=spare
            )
            done = part if done is None else blocks.merge(done, part)
            if cache.kept is not None:  # all keys came at once: all tiles have one reference
                for some in aligned(keys, cache.tile[1]):
                    inside = slice(some.start - keys.start, some.stop - keys.start)
                    _place(cache, scratch[0], (*index, rows), some)[...] = weights[:, inside]
            continue
        # The same as merge, without new arrays: the first tile's sums lie where out will be.
        if done is None and tile.rows == rows:
            done = blocks.partial(
                weights, value[keys], seen=seen, shift=0.0, exp=exp,
                keep=keep, spare=spare, out=place,
            )  # fmt: skip
            continue
        if done is None:
            place[...] = 0
            done = blocks.Partial(place, np.zeros(len(query), query.dtype), 0.0)
        out, total = done.out[tile.inside], done.total[tile.inside]
        part = blocks.partial(
            weights, value[keys], seen=seen, shift=0.0, exp=exp,
            keep=keep, spare=spare, out=scratch[1](out.shape),
        )  # fmt: skip
        np.add(out, part.out, out=out)
        np.add(total, part.total, out=total)
    return done


def backward(
    dout: Array, cache: Cache, dlogsumexp: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``bias_gradients``."""
    operands, threads = cache.operands, cache.threads
    gradients = buffers.together([x.shape for x in operands[:3]], dout.dtype)
    # With few pairs, several threads share the query blocks of each.
    pairs = math.prod(operands.lead)
    parts = threads if pairs < 4 * threads and pairs % threads else 1
    all_blocks = list(blocks_of(0, operands.query.shape[-2], cache.tile[0]))
    whole = [x.shape[:-2] == operands.lead for x in operands[:3]]
    shared = _Shared(
        gradients,
        Lock(),
        apart=(whole[0], parts == 1 and all(whole[1:])),
        value_one=lru_cache(threads + 1)(partial(_with_ones, operands.value)),
        scratch=tuple(Scratch((0,), dout.dtype) for _ in range(4)),
        step_done=steps(pairs * len(all_blocks)),
    )
    for gradient, apart in zip(gradients, (shared.apart[0], *2 * shared.apart[1:]), strict=True):
        if not apart or operands.visibility:
            gradient[...] = 0  # otherwise whoever comes first writes instead of adding
    tasks = [
        partial(_backward, dout, dlogsumexp, cache, shared, index, _share(all_blocks, part, parts))
        for index in np.ndindex(operands.lead)
        for part in range(parts)
    ]
    run(tasks, threads)
    dquery, dkey, dvalue = gradients
    return dquery, dkey, dvalue


def _share(blocks: list[slice], part: int, parts: int) -> list[slice]:
    """Return one part's share, dealt to and fro: under a band, later blocks are more work."""
    return blocks[part :: 2 * parts] + blocks[2 * parts - 1 - part :: 2 * parts]


class _Shared(NamedTuple):
    """What the tasks of one backward calculation share."""

    gradients: list[Array]
    lock: Lock
    apart: tuple[bool, bool]  # whether no two tasks add to the same queries; the same keys
    value_one: Callable[[Index], Array]
    scratch: tuple[Scratch, ...]  # for weights, their gradients, products, and rows of dout
    step_done: Callable[[], None]


def _backward(
    dout: Array,
    dlogsumexp: Array | None,
    cache: Cache,
    shared: _Shared,
    index: Index,
    row_blocks: list[slice],
) -> None:
    """Add what some query blocks of one (batch, head) pair contribute to all gradients."""
    operands = cache.operands
    assert cache.moderate is not None  # this engine keeps it
    scale, softcap = operands.scale, operands.softcap
    # Scaling is cheapest done to dout, but the gradient of a bias is that of the scaled scores.
    factor, late = (1.0, scale) if operands.visibility.adds else (scale, 1.0)
    query, key, value = (x[pick(index, x.shape)] for x in operands[:3])
    dquery, sum_dkey, sum_dvalue = (x[pick(index, x.shape)] for x in shared.gradients)
    value_one = shared.value_one(index)
    own_query, own_keys = shared.apart
    dkey, dvalue = sum_dkey, sum_dvalue
    if not own_keys:
        dkey, dvalue = np.zeros_like(key), np.zeros_like(value)
    for rows in row_blocks:
        row = (*index, rows)
        q = query[rows]
        moderate = bool(cache.moderate[row].all())
        do, do_delta = _shifted(dout, dlogsumexp, cache, row, factor, shared.scratch[3])
        again = None if cache.kept is not None else _again(cache, index, rows, moderate)
        dq = dquery[rows] if own_query else np.zeros_like(q)
        # The first queries are the first to add to their keys, if they see all of them.
        fresh = own_keys and rows is row_blocks[0] and not operands.visibility
        room = shared.scratch[2]
        for tile in tiles(operands.visibility, cache.tile[1], index, rows):
            keys, inside, seen = tile.keys, tile.inside, tile.seen
            seen_by = None if seen is None else seen.T
            weights = _place(cache, shared.scratch[0], (*index, tile.rows), keys)
            if again is not None:
                again(tile, weights)
            keep = _keep(operands, tile.rows, keys, index)
            left = weights if keep is None else blocks.dropped(weights, keep, spare=True)
            _add(dvalue[keys], left.T, do[inside], seen_by, room, fresh)
            dscores = shared.scratch[1](weights.shape)
            # The column of ones beside value subtracts delta for nothing.
            if keep is None:
                products.matmul(do_delta[inside], value_one[keys].T, out=dscores)
            else:  # delta is that of all weights, dropped or not
                products.matmul(do_delta[inside, :-1], value[keys].T, out=dscores)
                np.copyto(dscores, 0, where=~keep)
                dscores += do_delta[inside, -1:]
            dscores *= weights
            if seen is not None:
                np.copyto(dscores, 0, where=~seen)  # what is hidden may hold NaN
            if operands.visibility.adds:
                with shared.lock:
                    operands.visibility.add_gradients(
                        cache.bias_gradients, dscores, tile.rows, keys, index
                    )
            if softcap is not None:
                dscores *= blocks.softcap_slope(
                    blocks.scores(q[inside] * scale, key[keys], seen=seen), softcap
                )
            _add(dq[inside], dscores, key[keys], seen, room, keys.start == 0)
            _add(dkey[keys], dscores.T, q[inside], seen_by, room, fresh)
        if late != 1:
            dq *= late
        if not own_query:
            with shared.lock:
                dquery[rows] += dq
        shared.step_done()
    if late != 1:
        dkey *= late
    if not own_keys:
        with shared.lock:
            sum_dkey += dkey
            sum_dvalue += dvalue


def _shifted(
    dout: Array,
    dlogsumexp: Array | None,
    cache: Cache,
    row: Index,
    factor: float,
    scratch: Scratch,
) -> tuple[Array, Array]:
    """Return a block of dout, and `factor` times the same with a column of dlogsumexp − delta."""
    do, out = dout[row], cache.out
    assert out is not None  # this engine keeps it
    height, width = do.shape
    both = scratch((2 * width + 1, height))
    place, do_delta = both[:width].reshape(height, width), both[width:].reshape(height, width + 1)
    if not cache.normalised:  # cheaper done to dout than to the weights
        do = blocks.divide(do, cache.total[row], out=place)
    np.multiply(do, factor, out=do_delta[:, :width])
    last = do_delta[:, width]
    np.multiply(products.vecdot(do, out[row]), -factor, out=last)
    if cache.delta is not None:
        cache.delta[row] = products.vecdot(dout[row], out[row])
    if dlogsumexp is not None:
        term = factor * dlogsumexp[row]
        last += term if cache.normalised else blocks.divide(term[:, None], cache.total[row])[:, 0]
    return do, do_delta


def _add(
    total: Array,
    first: Array,
    second: Array,
    seen: Array | None,
    scratch: Scratch,
    untouched: bool,
) -> None:
    """Add the product to `total`, which is all 0 still if it is untouched."""
    if untouched:
        blocks.product(first, second, seen, out=total)
    else:
        total += blocks.product(first, second, seen, out=scratch(total.shape))


def _again(
    cache: Cache, index: Index, rows: slice, moderate: bool
) -> Callable[[SeenTile, Array], None]:
    """Return what computes the weights of a tile of these rows once more: exp(scores − shift)."""
    operands, (unit, exp) = cache.operands, unit_of(cache.operands, moderate)
    query = operands.query[pick(index, operands.query.shape)][rows] * (operands.scale * unit)
    shift = None if moderate else cache.shift[(*index, rows)][:, None]
    key = operands.key[pick(index, operands.key.shape)]

    def compute(tile: SeenTile, weights: Array) -> None:
        blocks.scores(
            query[tile.inside],
            key[tile.keys],
            softcap=operands.softcap,
            bias=tile.bias,
            seen=None if moderate else tile.seen,
            out=weights,
        )
        if shift is not None:
            np.subtract(weights, shift[tile.inside], out=weights)
        exp(weights, out=weights)
        if moderate and tile.seen is not None:
            np.copyto(weights, 0, where=~tile.seen)

    return compute


def _with_ones(value: Array, index: Index) -> Array:
    """Return a copy of one pair's values with one more column, of ones.

    Its columns lie each in one piece: products with its transpose prefer it so.
    """
    value = value[pick(index, value.shape)]
    steps, size = value.shape
    result = buffers.empty((size + 1, steps), value.dtype)
    result[size] = 1
    for part in blocks_of(0, steps, 64):  # stays in cache while it is turned
        result[:size, part] = value[part].T
    return result.T


def _place(cache: Cache, scratch: Scratch, row: Index, keys: slice) -> Array:
    """Return where the weights of a tile go, or lie."""
    *index, rows = row
    assert isinstance(rows, slice)
    step = cache.tile[1]
    at, start = divmod(keys.start, step)
    width = keys.stop - keys.start
    if cache.kept is None or start + width > step:
        return scratch((rows.stop - rows.start, width))
    return cache.kept[(*index, at, rows, slice(start, start + width))]
