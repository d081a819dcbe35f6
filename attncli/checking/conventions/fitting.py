"""Fitting scale, softcap, sinks and windows to some rows, of which half may be wrong.

Every cost here is that of the better half of the rows, so that what holds for most of a file is
found although a part of it was computed in another way.  Whether it holds for the whole is judged
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.rows import Knobs, Rows, softmax

_SPREADS = np.geomspace(0.01, 60, 56)  # of the scaled products, that are tried
_CAPS = (np.inf, 2.0, 0.7, 0.25)  # softcaps, in units of that spread
_STEPS = 60
_SURE = 5.0  # times its own error a softcap's bend has to be
_LEAST = -60.0  # a sink below this has no effect


class Limits(NamedTuple):
    """What is known before anything is fitted.

    Attributes
    ----------
    scale, softcap : float or None
        The ones asked for.
    sinks : ndarray or None
        Those in the file.
    fits_sinks : bool
        Whether they are to be fitted, one for each head.
    goal : float
        A cost below this may be a reading; far above it, no effort is spent.
    unit : float
        The rounding of the dtype: no fit is more exact.
    """

    scale: float | None = None
    softcap: float | None = None
    sinks: Array | None = None
    fits_sinks: bool = False
    goal: float = 0.0
    unit: float = 0.0


class Band(NamedTuple):
    """Which keys are seen, from a query's own: None is no bound.

    Attributes
    ----------
    low, high : int or None
    fixed : pair of bool
        Which of them are given rather than to be found.
    """

    low: int | None = None
    high: int | None = None
    fixed: tuple[bool, bool] = (True, True)


class Fit(NamedTuple):
    """What fits best.

    Attributes
    ----------
    knobs : Knobs
    low, high : int or None
        Which keys are seen, from a query's own.
    cost : float
        The root mean square of the residual over the better half of the rows.
    errors : tuple of float
        How far scale, bend and sinks may be off.
    """

    knobs: Knobs
    low: int | None
    high: int | None
    cost: float
    errors: tuple[float, ...] = ()


def better_half(residual: Array, groups: Array | None = None) -> Array:
    """Say which rows are the better half, of each group where there are any.

    Examples
    --------
    >>> better_half(np.array([[1.0], [5.0], [9.0]]))
    array([ True,  True, False])
    >>> better_half(np.array([[1.0], [2.0], [7.0], [9.0]]), np.array([0, 0, 1, 1]))
    array([ True, False,  True, False])
    """
    squares = np.mean(residual**2, axis=-1)
    kept = np.zeros(squares.shape, bool)
    for group in [None] if groups is None else np.unique(groups):
        rows = np.arange(squares.size) if group is None else np.flatnonzero(groups == group)
        kept[rows[np.argsort(squares[rows], kind="stable")[: (rows.size + 1) // 2]]] = True
    return kept


def cost_of(residual: Array, groups: Array | None = None) -> float:
    """The root mean square of the better half of the rows.

    Examples
    --------
    >>> cost_of(np.array([[1.0], [1.0], [9.0]]))
    1.0
    """
    if not residual.size:
        return np.inf
    return float(np.sqrt(np.mean(residual[better_half(residual, groups)] ** 2)))


class Survey(NamedTuple):
    """A look over wide ranges: where fitting is to begin.

    Attributes
    ----------
    cost : float
        The least that was found.
    starts : list of (Knobs, Band)
    rows : Rows
    limits : Limits
    band : Band
    """

    cost: float
    starts: list[tuple[Knobs, Band]]
    rows: Rows
    limits: Limits
    band: Band


def survey(rows: Rows, limits: Limits, band: Band) -> Survey:
    """Try wide ranges of scale and softcap, and of windows where they are to be found."""
    sinks = np.zeros(int(rows.heads.max()) + 1) if limits.fits_sinks else limits.sinks
    if all(band.fixed):
        found = _starts(_thinned(rows.banded(band.low, band.high)), limits, sinks)
        starts = [(knobs, band) for _, knobs in found]
        return Survey(min(cost for cost, _ in found), starts, rows, limits, band)
    edges = _Edges(rows, band.fixed)
    ranked = []
    for knobs in _grid(_thinned(rows), limits, sinks):
        bound = edges.scan(knobs, band)
        ranked.append((cost_of(rows.banded(bound.low, bound.high).residual(knobs)), knobs, bound))
    ranked.sort(key=lambda one: one[0])
    return Survey(
        ranked[0][0], [(knobs, bound) for _, knobs, bound in ranked[:5]], rows, limits, band
    )


def fit(look: Survey) -> Fit:
    """Fit what is to be fitted, from the best places of a survey."""
    rows, limits, band = look.rows, look.limits, look.band
    if all(band.fixed):
        starts = [knobs for knobs, _ in look.starts]
        return _fit_numbers(rows.banded(band.low, band.high), starts, limits)._replace(
            low=band.low, high=band.high
        )
    edges = _Edges(rows, band.fixed)
    fits = []
    for start, first in look.starts:
        knobs, bound = start, first
        for _ in range(4):
            seen = rows.banded(bound.low, bound.high)
            one = _refined(seen, knobs, limits, bend=start.bend > 0, steps=12)
            one = one._replace(low=bound.low, high=bound.high)
            knobs, again = one.knobs, edges.scan(one.knobs, band)
            if (again.low, again.high) == (bound.low, bound.high):
                break
            bound = again
        fits.append(one)
        if one.cost <= limits.goal / 10:
            break
    best = min(fits, key=_cost)
    seen = rows.banded(best.low, best.high)
    starts = [best.knobs]
    if limits.softcap is None and best.knobs.bend > 0:
        starts.append(best.knobs._replace(bend=0.0))
    found = _fit_numbers(seen, starts, limits)
    return min(best, found, key=_cost)._replace(low=best.low, high=best.high)


def _fit_numbers(rows: Rows, starts: list[Knobs], limits: Limits) -> Fit:
    fits = []
    for start in starts:
        fits.append(_refined(rows, start, limits, bend=start.bend > 0))
        if fits[-1].cost <= limits.goal / 10 and not start.bend:
            break
    best = min(fits, key=_cost)
    if limits.softcap is not None:
        return best
    # A softcap is one more assumption: it has to be worth it.
    straight = min((one for one in fits if not one.knobs.bend), key=_cost, default=best)
    if straight.cost <= 30 * limits.goal:
        best = min(best, _refined(rows, straight.knobs, limits, bend=True), key=_cost)
    worth = best.cost < 0.9 * straight.cost and best.knobs.bend > _SURE * best.errors[1]
    return best if worth else straight


def _cost(fit: Fit) -> float:
    return fit.cost


class _Edges:
    """Rows at the ends of their sequences: each shows one side of a window by itself."""

    def __init__(self, rows: Rows, fixed: tuple[bool, bool]) -> None:
        self.fixed = fixed
        before, after = rows.own - rows.start, rows.stop - 1 - rows.own
        self.first = _at(rows, np.abs(before) == np.abs(before).min(axis=1, keepdims=True))
        self.last = _at(rows, np.abs(after) == np.abs(after).min(axis=1, keepdims=True))
        self.first_is_exact = before.min() <= 0 <= before.max()
        self.T = rows.bias.shape[-1]

    def scan(self, knobs: Knobs, band: Band) -> Band:
        """Find both bounds by turns."""
        low, high = band.low, band.high
        turns = ("high", "low") if self.first_is_exact else ("low", "high")
        for turn in turns:
            if turn == "high" and not self.fixed[1]:
                high = self._high(self.first.banded(low, None), knobs)
            if turn == "low" and not self.fixed[0]:
                low = self._low(self.last.banded(None, high), knobs)
        return Band(low, high)

    def _high(self, rows: Rows, knobs: Knobs) -> int | None:
        reaches = np.arange(max(0, int((rows.stop - rows.own).max())))
        ends = np.clip(rows.own[..., None] + reaches, 0, self.T - 1)
        costs = _running(rows, knobs, ends, backwards=False)
        return _bound(costs, reaches)

    def _low(self, rows: Rows, knobs: Knobs) -> int | None:
        reaches = np.arange(max(0, int((rows.own - rows.start).max()) + 1))
        ends = np.clip(rows.own[..., None] - reaches, 0, self.T - 1)
        costs = _running(rows, knobs, ends, backwards=True)
        bound = _bound(costs, reaches)
        return None if bound is None else -bound


def _bound(costs: Array, reaches: Array) -> int | None:
    if not reaches.size:
        return None
    best = int(costs.argmin())
    # The widest says no more than no bound at all.
    unbounded = costs[-1] <= costs[best] * (1 + 1e-9) + 1e-300
    return None if unbounded else int(reaches[best])


def _running(rows: Rows, knobs: Knobs, ends: Array, *, backwards: bool) -> Array:
    """The cost of seeing the keys up to each of `ends` (P, R, K), or from there on."""
    logits = rows.logits(knobs)
    sink = rows.sink(knobs)
    largest = logits.max(axis=-1)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    if sink is not None:
        largest = np.maximum(largest, sink)
    grown = np.exp(logits - largest[..., None])
    turn = slice(None, None, -1 if backwards else 1)
    totals = np.cumsum(grown[..., turn], axis=-1)[..., turn]
    totals = np.take_along_axis(totals, ends, axis=-1)
    spilt = np.zeros_like(largest) if sink is None else np.exp(sink - largest)
    costs = []
    for p in range(ends.shape[0]):
        for r in range(ends.shape[1]):
            sums = np.cumsum((grown[p, r, :, None] * rows.value[p])[turn], axis=0)[turn]
            total = totals[p, r] + spilt[p, r]
            if rows.lse is not None:
                with np.errstate(divide="ignore"):
                    predicted = (np.log(total) + largest[p, r])[:, None]
            else:
                predicted = sums[ends[p, r]] / np.where(total > 0, total, 1)[:, None]
            off = np.mean((predicted - rows.target[p, r]) ** 2, axis=-1)
            costs.append(np.nan_to_num(off, nan=1e30, posinf=1e30))
    squares = np.sort(np.stack(costs), axis=0)
    return np.asarray(squares[: (len(squares) + 1) // 2].mean(axis=0))


def _at(rows: Rows, chosen: Array) -> Rows:
    """Keep one row of each pair: the first that is chosen."""
    index = chosen.argmax(axis=1)[:, None]

    def pick(x: Array) -> Array:
        return np.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1)

    return replace(
        rows,
        **{
            name: pick(getattr(rows, name))
            for name in ("products", "output", "bias", "own", "start", "stop")
        },
        lse=None if rows.lse is None else pick(rows.lse),
    )


def _thinned(rows: Rows, pairs: int = 4, steps: int = 6) -> Rows:
    """Keep a few pairs and a few of their rows."""
    P, R = rows.own.shape
    at = np.unique(np.linspace(0, P - 1, min(P, pairs)).astype(int))
    steps_at = np.unique(np.linspace(0, R - 1, min(R, steps)).astype(int))
    cut = {
        name: getattr(rows, name)[at][:, steps_at]
        for name in ("products", "output", "bias", "own", "start", "stop")
    }
    lse = None if rows.lse is None else rows.lse[at][:, steps_at]
    return replace(rows, value=rows.value[at], heads=rows.heads[at], lse=lse, **cut)


def _spread(rows: Rows) -> float:
    """How far the products of a row are spread, where they are seen."""
    seen = np.isfinite(rows.bias)
    found = rows.products[seen]
    return float(found.std()) if found.size else 0.0


def _grid(rows: Rows, limits: Limits, sinks: Array | None) -> Iterator[Knobs]:
    unit = _spread(rows) or 1.0
    scales = _SPREADS[::2] / unit if limits.scale is None else np.array([limits.scale])
    caps = _CAPS[::2] if limits.softcap is None else (limits.softcap,)
    for scale, cap in product(scales, caps):
        own = cap * scale * unit if limits.softcap is None else cap
        yield Knobs(float(scale), float(own) ** -2, sinks)


def _starts(rows: Rows, limits: Limits, sinks: Array | None) -> list[tuple[float, Knobs]]:
    """Where fitting may begin: the best of a grid, of every softcap the best and one beside."""
    found: dict[float, list[tuple[float, Knobs]]] = {}
    unit = _spread(rows) or 1.0
    scales = _SPREADS / unit if limits.scale is None else np.array([limits.scale])
    for cap in _CAPS if limits.softcap is None else (limits.softcap,):
        bends = (cap * scales * unit) ** -2.0
        if limits.softcap is not None:
            bends = np.full(len(scales), cap**-2.0)
        costs = _costs(rows, scales, bends, sinks)
        order = np.argsort(costs)
        places = [int(order[0])]
        apart = [int(i) for i in order if abs(int(i) - places[0]) > 2]
        for place in [*places, *apart[:1]]:
            knobs = Knobs(float(scales[place]), float(bends[place]), sinks)
            found.setdefault(float(cap), []).append((float(costs[place]), knobs))
    ranked = sorted((one for several in found.values() for one in several), key=lambda x: x[0])
    straight = [one for one in ranked if not one[1].bend][:2]
    bent = [one for one in ranked if one[1].bend][:2]
    return [*straight, *bent]


def _costs(rows: Rows, scales: Array, bends: Array, sinks: Array | None) -> Array:
    """The cost of several scales at once."""
    scores = scales[:, None, None, None] * rows.products
    if bends.any():
        root = np.sqrt(bends)[:, None, None, None]
        scores = np.tanh(root * scores) / root
    sink = None if sinks is None else sinks[rows.heads][:, None]
    weights, _, lse = softmax(scores + rows.bias, sink)
    predicted = lse[..., None] if rows.lse is not None else weights @ rows.value
    off = (rows.target - predicted)[:, rows.telling]
    if not off.size:
        return np.full(len(scales), np.inf)
    squares = np.mean(np.nan_to_num(off, nan=1e30, posinf=1e30, neginf=-1e30) ** 2, axis=-1)
    squares = np.sort(squares.reshape(len(scales), -1), axis=1)
    return np.asarray(squares[:, : (squares.shape[1] + 1) // 2].mean(axis=1))


def _refined(rows: Rows, knobs: Knobs, limits: Limits, *, bend: bool, steps: int = _STEPS) -> Fit:
    """Follow the derivatives to the nearest minimum (Levenberg and Marquardt)."""
    free_scale, free_bend = limits.scale is None, bend and limits.softcap is None
    sinks = limits.fits_sinks
    heads = np.unique(rows.heads) if sinks else np.empty(0, int)
    if not (free_scale or free_bend or sinks) or not rows.telling.any():
        return Fit(knobs, None, None, cost_of(rows.residual(knobs)))

    def moved(step: Array) -> Knobs:
        at = 0
        scale, curve, own = knobs.scale, knobs.bend, knobs.sinks
        if free_scale:
            scale, at = scale + float(step[at]), at + 1
        if free_bend:
            curve, at = max(0.0, curve + float(step[at])), at + 1
        if sinks and own is not None:
            own = own.copy()
            own[heads] = np.maximum(own[heads] + np.clip(step[at:], -3, 3), _LEAST)
        return Knobs(scale, curve, own)

    def normal(residual: Array, kept: Array) -> tuple[Array, Array]:
        columns = rows.jacobian(knobs, bend=free_bend, sinks=sinks)
        columns = columns[0 if free_scale else 1 :]
        columns = columns[:, kept].reshape(len(columns), -1)
        columns = np.nan_to_num(columns, nan=0.0, posinf=0.0, neginf=0.0)
        return columns @ columns.T, columns @ residual[kept].reshape(-1)

    damping, residual = 1e-3, rows.residual(knobs)
    # Each head's sink goes by its own rows.
    groups = (rows.heads[:, None] + 0 * rows.own)[rows.telling] if sinks else None
    cost = cost_of(residual, groups)
    size = float(np.abs(rows.target[np.isfinite(rows.target)]).max(initial=0)) or 1.0
    for _ in range(steps):
        matrix, slope = normal(residual, better_half(residual, groups))
        diagonal = np.diag(matrix).copy()
        diagonal[diagonal == 0] = 1.0
        while damping < 1e9:
            step = np.linalg.lstsq(matrix + damping * np.diag(diagonal), slope, rcond=None)[0]
            tried = moved(step)
            off = rows.residual(tried)
            new = cost_of(off, groups)
            if new < cost:
                break
            damping *= 8
        else:
            break
        gain = (cost - new) / cost
        knobs, residual, cost, damping = tried, off, new, max(damping / 10, 1e-12)
        # Where it is right every step gains much; where it is not, no step helps.
        if cost < 1e-15 * size or gain < (1e-5 if cost < 10 * limits.goal else 0.03):
            break
    # All rows that agree narrow it down further, and say how far it may be off.
    squares = np.mean(residual**2, axis=-1)
    kept = squares <= 36 * cost**2 + (1e-14 * size) ** 2
    for _ in range(2):
        matrix, slope = normal(residual, kept)
        tried = moved(np.linalg.lstsq(matrix, slope, rcond=None)[0])
        off = rows.residual(tried)
        if np.sum(off[kept] ** 2) >= np.sum(residual[kept] ** 2):
            break
        knobs, residual, cost = tried, off, cost_of(off, groups)
    matrix, _ = normal(residual, kept)
    usual = float(np.sqrt(np.mean(rows.target[np.isfinite(rows.target)] ** 2)))
    noise = float(np.mean(residual[kept] ** 2)) + (limits.unit * usual) ** 2
    with np.errstate(all="ignore"):
        alone = noise / np.diag(matrix)  # infinite where nothing depends on it
        inverse = np.maximum(np.diag(np.linalg.pinv(matrix)) * noise, alone)
    errors = tuple(float(x) for x in np.sqrt(inverse))
    named = iter(errors)
    scale_error = next(named) if free_scale else 0.0
    bend_error = next(named) if free_bend else 0.0
    return Fit(knobs, None, None, cost, (scale_error, bend_error, *named))
