"""A page of its own: heads to choose from, weights under the pointer, no network."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.views.gallery import Gallery
from attncli.views.legends import ends
from attncli.views.picture import WeightMatrix
from attncli.views.pooling import factor
from attncli.views.shades import HOLE, LEVELS, gradient

# More numbers make a page that browsers open slowly.
_MOST_NUMBERS = 2_000_000
_FEWEST_CELLS = 32
# What a screen can show of a map.
_MOST_CELLS = 720


def write(gallery: Gallery) -> list[str]:
    """Write the page.

    It is a file that needs no other one, XML as well as HTML. Weights are rounded to four digits;
    a head with more cells than a screen can show is pooled, which the page says.
    """
    most = min(_MOST_CELLS, max(_FEWEST_CELLS, int((_MOST_NUMBERS / max(1, len(gallery))) ** 0.5)))
    labels: dict[tuple[str, ...], int] = {}
    heads, shade = [], "linear"
    for picture in gallery:
        heads.append(_head(picture, most, labels))
        shade = picture.shade
    colors = gradient(LEVELS, diverging=shade == "diverging")
    data = {
        "shade": shade,
        "colors": [f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors],
        "hole": f"{HOLE:06x}",
        "labels": [list(texts) for texts in labels],
        "heads": heads,
    }
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":  # the only ones that mean something to a parser of the page
        text = text.replace(character, f"\\u{ord(character):04x}")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    # The data last: what stands in it is never taken for a place to fill.
    title, reading = escape(gallery.title), escape(gallery.reading)
    for place, value in (("title", title), ("reading", reading), ("data", text)):
        template = template.replace("{{" + place + "}}", value)
    return [template]


def _head(picture: WeightMatrix, most: int, labels: dict[tuple[str, ...], int]) -> dict[str, Any]:
    down, across = (factor(size, most) for size in picture.weights.shape)
    weights, scale, note = picture.pooled(down, across)
    weights = weights.astype(np.float64)
    finite = np.where(np.isfinite(weights), weights, np.nan)
    row_tops = np.fmax.reduce(finite, axis=1, initial=0.0)
    low, top = ends(scale)
    return {
        "name": picture.heading,
        "rows": _known(_blocks(picture.rows, down), labels),
        "columns": _known(_blocks(picture.columns, across), labels),
        "down": down,
        "across": across,
        "top": scale.top,
        "rowTops": _rounded(row_tops) if scale.kind == "row" else [],
        "low": low,
        "topText": top,
        "holes": scale.holes,
        "note": note,
        "weights": _rounded(weights.ravel()),
    }


def _blocks(texts: Any, by: int) -> tuple[str, ...]:
    """Label every block by its first step."""
    return tuple(texts) if by == 1 else tuple(f"{text}…" for text in texts[::by])


def _known(texts: tuple[str, ...], labels: dict[tuple[str, ...], int]) -> int:
    """Give the number of a list of labels, most of which are those of the head before."""
    return labels.setdefault(texts, len(labels))


def _rounded(values: Array) -> list[Any]:
    """Round to four significant digits; what is not finite becomes text."""
    return [
        float(f"{value:.4g}") if np.isfinite(value) else str(value) for value in values.tolist()
    ]
