"""Reports as JSON: every field of the frozen dataclasses under its own name.

But for how long things took, so that what is the same is the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from attncli.views.json_text import jsonable, jsonable_number, object_pieces


def report_as_json(value: Any) -> Any:
    """Turn a report into what `Screen.show_json` prints; the verdict of each part goes along.

    Examples
    --------
    >>> from attncli.reports import Element
    >>> report_as_json(Element((0, 1), 0.5, float("nan")))
    {'index': [0, 1], 'a': 0.5, 'b': 'NaN'}
    """
    if is_dataclass(value):
        shown = [field.name for field in fields(value) if field.metadata.get("json", True)]
        found = {name: report_as_json(getattr(value, name)) for name in shown}
        if hasattr(value, "passed"):
            return {"passed": value.passed, **found}
        return found
    if isinstance(value, (tuple, list)):
        return [report_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): report_as_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value)
    if isinstance(value, float):
        return jsonable_number(value)
    return value


def failed_as_json(
    where: str, error: str, hint: str | None = None, verdict: str = "wrong"
) -> dict[str, Any]:
    """What stands in place of the report on a target that could not be made or called.

    What is skipped has not failed, nor has it passed.
    """
    told = {
        "passed": None if verdict == "skipped" else False,
        "target": where,
        "verdict": verdict,
        "error": error,
    }
    return told if hint is None else {**told, "hint": hint}


def headed(command: str, report: Any, **more: Any) -> dict[str, Any]:
    """Put the version and the command before a report."""
    from attncli.version import __version__

    return {"attn": __version__, "command": command, **report_as_json(report), **more}


def write(report: dict[str, Any], submissions: Sequence[object]) -> Iterator[str]:
    """Write a report on several targets to a file: the object itself."""
    yield from object_pieces(report)
