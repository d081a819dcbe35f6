"""``--frames``: how weights changed in the course of a training, played on a terminal."""

from __future__ import annotations

import dataclasses
import sys

from rich.console import Console
from rich.text import Text

from attncli.cli.keyboard import ESCAPE, LEFT, RIGHT, full_screen
from attncli.cli.screen import Screen
from attncli.views.film import caption, draw_frame, shots
from attncli.views.gallery import Gallery
from attncli.weights.selection import Selection

_SECONDS = 8.0  # the whole of it
_FASTEST, _SLOWEST = 0.05, 0.5  # seconds a frame
_STEPS = {RIGHT: 1, "l": 1, LEFT: -1, "h": -1}
_QUIT = ("q", ESCAPE, "\x04")
_LINES_AROUND = 4


class Player:
    """Which frame is shown, and whether the next comes by itself.

    Parameters
    ----------
    count : int
        How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count, self.at, self.plays, self.over = count, 0, True, False
        self.delay = min(_SLOWEST, max(_FASTEST, _SECONDS / count))

    def go_on(self, keys: list[str] | None) -> None:
        """Do what keys say; where there were none, go on to the next frame or to the end."""
        if keys is None or any(key in _QUIT for key in keys):
            self.over = True
        for key in keys or ():
            if key == " ":
                self.plays = not self.plays
            elif key in _STEPS:
                self.plays, self.at = False, (self.at + _STEPS[key]) % self.count
        if not keys and self.plays:
            self.over = self.over or self.at == self.count - 1
            self.at = min(self.at + 1, self.count - 1)


def can_play(screen: Screen) -> bool:
    """Whether there is a terminal, for what is shown and for the keys."""
    there = not screen.look.plain and sys.stdin.isatty()
    return there and not Console().is_dumb_terminal


def play(selection: Selection, screen: Screen) -> None:
    """Show frame after frame to the last, or until told to stop; the screen is then as before."""
    gallery = Gallery(selection, screen.look).alike(screen.progress)
    every, frames = shots(gallery), selection.frames
    assert frames is not None
    player = Player(len(every))
    console = Console(force_terminal=True, legacy_windows=False)
    with full_screen(console) as read_keys:
        while not player.over:
            now = screen.anew(precision=None)
            height = now.look.height
            look = dataclasses.replace(now.look, height=height - _LINES_AROUND)
            gallery = dataclasses.replace(gallery, look=look)
            name = Text(gallery.title, "bold", no_wrap=True, overflow="ellipsis")
            said = Text(f"frame {player.at} of {player.count}  ", no_wrap=True)
            caption(said, frames.steps[player.at], frames.loss[: player.at + 1], look)
            picture = draw_frame(gallery, every[player.at])
            arrows = "←→" if look.unicode else "<>"
            does = "stop" if player.plays else "play"
            keys = Text(f"space {does}   {arrows} step   q quit", "dim", no_wrap=True)
            now.show_at_most(height, name, said, "", picture, last=keys, over=True)
            player.go_on(read_keys(player.delay if player.plays else None))
