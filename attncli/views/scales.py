"""How dark a number is, before any colour: its share of the scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from attncli.arrays import Array

Shade = Literal["linear", "log", "row", "diverging"]
Ends = tuple[float | None, float | None]
"""The numbers of the first and of the last shade; None where the numbers themselves decide."""

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
    least : float or None
        The number of the first shade, where it was given.
    given : bool
        Whether the last one was.
    smaller, larger : int
        How many numbers lie beyond the first and the last shade, and are drawn as these.

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
    >>> Scale.of(np.array([[0.1, 0.3, 0.8]]), ends=(0.2, 0.4))
    Scale(kind='linear', top=0.4, holes=False, least=0.2, given=True, smaller=1, larger=1)
    """

    kind: Shade
    top: float
    holes: bool = False
    least: float | None = None
    given: bool = False
    smaller: int = 0
    larger: int = 0

    @classmethod
    def of(cls, values: Array, kind: Shade = "linear", ends: Ends = (None, None)) -> Scale:
        """Make the scale whose last shade is the largest number there is, or is given."""
        least, top = ends
        if kind == "diverging" and None in ends and ends != (None, None):
            top = top if least is None else -least  # 0 is in the middle
        given = top is not None
        if top is None:
            top = brightest(np.abs(values) if kind == "diverging" else values)
            if least is not None and top <= least:
                top = least + 1.0  # as where none is above 0
        scale = cls(kind, top, not np.isfinite(values).all(), least, given)
        if ends == (None, None):
            return scale
        smaller = least is not None or kind != "log"  # which ends somewhere, but at nothing told
        return replace(
            scale,
            smaller=int((values < scale.bottom).sum()) if smaller else 0,
            larger=int((values > top).sum()),
        )

    @property
    def bottom(self) -> float:
        """The number of the first shade."""
        if self.least is not None:
            return self.least
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
            span = np.log10(self.bottom / self.top)
            shares = 1 - np.log10(np.maximum(values, self.bottom) / self.top) / span
        elif self.kind == "diverging":
            shares = 0.5 + values / np.where(values < 0, -2 * self.bottom, 2 * self.top)
        else:
            shares = (values - self.bottom) / (self.top - self.bottom)
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
