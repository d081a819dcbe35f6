"""What a check found: frozen values that the table, the JSON and a test all read."""

from attncli.reports.checks import (
    CheckReport,
    Diagnosis,
    Finding,
    Link,
    NamedMistake,
    Part,
    Status,
)
from attncli.reports.comparison import Agreement, Budget, CompareReport, Element, TensorComparison
from attncli.reports.conventions import Convention, ConventionReport
from attncli.reports.gradients import GradcheckReport, GradientElement, InputCheck, Method
from attncli.reports.measurements import BenchReport, Cell, Measurement

__all__ = [
    "Agreement",
    "BenchReport",
    "Budget",
    "Cell",
    "CheckReport",
    "CompareReport",
    "Convention",
    "ConventionReport",
    "Diagnosis",
    "Element",
    "Finding",
    "GradcheckReport",
    "GradientElement",
    "InputCheck",
    "Link",
    "Measurement",
    "Method",
    "NamedMistake",
    "Part",
    "Status",
    "TensorComparison",
]
