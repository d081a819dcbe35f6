"""Weights as a drawing (SVG) that needs no other file: no fonts, no scripts."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from rich.cells import cell_len
from rich.color import Color

from attncli.arrays import Array
from attncli.views.gallery import Gallery
from attncli.views.labels import shorten
from attncli.views.legends import beyond, ends, number
from attncli.views.overlaid import Mixture, Overlaid, overlays, rgb
from attncli.views.picture import WeightMatrix, shortened
from attncli.views.pooling import factor
from attncli.views.scales import Scale
from attncli.views.shades import HOLE, LEVELS, gradient, levels, takes_black

_MARGIN, _FONT = 24, 12
_LINE = _FONT + 2
_LETTER = 0.61 * _FONT  # the width of a letter of a monospaced font
_LONGEST_LABEL = 16
# Cells of up to so many rows or columns are labelled; more are pooled to so many.
_MOST_LABELLED, _MOST_CELLS = 60, 240
_LARGEST_CELL, _MAP = 22, 720
_SMALL = 84
_HOLE = f"#{HOLE:06x}"
# In a page it is one of several things: what it says holds within it.
_STYLE = (
    ".attn{max-width:100%;height:auto}"
    ".attn text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "fill:#1b1b22}.attn rect{shape-rendering:crispEdges}.attn image{image-rendering:pixelated}"
    ".attn .s{fill:#6b6b76}.attn .t{font-weight:bold}.attn .g{fill:#fff}"
    "@media (prefers-color-scheme:dark){"
    ".attn text{fill:#e8e8ee}.attn .s{fill:#9a9aa6}.attn .g{fill:#15151a}}"
)


class _Drawing:
    """Elements, and how far they reach."""

    def __init__(self, *, light: bool) -> None:
        self.light = light
        self.parts: list[str] = []
        self.width = self.height = 0.0

    def text(self, x: float, y: float, text: str, css: str = "", more: str = "") -> None:
        """Write a line of text that begins at x, on a base line at y."""
        name = f' class="{css}"' if css else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{name}{more}>{escape(text)}</text>')
        if not more:
            self.reach(x + cell_len(text) * _LETTER, y)

    def reach(self, x: float, y: float) -> None:
        """Make the drawing at least so large."""
        self.width, self.height = max(self.width, x), max(self.height, y)


def write(gallery: Gallery) -> list[str]:
    """Draw the matrices below each other, or many of them small, those of a layer in a row.

    Every cell that has a label says its tokens and weight when pointed at.
    """
    title, drawing = gallery.title, _Drawing(light=gallery.look.light)
    drawing.text(_MARGIN, _MARGIN + _FONT, title, "t")
    drawing.text(_MARGIN, _MARGIN + 2.4 * _FONT, gallery.reading, "s")
    top = _MARGIN + 4.0 * _FONT
    factors: set[tuple[int, int]] = set()
    scales: list[Scale] = []
    for one in overlays(gallery) if gallery.selection.wanted.overlay else ():
        top = _large(drawing, one.first, top, one) + 2.0 * _FONT
    pictures = () if gallery.selection.wanted.overlay else gallery
    for (row, column), picture in zip(gallery.grid, pictures, strict=False):
        if gallery.many:
            x = _MARGIN + column * (_SMALL + 12)
            y = top + row * (_SMALL + 2.4 * _FONT)
            factors.add(_small(drawing, picture, x, y))
            scales.append(picture.scale)
        else:
            top = _large(drawing, picture, top) + 2.0 * _FONT
    if note := gallery.note(factors, scales) if gallery.many else "":
        drawing.text(_MARGIN, drawing.height + 2 * _FONT, note, "s")
    width, height = drawing.width + _MARGIN, drawing.height + _MARGIN
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="attn" role="img" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" rx="8" class="g"/>\n'
        + "\n".join(drawing.parts)
        + "\n</svg>\n"
    ]


def _small(drawing: _Drawing, picture: WeightMatrix, x: float, y: float) -> tuple[int, int]:
    """Draw one of many; return how many weights, down and across, a cell stands for."""
    drawing.text(x, y + _FONT, shortened(picture.heading), "s")
    rows, columns = picture.weights.shape
    down, across = factor(rows, _SMALL // 2), factor(columns, _SMALL // 2)
    small, scale, _ = picture.pooled(down, across)
    cell = _SMALL / max(small.shape)
    drawing.parts += _cells(small, scale, x, y + 1.5 * _FONT, cell, cell, light=drawing.light)
    drawing.reach(x + _SMALL, y + 1.5 * _FONT + _SMALL)
    return down, across


def _large(
    drawing: _Drawing, picture: WeightMatrix, top: float, overlaid: Overlaid | None = None
) -> float:
    """Draw one matrix, or several over each other, with labels and legend; return where it ends."""
    rows, columns = picture.weights.shape
    down, across = (factor(size, _MOST_CELLS) for size in (rows, columns))
    weights, scale, note = picture.pooled(down, across)
    wide = high = max(2, min(_LARGEST_CELL, _MAP // max(1, *weights.shape)))
    worded = rows <= _MOST_LABELLED, columns <= _MOST_LABELLED
    if worded == (True, False):
        high = max(high, _LINE)
    if worded == (False, True):
        wide = max(wide, _LINE)
    heading = picture.heading if overlaid is None else overlaid.heading
    if heading:
        drawing.text(_MARGIN, top + _FONT, heading, "t")
        top += 1.6 * _FONT

    row_labels, column_labels = (
        [(place, shorten(text, _LONGEST_LABEL)) for place, text in enumerate(texts)]
        if labelled
        else list(_ticks(len(texts), by, cell))
        for texts, labelled, by, cell in (
            (picture.rows, worded[0], down, high), (picture.columns, worded[1], across, wide)
        )
    )  # fmt: skip
    longest, widest = (
        max((cell_len(text) for _, text in labels), default=3)
        for labels in (column_labels, row_labels)
    )
    left = _MARGIN + (widest + 1) * _LETTER
    y = top + (0.8 * longest * _LETTER + 8 if worded[1] else 2 * _FONT)
    for place, text in row_labels:
        middle = y + (place + 0.5) * high + 0.35 * _FONT
        drawing.text(left - 6, middle, text, "" if worded[0] else "s", ' text-anchor="end"')
    for place, text in column_labels:
        x = left + (place + 0.5) * wide
        turned = f' transform="rotate(-50 {x:g} {y - 6:g})"' if worded[1] else " "
        drawing.text(x, y - 6, text, "" if worded[1] else "s", turned)
        drawing.reach(x + (0.7 * cell_len(text) + 1) * _LETTER, y)

    names = (picture.rows, picture.columns) if all(worded) else None
    bottom = y + weights.shape[0] * high
    drawing.reach(left + weights.shape[1] * wide, bottom)
    if overlaid is None:
        drawing.parts += _cells(weights, scale, left, y, wide, high, names, light=drawing.light)
        return _legend(drawing, scale, left, bottom + 1.5 * _FONT, note)
    mixture = overlaid.pooled(down, across)
    drawing.parts += _mixed(mixture, left, y, wide, high, names, light=drawing.light)
    return _key(drawing, mixture, left, bottom + 1.5 * _FONT)


def _mixed(
    mixture: Mixture,
    left: float,
    top: float,
    wide: float,
    high: float,
    names: tuple[Sequence[str], Sequence[str]] | None,
    *,
    light: bool,
) -> Iterator[str]:
    """Draw the cells of several heads, each of which says the weights of all."""
    colors = mixture.colors(light=light)
    if names is None:
        yield _image(_png(colors), left, top, wide, high, colors.shape)
        return
    letters = mixture.named.tolist()
    for row, some in enumerate(colors.tolist()):
        for column, color in enumerate(some):
            says = f"{names[0][row]} → {names[1][column]}: {mixture.says(row, column)}"
            x, y = left + column * wide, top + row * high
            yield _rectangle(x, y, wide, high, _hex(*color), says)
            if wide >= _FONT and letters[row][column] != " ":
                yield _letter(letters[row][column], x + wide / 2, y + high / 2, color)


def _letter(letter: str, x: float, y: float, color: Sequence[int]) -> str:
    """Write a letter in the middle of a cell of that colour, so that it can be read."""
    ink = "#000" if takes_black(Color.from_rgb(*color)) else "#fff"
    style = f'text-anchor="middle" style="fill:{ink};pointer-events:none"'
    return f'<text x="{x:g}" y="{y + 0.35 * _FONT:g}" {style}>{letter}</text>'


def _key(drawing: _Drawing, mixture: Mixture, left: float, y: float) -> float:
    """Say which colour is whose."""
    hues = rgb(mixture.hues(light=drawing.light)).tolist()
    for (letter, name), color in zip(mixture.called, hues, strict=True):
        drawing.parts.append(
            _rectangle(left, y - 0.9 * _FONT, 2 * _FONT, 1.2 * _FONT, _hex(*color))
        )
        drawing.parts.append(_letter(letter, left + _FONT, y - 0.3 * _FONT, color))
        drawing.text(left + 2.5 * _FONT, y, name)
        y += 1.4 * _FONT
    drawing.text(left, y, "; ".join(filter(None, mixture.notes)), "s")
    return y


def _ticks(size: int, by: int, cell: int) -> Iterator[tuple[int, str]]:
    """Number every so many cells, about 40 pixels apart."""
    for place in range(0, -(-size // by), max(1, 40 // cell)):
        yield place, str(place * by)


def _cells(
    weights: Array,
    scale: Scale,
    left: float,
    top: float,
    width: float,
    height: float,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    *,
    light: bool,
) -> Iterator[str]:
    """Draw the cells: with labels one by one, each of which says its own; else as one image."""
    colors = [
        *gradient(LEVELS, diverging=_signed(scale), light=light),
        (HOLE >> 16, HOLE >> 8 & 255, HOLE & 255),
    ]
    shades = levels(scale.shares(weights), LEVELS)
    if names is None:
        yield _image(_png(shades, colors), left, top, width, height, shades.shape)
        return
    for row, some in enumerate(shades.tolist()):
        for column, shade in enumerate(some):
            says = f"{names[0][row]} → {names[1][column]} {number(weights[row, column])}"
            x, y = left + column * width, top + row * height
            yield _rectangle(x, y, width, height, _hex(*colors[shade]), says)


def _image(
    png: bytes, left: float, top: float, width: float, height: float, shape: Sequence[int]
) -> str:
    """Draw cells as one image, a pixel each."""
    data = base64.b64encode(png).decode()
    size = f'width="{shape[1] * width:g}" height="{shape[0] * height:g}"'
    href = f'preserveAspectRatio="none" href="data:image/png;base64,{data}"'
    return f'<image x="{left:g}" y="{top:g}" {size} {href}/>'


def _png(pixels: Array, colors: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """Write a picture: numbers of colours, or red, green and blue, for each pixel."""
    height, width = pixels.shape[:2]
    lines = pixels.astype(np.uint8).reshape(height, -1)
    lines = np.insert(lines, 0, 0, axis=1)  # each begins with how it is filtered
    palette = {b"PLTE": bytes(itertools.chain.from_iterable(colors))} if colors else {}
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3 if colors else 2, 0, 0, 0),
        **palette,
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )


def _hex(red: int, green: int, blue: int) -> str:
    return f"#{red:02x}{green:02x}{blue:02x}"


def _signed(scale: Scale) -> bool:
    return scale.kind == "diverging"


def _rectangle(x: float, y: float, width: float, height: float, color: str, says: str = "") -> str:
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{color}"'
    return f"{shape}><title>{escape(says)}</title></rect>" if says else f"{shape}/>"


def _legend(drawing: _Drawing, scale: Scale, left: float, y: float, note: str) -> float:
    low, top = ends(scale)
    drawing.text(left, y, low, "s")
    x = left + (len(low) + 1) * _LETTER
    for place, color in enumerate(gradient(32, diverging=_signed(scale), light=drawing.light)):
        drawing.parts.append(_rectangle(x + 4 * place, y - 0.8 * _FONT, 4.2, _FONT, _hex(*color)))
    x += 32 * 4 + _LETTER
    text = "  ".join(filter(None, (top, beyond(scale.smaller, scale.larger), note)))
    drawing.text(x, y, text, "s")
    if scale.holes:
        x += (len(text) + 2) * _LETTER
        drawing.parts.append(_rectangle(x, y - 0.8 * _FONT, _FONT, _FONT, _HOLE))
        drawing.text(x + 1.5 * _FONT, y, "not finite", "s")
    return y
