"""How dark a number is, before any colour: its share of the scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attncli.arrays import Array

Shade = Literal["linear", "log", "row", "diverging"]

# A logarithmic scale ends where a linear one would be black: at so small a share of the largest.
_LOG_SPAN = 1e-4


@dataclass(frozen=True)
class Scale:
    """From numbers to shares between 0, the darkest, and 1.

    Attributes
    ----------
    kind : {"linear", "log", "row", "diverging"}
        log: evenly by magnitude; row: every row by its own largest; diverging: 0 in the middle.
    top : float
        The number of the last shade.
    holes : bool
        Whether some numbers are not finite, and so have no shade.

    Examples
    --------
    >>> scale = Scale.of(np.array([[0.1, 0.4], [0.0, 0.8]]))
    >>> scale.top, scale.shares(np.array([[0.1, 0.4]])).tolist()
    (0.8, [[0.125, 0.5]])
    >>> Scale("log", 1.0).shares(np.array([[1.0, 1e-2, 0.0]])).tolist()
    [[1.0, 0.5, 0.0]]
    >>> Scale("diverging", 0.5).shares(np.array([[-0.5, 0.0, 0.25]])).tolist()
    [[0.0, 0.5, 0.75]]
    >>> Scale("linear", 1.0).shares(np.array([[0.5, np.nan]])).tolist()
    [[0.5, nan]]
    """

    kind: Shade
    top: float
    holes: bool = False

    @classmethod
    def of(cls, values: Array, kind: Shade = "linear", top: float | None = None) -> Scale:
        """Make the scale whose last shade is the largest number there is, or is given."""
        finite = np.isfinite(values).all()
        if top is None:
            top = brightest(np.abs(values) if kind == "diverging" else values)
        return cls(kind, top, not finite)

    @property
    def bottom(self) -> float:
        """The number of the first shade."""
        return {"log": self.top * _LOG_SPAN, "diverging": -self.top}.get(self.kind, 0.0)

    def shares(self, values: Array) -> Array:
        """Give every number of a matrix its share of the scale; NaN for what is not finite."""
        values = np.asarray(values, np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        shares = self._shares(values)
        return np.clip(shares, 0.0, 1.0, out=shares)

    def _shares(self, values: Array) -> Array:
        shares: Array
        if self.kind == "row":
            largest = np.fmax.reduce(values, axis=1, keepdims=True, initial=0.0)  # not NaN
            shares = values / np.where(largest > 0, largest, 1.0)
        elif self.kind == "log":
            shares = 1 - np.log10(np.maximum(values, self.bottom) / self.top) / np.log10(_LOG_SPAN)
        elif self.kind == "diverging":
            shares = 0.5 + values / (2 * self.top)
        else:
            shares = values / self.top
        return shares


def brightest(values: Array) -> float:
    """Give the largest number that is finite, or 1 where none is above 0.

    Examples
    --------
    >>> brightest(np.array([0.25, 0.75])), brightest(np.zeros(2))
    (0.75, 1.0)
    """
    largest = float(values.max(initial=0.0))
    if not np.isfinite(largest):
        largest = float(values.max(initial=0.0, where=np.isfinite(values)))
    return largest if largest > 0 else 1.0
