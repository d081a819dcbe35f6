"""Records with the same fields: a table where it fits the width, else one block for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from attncli.views.labels import shorten
from attncli.views.look import Look
from attncli.views.matrix import HEADING_STYLE, LABEL_STYLE

_GAP = 2


@dataclass(frozen=True)
class Column:
    """One field of every record.

    Attributes
    ----------
    heading : str
    texts : sequence of str
        One for each record, safe to show.
    right : bool
        Numbers are aligned at their right.
    styles : sequence of str
        A rich style for each text, or none.
    """

    heading: str
    texts: Sequence[str]
    right: bool = False
    styles: Sequence[str] = ()

    @property
    def width(self) -> int:
        """The columns that the widest text takes."""
        return max(map(cell_len, (self.heading, *self.texts)))

    def styled(self, record: int) -> Text:
        """Return the text of a record in its style."""
        return Text(self.texts[record], self.styles[record] if self.styles else "")


def fits(columns: Sequence[Column], look: Look) -> bool:
    """Tell whether records fit as a table."""
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1) <= look.width


def draw_records(columns: Sequence[Column], look: Look) -> RenderableType:
    """Draw records, the first column being what they are called by."""
    records = range(len(columns[0].texts))
    if not fits(columns, look):
        return Group(*(_block(columns, record, look) for record in records))
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style=HEADING_STYLE)
    for number, column in enumerate(columns):
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            style=LABEL_STYLE if number == 0 else "",
            no_wrap=True,
        )
    for record in records:
        table.add_row(*(column.styled(record) for column in columns))
    return table


def _block(columns: Sequence[Column], record: int, look: Look) -> RenderableType:
    name, *fields = columns
    longest = max(cell_len(column.heading) for column in fields)
    lines = [Text(shorten(name.texts[record], look.width, look), LABEL_STYLE)]
    for column in fields:
        line = Text(f"  {set_cell_size(column.heading, longest)}  ", "dim")
        lines.append(line.append_text(column.styled(record)))
    return Group(*lines)
