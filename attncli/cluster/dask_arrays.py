"""Attention on Dask arrays: a graph of parts, for whoever has a scheduler to compute it.

Nothing is computed before that scheduler is asked to; it may be Dask's threads, or the cluster
that somebody is connected to already.  Parts are cut where the arrays are in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Any, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from attncli.arrays import Array
from attncli.cluster.plan import BLOCK
from attncli.core.extras import Extras
from attncli.core.operands import Shape, fit
from attncli.core.parts import (
    Part,
    PartGradients,
    Partial,
    Whole,
    backward_part,
    forward_part,
    merge_parts,
)
from attncli.core.semantics import Semantics
from attncli.core.tiles import blocks_of
from attncli.core.visibility import Visibility
from attncli.errors import DtypeError, ParameterError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

DaskArray: TypeAlias = Any
Key = tuple[Any, ...]
Graph = dict[Key, Any]
Cut = list[slice]
Chunks = tuple[tuple[int, ...], ...]


@dataclass(repr=False)
class DaskCache:
    """A calculation that is laid out, and what backward needs of it.

    Attributes
    ----------
    logsumexp : dask array, shape (…, T_dec)
        log Σ exp(score) per query, in the dtype that is computed in; −inf for a row that sees
        nothing.
    dmask, dsinks, dalibi : dask array or None
        After `attention_backward`: the gradients of a float mask, of sinks and of slopes, in
        their own shapes.  None before, and where there are none.
    """

    whole: Whole
    cuts: tuple[tuple[Cut, ...], Cut, Cut]  # of the leading axes, the queries and the keys
    chunks: Mapping[str, Chunks]  # of every array and its gradient: the regions of parts
    arrays: Mapping[str, DaskArray]
    visibility: Visibility
    token: str
    graph: HighLevelGraph = field(init=False)  # whose last layer gives what queries attend to
    logsumexp: DaskArray = field(init=False)
    dmask: DaskArray | None = None
    dsinks: DaskArray | None = None
    dalibi: DaskArray | None = None

    def __repr__(self) -> str:
        lead, rows, keys = self.cuts
        T_dec, T_enc = self.whole.sizes
        shape = (*self.whole.lead, T_dec, T_enc)
        blocks = (*map(len, lead), len(rows), len(keys))
        return f"<DaskCache of {shape} weights, {self.whole.compute}, in {blocks} blocks>"

    def blocks(self) -> Iterator[tuple[Key, list[Part]]]:
        """Yield each block of queries: its place among them, and the parts in which it sees."""
        lead, rows, keys = self.cuts
        for place in product(*map(enumerate, lead)):
            at, box = tuple(i for i, _ in place), tuple(one for _, one in place)
            for i, some in enumerate(rows):
                parts = [Part(box, some, one) for one in keys]
                needed = [part for part in parts if self._needs(part)]
                yield (*at, i), needed or parts[:1]

    def _needs(self, part: Part) -> bool:
        """Tell whether a part has to be computed: not if its steps alone hide all of it."""
        if part.keys.start == 0 and self.whole.extras.sinks is not None:
            return True
        return self.visibility.says(part.rows, part.keys, part.lead) != "none"

    def place(self, name: str, region: tuple[slice, ...]) -> Key:
        """Return which chunk of an array is this region of it."""
        return tuple(
            list(accumulate(axis, initial=0)).index(one.start)
            for axis, one in zip(self.chunks[name], region, strict=True)
        )

    def inputs(self, part: Part) -> list[Key]:
        """Return the keys of the chunks that a part is computed from."""
        regions = self.whole.regions(part)
        return [
            (array.name, *self.place(name, regions[name])) for name, array in self.arrays.items()
        ]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    causal: str | None = None,
    align: str | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    window: int | tuple[int, int] | None = None,
    sinks: ArrayLike | None = None,
    alibi: ArrayLike | None = None,
    segments: Any = None,
    cu_seqlens: ArrayLike | None = None,
    cu_seqlens_k: ArrayLike | None = None,
    kv_lengths: ArrayLike | None = None,
    keep: Any = None,
    keep_prob: float | None = None,
    block: int | None = None,
) -> tuple[DaskArray, DaskCache]:
    """Lay out `attncli.attention` of arrays in chunks, to be computed where Dask computes.

    Parameters
    ----------
    query, key, value : dask array, zarr array or array_like
        Of the shapes that `attncli.attention` takes, in chunks along T_dec and T_enc: each chunk
        of queries by each chunk of keys is a task, unless all of it is hidden.  Other axes may be
        in chunks too, but that of H.  What has no chunks of Dask's is cut into blocks; of NumPy's
        arrays these travel with the graph, so that large ones are better read by the workers,
        from zarr.
    mask, keep : dask array, zarr array or array_like, optional
        As in `attncli.attention`.
    segments : array_like or tuple of two, optional
        As in `attncli.attention`.
    causal, align, scale, softcap, window, sinks, alibi, cu_seqlens, cu_seqlens_k, kv_lengths
        As in `attncli.attention`.
    keep_prob : float, optional
        As in `attncli.attention`.
    block : int, optional
        How many queries, and keys, a task has, instead of those of a chunk.

    Returns
    -------
    out : dask array, shape (…, T_dec, H_v)
        In chunks as those of query.
    cache : DaskCache
        What `attention_backward` needs, and ``cache.logsumexp``.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        As `attncli.attention` does, before anything is computed; if a chunk's size is not known.

    Notes
    -----
    A task takes about 8 · T · (H + H_v) numbers, for T queries or keys in a chunk.  Chunks of
    fewer than 4096 spend more on being handed round than they gain.  A query that sees nothing has
    an output of 0 and a logsumexp of −inf, and no warning says so.

    Examples
    --------
    >>> import dask.array as da
    >>> query = da.ones((6, 2), chunks=(3, 2))
    >>> out, cache = attention(query, query, query, causal="upper_left")
    >>> out
    dask.array<attention, shape=(6, 2), dtype=float64, chunksize=(3, 2), chunktype=numpy.ndarray>
    >>> out[-1].compute(scheduler="synchronous")
    array([1., 1.])
    """
    given = {"query": _array(query), "key": _array(key), "value": _array(value)}
    beside = {"mask": mask, "keep": keep}
    given |= {name: _array(x) for name, x in beside.items() if x is not None}
    if segments is not None:
        paired = isinstance(segments, tuple)
        segments = tuple(map(np.asarray, segments)) if paired else np.asarray(segments)
        both = segments if paired else (segments, segments)
        given |= zip(("segments_dec", "segments_enc"), both, strict=False)
    for name, x in given.items():
        if any(size != size for size in x.shape):  # as Dask says it
            raise ShapeError(f"{name} is {x.shape}: how long its chunks are is not known",
                             hint="array.compute_chunk_sizes()")  # fmt: skip
    extras = Extras(sinks, alibi, segments, cu_seqlens, cu_seqlens_k, kv_lengths, given.get("keep"))
    whole = Whole.of(
        given["query"], given["key"], given["value"], mask=given.get("mask"), extras=extras,
        semantics=Semantics(scale, causal, align, window, softcap, keep_prob),
    )  # fmt: skip
    if block is not None and block < 1:
        raise ParameterError(f"block is {block}, expected 1 or above")
    cuts = _cuts(given, whole, block)
    chunks = _chunks(whole, cuts)
    arrays = {name: _chunked(x, chunks[name]) for name, x in given.items()}
    placed = Extras(segments=segments).placed(whole.lead, *whole.sizes)
    visible = whole.extras._replace(ids_dec=placed.ids_dec, ids_enc=placed.ids_enc, alibi=None)
    visibility = Visibility.of(whole.semantics, *whole.sizes, None, visible).by_step
    token = tokenize(
        whole.semantics, extras._replace(keep=None), cuts, *(x.name for x in arrays.values())
    )
    cache = DaskCache(whole, cuts, chunks, arrays, visibility, token)
    return _forward(cache), cache


def attention_backward(
    dout: Any, cache: DaskCache, dlogsumexp: Any = None
) -> tuple[DaskArray, DaskArray, DaskArray]:
    """Lay out the gradients of `attention`.

    Parameters
    ----------
    dout : dask array, zarr array or array_like, shape (…, T_dec, H_v)
        The gradient of the loss with respect to ``out``.
    cache : DaskCache
        What `attention` returned.
    dlogsumexp : dask array, zarr array or array_like, shape (…, T_dec), optional
        The gradient of the loss with respect to ``cache.logsumexp``, where it went into the loss.

    Returns
    -------
    dquery, dkey, dvalue : dask array
        In the shapes of query, key and value and the dtype of ``out``.  The gradients of a float
        mask, of sinks and of slopes are then in ``cache.dmask``, ``cache.dsinks`` and
        ``cache.dalibi``.  All of them are best computed in one go, for they share their tasks:
        ``dask.compute(out, dquery, dkey, dvalue)``.

    Raises
    ------
    ShapeError, DtypeError
        If dout does not have the shape of out, or dlogsumexp that of logsumexp.

    Notes
    -----
    The order in which parts are added up is fixed, so that the same chunks give the same bytes,
    whoever computes them.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> query = da.ones((6, 2), chunks=(3, 2))
    >>> out, cache = attention(query, query, query, causal="upper_left")
    >>> gradients = attention_backward(da.ones_like(out), cache)
    >>> dquery, dkey, dvalue = dask.compute(*gradients, scheduler="synchronous")
    >>> dvalue[0], round(float(dvalue.sum()), 9)
    (array([2.45, 2.45]), 12.0)
    """
    whole = cache.whole
    given = {"out": _array(dout)}
    if dlogsumexp is not None:
        given["logsumexp"] = _array(dlogsumexp)
    for name, x in given.items():
        if tuple(x.shape) != whole.shapes[name]:
            raise ShapeError(
                f"d{name} is {tuple(x.shape)}, expected the shape of {name}: {whole.shapes[name]}"
            )
        if x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
            raise DtypeError(f"d{name} is {x.dtype}, expected real numbers")
    given = {name: _chunked(x, cache.chunks[name]) for name, x in given.items()}
    gradients = _backward(cache, given)
    for name in ("dmask", "dsinks", "dalibi"):
        setattr(cache, name, gradients.get(name))
    return gradients["dquery"], gradients["dkey"], gradients["dvalue"]


# How a calculation is cut: where parts end on each axis is where chunks do.


def _array(given: Any) -> Any:
    """Return what has a shape, a dtype and regions; tensors of other libraries as NumPy's."""
    if isinstance(given, da.Array) or all(
        hasattr(given, name) for name in ("shape", "dtype", "ndim", "chunks", "__getitem__")
    ):
        return given
    return np.asarray(given)


def _cuts(
    given: Mapping[str, Any], whole: Whole, block: int | None
) -> tuple[tuple[Cut, ...], Cut, Cut]:
    """Return where the leading axes, the queries and the keys are cut."""
    query, key = given["query"], given["key"]
    rows, keys = (
        _slices(x.chunks[-2])
        if isinstance(x, da.Array) and block is None
        else list(blocks_of(0, size, _step(x, block or BLOCK))) or [slice(0, 0)]
        for x, size in zip((query, key), whole.sizes, strict=True)
    )
    # What is left of a block that T does not fill goes to the leading axes, from the last on.
    room = max(1, BLOCK // max(1, max(one.stop - one.start for one in (*rows, *keys))))
    group = fit(*(x.shape for x in (query, key, given["value"])))[1]
    lead: list[Cut] = []
    for at in range(-1, -len(whole.lead) - 1, -1):
        size = whole.lead[at]
        own = query.shape[at - 2] if query.ndim - 2 >= -at else 1
        if isinstance(query, da.Array) and own == size:
            cut = _slices(query.chunks[at - 2])
        else:
            cut = list(blocks_of(0, size, min(room, size) or 1)) or [slice(0, 0)]
            room = max(1, room // max(1, cut[0].stop))
        if at == -1 and group > 1 and not _fits_groups(cut, group):
            cut = list(blocks_of(0, size, group))
        lead.insert(0, cut)
    return tuple(lead), rows, keys


def _step(array: Any, block: int) -> int:
    """Return the length of a block that holds chunks as a whole, where there are any."""
    chunks = getattr(array, "chunks", None)
    stored = chunks[-2] if chunks and not isinstance(array, da.Array) else 1
    return -(-block // stored) * int(stored)


def _fits_groups(cut: Cut, group: int) -> bool:
    """Tell whether each slice of the query heads is of one group, or of whole ones."""
    return all(
        (one.start % group == 0 and one.stop % group == 0)
        or one.start // group == (one.stop - 1) // group
        for one in cut
    )


def _slices(chunks: Sequence[int]) -> Cut:
    return [slice(*ends) for ends in pairwise(accumulate(chunks, initial=0))]


def _chunks(whole: Whole, cuts: tuple[tuple[Cut, ...], Cut, Cut]) -> dict[str, Chunks]:
    """Return the chunks of every array, such that each region of a part is one."""
    lead, rows, keys = cuts
    found: dict[str, list[dict[int, int]]] = {
        name: [{} for _ in shape] for name, shape in whole.shapes.items()
    }
    # Each axis of an array goes by one axis of the whole, so that one may vary at a time.
    axes = [*lead, rows, keys]
    for at, cut in enumerate(axes):
        for one in cut:
            place = [one if i == at else other[0] for i, other in enumerate(axes)]
            part = Part(tuple(place[:-2]), *place[-2:])
            for name, region in whole.regions(part).items():
                for chunks, where in zip(found[name], region, strict=True):
                    chunks[where.start] = where.stop - where.start
    return {
        name: tuple(tuple(axis[start] for start in sorted(axis)) for axis in each)
        for name, each in found.items()
    }


def _chunked(array: Any, chunks: Chunks) -> DaskArray:
    if isinstance(array, da.Array):
        return array.rechunk(chunks)
    return da.from_array(array, chunks=chunks)


# The graphs: tuples of a function and keys, as Dask reads them.


def _forward(cache: DaskCache) -> DaskArray:
    whole, names = cache.whole, tuple(cache.arrays)
    made = {name: f"{name}-{cache.token}" for name in ("attention", "logsumexp", "rows", "part")}
    of_whole = (f"whole-{cache.token}",)
    graph: Graph = {of_whole: whole}
    out: Graph = {}
    logsumexp: Graph = {}
    for at, parts in cache.blocks():
        keys = [(made["part"], *at, j) for j in range(len(parts))]
        for key, part in zip(keys, parts, strict=True):
            graph[key] = (partial(_attend, part=part, names=names), of_whole, *cache.inputs(part))
        rows = (made["rows"], *at)
        graph[rows] = (_merge, keys)
        out[(made["attention"], *at, 0)] = (partial(_out, dtype=whole.dtype), rows)
        logsumexp[(made["logsumexp"], *at)] = (_logsumexp, rows)
    arrays = list(cache.arrays.values())
    cache.graph = HighLevelGraph.from_collections(made["rows"], graph, arrays)
    cache.logsumexp = _on(
        cache.graph, made["rows"], made["logsumexp"], logsumexp, cache.chunks["logsumexp"],
        whole.compute,
    )  # fmt: skip
    return _on(cache.graph, made["rows"], made["attention"], out, cache.chunks["out"], whole.dtype)


def _on(
    below: HighLevelGraph, layer: str, name: str, graph: Graph, chunks: Chunks, dtype: np.dtype[Any]
) -> DaskArray:
    """Return an array whose tasks take what those of a layer give."""
    layers = {**below.layers, name: graph}
    return da.Array(HighLevelGraph(layers, {**below.dependencies, name: {layer}}), name, chunks,
                    dtype=dtype)  # fmt: skip


def _backward(cache: DaskCache, given: Mapping[str, DaskArray]) -> dict[str, DaskArray]:
    whole, names = cache.whole, tuple(cache.arrays)
    token = tokenize(cache.token, *(x.name for x in given.values()))
    mask = cache.arrays.get("mask")
    gradients = ["query", "key", "value"]
    gradients += ["mask"] if mask is not None and mask.dtype.kind not in "iub" else []
    gradients += [name for name in ("sinks", "alibi") if name in whole.shapes]
    graph: Graph = {}
    # What is still to be added up to each chunk of a gradient: those of a block of queries at once.
    sums: dict[tuple[str, Key], Key] = {}
    back, of_whole = f"backward-{token}", (f"whole-{cache.token}",)
    for number, (at, parts) in enumerate(cache.blocks()):
        new: dict[tuple[str, Key], list[Key]] = {}
        for j, part in enumerate(parts):
            key, regions = (back, *at, j), whole.regions(part)
            rows = [(x.name, *cache.place(name, regions[name])) for name, x in given.items()]
            graph[key] = (
                partial(_walk_back, part=part, names=names, beside=len(rows)),
                of_whole, (f"rows-{cache.token}", *at), *rows, *cache.inputs(part),
            )  # fmt: skip
            for name in gradients:
                if name != "sinks" or part.keys.start == 0:
                    new.setdefault((name, cache.place(name, regions[name])), []).append(key)
        for (name, place), keys in new.items():
            key = (f"sum-{name}-{token}", *place, number)
            graph[key] = (partial(_add, name=f"d{name}"), sums.get((name, place)), keys)
            sums[name, place] = key
    base = HighLevelGraph.merge(cache.graph, *(x.dask for x in given.values()))
    layers = {**base.layers, back: graph}
    needed = {f"rows-{cache.token}", *(x.name for x in (*given.values(), *cache.arrays.values()))}
    base = HighLevelGraph(layers, {**base.dependencies, back: needed})
    found = {}
    for name in gradients:
        made, chunks = f"d{name}-{token}", cache.chunks[name]
        dtype = whole.dtype if name in ("query", "key", "value") else whole.compute
        last: Graph = {}
        for place in np.ndindex(*map(len, chunks)):
            shape = tuple(axis[i] for axis, i in zip(chunks, place, strict=True))
            last[(made, *place)] = (
                partial(_last, shape=shape, dtype=dtype), sums.get((name, place))
            )  # fmt: skip
        found[f"d{name}"] = _on(base, back, made, last, chunks, dtype)
    return found


# What is run, wherever that is.


def _attend(whole: Whole, *blocks: Array, part: Part, names: tuple[str, ...]) -> Partial:
    return forward_part(whole.operands(part, dict(zip(names, blocks, strict=True))))


def _merge(partials: list[Partial]) -> Partial:
    return merge_parts(*partials)


def _out(rows: Partial, dtype: np.dtype[Any]) -> Array:
    return rows.out.astype(dtype, copy=False)


def _logsumexp(rows: Partial) -> Array:
    return rows.logsumexp


def _walk_back(
    whole: Whole, rows: Partial, *blocks: Array, part: Part, names: tuple[str, ...], beside: int
) -> PartGradients:
    dout, dlogsumexp = (*blocks[:beside], None)[:2]
    assert dout is not None
    operands = whole.operands(part, dict(zip(names, blocks[beside:], strict=True)))
    return backward_part(dout, rows.out, rows.logsumexp, operands, dlogsumexp)


def _add(before: Array | None, parts: list[PartGradients], name: str) -> Array:
    new: list[Array] = [getattr(part, name) for part in parts]
    return sum(new[1:] if before is None else new, start=new[0] if before is None else before)


def _last(total: Array | None, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return a chunk of a gradient, which nobody may have contributed to."""
    return np.zeros(shape, dtype) if total is None else total.astype(dtype, copy=False)
