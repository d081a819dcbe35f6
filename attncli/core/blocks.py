"""Attention of one block of queries to one block of keys, and how such results come together.

A softmax over many keys need not see them all at once.  Per query it is enough to carry the
weighted sum of values, the sum of weights and the reference that was subtracted from the scores;
two such partial results merge into the partial result of both sets of keys, in any order and any
split, and the reference cancels at the end.  Everything here is a pure function of arrays with
any leading axes, so the pieces may come from tiles, files or other machines.

References
----------
Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867.
Dao, Fu, Ermon, Rudra and Ré, "FlashAttention", 2022, arXiv:2205.14135.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.core import products


class Partial(NamedTuple):
    """What is known of a block of queries after some of their keys.

    Parameters
    ----------
    out : ndarray, shape (…, rows, H_v)
        Σ exp(score − shift) · value over the keys so far.
    total : ndarray, shape (…, rows)
        Σ exp(score − shift).
    shift : ndarray, shape (…, rows), or float
        The reference subtracted from the scores; −inf where a query has seen no key.
    """

    out: Array
    total: Array
    shift: Array | float


def scores(
    query: Array,
    key: Array,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Array | None = None,
    seen: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Return the scores of a block of queries against a block of keys.

    Parameters
    ----------
    query : ndarray, shape (…, rows, H)
    key : ndarray, shape (…, keys, H)
    scale : float, optional
        Multiplies the scores; left out if `query` is multiplied by it already.
    softcap : float, optional
        Scores become ``softcap · tanh(score / softcap)``.
    bias : ndarray, optional
        Added after the softcap; broadcastable to (…, rows, keys).
    seen : ndarray of bool, optional
        Where False, the score becomes −inf, whatever it was.
    out : ndarray, optional
        Where to put the result.
    """
    result = products.matmul(query, key.swapaxes(-1, -2), out=out)
    if scale is not None:
        result *= scale
    if softcap is not None:
        result /= softcap
        np.tanh(result, out=result)
        result *= softcap
    if bias is not None:
        result += bias
    if seen is not None:
        np.copyto(result, -np.inf, where=~seen)
    return result


def partial(
    scores: Array,
    value: Array,
    *,
    seen: Array | None = None,
    shift: float | None = None,
    least: Array | None = None,
    exp: Callable[..., Array] = np.exp,
    keep: Array | None = None,
    spare: bool = False,
    out: Array | None = None,
) -> Partial:
    """Return the partial result of a block of scores.  Overwrites `scores` with its weights.

    Parameters
    ----------
    scores : ndarray, shape (…, rows, keys)
        −inf where a query does not see a key; with a `shift`, anything there.
    value : ndarray, shape (…, keys, H_v)
    seen : ndarray of bool, optional
        Where False, `value` has no influence, not even if it is NaN.
    shift, least, exp : optional
        As `exponentials` takes them.
    keep, spare : optional
        As `dropped` takes them.
    out : ndarray, shape (…, rows, H_v), optional
        Where to put the weighted sum of values.

    Examples
    --------
    >>> value = np.array([[1.0], [2.0], [4.0]])
    >>> row = np.log([[1.0, 2.0, 1.0]])
    >>> out, logsumexp = finish(partial(row, value))
    >>> out, np.exp(logsumexp)
    (array([[2.25]]), array([4.]))
    """
    total, reference = exponentials(scores, seen=seen, shift=shift, least=least, exp=exp)
    if keep is not None:
        scores = dropped(scores, keep, spare)
    return Partial(product(scores, value, seen, out=out), total, reference)


def exponentials(
    scores: Array,
    *,
    seen: Array | None = None,
    shift: float | None = None,
    least: Array | None = None,
    exp: Callable[..., Array] = np.exp,
) -> tuple[Array, Array | float]:
    """Overwrite scores with exp(score − shift); return their sum per query, and the shift.

    Parameters
    ----------
    scores : ndarray, shape (…, rows, keys)
        −inf where a query does not see a key; with a `shift`, anything there.
    seen : ndarray of bool, optional
        With a `shift`: where False, the result is 0, whatever the score.
    shift : float, optional
        What to subtract from the scores.  The default, their maximum per query, is safe always;
        0 saves two passes over the scores and is right if these are known to be moderate.
    least : ndarray, broadcastable to (…, rows), optional
        Without a shift: what the reference is at least, so that a sink's exponential stays finite.
    exp : callable, optional
        `numpy.exp2` if the scores are in units of log 2.

    Examples
    --------
    >>> scores = np.log([[1.0, 2.0, 1.0]])
    >>> exponentials(scores, shift=0.0)
    (array([4.]), 0.0)
    >>> scores
    array([[1., 2., 1.]])
    """
    if shift is not None:
        if shift:
            scores -= shift
        reference: Array | float = shift
    else:
        reference = np.maximum.reduce(scores, axis=-1)
        if least is not None:
            reference = np.maximum(reference, least)
        # A query that sees none of the keys has no maximum: −inf − (−inf) would be NaN.
        scores -= np.where(reference == -np.inf, 0, reference)[..., None]
    exp(scores, out=scores)
    if seen is not None and shift is not None:
        np.copyto(scores, 0, where=~seen)  # several times faster than exp of −inf
    return products.row_sums(scores), reference


def merge(first: Partial, second: Partial) -> Partial:
    """Return the partial result of the keys of `first` and of `second` together.

    Examples
    --------
    >>> value = np.array([[1.0], [2.0], [4.0]])
    >>> row = np.log([[1.0, 2.0, 1.0]])
    >>> left, right = partial(row[:, :1], value[:1]), partial(row[:, 1:], value[1:])
    >>> finish(merge(right, left))[0]
    array([[2.25]])
    """
    if isinstance(first.shift, float) and first.shift == second.shift:
        return Partial(first.out + second.out, first.total + second.total, first.shift)
    shift = np.maximum(first.shift, second.shift)
    safe = np.where(shift == -np.inf, 0, shift)  # exp(−inf − 0) is the 0 that is meant
    by_first, by_second = np.exp(first.shift - safe), np.exp(second.shift - safe)
    return Partial(
        first.out * by_first[..., None] + second.out * by_second[..., None],
        first.total * by_first + second.total * by_second,
        shift,
    )


def finish(done: Partial, *, out: Array | None = None) -> tuple[Array, Array]:
    """Return (out, logsumexp) once all keys are in; 0 and −inf for a query that saw none."""
    return divide(done.out, done.total, out=out), done.shift + log(done.total)


def dropped(weights: Array, keep: Array, spare: bool) -> Array:
    """Return weights of which only those to keep are left: a copy if they are to be spared."""
    if spare:
        return np.where(keep, weights, weights.dtype.type(0))
    np.copyto(weights, 0, where=~keep)
    return weights


def divide(rows: Array, total: Array, *, out: Array | None = None) -> Array:
    """Return `rows` divided each by its total, or as it is where that is 0.

    Examples
    --------
    >>> divide(np.ones((2, 2)), np.array([0.0, 4.0]))
    array([[1.  , 1.  ],
           [0.25, 0.25]])
    """
    if not total.all():
        total = np.where(total == 0, 1, total)
    return np.divide(rows, total[..., None], out=out)


def log(total: Array) -> Array:
    """Return the logarithm of sums of exponentials, −inf for an empty one."""
    if total.all():
        return np.log(total)
    return np.log(total, out=np.full_like(total, -np.inf), where=total != 0)


def softcap_slope(scores: Array, softcap: float) -> Array:
    """Return the derivative of the softcap at uncapped scores, in their place: 1 − tanh²."""
    scores /= softcap
    np.tanh(scores, out=scores)
    np.square(scores, out=scores)
    return np.subtract(1, scores, out=scores)


def product(
    first: Array, second: Array, seen: Array | None = None, *, out: Array | None = None
) -> Array:
    """Return ``first @ second`` without the terms whose `seen` is False.

    `first` is 0 there, which is enough as long as `second` is finite; but 0 · NaN is NaN, and
    what is hidden must have no influence at all.

    Examples
    --------
    >>> weights, value = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[3.0], [np.nan]])
    >>> product(weights, value, weights > 0)
    array([[ 3.],
           [nan]])
    """
    if seen is None or (finite := np.isfinite(second)).all():
        return products.matmul(first, second, out=out)
    seen = np.broadcast_to(seen, first.shape)
    result = products.matmul(first, np.where(finite, second, 0), out=out)
    rest = np.where(finite, 0, second)
    outer = tuple(range(second.ndim - 2))
    for at in np.flatnonzero((~finite).any(axis=(*outer, -1))):
        if (sees := seen[..., at, None]).any():
            with np.errstate(invalid="ignore"):
                result += np.where(sees, first[..., at, None] * rest[..., at, None, :], 0)
    return result


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Return `x` summed over the axes on which an array of `shape` was broadcast to it."""
    if x.shape == shape:
        return x
    missing = x.ndim - len(shape)
    axes = tuple(
        at for at in range(x.ndim) if at < missing or (shape[at - missing] == 1 < x.shape[at])
    )
    return np.add.reduce(x, axis=axes, keepdims=True).reshape(shape)
