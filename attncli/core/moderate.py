"""Scores so moderate that their exponentials need no reference subtracted from them.

That is most scores there are, and it saves passes over them.  Whether they were is seen from the
sums of the exponentials afterwards; if not, they are computed again with a reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.core import products
from attncli.core.operands import Operands

LOG2E = math.log2(math.e)


def unit_of(operands: Operands, moderate: bool) -> tuple[float, Callable[..., Array]]:
    """Return the unit of the scores and its exponential.

    Moderate scores to which nothing but the scale happens are computed in units of log 2, at no
    cost, because the power of 2 is the faster exponential.
    """
    scaled_only = operands.softcap is None and not operands.visibility.adds
    plain = moderate and scaled_only and operands.query.itemsize <= 8
    return (LOG2E, np.exp2) if plain else (1.0, np.exp)


def in_range(total: Array, seen: Array | None = None) -> bool:
    """Tell whether sums of exponentials without a reference kept the dtype's full precision.

    A sum of 0 did if its query sees no key: `seen` is False for all of them.
    """
    if seen is not None and not total.all():
        nothing = total == 0
        if (nothing & seen.any(axis=-1)).any():
            return False
        total = total[~nothing]
        if not total.size:
            return True
    limit = _limit(total.dtype)
    lowest, highest = np.minimum.reduce(total, axis=None), np.maximum.reduce(total, axis=None)
    return bool(1 / limit < lowest <= highest < limit)


def are_small(scores: Array) -> bool:
    """Tell whether none of a few scores is too large, or hidden, by the sum of their squares.

    Examples
    --------
    >>> are_small(np.array([3.0, -4.0])), are_small(np.array([3.0, -np.inf]))
    (True, False)
    """
    return bool(products.sum_of_squares(scores) < _bound(scores.dtype))


def of_sums(logsumexp: Array) -> Array:
    """Tell of which rows the sum of exponentials without a reference is in range.

    Examples
    --------
    >>> of_sums(np.array([3.0, 1e4, -np.inf]))
    array([ True, False, False])
    """
    within: Array = np.abs(logsumexp) < np.log(_limit(logsumexp.dtype))
    return within


class Hope:
    """Whether the next scores of a calculation may be moderate: not if most so far were not.

    Examples
    --------
    >>> hope = Hope()
    >>> hope.learn(False)
    >>> bool(hope)
    False
    """

    def __init__(self, at_first: bool = True) -> None:
        self._balance = 0 if at_first else -1

    def __bool__(self) -> bool:
        return self._balance >= 0

    def learn(self, moderate: bool) -> None:
        """Take note of how a try ended."""
        self._balance += 1 if moderate else -1


@lru_cache
def _bound(dtype: np.dtype[Any]) -> Any:
    """The square of a score of which a thousand exponentials add up to less than the limit."""
    return (np.log(_limit(dtype)) / 2) ** 2


@lru_cache
def _limit(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype).max ** 0.3
