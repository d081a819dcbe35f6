"""A matrix of short texts with labelled rows and columns, in as many blocks as the width needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.views.labels import shorten
from attncli.views.lazy import OneByOne
from attncli.views.look import Look

LABEL_STYLE = "cyan"
HEADING_STYLE = "bold"


@dataclass(frozen=True)
class Matrix:
    """Texts in rows and columns.

    Attributes
    ----------
    corner : str
        What stands above the row labels.
    row_labels, column_labels : sequence of str
        Already safe to show.
    cells : sequence of sequence of str
        One text for each row and column: a number, whose letters are one column wide.
    styles : sequence of sequence of Style, optional
        One style for each cell; cells with styles touch, so that shades form a picture.
    aside : sequence of str
        A last column, set apart; its heading first.
    gap : int
        Columns of the screen between two columns of texts.
    longest_cell : int or None
        The columns that the widest cell takes, where that is known: else all are looked at.
    """

    corner: str
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    cells: Sequence[Sequence[str]]
    styles: Sequence[Sequence[Style]] | None = None
    aside: Sequence[str] = field(default=())
    gap: int = 2
    longest_cell: int | None = None

    def longest_label(self) -> int:
        """Return the columns that the longest row label takes."""
        return max(map(cell_len, (self.corner, *self.row_labels)), default=0)

    @cached_property
    def column_width(self) -> int:
        """The columns that the widest cell or heading takes."""
        longest = self.longest_cell
        if longest is None:
            longest = max((len(text) for row in self.cells for text in row), default=0)
        return max(longest, *map(cell_len, self.column_labels), 0)

    def width(self) -> int:
        """Return the columns that the whole matrix takes beside each other."""
        aside = max(map(cell_len, self.aside), default=0)
        columns = len(self.column_labels) * (self.column_width + self.gap)
        return self.longest_label() + columns + (aside + self.gap if self.aside else 0)

    def draw(self, look: Look) -> RenderableType:
        """Draw as one table, as several blocks of columns, or, where none fits, as a list."""
        total = len(self.column_labels)
        room = look.width - self.longest_label()
        if self.aside:
            room -= max(map(cell_len, self.aside)) + self.gap
        per_block = room // (self.column_width + self.gap)
        if look.plain or per_block >= total:
            return _Block(self, 0, total)
        if per_block < 1:
            return OneByOne(lambda: self._list(look))
        blocks = range(0, total, per_block)
        tables = [_Block(self, first, min(first + per_block, total)) for first in blocks]
        return OneByOne(lambda: (part for table in tables for part in (table, "")))

    def _list(self, look: Look) -> Iterator[RenderableType]:
        for row, label in enumerate(self.row_labels):
            yield Text(shorten(f"{self.corner} {label}", look.width, look), LABEL_STYLE)
            for heading, cell in zip(self.column_labels, self.cells[row], strict=True):
                yield Text(shorten(f"  {heading} {cell}", look.width, look))
            if self.aside:
                yield Text(f"  {self.aside[0]} {self.aside[row + 1]}", "dim")


class _Block:
    """The columns of a matrix from `first` to `last`, printed row by row.

    A rich table would hold every cell at a time, and takes 100 times as long.
    """

    def __init__(self, matrix: Matrix, first: int, last: int) -> None:
        self.matrix, self.columns = matrix, slice(first, last)
        self.label_width = matrix.longest_label()
        self.width = matrix.column_width + matrix.gap
        self.aside_width = max(map(cell_len, matrix.aside), default=0) + matrix.gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of the headings, then of every row."""
        matrix, label, dim = self.matrix, Style.parse(LABEL_STYLE), Style.parse("dim")
        headings = matrix.column_labels[self.columns]
        bold = [Style.parse(HEADING_STYLE)] * len(headings)
        yield from self._line(matrix.corner, dim, headings, bold, 0)
        for row, name in enumerate(matrix.row_labels):
            styles = None if matrix.styles is None else matrix.styles[row][self.columns]
            yield from self._line(name, label, matrix.cells[row][self.columns], styles, row + 1)

    def _line(
        self,
        label: str,
        style: Style,
        cells: Sequence[str],
        styles: Sequence[Style] | None,
        number: int,
    ) -> Iterator[Segment]:
        matrix = self.matrix
        yield Segment(_right(label, self.label_width), style)
        if styles is None:
            plain = all(map(str.isascii, cells))  # most are numbers, and need no measuring
            yield Segment(
                "".join(
                    [
                        cell.rjust(self.width) if plain else _right(cell, self.width)
                        for cell in cells
                    ]
                )
            )
        else:
            for cell, shade in zip(cells, styles, strict=True):
                yield Segment(_right(cell, self.width), shade)
        if matrix.aside:
            yield Segment(_right(matrix.aside[number], self.aside_width), Style.parse("dim"))
        yield Segment.line()


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text
