"""Rows of weights as the images that their keys are: patches that look square on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from attncli.views.gallery import Gallery
from attncli.views.labels import shorten
from attncli.views.lazy import OneByOne
from attncli.views.legends import legend, number
from attncli.views.look import Look
from attncli.views.matrix import HEADING_STYLE
from attncli.views.numbers import Notation
from attncli.views.picture import WeightMatrix, shortened
from attncli.views.pooling import factor
from attncli.views.strips import Strips

# What stands around one image: the line of the file, its name, numbers, the legend, blank lines.
_AROUND, _FEWEST_LINES = 6, 24
# Several stand beside each other, each with room for its name and a legend; of more than this a
# terminal shows the first.
_NARROWEST, _GAP, _MOST_BESIDE, _MOST = 26, 2, 4, 24


def draw(gallery: Gallery) -> Iterator[RenderableType]:
    """Draw image after image; piped, the numbers, a line for each row of patches."""
    look, count = gallery.look, len(gallery)
    if look.plain:
        for picture in gallery:
            yield Group(*picture.title(), _numbers(picture, look), "")
        return
    shown = count if gallery.selection.wanted.full else min(count, _MOST)
    if count == 1:
        (picture,) = gallery
        yield _Image(picture, look, look.width, max(_FEWEST_LINES, look.height - _AROUND))
        return
    beside = max(1, min(shown, _MOST_BESIDE, (look.width + _GAP) // (_NARROWEST + _GAP)))
    width = (look.width + _GAP) // beside - _GAP
    lines = max(_FEWEST_LINES // 3, (look.height - _AROUND) // 2)
    line: list[_Image] = []
    for place, picture in zip(range(shown), gallery, strict=False):
        line.append(_Image(picture, look, width, lines, small=True))
        if len(line) == beside or place + 1 == shown:
            yield _Beside(line, width)
            line = []
    if shown < count:
        more = f"{count - shown} more images not shown: --row and --head choose, --full shows all"
        yield Text(more, "dim italic")


def _numbers(picture: WeightMatrix, look: Look) -> RenderableType:
    weights, notation = picture.weights, Notation(picture.weights, look.precision)
    width = notation.longest(weights)

    def lines() -> Iterator[Text]:
        for row in weights:
            yield Text("  ".join(text.rjust(width) for text in notation.write(row)))

    return OneByOne(lines)


class _Image:
    """An image with its name and legend, as large as its room lets whole patches be."""

    def __init__(
        self, picture: WeightMatrix, look: Look, width: int, lines: int, *, small: bool = False
    ) -> None:
        half = look.color and look.unicode
        cell, lines_a_row = (1, 2) if half else (2, 1)
        margin = len(str(len(picture.weights) - 1)) + 1
        room = lines * lines_a_row, (width - margin) // cell
        by = max(factor(size, most) for size, most in zip(picture.weights.shape, room, strict=True))
        weights, scale, note = picture.pooled(by, by)
        times = max(1, min(most // size for size, most in zip(weights.shape, room, strict=True)))
        large = np.repeat(np.repeat(weights, times, axis=0), times, axis=1)
        labels = [""] * -(-len(large) // lines_a_row)
        for row in range(len(weights) - 1, -1, -1):
            labels[row * times // lines_a_row] = str(row * by)
        strips = Strips(
            large, look, scale, cell=cell, half=half, labels=labels, label_width=margin - 1
        )
        name = shorten(_name(picture, look, small=small), width, look)
        note = "" if small and by == 1 else note or "1 patch = 1 key"
        self.parts = (
            Text(name, HEADING_STYLE),
            Text(" " * margin + _numbers_above(weights.shape[1], by, times * cell), "dim"),
            strips,
            legend(scale, margin, look, note),
            "",
        )

    def lines(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        """Give the segments of every line."""
        return console.render_lines(Group(*self.parts), options, pad=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give its parts one below the other."""
        yield from self.parts


class _Beside:
    """Images beside each other."""

    def __init__(self, images: list[_Image], width: int) -> None:
        self.images, self.width = images, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give line after line."""
        narrow = options.update_width(self.width)
        every = [image.lines(console, narrow) for image in self.images]
        for parts in zip_longest(*every, fillvalue=list[Segment]()):
            for line in parts:
                yield from line
                yield Segment(" " * (self.width + _GAP - Segment.get_line_length(line)))
            yield Segment.line()


def _numbers_above(count: int, by: int, width: int) -> str:
    """Number columns of so many cells where there is room.

    Examples
    --------
    >>> _numbers_above(4, 1, 2), _numbers_above(12, 1, 1), _numbers_above(3, 5, 4)
    ('0 1 2 3', '0 2 4 6 8 10', '0   5   10')
    """
    line = ""
    for column in range(count):
        if len(line) < column * width or not column:
            line = line.ljust(column * width) + str(column * by)
    return line


def _name(picture: WeightMatrix, look: Look, *, small: bool) -> str:
    """Name an image, and its strongest patch with its place."""
    weights = np.nan_to_num(np.abs(picture.weights), nan=-1, posinf=-1)
    row, column = (int(place) for place in np.unravel_index(weights.argmax(), weights.shape))
    peak = number(picture.weights[row, column])
    if small:
        return f"{shortened(picture.heading)}  {peak} at {row}, {column}"
    where = f"largest {peak}, in row {row}, column {column} of patches"
    return f"{picture.heading}  {where}" if picture.heading else where
