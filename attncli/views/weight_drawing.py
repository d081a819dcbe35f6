"""Attention weights on the screen: digits, shaded cells, or a heatmap, whichever fits."""

from __future__ import annotations

from typing import Literal

import numpy as np
from rich.console import Group, RenderableType

from attncli.views.heatmap import draw_cells, draw_heatmap, label_width_of
from attncli.views.labels import shorten
from attncli.views.lazy import Rows
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.matrix import Matrix
from attncli.views.numbers import Notation, format_array
from attncli.views.picture import WeightMatrix, weight_digits
from attncli.views.shades import shade

View = Literal["table", "cells", "heatmap", "list"]

# How long a heading may be, and how wide the gap between columns: roomy first, then tight.
_FITS = ((12, 2), (8, 2), (5, 2), (4, 1))
# A table and labelled cells scroll like any text, up to here; more rows become a heatmap.
_MOST_LINES = 100
# No column of digits is narrower: 0.00 and the gap.
_NARROWEST_DIGITS = 5


def draw_weights(
    picture: WeightMatrix,
    look: Look,
    precision: int | None = None,
    *,
    view: View | None = None,
    lines: int | None = None,
) -> RenderableType:
    """Draw weights in the richest way that fits; no row or column is ever left out.

    A table with digits; else one shaded cell for each weight, under the tokens; else a heatmap on
    one screen, whose cells stand for several weights where there are too many.  Piped output is
    always the table, to the last digit.

    Parameters
    ----------
    picture : WeightMatrix
    look : Look
    precision : int, optional
        Digits behind the point; who asks for them gets the table, in blocks where it is too wide.
    view : {"table", "cells", "heatmap"}, optional
        What to draw whether it fits or not.
    lines : int, optional
        Nothing may be taller than this: for what cannot scroll.
    """
    if view is None and precision is not None:
        view = "table"
    tallest = _MOST_LINES if lines is None else lines - 4
    rows, columns = picture.weights.shape
    if view == "table" or (
        view is None and (look.plain or columns <= look.width // _NARROWEST_DIGITS)
    ):
        matrix, fits = _matrix(picture, look, precision)
        if view == "table" or (fits and (lines is None or rows < tallest)):
            parts = [] if matrix.styles is None else [legend(picture.scale, 0, look, "")]
            return Group(*picture.title(), matrix.draw(look), *parts, "")
    fits = label_width_of(picture, look) + 1 + columns <= look.width and rows <= tallest
    if lines is not None:
        fits = fits and rows + max(map(len, picture.columns), default=0) < tallest
    if view == "cells" or (view is None and fits):
        return Group(*picture.title(), *draw_cells(picture, look), "")
    return Group(*picture.title(), *draw_heatmap(picture, look, lines), "")


def _matrix(picture: WeightMatrix, look: Look, precision: int | None) -> tuple[Matrix, bool]:
    """Make the roomiest table of digits that fits, else the tightest; and say if it fits."""
    weights = picture.weights
    digits = weight_digits(precision, look)
    notation = Notation(weights, digits)
    texts = Rows(len(weights), lambda row: notation.write(weights[row]))
    longest_text = notation.longest(weights)
    aside: tuple[str, ...] = ()
    if picture.shade != "diverging":  # the sum of a row of differences says nothing
        aside = ("sum", *format_array(weights.sum(axis=1, dtype=np.float64), digits))
    styles = shade(weights, look, picture.scale) if look.color else None
    for longest, gap in ((10**6, 2),) if look.plain else _FITS:
        columns = [shorten(column, longest, look) for column in picture.columns]
        matrix = Matrix("", picture.rows, columns, texts, styles, aside, gap, longest_text)
        if matrix.width() <= look.width:
            return matrix, True
    return matrix, False
