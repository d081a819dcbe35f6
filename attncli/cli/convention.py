"""``attn convention``: which semantics lead from a file's inputs to its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading


@options.command(
    "convention",
    example="""\
attn convention dump.npz
attn convention dump.npz --causal --window 3
attn convention layer0.npz layer1.npz --json
attn convention dump.npz --rename output=attn_out""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@options.semantics_options
@options.reading_options
@options.screen_options
@click.pass_context
def convention(
    ctx: click.Context,
    files: tuple[str, ...],
    semantics: Semantics,
    reading: Reading,
    screen: Screen,
) -> None:
    """Find the semantics that lead from the inputs in FILE to its results.

    FILE holds query, key, value and an output, lse or weights, from whatever library. Scale,
    causal order and alignment, windows, softcap, sinks, ALiBi, packing, lengths, the meaning of a
    mask, groups, rotary positions and the layout are found, and judged on all of the file: every
    item, head and row. Options say what is known already. Exits with 1 if no reading holds.
    """
    passed = run(files, semantics, reading, screen)
    ctx.exit(0 if passed else 1)


def run(files: tuple[str, ...], semantics: Semantics, reading: Reading, screen: Screen) -> bool:
    """Read each file, show what was found, and return whether there is a reading of each."""
    from attncli.problems.dumped import read_convention
    from attncli.views.convention_report import draw_convention, draw_verdict
    from attncli.views.report_json import headed, report_as_json

    reports = []
    with screen.timed("searching"), screen.progress("searching") as progress:
        for number, name in enumerate(files):
            reports.append(read_convention(name, reading, semantics))
            progress(number + 1, len(files))
    passed = all(report.passed for report in reports)
    if screen.as_json and len(files) == 1:
        screen.show_json(headed("convention", reports[0], file=files[0]))
    elif screen.as_json:
        from attncli.version import __version__

        listed = [
            {"file": name, **report_as_json(report)}
            for name, report in zip(files, reports, strict=True)
        ]
        head = {"attn": __version__, "command": "convention", "passed": passed}
        screen.show_json({**head, "files": listed})
    elif len(files) == 1:
        screen.show(draw_convention(reports[0], files[0], screen.look))
    else:
        from attncli.views.labels import safe

        for name, report in zip(files, reports, strict=True):
            screen.show(draw_verdict(safe(name, screen.look), report, screen.look))
        found = sum(report.passed for report in reports)
        screen.show(f"{found} of {len(files)} files have a reading")
    return passed
