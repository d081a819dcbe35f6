"""The chosen weights of a source, on the screen and as JSON."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.text import Text

from attncli import __version__
from attncli.arrays import Array, Tokens
from attncli.cli.screen import Screen, jsonable
from attncli.cli.weight_source import WeightSource, choose
from attncli.errors import AttnWarning, ParameterError
from attncli.views.heads import HeadStatistics, draw_heads, head_statistics
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.tensors import axis_labels
from attncli.views.weights import WeightMatrix, draw_strongest, draw_weights, strongest

# More pictures than this open as a table of heads instead.
_MOST_PICTURES = 12
# More rows than this are not sent to a terminal unless asked for.
_MOST_ROWS = 500
# How far the sum of a row may be from 1 before it is worth a warning: float16 has 3 digits.
_SUM_TOLERANCE = 5e-3


@dataclass(frozen=True)
class Selection:
    """One matrix of weights, not yet loaded."""

    layer: int
    item: int
    head: int


def select(
    source: WeightSource, layer: int | None, item: int | None, head: int | None
) -> list[Selection]:
    """List the matrices that the options leave, in the order of the file.

    Raises
    ------
    ParameterError
        If there is no such layer, item or head.
    """
    if layer is not None and layer not in source.layers:
        there = ", ".join(map(str, source.layers))
        raise ParameterError(f"--layer {layer}: {source.label} has no such layer; there is {there}")
    chosen = []
    for number in source.layers if layer is None else [layer]:
        N, heads, _, _ = source.layers[number].shape
        for n in choose("item", item, N, source.label):
            chosen += [Selection(number, n, h) for h in choose("head", head, heads, source.label)]
    return chosen


def show_selected(
    source: WeightSource,
    selected: list[Selection],
    top: int | None,
    screen: Screen,
    *,
    full: bool = False,
) -> None:
    """Draw the matrices, or a table of them where they are many."""
    look = screen.look
    heading = Text(safe(source.label, look), "bold")
    heading.append(f"  {source.reading}", "not bold dim")
    for axis, size in zip(("N", "heads", "T_dec"), source.shape, strict=False):
        if size == 0:
            screen.show(heading)
            warnings.warn(f"{source.label}: no weights: {axis} is 0", AttnWarning, stacklevel=1)
            return
    if len(selected) > _MOST_PICTURES and top is None and not full:
        statistics = [
            HeadStatistics(_names(source, one), *head_statistics(_load(source, one)))
            for one in selected
        ]
        more = f"{len(selected)} matrices: --layer, --item, --head choose one, --full draws all"
        table = draw_heads(statistics, look, screen.precision)
        screen.show(heading, "", table, "", Text(more, "dim italic"))
        return
    for number, one in enumerate(selected):
        weights = _load(source, one)  # first: of what cannot be loaded, nothing is shown
        if number == 0:
            screen.show(heading, "")
        picture = _picture(source, one, weights, look)
        left_out = 0
        if not look.plain and not full and len(weights) > _MOST_ROWS:
            left_out = len(weights) - _MOST_ROWS
            picture = WeightMatrix(
                picture.heading, weights[:_MOST_ROWS], picture.rows[:_MOST_ROWS], picture.columns
            )
        if top is None:
            drawn = draw_weights(picture, look, screen.precision, digits=full)
        else:
            drawn = draw_strongest(picture, top, look, screen.precision)
        screen.show(drawn)
        if left_out:
            screen.show(Text(f"{left_out} more rows not shown; --full shows all", "dim italic"))


def json_weights(
    source: WeightSource, selected: list[Selection], top: int | None
) -> dict[str, Any]:
    """Give the matrices as the JSON object that ``--json`` prints."""
    return {
        "attn": __version__,
        "command": "show-weights",
        "source": source.label,
        "reading": source.reading,
        "matrices": [_json_matrix(source, one, top) for one in selected],
    }


def _json_matrix(source: WeightSource, one: Selection, top: int | None) -> dict[str, Any]:
    weights = _load(source, one)
    matrix: dict[str, Any] = dict(_names(source, one))
    for axis, name in (("T_dec", "tokens_dec"), ("T_enc", "tokens_enc")):
        if axis in source.tokens:
            matrix[name] = _tokens_of(source.tokens[axis], one.item).tolist()
    if top is None:
        return {**matrix, "shape": list(weights.shape), "weights": jsonable(weights)}
    order = strongest(weights, top)
    return {
        **matrix,
        "strongest": order.tolist(),
        "weights": jsonable(np.take_along_axis(weights, order, axis=1)),
    }


def _names(source: WeightSource, one: Selection) -> dict[str, int]:
    """Name a matrix by the axes that the file really has."""
    names = {"layer": one.layer} if source.numbered else {}
    if "N" in source.axes:
        names["item"] = one.item
    if "heads" in source.axes:
        names["head"] = one.head
    return names


def _picture(source: WeightSource, one: Selection, weights: Array, look: Look) -> WeightMatrix:
    return WeightMatrix(
        "  ".join(f"{name} {number}" for name, number in _names(source, one).items()),
        weights,
        axis_labels("T_dec", weights.shape[0], source.tokens, one.item, look),
        axis_labels("T_enc", weights.shape[1], source.tokens, one.item, look),
    )


def _tokens_of(tokens: Tokens, item: int) -> Tokens:
    return tokens if tokens.ndim == 1 else tokens[item]


def _load(source: WeightSource, one: Selection) -> Array:
    """Load one matrix; warn of what weights never are."""
    weights = source.layers[one.layer].load(one.item, one.head)
    if weights.dtype.kind != "f":
        weights = weights.astype(np.float64)
    where = " ".join((source.label, *(f"{k} {v}" for k, v in _names(source, one).items())))
    for problem in _oddities(weights):
        warnings.warn(f"{where}: {problem}", AttnWarning, stacklevel=1)
    return weights


def _oddities(weights: Array) -> Iterator[str]:
    if not weights.size:
        return
    least = float(weights.min())
    if least < 0:
        row, column = np.unravel_index(int(weights.argmin()), weights.shape)
        yield f"weights are negative: the least, {least:.3g}, is at [{row}, {column}]"
    sums = weights.sum(axis=1, dtype=np.float64)
    off = np.where(sums == 0, 0.0, np.abs(sums - 1))  # a masked row is all zero
    off[np.isnan(off)] = np.inf
    worst = int(off.argmax())
    if off[worst] > _SUM_TOLERANCE:
        count = int((off > _SUM_TOLERANCE).sum())
        rows = "row does" if count == 1 else "rows do"
        yield f"{count} {rows} not sum to 1: the worst, row {worst}, sums to {sums[worst]:.6g}"
