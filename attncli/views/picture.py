"""The weights of one head, with all that a picture of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from rich.text import Text

from attncli.arrays import Array
from attncli.views.pooling import Pool, pool, stated
from attncli.views.scales import Ends, Scale, Shade

WEIGHT_PRECISION = 2
# A table and labelled cells scroll like any text, up to here; more rows become a heatmap.
MOST_LINES = 100
SCREENS = 2
"""Many pictures are small enough to be seen on so many."""


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
    shade : {"linear", "log", "row", "diverging"}
        How numbers become shades; diverging where they have both signs.
    pool : {"max", "mean"}
        What becomes of weights that share a cell.
    row_numbers, column_numbers : sequence of int
        The steps' positions in the sequence, where the picture is a part of it.
    ends : (float or None, float or None)
        The numbers of the first and the last shade, where these here do not decide them.
    sums : ndarray or None
        Of the rows, where columns are left out that belong to them.
    """

    heading: str
    weights: Array
    rows: Sequence[str]
    columns: Sequence[str]
    shade: Shade = "linear"
    pool: Pool = "max"
    row_numbers: Sequence[int] = field(default=())
    column_numbers: Sequence[int] = field(default=())
    ends: Ends = (None, None)
    sums: Array | None = None

    @cached_property
    def scale(self) -> Scale:
        """From its numbers to shades."""
        return Scale.of(self.weights, self.shade, self.ends)

    def title(self) -> list[Text]:
        """Give the line above the picture, if there is one."""
        return [Text(self.heading, "bold")] if self.heading else []

    def pooled(self, down: int, across: int) -> tuple[Array, Scale, str]:
        """Return it with blocks of weights as one, their scale, and what to say of it."""
        if down == across == 1:
            return self.weights, self.scale, ""
        weights = pool(self.weights, down, across, self.pool)
        scale = Scale.of(weights, self.shade, self.ends)
        if self.ends != (None, None):  # counted are the weights, not the cells
            scale = replace(scale, smaller=self.scale.smaller, larger=self.scale.larger)
        return weights, scale, stated([(down, across)], self.pool)

    def first_rows(self, count: int) -> WeightMatrix:
        """Return its first rows alone."""
        return replace(
            self,
            weights=self.weights[:count],
            rows=self.rows[:count],
            row_numbers=self.row_numbers[:count],
        )

    def window(self, rows: slice, columns: slice) -> WeightMatrix:
        """Return a part of it, whose shades and sums are those of the whole."""
        return replace(
            self,
            weights=self.weights[rows, columns],
            rows=self.rows[rows],
            columns=self.columns[columns],
            row_numbers=self.row_numbers[rows],
            column_numbers=self.column_numbers[columns],
            ends=(self.ends[0], self.scale.top),
            sums=self.row_sums[rows],
        )

    @cached_property
    def row_sums(self) -> Array:
        """Return the sums of its rows."""
        if self.sums is not None:
            return self.sums
        sums: Array = self.weights.sum(axis=1, dtype=np.float64)
        return sums

    def row_number(self, row: int) -> int:
        """Return the position of a row in the sequence."""
        return int(self.row_numbers[row]) if len(self.row_numbers) else row

    def column_number(self, column: int) -> int:
        """Return the position of a column in the sequence."""
        return int(self.column_numbers[column]) if len(self.column_numbers) else column


@dataclass(frozen=True)
class How:
    """What a picture is drawn by, beside what can be shown.

    Attributes
    ----------
    lines : int or None
        Nothing may be taller than this: for what cannot scroll.
    top, threshold : int, float or None
        Of a list: at most so many a row, and only those of at least this weight.
    asked : bool
        It is to be drawn whether it fits or not.
    """

    lines: int | None = None
    top: int | None = None
    threshold: float | None = None
    asked: bool = False

    @property
    def tallest(self) -> int:
        """How many rows fit."""
        return MOST_LINES if self.lines is None else self.lines - 4


def shortened(heading: str) -> str:
    """Write what a small picture shows in a few letters.

    Examples
    --------
    >>> shortened("layer 3  head 11"), shortened("layer mean  item 0")
    ('L3 H11', 'Lmean I0')
    """
    return " ".join(
        f"{name[:1].upper()}{number}"
        for name, _, number in (part.partition(" ") for part in heading.split("  ") if part)
    )
