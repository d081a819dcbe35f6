"""The direct engine: all weights materialised, in batched matrix products.

The formulas as they stand, so this is the engine to read first; it is also the faster one as long
as the weights of one piece fit the processor's cache.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.attention.blocks import product, scores, softcap_slope, sum_to
from attncli.attention.buffers import empty, together
from attncli.attention.cache import Cache
from attncli.attention.inputs import Operands
from attncli.attention.masks import Index, pick
from attncli.attention.sizes import weights_nbytes
from attncli.attention.threads import run

# Weights of one piece, in bytes: what stays in a core's own cache from one pass to the next.
PIECE = 1 << 20

# How far below the maximum of all scores that of a query may lie before it needs its own: the
# difference to it is rounded, and should not be rounded more than the scores are already.
NEAR = 16.0

# Bytes of weights times the lengths of their products, from where a second thread saves more time
# than it takes to start.
WORTH_A_THREAD = 1 << 26


def forward(operands: Operands, threads: int = 1, out: Array | None = None) -> tuple[Array, Cache]:
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
        kept=empty((*rows, key.shape[-2]), query.dtype),
        normalised=True,
    )
    if out.size or cache.total.size:
        run([partial(_forward, cache, out, index) for index in _pieces(cache)], threads)
    return out, cache


def backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``mask_gradient``."""
    operands = cache.operands
    full = together([(*operands.lead, *x.shape[-2:]) for x in operands[:3]], dout.dtype)
    dbias = np.empty_like(cache.kept) if operands.masking.adds else None
    pieces = _pieces(cache)
    run([partial(_backward, dout, cache, full, dbias, index) for index in pieces], cache.threads)
    if dbias is not None and operands.masking.mask is not None:
        cache.mask_gradient = sum_to(dbias, operands.masking.mask.shape)
    dquery, dkey, dvalue = (
        sum_to(x, operand.shape) for x, operand in zip(full, operands[:3], strict=True)
    )
    return dquery, dkey, dvalue


def _forward(cache: Cache, out: Array, index: Index) -> None:
    query, key, value, weights, shift, total, out = _at(
        index, *cache.operands[:3], cache.kept, cache.shift, cache.total, out
    )
    masking, scale, softcap = cache.operands[3:6]
    bias, seen = masking.tile(slice(0, query.shape[-2]), slice(0, key.shape[-2]), index)

    options: dict[str, Any] = {"scale": scale, "softcap": softcap, "bias": bias, "seen": seen}
    scores(query, key, **options, out=weights)
    one_for_all = False
    if seen is None:  # the maximum of all scores is found ten times as fast as one for each query
        top = np.maximum.reduce(weights, axis=None)
        one_for_all = top < NEAR
    if one_for_all:
        _exponentials(weights, top, shift, total)
        one_for_all = np.minimum.reduce(total, axis=None) > math.exp(-NEAR)
        if not one_for_all:  # the maximum of some query is far below it
            scores(query, key, **options, out=weights)
    if not one_for_all:
        top = np.maximum.reduce(weights, axis=-1, keepdims=True)
        if seen is not None:
            top[top == -np.inf] = 0  # the query sees no key: −inf − (−inf) would be NaN
        _exponentials(weights, top, shift, total)
    weights /= (total if seen is None else np.where(total == 0, 1, total))[..., None]
    product(weights, value, seen, out=out)


def _exponentials(scores: Array, top: Array, shift: Array, total: Array) -> None:
    """Overwrite scores with exp(score − top), and keep what was subtracted and their sums."""
    shift[..., None] = top
    scores -= top
    np.exp(scores, out=scores)
    np.add.reduce(scores, axis=-1, out=total)


def _backward(
    dout: Array, cache: Cache, gradients: list[Array], dbias: Array | None, index: Index
) -> None:
    query, key, value, dquery, dkey, dvalue, weights, dout = _at(
        index, *cache.operands[:3], *gradients, cache.kept, dout
    )
    masking, scale, softcap = cache.operands[3:6]
    _, seen = masking.tile(slice(0, query.shape[-2]), slice(0, key.shape[-2]), index)
    seen_by = None if seen is None else seen.swapaxes(-1, -2)

    product(weights.swapaxes(-1, -2), dout, seen_by, out=dvalue)
    dweights = dout @ value.swapaxes(-1, -2)
    if seen is not None:
        np.copyto(dweights, 0, where=~seen)  # what is hidden may hold NaN
    dscores = dweights
    dscores -= np.vecdot(weights, dweights)[..., None]
    dscores *= weights
    if dbias is not None:
        _at(index, dbias)[0][...] = dscores
    if softcap is not None:
        dscores *= softcap_slope(scores(query, key, scale=scale, seen=seen), softcap)
    dscores *= scale
    product(dscores, key, seen, out=dquery)
    product(dscores.swapaxes(-1, -2), query, seen_by, out=dkey)


def _at(index: Index, *arrays: Array | None) -> list[Any]:
    """Return the piece of each array that lies at `index`, on the leading axes they have."""
    if not index:
        return list(arrays)
    return [x[pick(index, x.shape)] for x in arrays if x is not None]


def _pieces(cache: Cache) -> list[Index]:
    """Divide the work along the longest leading axis, into pieces whose weights stay in cache."""
    operands, lead = cache.operands, cache.operands.lead
    size = weights_nbytes(operands)
    widths = operands.key.shape[-1] + operands.value.shape[-1]
    threads = cache.threads if size * widths > WORTH_A_THREAD else 1
    if not lead or (size <= PIECE and threads == 1):
        return [()]
    axis = lead.index(max(lead))
    step = max(1, min(lead[axis] * PIECE // size, -(-lead[axis] // threads)))
    return [
        (slice(None),) * axis + (slice(start, start + step),)
        for start in range(0, lead[axis], step)
    ]
