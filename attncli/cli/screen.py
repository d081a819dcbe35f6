"""Standard output and standard error: results as rich renderables or JSON, and notes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import click
from rich.console import Console, RenderableType

from attncli.cli.streams import say, silence_stdout
from attncli.errors import FileError, harmless
from attncli.views.json_text import object_pieces
from attncli.views.look import Look
from attncli.views.rendering import lines, look_of

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
    theme : {"auto", "light", "dark"} or None
        What the background is; None where there are no shades to go by it.
    """

    as_json: bool = False
    color: str = "auto"
    quiet: bool = False
    verbose: bool = False
    precision: int | None = None
    full: bool = False
    theme: str | None = None

    @cached_property
    def look(self) -> Look:
        """What standard output can show."""
        return look_of(
            sys.stdout, color=self.color, precision=self.precision, full=self.full,
            theme=self.theme, ask=self.theme is not None,
        )  # fmt: skip

    @property
    def is_read(self) -> bool:
        """Whether a result is shown at all; what is not is not computed."""
        return self.as_json or not self.quiet

    @property
    def draws_in_place(self) -> bool:
        """Whether what is drawn on standard output can be drawn over."""
        return not self.look.plain and os.environ.get("TERM") not in ("dumb", "unknown")

    def anew(self, **changes: Any) -> Screen:
        """Give it as it is now: a terminal may have another size.

        Its background is not asked for again: between keys the answer would be taken for some.
        """
        return replace(self, theme="light" if self.look.light else "dark", **changes)

    def show(self, *renderables: RenderableType) -> None:
        """Print results; nothing is cut, and lines have no spaces at their ends."""
        self.show_lines(lines(self.look, *renderables))

    def show_lines(self, rendered: Iterable[str]) -> None:
        """Print results that are rendered already."""
        if not self.quiet:
            _print(f"{line}\n" for line in rendered)

    def show_at_most(
        self, height: int, *renderables: RenderableType, last: RenderableType, over: bool = False
    ) -> None:
        """Print what fits on so many lines, saying how many more there are, and a last line.

        With `over` it takes the place of what is on the screen, line by line, so that nothing
        flickers, and the last line is the last of so many.
        """
        drawn, end = list(lines(self.look, *renderables)), list(lines(self.look, last))
        while over and drawn and not drawn[-1]:
            drawn.pop()
        if (more := len(drawn) + len(end) - height) > 0:
            cut = height - len(end) - 1
            drawn = [*drawn[:cut], f"{more + 1} more lines: a taller window shows them"]
        elif over:
            drawn += [""] * -more
        # Erased before it is written: behind a line as wide as the screen its last letter would go.
        home, erase, at_end = ("\x1b[H", "\x1b[K", "") if over else ("", "", "\n")
        _print([home, "\n".join(f"{erase}{line}" for line in [*drawn, *end]), at_end])

    def show_json(self, value: dict[str, Any]) -> None:
        """Print one JSON object; arrays in it become text piece by piece."""
        _print(object_pieces(value))

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
    def progress(self, what: str, *, piped: bool = False) -> Iterator[ProgressBar]:
        """Show how far a long step is, on a terminal: call it with what is done and what there is.

        Nothing appears before a second has passed. With `piped` it is said line by line where there
        is no terminal.
        """
        drawn = self._shows_progress
        said = piped and not self.quiet and not drawn
        bar = ProgressBar(what, shown=drawn or said, said=said)
        try:
            yield bar
        finally:
            bar.close()

    @property
    def _shows_progress(self) -> bool:
        dumb = os.environ.get("TERM") in ("dumb", "unknown")  # nothing is taken away again there
        return not self.quiet and sys.stderr.isatty() and not dumb

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say on a terminal what is waited for, if that takes more than a second."""
        if not self._shows_progress:
            yield
            return
        terminal, said = sys.stderr, harmless(what)[: self.look.width - 1]
        after = min(ProgressBar._APPEARS_AFTER, threading.TIMEOUT_MAX)
        shown = list[None]()
        show = partial(print, said, end="\r", file=terminal, flush=True)
        timer = threading.Timer(after, lambda: shown.append(show()))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            with contextlib.suppress(OSError):
                print(end="\x1b[K" if shown else "", file=terminal, flush=True)

    @contextlib.contextmanager
    def calculating(self, what: str) -> Iterator[ProgressBar]:
        """Show how far a calculation is, and say, if ``-v`` asks for it, how long it took."""
        from attncli.core.progress import watching

        with self.timed(what), self.progress(what) as progress, watching(progress):
            yield progress

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Say, if ``-v`` asks for it, how long a step took."""
        start = time.perf_counter()
        yield
        self.detail(f"{what}: {(time.perf_counter() - start) * 1e3:.1f} ms")


class ProgressBar:
    """A bar on standard error, with the time left; it appears when a step turns out to be long.

    Attributes
    ----------
    beside : str
        What is said behind it, such as who is at work; of what takes so long that it matters.
    """

    _APPEARS_AFTER, _SAID_EVERY = 1.0, 10.0  # seconds

    def __init__(self, what: str, *, shown: bool = True, said: bool = False) -> None:
        self.what, self.shown, self.said = what, shown, said
        self.start = time.perf_counter()
        self.bar: Any = None
        self.beside = ""

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` parts are done."""
        if not self.shown:
            return
        if self.bar is None:
            shown_after = self._SAID_EVERY if self.said else self._APPEARS_AFTER
            if time.perf_counter() - self.start < shown_after:
                return
            if self.said:
                say(f"{self.what}: {done} of {total}")
                self.start = time.perf_counter()
                return
            self._appear(total)
        self.bar.update(self.task, completed=done, total=total, beside=self.beside)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let something else be printed meanwhile."""
        if self.bar is not None:
            self.bar.stop()
        yield
        if self.bar is not None:
            self.bar.start()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def _appear(self, total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()]
        if self.beside:
            columns.insert(2, TextColumn("{task.percentage:.0f} %"))
            columns.append(TextColumn("left · {task.fields[beside]}"))
        console = Console(stderr=True)
        # The steps of what others do are far between.
        self.bar = Progress(*columns, console=console, transient=True, speed_estimate_period=600)
        self.task = self.bar.add_task(self.what, total=total, beside=self.beside)
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
