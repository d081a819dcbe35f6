"""The public functions: check, choose an engine, compute, cast back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from attncli.arrays import Array
from attncli.core import direct, engines
from attncli.core.blocks import sum_to
from attncli.core.cache import Cache
from attncli.core.extras import NO_EXTRAS, Extras
from attncli.core.operands import (
    Operands,
    prepare,
    prepare_dlogsumexp,
    prepare_dout,
    prepare_out,
)
from attncli.core.semantics import NO_OPTIONS, Semantics
from attncli.core.visibility import read_mask
from attncli.errors import DataError, ParameterError
from attncli.foreign import library_of, to_numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    causal: str | None = None,
    align: str | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    window: int | tuple[int, int] | None = None,
    sinks: ArrayLike | None = None,
    alibi: ArrayLike | None = None,
    segments: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    cu_seqlens: ArrayLike | None = None,
    cu_seqlens_k: ArrayLike | None = None,
    kv_lengths: ArrayLike | None = None,
    keep: ArrayLike | None = None,
    keep_prob: float | None = None,
    threads: int = 1,
    engine: str = "auto",
    weights: bool | None = None,
) -> tuple[Array, Cache]:
    """Compute scaled dot-product attention.

    ::

        scores  = scale · query · keyᵀ
        scores  = softcap · tanh(scores / softcap)      if a softcap is set
        scores  = scores + mask                         if the mask is float
        scores  = scores − slope · |own − key|          if there are ALiBi slopes
        weights = softmax(scores) over the keys that the query sees, and its sink
        out     = weights · value                       weights ⊙ keep / keep_prob with dropout

    Parameters
    ----------
    query : array_like, shape (…, T_dec, H)
        Real numbers.  float16 and bfloat16 are computed in float32 and cast back, integers in
        float64.  Inputs are never modified.
    key : array_like, shape (…, T_enc, H)
    value : array_like, shape (…, T_enc, H_v)
        The leading axes ``…`` of the three broadcast as in NumPy.  If query has four axes or
        more, the last leading one is the heads axis, and there key and value may have fewer
        heads (grouped queries): if their number divides the query's into groups of g, key head
        i serves the query heads i·g … i·g+g−1.
    mask : array_like, optional
        Broadcastable to (…, T_dec, T_enc).  Boolean: **True takes part**.  Float: added to the
        scores; −inf hides.  Integers 0 and 1 are read as booleans, with a warning.
    causal : {"upper_left", "lower_right"}, optional
        Queries see no later keys.  ``"upper_left"``: query t sees the keys ≤ t.
        ``"lower_right"``: the last query sees all keys, query t those ≤ t + T_enc − T_dec.
    align : {"upper_left", "lower_right"}, optional
        Where a query's own key stands without causal order: at t, or at t + T_enc − T_dec.  By
        default as causal order has it, else upper_left.
    scale : float, optional
        1/√H if left out.
    softcap : float, optional
        Above 0; bounds the scores smoothly to ±softcap.
    window : int or (int, int), optional
        A query sees only keys at most so many steps before its own key and, unless causal, after
        it; ``(left, right)`` for each side, −1 for no limit.  "A window of W tokens, its own
        included" is ``left = W − 1``.
    sinks : array_like, shape (heads,), optional
        One more logit for each query head in the softmax's sum, which leads to no value; weights
        then sum to less than 1.  Without a heads axis a single number.  "Softmax off by one" is
        a sink of 0.
    alibi : array_like, shape (heads,), optional
        Slopes of linear biases: −slope · |own key − key| is added to the scores.
        `attncli.core.extras.standard_slopes` gives those of the paper.
    segments : array_like or tuple of two, shape (T,) or (N, T), optional
        Ids of queries and keys, together or as a pair (a tuple); only equal ids see each other.
        Positions go on counting over the whole row.
    cu_seqlens, cu_seqlens_k : array_like of int, shape (sequences + 1,), optional
        Query is packed, (…, total, H): where each sequence begins, and the last one's end; the
        same for key and value where theirs are others.  Sequences do not see each other, and
        positions count within each.
    kv_lengths : array_like of int, shape (N,), optional
        How many keys of each item there are; those behind are hidden, and ``lower_right`` is
        aligned at this length.  N is the first leading axis.  With cu_seqlens: one number for
        each sequence.
    keep : array_like of bool, optional
        Dropout with a given mask, broadcastable to the weights: True stays.
    keep_prob : float, optional
        What the weights that stay are divided by.
    threads : int, optional
        How many threads to use.  For more than 1, BLAS itself should be held to one thread
        (``OPENBLAS_NUM_THREADS=1`` in the environment before NumPy is imported), or the two
        compete; with 1, BLAS may use as many as it likes.
    engine : {"auto", "direct", "tiled"}, optional
        Which code runs.  ``"direct"`` computes whole (batch, head) pairs, ``"tiled"`` tiles with
        an online softmax; ``"auto"`` goes by the size of a pair's weights, as
        `attncli.core.engines.choose` says.
    weights : bool, optional
        Whether the weights are kept, for ``cache.weights`` and for backward; if not, backward
        computes them again, and the tiled engine needs memory linear in T.  If left out, it goes
        by their size, as `attncli.core.engines.worth_keeping` says.

    Returns
    -------
    out : ndarray, shape (…, T_dec, H_v)
        In the dtype that query, key and value promote to.  A tensor of torch or JAX where query is
        one, on its device; torch's own ``backward()`` raises where it comes to it.
    cache : Cache
        What `attention_backward` needs; ``cache.weights`` (None where they were not kept),
        ``cache.logsumexp`` and ``cache.engine`` to look at.

    Raises
    ------
    ShapeError
        Shapes that do not fit, heads that cannot be shared out, T_enc = 0 or H = 0.
    DtypeError
        Complex numbers or anything else that is not real; a mask that is neither boolean nor
        float nor 0 and 1.
    ParameterError
        Options outside their range.
    MemoryLimitError
        If the weights are asked for, or whole pairs of them by ``engine="direct"``, and would not
        fit the memory that is free.

    Warns
    -----
    AttnWarning
        Once, with their number, if there are queries that see no key.  Their weights, output
        and gradients are 0.  If a mask of integers was read as booleans.

    Notes
    -----
    What a query does not see has no influence on it, not even NaN or infinity.  Both engines give
    the same result to within rounding, weights kept or not, for any number of threads; with
    several, the last bits of what they add up together, the gradients of shared inputs, may differ
    from run to run.

    References
    ----------
    Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762, equation 1.
    Saito, "Deep Learning from Scratch 2", O'Reilly Japan, 2018, chapter 8: with ``scale=1`` and
    key and value the same, this is its TimeAttention.

    Examples
    --------
    >>> query = np.array([[0.0, 0.0], [0.0, 9.0]])
    >>> key = np.array([[0.0, 0.0], [0.0, 9.0]])
    >>> value = np.array([[1.0], [3.0]])
    >>> out, cache = attention(query, key, value)
    >>> out
    array([[2.],
           [3.]])
    >>> cache.weights[0]
    array([0.5, 0.5])
    """
    extras = NO_EXTRAS
    if not (sinks is alibi is segments is cu_seqlens is cu_seqlens_k is kv_lengths is keep is None):
        extras = Extras(sinks, alibi, segments, cu_seqlens, cu_seqlens_k, kv_lengths, keep)
    semantics, as_usual = NO_OPTIONS, scale is None and causal is None and align is None
    if not (as_usual and window is None and softcap is None and keep_prob is None):
        semantics = Semantics(scale, causal, align, window, softcap, keep_prob)
    out, cache = compute(
        query, key, value, mask=mask, extras=extras, semantics=semantics,
        threads=threads, engine=engine, weights=weights, stacklevel=3,
    )  # fmt: skip
    if type(query) is ndarray:
        cache.remember()
        return out, cache
    operands = {"query": query, "key": key, "value": value}
    cache.library = library_of(operands, mask=mask, sinks=sinks, alibi=alibi)
    return (out if cache.library is None else cache.library.result(out)), cache


def attention_backward(
    dout: ArrayLike, cache: Cache, dlogsumexp: ArrayLike | None = None
) -> tuple[Array, Array, Array]:
    """Compute the gradients of `attention` with respect to query, key and value.

    ::

        dvalue   = weightsᵀ · dout
        dweights = dout · valueᵀ
        dscores  = weights ⊙ (dweights − rowsum(weights ⊙ dweights) + dlogsumexp)
        dmask    = dscores                              if the mask is float
        dalibi   = −Σ dscores · |own − key|             if there are ALiBi slopes
        dsinks   = Σ weight of the sink · (dlogsumexp − rowsum(weights ⊙ dweights))
        dscores  = dscores ⊙ (1 − tanh²)                if a softcap is set
        dquery   = scale · dscores · key
        dkey     = scale · dscoresᵀ · query

    Parameters
    ----------
    dout : array_like, shape (…, T_dec, H_v)
        The gradient of the loss with respect to ``out``.
    cache : Cache
        What `attention` returned.  The inputs must not have been changed in place since.
    dlogsumexp : array_like, shape (…, T_dec), optional
        The gradient of the loss with respect to ``cache.logsumexp``, where it went into the loss.

    Returns
    -------
    dquery, dkey, dvalue : ndarray
        In the shapes of query, key and value, summed over the axes on which they were broadcast
        or shared; in the dtype of ``out``, and tensors where that is one.  The gradients of a float
        mask, sinks and slopes are then in ``cache.dmask``, ``cache.dsinks`` and ``cache.dalibi``,
        in the shapes of these.

    Raises
    ------
    ShapeError
        If dout does not have the shape of out, or dlogsumexp that of logsumexp.
    DtypeError
        If one of them is not real.
    DataError
        If an input was changed in place since forward.

    References
    ----------
    Dao et al., "FlashAttention", 2022, arXiv:2205.14135, appendix B: rowsum(weights ⊙ dweights)
    is rowsum(dout ⊙ out), and the weights come again from the scores and logsumexp.

    Examples
    --------
    >>> query, key = np.zeros((1, 2)), np.eye(2)
    >>> out, cache = attention(query, key, np.array([[1.0], [3.0]]), scale=1.0)
    >>> dquery, dkey, dvalue = attention_backward(np.ones_like(out), cache)
    >>> dquery, dvalue.ravel()
    (array([[-0.5,  0.5]]), array([0.5, 0.5]))
    """
    with cache.lock:
        dquery, dkey, dvalue = _gradients(dout, cache, dlogsumexp)
    if (library := cache.library) is not None:
        return library.back(dquery), library.back(dkey), library.back(dvalue)
    return dquery, dkey, dvalue


def _gradients(dout: ArrayLike, cache: Cache, dlogsumexp: ArrayLike | None) -> Iterable[Array]:
    operands = cache.operands
    if name := cache.changed():
        raise DataError(f"{name} was changed in place since forward, and backward needs it as then")
    dout = prepare_dout(dout, operands)
    cache.bias_gradients = operands.visibility.new_gradients()
    rows = None if dlogsumexp is None else prepare_dlogsumexp(dlogsumexp, operands)
    if rows is not None and not cache.total.all():
        rows = np.where(cache.total == 0, 0, rows)  # logsumexp is −inf there, whatever changes
    if operands.sinks is not None:
        cache.delta = np.zeros_like(cache.total)
    if dout.size == 0 and (rows is None or rows.size == 0):
        gradients = tuple(np.zeros_like(x) for x in operands[:3])
    else:
        engine: Any = _tiled() if cache.engine == "tiled" else direct
        with _quiet(operands):
            gradients = engine.backward(dout, cache, rows)
    if operands.keep_prob != 1:
        gradients[2][...] /= operands.keep_prob  # value was divided by it
    dsinks = None
    if operands.sinks is not None and cache.delta is not None:
        weight = np.exp(operands.sinks - cache.shift) / cache.total
        change = -cache.delta if rows is None else rows - cache.delta
        dsinks = sum_to(weight * change, operands.sinks.shape)
    if dsinks is not None or cache.bias_gradients:
        cache.keep_gradients(dsinks)
    return [
        (gradient if gradient.shape == shape else gradient.reshape(shape)).astype(
            operands.dtype, copy=False
        )
        for gradient, shape in zip(gradients, operands.shapes, strict=True)
    ]


def compute(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    extras: Extras = NO_EXTRAS,
    semantics: Semantics = NO_OPTIONS,
    threads: int = 1,
    engine: str = "auto",
    weights: bool | None = None,
    tile: tuple[int, int] | None = None,
    out: Array | None = None,
    stacklevel: int = 2,
) -> tuple[Array, Cache]:
    """Compute `attention`, its options as one value, with more say in how.

    Parameters
    ----------
    query, key, value, mask, threads, engine, weights
        As in `attention`.
    extras : Extras, optional
        sinks, alibi, segments, cu_seqlens, cu_seqlens_k, kv_lengths and keep.
    semantics : Semantics, optional
        scale, causal, align, window, softcap and keep_prob.
    tile : (int, int), optional
        How many queries and how many keys the tiled engine computes at a time, if others than
        are fastest.
    out : ndarray, shape (…, T_dec, H_v), optional
        Where to put the result, block by block as it is computed: a mapped file, say.  In the
        dtype that is computed in.  `attention_backward` reads it there instead of keeping a copy,
        so it must not be changed before.
    stacklevel : int, optional
        Whose line a warning names; 2 is the caller's.

    Returns
    -------
    out : ndarray, shape (…, T_dec, H_v)
        The one that was given, if one was.
    cache : Cache

    Raises
    ------
    MemoryLimitError, ShapeError, DtypeError, ParameterError
        As in `attention`.

    Examples
    --------
    >>> x = np.eye(3)
    >>> out, cache = compute(x, x, x, semantics=Semantics(causal="upper_left"), tile=(2, 2))
    >>> cache.engine
    'tiled'
    """
    if mask is not None:
        mask = read_mask("mask", to_numpy(mask), stacklevel + 1)
    operands = prepare(query, key, value, mask=mask, extras=extras, semantics=semantics)
    if threads < 1 or threads != int(threads):
        raise ParameterError(f"threads is {threads}, expected a whole number, 1 or above")
    if tile is not None and min(tile) < 1:
        raise ParameterError(f"tile is {tile}, expected at least 1 query and 1 key")
    place = None if out is None else prepare_out(out, operands)
    with _quiet(operands):
        which, keep = engines.resolve(engine, weights, tile, threads, operands)
        if which == "direct":
            result, cache = direct.forward(operands, threads, keep, place)
        else:
            result, cache = _tiled().forward(operands, threads, tile, keep, place)
    cache.warn_of_masked_rows(stacklevel)
    if out is not None:
        return out, cache
    if operands.lead != operands.public_lead:
        result = result.reshape(*operands.public_lead, *result.shape[-2:])
    return result.astype(operands.dtype, copy=False), cache


def attention_weights(
    query: ArrayLike,
    key: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    causal: str | None = None,
    align: str | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    window: int | tuple[int, int] | None = None,
    sinks: ArrayLike | None = None,
    alibi: ArrayLike | None = None,
    segments: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    cu_seqlens: ArrayLike | None = None,
    cu_seqlens_k: ArrayLike | None = None,
    kv_lengths: ArrayLike | None = None,
) -> Array:
    """Compute the weights of `attention` alone, to look at.

    Parameters
    ----------
    query, key, mask, causal, align, scale, softcap, window
        As in `attention`.
    sinks, alibi, segments, cu_seqlens, cu_seqlens_k, kv_lengths
        As in `attention`.

    Returns
    -------
    weights : ndarray, shape (…, T_dec, T_enc)
        Every row sums to 1, to less with a sink, or to 0 if the query sees no key.

    Raises
    ------
    MemoryLimitError
        If the weights would not fit the memory that is free.
    ShapeError, DtypeError, ParameterError
        As in `attention`.

    Examples
    --------
    >>> attention_weights(np.zeros((2, 4)), np.ones((2, 4)), causal="upper_left")
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    numbers = to_numpy(key)
    nothing = np.empty((*numbers.shape[:-1], 0), numbers.dtype)
    cache = compute(
        query, numbers, nothing, mask=mask,
        extras=Extras(sinks, alibi, segments, cu_seqlens, cu_seqlens_k, kv_lengths),
        semantics=Semantics(scale, causal, align, window, softcap),
        weights=True, stacklevel=3,
    )[1]  # fmt: skip
    assert cache.weights is not None  # as was asked for
    found = cache.weights.astype(cache.operands.dtype, copy=False)
    library = library_of({"query": query, "key": key}, mask=mask, sinks=sinks, alibi=alibi)
    return found if library is None else library.result(found)


def _tiled() -> ModuleType:
    """The tiled engine, imported when it is first needed: small calculations never need it."""
    from attncli.core import tiled

    return tiled


def _quiet(operands: Operands) -> AbstractContextManager[None]:
    """Keep NumPy from warning of infinities that are hidden and come to nothing."""
    return np.errstate(invalid="ignore", over="ignore") if operands.visibility else _AS_IT_IS


_AS_IT_IS = nullcontext()
