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

# On a light background what is nothing is nearly white: mako from its other end, and "RdBu".
_LIGHT = (0xFAFDFB, 0xDEF5E5, 0x8AD9B1, 0x43B4AB, 0x3490A8, 0x366DA0, 0x40498E, 0x3B2F5E, 0x28192F)
_LIGHT_DIVERGING = (
    0x053061, 0x2166AC, 0x4393C3, 0x92C5DE, 0xF7F7F7, 0xF4A582, 0xD6604D, 0xB2182B, 0x67001F
)  # fmt: skip

# The 16 colours of old terminals, quiet first, and for both signs.
_FEW = ("black", "blue", "cyan", "white", "bright_white")
_FEW_DIVERGING = ("cyan", "blue", "black", "red", "yellow")
_FEW_LIGHT = ("bright_white", "white", "cyan", "blue", "black")
_FEW_LIGHT_DIVERGING = ("blue", "cyan", "bright_white", "yellow", "red")
# Those of them on which black is read: on most terminals they are brighter than in rich's table.
_BRIGHT = ("cyan", "yellow", "white", "bright_white")

# Of the table of 256 those nearest to the scales in which lightness still changes step by step: the
# nearest ones to every single colour would be purple and grey in between.
_INDEXED = (16, 17, 18, 19, 24, 25, 31, 37, 43, 79, 115, 158, 194)
_INDEXED_DIVERGING = (195, 117, 75, 32, 25, 18, 17, 233, 52, 88, 124, 160, 202, 215, 223)
_INDEXED_LIGHT = (231, 194, 158, 115, 79, 43, 37, 31, 25, 24, 19, 18, 17)
_INDEXED_LIGHT_DIVERGING = (17, 18, 25, 32, 75, 117, 195, 231, 224, 217, 210, 203, 160, 124, 88)

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
    if not look.color:
        return len(ramp(look, diverging=scale.kind == "diverging"))
    return len(colors(look, scale))


def colors(look: Look, scale: Scale) -> list[Color]:
    """Give the colour of every level."""
    diverging = scale.kind == "diverging"
    if look.few_colors:
        few = (_FEW, _FEW_DIVERGING, _FEW_LIGHT, _FEW_LIGHT_DIVERGING)
        return [Color.parse(name) for name in few[2 * look.light + diverging]]
    if look.indexed:
        indexed = (_INDEXED, _INDEXED_DIVERGING, _INDEXED_LIGHT, _INDEXED_LIGHT_DIVERGING)
        return [Color.from_ansi(number) for number in indexed[2 * look.light + diverging]]
    every = gradient(LEVELS, diverging=diverging, light=look.light)
    return [Color.from_triplet(ColorTriplet(*rgb)) for rgb in every]


def hole_color(look: Look) -> Color:
    """Give the colour of what is not finite."""
    if look.few_colors:
        return Color.parse(_HOLE_FEW)
    if look.indexed:
        return Color.from_ansi(_HOLE_INDEXED)
    return Color.from_triplet(ColorTriplet(HOLE >> 16, HOLE >> 8 & 255, HOLE & 255))


@functools.cache
def gradient(
    steps: int, *, diverging: bool = False, light: bool = False
) -> tuple[tuple[int, int, int], ...]:
    """Give so many colours of the scale as red, green and blue; for a dark background, or a light.

    Examples
    --------
    >>> gradient(3)
    ((11, 4, 5), (54, 109, 160), (222, 245, 229))
    """
    every = (MAKO, ICEFIRE, _LIGHT, _LIGHT_DIVERGING)[2 * light + diverging]
    anchors = np.array([(c >> 16, c >> 8 & 255, c & 255) for c in every])
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


def takes_black(color: Color) -> bool:
    """Tell whether black stands out more on a colour than white: at 4.5 to 1 or more, either way.

    Examples
    --------
    >>> takes_black(Color.from_rgb(230, 159, 0)), takes_black(Color.from_rgb(0, 114, 178))
    (True, False)
    """
    return (luminance(color) + 0.05) ** 2 >= 1.05 * 0.05


def _readable(color: Color, look: Look) -> Style:
    if look.few_colors:
        return Style.from_color(
            Color.parse("black" if color.name in _BRIGHT else "bright_white"), color
        )
    black = takes_black(color)
    return Style.from_color(Color.parse("#000000" if black else "#ffffff"), color)


def luminance(color: Color) -> float:
    """Give the relative luminance of a colour as WCAG defines it, 0 to 1."""
    channels = np.array(color.get_truecolor()) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
