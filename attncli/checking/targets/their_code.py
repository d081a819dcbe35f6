"""Running somebody else's code: what it prints, warns of and raises stays theirs."""

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from attncli.checking.targets.meanings import last_frame, meaning, place
from attncli.errors import CodeError, shortened

# What a signal makes of itself while their code runs: it was meant for us.
_TOLD_TO_END = (128 + signal.SIGTERM, 128 + getattr(signal, "SIGHUP", signal.SIGTERM))


_LONGEST = 4096  # characters of what somebody's code says
_LINES, _LONGEST_LINE = 20, 200  # of its traceback


class Printed(io.TextIOBase):
    """What somebody's code prints: shown for the first call that prints, dropped after it.

    Parameters
    ----------
    always : bool
        Whether all of it is shown, since somebody else sees to the rest.
    """

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._wrote = self._silent = False

    def write(self, text: str) -> int:
        """Pass it on to standard error, or drop it."""
        if not self._silent:
            sys.stderr.write(text)
            self._wrote = True
        return len(text)

    def end_call(self) -> None:
        """Be silent from now on, if this call printed."""
        if self._wrote and not self._silent and not self._always:
            self._silent = True
            sys.stderr.write("note: the code prints; what its further calls print is not shown\n")


@contextlib.contextmanager
def running(what: str, file: str | None, printed: Printed | None = None) -> Iterator[None]:
    """Run the user's code in this context.

    What it prints goes to standard error, since standard output carries our result.  Warnings and
    floating-point errors are left to what comes out.  What it raises becomes a CodeError.

    Parameters
    ----------
    what : str
        What is being done; begins the message.
    file : str or None
        Their file, whose frames (and its neighbours') the traceback keeps.
    printed : Printed, optional
        Where what it prints goes; default: all of it to standard error.

    Raises
    ------
    CodeError
    """
    bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing is written beside their files
    try:
        with (
            contextlib.redirect_stdout(printed or sys.stderr),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and classes of their own: none of them ends us
        if isinstance(error, SystemExit) and error.code in _TOLD_TO_END:
            raise
        name, text = shortened(type(error).__name__, _LONGEST), text_of(error)
        detail = " ".join(text.split()) or "no message"
        frame = last_frame(error, file)
        where = place(error, frame)
        raise CodeError(
            f"{what} raises {name}: {detail}{f' ({where})' if where else ''}",
            hint=meaning(error, text, what.rpartition(": ")[2], frame),
            trace=trace_of(error, file),
        ) from error
    finally:
        sys.dont_write_bytecode = bytecode
        if printed is not None:
            printed.end_call()


def trace_of(error: BaseException, file: str | None) -> tuple[str, ...]:
    """Give the lines of a traceback, trimmed to the user's file and those beside it.

    Empty where none of their lines was reached: the message says it all then.
    """
    if file is None:
        return ()
    import traceback  # slow to load, and right code needs none

    folder = os.path.dirname(os.path.realpath(file))
    whole = traceback.TracebackException.from_exception(error)
    kept = [
        frame
        for frame in whole.stack
        if not frame.filename.startswith("<")  # Python's own: <frozen importlib._bootstrap>
        and os.path.dirname(os.path.realpath(frame.filename)).startswith(folder)
    ]
    if not kept and not isinstance(error, SyntaxError):
        return ()
    lines = ["Traceback (most recent call last):"] if kept else []
    for text in (*traceback.StackSummary.from_list(kept).format(), *whole.format_exception_only()):
        lines += text.rstrip("\n").split("\n")
    return tuple(brief(lines))


def brief(lines: Sequence[object]) -> list[str]:
    """Of many or long lines the beginning and the end."""
    half, left_out = _LINES // 2, len(lines) - _LINES
    kept = [shortened(str(line), _LONGEST_LINE) for line in (*lines[:half], *lines[half:][-half:])]
    return [*kept[:half], *[f"  … {left_out:,} more lines"][: left_out > 0], *kept[half:]]


def text_of(error: BaseException) -> str:
    """What an exception says; its __str__ may be as wrong as anything, and may exit."""
    try:
        return shortened(str(error), _LONGEST)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "its message cannot be read"
