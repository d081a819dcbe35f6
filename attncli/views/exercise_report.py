"""The exercises on the screen: where one stands, what was found, a hint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.checking.exercises import EXERCISES, Answer, Exercise, Lesson
from attncli.reports import CheckReport
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.check_report import draw_diagnoses
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.prose import Prose
from attncli.views.records import Column, draw_records

_PARTS = ("forward", "backward", "contract")
_INDENT = 2
_LISTED = 2


def draw_lesson(lesson: Lesson, follows: str, look: Look) -> RenderableType:
    """List the exercises, each with how far one is, and what comes next."""
    states = {one.name: _state(lesson, one) for one in EXERCISES.values()}
    styles = {"right": "green", "begun": "yellow", "": ""}
    columns = [
        Column("", [str(one.number) for one in EXERCISES.values()]),
        Column(_("exercise"), [one.target for one in EXERCISES.values()]),
        Column(
            _("state"), [_(x) for x in states.values()], styles=[styles[x] for x in states.values()]
        ),
        Column(
            _("file"),
            [safe(lesson.path(one), look) if lesson.has(one) else "" for one in EXERCISES.values()],
        ),
    ]
    done = [Text(_("All of them are right."), "bold green")] if lesson.current is None else []
    return Group(draw_records(columns, look), "", *done, draw_next(follows, look))


def lesson_as_json(lesson: Lesson, follows: str) -> dict[str, Any]:
    """Give the object that ``--json`` prints."""
    listed = [
        {
            "name": one.name,
            "target": one.target,
            "file": lesson.path(one),
            "state": _state(lesson, one) or "open",
            "hints": dict(lesson.state(one).hints),
        }
        for one in EXERCISES.values()
    ]
    return {"folder": lesson.folder, "exercises": listed, "next": follows}


def answer_as_json(answer: Answer, follows: str) -> dict[str, Any]:
    """Give the object that ``check --json`` prints."""
    return {
        "passed": answer.passed,
        "exercise": answer.exercise.name,
        "gaps": [gap._asdict() for gap in answer.gaps],
        "error": None if answer.fault is None else str(answer.fault),
        "report": answer.report,
        "next": follows,
    }


def _state(lesson: Lesson, exercise: Exercise) -> str:
    if lesson.state(exercise).right:
        return "right"
    return "begun" if lesson.has(exercise) else ""


def draw_next(command: str, look: Look) -> Text:
    """Say which command comes next."""
    return Text(_("next:  "), "cyan").append(safe(command, look), "bold")


def draw_begun(
    exercise: Exercise, path: str, follows: str, *, new: bool, look: Look
) -> RenderableType:
    """Say what is to be written, and where."""
    where = safe(path, look)
    told = Sentence("{file} is there already: go on with it. --force begins it anew.", file=where)
    if new:
        told = Sentence("Fill every gap (...) in {file}, in your editor.", file=where)
    task = Padding(Prose(Text(look.fit(_(exercise.task)))), (0, 0, 0, _INDENT))
    return Group(_heading(exercise, look), "", task, "", Text(_(told)), draw_next(follows, look))


def draw_answer(answer: Answer, follows: str, look: Look) -> RenderableType:
    """Say what is right, what is wrong, what is not written yet, and what comes next."""
    return Group(
        _heading(answer.exercise, look), "", *_found(answer, look), "", draw_next(follows, look)
    )


def _found(answer: Answer, look: Look) -> Iterator[RenderableType]:
    if answer.fault is not None:
        yield Text(_("WRONG: "), "bold red").append(safe(_(answer.fault.args[0]), look))
        if answer.fault.hint is not None:
            yield Text(safe(_(answer.fault.hint), look), "dim")
    if answer.gaps:
        gap, count = answer.gaps[0], len(answer.gaps)
        where = {"number": gap.number, "line": safe(gap.line, look)}
        open_line = Sentence("not written yet: line {number}: {line}", **where)
        if count > 1:
            open_line = Sentence(
                "not written yet: {count} lines, from line {number}: {line}", count=count, **where
            )
        yield Text(_(open_line), "yellow")
    if answer.report is None:
        return
    unwritten = {gap.part for gap in answer.gaps}
    wrong = {x.part for x in answer.report.findings if x.status == "wrong"} | unwritten
    for part in _PARTS:
        if part not in unwritten and (part == "forward" or "forward" not in wrong):
            yield from _part(part, answer.report, look)
    if "forward" in wrong and "backward" not in unwritten:
        yield Text(_("backward  is looked at when forward is right"), "dim")
    if "forward" not in unwritten and answer.report.diagnoses:
        yield ""
        yield from list(draw_diagnoses(answer.report.diagnoses, look))[:-1]
    if answer.report.passed and not answer.gaps:
        for name in answer.missing:
            lacks = Sentence("WRONG: forward does not take what this case needs: {name}", name=name)
            yield Text(_(lacks), "bold red")
    if answer.passed:
        right = Sentence("{name} is right.", name=answer.exercise.target)
        yield Text(_(right), "bold green")


def _part(part: str, report: CheckReport, look: Look) -> Iterator[RenderableType]:
    """Say how one part did, and the first differences."""
    found = [x for x in report.findings if x.part == part and x.status in ("ok", "wrong")]
    wrong = [x for x in found if x.status == "wrong"]
    if not found:
        return
    line = Text(set_cell_size(_(part), 10), "dim")
    if not wrong:
        yield line.append(_(Sentence("right ({count} checks)", count=len(found))), "green")
        return
    many = Sentence("WRONG in {wrong} of {count} checks", wrong=len(wrong), count=len(found))
    yield line.append(_(many), "bold red")
    for detail in list(dict.fromkeys(x.detail for x in wrong))[:_LISTED]:
        name = next(x.name for x in wrong if x.detail == detail)
        told = Text(safe(_(detail), look)).append(f" ({safe(_(name), look)})", "dim")
        yield Padding(told, (0, 0, 0, _INDENT))


def draw_hint(
    exercise: Exercise, part: str, level: int, formulas: list[str], follows: str, look: Look
) -> RenderableType:
    """Draw the hint of a level; behind the last of them is the formula."""
    hints = exercise.hints[part]
    which = Sentence(
        "{part}, hint {level} of {count}", part=part, level=level, count=len(hints) + 1
    )
    heading = Text(_(which), "dim")
    shown: list[RenderableType]
    if level > len(hints):
        shown = [Text(safe(line, look), "bold") for line in formulas]
    else:
        shown = [Prose(Text(look.fit(_(hints[level - 1]))))]
    drawn = (Padding(text, (0, 0, 0, _INDENT)) for text in shown)
    return Group(_heading(exercise, look), heading, "", *drawn, "", draw_next(follows, look))


def _heading(exercise: Exercise, look: Look) -> Text:
    place = Sentence("exercise {number} of {count}", number=exercise.number, count=len(EXERCISES))
    heading = Text(_(place), "dim")
    return heading.append(f"{look.dot}{exercise.target}", "bold not dim")
