"""Where bytes come from: a regular file that can be mapped, or a stream that is read once."""

from __future__ import annotations

import codecs
import os
import stat
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from io import BytesIO
from itertools import chain, count
from typing import Any, BinaryIO

from attncli.errors import FileError, NoFileError
from attncli.memory import available_memory, readable

STORE_MARKS = ("zarr.json", ".zarray", ".zgroup")  # one of them is in every folder of a zarr store
_CHUNK = 1 << 20
_MOST_OF_A_STREAM = 400_000_000  # bytes, unless more is asked for: there are some without end
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLES = next(
    filter(os.path.isdir, [os.path.join(_PACKAGE, "sample_inputs")]),
    os.path.join(os.path.dirname(_PACKAGE), "sample_inputs"),
)
"""The sample inputs: in the package that was installed, or beside it in a checkout."""

# The longest first: one begins with another.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


waiting: Callable[[str], AbstractContextManager[Any]] = nullcontext
"""Around what may wait for somebody who writes; a terminal is told so in words, if that is set."""

opened: dict[str, tuple[int, ...]] | None = None
"""What the files were like when they were opened, since a command began that sets it."""


def require_unchanged() -> None:
    """Raise if a file was written to since it was opened; one that was replaced is read as it was.

    Raises
    ------
    FileError
    """
    for path, (*same, size, time) in (opened or {}).items():
        with suppress(OSError):
            *now, size_now, time_now = _identity(os.stat(existing(path)))
            if now == same and (size_now, time_now) != (size, time):
                raise FileError(f"{path}: has changed while it was read")


class Source:
    """The bytes of one input.

    A file is opened once and for all: if it is replaced while it is read, the old one is read to
    the end, and never half of each. Of a stream no more is read than is asked for.

    Parameters
    ----------
    label : str
        What messages call it.
    descriptor : int, optional
        Opened for reading; it is closed with this object.
    stream : binary file, optional
        What is read where there is no descriptor.
    max_memory : int, optional
        The most bytes to take for what has to be read whole; default: what there is.

    Attributes
    ----------
    is_file : bool
        Whether the bytes can be mapped into memory.
    stamp : tuple of int
        A file's size and time of change.
    """

    def __init__(
        self,
        label: str,
        descriptor: int | None = None,
        stream: BinaryIO | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.label, self.descriptor, self.max_memory = label, descriptor, max_memory
        self._read = BytesIO()  # of a stream; it gives its bytes away without a copy
        self.is_file, self.stamp = False, (0, 0)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)
            status = os.fstat(descriptor)
            self.is_file = stat.S_ISREG(status.st_mode)
            self.stamp = status.st_size, status.st_mtime_ns
            if not self.is_file:
                stream = os.fdopen(descriptor, "rb", closefd=False)
            elif opened is not None:
                opened.setdefault(label, _identity(status))
        self._stream = stream

    @cached_property
    def data(self) -> bytes:
        """All bytes of a stream; none of a file."""
        self._take(None)
        return self._read.getvalue()

    @cached_property
    def size(self) -> int:
        """How many bytes there are."""
        return self.stamp[0] if self.is_file else len(self.data)

    def beginning(self, size: int) -> bytes:
        """Read so many bytes from the beginning, or what there is."""
        if self.is_file:
            with self.open() as stream:
                return stream.read(size)
        self._take(size)
        return bytes(self._read.getbuffer()[:size])

    def open(self) -> BinaryIO:
        """Open the bytes from their beginning."""
        if not self.is_file:
            return BytesIO(self.data)
        assert self.descriptor is not None
        stream = os.fdopen(os.dup(self.descriptor), "rb")
        stream.seek(0)
        return stream

    def _take(self, size: int | None) -> None:
        """Read from a stream until so many bytes of it are there; without a size to its end."""
        limit = self.max_memory
        if limit is None:
            there = available_memory()
            limit = _MOST_OF_A_STREAM if there is None else min(there, _MOST_OF_A_STREAM)
        with waiting(f"waiting for {self.label}: it has not ended"):
            while self._stream is not None and (size is None or self._read.tell() < size):
                try:
                    chunk = self._stream.read(size or _CHUNK)
                except (OSError, ValueError) as error:
                    raise refused(self.label, error) from None
                self._read.write(chunk)
                if not chunk:
                    self._stream = None
                if self._read.tell() > limit:
                    break
            else:
                return
        raise FileError(
            f"{self.label}: a stream of more than {readable(limit)}",
            hint="--max-memory 8GB takes more of it; a file is mapped, and not read whole",
        )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_source(name: str, *, max_memory: int | None = None, expected: str = "a file") -> Source:
    """Find the bytes of a file by its name; ``-`` is standard input.

    Parameters
    ----------
    name : str
        A path, or ``-``.
    max_memory : int, optional
        The most bytes to take from a stream; default: what there is, and at most 400 MB.
    expected : str, default "a file"
        What is expected, for messages.

    Raises
    ------
    FileError
        If it does not exist, is a folder, cannot be read, or is larger than memory.
    """
    if name == "-":
        return Source("standard input", stream=sys.stdin.buffer, max_memory=max_memory)
    try:
        path = existing(name)
        if os.path.isdir(path):
            raise FileError(f"{name}: is a folder, expected {expected}")
        if "://" in name and not os.path.exists(name):
            raise FileError(f"{name}: is an address, and nothing is fetched; expected {expected}")
        with waiting(f"waiting for somebody who writes to {name}"):  # if it is a pipe
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refused(name, error) from None
    return Source(name, descriptor, max_memory=max_memory)


def existing(path: str) -> str:
    """Give the path that is meant: of a sample that is not here, the one that comes with attn.

    Examples
    --------
    >>> existing("mine.npz"), existing("sample_inputs/README.md").endswith("README.md")
    ('mine.npz', True)
    """
    first = path.replace(os.sep, "/").partition("/")[0]
    if first != os.path.basename(SAMPLES) or os.path.lexists(path):
        return path
    return os.path.join(os.path.dirname(SAMPLES), path)


def free(path: str) -> str:
    """Give a path at which there is nothing: this one, or one with a number behind its name.

    Examples
    --------
    >>> free("run.npz"), free("sample_inputs/by_hand.npz")
    ('run.npz', 'sample_inputs/by_hand-2.npz')
    """
    stem, ending = os.path.splitext(path)
    tried = (f"{stem}-{number}{ending}" for number in count(2))
    return next(one for one in chain([path], tried) if not os.path.lexists(existing(one)))


def refused(label: str, error: Exception) -> FileError:
    """Make the error for what the system says of a file."""
    reason = getattr(error, "strerror", None) or str(error)
    message = f"{label}: {reason[0].lower()}{reason[1:]}"
    if isinstance(error, FileNotFoundError):
        return NoFileError(message, label)
    return FileError(message)


def encoding_of(beginning: bytes) -> str:
    """Tell the encoding of text by the mark at its beginning; without one it is UTF-8."""
    return next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), "utf-8")


def is_store(path: str) -> bool:
    """Tell whether a folder is a zarr store, by what is in it."""
    return any(os.path.lexists(os.path.join(path, mark)) for mark in STORE_MARKS)
