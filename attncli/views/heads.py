"""Many attention heads as one table of numbers that say what each does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from attncli.views.headings import narrow_headings
from attncli.views.legends import legend
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE
from attncli.views.numbers import format_array
from attncli.views.picture import WEIGHT_PRECISION
from attncli.views.records import Column, draw_records, fits
from attncli.views.scales import Scale
from attncli.views.strips import strip
from attncli.weights.selection import called
from attncli.weights.statistics import Statistics


class Order(NamedTuple):
    """What heads can be sorted by.

    Attributes
    ----------
    statistic : str
        Its name among the statistics.
    heading : str
        In the table.
    falling : bool
        Whether the largest come first.
    always : bool
        Whether it is in the table of every order.
    """

    statistic: str
    heading: str
    falling: bool = True
    always: bool = True


SORTS = {
    "entropy": Order("entropy", "entropy", falling=False),
    "peak": Order("peak", "mean peak", always=False),
    "max": Order("maximum", "max"),
    "first": Order("first", "on first"),
    "diagonal": Order("diagonal", "on diagonal"),
    "previous": Order("previous", "on previous"),
    "monotonic": Order("monotonic", "monotonic", always=False),
    "induction": Order("induction", "induction", always=False),
    "dead": Order("dead", "dead rows"),
}


@dataclass(frozen=True)
class Head:
    """One of many heads.

    Attributes
    ----------
    names : dict of str to int
        Its layer, item and head, as far as the file has those axes.
    statistics : Statistics
    square : bool
        Whether its rows and keys are those of one sequence: in others none is the one before.
    """

    names: dict[str, int]
    statistics: Statistics
    square: bool = True

    def value(self, sort: str) -> float:
        """Return the number that a sort goes by; NaN where it means nothing for this head."""
        found: float | None = getattr(self.statistics, SORTS[sort].statistic)
        return math.nan if found is None or (sort == "previous" and not self.square) else found


def sort_heads(heads: Sequence[Head], by: str | None) -> list[Head]:
    """Put heads in order: what stands out first, or by names; None leaves them as they are."""
    if by is None:
        return list(heads)
    if by == "name":
        return sorted(
            heads, key=lambda head: [(isinstance(x, str), x) for x in head.names.values()]
        )
    sign = -1 if SORTS[by].falling else 1
    values = {id(head): sign * head.value(by) for head in heads}
    return sorted(heads, key=lambda head: (math.isnan(values[id(head)]), values[id(head)]))


def draw_heads(heads: Sequence[Head], look: Look, by: str | None = None) -> RenderableType:
    """Draw one line for each head, in the order given, with the number that it goes by."""
    names = [
        Column(name, [str(head.names[name]) for head in heads], right=name != "part")
        for name in heads[0].names
    ]
    whole = ["  ".join(called(name, number) for name, number in one.names.items()) for one in heads]
    digits = look.digits(WEIGHT_PRECISION)
    told = [by] if by is not None and not SORTS[by].always else []
    told += [sort for sort, order in SORTS.items() if order.always]
    if not any(head.square for head in heads):
        told.remove("previous")
    numbers = []
    for sort in told:
        values = np.asarray([head.value(sort) for head in heads])
        texts = format_array(values, digits)
        known = [
            look.fit("–") if np.isnan(x) else text for x, text in zip(values, texts, strict=True)
        ]
        numbers.append(Column(SORTS[sort].heading, known, right=True))
    # Those at the end go where there is no room: what is sorted by comes first there.
    if not fits([*names, *numbers], look):
        numbers.sort(key=lambda column: by is None or column.heading != SORTS[by].heading)
    if not fits([*names, numbers[0]], look):
        names = [Column("", whole)]
    while len(numbers) > 1 and not fits([*names, *numbers], look):
        numbers.pop()
    return draw_records([*names, *numbers], look)


def draw_map(
    heads: Sequence[Head], places: Sequence[tuple[str, str]], by: str, look: Look, lines: int
) -> list[Text]:
    """Draw one cell for each head, shaded by one of its numbers: layers down, heads across.

    Parameters
    ----------
    heads : sequence of Head
    places : sequence of (str, str)
        Where each stands.
    by : str
        The number it is shaded by.
    look : Look
    lines : int
        No more lines than these: what is left out is said.
    """
    downs = list(dict.fromkeys(down for down, _ in places))
    acrosses = list(dict.fromkeys(across for _, across in places))
    values = dict(zip(places, (head.value(by) for head in heads), strict=True))
    scale = Scale.of(np.array(list(values.values())))
    label_width = max(map(len, downs))
    room = max(1, look.width - label_width - 1)
    cell = 2 if 2 * len(acrosses) <= room else 1
    drawn: list[Text] = []
    blocks = range(0, len(acrosses), room // cell)
    last = next(reversed(heads[0].names))
    note = f"1 cell = the {SORTS[by].heading} of 1 {last}"
    said = legend(scale, label_width + 1, look, f"{note}; {len(downs)} more rows are not shown")
    around = len(str(len(acrosses)))
    most = max(1, (lines - said.plain.count("\n") - 2) // len(blocks) - around)
    for first in blocks:
        block = acrosses[first : first + room // cell]
        numbers = [name.split(" ")[-1] for name in block]
        drawn += narrow_headings(numbers, first, cell, label_width + 1, look)
        for down in downs[:most]:
            line = Text().append(f"{down:>{label_width}} ", LABEL_STYLE)
            for there, some in groupby(block, lambda across: (down, across) in values):  # noqa: B023
                row = np.array([values.get((down, across), 0.0) for across in some])
                line.append_text(
                    strip(row, look, scale, cell) if there else Text(" " * cell * len(row))
                )
            line.rstrip()
            drawn.append(line)
    if len(downs) > most:
        note += f"; {len(downs) - most} more rows are not shown"
    return [*drawn, legend(scale, label_width + 1, look, note)]
