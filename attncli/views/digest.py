"""Verdicts as Markdown, for a merge request: a table, and below it what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from attncli.errors import harmless
from attncli.views.markdown import plain
from attncli.views.verdicts import Submission, counted, explained, fault_of, faults

# Beyond so many, the others are counted: a merge request takes so much text.
_LISTED = 8


def write(report: dict[str, Any], submissions: Sequence[Submission]) -> Iterator[str]:
    """Write how many are right, a row for each TARGET, and what is wrong with the others."""
    yield f"### attn {report['command']}: {counted(submissions)}\n\n"
    yield "| target | verdict | layers right | wrong |\n|---|---|---:|---|\n"
    for one in submissions:
        cells = _said(one.text), one.verdict, f"{one.right} of {one.layers}"
        yield f"| {' | '.join(cells)} | {_said(fault_of(one))} |\n"
    for told in (told for one in submissions for told in one.targets if faults(told)):
        yield f"\n#### {_said(told['target'])}\n\n"
        yield from _fenced(list(_details(told)))


def _details(told: dict[str, Any]) -> Iterator[str]:
    """Say what does not hold, each once, and the likely mistake."""
    where: dict[str, list[str]] = {}
    for part in faults(told):
        where.setdefault(part.detail, []).append(part.name)
    for detail, names in list(where.items())[:_LISTED]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: {detail}"
    if len(where) > _LISTED:
        yield f"and {len(where) - _LISTED} more differences"
    yield from explained(told)
    if "hint" in told:
        yield told["hint"]


def _fenced(lines: Sequence[str]) -> Iterator[str]:
    """Write lines as they are: between more backticks than there are in any."""
    lines = [harmless(line) for line in lines]
    fence = "```"
    while any(fence in line for line in lines):
        fence += "`"
    yield from (f"{line}\n" for line in (f"{fence}text", *lines, fence))


def _said(text: str) -> str:
    """Write text in which nothing is markup, and nobody is called by ``@name`` or ``#12``."""
    return re.sub("#", r"\g<0><!-- -->", plain(harmless(text)))
