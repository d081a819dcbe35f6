"""Shares of a scale as characters and colours, as many as the place that is printed to can show."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.style import Style

from attncli.arrays import Array
from attncli.views.lazy import Rows
from attncli.views.look import Look
from attncli.views.scales import Scale

LEVELS = 64
"""Colours are told apart in so many steps."""

# What is not finite has no place on any scale: a colour and a character that no scale has.
HOLE, HOLE_CHARACTER = 0xFF00FF, "?"
_HOLE_INDEXED, _HOLE_FEW = 201, "magenta"

# The "mako" scale: from nearly black over blue to nearly white. Lightness rises evenly, so it reads
# the same for colour-blind eyes and in greyscale.
MAKO = (0x0B0405, 0x28192F, 0x3B2F5E, 0x40498E, 0x366DA0, 0x3490A8, 0x43B4AB, 0x8AD9B1, 0xDEF5E5)
# The "icefire" scale for numbers of both signs: black in the middle, blue below, red above.
ICEFIRE = (0xBDE7DB, 0x5DAFC4, 0x4472C4, 0x3B3B6F, 0x1F1E1E, 0x6B2337, 0xC4304A, 0xF28B4F, 0xFFD4AC)

# The 16 colours of old terminals, darkest first, and for both signs.
_FEW = ("black", "blue", "cyan", "white", "bright_white")
_FEW_DIVERGING = ("cyan", "blue", "black", "red", "yellow")

# Of the table of 256 those nearest to the scales in which lightness still rises step by step: the
# nearest ones to every single colour would be purple and grey in between.
_INDEXED = (16, 17, 18, 19, 24, 25, 31, 37, 43, 79, 115, 158, 194)
_INDEXED_DIVERGING = (195, 117, 75, 32, 25, 18, 17, 233, 52, 88, 124, 160, 202, 215, 223)

_BLOCKS, _BLOCKS_DIVERGING = " ░▒▓█", "≣≡=- ░▒▓█"
_ASCII, _ASCII_DIVERGING = " .:-=+*#%@", "NM=- +o*@"


def levels(shares: Array, steps: int) -> Array:
    """Put shares between 0 and 1 on so many steps; NaN on one more behind the last.

    Examples
    --------
    >>> levels(np.array([0.0, 0.49, 0.5, 1.0, np.nan]), 3)
    array([0, 1, 1, 2, 3])
    """
    holes = np.isnan(shares)
    steps_up = np.minimum(np.where(holes, 0.0, shares) * steps, steps - 1).astype(np.intp)
    return np.where(holes, steps, steps_up)


def ramp(look: Look, *, diverging: bool = False) -> str:
    """Give the characters that stand for shades where there is no colour, lowest first."""
    if look.unicode:
        return _BLOCKS_DIVERGING if diverging else _BLOCKS
    return _ASCII_DIVERGING if diverging else _ASCII


def steps_of(look: Look, scale: Scale) -> int:
    """Give how many shades can be told apart."""
    diverging = scale.kind == "diverging"
    if not look.color:
        return len(ramp(look, diverging=diverging))
    if look.few_colors:
        return len(_FEW_DIVERGING if diverging else _FEW)
    if look.indexed:
        return len(_INDEXED_DIVERGING if diverging else _INDEXED)
    return LEVELS


def colors(look: Look, scale: Scale) -> list[Color]:
    """Give the colour of every level."""
    diverging = scale.kind == "diverging"
    if look.few_colors:
        return [Color.parse(name) for name in (_FEW_DIVERGING if diverging else _FEW)]
    if look.indexed:
        return [
            Color.from_ansi(number) for number in (_INDEXED_DIVERGING if diverging else _INDEXED)
        ]
    return [Color.from_triplet(ColorTriplet(*rgb)) for rgb in gradient(LEVELS, diverging=diverging)]


def hole_color(look: Look) -> Color:
    """Give the colour of what is not finite."""
    if look.few_colors:
        return Color.parse(_HOLE_FEW)
    if look.indexed:
        return Color.from_ansi(_HOLE_INDEXED)
    return Color.from_triplet(ColorTriplet(HOLE >> 16, HOLE >> 8 & 255, HOLE & 255))


@functools.cache
def gradient(steps: int, *, diverging: bool = False) -> tuple[tuple[int, int, int], ...]:
    """Give so many colours of the scale as red, green and blue.

    Examples
    --------
    >>> gradient(3)
    ((11, 4, 5), (54, 109, 160), (222, 245, 229))
    """
    anchors = np.array([(c >> 16, c >> 8 & 255, c & 255) for c in (ICEFIRE if diverging else MAKO)])
    places = np.linspace(0, len(anchors) - 1, steps)
    channels = [np.interp(places, np.arange(len(anchors)), channel) for channel in anchors.T]
    return tuple(map(tuple, np.stack(channels, axis=1).round().astype(int).tolist()))


def shade(values: Array, look: Look, scale: Scale) -> Sequence[list[Style]]:
    """Give every number of a matrix the style of its shade, row by row."""
    palette = [*shade_styles(look, scale), _readable(hole_color(look), look)]

    def styles(row: int) -> list[Style]:
        steps = levels(scale.shares(values[row : row + 1]), len(palette) - 1)
        return [palette[level] for level in steps[0].tolist()]

    return Rows(len(values), styles)


def shade_styles(look: Look, scale: Scale) -> list[Style]:
    """Give the style of every level: a background, and a foreground that can be read."""
    return [_readable(color, look) for color in colors(look, scale)]


def _readable(color: Color, look: Look) -> Style:
    dark, light = Color.parse("#101010"), Color.parse("#e8e8e8")
    middle = 120
    if look.few_colors:
        dark, light = Color.parse("black"), Color.parse("bright_white")
        middle = 60  # cyan and yellow are brighter on most terminals than in the table
    return Style.from_color(dark if lightness(color) > middle else light, color)


def lightness(color: Color) -> float:
    """Give how light a colour looks, 0 to 255."""
    red, green, blue = color.get_truecolor()
    return 0.299 * red + 0.587 * green + 0.114 * blue
