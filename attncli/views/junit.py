"""Verdicts as JUnit has them, for a build server: a suite for each target, a case for each check.

Written so that both schemas in use hold: that of Jenkins and that of Ant, which wants more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from attncli.views.verdicts import (
    NOT_RUN,
    WRONG,
    Part,
    Submission,
    explained,
    mistakes,
    parts,
    verdict,
)

# What XML 1.0 has no way to write, escaped or not.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTED = ("tests", "failures", "errors", "skipped")


def write(report: dict[str, Any], submissions: Sequence[Submission]) -> Iterator[str]:
    """Write a suite for each target, with a case for each situation, rule or gradient.

    What was found in one go shares the time that took.
    """
    suites = ElementTree.Element("testsuites")
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    for submission in submissions:
        for number, told in enumerate(submission.targets):
            seconds = submission.seconds[number] if submission.seconds else (0.0,)
            suite = _suite(told, f"attn.{report['command']}", seconds)
            suite.set("id", str(len(suites)))
            suite.set("timestamp", now)
            _text(suite, "system-out", "")
            _text(suite, "system-err", submission.said if number == 0 else "")
            suites.append(suite)
    ElementTree.indent(suites)
    yield '<?xml version="1.0" encoding="utf-8"?>\n'
    yield ElementTree.tostring(suites, encoding="unicode")
    yield "\n"


def _suite(told: dict[str, Any], package: str, seconds: tuple[float, ...]) -> ElementTree.Element:
    name = writable(told["target"])
    found, whole, took = parts(told), seconds[0], [*seconds[1:]]
    took += [0.0] * (len(found) - len(took))
    share = max(whole - sum(took), 0) / max(took.count(0.0), 1)
    suite = ElementTree.Element(
        "testsuite", name=name, package=package, hostname="localhost", time=f"{whole:.9f}"
    )
    ElementTree.SubElement(suite, "properties")
    counts = dict.fromkeys(_COUNTED, 0)
    for part, alone in zip(found, took, strict=True):
        case = ElementTree.SubElement(
            suite,
            "testcase",
            name=writable(part.name),
            classname=name,
            time=f"{alone or share:.9f}",
        )
        counts["tests"] += 1
        if (what := _outcome(part)) is not None:
            counts[what] += 1
            _say(case, what, part, told)
    for count, number in counts.items():
        suite.set(count, str(number))
    return suite


def _outcome(part: Part) -> str | None:
    """What a case counts as, where it did not pass."""
    if part.status in ("ok", "note"):
        return None
    if part.status in ("skipped", NOT_RUN):
        return "skipped"
    return "failures" if part.status == WRONG else "errors"


def _say(case: ElementTree.Element, what: str, part: Part, told: dict[str, Any]) -> None:
    """Say why a case did not pass; with each what explains it, since each is read by itself."""
    if what == "skipped":
        ElementTree.SubElement(case, "skipped", message=writable(part.detail))
        return
    named = "; ".join(mistakes(told)) or verdict(told)
    lines = [part.detail, *told.get("trace", ()), *explained(told)]
    if "hint" in told:
        lines.append(told["hint"])
    why = _text(case, what.removesuffix("s"), "\n".join(lines))
    why.set("message", writable(part.detail))
    why.set("type", writable(named))


def _text(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    element.text = writable(text)
    return element


def writable(text: str) -> str:
    r"""Escape what cannot stand in XML 1.0.

    Examples
    --------
    >>> writable("a\x00\x1b[2J\ud800\n")
    'a\\x00\\x1b[2J\\ud800\n'
    """
    return _UNWRITABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
