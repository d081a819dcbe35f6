"""Who sees whom on the screen and as JSON: pictures, counts, tiles, and where readings differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from attncli.arrays import Array
from attncli.core.visibility import Index
from attncli.problems.surveying import (
    Runs,
    Step,
    Survey,
    alone,
    keys_of,
    require_survey,
    runs,
    survey,
)
from attncli.problems.visible import Place, Scene, Sight
from attncli.version import __version__
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.mask_picture import Grid, Panel, Panels, legend, span
from attncli.views.records import Column, draw_records

Watched = Callable[[str], AbstractContextManager[Step]]

# Of more places than this a terminal shows the first ones; of the table, so many.
_MOST_PICTURES, _MOST_RECORDS = 3, 24
_MOST_RUNS = 3
_LETTERS = "AB"


class _Seen(NamedTuple):
    """What one place looks like: in each reading, and in each alone where there are two."""

    place: Place
    surveys: list[Survey]
    alone: list[tuple[Array, Array]]

    @property
    def differing(self) -> Array:
        """How many of its pairs differ, for every query."""
        one, other = (counts for counts, _ in self.alone)
        both: Array = one + other
        return both


def _look_at(
    scene: Scene, place: Place, tile: tuple[int, int], step: Step, by: tuple[int, int]
) -> _Seen:
    """Count what is seen at a place, in cells of so many queries and keys."""
    views = [one.visibility for one in scene.sights]
    surveys = [survey(one, place.index, *by, tile=tile, step=step) for one in views]
    pairs = [(views[0], views[1]), (views[1], views[0])] if len(views) > 1 else []
    return _Seen(place, surveys, [alone(*pair, place.index, *by, step=step) for pair in pairs])


def draw_scene(
    scene: Scene, look: Look, tile: tuple[int, int], progress: Watched
) -> Iterator[RenderableType]:
    """Draw the pictures of all places, or of the first; then what was counted."""
    require_survey(scene.shape, tile)
    yield _headline(scene, look)
    if len(scene.sights) > 1:
        for letter, sight in zip(_LETTERS, scene.sights, strict=True):
            yield Text.assemble((f"{letter}  ", "bold"), look.fit(sight.described))
    every = scene.places
    whole = look.plain or look.full
    places, found = every if whole else every[:_MOST_RECORDS], []
    for number, place in enumerate(places):
        drawn = whole or number < _MOST_PICTURES
        rows, columns = (
            None if texts is None else [safe(text, look) for text in texts]
            for texts in (scene.labels(axis, place) for axis in ("T_dec", "T_enc"))
        )
        label_width = _label_width(scene, rows, look)
        grid = Grid.of(scene.shape, len(scene.sights), label_width, look)
        with progress("counting") as step:
            by = (grid.down, grid.across) if drawn else scene.shape
            found.append(_look_at(scene, place, tile, step, by))
        if drawn:
            yield ""
            yield from _pictures(scene, found[-1], grid, rows, columns, label_width, look)
    if not whole and len(places) > _MOST_PICTURES:
        which = " or ".join(f"--{name}" for name in places[0].names)
        more = f"{len(every) - _MOST_PICTURES} more not drawn: {which} shows one, --full all"
        yield from ("", Text(more, "dim italic"))
    yield from ("", draw_records(_columns(scene, found, look), look))
    if len(places) < len(every):
        yield Text(f"{len(every) - len(places)} more not counted: --full counts all", "dim italic")
    told = f"tiles: of {tile[0]} × {tile[1]}, those that an engine has to visit"
    yield Text(look.fit(told), "dim italic")
    if len(scene.sights) > 1:
        yield ""
        yield from (_difference(scene, seen, look) for seen in found)


def _headline(scene: Scene, look: Look) -> Text:
    parts = [safe(scene.source, look) if scene.source else "", ", ".join(scene.arrays)]
    parts.append(" ".join(f"{axis}={size}" for axis, size in scene.sizes.items()))
    if len(scene.sights) == 1:
        parts.append(look.fit(scene.sights[0].described))
    text = Text("show-mask", "bold")
    return text.append("".join(look.dot + part for part in parts if part), "not bold")


def _label_width(scene: Scene, rows: Sequence[str] | None, look: Look) -> int:
    numbers = len(str(scene.shape[0] - 1))
    if rows is None:
        return numbers
    return max(numbers, min(max(map(cell_len, rows), default=0), max(4, look.width // 3)))


def _pictures(
    scene: Scene,
    seen: _Seen,
    grid: Grid,
    rows: Sequence[str] | None,
    columns: Sequence[str] | None,
    label_width: int,
    look: Look,
) -> Iterator[RenderableType]:
    if seen.place.heading:
        yield Text(seen.place.heading, "bold")
    compared = len(scene.sights) > 1
    panels = [
        Panel(
            f"{_LETTERS[number]}  {look.fit(sight.short)}" if compared else "",
            grid,
            one.counts,
            one.cells,
            seen.alone[number][1] if compared else None,
            look,
        )
        for number, (sight, one) in enumerate(zip(scene.sights, seen.surveys, strict=True))
    ]
    for group in [panels] if grid.beside else [[panel] for panel in panels]:
        yield Panels(group, rows, columns, label_width)
    yield legend(grid, look, compared=compared)


def _columns(scene: Scene, found: Sequence[_Seen], look: Look) -> list[Column]:
    """Give the table of what was counted: a line a place and reading."""
    lines = [(seen, number, one) for seen in found for number, one in enumerate(seen.surveys)]
    columns = [
        Column(name, [str(seen.place.names[name]) for seen, _, _ in lines])
        for name in (found[0].place.names if found else ())
    ]
    compared = len(scene.sights) > 1
    if compared:
        columns.append(Column("reading", [_LETTERS[number] for _, number, _ in lines]))
    counted = {
        "seen": [f"{one.seen} of {scene.pairs}" for _, _, one in lines],
        "share": [_percent(one.seen, scene.pairs) for _, _, one in lines],
        "keys a query": [
            span(int(one.counts.min()), int(one.counts.max()), look) for _, _, one in lines
        ],
        "see nothing": [str(len(one.blind)) for _, _, one in lines],
        "tiles": [f"{np.count_nonzero(one.visited)} of {one.visited.size}" for _, _, one in lines],
    }
    if compared:
        counted["here alone"] = [str(int(seen.alone[number][0].sum())) for seen, number, _ in lines]
    return [*columns, *(Column(name, texts, right=True) for name, texts in counted.items())]


def _percent(part: int, whole: int) -> str:
    """Write a share; what is neither all nor nothing never reads so.

    Examples
    --------
    >>> _percent(1, 3), _percent(1, 10**9), _percent(10**9 - 1, 10**9), _percent(2, 2)
    ('33.3 %', '< 0.1 %', '> 99.9 %', '100 %')
    """
    if part in (0, whole):
        return "100 %" if part else "0 %"
    share = 100 * part / whole
    return "< 0.1 %" if share < 0.1 else "> 99.9 %" if share > 99.9 else f"{share:.1f} %"


def _difference(scene: Scene, seen: _Seen, look: Look) -> Text:
    """Say of a place how many pairs differ, and where the first one is."""
    where = f"{seen.place.heading}: " if seen.place.heading else ""
    by_query = seen.differing
    if not by_query.any():
        return Text(f"{where}no difference", "green")
    queries = np.flatnonzero(by_query)
    line = (
        f"{where}{by_query.sum()} of {scene.pairs} pairs differ, in {len(queries)} of "
        f"{scene.shape[0]} queries; the first is query {queries[0]}: "
    )
    said = [
        f"{_LETTERS[number]} alone sees keys {_written(found, look)}"
        for number, found in enumerate(_first(scene, seen.place.index, int(queries[0])))
        if found
    ]
    return Text(look.fit(line + ", ".join(said)), "bold")


def _first(scene: Scene, index: Index, query: int) -> list[Runs]:
    """Give the keys that one query sees in each reading alone."""
    T_enc = scene.shape[1]
    rows = [
        np.broadcast_to(True if seen is None else seen, T_enc)
        for seen in (one.visibility.row(query, index)[1] for one in scene.sights)
    ]
    return [runs(rows[0] & ~rows[1]), runs(rows[1] & ~rows[0])]


def _written(found: Runs, look: Look) -> str:
    texts = [span(first, last, look) for first, last in found[:_MOST_RUNS]]
    return ", ".join([*texts, look.ellipsis] if len(found) > _MOST_RUNS else texts)


def scene_as_json(scene: Scene, tile: tuple[int, int], progress: Watched) -> dict[str, Any]:
    """Give the object that ``--json`` prints; what each query sees, as it is printed."""
    with progress("counting") as step:
        found = [_look_at(scene, place, tile, step, scene.shape) for place in scene.places]
    result = {
        "attn": __version__,
        "command": "show-mask",
        "source": scene.source or None,
        "arrays": list(scene.arrays),
        "sizes": scene.sizes,
        "readings": (
            {
                "name": sight.short,
                "options": sight.options,
                "places": (
                    _place_as_json(scene, sight, seen.place, seen.surveys[number], tile)
                    for seen in found
                ),
            }
            for number, sight in enumerate(scene.sights)
        ),
    }
    if len(scene.sights) > 1:
        result["differences"] = (_difference_as_json(scene, seen) for seen in found)
    return result


def _place_as_json(
    scene: Scene, sight: Sight, place: Place, one: Survey, tile: tuple[int, int]
) -> dict[str, Any]:
    return {
        **place.names,
        "seen": one.seen,
        "pairs": scene.pairs,
        "share": one.seen / scene.pairs if scene.pairs else None,
        "counts": one.counts,
        "see_nothing": one.blind,
        "tiles": {
            "size": list(tile),
            "visited": int(np.count_nonzero(one.visited)),
            "of": one.visited.size,
            "of_queries": [runs(row) for row in one.visited],
        },
        "keys": keys_of(sight.visibility, place.index),
    }


def _difference_as_json(scene: Scene, seen: _Seen) -> dict[str, Any]:
    by_query = seen.differing
    queries = np.flatnonzero(by_query)
    result: dict[str, Any] = {
        **seen.place.names,
        "pairs": int(by_query.sum()),
        "alone": [int(counts.sum()) for counts, _ in seen.alone],
        "queries": queries,
        "first": None,
    }
    if len(queries):
        query = int(queries[0])
        result["first"] = {"query": query, "alone": _first(scene, seen.place.index, query)}
    return result
