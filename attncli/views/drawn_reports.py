"""Reports in Python: as the text that the command prints, as HTML in a notebook, as a dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from rich.console import Group, RenderableType

from attncli.errors import CodeError
from attncli.reports import (
    CheckReport,
    CompareReport,
    ConventionReport,
    FailedReport,
    GradcheckReport,
)
from attncli.shown import Several, Shown
from attncli.views.check_report import draw_check, draw_failed
from attncli.views.comparison_report import draw_comparison
from attncli.views.convention_report import draw_convention
from attncli.views.gradient_report import draw_gradients
from attncli.views.look import Look
from attncli.views.rendering import html, lines
from attncli.views.report_json import failed_as_json, report_as_json
from attncli.views.verdicts import NOT_JUDGED, WRONG


def _gradients(report: GradcheckReport, look: Look) -> RenderableType:
    sizes = " ".join(f"{axis}={size}" for axis, size in report.sizes.items())
    return draw_gradients(report, sizes, look)


_DRAWN: Mapping[type[Shown], Callable[[Any, Look], RenderableType]] = {
    CheckReport: draw_check,
    CompareReport: draw_comparison,
    ConventionReport: lambda report, look: draw_convention(report, report.file or "FILE", look),
    FailedReport: lambda report, look: draw_failed(report.target, report.error, look),
    GradcheckReport: _gradients,
}


def _drawn(report: Shown, look: Look) -> RenderableType:
    if isinstance(report, Several):  # with a line between
        each = [_drawn(one, look) for one in report.reports]
        return Group(*list(chain.from_iterable(("", one) for one in each))[1:])
    return _DRAWN[type(report)](report, look)


def as_text(report: Shown) -> str:
    """Give what its command prints into a pipe: nothing is cut, numbers are whole."""
    look = Look.piped()
    return "\n".join(lines(look, _drawn(report, look)))


def as_html(report: Shown) -> str:
    """Give what its command shows on a terminal, for a notebook."""
    return html(lambda look: _drawn(report, look))


def as_dict(report: Shown) -> dict[str, Any]:
    """Give what its command prints with --json, but for what is said of the command."""
    if isinstance(report, Several):
        return {"passed": report.passed, "targets": [as_dict(one) for one in report.reports]}
    if isinstance(report, FailedReport):
        verdict = WRONG if isinstance(report.error, CodeError) else NOT_JUDGED
        return failed_as_json(report.target, str(report.error), report.error.hint, verdict)
    found: dict[str, Any] = report_as_json(report)
    return found
