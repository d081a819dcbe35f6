"""The direct engine: all weights materialised, in batched matrix products.

The formulas as they stand, so this is the engine to read first; it is also the faster one as long
as the weights of one piece fit the processor's cache.
"""

from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.attention.blocks import product, scores, softcap_slope, sum_to
from attncli.attention.cache import Cache
from attncli.attention.inputs import Operands
from attncli.attention.masks import Index, pick
from attncli.attention.sizes import weights_nbytes
from attncli.attention.threads import run

Array = NDArray[Any]

# Weights of one piece, in bytes: what stays in a core's own cache from one pass to the next.
PIECE = 1 << 20


def forward(operands: Operands, threads: int = 1) -> tuple[Array, Cache]:
    """Return (out, cache), in the shapes of the operands."""
    query, key, value = operands[:3]
    rows = (*operands.lead, query.shape[-2])
    out = np.empty((*rows, value.shape[-1]), query.dtype)
    cache = Cache(
        operands,
        engine="direct",
        threads=threads,
        shift=np.empty(rows, query.dtype),
        total=np.empty(rows, query.dtype),
        kept=np.empty((*rows, key.shape[-2]), query.dtype),
        normalised=True,
    )
    if out.size or cache.total.size:
        run([partial(_forward, cache, out, index) for index in _pieces(cache)], threads)
    return out, cache


def backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Return (dquery, dkey, dvalue) in the shapes of the operands; adds to ``mask_gradient``."""
    pieces = _pieces(cache)
    if len(pieces) == 1:
        dquery, dkey, dvalue, dmask = _backward(dout, cache, ())
        cache.mask_gradient = dmask
        return dquery, dkey, dvalue

    sums = [np.zeros(x.shape, x.dtype) for x in cache.operands[:3]]
    lock = Lock()

    def add(index: Index) -> None:
        parts = _backward(dout, cache, index)
        for whole, part in zip((*sums, cache.mask_gradient), parts, strict=True):
            if whole is not None and part is not None:
                with lock:  # pieces share what is broadcast over them
                    whole[pick(index, whole.shape)] += part

    run([partial(add, index) for index in pieces], cache.threads)
    return sums[0], sums[1], sums[2]


def _forward(cache: Cache, out: Array, index: Index) -> None:
    at = partial(_at, index)
    query, key, value = map(at, cache.operands[:3])
    masking, scale, softcap = cache.operands[3:6]
    bias, seen = masking.tile(slice(0, query.shape[-2]), slice(0, key.shape[-2]), index)

    weights = at(cache.kept)
    scores(query * scale, key, softcap=softcap, bias=bias, seen=seen, out=weights)
    shift = np.maximum.reduce(weights, axis=-1, out=at(cache.shift))
    if seen is not None:
        shift[shift == -np.inf] = 0  # the query sees no key: −inf − (−inf) would be NaN
    weights -= shift[..., None]
    np.exp(weights, out=weights)
    total = np.add.reduce(weights, axis=-1, out=at(cache.total))
    weights /= (total if seen is None else np.where(total == 0, 1, total))[..., None]
    product(weights, value, seen, out=at(out))


def _backward(dout: Array, cache: Cache, index: Index) -> tuple[Array, Array, Array, Array | None]:
    at = partial(_at, index)
    query, key, value = map(at, cache.operands[:3])
    masking, scale, softcap = cache.operands[3:6]
    bias, seen = masking.tile(slice(0, query.shape[-2]), slice(0, key.shape[-2]), index)
    seen_by = None if seen is None else seen.swapaxes(-1, -2)
    weights, dout = at(cache.kept), at(dout)

    dvalue = product(weights.swapaxes(-1, -2), dout, seen_by)
    dweights = dout @ value.swapaxes(-1, -2)
    if seen is not None:
        np.copyto(dweights, 0, where=~seen)  # what is hidden may hold NaN
    dscores = dweights
    dscores -= np.vecdot(weights, dweights)[..., None]
    dscores *= weights
    dmask = None if bias is None else sum_to(dscores, bias.shape)
    if softcap is not None:
        dscores = dscores * softcap_slope(scores(query * scale, key, seen=seen), softcap)
    dquery = product(dscores, key, seen)
    dkey = product(dscores.swapaxes(-1, -2), query, seen_by)
    dquery *= scale
    dkey *= scale
    return (
        sum_to(dquery, query.shape),
        sum_to(dkey, key.shape),
        sum_to(dvalue, value.shape),
        dmask,
    )


def _at(index: Index, x: Array | None) -> Array:
    assert x is not None  # the direct engine keeps the weights
    return x[pick(index, x.shape)] if index else x


def _pieces(cache: Cache) -> list[Index]:
    """Divide the work along the longest leading axis, into pieces whose weights stay in cache."""
    lead = cache.operands.lead
    size = weights_nbytes(cache.operands)
    if not lead or (size <= PIECE and cache.threads == 1):
        return [()]
    axis = lead.index(max(lead))
    step = max(1, min(lead[axis] * PIECE // size, -(-lead[axis] // cache.threads)))
    return [
        (slice(None),) * axis + (slice(start, start + step),)
        for start in range(0, lead[axis], step)
    ]
