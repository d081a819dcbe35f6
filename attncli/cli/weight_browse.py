"""``--browse``: one matrix after the other on a terminal, moved about in with keys."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

from attncli.cli.keyboard import (
    DOWN,
    END,
    ENTER,
    ERASE,
    ESCAPE,
    HOME,
    LEFT,
    PAGE_DOWN,
    PAGE_UP,
    RIGHT,
    UP,
    full_screen,
)
from attncli.cli.screen import Screen
from attncli.cli.weight_film import can_play
from attncli.errors import AttnError, AttnWarning, ParameterError
from attncli.views.gallery import Gallery
from attncli.views.heads import SORTS, Head, sort_heads
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.picture import WeightMatrix
from attncli.views.scrolled import ZOOMS, Seen, draw_part, find
from attncli.weights.selection import Chosen, Selection
from attncli.weights.wanted import DEFAULT_TOP

_QUIT = ("q", ESCAPE, "\x04")
# What tells matrices apart, from the outermost on, and the key that goes to the next.
_AXES = {"f": "frame", "p": "part", "i": "item", "l": "layer", "h": "head"}
# Rows down and columns to the right: one by one, by screens, to the ends.
_STEPS = {DOWN: (1, 0), "j": (1, 0), UP: (-1, 0), "k": (-1, 0), RIGHT: (0, 1), LEFT: (0, -1)}
_SCREENS = {
    PAGE_DOWN: (1, 0), " ": (1, 0), PAGE_UP: (-1, 0), "b": (-1, 0), ">": (0, 1), "<": (0, -1)
}  # fmt: skip
_ENDS = {HOME: (-1, 0), "g": (-1, 0), END: (1, 0), "G": (1, 0)}
_FAR = 1 << 40  # behind every end
_HELP = """\
arrows, j k       a row or column further
Space, Page Down  a screen; b, Page Up
> <               a screen of columns
Home End, g G     the first, the last
/                 finds a word; then
n N               the next, the former
z Z               closer: cells, table,
                  list; or back
h l i p f         next head, layer, item,
                  part, frame; as
                  capitals: the former
s S               other orders of heads
q, Escape         quit"""
_TALL = 15  # lines, of which two can be spared for the keys


class Browser:
    """Where one is among the matrices, and in the one that is looked at.

    Parameters
    ----------
    chosen : sequence of Chosen
    zoom : str, optional
        How close to begin; without it as close as shows words.
    sort : str, optional
        The order of heads to begin with.
    orders : sequence of str
        Those that mean something here.
    """

    def __init__(
        self,
        chosen: Sequence[Chosen],
        zoom: str | None = None,
        sort: str | None = None,
        orders: Sequence[str] = (),
    ) -> None:
        self.chosen = chosen
        self.zoom = zoom
        last = chosen[-1].names.get("frame")  # what has been learned comes first
        self.current = next(one for one in chosen if one.names.get("frame") == last)
        self.orders: list[str | None] = [None, *orders]
        self.sort = sort if sort in orders else None
        self.sorted: list[Head] = []
        self.first = (0, 0)
        self.typed: str | None = None
        self.word, self.found = "", 0
        self.helps: int | None = None  # at which page
        # What was drawn last.
        self.rows: Sequence[str] = ()
        self.columns: Sequence[str] = ()
        self.seen = Seen("whole", "", range(0), range(0))

    def press(self, key: str) -> bool:
        """Do what a key says; return whether there is more to come."""
        step = 1 if key.islower() else -1
        if self.typed is not None:
            self._type(self.typed, key)
        elif self.helps is not None:
            self.helps += 1
        elif key in _QUIT:
            return False
        elif key.lower() in _AXES and key not in _ENDS:
            self._go(_AXES[key.lower()], step)
        elif key in _STEPS or key in _SCREENS or key in _ENDS:
            self._scroll(key)
        elif key in ("z", "Z"):
            self.zoom = ZOOMS[(ZOOMS.index(self.seen.zoom) + step) % len(ZOOMS)]
        elif key in ("s", "S"):
            self.sort = self.orders[(self.orders.index(self.sort) + step) % len(self.orders)]
        elif key in ("n", "N"):
            self._show(self.found + step)
        elif key == "/":
            self.typed = ""
        elif key == "?":
            self.helps = 0
        return True

    def _type(self, typed: str, key: str) -> None:
        """Take a letter of the word that is looked for."""
        if key in (ENTER, ESCAPE, "\x04"):
            self.typed = None
            if key == ENTER and typed:
                self.word = typed
                self._show(0)
        elif key == ERASE:
            self.typed = typed[:-1]
        elif key.isprintable():
            self.typed = typed + key

    @property
    def places(self) -> list[tuple[str, int]]:
        """Where the word is that was looked for, in the matrix that is looked at."""
        return find(self.word, self.rows, self.columns) if self.word else []

    def _show(self, number: int) -> None:
        """Bring one of these places into view."""
        places, seen = self.places, self.seen
        if not places:
            return
        self.found = number % len(places)
        axis, place = places[self.found]
        row, column = self.first
        if axis == "row" and not (seen.worded and place in seen.rows):
            row = place - 2
        if axis == "column" and not (seen.worded and place in seen.columns):
            column = place - 2
        self._look_from(row, column)

    def _scroll(self, key: str) -> None:
        seen, (down, right) = self.seen, {**_STEPS, **_SCREENS, **_ENDS}[key]
        if key not in _STEPS:
            if down and len(seen.rows) == len(self.rows) and seen.worded:
                down, right = 0, down  # what is left to be gone through are the columns
            rows, columns = len(seen.rows), len(seen.columns)
            if key in _ENDS:
                rows = columns = _FAR
            elif not seen.worded:
                rows = columns = 0  # the first screen of words comes first
            down, right = down * rows, right * columns
        self._look_from(self.first[0] + down, self.first[1] + right)

    def _look_from(self, row: int, column: int) -> None:
        if not self.seen.worded:
            self.zoom = "cells"
        self.first = max(0, row), max(0, column)

    def among(self, name: str) -> list[Any]:
        """List what one can go to by a name: those beside which all that is further out is same."""
        every = [*_AXES.values()]
        outer, names = every[: every.index(name)], self.current.names
        same = [one.names for one in self.chosen if _differing(one.names, names, outer) == []]
        return list(dict.fromkeys(one[name] for one in same if name in one))

    def _go(self, name: str, by: int) -> None:
        """Go to the next of a kind; within it to the same place, or the nearest there is."""
        if name == "head" and self.sorted:
            at = [head.names for head in self.sorted].index(self.current.names)
            names = self.sorted[(at + by) % len(self.sorted)].names
        elif len(values := self.among(name)) > 1:
            at = values.index(self.current.names[name])
            names = {**self.current.names, name: values[(at + by) % len(values)]}
        else:
            return
        every = [*_AXES.values()]
        self.current = min(
            self.chosen,
            key=lambda one: [one.names.get(x) != names.get(x) for x in every],
        )

    def keys(self) -> list[str]:
        """Say what the keys do, as far as they do anything, what matters most first."""
        every = [
            f"{key} {name}" for key, name in reversed(_AXES.items()) if len(self.among(name)) > 1
        ]
        if len(self.sorted) > 1 and "h head" not in every:
            every.insert(0, "h head")
        seen = len(self.seen.rows), len(self.seen.columns)
        if seen != (len(self.rows), len(self.columns)) or not self.seen.worded:
            every += ["arrows Space End scroll"]
        every += ["/ find"] + (["n next"] if len(self.places) > 1 else []) + ["z zoom"]
        return every + (["s sort"] if len(self.chosen) > 1 else [])


def _differing(one: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if one.get(name) != other.get(name)]


def browse(selection: Selection, screen: Screen) -> None:
    """Show one matrix at a time until told to stop; what was on the screen before comes back.

    Raises
    ------
    ParameterError
        If there is no terminal, or nothing to page through.
    """
    if screen.as_json or screen.quiet or not can_play(screen):
        raise ParameterError(
            "--browse needs a terminal, for what it shows and for the keys",
            hint="--layer, --item and --head choose without one",
        )
    if not selection.matrices:
        label = selection.source.label
        raise ParameterError(f"--browse: {label} holds no weights to page through")
    wanted = selection.wanted
    zoom = "list" if wanted.lists else "whole" if wanted.view == "heatmap" else wanted.view
    if wanted.sort is not None:
        selection.check_order(wanted.sort)
    browser = Browser(selection.matrices, zoom, wanted.sort, list(_orders(selection)))
    stage = _Stage(selection, browser)
    with full_screen(Console(force_terminal=True, legacy_windows=False)) as read_keys:
        keys: list[str] | None = []
        while keys is not None and all(browser.press(key) for key in keys):
            stage.draw(screen.anew())
            keys = read_keys()


def _orders(selection: Selection) -> Iterator[str]:
    for order in SORTS:
        with contextlib.suppress(ParameterError):
            selection.check_order(order)
            yield order


class _Stage:
    """Draws what a browser looks at; what is loaded and measured of it is kept."""

    def __init__(self, selection: Selection, browser: Browser) -> None:
        self.selection, self.browser = selection, browser
        self.loaded: tuple[Chosen, WeightMatrix | AttnError, str] | None = None
        self.measured: dict[int, Head] = {}

    def draw(self, screen: Screen) -> None:
        """Draw the matrix and the keys, and not a line more than there are."""
        browser, look, height = self.browser, screen.look, screen.look.height
        gallery = Gallery(self.selection, look)
        if browser.helps is not None:
            page = _HELP.splitlines()[browser.helps * (height - 1) :][: height - 1]
            if page:
                screen.show_at_most(height, *page, last=Text("any key goes on", "dim"), over=True)
                return
            browser.helps = None
        self._sort(gallery, screen, height)
        picture, warning = self._load(gallery)
        above = [Text(gallery.title, "bold", no_wrap=True, overflow="ellipsis")]
        above = above if height >= _TALL else []
        if warning:
            above.append(Text(warning, "yellow", no_wrap=True, overflow="ellipsis"))
        if isinstance(picture, AttnError):  # one bad head is no reason to stop
            below = self._keys(look, height)
            said = Text(f"{browser.current.heading}  {safe(str(picture), look)}", "red")
            screen.show_at_most(height, *map(Group, above), said, last=below, over=True)
            return
        browser.rows, browser.columns = picture.rows, picture.columns
        places = browser.places
        found = places[min(browser.found, len(places) - 1)] if places else None
        browser.seen = draw_part(
            picture,
            # Digits asked for would be a table.
            dataclasses.replace(look, precision=None) if browser.zoom != "table" else look,
            browser.first,
            zoom=browser.zoom,
            height=height - len(above) - 2 - (height >= _TALL),
            found=found,
            top=self.selection.wanted.top or DEFAULT_TOP,
        )
        if browser.seen.worded:
            browser.first = browser.seen.rows.start, browser.seen.columns.start
        above.append(Text(self._where(picture, found), no_wrap=True, overflow="ellipsis"))
        below = self._keys(look, height)
        drawn = browser.seen.drawn
        screen.show_at_most(height, *map(Group, above), drawn, last=below, over=True)

    def _load(self, gallery: Gallery) -> tuple[WeightMatrix | AttnError, str]:
        """Load the matrix, but for the one that is there already, and what it warns of."""
        one = self.browser.current
        if self.loaded is None or self.loaded[0] is not one:
            picture: WeightMatrix | AttnError
            with warnings.catch_warnings(record=True) as odd:  # a line of its own, not one a key
                warnings.simplefilter("always", AttnWarning)
                try:
                    picture = gallery.picture(one)
                except AttnError as error:
                    picture = error
            said = safe(str(odd[0].message), gallery.look) if odd else ""
            self.loaded = one, picture, said
        return self.loaded[1:]

    def _sort(self, gallery: Gallery, screen: Screen, height: int) -> None:
        """Put the heads in order; for that all of them are read, once."""
        browser, selection = self.browser, self.selection
        browser.sorted = []
        if browser.sort is None:
            return
        frame = browser.current.names.get("frame")
        every = [one for one in browser.chosen if one.names.get("frame") == frame]
        for number, one in enumerate(every):
            if id(one) in self.measured:
                continue
            said = Text(f"reading the heads to sort them: {number} of {len(every)}")
            screen.show_at_most(height, said, last="", over=True)
            cut = selection.cut(one)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AttnWarning)  # they come when it is shown
                statistics = selection.statistics(one, cut, one.load(cut))
            self.measured[id(one)] = Head(one.names, statistics, selection.of_itself(one))
        browser.sorted = sort_heads([self.measured[id(one)] for one in every], browser.sort)

    def _where(self, picture: WeightMatrix, found: tuple[str, int] | None) -> str:
        """Say which matrix this is, which part of it is seen, and what was found."""
        browser = self.browser
        telling = self.selection.telling
        names = {name: browser.current.names[name] for name in telling}
        seen, says = browser.seen, [dataclasses.replace(browser.current, names=names).heading]
        if browser.sorted:
            at = [head.names for head in browser.sorted].index(browser.current.names)
            value = browser.sorted[at].value(browser.sort or "")
            says.append(f"{at + 1} of {len(browser.sorted)} by {browser.sort} {value:.2f}")
        for axis, part, count, number in (
            ("row", seen.rows, len(picture.rows), picture.row_number),
            ("column", seen.columns, len(picture.columns), picture.column_number),
        ):
            if found is not None and found[0] == axis:
                says.append(
                    f"{browser.word}: {axis} {number(found[1])}, "
                    f"{browser.found + 1} of {len(browser.places)}"
                )
            if len(part) < count:
                says.append(f"{axis}s {number(part[0])}-{number(part[-1])} of {count}")
        if browser.word and found is None:
            says.append(f"{browser.word} is not here")
        return "  ".join(filter(None, says))

    def _keys(self, look: Look, height: int) -> Group:
        """Write what the keys do, as much of it as there is room for."""
        if self.browser.typed is not None:
            said = f"/{safe(self.browser.typed, look) if self.browser.typed else ''}_"
            return Group(Text(f"{said}   Enter finds it, Escape leaves it", no_wrap=True))
        keys, most = self.browser.keys(), 2 if height >= _TALL else 1
        while len(lines := _packed([*keys, "? keys", "q quit"], look.width)) > most and keys:
            keys.pop()
        return Group(*(Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in lines))


def _packed(texts: Sequence[str], width: int) -> list[str]:
    """Put texts beside each other, on as many lines as that takes."""
    lines = [texts[0]]
    for text in texts[1:]:
        if cell_len(lines[-1]) + 2 + cell_len(text) <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines
