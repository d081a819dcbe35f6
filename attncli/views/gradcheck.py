"""The report of a gradient check on the screen."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.reports import GradcheckReport
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import format_error
from attncli.views.records import Column, draw_records

_METHODS = {"complex": "complex step", "central": "central differences"}


def draw_gradcheck(report: GradcheckReport, sizes: str, look: Look) -> RenderableType:
    """Draw one line for each input of each layer, and the verdict over all."""
    checks = report.checks
    number = str if look.plain else format_error
    good = ["green" if check.passed else "bold red" for check in checks]
    columns = [
        Column("layer", [safe(check.layer, look) for check in checks]),
        Column("engine", [check.engine for check in checks]),
        Column("input", [safe(check.input, look) for check in checks]),
        Column("count", [str(check.elements) for check in checks], right=True),
        Column("abs err", [number(check.absolute_error) for check in checks], right=True),
        Column("rel err", [number(check.relative_error) for check in checks], right=True),
        Column("worst at", [str(list(check.worst)) for check in checks]),
        Column("check", ["ok" if check.passed else "WRONG" for check in checks], styles=good),
    ]
    parts = ("", _METHODS[report.method], sizes, "float64", f"seed {report.seed}")
    heading = Text("gradcheck", "bold").append(look.dot.join(parts), "not bold")
    return Group(heading, "", draw_records(columns, look), "", *_verdict(report, look))


def _verdict(report: GradcheckReport, look: Look) -> list[Text]:
    elements = sum(check.elements for check in report.checks)
    tolerance = f"tolerance {report.tolerance:g}"
    worst = f"worst relative error {format_error(report.worst.relative_error)}"
    if report.passed:
        return [Text(f"{elements} gradients right: {worst}, {tolerance}", "green")]
    lines = [
        Text(
            f"{safe(check.layer, look)}, {check.engine}: "
            f"d{safe(check.input, look)}{list(check.worst)} is {check.backward!r}, "
            f"the derivative is {check.derivative!r}"
        )
        for check in report.checks
        if not check.passed
    ]
    failed = len(lines)
    what = "gradient tensor is" if failed == 1 else "gradient tensors are"
    return [*lines, Text(f"{failed} {what} wrong: {worst}, {tolerance}", "bold red")]
