"""``attn show-weights``: look at attention weights."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import cluster_options, options
from attncli.cli.help_pages import command
from attncli.cli.weight_options import weight_options
from attncli.errors import ContradictionError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attncli.cli.cluster_options import Cluster
    from attncli.cli.screen import Screen
    from attncli.cluster import Settings
    from attncli.files.reading import Reading
    from attncli.weights.oddities import Count
    from attncli.weights.selection import Selection
    from attncli.weights.statistics import Statistics
    from attncli.weights.wanted import Wanted

    Elsewhere = Callable[[bool], Iterator[tuple[int, Statistics]]]

# A dump is divided into errands of some heads: of no more bytes than are worth a process each, but
# where there are very many.
_MOST_ERRANDS, _WORTH_ONE = 256, 64 << 20


@command(
    "show-weights",
    example="""\
attn show-weights sample_inputs/dates.npz
attn show-weights sample_inputs/minilm_heads.npz --layer 3 --head 5
attn show-weights sample_inputs/paraphrase.npz --item 1 --top 2""",
    first="--layer --head --item --tokens --top --frames --export",
)
@click.argument("file")
@weight_options
@options.heads_options
@options.layout_option
@options.reading_options
@cluster_options.grid_options
@options.shaded_options
def show_weights(
    file: str,
    wanted: Wanted,
    heads: dict[str, int],
    layout: dict[str, Any],
    reading: Reading,
    cluster: Cluster,
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
    where = cluster.settings_if_meant()
    if where is not None:
        _refuse(file, wanted)
    if wanted.export:
        check_exports(wanted, file)
    # What is not finite was asked for, and is shown as what it is.
    with np.errstate(invalid="ignore", over="ignore"):
        with screen.timed("reading"):
            selection = select_weights(open_tensors(file, reading), wanted)
        with counted() as count:
            for path in wanted.export:
                export(path, selection, screen.precision, light=screen.theme == "light")
                screen.note(f"wrote {click.format_filename(path)}")
            if where is not None:
                work = partial(_statistics, file, reading, wanted)
                _show(selection, screen, partial(_elsewhere, work, selection, where, count))
            elif not wanted.browse:
                _show(selection, screen)
        if wanted.browse:
            from attncli.cli.weight_browse import browse

            browse(selection, screen)


def _show(selection: Selection, screen: Screen, elsewhere: Elsewhere | None = None) -> None:
    if screen.as_json:
        from attncli.views.weights_json import weights_as_json

        known = None
        if elsewhere is None:
            selection.load_all()
        else:
            with screen.progress("reading heads") as progress:
                known = {}
                for number, statistics in elsewhere(True):
                    known[number] = statistics
                    progress(len(known), len(selection.matrices))
        screen.show_json(weights_as_json(selection, known))
    elif not screen.quiet:
        from attncli.views.gallery import Gallery
        from attncli.views.weights_report import draw_selection, what_it_weighs

        if selection.wanted.frames and elsewhere is None:
            from attncli.cli.weight_film import can_play, play

            if can_play(screen):
                play(selection, screen)
        gallery = Gallery(selection, screen.look, elsewhere=elsewhere)
        screen.note(what_it_weighs(gallery))
        for part in draw_selection(gallery, screen.progress):
            screen.show(part)


# On a cluster the matrices stay where they are, and what is said of each comes here.


def _refuse(file: str, wanted: Wanted) -> None:
    """Raise if something is asked for that takes the weights themselves."""
    if file == "-":
        raise ParameterError("--engine dask: no worker sees our standard input")
    for option, given in (
        ("--view", wanted.view), ("--top", wanted.top),
        ("--threshold", wanted.threshold is not None),
        ("--grid", wanted.grid), ("--overlay", wanted.overlay), ("--browse", wanted.browse),
        ("--export", wanted.export),
    ):  # fmt: skip
        if given:
            what = "--engine dask gives an overview, what all weights do, and none of them"
            raise ContradictionError(f"{what}: not with {option}", option)


def _elsewhere(
    work: Callable[[range, bool], Any],
    selection: Selection,
    where: Settings,
    count: Count,
    rising: bool,
) -> Iterator[tuple[int, Statistics]]:
    """Have the statistics of all matrices made on a cluster, some of them in one go."""
    from attncli import cluster
    from attncli.cluster.errands import Errand, run_errand

    every = range(len(selection.matrices))
    largest = max(math.prod(one.shape) * 8 for one in selection.matrices)
    some = max(-(-len(every) // _MOST_ERRANDS), _WORTH_ONE // max(1, largest), 1)
    numbers = [every[start : start + some] for start in every[::some]]
    errands = [Errand(partial(work, one, rising), os.getcwd()) for one in numbers]
    for at, (found, odd) in cluster.map(run_errand, errands, where):
        count.heads |= odd
        yield from zip(numbers[at], found, strict=True)


def _statistics(
    file: str, reading: Reading, wanted: Wanted, numbers: range, rising: bool
) -> tuple[list[Statistics], dict[Any, Any]]:
    """Say in numbers what some matrices of a file do, and what is odd in each."""
    import numpy as np

    from attncli.files.contents import open_tensors
    from attncli.weights.choosing import select_weights
    from attncli.weights.oddities import counted

    found = []
    with np.errstate(invalid="ignore", over="ignore"), counted(said=False) as count:
        selection = select_weights(open_tensors(file, reading), wanted)
        for one in (selection.matrices[number] for number in numbers):
            cut = selection.cut(one)
            found.append(selection.statistics(one, cut, one.load(cut), monotonic=rising))
    return found, count.heads
