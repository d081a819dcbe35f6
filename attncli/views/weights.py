"""Attention weights on the screen: a table of digits and shades, shaded cells, or a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.views.labels import shorten
from attncli.views.look import Look
from attncli.views.matrix import HEADING_STYLE, LABEL_STYLE, Matrix
from attncli.views.numbers import format_array
from attncli.views.shades import LEVELS, brightest, levels, ramp, shade, shade_styles

WEIGHT_PRECISION = 2

# How long a heading may be, and how wide the gap between columns: roomy first, then tight.
_FITS = ((12, 2), (8, 2), (5, 2), (4, 1))
_HEADING_LINES = 12
_LEGEND_CELLS = 16


@dataclass(frozen=True)
class WeightMatrix:
    """The weights of one item and head, ready to be drawn.

    Attributes
    ----------
    heading : str
        Which item, head and layer.
    weights : ndarray (T_dec, T_enc)
    rows, columns : sequence of str
        The labels of decoder and encoder steps, safe to show.
    """

    heading: str
    weights: Array
    rows: Sequence[str]
    columns: Sequence[str]


def draw_weights(
    picture: WeightMatrix, look: Look, precision: int | None = None, *, digits: bool = False
) -> RenderableType:
    """Draw weights in the richest way that fits the width; no row or column is ever left out.

    A table with digits; else one shaded cell for each weight, with a legend, in several blocks of
    columns if even that is too wide.  Piped output is always the table, to the last digit.

    Parameters
    ----------
    picture : WeightMatrix
    look : Look
    precision : int, optional
        Digits behind the point; who asks for them gets the table, in blocks where it is too wide.
    digits : bool, default False
        Draw the table in any case.
    """
    matrix, fits = _matrix(picture, look, precision)
    if fits or digits or precision is not None:
        return Group(*_heading(picture), matrix.draw(look), "")
    return Group(*_heading(picture), *_cells(picture, look), "")


def draw_strongest(
    picture: WeightMatrix, count: int, look: Look, precision: int | None = None
) -> RenderableType:
    """List the `count` strongest keys of every row: "kitten → cat 1.00, the 0.00"."""
    weights = picture.weights
    order = strongest(weights, count)
    values = np.take_along_axis(weights, order, axis=1)
    texts = format_array(values, _digits(precision, look))
    label_width = max(map(cell_len, picture.rows), default=0)
    lines: list[RenderableType] = []
    for row, label in enumerate(picture.rows):
        line = Text(" " * (label_width - cell_len(label)))
        line.append(label, LABEL_STYLE).append(f" {look.arrow} ", "dim")
        if not weights[row].any():
            lines.append(line.append("masked", "dim italic"))
            continue
        for place, column in enumerate(order[row]):
            line.append(", " if place else "").append(picture.columns[column])
            line.append(f" {texts[row * order.shape[1] + place]}", "bold" if not place else "dim")
        lines.append(line)
    return Group(*_heading(picture), *lines, "")


def strongest(weights: Array, count: int) -> Array:
    """Give the columns of the `count` largest weights of every row, largest first.

    Of equal weights the earlier column comes first.

    Examples
    --------
    >>> strongest(np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]]), 2)
    array([[1, 2],
           [0, 2]])
    """
    return np.argsort(-weights, axis=1, kind="stable")[:, :count]


def _heading(picture: WeightMatrix) -> list[Text]:
    return [Text(picture.heading, "bold")] if picture.heading else []


def _digits(precision: int | None, look: Look) -> int | None:
    return WEIGHT_PRECISION if precision is None and not look.plain else precision


def _matrix(picture: WeightMatrix, look: Look, precision: int | None) -> tuple[Matrix, bool]:
    """Make the roomiest table of digits that fits, else the tightest; and say if it fits."""
    weights = picture.weights
    digits = _digits(precision, look)
    texts = np.array(format_array(weights, digits), dtype=object).reshape(weights.shape).tolist()
    sums = format_array(weights.sum(axis=1, dtype=np.float64), digits)
    styles = shade(weights) if look.color else None
    for longest, gap in ((10**6, 2),) if look.plain else _FITS:
        columns = [shorten(column, longest, look) for column in picture.columns]
        matrix = Matrix("", picture.rows, columns, texts, styles, ("sum", *sums), gap)
        if matrix.width() <= look.width:
            return matrix, True
    return matrix, False


def _cells(picture: WeightMatrix, look: Look) -> list[RenderableType]:
    """Draw every weight as one shaded cell, in blocks of columns that fit the width."""
    weights = picture.weights
    T_dec, T_enc = weights.shape
    label_width = min(max(map(cell_len, picture.rows), default=0), max(4, look.width // 3))
    room = look.width - label_width - 1
    cell = 2 if 2 * T_enc <= room else 1
    per_block = max(1, room // cell)
    top = brightest(weights)

    parts: list[RenderableType] = []
    for first in range(0, T_enc, per_block):
        last = min(first + per_block, T_enc)
        if T_enc > per_block:
            parts.append(Text(f"columns {first} to {last - 1} of {T_enc}", "dim"))
        parts += _column_headings(picture.columns, first, last, cell, label_width, look.ellipsis)
        for row in range(T_dec):
            label = shorten(picture.rows[row], label_width, look)
            line = Text(" " * (label_width - cell_len(label)))
            line.append(label, LABEL_STYLE).append(" ")
            line.append_text(shaded(weights[row, first:last], top, cell, look))
            parts.append(line)
    parts.append(legend(top, label_width + 1, look))
    return parts


def shaded(values: Array, top: float, cell: int, look: Look) -> Text:
    """Draw numbers between 0 and `top` as shaded cells of `cell` columns each."""
    text = Text()
    if look.color:
        palette = shade_styles()
        for level in levels(values, top, LEVELS).tolist():
            text.append(" " * cell, palette[level])
    else:
        characters = ramp(look)
        for level in levels(values, top, len(characters)).tolist():
            text.append(characters[level] * cell)
    return text


def legend(top: float, indent: int, look: Look) -> Text:
    """Say what the shades mean."""
    scale = np.linspace(0, top, _LEGEND_CELLS)
    if not look.color:
        scale = np.linspace(0, top, len(ramp(look)))
    (text,) = format_array(np.asarray([top]), WEIGHT_PRECISION)
    line = Text(" " * indent).append("0 ", "dim")
    line.append_text(shaded(scale, top, 1, look)).append(f" {text}", "dim")
    return line.append("  1 cell = 1 weight", "dim italic")


def _column_headings(
    labels: Sequence[str], first: int, last: int, cell: int, indent: int, ellipsis: str
) -> list[RenderableType]:
    """Write the labels downwards, one character a line, their ends on the last line.

    Where a label has a character wider than the cell, the columns are numbered.
    """
    chosen = [
        label if len(label) <= _HEADING_LINES else label[: _HEADING_LINES - 1] + ellipsis
        for label in labels[first:last]
    ]
    if any(cell_len(character) > cell for label in chosen for character in label):
        chosen = [str(column) for column in range(first, last)]
    height = max(map(len, chosen))
    padded = [label.rjust(height) for label in chosen]
    lines: list[RenderableType] = []
    for height_index in range(height):
        line = Text(" " * (indent + 1))
        for label in padded:
            character = label[height_index]
            line.append(character + " " * (cell - cell_len(character)), HEADING_STYLE)
        lines.append(line)
    return lines
