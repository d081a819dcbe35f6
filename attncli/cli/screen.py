"""Standard output and standard error: results as rich renderables or JSON, and notes."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
from rich.console import COLOR_SYSTEMS, Console, RenderableType
from rich.segment import Segment

from attncli.cli.streams import say, silence_stdout
from attncli.errors import FileError
from attncli.views.json_text import json_pieces
from attncli.views.look import Look

_WIDEST = 2000  # columns; what claims to be wider is filled no further
_PRINTED_AT_ONCE = 1 << 16  # characters


@dataclass(frozen=True)
class Screen:
    """What a command prints to.

    Attributes
    ----------
    as_json : bool
        The result is one JSON object.
    color : {"auto", "always", "never"}
    quiet : bool
        No tables and no notes.
    verbose : bool
        More notes.
    precision : int or None
        Digits behind the point; None leaves it to the view.
    full : bool
        Every number, however many there are.
    """

    as_json: bool = False
    color: str = "auto"
    quiet: bool = False
    verbose: bool = False
    precision: int | None = None
    full: bool = False

    @cached_property
    def look(self) -> Look:
        """What standard output can show."""
        shown: dict[str, Any] = {
            "encoding": getattr(sys.stdout, "encoding", None) or "utf-8",
            "color": self._color_system is not None,
            "few_colors": self._color_system == "standard",
            "indexed": self._color_system == "256",
            "precision": self.precision,
            "full": self.full,
        }
        if not sys.stdout.isatty():
            return Look.piped(**shown)
        import shutil

        size = shutil.get_terminal_size()
        return Look.terminal(min(size.columns, _WIDEST), height=size.lines, **shown)

    @cached_property
    def _color_system(self) -> str | None:
        dumb = os.environ.get("TERM") in ("dumb", "unknown")
        if self.color == "never":
            return None
        if self.color == "auto" and (os.environ.get("NO_COLOR") or dumb or not sys.stdout.isatty()):
            return None
        found = Console(file=io.StringIO(), force_terminal=True, no_color=False).color_system
        if self.color == "always" and found != "truecolor":
            return "256"  # who asks for colour means one that shows shades
        return found

    def show(self, *renderables: RenderableType) -> None:
        """Print results; nothing is cut, and lines have no spaces at their ends."""
        if not self.quiet:
            _print(f"{line}\n" for line in self._lines(*renderables))

    def show_at_most(self, height: int, *renderables: RenderableType, last: RenderableType) -> None:
        """Print what fits on so many lines, saying how many more there are, and a last line."""
        lines, end = self.lines(*renderables), self.lines(last)
        if (more := len(lines) + len(end) - height) > 0:
            cut = height - len(end) - 1
            lines = [*lines[:cut], f"{more + 1} more lines: a taller window shows them"]
        _print(f"{line}\n" for line in [*lines, *end])

    def lines(self, *renderables: RenderableType) -> list[str]:
        """Render to lines of text, with the codes of their colours."""
        return list(self._lines(*renderables))

    def _lines(self, *renderables: RenderableType) -> Iterator[str]:
        """Render line by line: a large table is never there as a whole."""
        colors: Any = self._color_system
        console = Console(
            file=io.StringIO(),
            width=self.look.width,
            force_terminal=colors is not None,
            color_system=colors,
            no_color=colors is None,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )
        options = console.options
        if self.look.plain:
            options = options.update(no_wrap=True, overflow="ignore")
        segments = (
            segment for renderable in renderables for segment in console.render(renderable, options)
        )
        # Nothing piped is cut at any width.
        split = (
            Segment.split_lines(segments)
            if self.look.plain
            else Segment.split_and_crop_lines(
                segments, self.look.width, pad=False, include_new_lines=False
            )
        )
        for line in split:
            texts = (
                style.render(text, color_system=COLOR_SYSTEMS.get(colors)) if style else text
                for text, style, _ in line
            )
            yield "".join(texts).rstrip(" ")

    def show_json(self, value: dict[str, Any]) -> None:
        """Print one JSON object; arrays in it become text piece by piece."""
        _print(itertools.chain(json_pieces(value), ["\n"]))

    def note(self, message: str) -> None:
        """Say something beside the result, unless quiet."""
        if message and not self.quiet:
            say(message)

    def hint(self, command: str) -> None:
        """Say what to do next, unless quiet."""
        if not self.quiet:
            say(command, "hint:  ", "cyan")

    def detail(self, message: str) -> None:
        """Say something that only ``-v`` asks for."""
        if self.verbose:
            say(message)

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show how far a long step is, on a terminal: call it with what is done and what there is.

        Nothing appears before a second has passed.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        bar = ProgressBar(what)
        try:
            yield bar.update
        finally:
            bar.close()

    @contextlib.contextmanager
    def calculating(self, what: str) -> Iterator[None]:
        """Show how far a calculation is, and say, if ``-v`` asks for it, how long it took."""
        from attncli.core.progress import watching

        with self.timed(what), self.progress(what) as progress, watching(progress):
            yield

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Say, if ``-v`` asks for it, how long a step took."""
        start = time.perf_counter()
        yield
        self.detail(f"{what}: {(time.perf_counter() - start) * 1e3:.1f} ms")


class ProgressBar:
    """A bar on standard error, with the time left; it appears when a step turns out to be long."""

    _APPEARS_AFTER = 1.0  # seconds

    def __init__(self, what: str) -> None:
        self.what, self.start = what, time.perf_counter()
        self.bar: Any = None

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` parts are done."""
        if self.bar is None:
            if time.perf_counter() - self.start < self._APPEARS_AFTER:
                return
            self._appear(total)
        self.bar.update(self.task, completed=done, total=total)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def _appear(self, total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(self.what, total=total)
        self.bar.start()


def _print(pieces: Iterable[str]) -> None:
    """Print a result; if its reader has gone, the rest of the command still runs, unheard."""
    try:
        for text in _gathered(pieces):
            # The text is as it should be: click would strip colours.
            click.echo(text, color=True, nl=False)
    except BrokenPipeError:
        silence_stdout()
    except OSError as error:
        silence_stdout()
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"standard output: cannot be written: {reason}") from None


def _gathered(pieces: Iterable[str]) -> Iterator[str]:
    """Put pieces together to some that are worth a call of the system each."""
    gathered, length = list[str](), 0
    for piece in pieces:
        gathered.append(piece)
        length += len(piece)
        if length >= _PRINTED_AT_ONCE:
            yield "".join(gathered)
            gathered, length = [], 0
    yield "".join(gathered)
