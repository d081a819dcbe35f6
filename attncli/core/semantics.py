"""The options that change what attention computes, checked in this one place."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

from attncli.errors import ParameterError

CAUSAL = ("upper_left", "lower_right")
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Semantics:
    """The options that change the result.

    Attributes
    ----------
    scale : float or None
        What scores are multiplied by; None is 1 for the book's layers and 1/√H for the general
        operation.
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
        if self.scale is not None and not -_LARGEST <= self.scale <= _LARGEST:
            raise ParameterError(f"scale is {self.scale}, expected a finite number")
        if self.causal is not None and self.causal not in CAUSAL:
            raise ParameterError(f"causal is {self.causal}, expected {' or '.join(CAUSAL)}")
        if self.window is not None and (self.window < 0 or self.window != int(self.window)):
            whole = "" if self.window < 0 else "a whole number, "
            raise ParameterError(f"window is {self.window}, expected {whole}0 or more")
        if self.softcap is not None and not 0 < self.softcap <= _LARGEST:
            raise ParameterError(f"softcap is {self.softcap}, expected a finite number above 0")

    def given(self) -> dict[str, Any]:
        """Return the options that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def described(self) -> str:
        """Say the options in words; empty where there are none.

        Examples
        --------
        >>> Semantics(scale=0.5, causal="upper_left").described()
        'scale 0.5, causal upper_left'
        """
        values = self.given().items()
        return ", ".join(f"{x} {v:g}" if isinstance(v, float) else f"{x} {v}" for x, v in values)

    def of_scores(self) -> Semantics:
        """Return the options of the scores alone, without those that hide keys by their step."""
        return replace(self, causal=None, window=None)
