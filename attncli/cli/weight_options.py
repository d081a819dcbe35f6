"""What ``attn show-weights`` can be asked for beside the file."""

from __future__ import annotations

import math
from functools import partial

import click

from attncli.cli.options import Bundle, option, under_output
from attncli.errors import ParameterError
from attncli.views.exports import described_exports
from attncli.views.ways import OF_ONE, WAYS
from attncli.weights.wanted import PARTS, Span, Wanted, parse_axes


def _parse_axes(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    try:
        return None if text is None else parse_axes(text)
    except ParameterError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _parse_span(ctx: click.Context, param: click.Parameter, text: str | None) -> Span | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        if not colon:
            return int(text), int(text) + 1 or None
        return int(first) if first else None, int(last) if last else None
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a range such as 3:8", ctx, param) from None


def _not_nan(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # no range leaves NaN out
        raise click.BadParameter("nan is no number to compare with", ctx, param)
    return value


under_choice = partial(option, group="What to show")
under_part = partial(option, group="Which part of it")
under_shown = partial(option, group="How to show it")
_OVER = click.Choice(["heads", "layers"])

export_options = (
    under_output(
        "--export",
        metavar="FILE",
        multiple=True,
        help=f"Write what is chosen as {described_exports()}; repeatable. In .csv an apostrophe "
        "stands before a label that a spreadsheet would compute.",
    ),
    under_output("--force", is_flag=True, help="Replace existing files."),
)

weight_options = Bundle(
    "wanted",
    Wanted,
    under_choice(
        "--part",
        type=click.Choice(PARTS),
        help="Of a model of encoder and decoder: show the attention within one of them, or from "
        "the decoder to the encoder.",
    ),
    under_choice("--item", type=int, help="Show this item of the batch alone."),
    under_choice("--head", type=int, help="Show this head alone."),
    under_choice("--layer", type=int, help="Show this layer alone."),
    under_choice(
        "--frame",
        type=int,
        help="Of a training run that attncli.watch wrote: show this frame.  [default: the last]",
    ),
    under_choice(
        "--frames",
        is_flag=True,
        help="Show how the weights changed from frame to frame: played on a terminal, where space "
        "stops and arrows step; piped, a strip of some.",
    ),
    under_choice(
        "--mean", type=_OVER, multiple=True, help="One picture of all heads, or layers: their mean."
    ),
    under_choice(
        "--max",
        "maximum",
        type=_OVER,
        multiple=True,
        help="One picture of all heads, or layers: their maximum.",
    ),
    under_choice(
        "--rollout",
        is_flag=True,
        help="One picture of all layers: what flows through them, the residual path included.",
    ),
    under_choice(
        "--diff", metavar="OTHER", help="Show FILE minus OTHER, on a scale for both signs."
    ),
    under_choice(
        "--axes",
        metavar="NAMES",
        callback=_parse_axes,
        help="Read the array's axes so, as N,heads,dec,enc; also layers and frames.",
    ),
    under_part(
        "--rows",
        metavar="A:B",
        callback=_parse_span,
        help="Decoder steps A to B − 1; either may be left out or negative. Of a file that can be "
        "mapped into memory only these are read.",
    ),
    under_part(
        "--cols",
        metavar="A:B",
        callback=_parse_span,
        help="Encoder steps A to B − 1, alone: whether rows sum to 1 is then not looked at.",
    ),
    under_part(
        "--row",
        metavar="TOKEN",
        multiple=True,
        help="The decoder steps of this token, or of this number; repeatable.",
    ),
    under_part(
        "--drop-special",
        is_flag=True,
        help="Leave out [CLS], <s> and the like, wherever there are tokens.",
    ),
    under_part("--drop-pad", is_flag=True, help="Leave out padding."),
    under_part("--drop-sink", is_flag=True, help="Leave out the first key, where weight rests."),
    under_part(
        "--renormalise",
        "--renormalize",
        is_flag=True,
        help="Let what is left of every row sum to 1.",
    ),
    under_shown(
        "--view",
        type=click.Choice(OF_ONE),
        help="; ".join(f"{name}: {WAYS[name].says}" for name in OF_ONE)
        + ".  [default: the first of these that fits]",
    ),
    under_shown(
        "--top",
        type=click.IntRange(min=1),
        metavar="K",
        help="List the K strongest keys of every row instead of drawing.",
    ),
    under_shown(
        "--threshold",
        type=click.FloatRange(min=0),
        callback=_not_nan,
        metavar="X",
        help="List the keys with at least this weight; drawn, smaller ones count as 0.",
    ),
    under_shown(
        "--pool",
        type=click.Choice(["max", "mean"]),
        default="max",
        show_default=True,
        help="What a cell shows that stands for several weights.",
    ),
    under_shown(
        "--shade",
        type=click.Choice(["linear", "log", "row"]),
        help="Shades by weight, by magnitude, or by share of the row's largest.  [default: linear]",
    ),
    under_shown(
        "--sort",
        type=click.Choice(["entropy", "max", "first", "diagonal", "previous", "dead", "file"]),
        help="Give an overview of the heads, in this order.  [default, of many: entropy]",
    ),
    under_shown("--raw-tokens", is_flag=True, help="Show Ġ, ▁ and ## as tokenizers write them."),
    under_shown(
        "--full",
        is_flag=True,
        help="Every number of every head as a table, however many there are.",
    ),
    under_shown(
        "--browse", is_flag=True, help="Page through layers, heads and items with the arrow keys."
    ),
    *export_options,
)
