"""A trace on the screen: like a worked example in a textbook, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.arrays import Tokens
from attncli.operations.tracing import Intermediate
from attncli.tensors import describe_shape
from attncli.views.lazy import Indented
from attncli.views.look import Look
from attncli.views.numbers import DEFAULT_PRECISION, format_array
from attncli.views.tensor_tables import draw_numbers

# An array of up to so many elements, each of up to so many terms, is worked out in numbers.
_WORKED, _TERMS = 4, 4
_INDENT = 4
# More elements than this are summed up.
_SMALL = 64


def draw_trace(
    trace: Sequence[Intermediate],
    look: Look,
    *,
    tokens: Mapping[str, Tokens] | None = None,
    precision: int | None = None,
    full: bool = False,
    worked: bool = True,
) -> RenderableType:
    """Draw every intermediate: formula, meaning, shape, what made it, its numbers.

    Parameters
    ----------
    trace : sequence of Intermediate
    look : Look
    tokens : mapping of str to ndarray of str, optional
        For an axis, its tokens (size,).
    precision : int, optional
        Digits behind the point.
    full : bool, default False
        Show every number however many there are.
    worked : bool, default True
        Work the small ones out in numbers; see `can_be_worked`.
    """
    parts: list[RenderableType] = []
    direction = ""
    for number, one in enumerate(trace, start=1):
        if one.direction != direction:
            direction = one.direction
            parts += [Text(direction.capitalize(), "bold underline"), ""]
        parts += _intermediate(number, one, look, tokens, precision, full, worked)
    return Group(*parts)


def can_be_worked(trace: Sequence[Intermediate]) -> bool:
    """Tell of a whole trace whether its sums are short: they run along its axes."""
    return all(size <= _TERMS for one in trace for size in one.array.shape)


def _intermediate(
    number: int,
    one: Intermediate,
    look: Look,
    tokens: Mapping[str, Tokens] | None,
    precision: int | None,
    full: bool,
    worked: bool,
) -> list[RenderableType]:
    line = Text(f"{number:>2}  ", "dim").append(one.name, "bold not dim cyan")
    line.append(f" = {look.fit(one.formula)}", "bold not dim")
    shape = describe_shape(one.array.shape, one.axes) if one.axes else "one number"
    about = Indented(Text(look.fit(one.meaning)), _INDENT)
    made_of = f"  from {', '.join(one.made_of)}" if one.made_of else ""
    source = Indented(Text(f"{shape}  {one.array.dtype}{made_of}", "dim"), _INDENT)
    parts: list[RenderableType] = [line, about, source]
    if not one.axes:
        (text,) = format_array(np.atleast_1d(one.array), _digits(precision, look))
        parts.append(Text(" " * _INDENT + text))
    else:
        drawn = draw_numbers(
            one.name,
            one.array,
            one.axes,
            look if look.plain else replace(look, width=look.width - _INDENT),
            tokens=tokens,
            precision=precision,
            full=full,
            small=_SMALL,
        )
        parts.append(Indented(drawn, _INDENT))
    if worked and one.work is not None and one.array.size <= _WORKED:
        parts += _worked(one, look, precision)
    if not one.axes or (worked and one.work is not None and one.array.size <= _WORKED):
        parts.append("")
    return parts


def _worked(one: Intermediate, look: Look, precision: int | None) -> list[RenderableType]:
    """Write the formula of every element with its numbers."""
    assert one.work is not None

    def write(value: float) -> str:
        value = float(value) + 0.0  # no minus zero
        text = repr(value)
        if not look.plain or precision is not None:
            digits = DEFAULT_PRECISION if precision is None else precision
            text = f"{value:.{digits + 1}g}"
        return text.removesuffix(".0")

    def term(value: float) -> str:
        return write(value) if value >= 0 else f"({write(value)})"

    lines: list[RenderableType] = []
    for index in np.ndindex(one.array.shape):
        at = f"[{', '.join(map(str, index))}]" if index else ""
        text = f"{one.name}{at} = {one.work(index, term)} = {write(float(one.array[index]))}"
        lines.append(Indented(Text(look.fit(text), "italic"), _INDENT))
    return lines


def _digits(precision: int | None, look: Look) -> int | None:
    return DEFAULT_PRECISION if precision is None and not look.plain else precision
