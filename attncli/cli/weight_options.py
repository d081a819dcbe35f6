"""What ``attn show-weights`` can be asked for beside the file."""

from __future__ import annotations

import math

import click

from attncli.cli.options import bundle, option
from attncli.views.exports import described_exports
from attncli.views.ways import OF_ONE, WAYS
from attncli.weights.wanted import Span, Wanted

_AXES = {
    "n": "N", "batch": "N", "item": "N", "items": "N",
    "heads": "heads", "head": "heads",
    "layers": "layers", "layer": "layers",
    "dec": "T_dec", "t_dec": "T_dec", "query": "T_dec", "queries": "T_dec",
    "enc": "T_enc", "t_enc": "T_enc", "key": "T_enc", "keys": "T_enc",
}  # fmt: skip


def _parse_axes(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    if text is None:
        return None
    axes = tuple(_AXES.get(name.strip().lower(), "") for name in text.split(","))
    if "" in axes or len(set(axes)) < len(axes) or "T_enc" not in axes:
        raise click.BadParameter(
            f"{text!r} is not a list such as N,heads,dec,enc or layers,heads,dec,enc", ctx, param
        )
    return axes


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


_CHOICE, _PART, _SHOWN = "What to show", "Which part of it", "How to show it"
_OVER = click.Choice(["heads", "layers"])

_OPTIONS = (
    option("--item", type=int, group=_CHOICE, help="Show this item of the batch alone."),
    option("--head", type=int, group=_CHOICE, help="Show this head alone."),
    option("--layer", type=int, group=_CHOICE, help="Show this layer alone."),
    option(
        "--mean",
        type=_OVER,
        multiple=True,
        group=_CHOICE,
        help="One picture of all heads, or layers: their mean.",
    ),
    option(
        "--max",
        "maximum",
        type=_OVER,
        multiple=True,
        group=_CHOICE,
        help="One picture of all heads, or layers: their maximum.",
    ),
    option(
        "--rollout",
        is_flag=True,
        group=_CHOICE,
        help="One picture of all layers: what flows through them, the residual path included.",
    ),
    option(
        "--diff",
        metavar="OTHER",
        group=_CHOICE,
        help="Show FILE minus OTHER, on a scale for both signs.",
    ),
    option(
        "--axes",
        metavar="NAMES",
        callback=_parse_axes,
        group=_CHOICE,
        help="Read the array's axes so, as N,heads,dec,enc; also layers.",
    ),
    option(
        "--rows",
        metavar="A:B",
        callback=_parse_span,
        group=_PART,
        help="Decoder steps A to B − 1; either may be left out or negative. Of a file that can be "
        "mapped into memory only these are read.",
    ),
    option(
        "--cols",
        metavar="A:B",
        callback=_parse_span,
        group=_PART,
        help="Encoder steps A to B − 1, alone: whether rows sum to 1 is then not looked at.",
    ),
    option(
        "--row",
        metavar="TOKEN",
        multiple=True,
        group=_PART,
        help="The decoder steps of this token, or of this number; repeatable.",
    ),
    option(
        "--drop-special",
        is_flag=True,
        group=_PART,
        help="Leave out [CLS], <s> and the like, wherever there are tokens.",
    ),
    option("--drop-pad", is_flag=True, group=_PART, help="Leave out padding."),
    option(
        "--drop-sink",
        is_flag=True,
        group=_PART,
        help="Leave out the first key, where weight rests.",
    ),
    option(
        "--renormalise",
        "--renormalize",
        is_flag=True,
        group=_PART,
        help="Let what is left of every row sum to 1.",
    ),
    option(
        "--view",
        type=click.Choice(OF_ONE),
        group=_SHOWN,
        help="; ".join(f"{name}: {WAYS[name].says}" for name in OF_ONE)
        + ".  [default: the first of these that fits]",
    ),
    option(
        "--top",
        type=click.IntRange(min=1),
        metavar="K",
        group=_SHOWN,
        help="List the K strongest keys of every row instead of drawing.",
    ),
    option(
        "--threshold",
        type=click.FloatRange(min=0),
        callback=_not_nan,
        metavar="X",
        group=_SHOWN,
        help="List the keys with at least this weight; drawn, smaller ones count as 0.",
    ),
    option(
        "--pool",
        type=click.Choice(["max", "mean"]),
        default="max",
        show_default=True,
        group=_SHOWN,
        help="What a cell shows that stands for several weights.",
    ),
    option(
        "--shade",
        type=click.Choice(["linear", "log", "row"]),
        group=_SHOWN,
        help="Shades by weight, by magnitude, or by share of the row's largest.  [default: linear]",
    ),
    option(
        "--sort",
        type=click.Choice(["entropy", "max", "first", "diagonal", "previous", "dead", "file"]),
        group=_SHOWN,
        help="Give an overview of the heads, in this order.  [default, of many: entropy]",
    ),
    option(
        "--raw-tokens",
        is_flag=True,
        group=_SHOWN,
        help="Show Ġ, ▁ and ## as tokenizers write them.",
    ),
    option(
        "--full",
        is_flag=True,
        group=_SHOWN,
        help="Every number of every head as a table, however many there are.",
    ),
    option(
        "--browse",
        is_flag=True,
        group=_SHOWN,
        help="Page through layers, heads and items with the arrow keys.",
    ),
    option(
        "--export",
        metavar="FILE",
        multiple=True,
        group="Output",
        help=f"Write what is chosen as {described_exports()}; repeatable. In .csv an apostrophe "
        "stands before a label that a spreadsheet would compute.",
    ),
    option("--force", is_flag=True, group="Output", help="Replace existing files."),
)


weight_options = bundle("wanted", Wanted, _OPTIONS)
"""All of them; the command gets one ``wanted``."""
