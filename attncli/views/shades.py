"""How dark a number is: from values to levels, characters and colours."""

from __future__ import annotations

import numpy as np
from rich.style import Style

from attncli.arrays import Array
from attncli.views.look import Look

LEVELS = 64
"""Colours are told apart in so many steps."""

# The "mako" scale: from nearly black over blue to nearly white. Lightness rises evenly, so it reads
# the same for colour-blind eyes and in greyscale.
_ANCHORS = np.array(
    [
        (0x0B, 0x04, 0x05),
        (0x28, 0x19, 0x2F),
        (0x3B, 0x2F, 0x5E),
        (0x40, 0x49, 0x8E),
        (0x36, 0x6D, 0xA0),
        (0x34, 0x90, 0xA8),
        (0x43, 0xB4, 0xAB),
        (0x8A, 0xD9, 0xB1),
        (0xDE, 0xF5, 0xE5),
    ]
)
_BLOCKS = " ░▒▓█"
_ASCII_RAMP = " .:-=+*#%@"


def levels(values: Array, top: float, steps: int) -> Array:
    """Put values between 0 and `top` on so many steps.

    Values outside are put on the first or the last step, NaN on the first.

    Examples
    --------
    >>> levels(np.array([0.0, 0.49, 0.5, 1.0, 2.0, np.nan]), 1.0, 3)
    array([0, 1, 1, 2, 2, 0])
    """
    top = top if top > 0 else 1.0
    share = np.nan_to_num(np.asarray(values, np.float64) / top, nan=0.0, posinf=1.0, neginf=0.0)
    return np.clip((share * steps).astype(np.intp), 0, steps - 1)


def ramp(look: Look) -> str:
    """Give the characters that stand for shades where there is no colour, lightest first."""
    return _BLOCKS if look.unicode else _ASCII_RAMP


def brightest(values: Array) -> float:
    """Give the number that the last level stands for: the largest there is.

    Examples
    --------
    >>> brightest(np.array([0.25, 0.75])), brightest(np.zeros(2))
    (0.75, 1.0)
    """
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def shade(values: Array) -> list[list[Style]]:
    """Give every number of a matrix the style of its shade."""
    palette = shade_styles()
    steps = levels(values, brightest(values), LEVELS)
    return [[palette[level] for level in row] for row in steps.tolist()]


def shade_styles() -> list[Style]:
    """Give the style of every colour level: a background, and a foreground that can be read."""
    positions = np.linspace(0, len(_ANCHORS) - 1, LEVELS)
    channels = [
        np.interp(positions, np.arange(len(_ANCHORS)), _ANCHORS[:, channel]) for channel in range(3)
    ]
    styles = []
    for red, green, blue in np.stack(channels, axis=1).round().astype(int).tolist():
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 120
        foreground = "#101010" if light else "#e8e8e8"
        styles.append(Style(color=foreground, bgcolor=f"rgb({red},{green},{blue})"))
    return styles
