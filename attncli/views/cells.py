"""One shaded cell a weight, under the tokens."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from attncli.views.headings import narrow_headings
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.picture import How, WeightMatrix
from attncli.views.strips import Strips


def draw(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType] | None:
    """Draw the cells if they fit, or were asked for."""
    rows, columns = picture.weights.shape
    fits = _label_width(picture, look) + 1 + columns <= look.width and rows <= how.tallest
    if how.lines is not None:
        fits = fits and rows + max(map(len, picture.columns), default=0) < how.tallest
    return draw_cells(picture, look) if fits or how.asked else None


def draw_cells(
    picture: WeightMatrix, look: Look, note: str = "1 cell = 1 weight"
) -> list[RenderableType]:
    """Draw every weight as one shaded cell, in blocks of columns that fit the width.

    The note says in the legend what a cell is.
    """
    weights = picture.weights
    T_enc = weights.shape[1]
    label_width = _label_width(picture, look)
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


def columns_that_fit(picture: WeightMatrix, look: Look) -> int:
    """Give how many columns fit beside each other, each so wide that words stand over them."""
    return max(1, (look.width - _label_width(picture, look) - 1) // 2)


def _label_width(picture: WeightMatrix, look: Look) -> int:
    """Give the columns that row labels get beside shaded cells: at most a third."""
    return min(max(map(cell_len, picture.rows), default=0), max(4, look.width // 3))
