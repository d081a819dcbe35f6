"""Weights as a bitmap (PNG), drawn by matplotlib; the only thing here that needs the extra."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from rich.color import Color

from attncli.errors import FileError
from attncli.views.clusters import clusters
from attncli.views.gallery import HOLES, Gallery
from attncli.views.labels import shorten
from attncli.views.legends import beyond, ends
from attncli.views.overlaid import Overlaid, overlays, rgb
from attncli.views.picture import WeightMatrix, shortened
from attncli.views.pooling import factor
from attncli.views.scales import Scale
from attncli.views.shades import takes_black

_MOST_LABELLED = 40
# No more cells than pixels: matplotlib would leave out or blend what it has no pixel for.
_MOST_CELLS, _MOST_SMALL_CELLS = 720, 128


def write(gallery: Gallery) -> list[bytes]:
    """Draw the matrices, many of them small, those of a layer in a row.

    Raises
    ------
    FileError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no window, no global state
    except ImportError:
        raise FileError(
            "writing .png needs matplotlib", hint="pip install 'attncli[plot]', or export .svg"
        ) from None
    overlaid = overlays(gallery) if gallery.selection.wanted.overlay else []
    count = max(1, len(overlaid or gallery))  # of nothing, an empty picture
    small = gallery.many and not overlaid
    grid = gallery.grid if small else [(place, 0) for place in range(count)]
    rows, columns = (1 + max(places) for places in zip(*grid, strict=True))
    size = (1.1 * columns + 1, 1.2 * rows + 1) if small else (7.0, 6.0 * rows)
    # Small ones have no labels to make room for, and a layout that looks for some takes a minute.
    figure = Figure(figsize=size, layout=None if small else "constrained", dpi=144)
    if small:
        width, height = size
        sides, above = 0.5 / width, 0.7 / height
        figure.subplots_adjust(sides, 0.4 / height, 1 - sides, 1 - above, wspace=0.2, hspace=0.4)
    figure.suptitle(gallery.title, parse_math=False, fontsize=10)
    every = figure.subplots(rows, columns, squeeze=False)
    panels = [every[place] for place in grid]
    most = _MOST_SMALL_CELLS if small else _MOST_CELLS
    factors: set[tuple[int, int]] = set()
    scales: list[Scale] = []
    for panel, one in zip(panels, overlaid, strict=False):
        _mixed(panel, one, light=gallery.look.light)
    for panel, picture in zip(panels, () if overlaid else gallery, strict=False):
        down, across = (factor(size, most) for size in picture.weights.shape)
        square = gallery.selection.wanted.grid is not None
        light = gallery.look.light
        image, scale = _panel(panel, picture, down, across, small, square=square, light=light)
        if small:
            factors.add((down, across))
            scales.append(scale)
        else:
            _legend(figure.colorbar(image, ax=panel), scale)
    if note := gallery.note(factors, scales) if small else "":
        figure.supxlabel(note, fontsize=8)
    for place in {*np.ndindex(rows, columns)} - {*grid}:
        every[place].set_axis_off()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font without some letter draws a box for it
        figure.savefig(file, format="png", metadata={"Software": None})
    return [file.getvalue()]


def _legend(bar: Any, scale: Scale) -> None:
    """Name the ends of a scale whose shades are not by the weight itself."""
    if scale.kind == "log":
        bar.set_ticks([0, 1], labels=ends(scale))
    elif scale.kind == "row":
        bar.set_ticks([0, 1], labels=["0", "the row's\nlargest"])
    elif scale.kind == "diverging" and scale.bottom != -scale.top:
        low, top = ends(scale)
        bar.set_ticks([0, 0.5, 1], labels=[low, "0", top])


def _panel(
    panel: Any,
    picture: WeightMatrix,
    down: int,
    across: int,
    small: bool,
    *,
    square: bool,
    light: bool,
) -> tuple[Any, Scale]:
    from matplotlib.colors import ListedColormap

    from attncli.views.shades import HOLE, LEVELS, gradient

    weights, scale, note = picture.pooled(down, across)
    weights = np.where(np.isfinite(weights), weights, np.nan)
    if scale.holes:
        note = "  ".join(filter(None, (note, HOLES)))
    colors = [
        [c / 255 for c in rgb]
        for rgb in gradient(LEVELS, diverging=scale.kind == "diverging", light=light)
    ]
    if told := beyond(scale.smaller, scale.larger):
        note = "  ".join(filter(None, (note, told)))
    linear = scale.kind == "linear" or scale.bottom == -scale.top  # 0 in the middle, as shades are
    values = weights if linear else scale.shares(weights)
    low, top = (scale.bottom, scale.top) if linear else (0.0, 1.0)
    extent = (-0.5, picture.weights.shape[1] - 0.5, picture.weights.shape[0] - 0.5, -0.5)
    image = panel.imshow(
        values,
        cmap=ListedColormap(colors, bad=f"#{HOLE:06x}"),
        vmin=low,
        vmax=top,
        extent=extent,
        aspect="equal" if square else "auto",
        interpolation="nearest",
    )
    title = (
        shortened(picture.heading) if small else "\n".join(filter(None, (picture.heading, note)))
    )
    panel.set_title(title, fontsize=6 if small else 9, parse_math=False)
    if small:
        panel.set_xticks([])
        panel.set_yticks([])
    else:
        _labels(panel, picture)
    return image, scale


def _labels(panel: Any, picture: WeightMatrix) -> None:
    """Write the words at the axes, where there is room."""
    if max(picture.weights.shape) > _MOST_LABELLED:
        return
    for axis, texts, angle in ((panel.xaxis, picture.columns, 60), (panel.yaxis, picture.rows, 0)):
        # A letter may have a million accents, which take no room, and of which each would be drawn.
        names = ["".join(x[:8] for x in clusters(shorten(text, 16))) for text in texts]
        axis.set_ticks(range(len(names)), names, rotation=angle, fontsize=7, parse_math=False)


def _mixed(panel: Any, one: Overlaid, *, light: bool) -> None:
    """Draw several heads over each other."""
    from matplotlib.patches import Patch

    rows, columns = one.first.weights.shape
    mixture = one.pooled(factor(rows, _MOST_CELLS), factor(columns, _MOST_CELLS))
    colors, extent = mixture.colors(light=light), (-0.5, columns - 0.5, rows - 0.5, -0.5)
    panel.imshow(colors, extent=extent, aspect="auto", interpolation="nearest")
    title = "\n".join(filter(None, (one.heading, *mixture.notes)))
    panel.set_title(title, fontsize=9, parse_math=False)
    hues = zip(mixture.called, rgb(mixture.hues(light=light)) / 255, strict=True)
    handles = [Patch(color=hue.tolist(), label=f"{letter}  {name}") for (letter, name), hue in hues]
    if max(rows, columns) <= _MOST_LABELLED:
        for (row, column), letter in np.ndenumerate(mixture.named):
            ink = "black" if takes_black(Color.from_rgb(*colors[row, column].tolist())) else "white"
            panel.text(column, row, letter, ha="center", va="center", fontsize=7, color=ink)
    panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=7)
    _labels(panel, one.first)
