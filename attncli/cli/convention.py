"""``attn check --convention``: under which convention an output was computed."""

from attncli.checking.diagnosing.convention_search import find_convention
from attncli.cli.screen import Screen
from attncli.errors import DataError, ShapeError
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.operations import Semantics
from attncli.views.convention_report import draw_convention
from attncli.views.report_json import headed

_WANTED = ("query", "key", "value", "output", "out", "mask", "enc_mask")


def show_convention(
    name: str, rename: dict[str, str], max_memory: int | None, claims: Semantics, screen: Screen
) -> bool:
    """Search, show, and say whether one was found."""
    file = open_tensors(name, Reading(max_memory, rename=rename))
    tensors = {entry: file.numbers(entry) for entry in _WANTED if entry in file}
    with screen.timed("searching"):
        try:
            report = find_convention(tensors, claims)
        except (DataError, ShapeError) as error:
            raise type(error)(f"{file.label}: {error}", hint=error.hint) from None
    if screen.as_json:
        screen.show_json(headed("check", report, file=name))
    else:
        screen.show(draw_convention(report, screen.look))
    return report.passed
