"""A tensor on the screen: in full where it is small, else summed up with a corner of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array, Tokens, parts
from attncli.tensors import describe_shape
from attncli.views.labels import safe, shorten, told_apart
from attncli.views.lazy import OneByOne, Rows
from attncli.views.look import Look
from attncli.views.matrix import Matrix
from attncli.views.numbers import DEFAULT_PRECISION, Notation, format_array

if TYPE_CHECKING:
    from attncli.core.parts import Shaped

SMALL = 600
"""Tensors of up to so many elements are shown in full."""

# What an index along an axis is called.
_INDEX_NAMES = {"N": "item", "heads": "head"}
# Softmax's results: shaded by their size.
_WEIGHTS = ("weights", "a")
_CORNER = (3, 4)
_LONGEST_LABEL = 16
# Columns between two matrices that stand beside each other.
_BESIDE = 4


def title(name: str, array: Shaped, axes: tuple[str, ...] | None, look: Look) -> Text:
    """Name a tensor, with its shape, axes and dtype."""
    text = Text(safe(name, look), "bold")
    text.append(f"  {describe_shape(array.shape, axes)}  {array.dtype}", "not bold dim")
    return text


def draw_tensor(
    name: str,
    array: Array,
    axes: tuple[str, ...] | None,
    look: Look,
    *,
    tokens: Mapping[str, Tokens] | None = None,
) -> RenderableType:
    """Draw a tensor with its title.

    Parameters
    ----------
    name : str
    array : ndarray
    axes : tuple of str or None
        The names of its axes, where they are known.
    look : Look
        What can be shown; when piped, numbers are written to the last digit.
    tokens : mapping of str to ndarray of str, optional
        For an axis (``"T_enc"``), its tokens: (size,), or (N, size) for one row an item.
    """
    numbers = draw_numbers(name, array, axes, look, tokens=tokens)
    return Group(title(name, array, axes, look), numbers)


def draw_numbers(
    name: str,
    array: Array,
    axes: tuple[str, ...] | None,
    look: Look,
    *,
    tokens: Mapping[str, Tokens] | None = None,
    small: int = SMALL,
) -> RenderableType:
    """Draw a tensor without its title, in full up to `small` elements.

    The other parameters are those of `draw_tensor`.
    """
    precision = look.digits(DEFAULT_PRECISION)
    if array.size == 0:
        return Group(Text("  empty", "dim"), "")
    if look.full or array.size <= small:
        shaded = name in _WEIGHTS and look.color
        draw = functools.partial(_matrices, array, axes, look, tokens or {}, precision, shaded)
        return _arranged(draw, look)
    more = "; --full shows all"
    more += ", attn show-weights draws them" if name in _WEIGHTS else ""
    corner = draw_corner(array[corner_of(array.shape)], array.shape, look, more)
    return Group(_summary(array, precision), corner, "")


def _matrices(
    array: Array,
    axes: tuple[str, ...] | None,
    look: Look,
    tokens: Mapping[str, Tokens],
    precision: int | None,
    shaded: bool,
) -> Iterator[Matrix]:
    """Make one matrix for every combination of the leading indices."""
    rows = array.reshape((1,) * (2 - array.ndim) + array.shape) if array.ndim < 2 else array
    leading = rows.shape[:-2]
    notation = Notation(array, precision)
    names = axes if axes is not None and len(axes) == array.ndim else ("",) * array.ndim
    lead_names, (row_axis, column_axis) = names[:-2], ("", "", *names)[-2:]
    for index in np.ndindex(leading):
        item = index[0] if index else None
        where = " ".join(
            f"{_INDEX_NAMES.get(axis, axis or 'axis')} {i}"
            for axis, i in zip(lead_names, index, strict=True)
        )
        part = rows[index]
        yield Matrix(
            corner=where or row_axis,
            row_labels=axis_labels(row_axis, rows.shape[-2], tokens, item, look)
            if array.ndim > 1
            else [""],
            column_labels=axis_labels(column_axis, rows.shape[-1], tokens, item, look),
            cells=_texts(part, notation),
            styles=_shades(part, look) if shaded else None,
            longest_cell=notation.longest(part),
        )


def _texts(matrix: Array, notation: Notation) -> Rows[list[str]]:
    return Rows(len(matrix), lambda row: notation.write(matrix[row]))


def _shades(weights: Array, look: Look) -> Sequence[list[Style]]:
    """Shade a matrix by its own largest number."""
    from attncli.views.scales import Scale  # not needed, and not loaded, without colours
    from attncli.views.shades import shade

    return shade(weights, look, Scale.of(weights))


def axis_labels(
    axis: str,
    size: int,
    tokens: Mapping[str, Tokens],
    item: int | None,
    look: Look,
) -> list[str]:
    """Label the positions of an axis: its tokens where there are any, else their numbers."""
    texts = tokens.get(axis)
    row = texts if texts is None or texts.ndim == 1 else texts[item or 0]
    if row is None or len(row) != size:
        return [str(position) for position in range(size)]
    longest = 10**6 if look.plain else _LONGEST_LABEL
    words = told_apart([safe(token, look) for token in row.tolist()])
    return [shorten(word, longest, look) for word in words]


def _arranged(matrices: Callable[[], Iterator[Matrix]], look: Look) -> RenderableType:
    """Put matrices beside each other where two fit, else below each other."""
    if look.plain or 2 * max(matrix.width() for matrix in matrices()) + _BESIDE > look.width:
        return OneByOne(lambda: (part for matrix in matrices() for part in (matrix.draw(look), "")))
    from rich.columns import Columns  # not needed, and not loaded, when piped
    from rich.padding import Padding

    # Every picture is as wide as the widest, so that columns line up and nothing is cut.
    widest = max(matrix.width() for matrix in matrices())
    pictures = [Padding(matrix.draw(look), (0, 0, 1, 0)) for matrix in matrices()]
    return Columns(pictures, padding=(0, _BESIDE), width=widest)


def _summary(array: Array, precision: int | None) -> RenderableType:
    total = square = 0.0
    for part in parts(array):  # not all of a large array in float64 at once
        values = part.astype(np.float64, copy=False)
        total += float(values.sum())
        square += float(np.vdot(values, values))
    statistics = {
        "min": array.min(),
        "max": array.max(),
        "mean": np.float64(total / array.size),
        "norm": np.float64(math.sqrt(square)),
    }
    line = Text("  ")
    for name, value in statistics.items():
        (text,) = format_array(value.reshape(1), precision)
        line.append(f"{name} ", "dim").append(f"{text}  ")
    return line


def corner_of(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return where the first few rows and columns of an array lie, of the first of what leads."""
    corner = (slice(0, 1),) * (len(shape) - 2) + tuple(slice(0, n) for n in _CORNER)
    return corner[-len(shape) :] if shape else ()


def draw_corner(
    corner: Array,
    shape: tuple[int, ...],
    look: Look,
    more: str = "; --full shows all",
) -> RenderableType:
    """Draw the first few rows and columns of an array of that shape, saying so."""
    part = np.atleast_2d(corner.reshape(corner.shape[-2:]))
    precision = look.digits(DEFAULT_PRECISION)
    texts = np.array(format_array(part, precision), dtype=object).reshape(part.shape).tolist()
    index = "0, " * (len(shape) - 2) + (f":{part.shape[0]}, " if len(shape) > 1 else "")
    matrix = Matrix(
        corner=f"  [{index}:{part.shape[1]}]",
        row_labels=[f"  {row}" for row in range(part.shape[0])],
        column_labels=[str(column) for column in range(part.shape[1])],
        cells=texts,
    )
    shown = f"  {part.size} of {prod(shape)} numbers shown{more}"
    return Group(matrix.draw(look), Text(shown, "dim italic"))
