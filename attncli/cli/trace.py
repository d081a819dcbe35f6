"""``attn trace``: every intermediate of the decoder steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.errors import ParameterError

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.problems.request import Request

_which = partial(options.option, group="Which step")
_shown = partial(options.option, group="What to show")


def _parse_only(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text is not None else ()


@command(
    "trace",
    example="""\
attn trace sample_inputs/by_hand.npz
attn trace sample_inputs/by_hand.npz --what-if 'hs_dec[0,1,0]+=0.1'
attn trace sample_inputs/minilm_qkv.npz --head 5 --step 9 --only scores""",
    first="--step --item --head --forward --backward --only --what-if --causal -o --json",
)
@_which("--step", type=int, help="One decoder step.  [default: all of them, a row for each]")
@_which("--item", type=int, default=0, show_default=True, help="Item of the batch.")
@_which("--head", type=int, default=0, show_default=True, help="Query head.")
@_shown("--forward", is_flag=True, help="The way forward alone.")
@_shown("--backward", is_flag=True, help="The way back alone.")
@_shown(
    "--only",
    metavar="NAMES",
    callback=_parse_only,
    help="These intermediates alone, as scores,weights.",
)
@_shown(
    "--what-if",
    metavar="CHANGE",
    multiple=True,
    help="Which results change, as hs_dec[0,1,2]+=0.1 (-=, *=, =), and what the gradient says of "
    "it; repeatable.",
)
@options.calculation_options
@options.trace_output_options
@options.tensor_screen_options
def trace(
    request: Request,
    step: int | None,
    item: int,
    head: int,
    forward: bool,
    backward: bool,
    only: tuple[str, ...],
    what_if: tuple[str, ...],
    output: Output,
    screen: Screen,
) -> None:
    """Show every intermediate, from the numbers to the gradients, in the order it is computed.

    FILE is as for attn forward; without it the tensors are random. attn compare holds the file
    that -o writes against one of yours with arrays of the same names.

    For reading attention line by line, and for finding the line where your own code first differs:
    forward, then backward, each with its name as in the mathematics, the formula, what it means,
    its shape, the numbers, and what they were made of. Small ones are worked out like an example
    in a textbook, large ones summed up.
    """
    from attncli.cli.posing import pose
    from attncli.problems import traced
    from attncli.views.trace_steps import draw_trace, trace_as_json

    if what_if:
        given = {"--step": step is not None, "--item": item, "--head": head, "--only": only}
        given |= {"--forward": forward, "--backward": backward, "-o": output.is_wanted}
        for option, is_given in given.items():
            if is_given:
                raise ParameterError(
                    f"{option} has no meaning with --what-if, which goes by the whole run"
                )
        _show_what_if(request, what_if, screen)
        return
    output.check(request.files, screen)
    problem = pose(request, screen, needs_dout=True)
    with screen.progress("tracing") as progress:
        found = traced.trace(problem, step, item, head, progress)
    shown = found.chosen({"forward": forward, "backward": backward}, only)
    if output.is_wanted:
        output.write(found.arrays(), screen, what="the trace")
    if output.is_stdout:
        return
    if screen.as_json:
        screen.show_json(trace_as_json(found, shown))
    elif not screen.quiet:
        screen.show(draw_trace(found, shown, screen.look))


def _show_what_if(request: Request, texts: tuple[str, ...], screen: Screen) -> None:
    from attncli.cli.posing import pose
    from attncli.problems.what_if import parse_change, what_if
    from attncli.views.what_if_report import draw_what_if, what_if_as_json

    changes = [parse_change(text) for text in texts]
    found = what_if(pose(request, screen, needs_dout=True), changes)
    if screen.as_json:
        screen.show_json(what_if_as_json(found))
    elif not screen.quiet:
        screen.show(draw_what_if(found, screen.look))
