"""A whole matrix on one screen: a cell stands for several weights where there are many."""

from __future__ import annotations

from rich.console import RenderableType

from attncli.views.headings import TICKS, ticks
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.picture import How, WeightMatrix
from attncli.views.pooling import factor
from attncli.views.strips import Strips

# What stands around a heatmap: ticks and a legend; title, a blank line and the prompt.
_AROUND, _AND_MORE = 3, 3
_FEWEST_LINES = 8


def draw(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType]:
    """Draw the whole matrix on one screen: where it is larger, blocks of weights share a cell.

    With colours two rows share a line, as half blocks. Piped, nothing is pooled.
    """
    T_dec, T_enc = picture.weights.shape
    half = look.color and look.unicode
    label_width = len(str(picture.row_number(T_dec - 1))) if T_dec else 1
    room = look.width - label_width - 1
    free = max(_FEWEST_LINES, look.height - _AROUND - _AND_MORE)
    if how.lines is not None:
        free = max(1, how.lines - _AROUND)
    across = factor(T_enc, room)
    down = 1 if look.plain else factor(T_dec, free * (2 if half else 1))
    pooled, scale, note = picture.pooled(down, across)
    cell = 2 if not half and 2 * pooled.shape[1] <= room else 1

    rows_a_line = down * (2 if half else 1)
    height = -(-T_dec // rows_a_line)
    labels = [
        str(picture.row_number(line * rows_a_line)) if line % (TICKS // 2) == 0 else ""
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
    line = ticks(
        pooled.shape[1], cell, label_width + 1, lambda place: picture.column_number(place * across)
    )
    return [line, strips, legend(scale, label_width + 1, look, note)]
