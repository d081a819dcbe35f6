"""``--browse``: one matrix after the other on a terminal, chosen with the arrow keys."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console, Group
from rich.text import Text

from attncli.cli.keyboard import full_screen
from attncli.cli.screen import Screen
from attncli.errors import AttnError, AttnWarning, ParameterError
from attncli.views.gallery import Gallery
from attncli.views.labels import safe
from attncli.views.ways import draw_weights
from attncli.weights.selection import Chosen, Selection
from attncli.weights.wanted import DEFAULT_TOP

# What a key does: the axis it moves along, and by how much. Terminals send arrows in two ways.
_MOVES = {
    "\x1b[C": ("head", 1), "\x1bOC": ("head", 1), "l": ("head", 1),
    "\x1b[D": ("head", -1), "\x1bOD": ("head", -1), "h": ("head", -1),
    "\x1b[B": ("layer", 1), "\x1bOB": ("layer", 1), "j": ("layer", 1),
    "\x1b[A": ("layer", -1), "\x1bOA": ("layer", -1), "k": ("layer", -1),
    "\x1b[6~": ("item", 1), "n": ("item", 1),
    "\x1b[5~": ("item", -1), "p": ("item", -1),
}  # fmt: skip
_QUIT = ("q", "\x1b", "\x04")
_NAMES = ("layer", "item", "head")
_VIEWS: tuple[str | None, ...] = (None, "heatmap", "list")
_HELP_LINES = 3


class Browser:
    """Where one is among the matrices, and how they are drawn.

    Parameters
    ----------
    chosen : sequence of Chosen
    """

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        self.chosen = chosen
        self.values: dict[str, list[Any]] = {
            name: list(dict.fromkeys(one.names[name] for one in chosen))
            for name in _NAMES
            if name in chosen[0].names
        }
        self.at = dict.fromkeys(self.values, 0)
        self.view = 0

    def press(self, key: str) -> bool:
        """Do what a key says; return whether there is more to come."""
        if key in _QUIT:
            return False
        if key == "v":
            self.view = (self.view + 1) % len(_VIEWS)
        if key in _MOVES:
            name, by = _MOVES[key]
            # With one layer, up and down page through the items.
            if len(self.values.get(name, ())) < 2 and name == "layer":
                name = "item"
            if name in self.at:
                self.at[name] = (self.at[name] + by) % len(self.values[name])
        return True

    @property
    def current(self) -> Chosen:
        """The matrix that is looked at; layers may have different heads."""
        wanted = {name: self.values[name][at] for name, at in self.at.items()}
        return next((one for one in self.chosen if one.names == wanted), self.chosen[0])

    def keys(self, arrows: str) -> str:
        """Say what the keys do, as far as they do anything."""
        several = {name: len(values) > 1 for name, values in self.values.items()}
        parts = [f"{arrows[:2]} head"] if several.get("head") else []
        parts += [f"{arrows[2:]} layer"] if several.get("layer") else []
        if several.get("item"):
            parts += ["page up/down item" if several.get("layer") else f"{arrows[2:]} item"]
        return "   ".join([*parts, "v view", "q quit"])


def browse(selection: Selection, screen: Screen) -> None:
    """Show one matrix at a time until told to stop; what was on the screen before comes back.

    Raises
    ------
    ParameterError
        If there is no terminal, or nothing to page through.
    """
    if screen.as_json or screen.quiet or screen.look.plain or not sys.stdin.isatty():
        raise ParameterError(
            "--browse needs a terminal, for what it shows and for the keys",
            hint="--layer, --item and --head choose without one",
        )
    if not selection.matrices:
        label = selection.source.label
        raise ParameterError(f"--browse: {label} holds no weights to page through")
    browser = Browser(selection.matrices)
    with full_screen(Console(force_terminal=True, legacy_windows=False)) as read_keys:
        keys: list[str] | None = []
        while keys is not None and all(browser.press(key) for key in keys):
            click.clear()
            # A new one each time: the terminal may have another size by now.
            _draw(browser, selection, dataclasses.replace(screen))
            keys = read_keys()


def _draw(browser: Browser, selection: Selection, screen: Screen) -> None:
    """Draw the matrix and the keys, and not a line more than there are."""
    look = dataclasses.replace(screen.look, height=screen.look.height - _HELP_LINES)
    height = screen.look.height - 1  # the line that the cursor is left on
    one, wanted = browser.current, selection.wanted
    gallery = Gallery(selection, look)
    name = Text(gallery.title, "bold", no_wrap=True, overflow="ellipsis")
    heading = Group(name)  # a console joins bare texts into one that wraps
    arrows = "←→↑↓" if look.unicode else "<>^v"
    keys = Group(Text(browser.keys(arrows), "dim", no_wrap=True, overflow="ellipsis"))
    try:
        with warnings.catch_warnings(record=True) as odd:  # a line of its own, not one a key
            warnings.simplefilter("always", AttnWarning)
            picture = gallery.picture(one)
    except AttnError as error:  # one bad head is no reason to stop
        screen.show_at_most(height, heading, Text(f"{one.heading}  {error}", "red"), last=keys)
        return
    for warning in odd[:1]:
        text = safe(str(warning.message), look)
        name.append(f"\n{text}", "not bold yellow")
    view = _VIEWS[browser.view]
    if view == "list" or wanted.lists:
        rows = max(1, look.height - 4)
        left_out = len(picture.rows) - rows
        top = wanted.top or DEFAULT_TOP
        drawn = draw_weights(picture.first_rows(rows), look, view="list", top=top)
        more = [Text(f"{left_out} more rows: --rows", "dim italic")] if left_out > 0 else []
        screen.show_at_most(height, heading, drawn, *more, last=keys)
        return
    view = view or (None if wanted.view == "list" else wanted.view)
    look = dataclasses.replace(look, precision=None)  # digits asked for would be a table
    drawn = draw_weights(picture, look, view=view, lines=look.height)
    screen.show_at_most(height, heading, drawn, last=keys)
