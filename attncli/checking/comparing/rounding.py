"""How far a right calculation may be off by rounding: an error model, element by element.

With unit roundoff u, a sum of n products is off by γₙ · Σ |products|, where γₙ = 4u (1 + √n): the
roundings are as good as independent, so that they add up like a random walk (Higham and Mary).
From there the errors are followed through the formula to first order, through whichever of the
equivalent ways is the worst: scores may be in base 2, weights may come from a running maximum, be
merged from parts of the keys or be computed again from a saved log-sum-exp, so that the exponent is
off by 4u (|score| + the largest |score| of its row); the sum Σ weights ⊙ dweights may be Σ dout ⊙
out.  ``attn guide checking`` has the derivation.

References
----------
Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.operations.steps import QKV, Calculation

HALF = ("float16", "bfloat16")
"""The dtypes that have half as many bits as float32."""

UNITS: Mapping[str, float] = {
    "bfloat16": 2.0**-8,
    "float16": 2.0**-11,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
}
"""Half the distance from 1 to the next number."""

_TIMES = 4.0


@dataclass(frozen=True)
class Rounding:
    """How far each element of what a calculation gives may be off.

    Attributes
    ----------
    results : mapping of str to ndarray
        As forward gives them: ``out``, and ``weights`` where there are any inside.
    gradients : list of ndarray
    """

    results: Mapping[str, Array]
    gradients: list[Array]


def rounded_to(x: Array, precision: str) -> Array:
    """Round to a precision; what NumPy has no dtype for is held in float32.

    Examples
    --------
    >>> rounded_to(np.array([1.001, 1.005, -np.inf]), "bfloat16")
    array([1.       , 1.0078125,      -inf], dtype=float32)
    """
    if precision != "bfloat16":
        return x.astype(precision)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)  # ties to even
    return np.where(np.isfinite(x), bits.view(np.float32), x.astype(np.float32))


def beyond(observed: Array, right: Array, far: Array) -> Array:
    """Take from what was observed the part of its error that rounding explains.

    Examples
    --------
    >>> beyond(np.array([1.0, 2.5, np.nan]), np.array([1.125, 2.0, 3.0]), np.full(3, 0.25))
    array([1.125, 2.25 ,   nan])
    """
    error = observed - right
    left = np.copysign(np.maximum(np.abs(error) - far, 0), error)
    return np.where(np.isfinite(error), right + left, observed)


def rounding(c: Calculation, dout: Array, precision: str) -> Rounding:
    """Follow the errors of a calculation in `precision`, whose forward and backward have run.

    Examples
    --------
    >>> from attncli.core.semantics import Semantics
    >>> one = np.ones((1, 2, 3))
    >>> c = Calculation("scaled-dot-product", [one, one, one], Semantics())
    >>> out = c.forward()["out"]
    >>> gradients = c.backward(out)
    >>> found = rounding(c, out, "float32")
    >>> bool((1e-6 < found.results["out"]).all() and (found.results["out"] < 1e-5).all())
    True
    """
    return _Following(c, dout, UNITS[precision]).rounding()


class _Following:
    """Every ``far_x`` is how far off x may be."""

    def __init__(self, c: Calculation, dout: Array, unit: float) -> None:
        self.c, self.unit = c, unit
        self.one_step = c.layer in ("weight-sum", "attention")
        self.inner = c.layer in ("softmax", "attention-weight")  # weights are the result
        self.dout = dout[..., None, :] if self.one_step or self.inner else dout
        self.weights = np.abs(c.weights)

    def sums(self, n: int) -> float:
        """By how much of the size of its terms a sum of n of them may be off."""
        return _TIMES * self.unit * float(1 + np.sqrt(n))

    def rounding(self) -> Rounding:
        c, weights = self.c, self.weights
        T_dec, T_enc = weights.shape[-2:]
        far_weights = 0 * weights if c.layer == "weight-sum" else weights * self.far_exponents()
        if self.inner:
            far_dweights = self.unit * np.abs(self.dout)
            far_dscores = self.far_dscores(far_weights, self.dout, far_dweights, 0.0)
            far_out = far_weights[..., 0, :]
            if c.layer == "softmax":
                return Rounding({"out": far_out}, [far_dscores[..., 0, :]])
            far_dquery, far_dkey = self.far_operands(far_dscores)
            return Rounding({"out": far_out}, [far_dkey, far_dquery[..., 0, :]])
        value, dout = np.abs(c.value), np.abs(self.dout)
        out, far_out = c.weights @ c.value, (far_weights + self.sums(T_enc) * weights) @ value
        far_dvalue = (far_weights + self.sums(T_dec) * weights).swapaxes(-1, -2) @ dout
        dweights = self.dout @ c.value.swapaxes(-1, -2)
        far_dweights = self.sums(value.shape[-1]) * (dout @ value.swapaxes(-1, -2))
        if c.layer == "weight-sum":
            return Rounding({"out": far_out[..., 0, :]}, [far_dvalue, far_dweights[..., 0, :]])
        far_delta = (dout * (far_out + self.sums(value.shape[-1]) * np.abs(out))).sum(
            axis=-1, keepdims=True
        )
        far_dscores = self.far_dscores(far_weights, dweights, far_dweights, far_delta)
        far_dquery, far_dkey = self.far_operands(far_dscores)
        if c.layer == QKV:
            if c.groups > 1:
                far_dkey, far_dvalue = (
                    c.steps["over_groups"](c, x) for x in (far_dkey, far_dvalue)
                )
            results = {"out": far_out, "weights": far_weights}
            return Rounding(results, [far_dquery, far_dkey, far_dvalue])
        if self.one_step:
            far_out, far_weights, far_dquery = (
                x[..., 0, :] for x in (far_out, far_weights, far_dquery)
            )
        results = {"out": far_out, "weights": far_weights}
        return Rounding(results, [far_dkey + far_dvalue, far_dquery])

    def far_exponents(self) -> Array:
        """By how much the exponents, and so the weights beside their sizes, are off."""
        c, T_enc = self.c, self.weights.shape[-1]
        scores = c.given[0][:, None, :] if c.layer == "softmax" else c.noted["masked"]
        size = np.where(np.isfinite(scores), np.abs(scores), 0)
        off = _TIMES * self.unit * (size + size.max(axis=-1, keepdims=True) + np.log(T_enc))
        if c.query is not None:
            products = np.abs(c.query) @ np.abs(c.key).swapaxes(-1, -2)
            off = off + self.sums(c.H) * abs(c.scale) * products * self.uncapped()
        # Their sum is off by what its terms are, and by being a sum.
        total = (self.weights * off).sum(axis=-1, keepdims=True)
        return np.asarray(off + total + self.sums(T_enc))

    def uncapped(self) -> Any:
        """The derivative of the softcap."""
        return 1.0 if self.c.capped is None else 1 - self.c.capped**2

    def far_dscores(
        self, far_weights: Array, dweights: Array, far_dweights: Array, far_delta: Any
    ) -> Array:
        """The error before the softcap, and of the sums that it will be a term of."""
        c, weights = self.c, self.weights
        rowsum = (c.weights * dweights).sum(axis=-1, keepdims=True)
        terms = np.abs(dweights)
        far_rowsum = (
            far_weights * terms + weights * (far_dweights + self.sums(weights.shape[-1]) * terms)
        ).sum(axis=-1, keepdims=True) + far_delta
        centred = np.abs(dweights - rowsum)
        far = far_weights * centred + weights * (far_dweights + far_rowsum)
        dscores = weights * centred
        if c.capped is not None:
            tanh, uncapped = np.abs(c.capped), self.uncapped()
            far_tanh = self.far_exponents() * uncapped / (c.semantics.softcap or 1.0)
            far = far * uncapped + dscores * 2 * tanh * (far_tanh + 2 * _TIMES * self.unit)
            dscores = dscores * uncapped
        self.dscores = dscores
        return np.asarray(far + _TIMES * self.unit * dscores)

    def far_operands(self, far_dscores: Array) -> tuple[Array, Array]:
        """By how much dquery and dkey are off."""
        c, (T_dec, T_enc) = self.c, self.dscores.shape[-2:]
        scale = abs(c.scale)
        by_rows = far_dscores + self.sums(T_enc) * self.dscores
        by_columns = far_dscores + self.sums(T_dec) * self.dscores
        return (
            scale * (by_rows @ np.abs(c.key)),
            scale * (by_columns.swapaxes(-1, -2) @ np.abs(c.query)),
        )
