"""The options that change what attention computes, checked in this one place."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from attncli.errors import ParameterError

SIDES = ("upper_left", "lower_right")
LARGEST = sys.float_info.max


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
    align : {"upper_left", "lower_right"} or None
        Where a query's own key stands without causal order: at t, or at t + T_enc − T_dec; None
        is as causal order has it, else upper_left.
    window : int, (int, int) or None
        A query sees only keys at most so many steps before and, unless causal, after its own; or
        so many before and so many after.  −1 on a side leaves it unlimited.
    softcap : float or None
        Scores become softcap · tanh(scores / softcap).
    keep_prob : float or None
        Of dropout whose mask is given: what the weights that stay are divided by.

    Raises
    ------
    ParameterError
        If one is outside its range.

    Examples
    --------
    >>> Semantics(window=-2)
    Traceback (most recent call last):
    attncli.errors.ParameterError: window is -2, expected 0 or more, or -1 for no limit
    """

    scale: float | None = None
    causal: str | None = None
    align: str | None = None
    window: int | tuple[int, int] | None = None
    softcap: float | None = None
    keep_prob: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not -LARGEST <= self.scale <= LARGEST:
            raise ParameterError(f"scale is {self.scale}, expected a finite number")
        for name in ("causal", "align"):
            side = getattr(self, name)
            if isinstance(side, str):  # both spellings, everywhere
                side = side.replace("-", "_")
                object.__setattr__(self, name, side)
            if side is not None and side not in SIDES:
                raise ParameterError(f"{name} is {side}, expected {' or '.join(SIDES)}")
        if self.causal is not None and self.align not in (None, self.causal):
            raise ParameterError(f"align is {self.align}, and causal {self.causal}")
        if isinstance(self.window, list):  # as JSON has a pair
            object.__setattr__(self, "window", tuple(self.window))
        if self.window is not None:
            self._check_window(self.window)
        if self.softcap is not None and not 0 < self.softcap <= LARGEST:
            raise ParameterError(f"softcap is {self.softcap}, expected a finite number above 0")
        if self.keep_prob is not None and not 0 < self.keep_prob <= 1:
            raise ParameterError(f"keep_prob is {self.keep_prob}, expected above 0, up to 1")

    def _check_window(self, window: Any) -> None:
        sides = window if isinstance(window, tuple) else (window, window)
        if len(sides) != 2:
            raise ParameterError(f"window is {window}, expected one number, or two: left, right")
        for side in sides:
            whole = isinstance(side, Real) and not isinstance(side, bool)
            if not whole or not side == side // 1:
                raise ParameterError(f"window is {window}, expected a whole number, 0 or more")
            if side < -1:
                raise ParameterError(f"window is {window}, expected 0 or more, or -1 for no limit")

    @property
    def side(self) -> str:
        """Where a query's own key stands: ``"upper_left"`` or ``"lower_right"``."""
        return self.align or self.causal or "upper_left"

    @property
    def reach(self) -> tuple[int | None, int | None]:
        """How many steps before and after its own key a query sees; None for no limit.

        Examples
        --------
        >>> Semantics(window=(2, -1)).reach, Semantics(causal="upper_left", window=2).reach
        ((2, None), (2, 0))
        """
        window = self.window if isinstance(self.window, tuple) else (self.window, self.window)
        left, right = (None if side in (None, -1) else int(side) for side in window)
        return left, 0 if self.causal is not None else right

    @property
    def orders(self) -> bool:
        """Whether some keys are hidden by where they stand."""
        return self.causal is not None or (self.window is not None and self.reach != (None, None))

    def given(self) -> dict[str, Any]:
        """Return the options that are set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def overridden(self, by: Semantics) -> Semantics:
        """Return these options, with those of `by` that are set in their places.

        Examples
        --------
        >>> stored = Semantics(causal="upper_left", window=2)
        >>> stored.overridden(Semantics(align="lower_right")).described()
        'causal lower_right, window 2'
        """
        options = {**self.given(), **by.given()}
        if by.causal is not None and by.align is None:
            options.pop("align", None)
        elif by.align is not None and self.causal is not None:
            options["causal"] = options.pop("align")
        return Semantics(**options)

    def described(self) -> str:
        """Say the options in words; empty where there are none.

        Examples
        --------
        >>> Semantics(scale=0.5, causal="upper_left").described()
        'scale 0.5, causal upper_left'
        """
        return ", ".join(f"{name} {written(value)}" for name, value in self.given().items())

    def of_order(self) -> Semantics:
        """Return the options that hide keys by their step, without those of the scores."""
        return Semantics(causal=self.causal, align=self.align, window=self.window)

    def of_scores(self) -> Semantics:
        """Return the options of the scores alone, without those that hide keys by their step."""
        return replace(self, causal=None, align=None, window=None)


NO_OPTIONS = Semantics()


def written(value: Any) -> str:
    """Write a value as on the command line.

    Examples
    --------
    >>> written((-1, 2)), written(2.0)
    ('-1,2', '2')
    """
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
