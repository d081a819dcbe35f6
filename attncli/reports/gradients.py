"""What a gradient check found: frozen values that the table, the JSON and a test all read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Method = Literal["complex", "central"]


@dataclass(frozen=True)
class GradientElement:
    """One element of a gradient.

    Attributes
    ----------
    index : tuple of int
    backward, derivative : float
        What the backward pass gave, and what it is.
    relative_error : float
    """

    index: tuple[int, ...]
    backward: float
    derivative: float
    relative_error: float


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
    worst_elements : tuple of GradientElement
        Of a check that failed, the worst few.
    patterns : tuple of str
        What the errors have in common, in words.
    not_differentiable : int
        How many elements lie where forward has no derivative; they are not judged.
    jacobian_error : float or None
        The largest relative error over the whole Jacobian, where it was small enough to check.
    errors : ndarray or None
        Of a check that failed, the relative error of every element.
    tolerance : float
        The largest relative error that passes.
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
    worst_elements: tuple[GradientElement, ...] = ()
    patterns: tuple[str, ...] = ()
    not_differentiable: int = 0
    jacobian_error: float | None = None
    errors: Any = field(default=None, compare=False, repr=False)
    tolerance: float = 0.0


@dataclass(frozen=True)
class GradcheckReport:
    """What a gradient check found.

    Attributes
    ----------
    method : {"complex", "central"}
    tolerance : float
        The largest relative error that passes: of the gradients' tolerances the largest.
    seed : int
    checks : tuple of InputCheck
    target : str or None
        What was checked, where it is not ours.
    dtype : str
        What was computed in.
    problems : tuple of str
        What is wrong beside single gradients: calls that differ, inputs that are changed …
    notes : tuple of str
        What should be known of how it was checked.
    """

    method: Method
    tolerance: float
    seed: int
    checks: tuple[InputCheck, ...]
    target: str | None = None
    dtype: str = "float64"
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are checks, every one passed, and there is no problem beside."""
        right = not self.problems and all(check.passed for check in self.checks)
        return right and self.judged > 0

    @property
    def judged(self) -> int:
        """How many elements were judged; where there are none, nothing has been shown."""
        return sum(check.elements - check.not_differentiable for check in self.checks)

    @property
    def worst(self) -> InputCheck:
        """The check with the largest relative error."""
        return max(self.checks, key=lambda check: check.relative_error)
