"""Attention on chosen rows in float64, with its derivatives with respect to what is fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array

HIDDEN = -np.inf


class Knobs(NamedTuple):
    """What is fitted.

    Attributes
    ----------
    scale : float
    bend : float
        1 / softcap²; 0 is no softcap.
    sinks : ndarray (heads,) or None
        A logit beside the keys for each head.
    slopes : ndarray (heads,) or None
        Times the distance between a query's own key and each, taken off the scores.
    factor : float
        Times which the output is there.
    """

    scale: float
    bend: float = 0.0
    sinks: Array | None = None
    slopes: Array | None = None
    factor: float = 1.0

    @property
    def softcap(self) -> float | None:
        """The softcap, if there is one."""
        return self.bend**-0.5 if self.bend > 0 else None


@dataclass(frozen=True)
class Rows:
    """Some rows of some pairs of item and head.

    Attributes
    ----------
    products : ndarray (P, R, T_enc)
        query · key.
    value : ndarray (P, T_enc, H_v)
    output : ndarray (P, R, H_v)
        What there should be; zeros beside a `lse` that is judged alone.
    bias : ndarray (P, R, T_enc)
        What is added to the scores, −inf where hidden.
    own : ndarray (P, R) of int
        The key at which each query stands.
    start, stop : ndarray (P, R) of int
        The keys of its sequence.
    heads : ndarray (P,) of int
    lse : ndarray (P, R) or None
        The log-sum-exp that there should be, if it is judged instead of an output.
    """

    products: Array
    value: Array
    output: Array
    bias: Array
    own: Array
    start: Array
    stop: Array
    heads: Array
    lse: Array | None = None

    def banded(self, low: int | None, high: int | None) -> Rows:
        """Hide what is outside ``low <= key - own <= high``."""
        if low is None and high is None:
            return self
        offsets = np.arange(self.bias.shape[-1]) - self.own[..., None]
        seen = np.ones(offsets.shape, bool)
        if low is not None:
            seen &= offsets >= low
        if high is not None:
            seen &= offsets <= high
        return replace(self, bias=np.where(seen, self.bias, HIDDEN))

    def logits(self, knobs: Knobs) -> Array:
        """The scores, capped and with what is added."""
        scores = knobs.scale * self.products
        if knobs.bend > 0:
            root = knobs.bend**0.5
            scores = np.tanh(root * scores) / root
        return np.asarray(scores + self.added(knobs.slopes))

    @cached_property
    def distance(self) -> Array:
        """How far each key is from a query's own: (P, R, T_enc)."""
        return np.asarray(np.abs(np.arange(self.bias.shape[-1]) - self.own[..., None]))

    def added(self, slopes: Array | None) -> Array:
        """What is added to the scores."""
        if slopes is None:
            return self.bias
        return np.asarray(self.bias - slopes[self.heads][:, None, None] * self.distance)

    def weights(self, knobs: Knobs) -> tuple[Array, Array, Array]:
        """The weights, that of the sink, and the log-sum-exp."""
        return softmax(self.logits(knobs), self.sink(knobs))

    def sink(self, knobs: Knobs) -> Array | None:
        """The sink of every pair."""
        return None if knobs.sinks is None else knobs.sinks[self.heads][:, None]

    def predicted(self, knobs: Knobs) -> Array:
        """What there should be: (P, R, H_v), or (P, R, 1) for a log-sum-exp."""
        weights, _, lse = self.weights(knobs)
        if self.lse is not None:
            return np.asarray(lse[..., None])
        return np.asarray(knobs.factor * (weights @ self.value))

    @cached_property
    def telling(self) -> Array:
        """Which rows tell of what is fitted: those that see two keys, or else one."""
        seen = np.isfinite(self.bias).sum(axis=-1)
        several = seen > 1
        return np.asarray(several if several.any() else seen > 0)

    @property
    def target(self) -> Array:
        """What there is."""
        return self.output if self.lse is None else self.lse[..., None]

    def residual(self, knobs: Knobs) -> Array:
        """What there is less than what is predicted, in the rows that tell: (rows, H_v)."""
        found = (self.target - self.predicted(knobs))[self.telling]
        return np.asarray(np.nan_to_num(found, nan=1e30, posinf=1e30, neginf=-1e30))

    def jacobian(self, knobs: Knobs, *, bend: bool, fits: str) -> Array:
        """Derivatives of what is predicted, in the rows that tell: (columns, rows, H_v)."""
        weights, spilt, _ = self.weights(knobs)
        x, s, u = self.products, knobs.scale, knobs.bend
        y = s * x
        if u > 0:
            a = u**0.5
            t = np.tanh(a * y)
            slopes = [x * (1 - t * t)]
            if bend:
                with np.errstate(all="ignore"):
                    exact = (a * y * (1 - t * t) - t) / (2 * a**3)
                slopes.append(np.where(np.abs(a * y) < 1e-2, -(y**3) / 3, exact))
        else:
            slopes = [x] + ([-(y**3) / 3] if bend else [])
        columns = []
        out = weights @ self.value

        def changed(part: Array) -> Array:
            mean = part.sum(axis=-1, keepdims=True)
            return np.asarray(
                mean if self.lse is not None else knobs.factor * (part @ self.value - mean * out)
            )

        for slope in slopes:
            columns.append(changed(weights * slope))
        if fits in ("sinks", "slopes"):
            whole = spilt[..., None] * (1.0 if self.lse is not None else -knobs.factor * out)
            if fits == "slopes":
                whole = -changed(weights * self.distance)
            for head in np.unique(self.heads):
                columns.append(np.where((self.heads == head)[:, None, None], whole, 0.0))
        if fits == "factor":
            columns.append(out)
        return np.stack([column[self.telling] for column in columns])


def softmax(logits: Array, sink: Array | None = None) -> tuple[Array, Array, Array]:
    """Return weights, the sink's weight and the log-sum-exp; zeros where nothing is seen."""
    largest = logits.max(axis=-1)
    if sink is not None:
        largest = np.maximum(largest, sink)
    base = np.where(np.isfinite(largest), largest, 0.0)
    grown = np.exp(logits - base[..., None])
    total = grown.sum(axis=-1)
    spilt = np.zeros_like(total)
    if sink is not None:
        spilt = np.exp(np.broadcast_to(sink, total.shape) - base)
        total = total + spilt
    with np.errstate(divide="ignore"):
        lse = np.log(total) + base
    total = np.where(total > 0, total, 1.0)
    return grown / total[..., None], spilt / total, lse
