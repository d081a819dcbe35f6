"""``attn check TARGET``: each of somebody's layers, one after the other."""

from typing import Any

from attncli.checking.diagnosing.examination import check, guess_layer
from attncli.checking.targets.loading import load_targets
from attncli.checking.targets.target import Target
from attncli.cli.screen import Screen
from attncli.cli.targets import show_trace, showing_their_traceback
from attncli.core.semantics import Semantics
from attncli.errors import TargetError
from attncli.views.check_report import draw_check
from attncli.views.labels import safe
from attncli.views.report_json import failed_as_json, report_as_json


def check_targets(
    text: str,
    layer: str | None,
    claims: Semantics,
    shapes: dict[str, tuple[int, ...]],
    screen: Screen,
) -> bool:
    """Check every target that the text names, show the reports, and say whether all passed."""
    from attncli.version import __version__

    with showing_their_traceback():
        targets = load_targets(text)
    reports, listed = [], list[Any]()
    failure: TargetError | None = None
    with screen.timed("checking"):
        for target in targets:
            if layer is None and len(targets) > 1 and not _is_known(target):
                screen.note(f"skipped {safe(target.where)}: no layer that attn knows")
                continue
            try:
                report = check(target, layer=layer, shapes=shapes, **claims.given())
                reports.append(report)
                listed.append(report_as_json(report))
            except TargetError as error:  # the others are checked all the same
                failure = failure or error
                listed.append(failed_as_json(target.where, error))
    if not reports and failure is None:
        names = ", ".join(target.name for target in targets)
        raise TargetError(
            f"{text}: none of its layers is one that attn knows ({names})",
            hint="name one, and say what it is: file.py:Name --as LAYER",
        )
    passed = failure is None and all(report.passed for report in reports)
    if screen.as_json and reports:
        screen.show_json(
            {
                "attn": __version__,
                "command": "check",
                "passed": passed,
                "targets": listed,
            }
        )
    elif reports:
        for number, report in enumerate(reports):
            show_trace(report.trace)
            screen.show(*([""] if number else []), draw_check(report, screen.look))
    if failure is not None:
        with showing_their_traceback():
            raise failure
    return passed


def _is_known(target: Target) -> bool:
    try:
        guess_layer(target)
    except TargetError:
        return False
    return True
