"""What is wrong throughout, although every element may be off by as much.

Roundings differ from element to element, so that together they come to next to nothing: an output
of bfloat16 that is 2 % too large is within what each of its elements may be off by, and wrong.
What a result is off by is fitted as a multiple of the exact result (a factor), and of what that
changes by with the scale of the scores; of the whole, and of every item, head and block of rows.

Each multiple may be as far from 0 as twice what the plain formula's is there, rounded to nearest,
or three standard errors of the fit, whichever is more, and a rounding beside: a factor such as 1/√H
or a weight that all have in common may be stored.  Measured: right results come to 0.68 of that at
most (torch's backends and six spellings of the formula, over sizes, scales, causal order, and keys,
queries and values that are all alike); 2 % in bfloat16, and 1 % in float16, to 1.2 and more where
scores are of the usual size or twice that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from attncli.arrays import Array

_APART = 1.5  # times what each may be off, two may be apart
_TOLD = 16.0  # times the roundings, what a scale changes has to be
ROWS = 16
"""Rows of a block, at least; fewer have too little to go by beside their roundings."""


Kind = Literal["factor", "scale"]


class _Multiple(NamedTuple):
    """What a result is off by as a multiple of something, row by row, as sums over the row.

    Attributes
    ----------
    of : ndarray
        In the shape of the result.
    size : ndarray (…, rows)
        The squares of that.
    drawn : list of ndarray (…, rows)
        Its product with what each calculation is off by.
    apart : ndarray (…, rows)
        The squares of these products, element by element: as if no two were off together.
    """

    of: Array
    size: Array
    drawn: list[Array]
    apart: Array


class _Fit(NamedTuple):
    """Multiples that were fitted, how far from 0 each may be, and the ratio of the two."""

    kind: Kind
    level: _Level
    value: Array
    allowed: Array
    excess: Array
    explained: float

    def apart(self) -> _Fit:
        """Hold each against the one in the middle too."""
        middle = np.sort(self.value, axis=None)[(self.value.size - 1) // 2]
        off = np.where(self.excess > 0, np.abs(self.value - middle) / (_APART * self.allowed), 0)
        return self._replace(excess=np.maximum(self.excess, off))

    @property
    def most(self) -> float:
        """The largest excess."""
        return float(self.excess.max(initial=0))


class Wrong(NamedTuple):
    """What is too far off throughout.

    Attributes
    ----------
    kind : {"factor", "scale"}
    value : float
        How many times what it should be.
    allowed : float
        How far from 1 that may be.
    rows : ndarray (…, rows) of bool
        Where.
    """

    kind: Kind
    value: float
    allowed: float
    rows: Array


class Throughout:
    """How far calculations in a precision are off throughout, and whether another is too far.

    Parameters
    ----------
    exact : ndarray
    by_scale : ndarray
        What the exact result changes by, if the scale does in proportion.
    has_rows : bool
        Whether the last axis is that of a row's numbers.

    Examples
    --------
    >>> exact = np.random.default_rng(0).normal(size=(2, 3, 32, 8))
    >>> known = Throughout(exact, 0 * exact, has_rows=True)
    >>> known.add(exact + 1e-3), known.add(exact - 1e-3), known.plain(exact)
    (None, None, None)
    >>> wrong = exact.copy()
    >>> wrong[:, 1] *= 1.02
    >>> known.judge(exact * 1.003, 2**-8), known.judge(wrong, 2**-8).rows.any(axis=(0, 2))
    (None, array([False,  True, False]))
    """

    def __init__(self, exact: Array, by_scale: Array, *, has_rows: bool) -> None:
        self.exact, self.has_rows = exact, has_rows
        both: Mapping[Kind, Array] = {"factor": exact, "scale": by_scale}
        self.multiples: Mapping[Kind, _Multiple] = {
            kind: _Multiple(of, self._summed(of * of), [], np.zeros_like(self._summed(of)))
            for kind, x in both.items()
            for of in [np.where(np.isfinite(x), x, 0)]
        }
        self.counts = self._summed(np.ones_like(exact))
        self.of_plain: Mapping[Kind, Array] = {}

    def add(self, drawn: Array) -> None:
        """Take account of a calculation whose roundings are random."""
        off = self._off(drawn)
        for one in self.multiples.values():
            products = off * one.of
            one.drawn.append(self._summed(products))
            one.apart[...] += self._summed(products * products)

    def plain(self, result: Array) -> None:
        """Take account of the plain formula, rounded to nearest as it is."""
        self.of_plain = self._along(result)

    def judge(self, a: Array, unit: float, *, fitted: bool = False) -> Wrong | None:
        """Say by what a result is too far off throughout, and where; None if by nothing.

        Parameters
        ----------
        a : ndarray
            In the shape of the exact result.
        unit : float
            The largest relative error of rounding: a number that all depends on may be rounded.
        fitted : bool, default False
            Whether the exact result's own scale was fitted to `a`: then parts that differ from
            each other are wrong too.
        """
        found = list(self._fits(a, unit))
        if fitted:
            found = [one.apart() for one in found]
        most = max((one.most for one in found), default=0.0)
        if most <= 1:
            return None
        # The widest that is about as far off as any part of it, by what explains more of it.
        far = [one for one in found if one.most > max(1, 0.7 * most)]
        worst = min(far, key=lambda one: (len(one.level.kept), -one.explained))
        at = np.unravel_index(worst.excess.argmax(), worst.excess.shape)
        wrong = worst.excess > max(1, 0.5 * float(worst.excess[at]))
        rows = worst.level.spread(wrong, self.counts)
        return Wrong(worst.kind, float(1 + worst.value[at]), float(worst.allowed[at]), rows)

    def _fits(self, a: Array, unit: float) -> Iterator[_Fit]:
        along = self._along(a)
        for kind, one in self.multiples.items():
            for level in _levels(one.size.shape):
                size = level.summed(one.size)
                noise = level.summed(one.apart) / len(one.drawn)
                some = size > 0
                if kind == "scale":  # one that changes no more than roundings do is part of them
                    some &= size**2 > _TOLD**2 * noise * level.summed(self.counts)
                size = np.where(some, size, 1)
                value, plain = (level.summed(x[kind]) / size for x in (along, self.of_plain))
                together = np.mean([level.summed(x) ** 2 for x in one.drawn], axis=0)
                each = np.mean(np.square(one.drawn), axis=0)
                each = level.summed(np.maximum(each, one.apart / len(one.drawn)))
                error = 3 * np.sqrt(np.maximum(together, each)) / size
                allowed = 2 * np.maximum(error, np.abs(plain)) + unit
                excess = np.where(some, np.abs(value) / allowed, 0)
                yield _Fit(kind, level, value, allowed, excess, float(np.sum(value**2 * size)))

    def _off(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(np.where(x == self.exact, 0, x - self.exact), posinf=0, neginf=0)

    def _along(self, x: Array) -> dict[Kind, Array]:
        off = self._off(x.astype(self.exact.dtype))
        return {kind: self._summed(off * one.of) for kind, one in self.multiples.items()}

    def _summed(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=-1) if self.has_rows else x)


class _Level(NamedTuple):
    """Rows taken together.

    Attributes
    ----------
    kept : tuple of int
        Axes along which they are apart; the last one in blocks.
    starts : ndarray of int
        Where blocks begin.
    """

    kept: tuple[int, ...]
    starts: Array

    def summed(self, x: Array) -> Array:
        """Sum over the rows of each group."""
        blocks = np.add.reduceat(x, self.starts, axis=-1)
        others = tuple(axis for axis in range(x.ndim) if axis not in self.kept)
        return np.asarray(blocks.sum(axis=others, keepdims=True))

    def spread(self, x: Array, rows: Array) -> Array:
        """Give every row what its group has."""
        if x.shape[-1] > 1:
            x = np.repeat(x, np.diff([*self.starts, rows.shape[-1]]), axis=-1)
        return np.broadcast_to(x, rows.shape)


def _levels(shape: tuple[int, ...]) -> Iterator[_Level]:
    """Give all ways to take rows together, the widest first."""
    if not shape or not all(shape):
        return
    starts = np.arange(0, max(1, shape[-1] - ROWS // 2), ROWS)  # a few that are left join the last
    several = [axis for axis, size in enumerate((*shape[:-1], len(starts))) if size > 1]
    for number in range(len(several) + 1):
        for kept in combinations(several, number):
            yield _Level(kept, starts)
