"""Who sees whom as a picture: one panel a reading, and how many keys each query sees beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.problems.surveying import pairs_of_cells
from attncli.views.headings import narrow_headings, ticks
from attncli.views.labels import shorten
from attncli.views.look import Look
from attncli.views.pooling import factor
from attncli.views.scales import Scale
from attncli.views.strips import Strips

_SCALE = Scale("linear", 1.0)
# A cell of which some is seen never has the shade of all or of nothing.
_SOME = 0.22, 0.78
# Headings, legend and the prompt stand around a picture; one that is little taller may scroll.
_AROUND, _SCROLLS = 8, 32
# Side by side no panel is narrower, unless all keys fit.
_NARROWEST = 16
# Piped, cells are pairs up to so many a side.
MOST_PIPED = 1024
_GAP = 3


@dataclass(frozen=True)
class Grid:
    """How the pairs of a scene share the cells of a picture.

    Attributes
    ----------
    shape : (int, int)
        Queries and keys.
    down, across : int
        How many of each share a cell.
    half : bool
        Two cells a line, as half blocks.
    cell : int
        Columns of the terminal a cell.
    count_width : int
        Columns that the count beside a line takes.
    beside : bool
        Whether panels stand side by side.
    """

    shape: tuple[int, int]
    down: int
    across: int
    half: bool
    cell: int
    count_width: int
    beside: bool

    @classmethod
    def of(cls, shape: tuple[int, int], panels: int, labels: int, look: Look) -> Grid:
        """Fit so many panels into the place that is printed to, and labels of so many columns."""
        T_dec, T_enc = shape
        free = max(look.height - _AROUND, 1)
        if T_dec <= _SCROLLS or look.plain:
            free = MOST_PIPED
        half = look.color and look.unicode and T_dec > free
        down = factor(T_dec, free * (1 + half))
        digits = len(str(T_enc))
        count = max(4, digits if down * (1 + half) == 1 else 2 * digits + 1)
        room = look.width - labels - 1
        each = room if panels == 1 else (room - (panels - 1) * _GAP) // panels
        beside = panels > 1 and each - count - 1 >= min(T_enc, _NARROWEST)
        room = (each if beside else room) - count - 1
        across = factor(T_enc, min(room, MOST_PIPED))
        cell = 2 if not half and 2 * -(-T_enc // across) <= room else 1
        return cls(shape, down, across, half, cell, count, beside)

    @property
    def rows_a_line(self) -> int:
        """How many queries a line stands for."""
        return self.down * (1 + self.half)

    @property
    def exact(self) -> bool:
        """Whether every cell is one pair."""
        return self.down == self.across == 1


class Panel:
    """One reading, with what it alone shows marked.

    Parameters
    ----------
    name : str
        What it is called beside another one.
    grid : Grid
    counts : ndarray of int (T_dec,)
        Keys seen by each query.
    cells, alone : ndarray of int
        In each cell, how many pairs are seen; and how many in this reading alone.
    look : Look
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        counts: Array,
        cells: Array,
        alone: Array | None,
        look: Look,
    ) -> None:
        self.name, self.grid, self.counts, self.look = name, grid, counts, look
        least, most = _SOME
        pairs = pairs_of_cells(grid.shape, grid.down, grid.across)
        values = least + (most - least) * (cells / pairs)
        values[cells == 0], values[cells == pairs] = 0, 1
        if alone is not None:
            values[alone > 0] = np.nan
        self.strips = Strips(values, look, _SCALE, cell=grid.cell, half=grid.half, hole=mark(look))

    @property
    def width(self) -> int:
        """The columns that it takes, counts included."""
        return self.strips.width + 1 + self.grid.count_width

    def line(self, number: int) -> Iterator[Segment]:
        """Give the segments of one line: the cells, and how many keys are seen."""
        for text, style, _ in self.strips.line(number):
            yield Segment(text if self.look.color else text.replace(" ", nothing(self.look)), style)
        by = self.grid.rows_a_line
        counts = self.counts[number * by : (number + 1) * by]
        text = span(int(counts.min()), int(counts.max()), self.look)
        yield Segment(f" {text:>{self.grid.count_width}}", Style.parse("dim"))


class Panels:
    """Panels side by side, under their headings.

    Parameters
    ----------
    panels : sequence of Panel
    rows, columns : sequence of str or None
        The labels of queries and keys, where they are not numbered.
    label_width : int
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        rows: Sequence[str] | None,
        columns: Sequence[str] | None,
        label_width: int,
    ) -> None:
        self.panels, self.rows, self.columns = panels, rows, columns
        self.label_width = label_width
        self.grid, self.look = panels[0].grid, panels[0].look
        self.width = panels[0].width
        named = max(self.width, *(cell_len(panel.name) for panel in panels))
        if label_width + 1 + len(panels) * (named + _GAP) - _GAP <= self.look.width:
            self.width = named

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of every line."""
        label, gap = Style.parse("cyan"), " " * (self.width - self.panels[0].width + _GAP)
        if self.panels[0].name:
            names = [shorten(one.name, self.width, self.look) for one in self.panels]
            yield from self._heading(names, Style.parse("bold"))
        headings = [text.plain for text in self._columns()]
        for text in headings[:-1]:
            yield from self._heading([text] * len(self.panels), Style.parse("bold"))
        width = self.panels[0].width
        last = headings[-1] if headings else ""
        last += " " * (width - 4 - cell_len(last)) + "keys"
        yield from self._heading([last] * len(self.panels), Style.parse("bold"))
        by = self.grid.rows_a_line
        for number in range(self.panels[0].strips.height):
            name = self.rows[number] if self.rows and by == 1 else str(number * by)
            name = shorten(name, self.label_width, self.look)
            yield Segment(" " * (self.label_width - cell_len(name)))
            yield Segment(name + " ", label)
            for place, panel in enumerate(self.panels):
                if place:
                    yield Segment(gap)
                yield from panel.line(number)
            yield Segment.line()

    def _heading(self, texts: Sequence[str], style: Style) -> Iterator[Segment]:
        line = " " * (self.label_width + 1)
        for place, text in enumerate(texts):
            line += " " * _GAP * (place > 0) + text + " " * (self.width - cell_len(text))
        yield Segment(line.rstrip(), style)
        yield Segment.line()

    def _columns(self) -> list[Text]:
        grid = self.grid
        cells = -(-grid.shape[1] // grid.across)
        if grid.across > 1:
            return [ticks(cells, grid.cell, 0, lambda place: place * grid.across)]
        labels = self.columns or [str(number) for number in range(cells)]
        # Slanted headings would reach into the next panel.
        room = self.look if len(self.panels) == 1 else Look(width=0, unicode=self.look.unicode)
        return narrow_headings(labels, 0, grid.cell, 0, room)


def legend(grid: Grid, look: Look, *, compared: bool) -> Text:
    """Say what the shades mean, on as many lines as the width needs."""
    kinds = [("hidden", [0.0]), ("seen", [1.0])]
    if not grid.exact:
        kinds.insert(1, ("some seen", list(np.linspace(*_SOME, 3))))
    if compared:
        kinds.append(("seen here alone", [np.nan]))
    parts = []
    for word, values in kinds:
        text = Text()
        for segment in Strips(np.array([values]), look, _SCALE, hole=mark(look)).line(0):
            shown = segment.text if look.color else segment.text.replace(" ", nothing(look))
            text.append(shown, segment.style)
        parts.append(text.append(f" {word}", "dim"))
    if not grid.exact:
        note = f"1 cell = {grid.down} {look.times} {grid.across} pairs"
        parts.append(Text(note, "dim italic"))
    return _wrapped(parts, look)


def _wrapped(parts: Sequence[Text], look: Look) -> Text:
    """Join parts, each whole on a line."""
    lines = [parts[0]]
    for part in parts[1:]:
        if lines[-1].cell_len + 2 + part.cell_len <= look.width:
            lines[-1] = Text.assemble(lines[-1], "  ", part)
        else:
            lines.append(part)
    return Text("\n").join(lines)


def nothing(look: Look) -> str:
    """What stands for a pair that is not seen where there is no colour."""
    return "·" if look.unicode else "."


def mark(look: Look) -> str:
    """What stands where a pair is seen in one reading alone; in no ramp of shades."""
    return "+" if look.unicode else "!"


def span(first: int, last: int, look: Look) -> str:
    """Write a range of whole numbers.

    Examples
    --------
    >>> span(3, 3, Look()), span(3, 5, Look()), span(3, 5, Look(unicode=False))
    ('3', '3–5', '3-5')
    """
    return str(first) if first == last else f"{first}{'–' if look.unicode else '-'}{last}"
