"""What a model looked at while it wrote, one array a step: which rows of a step are new."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Rows(NamedTuple):
    """The rows of a step that no step before it had: its last `new`, and where its keys begin."""

    new: int
    first_key: int


def new_rows(sizes: Sequence[tuple[int, int]]) -> list[Rows] | None:
    """Tell whether arrays follow each other as steps do, and what is new in each.

    With a cache a step has a row for each new token, its keys are those so far: all of them, those
    of a window that moves along, or (across, or where room was kept for all) always as many.
    Without one each step is the whole again.

    Parameters
    ----------
    sizes : sequence of (int, int)
        The rows and the keys of each array.

    Returns
    -------
    list of Rows or None
        None where they are no steps, or nothing but their names would say so.

    Examples
    --------
    >>> new_rows([(5, 5), (1, 6), (1, 7)])
    [Rows(new=5, first_key=0), Rows(new=1, first_key=0), Rows(new=1, first_key=0)]
    >>> new_rows([(2, 2), (3, 3)])
    [Rows(new=2, first_key=0), Rows(new=1, first_key=0)]
    >>> new_rows([(3, 3), (1, 4), (1, 4)])
    [Rows(new=3, first_key=0), Rows(new=1, first_key=0), Rows(new=1, first_key=1)]
    >>> new_rows([(7, 7), (7, 7)])
    """
    if len(sizes) < 2:
        return None
    (first, seen), *others = sizes
    grown = [keys - before for (_, before), (_, keys) in pairwise(sizes)]
    more = [rows - before for (before, _), (rows, _) in pairwise(sizes)]
    if min(grown) < 0:
        return None
    if any(more) and (more == grown or (min(more) > 0 and not any(grown))):  # the whole, again
        # From layer to layer, what was pooled at least doubles.
        pooled = first > 2 and all(rows >= 2 * before for (before, _), (rows, _) in pairwise(sizes))
        return None if pooled else [Rows(first, 0), *(Rows(count, 0) for count in more)]
    if any(grown) and all(rows <= max(1, by) for (rows, _), by in zip(others, grown, strict=True)):
        found = [Rows(first, 0)]
        for rows, keys in others:
            seen = max(seen + rows, keys)
            found.append(Rows(rows, seen - keys))
        return found
    if first > 1 == max(rows for rows, _ in others) and not any(grown):
        return [Rows(rows, 0) for rows, _ in sizes]  # a prompt, and then a token at a time
    return None
