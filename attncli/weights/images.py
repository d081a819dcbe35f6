"""Keys that are the patches of an image: a row of weights as the image that it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isqrt, prod

import numpy as np

from attncli.arrays import Array
from attncli.errors import ParameterError
from attncli.weights.cutting import Cut
from attncli.weights.selection import Chosen, ImageRow, Load, Selection


def as_images(selection: Selection, grid: tuple[int, int]) -> Selection:
    """Give each row that is wanted as an image: a matrix of as many patches down and across.

    Raises
    ------
    ParameterError
        If there are more or fewer keys than patches.
    """
    matrices = [image for one in selection.matrices for image in _of_rows(selection, one, grid)]
    return replace(selection, matrices=matrices)


def _of_rows(selection: Selection, one: Chosen, grid: tuple[int, int]) -> Iterator[Chosen]:
    cut, keys = selection.cut(one), selection.tokens(one, "T_enc")
    if len(cut.columns) != prod(grid):
        down, across = grid
        left = "" if len(cut.columns) == one.shape[1] else f" left of {one.shape[1]}"
        raise ParameterError(
            f"--grid {down}x{across} is {prod(grid)} patches ({down} × {across}): there are "
            f"{len(cut.columns)} keys{left}",
            hint=fitting_grid(len(cut.columns), keys if not left else None, grid),
        )
    words = selection.shown(one, "T_dec")
    for place, row in enumerate(cut.rows.tolist()):
        load = _loader(one.load, replace(cut, rows=cut.rows[place : place + 1]), grid)
        word = None if words is None else words[row]
        image = ImageRow(word, cut.columns.tolist())
        yield replace(one, names={**one.names, "row": row}, shape=grid, load=load, image=image)


def _loader(load: Load, row: Cut, grid: tuple[int, int]) -> Load:
    def image(cut: Cut) -> Array:
        return cut.apply(load(row).reshape(grid))

    return image


def fitting_grid(
    count: int, keys: Sequence[str] | None = None, grid: tuple[int, int] | None = None
) -> str | None:
    """Give options that show so many keys as an image, as far as one can tell.

    Parameters
    ----------
    count : int
        How many keys there are.
    keys : sequence of str, optional
        Their words: an image in a text is often a run of one token.
    grid : (int, int), optional
        The size that was asked for.

    Examples
    --------
    >>> fitting_grid(49), fitting_grid(50), fitting_grid(40)
    ('--grid 7x7', '--cols 1: --grid 7x7', '--grid 5x8')
    >>> fitting_grid(7, ["a", *["<image>"] * 4, "is", "b"], (2, 2))
    '--cols 1:5 --grid 2x2'
    """
    if keys is not None and grid is not None:
        edges = [0, *(np.flatnonzero(np.array(keys[1:]) != np.array(keys[:-1])) + 1), len(keys)]
        for first, last in pairwise(edges):
            if last - first == prod(grid) > 1:
                return f"--cols {first}:{last} --grid {grid[0]}x{grid[1]}"
    if grid is not None and prod(grid) < count - 1:
        return f"--cols A:B leaves the {prod(grid)} keys that are patches"
    if grid is not None and prod(grid) == count - 1:
        return f"--cols 1: --grid {grid[0]}x{grid[1]}"
    if square := square_image(count):
        return square
    sides = [side for side in range(isqrt(count), 1, -1) if count % side == 0]
    return f"--grid {sides[0]}x{count // sides[0]}" if sides else None


def square_image(count: int, least: int = 2) -> str | None:
    """Give options that show so many keys as a square, behind a token of the class or without.

    Examples
    --------
    >>> square_image(197), square_image(64), square_image(18), square_image(17, least=7)
    ('--cols 1: --grid 14x14', '--grid 8x8', None, None)
    """
    for cols, left in (("", count), ("--cols 1: ", count - 1)):
        side = isqrt(max(0, left))
        if side >= least and side * side == left:
            return f"{cols}--grid {side}x{side}"
    return None
