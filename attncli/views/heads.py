"""Many attention heads as one table of numbers that say what each does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType

from attncli.views.cells import draw_cells
from attncli.views.look import Look
from attncli.views.numbers import format_array
from attncli.views.picture import WEIGHT_PRECISION, WeightMatrix
from attncli.views.records import Column, draw_records, fits
from attncli.weights.selection import called
from attncli.weights.statistics import Statistics

# What one can sort by: the heading in the table, and whether the largest come first.
SORTS = {
    "entropy": ("entropy", False),
    "max": ("max", True),
    "first": ("on first", True),
    "diagonal": ("on diagonal", True),
    "previous": ("on previous", True),
    "dead": ("dead rows", True),
}


@dataclass(frozen=True)
class Head:
    """One of many heads.

    Attributes
    ----------
    names : dict of str to int
        Its layer, item and head, as far as the file has those axes.
    statistics : Statistics
    """

    names: dict[str, int]
    statistics: Statistics

    def value(self, sort: str) -> float:
        """Return the number that a sort goes by."""
        return self.statistics[list(SORTS).index(sort)]


def sort_heads(heads: Sequence[Head], by: str | None) -> list[Head]:
    """Put heads in order: what stands out first; None leaves them as they are."""
    if by is None:
        return list(heads)
    return sorted(heads, key=lambda head: head.value(by), reverse=SORTS[by][1])


def draw_heads(heads: Sequence[Head], look: Look) -> RenderableType:
    """Draw one line for each head, in the order given."""
    names = [
        Column(name, [str(head.names[name]) for head in heads], right=True)
        for name in heads[0].names
    ]
    whole = ["  ".join(called(name, number) for name, number in one.names.items()) for one in heads]
    digits = look.digits(WEIGHT_PRECISION)
    numbers = [
        Column(
            heading,
            format_array(np.asarray([head.value(sort) for head in heads]), digits),
            right=True,
        )
        for sort, (heading, _) in SORTS.items()
    ]
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
    note = f"1 cell = the {SORTS[by][0]} of 1 {last}"
    return Group(*draw_cells(picture, look, note))
