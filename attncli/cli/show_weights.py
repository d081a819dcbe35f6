"""``attn show-weights``: look at attention weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.weight_options import weight_options

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.cli.weight_options import Wanted
    from attncli.files.reading import Reading


@options.command(
    "show-weights",
    example="""\
attn show-weights sample_inputs/dates.npz
attn show-weights sample_inputs/paraphrase.npz --item 1 --top 2
attn show-weights sample_inputs/minilm_heads.npz --sort previous
attn show-weights sample_inputs/minilm_heads.npz --layer 3 --head 5
attn show-weights sample_inputs/minilm_heads.npz --rollout --drop-special
cat run.npz | attn show-weights -""",
)
@click.argument("file")
@weight_options
@options.reading_options
@options.screen_options
def show_weights(file: str, wanted: Wanted, reading: Reading, screen: Screen) -> None:
    """Show the attention weights in FILE: rows are decoder steps, columns encoder steps.

    For seeing in a terminal what a model looks at: one head, or many at a glance. FILE is a run
    file; or holds weights, layer0, layer1, … as transformer libraries dump them; or
    hs_enc and hs_dec, or query and key, from which the weights are computed.

    The richest picture that fits the terminal is drawn: a table of digits and shades; one shaded
    cell for each weight, under the tokens; a heatmap of the whole on one screen, whose cells stand
    for several weights where there are many, and say so. Many heads open as an overview: each of
    them small, and a sorted table of what they do. Piped, it is the numbers, every one in full.
    """
    import numpy as np

    # What is not finite was asked for, and is shown as what it is.
    with np.errstate(invalid="ignore", over="ignore"):
        _show(file, wanted, reading, screen)


def _show(file: str, wanted: Wanted, reading: Reading, screen: Screen) -> None:
    from attncli.views.weights_report import json_weights, load_all, show_chosen, warn_of_nothing
    from attncli.weights.choosing import choose_weights, difference, with_rows
    from attncli.weights.finding import find_weights

    if wanted.export:
        from attncli.views.exports import check_exports

        check_exports(wanted, file)
    with screen.timed("reading"):
        source = find_weights(file, reading, wanted.axes)
        chosen = choose_weights(source, wanted)
        if wanted.diff is not None:
            other = find_weights(wanted.diff, reading, wanted.axes)
            labels = (source.label, other.label)
            chosen = difference(chosen, choose_weights(other, wanted), labels)
        chosen = with_rows(source, chosen, wanted)
    warn_of_nothing(source)
    if wanted.export:
        from attncli.views.exports import export

        export(source, chosen, wanted, screen)
    if wanted.browse:
        from attncli.cli.weight_browse import browse

        browse(source, chosen, wanted, screen)
    elif screen.as_json:
        load_all(source, chosen, wanted)
        screen.show_json(json_weights(source, chosen, wanted))
    elif not screen.quiet:
        show_chosen(source, chosen, wanted, screen)
