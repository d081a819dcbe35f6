"""``attn gradcheck TARGET``: the gradients of somebody's own layers."""

from typing import Any

from attncli.checking.derivatives.target_gradcheck import gradcheck
from attncli.checking.targets.loading import load_targets
from attncli.cli.screen import Screen
from attncli.cli.targets import showing_their_traceback
from attncli.errors import TargetError
from attncli.views.report_json import failed_as_json, report_as_json
from attncli.views.target_gradcheck import draw_target_gradcheck


def check_targets(
    text: str,
    sizes: dict[str, int],
    shapes: dict[str, tuple[int, ...]],
    screen: Screen,
    options: dict[str, Any],
) -> bool:
    """Check every target that the text names, show the reports, and say whether all passed."""
    from attncli.version import __version__

    with showing_their_traceback():
        targets = load_targets(text)
    reports, listed = [], list[Any]()
    failure: TargetError | None = None
    for target in targets:
        try:
            with screen.progress(f"checking {target.name}") as progress:
                report = gradcheck(target, sizes=sizes, shapes=shapes, progress=progress, **options)
            reports.append(report)
            listed.append(report_as_json(report))
        except TargetError as error:  # the others are checked all the same
            failure = failure or error
            listed.append(failed_as_json(target.where, error))
    if failure is not None and not reports:
        with showing_their_traceback():
            raise failure
    described = " ".join(f"{axis}={size}" for axis, size in sizes.items())
    passed = failure is None and all(report.passed for report in reports)
    if screen.as_json:
        screen.show_json(
            {
                "attn": __version__,
                "command": "gradcheck",
                "passed": passed,
                "sizes": sizes,
                "targets": listed,
            }
        )
    else:
        for number, report in enumerate(reports):
            screen.show(
                *([""] if number else []), draw_target_gradcheck(report, described, screen.look)
            )
    if failure is not None:
        with showing_their_traceback():
            raise failure
    return passed
