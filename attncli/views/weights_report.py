"""The chosen weights of a source, on the screen and as JSON."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.cli.screen import Screen
from attncli.cli.weight_options import DEFAULT_TOP, Wanted
from attncli.errors import AttnWarning
from attncli.version import __version__
from attncli.views.heads import SORTS, Head, draw_heads, draw_map, sort_heads
from attncli.views.labels import safe, shorten
from attncli.views.legends import hole_key
from attncli.views.look import Look
from attncli.views.overview import Overview
from attncli.views.picture import WeightMatrix
from attncli.views.strongest import draw_strongest, strongest
from attncli.views.weight_drawing import draw_weights
from attncli.weights.choosing import Chosen, cut_of, tokens_of
from attncli.weights.finding import WeightSource
from attncli.weights.statistics import head_statistics
from attncli.weights.tokens import readable

# More pictures than this open as an overview instead.
_MOST_PICTURES = 12
# More rows than this are not sent to a terminal unless asked for.
_MOST_ROWS = 500
# Of more heads than this a terminal shows the first ones of the table; of more than this, one
# cell for each instead of a picture.
_MOST_HEADS, _MOST_IN_GRID = 24, 400
_LONGEST_LABEL = 16


def picture_of(source: WeightSource, one: Chosen, wanted: Wanted, look: Look) -> WeightMatrix:
    """Load a matrix and label the part of it that is wanted."""
    cut = cut_of(source, one, wanted)
    weights = one.load(cut)
    if wanted.threshold is not None and not wanted.lists:
        weights = np.where(np.abs(weights) >= wanted.threshold, weights, weights.dtype.type(0))
    return WeightMatrix(
        one.heading,
        weights,
        labels(tokens_of(source, one, "T_dec"), cut.rows, wanted, look),
        labels(tokens_of(source, one, "T_enc"), cut.columns, wanted, look),
        "diverging" if wanted.diff is not None else wanted.shade or "linear",
        wanted.pool,
        cut.rows.tolist(),
        cut.columns.tolist(),
    )


def labels(tokens: list[str] | None, positions: Array, wanted: Wanted, look: Look) -> list[str]:
    """Label the positions along an axis by their tokens, else by their numbers."""
    if tokens is None:
        return [str(position) for position in positions.tolist()]
    shown = tokens if wanted.raw_tokens else readable(tokens)
    longest = 10**6 if look.plain else _LONGEST_LABEL
    return [shorten(safe(shown[place], look), longest, look) for place in positions.tolist()]


def warn_of_nothing(source: WeightSource) -> None:
    """Say why there is nothing to see, where a size is 0."""
    for axis, size in zip(("N", "heads", "T_dec"), source.shape, strict=False):
        if size == 0:
            warnings.warn(f"{source.label}: no weights: {axis} is 0", AttnWarning, stacklevel=2)
            return


def load_all(source: WeightSource, chosen: Sequence[Chosen], wanted: Wanted) -> None:
    """Load each of several matrices and forget it: what cannot be is said before any is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)  # they come when it is shown
        for one in chosen[1:]:
            one.load(cut_of(source, one, wanted))


def show_chosen(
    source: WeightSource, chosen: Sequence[Chosen], wanted: Wanted, screen: Screen
) -> None:
    """Draw the matrices, or an overview where they are many."""
    look = screen.look
    heading = name_of(source, wanted, look)
    heading.append(f"  {source.reading}", "not bold dim")
    if 0 in source.shape:
        screen.show(heading)
        return
    drawn = wanted.full or wanted.lists or wanted.view is not None
    if wanted.sort is not None or (len(chosen) > _MOST_PICTURES and not drawn):
        _show_overview(source, chosen, wanted, screen, heading)
        return
    if look.plain:
        load_all(source, chosen, wanted)
    for number, one in enumerate(chosen):
        picture = picture_of(source, one, wanted, look)  # what cannot be loaded shows nothing
        if number == 0:
            screen.show(heading, "")
        _show_picture(picture, wanted, screen)


def name_of(source: WeightSource, wanted: Wanted, look: Look) -> Text:
    """Name the file, or both where it is a difference."""
    name = Text(safe(source.label, look), "bold")
    if wanted.diff is not None:
        name.append(f" {look.minus} {safe(wanted.diff, look)}")
    return name


def _show_picture(picture: WeightMatrix, wanted: Wanted, screen: Screen) -> None:
    look = screen.look
    if picture.shade == "diverging" and not picture.weights.any():
        screen.show(*picture.title(), Text("no difference", "green"), "")
        return
    if wanted.lists:
        shown, left_out = _first_rows(picture, wanted, look)
        top = wanted.top
        keys = picture.weights.shape[1]
        if top is None and wanted.threshold is None and not look.plain and keys > DEFAULT_TOP:
            top = DEFAULT_TOP
            left_out.append(
                Text(f"the {top} strongest of {keys} keys; --top K lists K", "dim italic")
            )
        screen.show(draw_strongest(shown, top, look, screen.precision, wanted.threshold), *left_out)
        return
    view = "table" if wanted.full else wanted.view
    assert view != "list"
    small = 5 * picture.weights.shape[1] <= look.width
    left_out = []
    if view in ("table", "cells") or (view is None and small) or screen.precision is not None:
        picture, left_out = _first_rows(picture, wanted, look)
    drawn = draw_weights(picture, look, screen.precision, view=view)
    screen.show(drawn, *left_out)
    if wanted.threshold is not None:
        smaller = f"weights below {wanted.threshold:g} are shown as 0"
        screen.show(Text(smaller, "dim italic"))


def _first_rows(
    picture: WeightMatrix, wanted: Wanted, look: Look
) -> tuple[WeightMatrix, list[Text]]:
    """Cut what would run through a terminal for minutes, and say so."""
    rows = len(picture.weights)
    if look.plain or wanted.full or rows <= _MOST_ROWS:
        return picture, []
    more = f"{rows - _MOST_ROWS} more rows not shown; --full shows all"
    return picture.first_rows(_MOST_ROWS), [Text(more, "dim italic")]


def _show_overview(
    source: WeightSource,
    chosen: Sequence[Chosen],
    wanted: Wanted,
    screen: Screen,
    heading: Text,
) -> None:
    """Draw all heads small, and a table of what they do."""
    look = screen.look
    grid = not look.plain and len(chosen) <= _MOST_IN_GRID
    sort = wanted.sort or "entropy"
    telling = several(chosen)
    noun = next((name for name in ("head", "item", "layer") if name in telling), "head")
    heads: list[Head] = []
    places = [_place(one, telling) for one in chosen]
    overview = Overview(places, look, wanted.pool) if grid else None
    with screen.progress("reading heads") as progress:
        for number, one in enumerate(chosen):
            cut = cut_of(source, one, wanted)
            weights = one.load(cut)
            statistics = head_statistics(weights, cut.rows.tolist(), cut.columns.tolist())
            names = one.names if look.plain else {name: one.names[name] for name in telling}
            heads.append(Head(names, statistics))
            if overview is not None:
                value = heads[-1].value("entropy" if sort == "file" else sort)
                overview.add(places[number], weights, f"{value:.2f}")
            progress(number + 1, len(chosen))
    by = None if sort == "file" else sort
    ordered = sort_heads(heads, by)
    matrices = "1 matrix" if len(chosen) == 1 else f"{len(chosen)} matrices"
    more = f"{matrices}: --layer, --item, --head choose one, --full shows all"
    if not look.plain and len(ordered) > _MOST_HEADS and not wanted.full:
        left = len(ordered) - _MOST_HEADS
        ordered = ordered[:_MOST_HEADS]
        more = f"{left} more {noun}s not shown: --sort {sort} --full lists all; {more}"
    what = "entropy in bits" if by in (None, "entropy") else SORTS[by or ""][0]
    picture: list[RenderableType] = []
    if not look.plain and overview is None:  # too many to be drawn one by one
        picture = [draw_map(heads, by or "entropy", look), ""]
    if overview is not None:
        under = f"{overview.note}, shaded by its {noun}'s largest; under each: {what}"
        explained = Text(look.fit(under), "dim italic")
        if overview.holes:
            explained = Text.assemble(hole_key(look), "  ", explained)
        picture = [overview, explained, ""]
    order = "in the order of the file" if by is None else f"sorted by {by}"
    screen.show(
        heading,
        "",
        *picture,
        Text(f"{len(chosen)} {noun if len(chosen) == 1 else noun + 's'}, {order}", "bold"),
        draw_heads(ordered, look, screen.precision),
        "",
        Text(more, "dim italic"),
    )


def several(chosen: Sequence[Chosen]) -> list[str]:
    """Give the names that tell the matrices apart; all of them where there is but one matrix."""
    names = list(chosen[0].names) if chosen else []
    return [x for x in names if len({one.names[x] for one in chosen}) > 1] or names


def _place(one: Chosen, telling: Sequence[str]) -> tuple[str, str]:
    """Where in the grid a matrix stands: its last name across, all others down."""
    names = [f"{name} {one.names[name]}" for name in telling]
    return (" ".join(names[:-1]), names[-1]) if names else ("", "")


def json_weights(source: WeightSource, chosen: Sequence[Chosen], wanted: Wanted) -> dict[str, Any]:
    """Give the matrices as the JSON object that ``--json`` prints, each when it is its turn."""
    result = {
        "attn": __version__,
        "command": "show-weights",
        "source": source.label,
        "reading": source.reading,
    }
    if wanted.diff is not None:
        result["minus"] = wanted.diff
    return {**result, "matrices": (_json_matrix(source, one, wanted) for one in chosen)}


def _json_matrix(source: WeightSource, one: Chosen, wanted: Wanted) -> dict[str, Any]:
    cut = cut_of(source, one, wanted)
    weights = one.load(cut)
    matrix: dict[str, Any] = dict(one.names)
    for axis, name, kept in (
        ("T_dec", "tokens_dec", cut.rows),
        ("T_enc", "tokens_enc", cut.columns),
    ):
        tokens = tokens_of(source, one, axis)
        if tokens is not None:
            matrix[name] = [tokens[place] for place in kept.tolist()]
    if (len(cut.rows), len(cut.columns)) != one.shape:
        matrix |= {"rows": cut.rows.tolist(), "columns": cut.columns.tolist()}
    if wanted.diff is None:
        statistics = head_statistics(weights, cut.rows.tolist(), cut.columns.tolist())
        matrix["statistics"] = {
            name: np.asarray(value) for name, value in statistics._asdict().items()
        }
    if not wanted.lists:
        return {**matrix, "shape": list(weights.shape), "weights": weights}
    order = strongest(weights, wanted.top or weights.shape[1])
    values = np.take_along_axis(weights, order, axis=1)
    if wanted.threshold is None:
        return {**matrix, "strongest": order, "weights": values}
    kept = np.abs(values) >= wanted.threshold
    return {
        **matrix,
        "strongest": (row[some] for row, some in zip(order, kept, strict=True)),
        "weights": (row[some] for row, some in zip(values, kept, strict=True)),
    }
