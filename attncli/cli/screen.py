"""Standard output and standard error: results as rich renderables or JSON, and notes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
import numpy as np
from rich.console import Console, RenderableType

from attncli.arrays import Array
from attncli.cli.streams import say, silence_stdout
from attncli.errors import FileError
from attncli.views.look import Look


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
    """

    as_json: bool
    color: str
    quiet: bool
    verbose: bool
    precision: int | None = None

    @cached_property
    def look(self) -> Look:
        """What standard output can show."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        color = self._color_system is not None
        if not _is_terminal():
            return Look.piped(color=color, encoding=encoding, indexed=self._color_system == "256")
        import shutil

        size = shutil.get_terminal_size()
        return Look.terminal(
            size.columns,
            color=color,
            encoding=encoding,
            height=size.lines,
            few_colors=self._color_system == "standard",
            indexed=self._color_system == "256",
        )

    @cached_property
    def _color_system(self) -> str | None:
        dumb = os.environ.get("TERM") in ("dumb", "unknown")
        if self.color == "never":
            return None
        if self.color == "auto" and (os.environ.get("NO_COLOR") or dumb or not _is_terminal()):
            return None
        found = Console(file=io.StringIO(), force_terminal=True, no_color=False).color_system
        if self.color == "always" and found != "truecolor":
            return "256"  # who asks for colour means one that shows shades
        return found

    def show(self, *renderables: RenderableType) -> None:
        """Print results; nothing is cut, and lines have no spaces at their ends."""
        if not self.quiet:
            _print("\n".join(self.lines(*renderables)))

    def show_at_most(self, height: int, *renderables: RenderableType, last: RenderableType) -> None:
        """Print what fits on so many lines, saying how many more there are, and a last line."""
        lines, end = self.lines(*renderables), self.lines(last)
        if (more := len(lines) + len(end) - height) > 0:
            cut = height - len(end) - 1
            lines = [*lines[:cut], f"{more + 1} more lines: a taller window shows them"]
        _print("\n".join([*lines, *end]))

    def lines(self, *renderables: RenderableType) -> list[str]:
        """Render to lines of text, with the codes of their colours."""
        text = io.StringIO()
        console = Console(
            file=text,
            width=self.look.width,
            force_terminal=self._color_system is not None,
            color_system=self._color_system,  # type: ignore[arg-type]
            no_color=self._color_system is None,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )
        for renderable in renderables:
            console.print(renderable, soft_wrap=self.look.plain)
        return [line.rstrip(" ") for line in text.getvalue().splitlines()]

    def show_json(self, value: dict[str, Any]) -> None:
        """Print one JSON object; ``allow_nan=False`` holds that no bare NaN ever leaves."""
        import json

        _print(json.dumps(value, allow_nan=False))

    def note(self, message: str) -> None:
        """Say something beside the result, unless quiet."""
        if not self.quiet:
            say(message)

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
        from attncli.attention.progress import watching

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


def _print(text: str) -> None:
    """Print a result; if its reader has gone, the rest of the command still runs, unheard."""
    try:
        click.echo(text, color=True)  # the text is as it should be: click would strip colours
    except BrokenPipeError:
        silence_stdout()
    except OSError as error:
        silence_stdout()
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"standard output: cannot be written: {reason}") from None


def jsonable(array: Array) -> Any:
    """Turn an array into nested lists whose numbers read back exactly.

    JSON has no NaN or infinity: they are written as the strings "NaN", "Infinity", "-Infinity"; so
    are the digits of long doubles, which no reader's floats could take.

    Examples
    --------
    >>> jsonable(np.array([[0.1, 2.0]])), jsonable(np.array([np.nan, -np.inf]))
    ([[0.1, 2.0]], ['NaN', '-Infinity'])
    """
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.str_).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = array.astype(np.float64).astype(object)
        values[np.isnan(array)] = "NaN"
        values[array == np.inf] = "Infinity"
        values[array == -np.inf] = "-Infinity"
        return values.tolist()
    return array.tolist()


def jsonable_number(value: float) -> float | str:
    """Turn one number into what `jsonable` makes of it.

    Examples
    --------
    >>> jsonable_number(0.5), jsonable_number(float("inf"))
    (0.5, 'Infinity')
    """
    converted: float | str = jsonable(np.asarray(value, np.float64))
    return converted


def _is_terminal() -> bool:
    return sys.stdout.isatty()
