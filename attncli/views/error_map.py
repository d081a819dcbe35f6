"""A picture of the errors in a tensor: dark where it is right, bright where it is wrong."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.arrays import Array
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE, Matrix
from attncli.views.numbers import format_error
from attncli.views.strips import shaded

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
    pictures: list[RenderableType] = []
    rows = 0
    for index in np.ndindex(errors.shape[:-2]):
        where = " ".join(
            f"{_INDEX_NAMES.get(name, name or 'axis')} {i}"
            for name, i in zip(names, index, strict=False)
        )
        matrix = errors[index]
        if look.plain:
            yield _numbers(matrix, where, look)
            continue
        if rows >= _MOST_ROWS:
            pictures.append(Text(look.ellipsis, "dim"))
            break
        shown = matrix[:_MOST_ROWS]
        if len(shown) < len(matrix):
            where = f"{where} rows 0 to {len(shown) - 1} of {len(matrix)}".lstrip()
        rows += len(shown)
        pictures.append(_shades(shown, tolerance, where, look))
    if pictures:
        yield Padding(Columns(pictures, padding=(0, 3, 0, 0)), (0, 0, 0, 2))


def _numbers(matrix: Array, where: str, look: Look) -> RenderableType:
    cells = [[format_error(value) for value in row] for row in matrix.tolist()]
    rows, columns = ([str(i) for i in range(size)] for size in matrix.shape)
    return Matrix(f"  {where}", [f"  {row}" for row in rows], columns, cells).draw(look)


def _shades(matrix: Array, tolerance: float, where: str, look: Look) -> RenderableType:
    with np.errstate(divide="ignore"):
        bright = np.clip(np.log10(matrix / tolerance), 0, _DECADES)
    label = len(str(matrix.shape[0] - 1))
    room = max(1, look.width - label - 6)
    cell = 2 if 2 * matrix.shape[1] <= room else 1
    shown = room // cell
    if shown < matrix.shape[1]:
        where = f"{where} columns 0 to {shown - 1} of {matrix.shape[1]}".lstrip()
    lines = [Text(where, "dim")] if where else []
    for number, row in enumerate(bright):
        line = Text().append(f"{number:>{label}} ", LABEL_STYLE)
        lines.append(line.append_text(shaded(row[:shown], _DECADES, cell, look)))
    return Group(*lines)


def errors_legend(tolerance: float, look: Look) -> Text:
    """Say what the shades mean."""
    line = Text("     ").append(f"{tolerance:g} ", "dim")
    line.append_text(shaded(np.linspace(0, _DECADES, 10), _DECADES, 1, look))
    return line.append(f" {tolerance * 10**_DECADES:g}  relative error", "dim")
