"""The strongest keys of every row as a list: "kitten → cat 1.00, the 0.00"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.views.lazy import OneByOne
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE
from attncli.views.numbers import Notation
from attncli.views.picture import WEIGHT_PRECISION, How, WeightMatrix

# So many numbers are sorted and written in one go.
_AT_ONCE = 1 << 18


def draw(picture: WeightMatrix, look: Look, how: How) -> list[RenderableType]:
    """List the keys of every row, strongest first.

    At most `how.top` a row, and of at least `how.threshold`; without either all that are not 0.
    """
    return [OneByOne(lambda: _lines(picture, look, how.top, how.threshold))]


def _lines(
    picture: WeightMatrix, look: Look, count: int | None, threshold: float | None
) -> Iterator[RenderableType]:
    label_width = max(map(cell_len, picture.rows), default=0)
    notation = Notation(picture.weights, look.digits(WEIGHT_PRECISION))
    T_dec, T_enc = picture.weights.shape
    at_once = max(1, _AT_ONCE // max(1, T_enc))
    for first in range(0, T_dec, at_once):
        weights = picture.weights[first : first + at_once]
        order = strongest(weights, T_enc if count is None else count)
        values = np.take_along_axis(weights, order, axis=1)
        kept = values != 0 if count is None else np.full(values.shape, True)
        if threshold is not None:
            kept = np.abs(values) >= threshold
        for row, label in enumerate(picture.rows[first : first + at_once]):
            parts = [
                (" " * (label_width - cell_len(label)), ""),
                (label, LABEL_STYLE),
                (f" {look.arrow} ", "dim"),
            ]
            if not weights[row].any() and picture.shade != "diverging":
                parts.append(("masked", "dim italic"))
            else:
                keys = [picture.columns[place] for place in order[row, kept[row]].tolist()]
                texts = notation.write(values[row, kept[row]])
                parts += _pieces(keys, texts, label_width, look)
                if not keys:
                    parts.append((f"nothing from {threshold:g}", "dim italic"))
            if look.plain and not look.color:
                parts = [("".join(text for text, _ in parts), "")]
            yield _Line(parts) if look.plain else Text.assemble(*parts)


def _pieces(
    keys: list[str], texts: list[str], label_width: int, look: Look
) -> Iterator[tuple[str, str]]:
    """Write key after key, on as many lines as the width needs."""
    indent = min(label_width + 3, look.width // 3)
    used = label_width + 2 + cell_len(look.arrow)
    for place, (key, text) in enumerate(zip(keys, texts, strict=True)):
        taken = cell_len(key) + 1 + len(text) + 2
        used += taken
        if place and used > look.width:  # a line that goes on begins under what it goes on with
            yield ",\n" + " " * indent, ""
            used = indent + taken
        elif place:
            yield ", ", ""
        yield key, ""
        yield f" {text}", "dim" if place else "bold"


class _Line:
    """A line of any length: rich's own texts are looked through for where they could break."""

    def __init__(self, parts: list[tuple[str, str]]) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of the parts."""
        for text, style in self.parts:
            yield Segment(text, Style.parse(style))
        yield Segment.line()


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
