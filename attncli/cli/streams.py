"""The standard streams, whatever they are connected to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from attncli.errors import harmless, shortened
from attncli.shown import fitting
from attncli.version import __version__

_LONGEST = 800  # characters of a message
_LONGEST_HINT = 6000  # a command that converts a file has to be whole
_MOST = 7000  # bytes of what somebody's code has us say in one command

color_forbidden = False
"""Set by ``--color never``."""

as_json = False
"""Set where the result is JSON: then each line on standard error is an object too."""

own_process = False
"""Set where this process was started for one command, which has just begun."""


def prepare_streams() -> None:
    """Make the streams take any text, even where the shell closed them.

    Where the locale that was asked for is ASCII's, they take no more than that, though Python turns
    to UTF-8 there, unless that was asked for.
    """
    only_ascii = own_process and _asked_for_ascii()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (stays open)
            setattr(sys, name, stream)
        if mode == "w":
            more = {"encoding": "ascii"} if only_ascii else {}
            stream.reconfigure(errors="backslashreplace", **more)


def _asked_for_ascii() -> bool:
    if any(os.environ.get(name) for name in ("PYTHONUTF8", "PYTHONIOENCODING")):
        return False
    asked = [os.environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if not asked[0] and sys.flags.utf8_mode:  # then LC_CTYPE is what Python made of it
        del asked[1]
    return next(filter(None, asked), "") in ("C", "POSIX")


class _Aside:
    """Standard error: what cannot be written there, or is too much, is as good as written.

    No verdict depends on whether somebody hears what is said beside it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.room: int | None = None  # bytes that may still be written; None: any number
        self.left_out = 0  # lines

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # nobody writes there past us
            raise AttributeError
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the lines for which there is room; after the first that is too long, none."""
        kept = text
        if self.room is not None and isinstance(text, str):
            kept = "".join(filter(self._fits, text.splitlines(keepends=True)))
        self._try(lambda: self._stream.write(kept))
        return len(text)

    def flush(self) -> None:
        """Let it be read."""
        self._try(self._stream.flush)

    def _fits(self, line: str) -> bool:
        if self.room is not None and not self.left_out:
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self.room -= len(line.encode(encoding, "backslashreplace"))
        fits = (self.room or 0) >= 0 and not self.left_out
        self.left_out += not fits
        return fits

    def _try(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError:
            with contextlib.suppress(OSError, ValueError):  # it need not be a file
                _silence(self._stream)
        except ValueError:  # it is closed
            pass


_aside: _Aside | None = None


@contextlib.contextmanager
def heedless_stderr() -> Iterator[None]:
    """Let nothing depend on whether standard error can be written."""
    global _aside
    before, _aside = _aside, _Aside(sys.stderr)
    try:
        with contextlib.redirect_stderr(_aside):
            yield
    finally:
        _aside.flush()
        _aside = before


@contextlib.contextmanager
def capped() -> Iterator[None]:
    """Let what is said meanwhile take a few screens at most, our own errors apart.

    Where it is a terminal, what shows how far we are takes more, and stays nowhere.
    """
    aside = _aside
    if aside is None or aside.room is not None or aside.isatty():
        yield
        return
    aside.room, aside.left_out = _MOST, 0
    try:
        yield
    finally:
        aside.room = None
        if aside.left_out:
            say(f"note: {aside.left_out:,} more lines beside the verdicts are left out")


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Let an error of ours be said whatever was said before."""
    aside = _aside or _Aside(sys.stderr)
    before, aside.room = aside.room, None
    try:
        yield
    finally:
        aside.room = before


class _Objects(io.TextIOBase):
    """A stream on which each line is an object: what is none becomes a note."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, stream: Any) -> None:
        self.stream, self.rest = stream, ""

    def write(self, text: str) -> int:
        """Pass on the lines that are whole."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(str.strip, lines):
            self.stream.write(f"{line if _is_object(line) else json.dumps({'note': line})}\n")
        return len(text)

    def flush(self) -> None:
        """Pass on what is whole to whoever reads it."""
        self.stream.flush()

    def fileno(self) -> int:
        """Give the descriptor, for processes that are started."""
        return int(self.stream.fileno())


def _is_object(line: str) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(line), dict)
    return False


@contextlib.contextmanager
def objects_on_stderr() -> Iterator[None]:
    """Make an object of every line on standard error, whoever writes it, if the result is JSON."""
    if not as_json:
        yield
        return
    objects = _Objects(sys.stderr)
    with contextlib.redirect_stderr(objects):
        try:
            yield
        finally:
            objects.write("\n" if objects.rest else "")
            objects.flush()


def silence_stdout() -> None:
    """Send what is still to be written to nowhere, so that closing the stream cannot fail."""
    _silence(sys.stdout)


def _silence(stream: Any) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str, label: str = "", color: str | None = None, *, longest: int = _LONGEST) -> None:
    """Write a line to standard error, with a coloured label in front.

    Text from files does no harm: control characters are escaped.
    """
    text = shortened(text, longest)  # a file may name its arrays as it likes
    if as_json:
        _say_object(**{label.strip(": ") or "note": text})
        return
    if color_forbidden or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        color = None
    # click takes colours out again where standard error is no terminal.
    said = fitting(harmless(text), sys.stderr)  # click would write UTF-8 where only ASCII is taken
    click.echo((click.style(label, fg=color) if color else label) + said, err=True)


def say_error(message: str, hint: str | None, code: int = 2) -> None:
    """Say what is wrong, and what to do about it."""
    with _whole():
        if as_json:
            _say_object(error=shortened(message, _LONGEST), hint=hint, code=code)
            return
        say(message, "error: ", "red")
        for line in (hint or "").splitlines():
            say(line, "hint:  ", "cyan", longest=_LONGEST_HINT)


def end_at_once(message: str) -> NoReturn:
    """Say what is wrong and end, where nothing can be gone on with."""
    say_error(message, None)
    os._exit(2)


def say_end(message: str, code: int) -> None:
    """Say what ended the command, though nothing is wrong."""
    if as_json:
        _say_object(error=message, hint=None, code=code)
    else:
        say(message)


def say_bug(traceback: str) -> None:
    """Show the traceback of what should not have happened."""
    message = f"this is a bug in attn {__version__}, not in what you did"
    with _whole():
        if as_json:
            _say_object(error=message, hint=None, code=70, traceback=traceback)
            return
        click.echo(traceback, nl=False, err=True)
        say_error(message, None)


def _say_object(**said: Any) -> None:
    click.echo(json.dumps(said), err=True)
