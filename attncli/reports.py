"""What a check found: frozen values that the table, the JSON and a test all read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Method = Literal["complex", "central"]


@dataclass(frozen=True)
class InputCheck:
    """The check of the gradient with respect to one input.

    Attributes
    ----------
    layer, engine, input : str
        What was checked: the gradient of which operation, by which engine, to which input.
    elements : int
        How many elements were checked: all there are.
    absolute_error : float
        The largest |backward − derivative|.
    relative_error : float
        The largest |backward − derivative| / scale, where scale is the larger of |derivative|, a
        hundredth of the tensor's largest |derivative|, and 0.01.
    worst : tuple of int
        The index of the element with the largest relative error.
    backward, derivative : float
        The two values there.
    passed : bool
    """

    layer: str
    engine: str
    input: str
    elements: int
    absolute_error: float
    relative_error: float
    worst: tuple[int, ...]
    backward: float
    derivative: float
    passed: bool


@dataclass(frozen=True)
class GradcheckReport:
    """What a gradient check found.

    Attributes
    ----------
    method : {"complex", "central"}
    tolerance : float
    seed : int
    checks : tuple of InputCheck
    """

    method: Method
    tolerance: float
    seed: int
    checks: tuple[InputCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> InputCheck:
        """The check with the largest relative error."""
        return max(self.checks, key=lambda check: check.relative_error)


@dataclass(frozen=True)
class Agreement:
    """How one of our results compares with the one that a file brings along.

    Attributes
    ----------
    name : str
    agrees : bool
        Within the tolerance of the coarser dtype; those of ``torch.testing.assert_close``.
    largest_difference : float
        Infinity where the shapes differ.
    """

    name: str
    agrees: bool
    largest_difference: float


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
