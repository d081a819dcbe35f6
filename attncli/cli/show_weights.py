"""``attn show-weights``: look at attention weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.files.reading import Reading


@options.command(
    "show-weights",
    example="""\
attn show-weights sample_inputs/dates.npz
attn show-weights sample_inputs/paraphrase.npz --item 1 --top 2
attn show-weights sample_inputs/minilm_heads.npz --layer 3 --head 5
cat run.npz | attn show-weights -""",
)
@click.argument("file")
@options.option("--item", type=int, group="What to show", help="Show this item of the batch alone.")
@options.option("--head", type=int, group="What to show", help="Show this head alone.")
@options.option("--layer", type=int, group="What to show", help="Show this layer alone.")
@options.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    group="What to show",
    help="List the K strongest keys of every row instead of drawing.",
)
@options.full_option
@options.reading_options
@options.screen_options
def show_weights(
    file: str,
    item: int | None,
    head: int | None,
    layer: int | None,
    top: int | None,
    full: bool,
    reading: Reading,
    screen: Screen,
) -> None:
    """Show the attention weights in FILE: rows are decoder steps, columns encoder steps.

    FILE is a run file; or holds weights, layer0, layer1, … as transformer libraries dump them; or
    hs_enc and hs_dec, or query and key, from which the weights are computed. A table with shaded
    cells is drawn where it fits the terminal's width; where it does not, one shaded cell for each
    weight.
    """
    from attncli.cli.weight_report import json_weights, select, show_selected
    from attncli.cli.weight_source import find_weights

    with screen.timed("reading"):
        source = find_weights(file, reading)
    pictures = select(source, layer, item, head)
    if screen.as_json:
        screen.show_json(json_weights(source, pictures, top))
    else:
        show_selected(source, pictures, top, screen, full=full)
