"""What the shades of a picture mean, in one line under it."""

from __future__ import annotations

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from attncli.views.look import Look
from attncli.views.numbers import format_array
from attncli.views.scales import Scale, Shade
from attncli.views.shades import ramp
from attncli.views.strips import strip

_CELLS = 16
# So far from a number may be what is written for it.
_CLOSE = 0.05


def legend(scale: Scale, indent: int, look: Look, note: str = "1 cell = 1 weight") -> Text:
    """Draw the scale between the numbers at its ends, and say what a cell is."""
    diverging = scale.kind == "diverging"
    low, top = ends(scale)
    line = Text(" " * indent).append(f"{low} ", "dim")
    if look.color:
        kind: Shade = "diverging" if diverging else "linear"
        first = -1 if diverging else 0
        line.append_text(strip(np.linspace(first, 1, _CELLS), look, Scale(kind, 1.0)))
    else:
        line.append(ramp(look, diverging=diverging))
    line.append(f" {top}", "dim")
    if told := beyond(scale.smaller, scale.larger):
        line.append(f"  {told}", "dim")
    if scale.holes:
        line.append("  ").append_text(hole_key(look))
    if note and line.cell_len + 2 + cell_len(note) > look.width:
        line.append("\n" + " " * (indent if indent + cell_len(note) <= look.width else 0))
    elif note:
        line.append("  ")
    return line.append(note, "dim italic")


def ends(scale: Scale) -> tuple[str, str]:
    """Write what stands at both ends of a scale.

    Examples
    --------
    >>> ends(Scale("linear", 0.75)), ends(Scale("row", 0.5)), ends(Scale("log", 1.0))
    (('0', '0.75'), ('0', "the row's largest"), ('1.00e-04', '1.00 log'))
    """
    low = "0" if scale.bottom == 0 else number(scale.bottom)
    top = "the row's largest" if scale.kind == "row" else number(scale.top)
    if scale.least is not None:
        low = f"{scale.least:.3g}"
    if scale.given:
        top = f"{scale.top:.3g}"
    return low, f"{top} log" if scale.kind == "log" else top


def beyond(smaller: int, larger: int) -> str:
    """Say how many numbers lie beyond the ends of a scale that were given.

    Examples
    --------
    >>> beyond(0, 3), beyond(1, 2), beyond(0, 0)
    ('beyond: 3 larger', 'beyond: 1 smaller, 2 larger', '')
    """
    counts = {"smaller": smaller, "larger": larger}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return told and f"beyond: {told}"


def hole_key(look: Look) -> Text:
    """Say how what is not finite is shown, which has no place on a scale."""
    return strip(np.array([np.nan]), look, Scale("linear", 1.0)).append(" not finite", "dim")


def number(value: float) -> str:
    """Write the number at an end of a scale, or the largest of a row: two digits that say it.

    Examples
    --------
    >>> number(0.75), number(0.0021), number(3e-5)
    ('0.75', '0.0021', '3.00e-05')
    """
    text = format_array(np.asarray([value]), 2)[0]
    close = not np.isfinite(value) or abs(float(text) - value) <= _CLOSE * abs(value)
    return text if close else f"{value:.2g}"
