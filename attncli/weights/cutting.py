"""A part of a matrix of weights: which rows and columns stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attncli.arrays import Array


@dataclass(frozen=True)
class Cut:
    """The rows and columns of a matrix that are looked at.

    Attributes
    ----------
    rows, columns : ndarray of int
        Their positions, ascending.
    renormalise : bool
        Divide what is left of every row by its sum.
    narrow : bool
        Read these columns alone, rather than whole rows, whose sums tell whether they are weights.
    """

    rows: Array
    columns: Array
    renormalise: bool = False
    narrow: bool = False

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Cut:
        """Make the cut that leaves everything."""
        return cls(np.arange(shape[0]), np.arange(shape[1]))

    @property
    def region(self) -> tuple[slice | Array, slice]:
        """What is to be read of a matrix, as an index."""
        columns = (
            slice(self.first_column, int(self.columns[-1]) + 1) if self.narrow else slice(None)
        )
        return _index(self.rows), columns

    @property
    def first_column(self) -> int:
        """The position of the first column that is read."""
        return int(self.columns[0]) if self.narrow else 0

    def of_region(self, weights: Array) -> Array:
        """Take the columns that stay from what was read; a view where that is possible."""
        part: Array = weights[:, _index(self.columns - self.first_column)]
        return part

    def apply(self, weights: Array) -> Array:
        """Return the part of a whole matrix.

        Examples
        --------
        >>> cut = Cut(np.array([0]), np.array([1, 2]), renormalise=True)
        >>> cut.apply(np.array([[0.5, 0.375, 0.125], [1.0, 0.0, 0.0]]))
        array([[0.75, 0.25]])
        """
        return self.finished(self.of_region(weights[self.region]))

    def finished(self, part: Array) -> Array:
        """Divide every row of a part by its sum if that is wanted."""
        return renormalised(part) if self.renormalise else part


def renormalised(weights: Array) -> Array:
    """Divide every row by its sum; one that is all zero stays so.

    Examples
    --------
    >>> renormalised(np.array([[0.25, 0.25], [0.0, 0.0]]))
    array([[0.5, 0.5],
           [0. , 0. ]])
    """
    sums = weights.sum(axis=1, keepdims=True, dtype=np.float64)
    scaled: Array = weights / np.where(sums == 0, 1.0, sums)
    return scaled


def _index(positions: Array) -> slice | Array:
    """A slice where the positions follow each other, which takes a view instead of a copy."""
    if positions.size and positions[-1] - positions[0] + 1 == positions.size:
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions
