"""Whole (batch, head) pairs at a time, in batched matrix products.

The formulas as they stand, so this is the way to read first; it is also the faster one as long as
the weights of a pair fit the processor's cache.  Asked not to keep the weights, it has those of a
few pairs at a time, and backward computes them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.core import blocks, products
from attncli.core.buffers import empty, together
from attncli.core.cache import Cache
from attncli.core.moderate import Hope, are_small, in_range, unit_of
from attncli.core.operands import Operands
from attncli.core.progress import steps
from attncli.core.threads import run
from attncli.core.visibility import Index, Tile, pick

# Weights of one piece, in bytes: what stays in a core's own cache from one pass to the next.
PIECE = 1 << 20

# Bytes of weights up to which a try whether the scores are moderate takes longer than it saves.
SMALL = 1 << 14

# Bytes of weights times the lengths of their products, from where a second thread saves more time
# than it takes to start.
WORTH_A_THREAD = 1 << 26


def forward(
    operands: Operands, threads: int = 1, keep: bool = True, out: Array | None = None
) -> tuple[Array, Cache]:
    """Return (out, cache), in the shapes of the operands."""
    query, key, value = operands[:3]
    rows = (*operands.lead, query.shape[-2])
    if out is None:
        out = empty((*rows, value.shape[-1]), query.dtype)
    cache = Cache(
        operands,
        engine="direct",
        threads=threads,
        shift=np.empty(rows, query.dtype),
        total=np.empty(rows, query.dtype),
        kept=empty((*rows, key.shape[-2]), query.dtype) if keep else None,
        # Or else out is divided, and dout: that is less work if they are smaller than the weights.
        normalised=key.shape[-2] <= 2 * value.shape[-1],
    )
    if out.size or cache.total.size:
        _run(cache, _forward, out, Hope(operands.weights_nbytes > SMALL))
    return out, cache


def backward(
    dout: Array, cache: Cache, dlogsumexp: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``bias_gradients``."""
    operands = cache.operands
    gradients = together([x.shape for x in operands[:3]], dout.dtype)
    shared = [x.shape[:-2] != operands.lead for x in gradients]
    for gradient, several_add in zip(gradients, shared, strict=True):
        if several_add:
            gradient[...] = 0
    _run(cache, _backward, dout, dlogsumexp, gradients, shared, Lock())
    dquery, dkey, dvalue = gradients
    return dquery, dkey, dvalue


def _forward(cache: Cache, out: Array, hope: Hope, index: Index) -> None:
    query, key, value, shift, total, out = _at(
        index, *cache.operands[:3], cache.shift, cache.total, out
    )
    sinks, keep, spare = cache.operands.sinks, cache.operands.keep, cache.kept is not None
    if sinks is not None:
        sinks = sinks[pick(index, sinks.shape)]
    if keep is not None:
        keep = keep[pick(index, keep.shape)]
    _, seen = tile = _tile(cache.operands, index)
    weights = _weights(cache, index, shift)
    moderate = False
    if hope:
        unit, exp = unit_of(cache.operands, moderate=True)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not moderate is done again
            _scores(cache.operands, query, key, tile, weights, moderate=True, unit=unit)
            total[...], shift[...] = blocks.exponentials(weights, seen=seen, shift=0.0, exp=exp)
            moderate = in_range(total, seen)
            if moderate and sinks is not None:
                total += np.exp(sinks)
                moderate = in_range(total)
            if moderate and not cache.normalised:
                left = weights if keep is None else blocks.dropped(weights, keep, spare)
                blocks.product(left, value, seen, out=out)
                moderate = math.isfinite(products.sum_of_squares(out))
        hope.learn(moderate)
    if not moderate:
        _scores(cache.operands, query, key, tile, weights)
        if weights.nbytes <= SMALL and sinks is None and are_small(weights):
            shift[...] = 0
        else:
            top = np.maximum.reduce(weights, axis=-1, keepdims=True)
            if sinks is not None:
                np.maximum(top, sinks[..., None], out=top)
            if seen is not None and (lowest := top == -np.inf).any():
                # NaN, as −inf − (−inf) is, is right where scores overflowed, not where there are
                # none.
                top[lowest & ~seen.any(axis=-1, keepdims=True)] = 0
            shift[..., None] = top
            weights -= top
        np.exp(weights, out=weights)
        np.add.reduce(weights, axis=-1, out=total)
        if sinks is not None:
            total += np.exp(sinks - shift)
    sums = _sums(total, seen)
    if moderate and not cache.normalised:
        out /= sums
        return
    weights /= sums
    left = weights if keep is None else blocks.dropped(weights, keep, spare)
    blocks.product(left, value, seen, out=out)
    if not (cache.normalised or cache.kept is None):
        weights *= sums


def _backward(
    cache: Cache,
    dout: Array,
    dlogsumexp: Array | None,
    gradients: list[Array],
    shared: list[bool],
    lock: Lock,
    index: Index,
) -> None:
    query, key, value, dquery, dkey, dvalue, shift, total, dout = _at(
        index, *cache.operands[:3], *gradients, cache.shift, cache.total, dout
    )
    scale, softcap = cache.operands.scale, cache.operands.softcap
    keep = cache.operands.keep
    if keep is not None:
        keep = keep[pick(index, keep.shape)]
    _, seen = tile = _tile(cache.operands, index)
    seen_by = None if seen is None else seen.swapaxes(-1, -2)
    weights = _weights(cache, index, shift)
    if cache.kept is None:
        moderate = not shift.any()
        unit, exp = unit_of(cache.operands, moderate)
        _scores(cache.operands, query, key, tile, weights, moderate=moderate, unit=unit)
        if not moderate:
            weights -= shift[..., None]
        exp(weights, out=weights)
        if moderate and seen is not None:
            np.copyto(weights, 0, where=~seen)
        if cache.normalised:
            weights /= _sums(total, seen)
    if not cache.normalised:
        sums = _sums(total, seen)
        dout = dout / sums

    left = weights if keep is None else blocks.dropped(weights, keep, spare=True)
    _add(dvalue, lock if shared[2] else None, left.swapaxes(-1, -2), dout, seen_by)
    # The gradient of what is added is that of the scaled scores.  Otherwise scaling may come early.
    adds = cache.operands.visibility.adds
    early = not adds and key.shape[-2] > value.shape[-1] and cache.delta is None
    if early:
        dout = dout * scale
    dweights = products.matmul(dout, value.swapaxes(-1, -2))
    if seen is not None:
        np.copyto(dweights, 0, where=~seen)  # what is hidden may hold NaN
    if keep is not None:
        np.copyto(dweights, 0, where=~keep)
    dscores = dweights
    delta = products.vecdot(weights, dweights)[..., None]
    if cache.delta is not None:
        of_rows = cache.delta[pick(index, cache.delta.shape)]
        of_rows[...] = delta[..., 0]
    if not cache.normalised:
        delta /= sums
    if dlogsumexp is not None:
        term = dlogsumexp[pick(index, dlogsumexp.shape)][..., None] * (scale if early else 1)
        delta -= term if cache.normalised else term / sums
    dscores -= delta
    dscores *= weights
    if adds:
        every = slice(0, query.shape[-2]), slice(0, key.shape[-2])
        with lock:
            cache.operands.visibility.add_gradients(cache.bias_gradients, dscores, *every, index)
    if softcap is not None:
        room = empty(weights.shape, weights.dtype)
        uncapped = blocks.scores(query, key, scale=scale, seen=seen, out=room)
        dscores *= blocks.softcap_slope(uncapped, softcap)
    if not early:
        dscores *= scale
    _add(dquery, lock if shared[0] else None, dscores, key, seen)
    _add(dkey, lock if shared[1] else None, dscores.swapaxes(-1, -2), query, seen_by)


def _add(
    gradient: Array, lock: Lock | None, first: Array, second: Array, seen: Array | None
) -> None:
    """Write a product where a gradient goes, or add it there if that takes a lock."""
    if lock is None:
        blocks.product(first, second, seen, out=gradient)
        return
    term = blocks.product(first, second, seen)
    with lock:
        gradient += blocks.sum_to(term, gradient.shape)


def _scores(
    operands: Operands,
    query: Array,
    key: Array,
    tile: Tile,
    out: Array,
    *,
    moderate: bool = False,
    unit: float = 1.0,
) -> None:
    """Compute the scores of a piece, −inf where hidden unless they are moderate."""
    scale, (bias, seen) = operands.scale * unit, tile
    wide = key.shape[-2] > query.shape[-1]  # fewer numbers to scale before the product than after
    if wide:
        query = query * scale
    blocks.scores(
        query,
        key,
        scale=None if wide else scale,
        softcap=operands.softcap,
        bias=bias,
        seen=None if moderate else seen,
        out=out,
    )


def _tile(operands: Operands, index: Index) -> Tile:
    """Return (bias, seen) of a piece."""
    return operands.visibility.whole(index) if operands.visibility else (None, None)


def _sums(total: Array, seen: Array | None) -> Array:
    """Return what weights are divided by to sum to 1; 1 for a query that sees no key."""
    return (total if seen is None else np.where(total == 0, 1, total))[..., None]


def _weights(cache: Cache, index: Index, shift: Array) -> Array:
    """Return where the weights of a piece lie, or room for them."""
    if cache.kept is None:
        return empty((*shift.shape, cache.operands.key.shape[-2]), shift.dtype)
    return cache.kept[pick(index, cache.kept.shape)] if index else cache.kept


def _at(index: Index, *arrays: Array) -> Sequence[Any]:
    """Return the piece of each array that lies at `index`, on the leading axes they have."""
    if not index:
        return arrays
    leads = {x.shape[: len(index)] for x in arrays}  # few, and each is many arrays'
    picked = {lead: pick(index, lead) for lead in leads}
    return [x[picked[x.shape[: len(index)]]] for x in arrays]


def _run(cache: Cache, work: Callable[..., object], *arguments: object) -> None:
    """Do a piece of work at every index."""
    pieces = _pieces(cache)
    if len(pieces) == 1:
        work(cache, *arguments, pieces[0])
    else:
        tasks = [partial(work, cache, *arguments, index) for index in pieces]
        run(tasks, cache.threads, steps(len(pieces)))


def _pieces(cache: Cache) -> list[Index]:
    """Divide the work into pieces, each of pairs that follow each other and stay in cache."""
    operands, lead = cache.operands, cache.operands.lead
    (T_dec, H), (T_enc, H_v) = operands.query.shape[-2:], operands.value.shape[-2:]
    pairs, widths = math.prod(lead), H + H_v
    size = pairs * T_dec * T_enc * operands.query.itemsize
    tensors = pairs * max(T_dec, T_enc) * widths * operands.query.itemsize
    if size <= PIECE and tensors <= PIECE and size * widths <= WORTH_A_THREAD:
        return [()]
    threads = cache.threads if size * widths > WORTH_A_THREAD else 1
    if any(x.shape[:-2] != lead for x in operands[:3]):
        # What pairs share gets a gradient from each of them, and these should stay small as well.
        size = max(size, tensors)
    if not lead or (size <= PIECE and threads == 1):
        return [()]
    count = max(1, min(pairs * PIECE // size, -(-pairs // threads)))
    # Of the axes before this one every place is a piece of its own; those after it are whole.
    axis = next(at for at in range(len(lead)) if math.prod(lead[at + 1 :]) <= count)
    step = count // math.prod(lead[axis + 1 :])
    return [
        (*outer, slice(start, start + step))
        for outer in np.ndindex(lead[:axis])
        for start in range(0, lead[axis], step)
    ]
