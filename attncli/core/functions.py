"""The public functions: check, choose an engine, compute, cast back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from attncli.arrays import Array
from attncli.core import direct, engines
from attncli.core.cache import Cache
from attncli.core.operands import Operands, prepare, prepare_dout, prepare_out
from attncli.core.semantics import Semantics
from attncli.core.visibility import read_mask
from attncli.errors import ParameterError

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
    threads: int = 1,
    engine: str = "auto",
    weights: bool | None = None,
) -> tuple[Array, Cache]:
    """Compute scaled dot-product attention.

    ::

        scores  = scale · query · keyᵀ
        scores  = softcap · tanh(scores / softcap)      if a softcap is set
        scores  = scores + mask                         if the mask is float
        weights = softmax(scores) over the keys that the query sees
        out     = weights · value

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
        In the dtype that query, key and value promote to.
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
    return compute(
        query, key, value, mask=mask,
        semantics=Semantics(scale, causal, align, window, softcap),
        threads=threads, engine=engine, weights=weights, stacklevel=3,
    )  # fmt: skip


def attention_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the gradients of `attention` with respect to query, key and value.

    ::

        dvalue   = weightsᵀ · dout
        dweights = dout · valueᵀ
        dscores  = weights ⊙ (dweights − rowsum(weights ⊙ dweights))
        dmask    = dscores                              if the mask is float
        dscores  = dscores ⊙ (1 − tanh²)                if a softcap is set
        dquery   = scale · dscores · key
        dkey     = scale · dscoresᵀ · query

    Parameters
    ----------
    dout : array_like, shape (…, T_dec, H_v)
        The gradient of the loss with respect to ``out``.
    cache : Cache
        What `attention` returned.  The inputs must not have been changed since.

    Returns
    -------
    dquery, dkey, dvalue : ndarray
        In the shapes of query, key and value, summed over the axes on which they were broadcast
        or shared; in the dtype of ``out``.  The gradient of a float mask is then in
        ``cache.dmask``, in the mask's shape.

    Raises
    ------
    ShapeError
        If dout does not have the shape of out.
    DtypeError
        If dout is not real.

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
    operands = cache.operands
    dout = prepare_dout(dout, operands)
    mask = operands.visibility.mask
    if mask is not None and mask.dtype != bool:
        cache.mask_gradient = np.zeros_like(mask)
    if dout.size == 0:
        gradients = tuple(np.zeros_like(x) for x in operands[:3])
    else:
        engine: Any = _tiled() if cache.engine == "tiled" else direct
        with _quiet(operands):
            gradients = engine.backward(dout, cache)
    dquery, dkey, dvalue = (
        gradient.reshape(shape).astype(operands.dtype, copy=False)
        for gradient, shape in zip(gradients, operands.shapes, strict=True)
    )
    return dquery, dkey, dvalue


def compute(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    semantics: Semantics = Semantics(),  # noqa: B008 (it is frozen)
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
    semantics : Semantics, optional
        scale, causal, align, window and softcap.
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
        mask = read_mask("mask", np.asarray(mask), stacklevel + 1)
    operands = prepare(query, key, value, mask=mask, semantics=semantics)
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
) -> Array:
    """Compute the weights of `attention` alone, to look at.

    Parameters
    ----------
    query, key, mask, causal, align, scale, softcap, window
        As in `attention`.

    Returns
    -------
    weights : ndarray, shape (…, T_dec, T_enc)
        Every row sums to 1, or to 0 if the query sees no key.

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
    nothing = np.empty((*np.shape(key)[:-1], 0), np.asarray(key).dtype)
    cache = compute(
        query, key, nothing, mask=mask,
        semantics=Semantics(scale, causal, align, window, softcap),
        weights=True, stacklevel=3,
    )[1]  # fmt: skip
    assert cache.weights is not None  # as was asked for
    return cache.weights.astype(cache.operands.dtype, copy=False)


def _tiled() -> ModuleType:
    """The tiled engine, imported when it is first needed: small calculations never need it."""
    from attncli.core import tiled

    return tiled


def _quiet(operands: Operands) -> AbstractContextManager[None]:
    """Keep NumPy from warning of infinities that are hidden and come to nothing."""
    return np.errstate(invalid="ignore", over="ignore") if operands.visibility else _AS_IT_IS


_AS_IT_IS = nullcontext()
