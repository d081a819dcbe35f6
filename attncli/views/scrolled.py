"""A part of a matrix at a time, as much as a screen shows: what is scrolled and searched."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import RenderableType

from attncli.views import cells, digits
from attncli.views.labels import Placed, shorten
from attncli.views.look import Look
from attncli.views.picture import How, WeightMatrix
from attncli.views.rendering import lines
from attncli.views.ways import draw_weights

Place = tuple[str, int]
"""``"row"`` or ``"column"``, and which."""

ZOOMS = ("whole", "cells", "table", "list")
"""From the whole to its words, its numbers, and the strongest of them one by one."""


@dataclass(frozen=True)
class Seen:
    """What is drawn of a matrix.

    Attributes
    ----------
    zoom : str
        One of `ZOOMS`.
    drawn : renderable
    rows, columns : range
        Which of them that are.
    worded : bool
        Whether each stands under and beside its word.
    """

    zoom: str
    drawn: RenderableType
    rows: range
    columns: range
    worded: bool = True


def draw_part(
    picture: WeightMatrix,
    look: Look,
    first: tuple[int, int],
    *,
    zoom: str | None = None,
    height: int,
    found: Place | None = None,
    top: int | None = None,
) -> Seen:
    """Draw as many rows and columns as fit, from the first ones on, or up to the last ones.

    Parameters
    ----------
    picture : WeightMatrix
    look : Look
    first : (int, int)
        The row and the column at the upper left.
    zoom : str, optional
        Without it the whole; or cells, where only the rows are too many for their words.
    height : int
        In lines.
    found : Place, optional
        What is marked.
    top : int, optional
        The keys that a list has for each row.
    """
    picture = _marked(replace(picture, heading=""), found)
    total, across = picture.weights.shape
    if zoom in (None, "whole"):
        small = cells.draw(picture, look, How(height)) is not None
        if zoom is None and not small and across <= cells.columns_that_fit(picture, look):
            zoom = "cells"
        else:
            drawn = draw_weights(picture, look, lines=height)
            return Seen("whole", drawn, range(total), range(across), small)
    assert zoom is not None
    count, columns = min(total, height), range(across)
    while True:
        start = max(0, min(first[0], total - count))
        part = picture.window(slice(start, start + count), slice(None))
        if zoom != "list":  # which says what is strongest of all
            fit = (cells if zoom == "cells" else digits).columns_that_fit(part, look)
            left = max(0, min(first[1], across - fit))
            columns = range(left, min(across, left + fit))
            part = part.window(slice(None), slice(left, left + fit))
        if zoom == "cells":  # whose headings go downwards
            longest = max(3, height // 3, height - count - 3)
            part = replace(part, columns=[shorten(x, longest, look) for x in part.columns])
        drawn = draw_weights(part, look, view=zoom, top=top)
        taken = len(list(lines(look, drawn))) - 1  # the last is a blank one
        if taken <= height or count <= 1:
            return Seen(zoom, drawn, range(start, start + count), columns)
        count = max(1, min(count - 1, max(count - (taken - height), count * height // taken)))


def _marked(picture: WeightMatrix, found: Place | None) -> WeightMatrix:
    if found is None:
        return picture
    axis, place = found
    labels = list(picture.rows if axis == "row" else picture.columns)
    label = labels[place]
    labels[place] = f">{label}"
    if isinstance(label, Placed):
        labels[place] = Placed(f">{label.word}", label.position)
    return replace(picture, rows=labels) if axis == "row" else replace(picture, columns=labels)


def find(text: str, rows: Sequence[str], columns: Sequence[str]) -> list[Place]:
    """Find where a word is: first the rows that have it, then the columns.

    Examples
    --------
    >>> find("Cat", ["the", "cat"], ["cat", "mat", "concat"])
    [('row', 1), ('column', 0), ('column', 2)]
    """
    wanted = _alike(text)
    return [
        (axis, place)
        for axis, labels in (("row", rows), ("column", columns))
        for place, label in enumerate(labels)
        if wanted in _alike(label)
    ]


def _alike(text: str) -> str:
    """Letters large or small, and with their accents in one character or two, are the same."""
    return unicodedata.normalize("NFC", text).casefold()
