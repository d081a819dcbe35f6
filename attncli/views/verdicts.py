"""What became of the targets of a command: what every report on several says of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.reports import gradient_name, slug
from attncli.views.labels import safe, shorten
from attncli.views.look import Look
from attncli.views.records import Column, draw_records

RIGHT, WRONG, NOT_JUDGED, NOT_RUN = "right", "wrong", "not judged", "not run"
SKIPPED = "skipped"  # names no layer, and need not
_STYLES = {
    RIGHT: "green", WRONG: "bold red", NOT_JUDGED: "bold yellow", NOT_RUN: "yellow",
    SKIPPED: "dim",
}  # fmt: skip
_WORST = (NOT_RUN, NOT_JUDGED, WRONG, RIGHT, SKIPPED)
# What is wrong is shown in so many columns at least, or below its target.
_LEAST = 32


@dataclass(frozen=True)
class Submission:
    """What became of one TARGET.

    Attributes
    ----------
    text : str
        As it was named.
    targets : tuple of dict
        What it names, each as ``--json`` has it.
    said : str
        What was said on standard error meanwhile, what the code prints above all.
    seconds : tuple of tuple of float
        How long each of these took, the first with what all were loaded in, and its findings.
    """

    text: str
    targets: tuple[dict[str, Any], ...]
    said: str = ""
    seconds: tuple[tuple[float, ...], ...] = ()

    @property
    def verdict(self) -> str:
        """The worst that is said of one of its targets."""
        return _worst(map(verdict, self.targets))

    @property
    def layers(self) -> int:
        """How many targets it has."""
        return sum(verdict(told) != SKIPPED for told in self.targets)

    @property
    def right(self) -> int:
        """How many of its targets are right."""
        return sum(verdict(told) == RIGHT for told in self.targets)


class Part(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    name, status, detail : str
        As of `attncli.reports.Finding`.
    """

    name: str
    status: str
    detail: str


def verdict(told: dict[str, Any]) -> str:
    """Say what became of a target, in a word or two.

    Examples
    --------
    >>> verdict({"passed": False}), verdict({"passed": False, "verdict": NOT_RUN})
    ('wrong', 'not run')
    """
    return str(told.get("verdict", RIGHT if told["passed"] else WRONG))


def _worst(verdicts: Iterable[str]) -> str:
    return min(verdicts, key=_WORST.index)


def parts(told: dict[str, Any]) -> list[Part]:
    """List what was looked at in a target: cases and rules, or gradients.

    Examples
    --------
    >>> parts({"passed": False, "error": "mine.py: raises"})
    [Part(name='run', status='wrong', detail='mine.py: raises')]
    """
    found = [
        Part(f"{one['part']}: {one['name']}", one["status"], one["detail"])
        for one in told.get("findings", ())
    ]
    for one in told.get("checks", ()):
        name = gradient_name(one["input"])
        error = f"relative error {one['relative_error']}, tolerance {one['tolerance']}"
        detail = "" if one["passed"] else "; ".join([*one["patterns"], error])
        whose = [one["layer"], one["engine"]] if one["engine"] != "own" else []
        found.append(Part(" ".join([*whose, name]), "ok" if one["passed"] else "wrong", detail))
    found += [Part("calls", "wrong", problem) for problem in told.get("problems", ())]
    if "error" in told:
        found.append(Part("run", verdict(told), told["error"]))
    elif not told["passed"] and not any(part.status == "wrong" for part in found):
        found.append(Part("judged", "wrong", "nothing could be judged"))
    return found


def faults(told: dict[str, Any]) -> list[Part]:
    """Give those that do not hold."""
    return [part for part in parts(told) if part.status not in ("ok", "note", "skipped")]


def mistakes(told: dict[str, Any]) -> list[str]:
    """Name the likely mistakes; those between which numbers cannot decide in one name."""
    diagnoses = told.get("diagnoses", ())
    names = [" + ".join(one["name"] for one in diagnosis["mistakes"]) for diagnosis in diagnoses]
    rivals = _rivals(diagnoses)
    alike = " or ".join(name for name, rival in zip(names, rivals, strict=True) if rival)
    beside = [name for name, one in zip(names, diagnoses, strict=True) if one["beside"]]
    patterns = [pattern for check in told.get("checks", ()) for pattern in check["patterns"]]
    return list(dict.fromkeys([*filter(None, [alike]), *beside, *patterns]))


def _rivals(diagnoses: Sequence[dict[str, Any]]) -> list[bool]:
    """Which explain what was seen as well as the best does."""
    best = [(one["explains"], len(one["mistakes"])) for one in diagnoses if not one["beside"]]
    return [
        not one["beside"] and (one["explains"], len(one["mistakes"])) == best[0]
        for one in diagnoses
    ]


def explained(told: dict[str, Any]) -> Iterator[str]:
    """Say of each likely mistake what is meant and what is computed, line by line."""
    for diagnosis in told.get("diagnoses", ()):
        for one in diagnosis["mistakes"]:
            yield f"likely mistake: {one['name']}"
            yield f"  meant     {one['meant']}"
            yield f"  computed  {one['computed']}"
            yield f"  {one['why']}"
            yield f"  attn explain {slug(one['name'])}"
        if diagnosis["backward"]:
            yield f"  {diagnosis['backward']}"


def fault_of(submission: Submission) -> str:
    """Say what is wrong: the mistakes by name, else the first difference."""
    wrong = [told for told in submission.targets if not told["passed"]]
    found = [name for told in wrong for name in mistakes(told)] or [
        part.detail.removeprefix(f"{submission.text}: ")
        for told in wrong
        for part in (faults(told) or parts(told))[:1]
    ]
    return "; ".join(dict.fromkeys(found))


def counted(submissions: Sequence[Submission]) -> str:
    """Count the verdicts.

    Examples
    --------
    >>> counted([Submission("a.py", ({"passed": True},)), Submission("b.py", ({"passed": False},))])
    '1 right, 1 wrong'
    """
    count = Counter(one.verdict for one in submissions)
    said = {NOT_JUDGED: "could not be judged"}
    return ", ".join(f"{count[one]} {said.get(one, one)}" for one in _STYLES if count[one])


def draw_summary(submissions: Sequence[Submission], look: Look) -> RenderableType:
    """Draw a line for each TARGET, what is wrong with it beside or below, and the count."""
    verdicts = [one.verdict for one in submissions]
    styles = [_STYLES[one] for one in verdicts]
    targets = [safe(one.text, look) for one in submissions]
    faults = [safe(found, look) if (found := fault_of(one)) else "" for one in submissions]
    columns = [
        Column("target", targets),
        Column("verdict", verdicts, styles=styles),
        Column("layers", [f"{one.right} of {one.layers}" for one in submissions]),
    ]
    drawn = list[RenderableType]()
    room = look.width - sum(column.width + 2 for column in columns)
    if room >= _LEAST or not any(faults):
        columns.append(Column("wrong", [shorten(one, room, look) for one in faults]))
        drawn.append(draw_records(columns, look))
    else:
        for target, said, style, fault in zip(targets, verdicts, styles, faults, strict=True):
            drawn.append(Text(f"{target}  ").append(said, style))
            drawn += [Padding(Text(fault, "dim"), (0, 0, 0, 2))] if fault else []
    return Group(*drawn, "", Text(counted(submissions), _STYLES[_worst(verdicts)]))
