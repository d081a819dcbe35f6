"""A terminal for a while: keys as they are pressed, and word of what else happens to it."""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

from attncli.views.background import typed_meanwhile

RIGHT, LEFT, DOWN, UP = "\x1b[C", "\x1b[D", "\x1b[B", "\x1b[A"
PAGE_DOWN, PAGE_UP, HOME, END = "\x1b[6~", "\x1b[5~", "\x1b[H", "\x1b[F"
ENTER, ESCAPE, ERASE = "\n", "\x1b", "\x7f"

# Terminals send some keys in several ways.
_SAME = {
    "\x1b[1~": HOME, "\x1b[7~": HOME, "\x1b[4~": END, "\x1b[8~": END, "\r": ENTER, "\b": ERASE,
    **{f"\x1bO{letter}": f"\x1b[{letter}" for letter in "ABCDFH"},
}  # fmt: skip
# A key, or what a terminal sends for one; held keys come several in one read.
_KEY = re.compile(r"\x1b\[[\d;]*[~A-Za-z]|\x1bO.|.", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[\d;]*|O)?$")
_REST_WITHIN = 0.05  # seconds; slow lines bring the bytes of a key one by one

# Windows sends two characters for each of these, of which the first says nothing.
_WINDOWS_KEYS = {
    "H": UP, "P": DOWN, "M": RIGHT, "K": LEFT, "I": PAGE_UP, "Q": PAGE_DOWN, "G": HOME, "O": END,
}  # fmt: skip

ReadKeys = Callable[..., list[str] | None]


@contextlib.contextmanager
def full_screen(console: Console) -> Iterator[ReadKeys]:
    """Take the whole screen, and give a function that waits for keys.

    It waits, if seconds are given no longer than that, and returns the keys that were pressed: none
    where there was no key, or the picture is to be drawn anew, the window having another size or
    the program having been stopped and continued; None at the end of input.
    Keys are neither echoed nor is a line waited for, and no cursor is seen. However this ends, and
    as long as it is stopped, the terminal is as it was before. On Windows a resized window is seen
    at the next key.
    """
    if importlib.util.find_spec("termios") is None:  # Windows
        console.set_alt_screen(True)
        console.show_cursor(False)
        try:
            yield _windows_keys
        finally:
            console.show_cursor(True)
            console.set_alt_screen(False)
        return
    terminal = _Terminal(console)
    with terminal.hearing_signals():
        try:
            terminal.enter()
            yield terminal.read
        finally:
            terminal.leave()


class _Terminal:
    """The terminal of a POSIX system."""

    def __init__(self, console: Console) -> None:
        import termios

        self.console = console
        self.descriptor = sys.stdin.fileno()
        self.before = termios.tcgetattr(self.descriptor)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def enter(self) -> None:
        import tty

        # For all of it, not key by key: one pressed while something is drawn is not lost.
        tty.setcbreak(self.descriptor)
        self.console.set_alt_screen(True)
        self.console.show_cursor(False)

    def leave(self) -> None:
        import termios

        # A terminal that is gone, which is why SIGHUP came, has nothing to be restored.
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.before)
            self.console.show_cursor(True)
            self.console.set_alt_screen(False)

    @contextlib.contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Let signals end the waiting for keys; what they ask for is done there, not between."""
        self.signals, written = os.pipe()
        os.set_blocking(written, False)
        numbers = [signal.SIGWINCH, signal.SIGCONT]
        if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
            numbers.append(signal.SIGTSTP)
        wakeup = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        handlers = [signal.signal(number, _noted) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(self.signals)
            os.close(written)

    def read(self, seconds: float | None = None) -> list[str] | None:
        if typed := typed_meanwhile():
            return split_keys(self.decoder.decode(typed))
        ready, _, _ = select.select([self.descriptor, self.signals], [], [], seconds)
        if not ready:
            return []
        if self.signals in ready:
            numbers = os.read(self.signals, 4096)
            if signal.SIGTSTP in numbers:
                self._stop()
            elif signal.SIGCONT in numbers:  # after a SIGSTOP, which nobody hears
                self._go_on()
            return []
        read = os.read(self.descriptor, 64)
        text = self.decoder.decode(read)
        while (
            read
            and _UNFINISHED.search(text)
            and select.select([self.descriptor], [], [], _REST_WITHIN)[0]
        ):
            read = os.read(self.descriptor, 64)
            text += self.decoder.decode(read)
        return split_keys(text) if read else None

    def _stop(self) -> None:
        self.leave()
        numbers = (signal.SIGTSTP, signal.SIGCONT)
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # until continued; at once where no shell would do so
        for number in numbers:
            signal.signal(number, _noted)
        self._go_on()

    def _go_on(self) -> None:
        # Continued by `bg` the terminal is another's.
        while os.tcgetpgrp(self.descriptor) != os.getpgrp():
            os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()


def _noted(number: int, frame: Any) -> None:
    """Do nothing: that the signal came stands in the pipe."""


def _windows_keys(seconds: float | None = None) -> list[str] | None:
    msvcrt = importlib.import_module("msvcrt")
    start = time.monotonic()
    while seconds is not None and not msvcrt.kbhit():
        if time.monotonic() - start > seconds:
            return []
        time.sleep(_REST_WITHIN / 2)
    key: str = msvcrt.getwch()
    if key in ("\x00", "\xe0"):
        key = _WINDOWS_KEYS.get(msvcrt.getwch(), "")
    if key == "\x03":
        raise KeyboardInterrupt
    return [_SAME.get(key, key)]


def split_keys(text: str) -> list[str]:
    r"""Tell apart the keys that came in one read.

    Examples
    --------
    >>> split_keys("\x1b[C\x1bOC\x1b[6~q"), split_keys("")
    (['\x1b[C', '\x1b[C', '\x1b[6~', 'q'], [])
    """
    return [_SAME.get(key, key) for key in _KEY.findall(text)]
