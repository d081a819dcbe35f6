"""Lines of shaded cells as terminal segments: one for each run of equal cells, not one a cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.views.labels import shorten
from attncli.views.look import Look
from attncli.views.scales import Scale
from attncli.views.shades import HOLE_CHARACTER, colors, hole_color, levels, ramp, steps_of

_LABEL, _ASIDE = Style.parse("cyan"), Style.parse("dim")
# A half block shows two weights, and so many pairs of colours: fewer levels keep them few.
_HALF_LEVELS = 32


class Strips:
    """Shaded cells, row by row, with labels at their left.

    Parameters
    ----------
    values : ndarray (rows, columns)
        Shaded a line at a time: there may be many.
    look : Look
    scale : Scale
        How numbers become shades.
    cell : int
        Columns of the terminal a cell.
    half : bool
        Two rows a line, as half blocks; only with colours.
    labels : sequence of str
        One a line, or none.
    asides : sequence of str
        What stands at the right of each line, or none.
    hole : str
        The character of what has no shade, where there is no colour.
    """

    def __init__(
        self,
        values: Array,
        look: Look,
        scale: Scale,
        *,
        cell: int = 1,
        half: bool = False,
        labels: Sequence[str] = (),
        label_width: int = 0,
        asides: Sequence[str] = (),
        hole: str = HOLE_CHARACTER,
    ) -> None:
        self.look, self.cell, self.half = look, cell, half and look.color and look.unicode
        self.scale, self.labels, self.label_width = scale, labels, label_width
        self.asides = asides
        self.steps = steps_of(look, scale)
        if self.half:
            self.steps = min(self.steps, _HALF_LEVELS + (scale.kind == "diverging"))
        self.values = values
        self._colors = [*self._palette(), hole_color(look)] if look.color else []
        characters = ramp(look, diverging=scale.kind == "diverging") + hole
        self._characters = np.array(list(characters))
        self._styles: dict[int, Style] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of every line."""
        for number in range(self.height):
            if self.label_width:
                label = shorten(self.labels[number], self.label_width, self.look)
                yield Segment(" " * (self.label_width - cell_len(label)))
                yield Segment(label, _LABEL)
                yield Segment(" ")
            yield from self.line(number)
            if self.asides:
                yield Segment(f" {self.asides[number]}", _ASIDE)
            yield Segment.line()

    @property
    def height(self) -> int:
        """How many lines there are."""
        return -(-len(self.values) // 2) if self.half else len(self.values)

    @property
    def width(self) -> int:
        """How many columns of the terminal there are."""
        return int(self.values.shape[1]) * self.cell

    def _levels(self, row: int) -> Array:
        found: Array = levels(self.scale.shares(self.values[row : row + 1]), self.steps)[0]
        return found

    def line(self, number: int) -> Iterator[Segment]:
        """Give the segments of one line, without its end."""
        if not self.look.color:
            row = np.repeat(self._characters[self._levels(number)], self.cell)
            yield Segment("".join(row.tolist()))
            return
        if not self.half:
            row = self._levels(number)
            yield from self._runs(self._codes(row, row))
            return
        upper = self._levels(2 * number)
        last = 2 * number + 1 == len(self.values)
        lower = np.full_like(upper, self._nothing) if last else self._levels(2 * number + 1)
        yield from self._runs(self._codes(upper, lower))

    @property
    def _nothing(self) -> int:
        """What is below the last row of all: no level, and no hole either."""
        return self.steps + 1

    def _codes(self, upper: Array, lower: Array) -> Array:
        return upper * (self._nothing + 1) + lower

    def _runs(self, codes: Array) -> Iterator[Segment]:
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        for first, last in itertools.pairwise(starts):
            code = int(codes[first])
            style = self._styles.get(code)
            if style is None:
                style = self._styles[code] = self._style(code)
            text = " " if style.color is None else "▀"
            yield Segment(text * ((last - first) * self.cell), style)

    def _style(self, code: int) -> Style:
        upper, lower = divmod(code, self._nothing + 1)
        if lower == self._nothing:
            return Style.from_color(self._colors[upper])
        if upper == lower:
            return Style.from_color(None, self._colors[upper])
        return Style.from_color(self._colors[upper], self._colors[lower])

    def _palette(self) -> list[Color]:
        every = colors(self.look, self.scale)
        picked = np.linspace(0, len(every) - 1, self.steps).round().astype(int)
        return [every[index] for index in picked.tolist()]


def strip(values: Array, look: Look, scale: Scale, cell: int = 1) -> Text:
    """Draw one row of numbers as text that can stand in a line."""
    text = Text()
    for segment in Strips(values[None], look, scale, cell=cell).line(0):
        text.append(segment.text, segment.style)
    return text


def shaded(values: Array, top: float, cell: int, look: Look) -> Text:
    """Draw numbers between 0 and `top` as shaded cells of `cell` columns each."""
    return strip(values, look, Scale("linear", top), cell)
