"""The chosen weights of a file on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.views.gallery import Gallery, Watched
from attncli.views.numbers import Notation
from attncli.views.picture import MOST_LINES, SCREENS, WEIGHT_PRECISION, WeightMatrix
from attncli.views.ways import draw_overview, draw_weights
from attncli.weights.images import square_image
from attncli.weights.wanted import DEFAULT_TOP

# More rows than this are not sent to a terminal unless asked for.
_MOST_ROWS = 500
# A few pictures are looked at one after the other, each as large as it is alone; of more than these
# one wants to see all at a glance, if they would go on for longer than an overview.
_FEW, _FEW_SCREENS = 4, 3
# Beside the rows: title, headings, legend, a blank line.
_AROUND = 6
# Fewer patches across are hardly an image.
_LEAST_SIDE = 7
# So many bytes are worth a word before they come; hardly a number takes so many.
_MUCH, _LONGEST = 10_000_000, 32


def draw_selection(gallery: Gallery, progress: Watched) -> Iterator[RenderableType]:
    """Draw the matrices, or an overview where they are many; each is loaded when it is its turn.

    Parameters
    ----------
    gallery : Gallery
    progress : callable
        How a long step is watched.
    """
    selection, opens = gallery.selection, _opens_as(gallery)
    heading = gallery.heading
    if 0 in selection.source.shape:
        yield heading
        return
    if opens == "overlay":
        from attncli.views import overlaid

        yield Group(heading, "", *overlaid.draw(gallery))
        return
    if opens == "images":
        from attncli.views import image_grid

        yield Group(heading, "")
        yield from image_grid.draw(gallery)
        return
    if opens == "strip":
        from attncli.views.film import draw_strip

        yield Group(heading, *draw_strip(gallery))
        return
    if opens == "overview":
        yield Group(heading, *draw_overview(gallery, progress))
        yield from _image_hint(gallery)
        return
    if gallery.look.plain:
        selection.load_all()
    for number, one in enumerate(selection.matrices):
        picture = gallery.picture(one)  # what cannot be loaded shows nothing
        if number == 0:
            yield heading
            yield ""
        yield from _draw_picture(gallery, picture)
    yield from _image_hint(gallery)


def _image_hint(gallery: Gallery) -> Iterator[Text]:
    """Say on a terminal that keys without words may be an image, where they are as many."""
    selection = gallery.selection
    first = selection.matrices[0] if selection.matrices else None
    if first is None or gallery.look.plain or selection.tokens(first, "T_enc") is not None:
        return
    keys = first.shape[1]
    if len(selection.cut(first).columns) == keys and (options := square_image(keys, _LEAST_SIDE)):
        yield Text(f"{keys} keys may be an image: --row 0 {options}", "dim italic")


def _opens_as(gallery: Gallery) -> Literal["overlay", "images", "strip", "overview", "pictures"]:
    wanted = gallery.selection.wanted
    if gallery.elsewhere is not None:
        return "overview"
    if wanted.overlay:
        return "overlay"
    if wanted.grid is not None:
        return "images"
    drawn = wanted.full or wanted.lists or wanted.view is not None
    if wanted.frames and not drawn and wanted.sort is None:
        return "strip"
    if wanted.sort is not None or (not drawn and (gallery.many or _too_tall(gallery))):
        return "overview"
    return "pictures"


def what_it_weighs(gallery: Gallery) -> str:
    """Say of more text than anybody reads how much it is, and how to get less; else nothing."""
    selection, wanted = gallery.selection, gallery.selection.wanted
    if not gallery.look.plain or 0 in selection.source.shape or _opens_as(gallery) != "pictures":
        return ""
    cuts = [selection.cut(one) for one in selection.matrices]
    counts = [len(x.rows) * min(len(x.columns), wanted.top or len(x.columns)) for x in cuts]
    if sum(counts) * _LONGEST < _MUCH:
        return ""
    first = gallery.picture(selection.matrices[0])
    notation = Notation(first.weights, gallery.look.digits(WEIGHT_PRECISION))
    each = notation.longest(first.weights) + 2
    if wanted.lists:
        each += max(map(cell_len, first.columns)) + 1
    size = sum(counts) * each
    if size < _MUCH:
        return ""
    return (
        f"{gallery.title}: {sum(counts):,} numbers, about {size / 1e6:.0f} MB of text; "
        "--top 3 lists the strongest of every row, --rows 0:20 some rows, "
        "--export weights.html a page to explore"
    )


def _too_tall(gallery: Gallery) -> bool:
    """Whether there are several, and to see them one would scroll for long."""
    selection, height = gallery.selection, gallery.look.height
    if gallery.look.plain or len(gallery) <= _FEW:
        return False
    lines = 0
    for one in selection.matrices:
        cut = selection.cut(one)
        rows, keys = len(cut.rows), len(cut.columns)
        words = _AROUND if 5 * keys <= gallery.look.width else 2 * _AROUND  # which go downwards
        lines += rows + words if rows < MOST_LINES else height
    return lines > SCREENS * height


def _draw_picture(gallery: Gallery, picture: WeightMatrix) -> Iterator[RenderableType]:
    look, wanted = gallery.look, gallery.selection.wanted
    keys = picture.weights.shape[1]
    if len(gallery) > 1:  # a few large ones do not take a screen each
        look = replace(look, height=min(look.height, _FEW_SCREENS * look.height // len(gallery)))
    view = "list" if wanted.lists else "table" if wanted.full else wanted.view
    top, notes = wanted.top, []
    if picture.shade == "diverging" and not picture.weights.any():
        yield Group(*picture.title(), Text("no difference", "green"), "")
        return
    if view in ("table", "cells", "list") or look.precision is not None:
        rows = len(picture.weights)
        if not (look.plain or wanted.full or rows <= _MOST_ROWS):
            # What would run through a terminal for minutes.
            picture = picture.first_rows(_MOST_ROWS)
            notes.append(f"{rows - _MOST_ROWS} more rows not shown; --full shows all")
    if view == "list":
        if top is None and wanted.threshold is None and not look.plain and keys > DEFAULT_TOP:
            top = DEFAULT_TOP
            notes.append(f"the {top} strongest of {keys} keys; --top K lists K")
    elif wanted.threshold is not None:
        notes.append(f"weights below {wanted.threshold:g} are shown as 0")
    yield draw_weights(picture, look, view=view, top=top, threshold=wanted.threshold)
    for note in notes:
        yield Text(note, "dim italic")
