"""The standard streams, whatever they are connected to."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from attncli.errors import harmless
from attncli.version import __version__

_LONGEST = 800  # characters of a message
_LONGEST_HINT = 6000  # a command that converts a file has to be whole

color_forbidden = False
"""Set by ``--color never``."""

own_process = False
"""Set where this process was started for one command, which has just begun."""


def prepare_streams() -> None:
    """Make the streams take any text, even where the shell closed them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (stays open)
            setattr(sys, name, stream)
        if mode == "w":
            stream.reconfigure(errors="backslashreplace")


def silence_stdout() -> None:
    """Send what is still to be written to nowhere, so that closing the stream cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say(text: str, label: str = "", color: str | None = None, *, longest: int = _LONGEST) -> None:
    """Write a line to standard error, with a coloured label in front.

    Text from files does no harm: control characters are escaped.  If nobody reads standard error,
    nothing happens.
    """
    if len(text) > longest:  # a file may name its arrays as it likes
        text = f"{text[: longest // 2]} … {text[-longest // 2 :]}"
    if color_forbidden or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        color = None
    # click takes colours out again where standard error is no terminal.
    line = (click.style(label, fg=color) if color else label) + harmless(text)
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def say_error(message: str, hint: str | None) -> None:
    """Say what is wrong, and what to do about it."""
    say(message, "error: ", "red")
    for line in (hint or "").splitlines():
        say(line, "hint:  ", "cyan", longest=_LONGEST_HINT)


def say_bug(traceback: str) -> None:
    """Show the traceback of what should not have happened."""
    click.echo(traceback, nl=False, err=True)
    say_error(f"this is a bug in attn {__version__}, not in what you did", None)
