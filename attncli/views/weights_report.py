"""The chosen weights of a file on the screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.views.gallery import Gallery, Watched
from attncli.views.picture import WeightMatrix
from attncli.views.ways import draw_overview, draw_weights
from attncli.weights.wanted import DEFAULT_TOP

# More rows than this are not sent to a terminal unless asked for.
_MOST_ROWS = 500


def draw_selection(gallery: Gallery, progress: Watched) -> Iterator[RenderableType]:
    """Draw the matrices, or an overview where they are many; each is loaded when it is its turn.

    Parameters
    ----------
    gallery : Gallery
    progress : callable
        How a long step is watched.
    """
    selection, wanted = gallery.selection, gallery.selection.wanted
    heading = Text(gallery.title, "bold").append(f"  {gallery.reading}", "not bold dim")
    if 0 in selection.source.shape:
        yield heading
        return
    if wanted.grid is not None:
        from attncli.views import image_grid

        yield Group(heading, "")
        yield from image_grid.draw(gallery)
        return
    drawn = wanted.full or wanted.lists or wanted.view is not None
    if wanted.frames and not drawn and wanted.sort is None:
        from attncli.views.film import draw_strip

        yield Group(heading, *draw_strip(gallery))
        return
    if wanted.sort is not None or (gallery.many and not drawn):
        yield Group(heading, *draw_overview(gallery, progress))
        return
    if gallery.look.plain:
        selection.load_all()
    for number, one in enumerate(selection.matrices):
        picture = gallery.picture(one)  # what cannot be loaded shows nothing
        if number == 0:
            yield heading
            yield ""
        yield from _draw_picture(gallery, picture)


def _draw_picture(gallery: Gallery, picture: WeightMatrix) -> Iterator[RenderableType]:
    look, wanted = gallery.look, gallery.selection.wanted
    keys = picture.weights.shape[1]
    view = "list" if wanted.lists else "table" if wanted.full else wanted.view
    top, notes = wanted.top, []
    if picture.shade == "diverging" and not picture.weights.any():
        yield Group(*picture.title(), Text("no difference", "green"), "")
        return
    if (
        view in ("table", "cells", "list")
        or (view is None and 5 * keys <= look.width)
        or (look.precision is not None)
    ):
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
