"""What a check found: frozen values that the table, the JSON and a test all read."""

from attncli.reports.comparison import Budget, CompareReport, Element, TensorComparison
from attncli.reports.gradients import GradcheckReport, GradientElement, InputCheck, Method

__all__ = [
    "Budget",
    "CompareReport",
    "Element",
    "GradcheckReport",
    "GradientElement",
    "InputCheck",
    "Method",
    "TensorComparison",
]
