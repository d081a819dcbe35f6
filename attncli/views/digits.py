"""Weights as a table of digits, shaded where there are colours."""

from __future__ import annotations

from dataclasses import replace

from rich.console import RenderableType

from attncli.views.labels import shorten
from attncli.views.lazy import Rows
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.matrix import Matrix
from attncli.views.numbers import Notation, format_array
from attncli.views.picture import WEIGHT_PRECISION, How, WeightMatrix
from attncli.views.shades import shade

# How long a heading may be, and how wide the gap between columns: roomy first, then tight.
_FITS = ((12, 2), (8, 2), (5, 2), (4, 1))
# No column of digits is narrower: 0.00 and the gap.
_NARROWEST = 5


def draw(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType] | None:
    """Draw the table if it fits, or was asked for, as who gives a precision does."""
    rows, columns = picture.weights.shape
    asked = how.asked or look.precision is not None
    if not (asked or look.plain or columns <= look.width // _NARROWEST):
        return None
    matrix, fits = _matrix(picture, look)
    if not (asked or look.plain or (fits and rows < how.tallest)):
        return None
    parts = [] if matrix.styles is None else [legend(picture.scale, 0, look, "")]
    return [matrix.draw(look), *parts]


def columns_that_fit(picture: WeightMatrix, look: Look) -> int:
    """Give how many columns fit beside each other under headings that say something."""
    matrix, fits = _matrix(picture, look)
    if fits:
        return len(picture.columns)
    longest, gap = _FITS[1]
    headings = [shorten(column, longest, look) for column in picture.columns]
    matrix = replace(matrix, column_labels=headings, gap=gap)
    return max(1, len(headings) - -(-(matrix.width() - look.width) // (matrix.column_width + gap)))


def _matrix(picture: WeightMatrix, look: Look) -> tuple[Matrix, bool]:
    """Make the roomiest table of digits that fits, else the tightest; and say if it fits."""
    weights = picture.weights
    digits = look.digits(WEIGHT_PRECISION)
    notation = Notation(weights, digits)
    texts = Rows(len(weights), lambda row: notation.write(weights[row]))
    longest_text = notation.longest(weights)
    aside: tuple[str, ...] = ()
    if picture.shade != "diverging" and weights.shape[1] > 1:  # of differences it says nothing
        aside = ("sum", *format_array(picture.row_sums, digits))
    styles = shade(weights, look, picture.scale) if look.color else None
    for longest, gap in ((10**6, 2),) if look.plain else _FITS:
        columns = [shorten(column, longest, look) for column in picture.columns]
        matrix = Matrix("", picture.rows, columns, texts, styles, aside, gap, longest_text)
        if matrix.width() <= look.width:
            return matrix, True
    return matrix, False
