"""The check of somebody's layer on the screen, like a test report."""

from collections.abc import Iterator

from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.errors import CodeError, TargetError
from attncli.reports import CheckReport, Diagnosis, Finding, Status
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.prose import Prose
from attncli.views.records import Column, draw_records

_WORDS = {"ok": "ok", "wrong": "WRONG", "note": "note", "skipped": "-", "": ""}
_STYLES = {"ok": "green", "wrong": "bold red", "note": "yellow", "skipped": "dim", "": ""}
_LISTED = 4


def draw_check(report: CheckReport, look: Look) -> RenderableType:
    """Draw what holds and what does not, what the likely mistake is, and the verdict."""
    heading = Text(safe(report.target, look), "bold")
    against = _(Sentence("against {layer}", layer=report.layer))
    heading.append(f"{look.dot}{against}", "not bold")
    if report.claims:
        heading.append(f"{look.dot}{report.claims}", "not bold")
    parts: list[RenderableType] = [heading, "", _cases(report, look), ""]
    if contract := [f for f in report.findings if f.part == "contract"]:
        parts += [_contract(contract, look), ""]
    details = list(_details(report.findings, look))
    if details:
        parts += [*details, ""]
    parts += draw_diagnoses(report.diagnoses, look)
    if not report.passed:
        parts += _unexplained(report, look)
    return Group(*parts, _verdict(report))


def draw_failed(where: str, error: TargetError, look: Look) -> RenderableType:
    """Draw why a target was not examined: its code fails, or lacks something."""
    said = error.args[0] if isinstance(error.args[0], Sentence) else str(error)
    said = _(said).removeprefix(f"{where}: ")
    lines = [Text(safe(where, look), "bold"), Text("")]
    status: Status = "wrong" if isinstance(error, CodeError) else "skipped"
    word = "not judged" if status == "skipped" else _WORDS[status]
    lines.append(Text().append(f"{_(word)}: ", _STYLES[status]).append(safe(said, look)))
    if error.hint is not None:
        lines.append(Text(safe(_(error.hint), look), "dim"))
    return Group(*lines, Text(_("nothing could be checked"), "bold red"))


def _cases(report: CheckReport, look: Look) -> RenderableType:
    names = list(dict.fromkeys(f.name for f in report.findings if f.part != "contract"))
    status = {(f.name, f.part): f.status for f in report.findings}
    columns = [Column(_("case"), [_(name) for name in names])]
    for part in ("forward", "backward"):
        found = [str(status.get((name, part), "")) for name in names]
        columns.append(
            Column(
                _(part),
                [_(_WORDS[one]) for one in found],
                styles=[_STYLES[one] for one in found],
            )
        )
    return draw_records(columns, look)


def _contract(findings: list[Finding], look: Look) -> RenderableType:
    columns = [
        Column(_("contract"), [_(finding.name) for finding in findings]),
        Column(
            _("holds"),
            [_(_WORDS[finding.status]) for finding in findings],
            styles=[_STYLES[finding.status] for finding in findings],
        ),
    ]
    return draw_records(columns, look)


def _details(findings: tuple[Finding, ...], look: Look) -> Iterator[RenderableType]:
    """Say what was found, each once, with the cases it was found in."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        if finding.detail and finding.status != "ok":
            key = (finding.status, finding.part, finding.detail)
            where.setdefault(key, []).append(finding.name)
    shown = list(where.items())
    for (status, part, detail), names in shown if look.plain else shown[:_LISTED]:
        cases = _(names[0])
        if len(names) > 1:
            cases = _(Sentence("{case} and {count} more", case=names[0], count=len(names) - 1))
        if look.plain:
            cases = ", ".join(map(_, names))
        word = "skipped" if status == "skipped" else _WORDS[status]
        line = Text().append(f"{_(word)}: ", _STYLES[status]).append(safe(_(detail), look))
        yield line.append(f" ({cases})" if part == "contract" else f" ({_(part)}; {cases})", "dim")
    if len(shown) > _LISTED and not look.plain:
        more = Sentence(
            "and {count} more differences: --json lists all", count=len(shown) - _LISTED
        )
        yield Text(_(more), "dim")


def draw_diagnoses(diagnoses: tuple[Diagnosis, ...], look: Look) -> Iterator[RenderableType]:
    """Draw each likely mistake: what was meant, what was computed, and why."""
    rivals = [diagnosis for diagnosis in diagnoses if not diagnosis.beside]
    alike = len(rivals) > 1 and len({(d.explains, len(d.mistakes)) for d in rivals}) == 1
    for number, diagnosis in enumerate(diagnoses):
        several = len(diagnosis.mistakes) > 1
        what = _("two likely mistakes: ") if several else _("likely mistake: ")
        if number:
            what = _("and: ") if diagnosis.beside else _("or: ")
        elif alike:
            what += _("either ")
        yield from _diagnosis(what, diagnosis, look)
        if alike and diagnosis is rivals[-1]:
            if len(rivals) == 2:
                yield Text(
                    _("both give the same numbers in these cases: only the code tells them apart")
                )
            else:
                yield Text(
                    _("each gives the same numbers in these cases: only the code tells them apart")
                )
        yield ""


def _diagnosis(what: str, diagnosis: Diagnosis, look: Look) -> Iterator[RenderableType]:
    names = " + ".join(_(mistake.name) for mistake in diagnosis.mistakes)
    yield Text(what).append(look.fit(names), "bold yellow")
    for mistake in diagnosis.mistakes:
        for label, text in ((_("meant"), mistake.meant), (_("computed"), mistake.computed)):
            line = Text().append(f"{set_cell_size(label, 9)} ", "dim").append(look.fit(_(text)))
            yield Padding(line, (0, 0, 0, 2))
        yield Padding(Prose(Text(look.fit(_(mistake.why)))), (0, 0, 0, 2))
        yield Padding(Text(f"attn explain {mistake.slug}", "dim"), (0, 0, 0, 2))
    how = diagnosis.backward
    if diagnosis.explains == "forward":
        how = how or "it explains forward; backward gave nothing to compare"
    if how:
        yield Padding(Text(_(how), "dim"), (0, 0, 0, 2))


def _unexplained(report: CheckReport, look: Look) -> Iterator[RenderableType]:
    gap = any("gap (...)" in finding.detail for finding in report.findings)
    if report.no_gradients and not gap:
        why = Sentence("the gradients are not judged: {why}", why=report.no_gradients)
        yield Text(safe(_(why), look), "yellow")
    if not report.diagnoses and report.differs and not gap:
        unknown = _("no known mistake reproduces these numbers")
        if report.no_gradients:
            unknown = _("no known mistake reproduces forward's numbers")
        yield Text(unknown, "yellow")
    visible = [link for link in report.chain if link.status != "not visible"]
    if report.first_difference is None or (report.diagnoses and look.width < 60):
        return
    states = Text(_("along the calculation: "))
    styles = {"right": "green", "wrong": "bold red"}
    for number, link in enumerate(visible):
        states.append(f" {look.arrow} " if number else "", "dim")
        states.append(f"{link.name} {_(link.status)}", styles[link.status])
    yield states
    first = next(link for link in report.chain if link.status == "wrong")
    where = Sentence(
        "the first difference is in {name} (seen by {seen})", name=first.name, seen=first.seen
    )
    yield Text(_(where))
    yield ""


def _verdict(report: CheckReport) -> Text:
    judged = [f for f in report.findings if f.status in ("ok", "wrong")]
    wrong = sum(finding.status == "wrong" for finding in judged)
    if not wrong:
        return Text(_(Sentence("{count} checks: all hold", count=len(judged))), "green")
    failing = Sentence("{wrong} of {count} checks fail", wrong=wrong, count=len(judged))
    return Text(_(failing), "bold red")
