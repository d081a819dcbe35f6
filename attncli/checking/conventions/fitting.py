"""Fitting scale, softcap, sinks and windows to some rows, of which half may be wrong.

Every cost here is that of the better half of the rows, so that what holds for most of a file is
found although a part of it was computed in another way.  Whether it holds for the whole is judged
elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.rows import Knobs, Rows, softmax

SPREADS = np.geomspace(0.01, 60, 56)  # of the scaled products, that are tried
_CAPS = (np.inf, 2.0, 0.7, 0.25)  # softcaps, in units of that spread
_STEPS = 60
_CHANNELS = 8
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
    fits : str
        What else is to be fitted: ``"sinks"`` or ``"slopes"``, one for each head, or ``"factor"``.
    slopes : ndarray or None
        Where fitting slopes begins.
    size : float
        How large values are.
    goal : float
        A cost below this may be a reading; far above it, no effort is spent.
    unit : float
        The rounding of the dtype: no fit is more exact.
    """

    scale: float | None = None
    softcap: float | None = None
    sinks: Array | None = None
    fits: str = ""
    slopes: Array | None = None
    size: float = 1.0
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
    bounded : float
        That over all rows, none of which counts more than the goal: the fewer are off, the less.
    errors : tuple of float
        How far scale, bend and sinks may be off.
    """

    knobs: Knobs
    low: int | None
    high: int | None
    cost: float
    bounded: float
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
    sinks = np.zeros(int(rows.heads.max()) + 1) if limits.fits == "sinks" else limits.sinks
    if all(band.fixed):
        found = _starts(_thinned(rows.banded(band.low, band.high)), limits, sinks)
        starts = [(knobs, band) for _, knobs in found]
        return Survey(min(cost for cost, _ in found), starts, rows, limits, band)
    some, edges = _thinned(rows), _Edges(rows, band.fixed)
    trials = _grid(some, limits, sinks)
    bounds = edges.scan(trials, band)
    costs = _costs(some, trials, bounds)
    best = np.argsort(costs)[:5].tolist()
    starts = [(trials.at(i), bounds.at(i)) for i in best]
    return Survey(float(costs[best[0]]), starts, rows, limits, band)


def fit(look: Survey) -> Fit:
    """Fit what is to be fitted, from the best places of a survey."""
    rows, limits, band = look.rows, look.limits, look.band
    if all(band.fixed):
        starts = [knobs for knobs, _ in look.starts]
        return _fit_numbers(rows.banded(band.low, band.high), starts, limits)._replace(
            low=band.low, high=band.high
        )
    edges, some = _Edges(rows, band.fixed), _thinned(rows, 6, 8)
    fits = []
    for start, first in look.starts:
        knobs, bound = start, first
        for _ in range(4):
            seen = some.banded(bound.low, bound.high)
            one = _refined(seen, knobs, limits, bend=start.bend > 0, steps=12)
            one = one._replace(low=bound.low, high=bound.high)
            knobs = one.knobs
            again = edges.scan(_Trials.of(knobs), band).at(0)
            if (again.low, again.high) == (bound.low, bound.high):
                break
            bound = again
        fits.append(one)
        if one.bounded <= limits.goal / 10:
            break
    best = min(fits, key=_misfit)
    seen = rows.banded(best.low, best.high)
    starts = [best.knobs]
    if limits.softcap is None and best.knobs.bend > 0:
        starts.append(best.knobs._replace(bend=0.0))
    found = _fit_numbers(seen, starts, limits)
    return min(best, found, key=_misfit)._replace(low=best.low, high=best.high)


def _fit_numbers(rows: Rows, starts: list[Knobs], limits: Limits) -> Fit:
    """Fit to all rows; if that does not succeed, to the better half of them."""
    fits = []
    for start in starts:
        for trims in (False, True):
            fits.append(_refined(rows, start, limits, bend=start.bend > 0, trims=trims))
            if fits[-1].bounded <= limits.goal / 10:
                break
        if fits[-1].bounded <= limits.goal / 10 and not start.bend:
            break
    best = min(fits, key=_misfit)
    if limits.softcap is not None:
        return best
    # A softcap is one more assumption: it has to be worth it.
    straight = min((one for one in fits if not one.knobs.bend), key=_misfit, default=best)
    if straight.cost <= 0.1 * limits.size:
        for trims in (False, True):
            one = _refined(rows, straight.knobs, limits, bend=True, trims=trims)
            best = min(best, one, key=_misfit)
    knobs, sure = best.knobs, best.knobs.bend > _SURE * best.errors[1]
    # What it changes of the largest score has to be more than rounding.
    largest = float(np.abs(knobs.scale * rows.products[np.isfinite(rows.bias)]).max(initial=0))
    sure &= knobs.bend * largest**2 > 100 * limits.unit
    return best if sure and best.bounded < 0.9 * straight.bounded else straight


def _misfit(fit: Fit) -> tuple[float, float]:
    return fit.bounded, fit.cost  # where all rows are off, how far counts


def _bounded_cost(residual: Array, goal: float) -> float:
    squares = np.mean(residual**2, axis=-1)
    return float(np.sqrt(np.mean(np.minimum(squares, goal**2)))) if squares.size else np.inf


class _Trials(NamedTuple):
    """Several scales and bends at once: each (K,)."""

    scales: Array
    bends: Array
    sinks: Array | None
    slopes: Array | None
    fits_factor: bool = False

    @classmethod
    def of(cls, knobs: Knobs) -> _Trials:
        return cls(np.array([knobs.scale]), np.array([knobs.bend]), knobs.sinks, knobs.slopes)

    def at(self, number: int) -> Knobs:
        return Knobs(float(self.scales[number]), float(self.bends[number]), self.sinks, self.slopes)

    def logits(self, rows: Rows) -> Array:
        """The scores of each: (K, P, R, T_enc)."""
        scores = self.scales[:, None, None, None] * rows.products
        if self.bends.any():
            root = np.sqrt(self.bends)[:, None, None, None]
            bent = np.tanh(root * scores) / np.where(root > 0, root, 1)
            scores = np.where(root > 0, bent, scores)
        return np.asarray(scores + rows.added(self.slopes))

    def sink(self, rows: Rows) -> Array | None:
        return None if self.sinks is None else self.sinks[rows.heads][:, None]


class _Bounds(NamedTuple):
    """Several bands at once: low and high of each, beyond all keys where there is no bound."""

    low: Array
    high: Array
    T: int

    @classmethod
    def of(cls, band: Band, count: int, T: int) -> _Bounds:
        low, high = (-T if band.low is None else band.low), (T if band.high is None else band.high)
        return cls(np.full(count, low), np.full(count, high), T)

    def at(self, number: int) -> Band:
        low, high = int(self.low[number]), int(self.high[number])
        return Band(None if low <= -self.T else low, None if high >= self.T else high)

    def hide(self, rows: Rows, logits: Array) -> Array:
        """Hide from the logits (K, P, R, T_enc) what is outside of each band."""
        offsets = np.arange(logits.shape[-1]) - rows.own[..., None]
        low, high = (x[:, None, None, None] for x in (self.low, self.high))
        return np.where((offsets >= low) & (offsets <= high), logits, -np.inf)


class _Edges:
    """Rows at the ends of their sequences: each shows one side of a window by itself."""

    def __init__(self, rows: Rows, fixed: tuple[bool, bool]) -> None:
        self.fixed = fixed
        before, after = rows.own - rows.start, rows.stop - 1 - rows.own
        self.first = _at(rows, np.abs(before) == np.abs(before).min(axis=1, keepdims=True))
        self.last = _at(rows, np.abs(after) == np.abs(after).min(axis=1, keepdims=True))
        self.first_is_exact = before.min() <= 0 <= before.max()
        self.T = rows.bias.shape[-1] + int(np.abs(rows.own).max(initial=0))  # beyond all keys

    def scan(self, trials: _Trials, band: Band) -> _Bounds:
        """Find both bounds by turns."""
        bounds = _Bounds.of(band, len(trials.scales), self.T)
        turns = ("high", "low") if self.first_is_exact else ("low", "high")
        for turn in turns:
            if turn == "high" and not self.fixed[1]:
                free = bounds._replace(high=np.full_like(bounds.high, self.T))
                bounds = bounds._replace(high=self._reach(self.first, trials, free, 1))
            if turn == "low" and not self.fixed[0]:
                free = bounds._replace(low=np.full_like(bounds.low, -self.T))
                bounds = bounds._replace(low=-self._reach(self.last, trials, free, -1))
        return bounds

    def _reach(self, rows: Rows, trials: _Trials, bounds: _Bounds, side: int) -> Array:
        """How far it is seen to one side: for each trial the reach of the least cost."""
        far = (rows.stop - 1 - rows.own) if side > 0 else (rows.own - rows.start)
        reaches = np.arange(max(1, int(far.max()) + 1))
        keys = rows.bias.shape[-1]
        ends = np.clip(rows.own[..., None] + side * reaches, 0, keys - 1)
        weights, spilt, lse = softmax(bounds.hide(rows, trials.logits(rows)), trials.sink(rows))
        turn = slice(None, None, side)
        totals = np.cumsum(weights[..., turn], axis=-1)[..., turn]
        totals = np.take_along_axis(totals, ends[None], axis=-1) + spilt[..., None]
        if rows.lse is not None:
            off = (np.log(totals) + lse[..., None] - rows.lse[..., None])[..., None]
        else:
            # A few channels are enough to see where a window ends.
            value, target = rows.value[:, None, :, :_CHANNELS], rows.output[..., None, :_CHANNELS]
            sums = np.cumsum((weights[..., None] * value)[:, :, :, turn], axis=3)[:, :, :, turn]
            sums = np.take_along_axis(sums, ends[None, ..., None], axis=3)
            off = sums / np.where(totals > 0, totals, 1)[..., None] - target
        squares = np.einsum("kprth,kprth->kprt", off, off) / off.shape[-1]
        squares[~np.isfinite(squares)] = np.inf
        squares = np.sort(squares.reshape(len(squares), -1, len(reaches)), axis=1)
        costs = squares[:, : (squares.shape[1] + 1) // 2].mean(axis=1)
        best = costs.argmin(axis=1)
        # The widest says no more than no bound at all.
        least = np.take_along_axis(costs, best[:, None], axis=1)[:, 0]
        unbounded = costs[:, -1] <= least * (1 + 1e-9) + 1e-300
        return np.asarray(np.where(unbounded, self.T, reaches[best]))


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


def _grid(rows: Rows, limits: Limits, sinks: Array | None) -> _Trials:
    unit = _spread(rows) or 1.0
    scales = SPREADS[::2] / unit if limits.scale is None else np.array([limits.scale])
    caps = np.array(_CAPS[::2] if limits.softcap is None else (limits.softcap,))
    every, cap = (x.ravel() for x in np.meshgrid(scales, caps, indexing="ij"))
    own = cap * every * unit if limits.softcap is None else cap
    return _Trials(every, own**-2.0, sinks, limits.slopes, limits.fits == "factor")


def _starts(rows: Rows, limits: Limits, sinks: Array | None) -> list[tuple[float, Knobs]]:
    """Where fitting may begin: the best of a grid, of every softcap the best and one beside."""
    found: dict[float, list[tuple[float, Knobs]]] = {}
    unit = _spread(rows) or 1.0
    scales = SPREADS / unit if limits.scale is None else np.array([limits.scale])
    for cap in _CAPS if limits.softcap is None else (limits.softcap,):
        bends = (cap * scales * unit) ** -2.0
        if limits.softcap is not None:
            bends = np.full(len(scales), cap**-2.0)
        trials = _Trials(scales, bends, sinks, limits.slopes, limits.fits == "factor")
        costs = _costs(rows, trials)
        order = np.argsort(costs)
        places = [int(order[0])]
        apart = [int(i) for i in order if abs(int(i) - places[0]) > 2]
        for place in [*places, *apart[:1]]:
            knobs = trials.at(place)
            if trials.fits_factor:
                knobs = knobs._replace(factor=float(_factors(rows, rows.predicted(knobs))))
            found.setdefault(float(cap), []).append((float(costs[place]), knobs))
    ranked = sorted((one for several in found.values() for one in several), key=lambda x: x[0])
    straight = [one for one in ranked if not one[1].bend][:2]
    bent = [one for one in ranked if one[1].bend][:2]
    return [*straight, *bent]


def _costs(rows: Rows, trials: _Trials, bounds: _Bounds | None = None) -> Array:
    """The cost of several trials at once."""
    logits = trials.logits(rows)
    telling = np.broadcast_to(rows.telling, logits.shape[:-1])
    if bounds is not None:
        logits = bounds.hide(rows, logits)
        telling = telling & (np.isfinite(logits).sum(axis=-1) > 0)
    weights, _, lse = softmax(logits, trials.sink(rows))
    predicted = lse[..., None] if rows.lse is not None else weights @ rows.value
    if trials.fits_factor:
        predicted = _factors(rows, predicted)[:, None, None, None] * predicted
    off = rows.target - predicted
    squares = np.einsum("kprh,kprh->kpr", off, off) / off.shape[-1]
    squares[~np.isfinite(squares)] = 1e60
    squares = np.sort(np.where(telling, squares, np.inf).reshape(len(squares), -1), axis=-1)
    half = (np.count_nonzero(telling, axis=(1, 2)) + 1) // 2
    better = np.where(np.arange(squares.shape[1]) < half[:, None], squares, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt(better.sum(axis=-1) / half)
    return np.where(half > 0, found, np.inf)


def _factors(rows: Rows, predicted: Array) -> Array:
    """By what the output is larger, of each that is predicted; that in the middle of all rows."""
    own, size = (np.sum(x * predicted, axis=-1) for x in (rows.target, predicted))
    share = np.where(rows.telling & (size > 0), own / np.where(size > 0, size, 1), np.nan)
    return np.asarray(np.nan_to_num(np.nanmedian(share, axis=(-2, -1)), nan=1.0))


def _refined(
    rows: Rows,
    knobs: Knobs,
    limits: Limits,
    *,
    bend: bool,
    trims: bool = True,
    steps: int = _STEPS,
) -> Fit:
    """Follow the derivatives to the nearest minimum (Levenberg and Marquardt).

    With `trims`, that of the better half of the rows.
    """
    free_scale, free_bend = limits.scale is None, bend and limits.softcap is None
    fits, by_head = limits.fits, limits.fits in ("sinks", "slopes")
    heads = np.unique(rows.heads) if by_head else np.empty(0, int)
    if not (free_scale or free_bend or fits) or not rows.telling.any():
        off = rows.residual(knobs)
        return Fit(knobs, None, None, cost_of(off), _bounded_cost(off, limits.goal), (0.0, 0.0))

    def moved(step: Array) -> Knobs:
        at = 0
        scale, curve = knobs.scale, knobs.bend
        if free_scale:
            scale, at = scale + float(step[at]), at + 1
        if free_bend:
            curve, at = max(0.0, curve + float(step[at])), at + 1
        moved = knobs._replace(scale=scale, bend=curve)
        if fits == "factor":
            return moved._replace(factor=knobs.factor + float(step[at]))
        if by_head and (old := getattr(knobs, fits)) is not None:
            own = old.copy()
            own[heads] = np.maximum(own[heads] + np.clip(step[at:], -3, 3), _LEAST)
            moved = moved._replace(**{fits: own})
        return moved

    def normal(residual: Array, kept: Array) -> tuple[Array, Array]:
        columns = rows.jacobian(knobs, bend=free_bend, fits=fits)
        columns = columns[0 if free_scale else 1 :]
        columns = columns[:, kept].reshape(len(columns), -1)
        columns = np.nan_to_num(columns, nan=0.0, posinf=0.0, neginf=0.0)
        return columns @ columns.T, columns @ residual[kept].reshape(-1)

    damping, residual = 1e-3, rows.residual(knobs)
    # Each head's sink goes by its own rows.
    groups = (rows.heads[:, None] + 0 * rows.own)[rows.telling] if by_head else None

    def misfit(off: Array) -> float:
        return cost_of(off, groups) if trims else float(np.sqrt(np.mean(off**2)))

    cost = misfit(residual)
    size = float(np.abs(rows.target[np.isfinite(rows.target)]).max(initial=0)) or 1.0
    for _ in range(steps):
        whole = np.ones(len(residual), bool)
        matrix, slope = normal(residual, better_half(residual, groups) if trims else whole)
        diagonal = np.diag(matrix).copy()
        diagonal[diagonal == 0] = 1.0
        while damping < 1e9:
            step = np.linalg.lstsq(matrix + damping * np.diag(diagonal), slope, rcond=None)[0]
            tried = moved(step)
            off = rows.residual(tried)
            new = misfit(off)
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
    kept = squares <= 36 * cost_of(residual, groups) ** 2 + (1e-14 * size) ** 2
    for _ in range(2):
        matrix, slope = normal(residual, kept)
        tried = moved(np.linalg.lstsq(matrix, slope, rcond=None)[0])
        off = rows.residual(tried)
        if np.sum(off[kept] ** 2) >= np.sum(residual[kept] ** 2):
            break
        knobs, residual = tried, off
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
    cost, bounded = cost_of(residual, groups), _bounded_cost(residual, limits.goal)
    return Fit(knobs, None, None, cost, bounded, (scale_error, bend_error, *named))
