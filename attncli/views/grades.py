"""Verdicts as CSV, for a spreadsheet: a row for each target, with its points."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from attncli.errors import harmless
from attncli.files.exported import protected
from attncli.views.verdicts import Submission, fault_of, mistakes, parts

_HEADINGS = (
    "target", "verdict", "layers", "points", "checks", "hold", "mistakes", "wrong",
)  # fmt: skip


def write(report: dict[str, Any], submissions: Sequence[Submission]) -> Iterator[str]:
    """Write a row for each TARGET as it was named; a layer that is right is a point.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(_HEADINGS)
    for one in submissions:
        judged = [p for told in one.targets for p in parts(told) if p.status in ("ok", "wrong")]
        named = dict.fromkeys(name for told in one.targets for name in mistakes(told))
        sheet.writerow([
            protected(harmless(one.text)),
            one.verdict,
            one.layers,
            one.right,
            len(judged),
            sum(part.status == "ok" for part in judged),
            protected(harmless("; ".join(named))),
            protected(harmless(fault_of(one))),
        ])  # fmt: skip
    yield text.getvalue()
