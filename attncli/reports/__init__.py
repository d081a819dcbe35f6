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

__all__ = [
    "Agreement",
    "Budget",
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
    "Method",
    "NamedMistake",
    "Part",
    "Status",
    "TensorComparison",
]
