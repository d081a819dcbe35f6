"""``attn explain``: the catalogue of mistakes, as documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command

if TYPE_CHECKING:
    from attncli.cli.screen import Screen


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from attncli.checking.diagnosing.explaining import known

    return [one.slug for one in known() if one.slug.startswith(incomplete)]


@command(
    "explain",
    example="""\
attn explain
attn explain scale-missing
attn explain "softmax backward without Σ"
""",
    first="--json --precision --color --theme",
)
@click.argument("mistake", required=False, shell_complete=_complete)
@options.shaded_options
def explain(mistake: str | None, screen: Screen) -> None:
    """Explain a mistake that attn check knows; without MISTAKE, list them by kind.

    MISTAKE is its name, or its name in letters and dashes. Shown are the formula that is meant and
    the one that is computed, what to write instead, what it looks like in a check, and a small
    example, computed as it is shown.
    """
    from attncli.checking.diagnosing.explaining import explain as explained
    from attncli.checking.diagnosing.explaining import known
    from attncli.views.explanation import draw_catalogue, draw_explanation
    from attncli.views.report_json import headed, report_as_json

    if mistake is None:
        listed = known()
        if screen.as_json:
            from attncli.version import __version__

            mistakes = [report_as_json(one._asdict()) for one in listed]
            screen.show_json({"attn": __version__, "command": "explain", "mistakes": mistakes})
        else:
            screen.show(draw_catalogue(listed, screen.look))
        return
    found = explained(mistake)
    if screen.as_json:
        screen.show_json(headed("explain", found))
    else:
        screen.show(draw_explanation(found, screen.look))
