"""Whether the background of a terminal is light: as told, as the environment says, or asked."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator

THEMES = ("auto", "light", "dark")

_WITHIN = 0.05  # seconds
# What its background is (OSC 11); then what it is itself (DA1), which all of them answer: so one
# that knows nothing of the first is not waited for.
_QUESTION = b"\x1b]11;?\x1b\\\x1b[c"
_ANSWER = re.compile(
    rb"\x1b\]11;rgba?:([0-9a-f]+)/([0-9a-f]+)/([0-9a-f]+)[^\x07\x1b]*(?:\x07|\x1b\\)", re.IGNORECASE
)
_END = re.compile(rb"\x1b\[\?[\d;]*c")
# Of the 16 colours of terminals those that are dark, white being the seventh.
_DARK = frozenset({0, 1, 2, 3, 4, 5, 6, 8})

_kept = bytearray()


def is_light(theme: str | None = None, *, ask: bool = False) -> bool:
    """Tell whether the background is light; where nothing is known of it, it is taken as dark.

    Parameters
    ----------
    theme : {"auto", "light", "dark"}, optional
        Left out, as ``ATTN_THEME`` says.
    ask : bool, default False
        Ask the terminal, if the environment does not know, and wait no longer than 50 ms.
    """
    theme = theme or os.environ.get("ATTN_THEME")
    if theme in ("light", "dark"):
        return theme == "light"
    known = _of_environment(os.environ.get("COLORFGBG", ""))
    if known is None and ask and _can_answer():
        known = answered(_ask())
    return known is True


def _of_environment(colors: str) -> bool | None:
    """Read what some terminals set: the numbers of foreground and background."""
    number = colors.rpartition(";")[2]
    return int(number) not in _DARK if number.isdecimal() else None


def answered(text: bytes) -> bool | None:
    r"""Read what a terminal answers: its colour as red, green and blue, of one to four digits each.

    Examples
    --------
    >>> answered(b"\x1b]11;rgb:ffff/ffff/dddd\x1b\\"), answered(b"\x1b]11;rgb:1c/1c/1c\x07")
    (True, False)
    >>> answered(b"\x1b[?62c") is None
    True
    """
    found = _ANSWER.search(text)
    if found is None:
        return None
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in found.groups())
    return bool(0.299 * red + 0.587 * green + 0.114 * blue > 0.5)


def _can_answer() -> bool:
    """Whether there is a terminal that is ours and answers at once.

    Over ssh an answer may come when nobody waits for it any more, and would stand at the prompt; a
    job in the background would be stopped.
    """
    unfit = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "linux")
    if unfit or any(os.environ.get(name) for name in ("CI", "SSH_CONNECTION", "SSH_TTY")):
        return False
    if importlib.util.find_spec("termios") is None:  # Windows
        return False
    try:
        ours = os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        return ours and sys.stdin.isatty() and sys.stdout.isatty()
    except (OSError, ValueError):  # no terminal, or none that is this process's
        return False


def _ask() -> bytes:
    """Ask the terminal, and return what it answers; what somebody has typed stays typed."""
    import select

    entered = sys.stdin.fileno()
    answer = b""
    with contextlib.suppress(OSError), _unheard(entered):
        if select.select([entered], [], [], 0)[0]:  # typed before: not ours to read
            return b""
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), _QUESTION)
        end = time.monotonic() + _WITHIN
        while not _END.search(answer) and (left := end - time.monotonic()) > 0:
            if select.select([entered], [], [], left)[0]:
                answer += os.read(entered, 1024)
        _give_back(entered, _END.sub(b"", _ANSWER.sub(b"", answer)))
    return answer


@contextlib.contextmanager
def _unheard(terminal: int) -> Iterator[None]:
    """Let what comes in neither be echoed nor wait for the end of a line."""
    import termios

    before = termios.tcgetattr(terminal)
    within = list(before)
    within[3] &= ~(termios.ICANON | termios.ECHO)
    try:
        termios.tcsetattr(terminal, termios.TCSANOW, within)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _give_back(terminal: int, typed: bytes) -> None:
    """Put what somebody typed meanwhile back; keep it, where the system does not let us."""
    import fcntl
    import termios

    for byte in typed:
        try:
            fcntl.ioctl(terminal, termios.TIOCSTI, bytes([byte]))
        except OSError:
            _kept.append(byte)


def typed_meanwhile() -> bytes:
    """Take what was typed while the terminal was asked and could not be put back."""
    typed = bytes(_kept)
    _kept.clear()
    return typed
