"""A picture of the errors in a tensor: dark where it is right, bright where it is wrong."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE, Matrix
from attncli.views.numbers import format_error
from attncli.views.weights import shaded

_INDEX_NAMES = {"N": "item", "heads": "head"}
# Errors this many powers of ten above the tolerance have the brightest shade.
_DECADES = 6.0
_MOST_ROWS = 60


def draw_errors(
    errors: Array, tolerance: float, axes: tuple[str, ...] | None, look: Look
) -> Iterator[RenderableType]:
    """Draw the relative errors of a tensor, one matrix for each leading index.

    Parameters
    ----------
    errors : ndarray
        Not negative.
    tolerance : float
        What is below it is right, and stays dark.
    axes : tuple of str or None
        The names of the axes.
    look : Look
        Piped: numbers instead of shades.
    """
    while errors.ndim < 2:
        errors = errors[None]
        axes = None
    names: Sequence[str] = axes if axes and len(axes) == errors.ndim else [""] * errors.ndim
    drawn = 0
    for index in np.ndindex(errors.shape[:-2]):
        matrix = errors[index]
        drawn += matrix.shape[0]
        if drawn > _MOST_ROWS and not look.plain:
            yield Text("  …" if look.unicode else "  ...", "dim")
            return
        where = " ".join(
            f"{_INDEX_NAMES.get(name, name or 'axis')} {i}"
            for name, i in zip(names, index, strict=False)
        )
        yield from (
            _plain(matrix, where, look)
            if look.plain
            else _shades(matrix, tolerance, where, names[-1], look)
        )


def _plain(matrix: Array, where: str, look: Look) -> Iterator[RenderableType]:
    cells = [[format_error(value) for value in row] for row in matrix.tolist()]
    rows, columns = ([str(i) for i in range(size)] for size in matrix.shape)
    yield Matrix(f"  {where}", [f"  {row}" for row in rows], columns, cells).draw(look)


def _shades(
    matrix: Array, tolerance: float, where: str, axis: str, look: Look
) -> Iterator[RenderableType]:
    with np.errstate(divide="ignore"):
        bright = np.clip(np.log10(matrix / tolerance), 0, _DECADES)
    label = max(len(str(matrix.shape[0] - 1)), 2)
    room = max(1, look.width - label - 3)
    cell = 2 if 2 * matrix.shape[1] <= room else 1
    shown = room // cell
    heading = f"  {where}" if where else ""
    if shown < matrix.shape[1]:
        heading += f"  first {shown} of {matrix.shape[1]} columns"
    if heading:
        yield Text(heading, "dim")
    for number, row in enumerate(bright):
        line = Text().append(f"  {number:>{label}} ", LABEL_STYLE)
        yield line.append_text(shaded(row[:shown], _DECADES, cell, look))


def errors_legend(tolerance: float, look: Look) -> Text:
    """Say what the shades mean."""
    line = Text("     ").append(f"{tolerance:g} ", "dim")
    line.append_text(shaded(np.linspace(0, _DECADES, 10), _DECADES, 1, look))
    return line.append(f" {tolerance * 10**_DECADES:g}  relative error", "dim")
