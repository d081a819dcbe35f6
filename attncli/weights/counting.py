"""What the numbers in the names of arrays count: layers, steps of generating, heads, or items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from attncli.weights.generated import Rows, new_rows
from attncli.weights.name_families import Family, Numbers

Shapes = Mapping[Numbers, tuple[int, ...]]


@dataclass(frozen=True)
class Counted:
    """What the numbers of a family count.

    Attributes
    ----------
    axes : tuple of str
        For each number: ``"layers"`` (of several together they number the layers), ``"steps"``,
        ``"heads"`` or ``"N"``.
    flat : bool
        Whether the arrays have no axis of rows, each being of one.
    doubt : bool
        Whether names and shapes would allow both layers and steps.
    """

    axes: tuple[str, ...]
    flat: bool = False
    doubt: bool = False


def count(family: Family, shapes: Shapes) -> Counted:
    """Say what the numbers of a family count, by their words and by how its arrays grow.

    Examples
    --------
    >>> grows = Family("", 1, frozenset(), ("",), {(0,): "arr_0", (1,): "arr_1"})
    >>> count(grows, {(0,): (1, 2, 1, 1), (1,): (1, 2, 1, 2)}).axes
    ('steps',)
    """
    found = list(family.counts)
    steps = [place for place, kind in enumerate(found) if kind == "steps"][:1]
    if steps and not _may_be_steps(shapes, steps[0]):  # of a training
        found[steps[0]], steps = "", []
    doubt = flat = False
    for flat in (False, True):
        grown = [
            place for place, kind in enumerate(found)
            if (not steps or place in steps) and kind in ("", "layers", "steps")
            and _grow(shapes, place, flat=flat, named=kind == "layers")
        ]  # fmt: skip
        if grown:
            steps = grown[:1]
            break
    else:
        flat = False
    if not steps and "layers" in found and "" in found and _are_rows(shapes):
        steps = [found.index("")]
    if not steps and all(kind == "" for kind in found) and found and _are_rows(shapes):
        doubt = len(shapes) > 1
        # As generate() nests them: steps, and in each all layers.
        steps = [0] if len(found) > 1 or min(map(len, shapes.values())) > 4 else []
    for place in steps:
        found[place] = "steps"
    inner = {len(shape) for shape in shapes.values()}
    for place, kind in enumerate(found):
        if kind == "":
            heads = "layers" in found and "heads" not in found and max(inner) == 2
            found[place] = "heads" if heads else "layers"
    return Counted(tuple(found), flat, doubt)


def lines_along(shapes: Shapes, place: int) -> list[list[Numbers]]:
    """Put the numbers together that differ in one place alone, in its order."""
    lines: dict[Numbers, list[Numbers]] = {}
    for numbers in sorted(shapes, key=lambda one: one[place]):
        lines.setdefault(numbers[:place] + numbers[place + 1 :], []).append(numbers)
    return list(lines.values())


def rows_along(sizes: list[tuple[int, int]]) -> list[Rows]:
    """Say which rows of each step are new, where it is known that they are steps."""
    return new_rows(sizes) or [Rows(rows, 0) for rows, _ in sizes]


def _sizes(shape: tuple[int, ...], *, flat: bool = False) -> tuple[int, int]:
    *_, rows, keys = (1, 1, *shape)
    return (1 if flat else rows, keys)


def _grow(shapes: Shapes, place: int, *, flat: bool, named: bool) -> bool:
    """Whether arrays grow along a number as steps do; whole ones do where it counts layers, too."""
    lines = [line for line in lines_along(shapes, place) if len(line) > 1]
    if flat and (
        len({shape[:-1] for shape in shapes.values()}) > 1 or len(next(iter(shapes.values()))) > 3
    ):
        return False
    for line in lines:
        sizes = [_sizes(shapes[numbers], flat=flat) for numbers in line]
        whole = named and all(rows > 1 for rows, _ in sizes[1:])
        if whole or new_rows(sizes) is None:
            return False
        if flat and any(keys != before + 1 for (_, before), (_, keys) in pairwise(sizes)):
            return False
    return bool(lines)


def _are_rows(shapes: Shapes) -> bool:
    return all(_sizes(shape)[0] == 1 for shape in shapes.values())


def _may_be_steps(shapes: Shapes, place: int) -> bool:
    """Whether arrays that are named steps are those of generating, not of training."""
    for line in lines_along(shapes, place):
        sizes = [_sizes(shapes[numbers]) for numbers in line]
        if len(line) > 1 and new_rows(sizes) is None and len({*sizes}) == 1 and sizes[0][0] > 1:
            return False
    return True
