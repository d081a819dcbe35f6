"""``attn trace``: every intermediate of one decoder step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command

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
attn trace sample_inputs/by_hand.npz --step 1 --backward
attn trace sample_inputs/minilm_qkv.npz --head 5 --step 9 --only scores""",
    first="--step --item --head --forward --backward --only --causal -o --json",
)
@_which("--step", type=int, default=0, show_default=True, help="Decoder step.")
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
@options.calculation_options
@options.trace_output_options
@options.tensor_screen_options
def trace(
    request: Request,
    step: int,
    item: int,
    head: int,
    forward: bool,
    backward: bool,
    only: tuple[str, ...],
    output: Output,
    screen: Screen,
) -> None:
    """Show every intermediate of one decoder step, in the order it is computed.

    FILE is as for attn forward; without it the tensors are random. attn compare holds the file
    that -o writes against one of yours with arrays of the same names.

    For reading attention line by line, and for finding the line where your own code first differs:
    forward, then backward, each with its name as in the mathematics, the formula, what it means,
    its shape, the numbers, and what they were made of. Small ones are worked out like an example
    in a textbook, large ones summed up.
    """
    from attncli.cli.posing import pose
    from attncli.operations.tracing import Place
    from attncli.problems import traced
    from attncli.views.trace_steps import draw_trace, trace_as_json

    output.check(request.files, screen)
    problem = pose(request, screen, needs_dout=True)
    found = traced.trace(problem, Place(step, item, head))
    shown = found.chosen({"forward": forward, "backward": backward}, only)
    if output.is_wanted:
        output.write(found.arrays(), screen, what="the trace")
    if output.is_stdout:
        return
    if screen.as_json:
        screen.show_json(trace_as_json(found, shown))
    else:
        screen.show(draw_trace(found, shown, screen.look))
