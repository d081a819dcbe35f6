"""A trace on the screen: like a worked example in a textbook, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.arrays import Array, Tokens
from attncli.operations.tracing import Intermediate
from attncli.problems.traced import Traced
from attncli.tensors import describe_shape
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.json_text import jsonable, tensor_as_json
from attncli.views.labels import safe
from attncli.views.lazy import Indented
from attncli.views.look import Look
from attncli.views.numbers import DEFAULT_PRECISION, format_array
from attncli.views.run_report import headline
from attncli.views.tensor_tables import draw_numbers

# An array of up to so many elements, each of up to so many terms, is worked out in numbers.
_WORKED, _TERMS = 4, 4
_INDENT = 4
_HEADINGS = {"inputs": "Inputs", "forward": "Forward", "backward": "Backward"}
# More elements than this are summed up.
_SMALL = 64


def draw_trace(traced: Traced, shown: Sequence[Intermediate], look: Look) -> RenderableType:
    """Draw some intermediates: formula, meaning, shape, what made it, its numbers."""
    problem, place = traced.problem, traced.place
    where = [_(Sentence("item {number}", number=place.item))] if "N" in problem.sizes else []
    where += [_(Sentence("head {number}", number=place.head))] if "heads" in problem.sizes else []
    one_step = "T_dec" in problem.sizes and not traced.whole
    where += [_(Sentence("step {number}", number=place.step))] if one_step else []
    if "T_dec" in traced.tokens and one_step:
        where[-1] += f" {safe(traced.tokens['T_dec'][place.step], look)}"
    dout = _(Sentence("dout random, seed {seed}", seed=problem.seed))
    parts: list[RenderableType] = [
        headline(problem, "trace", look, where=", ".join(where), dout=dout),
        "",
    ]
    # Sums run along the axes: where all of these are short, they are worked out in numbers.
    worked = all(size <= _TERMS for one in traced.steps for size in one.array.shape)
    direction = ""
    for number, one in enumerate(shown, start=1):
        if one.direction != direction:
            direction = one.direction
            parts += [
                Text(_(_HEADINGS[direction]), "bold underline"),
                "",
            ]
        parts += _intermediate(number, one, look, traced.tokens, worked)
    return Group(*parts)


def trace_as_json(traced: Traced, shown: Sequence[Intermediate]) -> dict[str, Any]:
    """Give the object that ``--json`` prints."""
    steps = (_as_json(one) for one in shown)
    return {**traced.options, "sizes": traced.problem.sizes, "trace": steps}


def _as_json(one: Intermediate) -> dict[str, Any]:
    return {
        "name": one.name,
        "direction": one.direction,
        "formula": one.formula,
        "meaning": one.meaning,
        "from": list(one.made_of),
        **({"book": one.book} if one.book else {}),
        **({"norm_of_each_step": jsonable(one.shares)} if one.shares is not None else {}),
        **tensor_as_json(one.array, one.axes),
    }


def _intermediate(
    number: int,
    one: Intermediate,
    look: Look,
    tokens: Mapping[str, Tokens],
    worked: bool,
) -> list[RenderableType]:
    line = Text(f"{number:>2}  ", "dim").append(one.name, "bold not dim cyan")
    line.append(f" = {look.fit(one.formula)}", "bold not dim")
    shape = describe_shape(one.array.shape, one.axes) if one.axes else _("one number")
    shape += f"  {one.array.dtype}"
    about = Indented(Text(look.fit(_(_meaning(one)))), _INDENT)
    made_of = _(Sentence("  from {names}", names=", ".join(one.made_of))) if one.made_of else ""
    made_of += _(Sentence("  in the book: {name}", name=one.book)) if one.book else ""
    source = Indented(Text(shape + made_of, "dim"), _INDENT)
    parts: list[RenderableType] = [line, about, source]
    worked = worked and one.work is not None and one.array.size <= _WORKED
    inner = look if look.plain else replace(look, width=look.width - _INDENT)

    def numbers(name: str, array: Array, axes: tuple[str, ...]) -> RenderableType:
        if not axes:
            (text,) = format_array(np.atleast_1d(array), look.digits(DEFAULT_PRECISION))
            return Text(text)
        return draw_numbers(name, array, axes, inner, tokens=tokens, small=_SMALL)

    if not worked:
        parts += [Indented(part, _INDENT) for part in _shares(one, numbers)]
    parts.append(Indented(numbers(one.name, one.array, one.axes), _INDENT))
    if worked:
        parts += _worked(one, look)
    if worked or not one.axes:
        parts.append("")
    return parts


def _meaning(one: Intermediate) -> str:
    """What it says; of what the decoder steps share a gradient is a sum over them."""
    if one.shares is not None:
        return Sentence("{meaning}; what all decoder steps add up to", meaning=one.meaning)
    if one.shared and one.direction == "backward":
        return Sentence("{meaning}; this decoder step's share", meaning=one.meaning)
    return one.meaning


def _shares(
    one: Intermediate, numbers: Callable[[str, Array, tuple[str, ...]], RenderableType]
) -> Iterator[RenderableType]:
    """Draw what each decoder step adds to a sum: its share, or how large that is."""
    if one.shares is None or len(one.shares) == 1:
        return
    for t, term in enumerate(one.terms):
        yield Text(_(Sentence("share of step {number}", number=t)), "dim")
        yield numbers(one.name, term, one.axes)
    if not one.terms:
        yield Text(_("norm of each step's share"), "dim")
        yield numbers("", one.shares, ("T_dec",))
    yield Text(_("their sum"), "dim")


def _worked(one: Intermediate, look: Look) -> list[RenderableType]:
    """Write the formula of every element with its numbers."""
    assert one.work is not None

    def write(value: float) -> str:
        value = float(value) + 0.0  # no minus zero
        digits = look.digits(DEFAULT_PRECISION)
        text = repr(value) if digits is None else f"{value:.{digits + 1}g}"
        return text.removesuffix(".0")

    def term(value: float) -> str:
        return write(value) if value >= 0 else f"({write(value)})"

    lines: list[RenderableType] = []
    for index in np.ndindex(one.array.shape):
        at = f"[{', '.join(map(str, index))}]" if index else ""
        text = f"{one.name}{at} = {one.work(index, term)} = {write(float(one.array[index]))}"
        lines.append(Indented(Text(look.fit(text), "italic"), _INDENT))
    return lines
