"""One cell a weight, or one for a block of them where the terminal has fewer cells."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from attncli.views.headings import narrow_headings
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.picture import WeightMatrix
from attncli.views.pooling import factor
from attncli.views.strips import Strips

# What stands around a heatmap: title, ticks, legend, a blank line, the prompt.
_AROUND = 6
_FEWEST_LINES = 8
_TICKS = 10


def draw_cells(
    picture: WeightMatrix, look: Look, note: str = "1 cell = 1 weight"
) -> list[RenderableType]:
    """Draw every weight as one shaded cell, in blocks of columns that fit the width.

    The note says in the legend what a cell is.
    """
    weights = picture.weights
    T_enc = weights.shape[1]
    label_width = label_width_of(picture, look)
    room = look.width - label_width - 1
    cell = 2 if 2 * T_enc <= room else 1
    per_block = max(1, room // cell)

    parts: list[RenderableType] = []
    for first in range(0, T_enc, per_block):
        last = min(first + per_block, T_enc)
        if T_enc > per_block:
            ends = picture.column_number(first), picture.column_number(last - 1)
            parts.append(Text(f"columns {ends[0]} to {ends[1]} of {T_enc}", "dim"))
        headings = picture.columns[first:last]
        number = picture.column_number(first)
        parts += narrow_headings(headings, number, cell, label_width + 1, look)
        strips = Strips(
            weights[:, first:last],
            look,
            picture.scale,
            cell=cell,
            labels=picture.rows,
            label_width=label_width,
        )
        parts.append(strips)
    parts.append(legend(picture.scale, label_width + 1, look, note))
    return parts


def label_width_of(picture: WeightMatrix, look: Look) -> int:
    """Give the columns that row labels get beside shaded cells: at most a third."""
    return min(max(map(cell_len, picture.rows), default=0), max(4, look.width // 3))


def draw_heatmap(
    picture: WeightMatrix, look: Look, lines: int | None = None
) -> list[RenderableType]:
    """Draw the whole matrix on one screen: where it is larger, blocks of weights share a cell.

    Parameters
    ----------
    picture : WeightMatrix
    look : Look
        With colours two rows share a line, as half blocks. Piped, nothing is pooled.
    lines : int, optional
        How many lines there are for all of it; default: the terminal's.
    """
    T_dec, T_enc = picture.weights.shape
    half = look.color and look.unicode
    label_width = len(str(picture.row_number(T_dec - 1))) if T_dec else 1
    room = look.width - label_width - 1
    free = max(_FEWEST_LINES, (lines or look.height) - _AROUND)
    across = factor(T_enc, room)
    down = 1 if look.plain else factor(T_dec, free * (2 if half else 1))
    pooled, scale, note = picture.pooled(down, across)
    cell = 2 if not half and 2 * pooled.shape[1] <= room else 1

    rows_a_line = down * (2 if half else 1)
    height = -(-T_dec // rows_a_line)
    labels = [
        str(picture.row_number(line * rows_a_line)) if line % (_TICKS // 2) == 0 else ""
        for line in range(height)
    ]
    strips = Strips(
        pooled,
        look,
        scale,
        cell=cell,
        half=half,
        labels=labels,
        label_width=label_width,
    )
    note = look.fit(note or "1 cell = 1 weight")
    ticks = _ticks(picture, pooled.shape[1], across, cell, label_width + 1)
    return [ticks, strips, legend(scale, label_width + 1, look, note)]


def _ticks(picture: WeightMatrix, cells: int, across: int, cell: int, indent: int) -> Text:
    """Number every tenth column where its cell begins."""
    line = ""
    for place in range(0, cells, _TICKS):
        number = str(picture.column_number(place * across))
        if place * cell >= len(line) and place * cell + len(number) <= cells * cell:
            line = line.ljust(place * cell) + number + " "
    return Text(" " * indent + line.rstrip(), "dim")
