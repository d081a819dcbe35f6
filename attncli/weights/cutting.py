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
    row_edges, column_edges : ndarray of int or None
        Where rows or columns are words of several steps: the first step of each word, and the one
        behind the last. Weights from a word are averaged, to a word added, so that rows go on
        summing to 1.
    """

    rows: Array
    columns: Array
    renormalise: bool = False
    narrow: bool = False
    row_edges: Array | None = None
    column_edges: Array | None = None

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Cut:
        """Make the cut that leaves everything."""
        return cls(np.arange(shape[0]), np.arange(shape[1]))

    @property
    def region(self) -> tuple[slice | Array, slice]:
        """What is to be read of a matrix, as an index."""
        columns = slice(None)
        if self.narrow:
            last = int(self.columns[-1]) + 1
            behind = last if self.column_edges is None else int(self.column_edges[last])
            columns = slice(self.first_column, behind)
        return as_index(self.steps), columns

    @property
    def steps(self) -> Array:
        """The positions of the rows that are read."""
        if self.row_edges is None:
            return self.rows
        starts, ends = self.row_edges[self.rows], self.row_edges[self.rows + 1]
        spans = [np.arange(*span) for span in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(spans) if spans else self.rows

    @property
    def first_column(self) -> int:
        """The position of the first column that is read."""
        if not self.narrow:
            return 0
        first = int(self.columns[0])
        return first if self.column_edges is None else int(self.column_edges[first])

    def of_region(self, weights: Array) -> Array:
        """Take the columns that stay from what was read; a view where that is possible.

        Examples
        --------
        >>> both, edges = np.arange(2), np.array([0, 2, 3])
        >>> words = Cut(both, both, row_edges=edges, column_edges=edges)
        >>> words.of_region(np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.25, 0.0, 0.75]]))
        array([[0.625, 0.375],
               [0.25 , 0.75 ]])
        """
        if self.row_edges is not None and len(weights):
            sizes = np.diff(self.row_edges)[self.rows]
            sums = np.add.reduceat(weights, np.cumsum(sizes) - sizes, axis=0, dtype=np.float64)
            weights = sums / sizes[:, None]
        first = int(self.columns[0]) if self.narrow else 0
        if self.column_edges is not None:
            last = int(self.columns[-1]) + 1 if self.narrow else len(self.column_edges) - 1
            starts = self.column_edges[first:last] - self.column_edges[first]
            weights = np.add.reduceat(weights, starts, axis=1, dtype=np.float64)
        part: Array = weights[:, as_index(self.columns - first)]
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


def as_index(positions: Array) -> slice | Array:
    """Give a slice where the positions follow each other, which takes a view instead of a copy."""
    if positions.size and positions[-1] - positions[0] + 1 == positions.size:
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions
