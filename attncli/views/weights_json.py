"""Weights as the JSON object that ``--json`` prints, each matrix when it is its turn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from attncli.errors import AttnWarning
from attncli.version import __version__
from attncli.views.gallery import Gallery
from attncli.views.heads import Head, sort_heads
from attncli.views.json_text import object_pieces
from attncli.views.strongest import strongest
from attncli.weights.selection import Chosen, Selection
from attncli.weights.statistics import Statistics

_NAMES = ("part", "layer", "item", "head")


def write(gallery: Gallery) -> Iterator[str]:
    """Write the object to a file."""
    yield from object_pieces(weights_as_json(gallery.selection))


def weights_as_json(
    selection: Selection, known: Mapping[int, Statistics] | None = None
) -> dict[str, Any]:
    """Give the object; no matrix is loaded before it is printed.

    None at all if the statistics of each are `known`, by their number: then it has these alone.
    """
    result: dict[str, Any] = {
        "attn": __version__,
        "command": "show-weights",
        "source": selection.source.label,
        "reading": selection.source.reading,
    }
    if selection.wanted.diff is not None:
        result["minus"] = selection.wanted.diff
    if (frames := selection.frames) is not None:
        result["frames"] = {"steps": np.array(frames.steps), "loss": np.array(frames.loss)}
    every = selection.matrices
    if known is not None:
        told = {id(one): known[number] for number, one in enumerate(every)}
        some = _ordered(selection, lambda one: told[id(one)])
        return {**result, "matrices": (_summary(selection, x, told[id(x)]) for x in some)}

    def statistics(one: Chosen) -> Statistics:
        cut = selection.cut(one)
        return selection.statistics(one, cut, one.load(cut))

    ordered = _ordered(selection, statistics)
    return {**result, "matrices": (_matrix(selection, one) for one in ordered)}


def _summary(selection: Selection, one: Chosen, statistics: Statistics) -> dict[str, Any]:
    cut = selection.cut(one)
    return {
        **dict.fromkeys(_NAMES), "part": one.part or None, **one.names,
        "shape": [len(cut.rows), len(cut.columns)], "statistics": _plain(statistics),
    }  # fmt: skip


def _plain(statistics: Statistics) -> dict[str, Any]:
    return {
        name: None if value is None else np.asarray(value)
        for name, value in statistics._asdict().items()
    }


def _ordered(selection: Selection, of: Callable[[Chosen], Statistics]) -> list[Chosen]:
    """Put the matrices in the order that is wanted, as an overview does."""
    order = selection.wanted.sort
    if order is None or order == "file":
        return selection.matrices
    selection.check_order(order)
    heads = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)  # they come when it is written
        for one in selection.matrices:
            heads.append((one, Head(one.names, of(one), selection.of_itself(one))))
    places = {id(head): one for one, head in heads}
    return [places[id(head)] for head in sort_heads([head for _, head in heads], order)]


def _matrix(selection: Selection, one: Chosen) -> dict[str, Any]:
    wanted, cut = selection.wanted, selection.cut(one)
    weights = one.load(cut)
    matrix: dict[str, Any] = {**dict.fromkeys(_NAMES), "part": one.part or None, **one.names}
    for axis, name, kept in (
        ("T_dec", "tokens_dec", cut.rows),
        ("T_enc", "tokens_enc", cut.columns),
    ):
        tokens = selection.tokens(one, axis)
        matrix[name] = None if tokens is None else [tokens[place] for place in kept.tolist()]
    if (len(cut.rows), len(cut.columns)) != one.shape:
        matrix |= {"rows": cut.rows.tolist(), "columns": cut.columns.tolist()}
    if one.image is not None:
        matrix |= {"columns": one.image.keys}
        matrix |= {} if one.image.word is None else {"word": one.image.word}
    elif wanted.diff is None:
        matrix["statistics"] = _plain(selection.statistics(one, cut, weights))
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
