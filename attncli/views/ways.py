"""The ways to look at weights: an entry for each, and the module that draws it.

To add one, add a `Way` to the table, and its module with ``draw(picture, look, how)``, which
returns None where the picture does not fit and was not asked for; or, for all matrices at once,
with ``draw(gallery, progress)``. Nothing here imports NumPy or rich at once: help texts are made
from the table too.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import RenderableType

    from attncli.views.gallery import Gallery, Watched
    from attncli.views.look import Look
    from attncli.views.picture import WeightMatrix


class Way(NamedTuple):
    """A way to look at weights.

    Attributes
    ----------
    says : str
        What it shows, for the help.
    module : str
        What draws it.
    of_all : bool
        Whether it draws all matrices at once: what many of them open as.
    """

    says: str
    module: str
    of_all: bool = False


# The richest first: drawn is the first that fits.
WAYS = {
    "overview": Way("many at a glance", "attncli.views.overview", of_all=True),
    "table": Way("digits", "attncli.views.digits"),
    "cells": Way("a shade for each weight under its token", "attncli.views.cells"),
    "heatmap": Way("all on one screen", "attncli.views.heatmap"),
    "list": Way(
        "the strongest of every row, piped all that are not 0", "attncli.views.strongest"
    ),
}  # fmt: skip
OF_ONE = [name for name, way in WAYS.items() if not way.of_all]
"""The ways to look at one matrix."""


def draw_overview(gallery: Gallery, progress: Watched) -> Iterable[RenderableType]:
    """Draw all matrices at once; `progress` says how a long step is watched."""
    drawn: Iterable[RenderableType] = import_module(WAYS["overview"].module).draw(gallery, progress)
    return drawn


def draw_weights(
    picture: WeightMatrix,
    look: Look,
    *,
    view: str | None = None,
    lines: int | None = None,
    top: int | None = None,
    threshold: float | None = None,
) -> RenderableType:
    """Draw weights in the richest way that fits; no row or column is ever left out.

    A table with digits; else one shaded cell for each weight, under the tokens; else a heatmap on
    one screen, whose cells stand for several weights where there are too many.  Piped output is
    always the table, to the last digit; who asks for digits gets the table too, in blocks where it
    is too wide.

    Parameters
    ----------
    picture : WeightMatrix
    look : Look
    view : str, optional
        The name of the way to draw it whether it fits or not.
    lines : int, optional
        Nothing may be taller than this: for what cannot scroll.
    top, threshold : int, float, optional
        Of a list: at most so many a row, and only those of at least this weight.
    """
    from rich.console import Group

    from attncli.views.picture import How

    how = How(lines, top, threshold, asked=view is not None)
    for name in OF_ONE if view is None else [view]:
        drawn = import_module(WAYS[name].module).draw(picture, look, how)
        if drawn is not None:
            return Group(*picture.title(), *drawn, "")
    raise AssertionError("a heatmap fits everywhere")
