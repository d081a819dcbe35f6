"""A whole matrix on one screen: a cell stands for several weights where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.views.headings import TICKS, narrow_headings, ticks
from attncli.views.labels import shorten
from attncli.views.legends import legend, number
from attncli.views.look import Look
from attncli.views.matrix import HEADING_STYLE, LABEL_STYLE
from attncli.views.numbers import format_array
from attncli.views.picture import SCREENS, How, WeightMatrix
from attncli.views.pooling import factor
from attncli.views.strips import Strips

# What stands around a heatmap: ticks and a legend; title, a blank line and the prompt.
_AROUND, _AND_MORE = 3, 3
_FEWEST_LINES = 8
# So many rows have a line each, and more where the terminal is tall.
_FEW_ROWS = 40
# Where each column has a word above it, it is so wide: enough for most words, and no more.
_WIDEST_COLUMN, _NARROWEST_COLUMN = 12, 4


def draw(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType]:
    """Draw the whole matrix on one screen: where it is larger, blocks of weights share a cell.

    An axis of few steps keeps its words, each at a line or a column of its own, and the strongest
    weight of each is told, which no cell of many says. With colours two rows share a line, as half
    blocks, where rows have no words. Piped, nothing is pooled.
    """
    T_dec, T_enc = picture.weights.shape
    widest = look.width - len(str(T_dec)) - 1
    few = min(how.tallest, max(_FEW_ROWS, SCREENS * look.height))
    if not look.plain and T_enc > widest and T_dec <= few:
        return _few_rows(picture, look)
    if not look.plain and T_dec > how.tallest and 2 * T_enc <= widest:
        return _few_columns(picture, look, how)
    return _many(picture, look, how)


def _many(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType]:
    T_dec, T_enc = picture.weights.shape
    half = look.color and look.unicode
    label_width = len(str(picture.row_number(T_dec - 1))) if T_dec else 1
    room = look.width - label_width - 1
    across = factor(T_enc, room)
    down = 1 if look.plain else factor(T_dec, _free(look, how) * (2 if half else 1))
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


def _free(look: Look, how: How) -> int:
    """The lines that there are for rows."""
    if how.lines is not None:
        return max(1, how.lines - _AROUND)
    return max(_FEWEST_LINES, look.height - _AROUND - _AND_MORE)


def _few_rows(picture: WeightMatrix, look: Look) -> list[RenderableType]:
    """Draw a line for each row: its word, its weights as far as there is room, the strongest."""
    asides = [
        f"{shorten(key, look.width // 4, look)} {text}" if key else "masked"
        for key, text in strongest_keys(picture, look)
    ]
    label_width = min(max(map(cell_len, picture.rows), default=0), max(4, look.width // 3))
    room = max(1, look.width - label_width - 2 - max(map(cell_len, asides), default=0))
    across = factor(picture.weights.shape[1], room)
    pooled, scale, note = picture.pooled(1, across)
    strips = Strips(
        pooled, look, scale, labels=picture.rows, label_width=label_width, asides=asides
    )
    line = ticks(
        pooled.shape[1], 1, label_width + 1, lambda place: picture.column_number(place * across)
    )
    note = f"{look.fit(note)}; right: the strongest key"
    return [line, strips, legend(scale, label_width + 1, look, note)]


def _few_columns(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType]:
    """Draw each column under its word, blocks of rows as lines, and the strongest row of each."""
    T_dec, T_enc = picture.weights.shape
    turned = replace(picture, weights=picture.weights.T, rows=picture.columns, columns=picture.rows)
    lines = _wrapped(picture.columns, strongest_keys(turned, look), look)
    down = factor(T_dec, max(_FEWEST_LINES, _free(look, how) - len(lines)))
    pooled, scale, note = picture.pooled(down, 1)
    numbers = [str(picture.row_number(row)) for row in range(0, T_dec, down)]
    label_width = max(map(len, numbers))
    cell = min(_WIDEST_COLUMN, (look.width - label_width - 1) // T_enc)
    headings: Sequence[RenderableType]
    if cell >= _NARROWEST_COLUMN:
        words = (shorten(word, cell - 1, look) for word in picture.columns)
        text = "".join(word + " " * (cell - cell_len(word)) for word in words)
        headings = [Text(" " * (label_width + 1) + text.rstrip(), HEADING_STYLE)]
    else:
        cell = 2
        first = picture.column_number(0)
        headings = narrow_headings(picture.columns, first, cell, label_width + 1, look)
    strips = Strips(pooled, look, scale, cell=cell, labels=numbers, label_width=label_width)
    note = f"{look.fit(note)}; below: the strongest row of each"
    return [*headings, strips, legend(scale, label_width + 1, look, note), *lines]


def _wrapped(keys: Sequence[str], peaks: Sequence[tuple[str, str]], look: Look) -> list[Text]:
    """Write the strongest row of each key, as many beside each other as the width takes."""
    longest = max(4, look.width // 4)
    told = [
        (shorten(row or "masked", longest, look), shorten(key, longest, look), text)
        for key, (row, text) in zip(keys, peaks, strict=True)
    ]
    width = max(sum(map(cell_len, parts)) for parts in told) + len(look.arrow) + 5
    a_line = max(1, look.width // width)
    lines = []
    for first in range(0, len(told), a_line):
        line = Text()
        for place, (row, key, text) in enumerate(told[first : first + a_line]):
            line.append(" " * (place * width - line.cell_len))
            line.append(row, LABEL_STYLE).append(f" {look.arrow} ", "dim").append(key)
            line.append(f" {text}", "dim")
        lines.append(line)
    return lines


def strongest_keys(picture: WeightMatrix, look: Look) -> list[tuple[str, str]]:
    """Say of every row which key has most of it, and how much; nothing where none has any.

    Of equal ones it is the first; of differences the size counts, not the sign.

    Examples
    --------
    >>> weights = np.array([[0.25, 0.75], [0.0, 0.0]])
    >>> strongest_keys(WeightMatrix("", weights, ["a", "b"], ["un", "chat"]), Look())
    [('chat', '0.75'), ('', '')]
    """
    sizes = np.abs(picture.weights)
    places = np.where(np.isnan(sizes), -1.0, sizes).argmax(axis=1)
    values: Array = picture.weights[np.arange(len(places)), places]
    if look.precision is None:
        texts = [number(value) for value in values.tolist()]
    else:
        texts = format_array(values, look.precision)
    return [
        (picture.columns[place], text) if value else ("", "")
        for place, text, value in zip(places.tolist(), texts, values.tolist(), strict=True)
    ]
