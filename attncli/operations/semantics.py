"""What attention is asked to do beside its inputs, and how it is to be computed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from attncli.arrays import Array
from attncli.errors import ParameterError

Engine = Literal["auto", "direct", "tiled", "reference"]
ENGINES: tuple[Engine, ...] = ("auto", "direct", "tiled", "reference")

_LARGEST = float(np.finfo(float).max)  # a whole number may be larger, and still no infinity


@dataclass(frozen=True)
class Semantics:
    """The options that change the result.

    Attributes
    ----------
    scale : float or None
        What scores are multiplied by; None is 1 for the book's layers and 1/√H for scaled
        dot-product attention.
    causal : {"upper_left", "lower_right"} or None
        Queries see no later keys: query t sees the keys ≤ t, or the last query sees all keys.
    window : int or None
        A query sees only keys at most so many steps before and, unless causal, after its own.
    softcap : float or None
        Scores become softcap · tanh(scores / softcap).

    Raises
    ------
    ParameterError
        If one is outside its range.

    Examples
    --------
    >>> Semantics(window=-1)
    Traceback (most recent call last):
    attncli.errors.ParameterError: window is -1, expected 0 or more
    """

    scale: float | None = None
    causal: str | None = None
    window: int | None = None
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not abs(self.scale) <= _LARGEST:
            raise ParameterError(f"scale is {self.scale}, expected a finite number")
        if self.causal not in (None, "upper_left", "lower_right"):
            raise ParameterError(f"causal is {self.causal}, expected upper_left or lower_right")
        if self.window is not None and self.window < 0:
            raise ParameterError(f"window is {self.window}, expected 0 or more")
        if self.softcap is not None and not 0 < self.softcap <= _LARGEST:
            raise ParameterError(f"softcap is {self.softcap}, expected a finite number above 0")

    def given(self) -> dict[str, Any]:
        """Return the options that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def keys_seen(self, t: int, T_dec: int, T_enc: int) -> Array | None:
        """Say which keys query t sees by causal order and window; None for all.

        Returns
        -------
        ndarray of bool (T_enc,) or None

        Examples
        --------
        >>> Semantics(causal="upper_left", window=1).keys_seen(2, 4, 4)
        array([False,  True,  True, False])
        """
        if self.causal is None and self.window is None:
            return None
        own = t + (T_enc - T_dec if self.causal == "lower_right" else 0)
        behind = np.arange(T_enc) - own
        seen = np.ones(T_enc, bool)
        if self.causal is not None:
            seen &= behind <= 0
        if self.window is not None:
            seen &= np.abs(behind) <= self.window
        return seen

    def of_rows(
        self, rows: slice | Array, T_dec: int, T_enc: int, mask: Array | None
    ) -> tuple[Semantics, Array | None]:
        """Give options and mask that mean the same where these queries are all there are.

        Causal order and window go by a query's place in the whole sequence: they become a mask.

        Parameters
        ----------
        rows : slice or ndarray of int
            The queries that stay.
        T_dec, T_enc : int
            How many queries and keys there are.
        mask : ndarray or None
            Of a shape that broadcasts to (…, T_dec, T_enc).

        Examples
        --------
        >>> semantics, mask = Semantics(causal="upper_left").of_rows(slice(1, 2), 3, 3, None)
        >>> semantics.given(), mask
        ({}, array([[ True,  True, False]]))
        """
        if mask is not None and mask.ndim > 1 and mask.shape[-2] != 1:
            mask = mask[..., rows, :]
        if self.causal is None and self.window is None:
            return self, mask
        places = np.arange(T_dec)[rows].tolist()
        seen = np.array([self.keys_seen(t, T_dec, T_enc) for t in places]).reshape(-1, T_enc)
        if mask is None:
            mask = seen
        else:
            mask = mask & seen if mask.dtype == bool else np.where(seen, mask, -np.inf)
        return replace(self, causal=None, window=None), mask


@dataclass(frozen=True)
class Execution:
    """The options that do not change the result.

    Attributes
    ----------
    engine : {"auto", "direct", "tiled", "reference"}
        direct keeps the weights, tiled never has them, auto goes by size; reference is the book's
        loop.
    threads : int
        How many threads the core uses.
    tile : (int, int) or None
        How many queries and keys the core computes at a time; None for what is fastest.
    keep_weights : bool or None
        False leaves the weights out of the reference's results too; None goes by the engine.
    out : ndarray or None
        Where the core puts the result block by block, if it computes in this dtype; whoever asks
        for it looks whether the result came to lie there.
    """

    engine: Engine = "auto"
    threads: int = 1
    tile: tuple[int, int] | None = None
    keep_weights: bool | None = None
    out: Array | None = field(default=None, compare=False, repr=False)
