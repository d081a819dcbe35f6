"""Frames of a training: one after the other on a terminal, or some of them as a strip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from attncli.views.gallery import Gallery, place_in_grid
from attncli.views.legends import beyond, ends, hole_key
from attncli.views.look import Look
from attncli.views.overview import Overview
from attncli.views.shades import levels
from attncli.views.ways import draw_weights
from attncli.weights.selection import Chosen, called

_FRAMES_IN_STRIP, _ROWS_IN_STRIP = 8, 12
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_WIDEST_CURVE = 40


def shots(gallery: Gallery) -> list[list[Chosen]]:
    """Give the matrices of each frame."""
    chosen = gallery.selection.matrices
    return [list(some) for _, some in groupby(chosen, key=lambda one: one.names["frame"])]


def draw_strip(gallery: Gallery) -> Iterator[RenderableType]:
    """Draw a few frames small beside each other, evenly chosen, all on one scale."""
    look, frames, telling = gallery.look, gallery.selection.frames, _telling(gallery)
    assert frames is not None
    every = shots(gallery)
    picked = [every[place] for place in evenly(len(every), _FRAMES_IN_STRIP)]
    shown = picked[0][:_ROWS_IN_STRIP]
    rows = [" ".join(called(name, one.names[name]) for name in telling) for one in shown]
    numbers = [some[0].names["frame"] for some in picked]
    unique = len(set(frames.steps)) == len(frames)
    columns = [f"step {frames.steps[one]:g}" if unique else f"frame {one}" for one in numbers]
    places = [(row, column) for column in columns for row in rows]
    widest = max(shown[0].shape[1], *map(len, columns))
    overview = Overview(places, look, widest=widest)
    for column, some, frame in zip(columns, picked, numbers, strict=True):
        for row, one in zip(rows, some, strict=False):
            known = row == rows[-1] and not math.isnan(frames.loss[frame])
            under = f"{frames.loss[frame]:.3g}" if known else ""
            overview.add((row, column), gallery.picture(one), under)
    low, top = ends(overview.on_one_scale())
    told = f"frames {', '.join(map(str, numbers))} of {len(frames)}, "
    told += f"shaded from {low} to {top}; {overview.note(gallery.selection.wanted.pool)}"
    if more_told := beyond(*overview.beyond):
        told += f"; {more_told}"
    if not all(math.isnan(loss) for loss in frames.loss):
        told += "; below: the loss"
    explained = Text(look.fit(told), "dim italic")
    if overview.holes:
        explained = Text.assemble(hole_key(look), "  ", explained)
    more = "--frame I shows one, --frames --full all their numbers"
    if (left := len(every[0]) - len(rows)) > 0:
        more = f"{left} more of each: --layer, --item, --head choose; {more}"
    yield Group("", overview, explained, Text(more, "dim italic"))


def draw_frame(gallery: Gallery, shot: Sequence[Chosen]) -> RenderableType:
    """Draw the matrices of one frame on one screen: one large, or several small."""
    look, wanted = gallery.look, gallery.selection.wanted
    if len(shot) == 1:
        picture = replace(gallery.picture(shot[0]), heading="")
        return draw_weights(picture, look, view=wanted.view, lines=look.height)
    places = [place_in_grid(one, _telling(gallery)) for one in shot]
    overview = Overview(places, look)
    for place, one in zip(places, shot, strict=True):
        overview.add(place, gallery.picture(one), "")
    return Group(overview, Text(look.fit(overview.note(wanted.pool)), "dim italic"))


def _telling(gallery: Gallery) -> list[str]:
    """The names that tell the matrices of a frame apart."""
    return [name for name in gallery.selection.telling if name not in ("frame", "step")]


def evenly(count: int, most: int) -> list[int]:
    """Choose at most so many of `count` places, evenly, the first and the last among them.

    Examples
    --------
    >>> evenly(3, 8), evenly(63, 5)
    ([0, 1, 2], [0, 16, 31, 46, 62])
    """
    places: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return places


def caption(line: Text, step: float, loss: Sequence[float], look: Look) -> Text:
    """Add to a line the step at which a frame was taken, the loss, and what it was before."""
    line.append(f"step {step:g}", "bold")
    known = [one for one in loss if not math.isnan(one)]
    if known and not math.isnan(loss[-1]):
        line.append(f"  loss {loss[-1]:.4g}", "bold")
    room = min(_WIDEST_CURVE, look.width - line.cell_len - 2)
    if len(known) > 1 and room > 1:
        line.append(
            "  " + curve([known[place] for place in evenly(len(known), room)], look), "cyan"
        )
    return line


def curve(values: Sequence[float], look: Look) -> str:
    """Draw numbers as bars of a line of text.

    Examples
    --------
    >>> curve([2.0, 1.0, 0.5, 0.0], Look()), curve([2.0, 0.0, float("inf")], Look(unicode=False))
    ('█▅▃▁', '#_#')
    """
    bars = _BARS if look.unicode and look.fit(_BARS) == _BARS else _ASCII_BARS
    numbers = np.array(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    shares = (np.clip(numbers, low, high) - low) / ((high - low) or 1.0)
    return "".join(bars[step] for step in levels(shares, len(bars)).tolist())
