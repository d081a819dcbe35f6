"""The convention that was found, on the screen."""

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.reports import ConventionReport
from attncli.views.look import Look
from attncli.views.numbers import format_error


def draw_convention(report: ConventionReport, look: Look) -> RenderableType:
    """Draw what reproduces the output, or what comes nearest."""
    lines: list[RenderableType] = []
    for number, convention in enumerate(report.found):
        line = Text().append("or  " if number else "", "dim")
        line.append(_encodable(convention.described, look), "bold green" if not number else "")
        lines.append(line.append(f"  within {format_error(convention.distance)}", "dim"))
    if not report.found:
        lines.append(Text("no combination reproduces the output", "bold red"))
        if report.nearest is not None:
            line = Text("the nearest: ").append(_encodable(report.nearest.described, look))
            lines.append(line.append(f"  off by {format_error(report.nearest.distance)}"))
    tried = f"{report.tried} combinations tried, tolerance {report.tolerance:g}"
    return Group(*lines, Text(tried, "dim"))


def _encodable(text: str, look: Look) -> str:
    return text if look.unicode else text.replace("√", "sqrt ").replace("·", "*")
