"""Gradients and the derivatives that they were held against, on the screen."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.reports import GradcheckReport, InputCheck, gradient_name
from attncli.tensors import axes_of
from attncli.translation import Sentence, joined
from attncli.translation import translated as _
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import format_error
from attncli.views.records import Column, draw_records

_METHODS = {"complex": "complex step", "central": "central differences, extrapolated"}


EXPLAINED = {
    "the residual": "the-residual-missing-in-backward",
    "off by the factor": "gradients-off-by-a-factor",
    "the sign is reversed": "sign-of-the-gradients-reversed",
    "transposed": "gradient-of-a-parameter-transposed",
    "(+=)": "gradients-of-parameters-added-to-over-calls",
    "not deterministic": "dropout-left-on",
    "dout is changed in place": "dout-modified-in-place",
    "the input": "input-modified-in-place",
    "of the same instance": "state-left-over-from-the-call-before",
}
"""What explains a pattern in a gradient, or a problem, by a part of how it is said."""


def draw_gradients(report: GradcheckReport, sizes: str, look: Look) -> RenderableType:
    """Draw one line for each gradient, what is wrong with those that are, and the verdict."""
    seed = _(Sentence("seed {seed}", seed=report.seed))
    parts = ("", _(_METHODS[report.method]), sizes, report.dtype, seed)
    heading = Text(safe(report.target, look), "bold")
    heading.append(look.dot.join(parts), "not bold")
    drawn: list[RenderableType] = [heading, ""]
    if report.checks:
        drawn += [_table(report, look), ""]
    for check in report.checks:
        if not check.passed:
            drawn += [*_details(check, _whose(check, report, look), look), ""]
    drawn += [
        Text(safe(_(Sentence("problem: {problem}", problem=one)), look), "bold red")
        for one in report.problems
    ]
    said = [*report.problems, *(pattern for one in report.checks for pattern in one.patterns)]
    drawn += [
        Text(f"attn explain {name}", "dim")
        for part, name in EXPLAINED.items()
        if any(part in text for text in said)
    ]
    drawn += [
        Text(safe(_(Sentence("note: {note}", note=one)), look), "dim") for one in report.notes
    ]
    return Group(*drawn, _verdict(report))


def _table(report: GradcheckReport, look: Look) -> RenderableType:
    checks = report.checks
    number = repr if look.plain else format_error
    columns = []
    if _several(report):
        columns.append(Column(_("layer"), [safe(check.layer, look) for check in checks]))
    if _by_engines(report):
        columns.append(Column(_("engine"), [check.engine for check in checks]))
    columns += [
        Column(_("gradient"), [_gradient_name(check, look) for check in checks]),
        Column(_("elements"), [str(check.elements) for check in checks], right=True),
        Column(_("abs error"), [number(check.absolute_error) for check in checks], right=True),
        Column(_("rel error"), [number(check.relative_error) for check in checks], right=True),
    ]
    if any(check.jacobian_error is not None for check in checks):
        errors = ["" if c.jacobian_error is None else number(c.jacobian_error) for c in checks]
        columns.append(Column(_("Jacobian"), errors, right=True))
    if len({check.tolerance for check in checks}) > 1:
        allowed = [f"{check.tolerance:.1e}" for check in checks]
        columns.append(Column(_("tolerance"), allowed, right=True))
    columns.append(
        Column(
            _("verdict"),
            ["ok" if check.passed else _("WRONG") for check in checks],
            styles=["green" if check.passed else "bold red" for check in checks],
        )
    )
    return draw_records(columns, look)


def _several(report: GradcheckReport) -> bool:
    return len({check.layer for check in report.checks}) > 1


def _by_engines(report: GradcheckReport) -> bool:
    return any(check.engine != "own" for check in report.checks)


def _whose(check: InputCheck, report: GradcheckReport, look: Look) -> str:
    """Name layer and engine where the report has several."""
    parts = [safe(check.layer, look)] if _several(report) else []
    parts += [check.engine] if _by_engines(report) else []
    return ", ".join(parts) + ": " if parts else ""


def _details(check: InputCheck, whose: str, look: Look) -> Iterator[RenderableType]:
    tolerance = check.tolerance
    name = _gradient_name(check, look)
    for pattern in check.patterns or (("",) if whose else ()):
        yield Text(f"{whose}{name}{': ' if pattern else ''}{_(pattern)}", "bold")
    columns = [
        Column(_("worst"), [f"{name}{list(element.index)}" for element in check.worst_elements]),
        Column(
            _("backward"), [_number(e.backward, look) for e in check.worst_elements], right=True
        ),
        Column(
            _("derivative"), [_number(e.derivative, look) for e in check.worst_elements], right=True
        ),
        Column(
            _("rel error"),
            [format_error(element.relative_error) for element in check.worst_elements],
            right=True,
        ),
    ]
    yield draw_records(columns, look)
    if check.errors is not None:
        from attncli.views.error_map import draw_errors, errors_legend  # most gradients are right

        yield from draw_errors(
            check.errors, tolerance, axes_of(check.input, check.errors.ndim), look
        )
        if not look.plain:
            yield errors_legend(tolerance, look)


def _gradient_name(check: InputCheck, look: Look) -> str:
    return gradient_name(safe(check.input, look))


def _number(value: float, look: Look) -> str:
    return repr(value) if look.plain else f"{value:.6g}"


def _verdict(report: GradcheckReport) -> Text:
    wrong = sum(not check.passed for check in report.checks)
    skipped = sum(check.not_differentiable for check in report.checks)
    several = len({check.tolerance for check in report.checks}) > 1
    one = Sentence("tolerance {tolerance}", tolerance=f"{report.tolerance:.2g}")
    if report.passed:
        said = Sentence(
            "{elements} gradients right: worst relative error {worst}, {within}",
            elements=sum(check.elements for check in report.checks) - skipped,
            worst=format_error(report.worst.relative_error),
            within=Sentence("each within its tolerance") if several else one,
        )
        return Text(_(_beside(said, skipped)), "green")
    faults = [] if report.judged else [Sentence("nothing could be judged")]
    if wrong:
        count = len(report.checks)
        faults.append(
            Sentence("{wrong} of {count} gradient tensors wrong", wrong=wrong, count=count)
        )
    if number := len(report.problems):
        many = Sentence("{number} problems", number=number)
        faults.append(Sentence("1 problem") if number == 1 else many)
    beyond = Sentence("each by its own tolerance") if several else one
    said = Sentence("{faults}: {beyond}", faults=joined(faults), beyond=beyond)
    return Text(_(_beside(said, skipped)), "bold red")


def _beside(said: Sentence, skipped: int) -> Sentence:
    if not skipped:
        return said
    return Sentence(
        "{said}; {skipped} not judged: forward has no derivative there", said=said, skipped=skipped
    )
