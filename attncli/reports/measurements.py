"""What measuring found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """A calculation that is measured.

    Attributes
    ----------
    N, T, H : int
        T decoder and T encoder steps.
    dtype : str
    causal : bool
    """

    N: int
    T: int
    H: int
    dtype: str
    causal: bool = False


@dataclass(frozen=True)
class Measurement:
    """One contender on one cell.

    Attributes
    ----------
    cell : Cell
    contender : str
    forward : float or None
        Median seconds of forward alone.
    both : float or None
        Median seconds of forward and backward; None where there is no backward.
    memory : int or None
        The most bytes that a run took beside its inputs; None where the system does not tell.
    error : float or None
        The largest error against float64, relative to each tensor's largest number.
    """

    cell: Cell
    contender: str
    forward: float | None
    both: float | None
    memory: int | None
    error: float | None

    def gflops(self) -> float | None:
        """Billions of operations a second of forward's two products: 4 · N · T² · H in all."""
        if self.forward is None:
            return None
        cell = self.cell
        pairs = cell.T * (cell.T + 1) / 2 if cell.causal else cell.T * cell.T
        return 4 * cell.N * pairs * cell.H / self.forward / 1e9


@dataclass(frozen=True)
class BenchReport:
    """What measuring found.

    Attributes
    ----------
    threads, repeat : int
    measurements : tuple of Measurement
    failures : dict of str to str
        Contenders that could not run some cell, and why.
    """

    threads: int
    repeat: int
    measurements: tuple[Measurement, ...]
    failures: dict[str, str]

    def cells(self) -> list[Cell]:
        """The cells in the order in which they were measured."""
        return list(dict.fromkeys(one.cell for one in self.measurements))

    def of(self, cell: Cell) -> list[Measurement]:
        """The measurements of one cell."""
        return [one for one in self.measurements if one.cell == cell]
