"""What a gradient check found: frozen values that the table, the JSON and a test all read."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["complex", "central"]


@dataclass(frozen=True)
class InputCheck:
    """The check of the gradient with respect to one input.

    Attributes
    ----------
    layer, input : str
        What was checked.
    elements : int
        How many elements were checked: all there are.
    absolute_error : float
        The largest |backward − derivative|.
    relative_error : float
        The largest |backward − derivative| / scale, where scale is the larger of |derivative|, a
        hundredth of the tensor's largest |derivative|, and 0.001.
    worst : tuple of int
        The index of the element with the largest relative error.
    backward, derivative : float
        The two values there.
    passed : bool
    """

    layer: str
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
