"""``attn show-weights``: look at attention weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.cli.weight_options import weight_options

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.files.reading import Reading
    from attncli.weights.selection import Selection
    from attncli.weights.wanted import Wanted


@command(
    "show-weights",
    example="""\
attn show-weights sample_inputs/dates.npz
attn show-weights sample_inputs/minilm_heads.npz --layer 3 --head 5
attn show-weights sample_inputs/paraphrase.npz --item 1 --top 2""",
    first="--layer --head --item --tokens --mean --top --frames --export",
)
@click.argument("file")
@weight_options
@options.heads_options
@options.layout_option
@options.reading_options
@options.shaded_options
def show_weights(
    file: str,
    wanted: Wanted,
    heads: dict[str, int],
    layout: dict[str, Any],
    reading: Reading,
    screen: Screen,
) -> None:
    """Show the attention weights in FILE: rows are decoder steps, columns encoder steps.

    For seeing in a terminal what a model looks at: one head, or many at a glance. FILE is a run
    file; or holds weights under the names that libraries give them (layer0, encoder_attentions.1,
    step4_layer1, …); or hs_enc and hs_dec, or query and key, from which the weights are computed;
    or is what --export wrote as .json, .csv or .html.

    The richest picture that fits the terminal is drawn: a table of digits and shades; one shaded
    cell for each weight, under the tokens; a heatmap of the whole on one screen, whose cells stand
    for several weights where there are many, and say so. Many heads open as an overview: each of
    them small, and a sorted table of what they do. Piped, it is the numbers, every one in full.
    """
    import numpy as np

    from attncli.files.contents import open_tensors
    from attncli.views.exports import check_exports, export
    from attncli.weights.choosing import select_weights
    from attncli.weights.oddities import counted

    wanted = replace(wanted, heads=heads, layout=layout)
    if wanted.export:
        check_exports(wanted, file)
    # What is not finite was asked for, and is shown as what it is.
    with np.errstate(invalid="ignore", over="ignore"):
        with screen.timed("reading"):
            selection = select_weights(open_tensors(file, reading), wanted)
        with counted():
            for path in wanted.export:
                export(path, selection, screen.precision, light=screen.theme == "light")
                screen.note(f"wrote {click.format_filename(path)}")
            if not wanted.browse:
                _show(selection, screen)
        if wanted.browse:
            from attncli.cli.weight_browse import browse

            browse(selection, screen)


def _show(selection: Selection, screen: Screen) -> None:
    if screen.as_json:
        from attncli.views.weights_json import weights_as_json

        selection.load_all()
        screen.show_json(weights_as_json(selection))
    elif not screen.quiet:
        from attncli.views.gallery import Gallery
        from attncli.views.weights_report import draw_selection, what_it_weighs

        if selection.wanted.frames:
            from attncli.cli.weight_film import can_play, play

            if can_play(screen):
                play(selection, screen)
        gallery = Gallery(selection, screen.look)
        screen.note(what_it_weighs(gallery))
        for part in draw_selection(gallery, screen.progress):
            screen.show(part)
