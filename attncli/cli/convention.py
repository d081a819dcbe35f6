"""``attn convention``: which semantics lead from a file's inputs to its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.errors import AttnError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attncli.cli.screen import Screen
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading
    from attncli.operations.layout import Words
    from attncli.reports import ConventionReport


@command(
    "convention",
    example="""\
attn convention sample_inputs/minilm_qkv.npz
attn forward --layer scaled-dot-product --causal -o run.npz
attn convention run.npz""",
    first="--scale --causal --window --layout --rename --json",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@options.semantics_options
@options.layout_option
@options.reading_options
@options.screen_options
@click.pass_context
def convention(
    ctx: click.Context,
    files: tuple[str, ...],
    semantics: Semantics,
    layout: dict[str, Words],
    reading: Reading,
    screen: Screen,
) -> None:
    """Find the semantics that lead from the inputs in FILE to its results.

    FILE holds query, key, value and an output, lse or weights, from whatever library. Scale,
    causal order and alignment, windows, softcap, sinks, ALiBi, packing, lengths, the meaning of a
    mask, groups, rotary positions and the layout are found, and judged on all of the file: every
    item, head and row. Options say what is known already. Exits with 1 if no reading holds; with 2
    if one of several FILEs cannot be judged, and each other has a reading.
    """
    ctx.exit(run(files, semantics, reading, screen, layout))


def run(
    files: tuple[str, ...],
    semantics: Semantics,
    reading: Reading,
    screen: Screen,
    layout: Mapping[str, Words] | None = None,
) -> int:
    """Read each file and show what was found.

    Of several files one that cannot be judged leaves the others to be; the exit code is 1 if there
    is no reading of one, or else 2 if one could not be judged.
    """
    from attncli.problems.dumped import read_convention
    from attncli.views.convention_report import draw_convention, draw_verdict
    from attncli.views.report_json import headed, report_as_json

    found: list[ConventionReport | AttnError] = []
    with screen.timed("searching"), screen.progress("searching") as progress:
        for number, name in enumerate(files):
            try:
                found.append(read_convention(name, reading, semantics, layout))
            except AttnError as error:
                if len(files) == 1:
                    raise
                found.append(error)
            progress(number + 1, len(files))
    judged = [one for one in found if not isinstance(one, AttnError)]
    code = 0 if len(judged) == len(files) else 2
    if not all(report.passed for report in judged):
        code = 1
    if len(files) == 1:
        if screen.as_json:
            screen.show_json(headed("convention", judged[0], file=files[0]))
        else:
            screen.show(draw_convention(judged[0], files[0], screen.look))
    elif screen.as_json:
        from attncli.version import __version__

        listed = [
            {"file": name, "passed": False, "error": str(one), "hint": one.hint}
            if isinstance(one, AttnError)
            else {"file": name, **report_as_json(one)}
            for name, one in zip(files, found, strict=True)
        ]
        head = {"attn": __version__, "command": "convention", "passed": not code}
        screen.show_json({**head, "files": listed})
    else:
        from attncli.views.labels import safe

        for name, one in zip(files, found, strict=True):
            screen.show(draw_verdict(safe(name, screen.look), one, screen.look))
        several = f"{sum(report.passed for report in judged)} of {len(files)} files have a reading"
        unread = len(files) - len(judged)
        screen.show(f"{several}; {unread} could not be judged" if unread else several)
    return code
