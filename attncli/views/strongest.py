"""The strongest keys of every row as a list: "kitten → cat 1.00, the 0.00"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE
from attncli.views.numbers import format_array
from attncli.views.picture import WeightMatrix, weight_digits


def draw_strongest(
    picture: WeightMatrix,
    count: int | None,
    look: Look,
    precision: int | None = None,
    threshold: float | None = None,
) -> RenderableType:
    """List the keys of every row, strongest first.

    Parameters
    ----------
    picture : WeightMatrix
    count : int or None
        At most so many a row; without it and a threshold, all that are not 0.
    look : Look
    precision : int, optional
        Digits behind the point.
    threshold : float, optional
        Only those of at least this weight.
    """
    label_width = max(map(cell_len, picture.rows), default=0)
    digits = weight_digits(precision, look)
    return Group(*picture.title(), *_lines(picture, count, look, digits, threshold, label_width))


def _lines(
    picture: WeightMatrix,
    count: int | None,
    look: Look,
    digits: int | None,
    threshold: float | None,
    label_width: int,
) -> Iterator[RenderableType]:
    weights = picture.weights
    order = strongest(weights, weights.shape[1] if count is None else count)
    values = np.take_along_axis(weights, order, axis=1)
    texts = np.reshape(np.array(format_array(values, digits), dtype=object), values.shape)
    kept = values != 0 if count is None else np.full(values.shape, True)
    if threshold is not None:
        kept = np.abs(values) >= threshold
    for row, label in enumerate(picture.rows):
        line = Text(" " * (label_width - cell_len(label)))
        line.append(label, LABEL_STYLE).append(f" {look.arrow} ", "dim")
        if not weights[row].any() and picture.shade != "diverging":
            yield line.append("masked", "dim italic")
            continue
        places = np.flatnonzero(kept[row]).tolist()
        if not places:
            line.append(f"nothing from {threshold:g}", "dim italic")
        used = line.cell_len
        for place in places:
            piece = f"{picture.columns[order[row, place]]} {texts[row, place]}"
            used += 2 + cell_len(piece)
            if place and used > look.width:  # a line that goes on begins under what it goes on with
                indent = min(label_width + 3, look.width // 3)
                line.append(",\n" + " " * indent)
                used = indent + cell_len(piece) + 2
            elif place:
                line.append(", ")
            label, _, text = piece.rpartition(" ")
            line.append(label).append(f" {text}", "bold" if not place else "dim")
        yield line
    yield ""


def strongest(weights: Array, count: int) -> Array:
    """Give the columns of the `count` largest weights of every row, largest first.

    Of equal weights the earlier column comes first; the size of a difference counts, not its sign.

    Examples
    --------
    >>> strongest(np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]]), 2)
    array([[1, 2],
           [0, 2]])
    """
    if (weights < 0).any():
        weights = np.abs(weights)
    weights = np.where(np.isnan(weights), -np.inf, weights)  # after all numbers
    if 4 * count < weights.shape[1]:
        # Far fewer than there are: only candidates at or above the last place are sorted.
        least = np.partition(weights, weights.shape[1] - count, axis=1)[:, -count]
        return np.stack(
            [_sorted(row, limit, count) for row, limit in zip(weights, least, strict=False)]
        )
    return np.argsort(-weights, axis=1, kind="stable")[:, :count]


def _sorted(row: Array, limit: float, count: int) -> Array:
    candidates = np.flatnonzero(row >= limit)
    order: Array = candidates[np.argsort(-row[candidates], kind="stable")][:count]
    return order
