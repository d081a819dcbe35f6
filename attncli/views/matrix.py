"""A matrix of short texts with labelled rows and columns, in as many blocks as the width needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from attncli.views.labels import shorten
from attncli.views.look import Look

if TYPE_CHECKING:
    from rich.table import Table

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
        One text for each row and column.
    styles : sequence of sequence of Style, optional
        One style for each cell; cells with styles touch, so that shades form a picture.
    aside : sequence of str
        A last column, set apart; its heading first.
    gap : int
        Columns of the screen between two columns of texts.
    """

    corner: str
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    cells: Sequence[Sequence[str]]
    styles: Sequence[Sequence[Style]] | None = None
    aside: Sequence[str] = field(default=())
    gap: int = 2

    def longest_label(self) -> int:
        """Return the columns that the longest row label takes."""
        return max(map(cell_len, (self.corner, *self.row_labels)), default=0)

    def column_width(self) -> int:
        """Return the columns that the widest cell or heading takes."""
        texts = [text for row in self.cells for text in row]
        return max(map(cell_len, (*texts, *self.column_labels)), default=0)

    def width(self) -> int:
        """Return the columns that the whole matrix takes beside each other."""
        aside = max(map(cell_len, self.aside), default=0)
        columns = len(self.column_labels) * (self.column_width() + self.gap)
        return self.longest_label() + columns + (aside + self.gap if self.aside else 0)

    def draw(self, look: Look) -> RenderableType:
        """Draw as one table, as several blocks of columns, or, where none fits, as a list."""
        if look.plain and not look.color:
            return Text(self._plain())
        label_width = self.longest_label()
        room = look.width - label_width
        if self.aside:
            room -= max(map(cell_len, self.aside)) + self.gap
        per_block = room // (self.column_width() + self.gap)
        total = len(self.column_labels)
        if per_block >= total:
            return self._table(0, total)
        if per_block < 1:
            return self._list(look)
        blocks = range(0, total, per_block)
        tables = [self._table(first, min(first + per_block, total)) for first in blocks]
        return Group(*(part for table in tables for part in (table, "")))

    def _plain(self) -> str:
        """Align the texts without the help of a rich table, which takes 100 times as long."""
        widths = [self.longest_label(), *[self.column_width() + self.gap] * len(self.column_labels)]
        lines = [[self.corner, *self.column_labels]]
        lines += [[label, *row] for label, row in zip(self.row_labels, self.cells, strict=True)]
        if self.aside:
            widths.append(max(map(len, self.aside)) + self.gap)
            lines = [[*line, text] for line, text in zip(lines, self.aside, strict=True)]
        return "\n".join(
            "".join(
                " " * (width - cell_len(text)) + text
                for text, width in zip(line, widths, strict=True)
            )
            for line in lines
        )

    def _table(self, first: int, last: int) -> Table:
        from rich.table import Table  # not needed, and not loaded, when piped

        table = Table(box=None, padding=0, pad_edge=False, header_style="")
        corner = Text(self.corner, "dim")
        table.add_column(corner, justify="right", no_wrap=True, style=LABEL_STYLE)
        width = self.column_width() + self.gap
        for label in self.column_labels[first:last]:
            heading = Text(self._centred(label) if self.styles else label, HEADING_STYLE)
            table.add_column(heading, justify="right", min_width=width, no_wrap=True)
        if self.aside:
            width = max(map(cell_len, self.aside)) + self.gap
            heading = Text(self.aside[0], "dim")
            table.add_column(heading, justify="right", min_width=width, no_wrap=True, style="dim")
        for row, label in enumerate(self.row_labels):
            cells = [self._cell(row, column) for column in range(first, last)]
            table.add_row(Text(label), *cells, *self.aside[row + 1 : row + 2])
        return table

    def _cell(self, row: int, column: int) -> Text:
        text = self.cells[row][column]
        # The space behind belongs to a shaded cell, so that its text stands in the middle.
        return Text(self._centred(text), self.styles[row][column]) if self.styles else Text(text)

    def _centred(self, text: str) -> str:
        return text + " " * (self.gap // 2)

    def _list(self, look: Look) -> Group:
        lines = []
        for row, label in enumerate(self.row_labels):
            lines.append(Text(shorten(f"{self.corner} {label}", look.width, look), LABEL_STYLE))
            for column, heading in enumerate(self.column_labels):
                text = f"{heading} {self.cells[row][column]}"
                lines.append(Text(shorten(f"  {text}", look.width, look)))
            if self.aside:
                lines.append(Text(f"  {self.aside[0]} {self.aside[row + 1]}", "dim"))
        return Group(*lines)
