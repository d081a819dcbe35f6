"""What ``attn show-weights`` can be asked for beside the file."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from attncli.cli.options import Bundle, OneOf, option, under_output
from attncli.errors import ParameterError
from attncli.views.exports import described_exports
from attncli.views.ways import OF_ONE, WAYS
from attncli.weights.wanted import (
    ORDERS,
    PARTS,
    Wanted,
    parse_axes,
    parse_grid,
    parse_numbers,
    parse_span,
)

T = TypeVar("T")


def _parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Make the callback of an option whose text is read so."""

    def callback(ctx: click.Context, param: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ParameterError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


def _not_nan(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # no range leaves NaN out
        raise click.BadParameter("nan is no number to compare with", ctx, param)
    return value


under_choice = partial(option, group="Which weights")
under_part = partial(option, group="Which part of each")
under_words = partial(option, group="Words")
under_combined = partial(option, group="Several as one picture")
under_shown = partial(option, group="How to show them")
under_shades = partial(option, group="Shades")
_OVER = OneOf(["heads", "layers"])

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
        type=OneOf(PARTS),
        help="Of a model of encoder and decoder: show the attention within one of them, or from "
        "the decoder to the encoder.",
    ),
    under_choice(
        "--layer",
        metavar="NUMBERS",
        callback=_parsed(parse_numbers),
        help="Show these layers, by the file's own numbers: 3, or 3,5, or 0:4,7, 4 left out.",
    ),
    under_choice(
        "--head", metavar="NUMBERS", callback=_parsed(parse_numbers), help="Show these heads."
    ),
    under_choice(
        "--item",
        metavar="NUMBERS",
        callback=_parsed(parse_numbers),
        help="Show these items of the batch.",
    ),
    under_choice(
        "--frame",
        type=int,
        help="Of a training run that attncli.watch wrote: show this frame.  [default: the last]",
    ),
    under_choice(
        "--axes",
        metavar="NAMES",
        callback=_parsed(parse_axes),
        help="Read the array's axes so, as N,heads,dec,enc; also layers, steps and frames. What "
        "numbers in names count comes first.",
    ),
    under_part(
        "--rows",
        metavar="A:B",
        callback=_parsed(parse_span),
        help="Decoder steps A to B − 1; either may be left out or negative. Of a file that can be "
        "mapped into memory only these are read.",
    ),
    under_part(
        "--cols",
        metavar="A:B",
        callback=_parsed(parse_span),
        help="Encoder steps A to B − 1, alone: whether rows sum to 1 is then not looked at.",
    ),
    under_part(
        "--row",
        metavar="WORD",
        multiple=True,
        help="The decoder steps of this word, or of this number: where they look; repeatable.",
    ),
    under_part(
        "--col",
        metavar="WORD",
        multiple=True,
        help="The encoder steps of this word, or of this number: who looks there; repeatable.",
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
    under_words(
        "--tokens",
        metavar="FILE|A,B,…",
        help="The words of the steps: in a text file one a line, as a JSON list (a list of lists "
        "for a batch), or with commas between; or a tokenizer.json, vocab.json or vocab.txt, which "
        "has the words for the ids in FILE.",
    ),
    under_words("--tokens-enc", metavar="FILE|A,B,…", help="Those of the encoder alone."),
    under_words("--tokens-dec", metavar="FILE|A,B,…", help="Those of the decoder alone."),
    under_words(
        "--merge-subwords",
        is_flag=True,
        help="Put the pieces of words together: weights to a word are added, from it averaged.",
    ),
    under_words("--raw-tokens", is_flag=True, help="Show Ġ, ▁ and ## as tokenizers write them."),
    under_combined(
        "--mean", type=_OVER, multiple=True, help="One picture of all heads, or layers: their mean."
    ),
    under_combined(
        "--max",
        "maximum",
        type=_OVER,
        multiple=True,
        help="One picture of all heads, or layers: their maximum.",
    ),
    under_combined(
        "--rollout",
        is_flag=True,
        help="One picture of all layers: what flows through them, the residual path included.",
    ),
    under_combined(
        "--overlay",
        is_flag=True,
        help="Draw the heads over each other, each in a colour of its own; at most eight.",
    ),
    under_combined(
        "--diff", metavar="OTHER", help="Show FILE minus OTHER, on a scale for both signs."
    ),
    under_shown(
        "--view",
        type=OneOf(OF_ONE),
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
        "--grid",
        metavar="ROWSxCOLS",
        callback=_parsed(parse_grid),
        help="Draw each row as the image that its keys are: --row chooses rows, --cols patches.",
    ),
    under_shown(
        "--over",
        metavar="IMAGE",
        help="In the .html of --grid lay the weights over this picture, PNG or JPEG.",
    ),
    under_shown(
        "--sort",
        type=OneOf(ORDERS),
        metavar="ORDER",
        help=f"Give an overview of the heads by {', '.join(ORDERS[:-1])}, or as the file has them: "
        f"{ORDERS[-1]}; `attn guide weights` says what each means.  [default, of many: entropy]",
    ),
    under_shown(
        "--frames",
        is_flag=True,
        help="Show how the weights changed from frame to frame: played on a terminal, where space "
        "stops and arrows step; piped, a strip of some.",
    ),
    under_shown(
        "--full",
        is_flag=True,
        help="Every number of every head as a table, however many there are.",
    ),
    under_shown(
        "--browse",
        is_flag=True,
        help="Look at one matrix after the other. Keys, which the bottom line names, scroll, find "
        "words, zoom, show other heads and layers, sorted or not.",
    ),
    under_shades(
        "--shade",
        type=OneOf(["linear", "log", "row"]),
        help="Shades by weight, by magnitude, or by share of the row's largest.  [default: linear]",
    ),
    under_shades(
        "--vmin",
        type=float,
        metavar="X",
        help="The number of the first shade; the legend counts what lies beyond.  [default: 0; "
        "with --diff, as far below 0 as --vmax is above]",
    ),
    under_shades(
        "--vmax",
        type=float,
        metavar="X",
        help="The number of the last shade: pictures of several files compare.  [default: the "
        "largest of each]",
    ),
    under_shades(
        "--pool",
        type=OneOf(["max", "mean"]),
        default="max",
        show_default=True,
        help="What a cell shows that stands for several weights.",
    ),
    *export_options,
)
