"""Keys as they are pressed, without waiting for the end of a line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator

# A key, or what a terminal sends for one; held keys come several in one read.
_KEY = re.compile(r"\x1b\[[\d;]*[~A-Za-z]|\x1bO.|.", re.DOTALL)


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[], list[str]]]:
    """Give a function that waits for keys and returns them; none at the end of input.

    The terminal neither echoes them nor waits for a line as long as this lasts.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import click

        yield lambda: split_keys(click.getchar())
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    # For all of it, not key by key: one pressed while something is drawn is not lost.
    tty.setcbreak(descriptor)
    try:
        yield lambda: split_keys(os.read(descriptor, 64).decode("utf-8", "replace"))
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def split_keys(text: str) -> list[str]:
    r"""Tell apart the keys that came in one read.

    Examples
    --------
    >>> split_keys("\x1b[C\x1b[6~q"), split_keys("")
    (['\x1b[C', '\x1b[6~', 'q'], [])
    """
    return _KEY.findall(text)
