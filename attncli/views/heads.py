"""Many attention heads as one table of numbers that say what each does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType

from attncli.views.cells import draw_cells
from attncli.views.look import Look
from attncli.views.numbers import format_array
from attncli.views.picture import WEIGHT_PRECISION, WeightMatrix
from attncli.views.records import Column, draw_records, fits
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
    """Put heads in order: what stands out first; None leaves them as they are."""
    if by is None:
        return list(heads)
    sign = -1 if SORTS[by].falling else 1
    values = {id(head): sign * head.value(by) for head in heads}
    return sorted(heads, key=lambda head: (math.isnan(values[id(head)]), values[id(head)]))


def draw_heads(heads: Sequence[Head], look: Look, by: str | None = None) -> RenderableType:
    """Draw one line for each head, in the order given, with the number that it goes by."""
    names = [
        Column(name, [str(head.names[name]) for head in heads], right=True)
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
    columns = [*names, *numbers]
    return draw_records(columns if fits(columns, look) else [Column("", whole), *numbers], look)


def draw_map(heads: Sequence[Head], by: str, look: Look) -> RenderableType:
    """Draw one cell for each head, shaded by one of its numbers: layers down, heads across."""
    places = [[called(name, number) for name, number in head.names.items()] for head in heads]
    downs = list(dict.fromkeys(" ".join(names[:-1]) for names in places))
    acrosses = list(dict.fromkeys(names[-1].split(" ")[-1] for names in places))
    values = np.zeros((len(downs), len(acrosses)))
    for head, names in zip(heads, places, strict=True):
        where = downs.index(" ".join(names[:-1])), acrosses.index(names[-1].split(" ")[-1])
        values[where] = head.value(by)
    picture = WeightMatrix("", values, downs, acrosses)
    last = next(reversed(heads[0].names))
    note = f"1 cell = the {SORTS[by].heading} of 1 {last}"
    return Group(*draw_cells(picture, look, note))
