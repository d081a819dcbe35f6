"""Where bytes come from: a regular file that can be mapped, or a stream that is read once."""

from __future__ import annotations

import codecs
import os
import stat
import sys
import weakref
from io import BytesIO
from typing import BinaryIO

from attncli.errors import FileError, NoFileError
from attncli.memory import available_memory, readable

STORE_MARKS = ("zarr.json", ".zarray", ".zgroup")  # one of them is in every folder of a zarr store
_CHUNK = 1 << 20
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


class Source:
    """The bytes of one input.

    A file is opened once and for all: if it is replaced while it is read, the old one is read to
    the end, and never half of each.

    Parameters
    ----------
    label : str
        What messages call it.
    data : bytes
        The bytes of a stream; empty for a file.
    descriptor : int, optional
        Of a regular file, opened for reading; it is closed with this object.
    max_memory : int, optional
        The most bytes to take for what has to be read whole; default: what there is.

    Attributes
    ----------
    size : int
        How many bytes there are.
    stamp : tuple of int
        A file's size and time of change.
    """

    def __init__(
        self,
        label: str,
        data: bytes = b"",
        descriptor: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.label, self.data, self.descriptor = label, data, descriptor
        self.max_memory = max_memory
        self.size = len(data)
        self.stamp = (0, 0)
        if descriptor is not None:
            weakref.finalize(self, os.close, descriptor)
            status = os.fstat(descriptor)
            self.size, self.stamp = status.st_size, (status.st_size, status.st_mtime_ns)

    @property
    def is_file(self) -> bool:
        """Whether the bytes can be mapped into memory."""
        return self.descriptor is not None

    def open(self) -> BinaryIO:
        """Open the bytes from their beginning."""
        if self.descriptor is None:
            return BytesIO(self.data)
        stream = os.fdopen(os.dup(self.descriptor), "rb")
        stream.seek(0)
        return stream


def open_source(name: str, *, max_memory: int | None = None, expected: str = "a file") -> Source:
    """Find the bytes of a file by its name; ``-`` is standard input.

    Parameters
    ----------
    name : str
        A path, or ``-``.
    max_memory : int, optional
        The most bytes to take from a stream; default: what there is.
    expected : str, default "a file"
        What is expected, for messages.

    Raises
    ------
    FileError
        If it does not exist, is a folder, cannot be read, or is larger than memory.
    """
    if name == "-":
        return _read_stream("standard input", sys.stdin.buffer, max_memory)
    try:
        path = existing(name)
        if os.path.isdir(path):
            raise FileError(f"{name}: is a folder, expected {expected}")
        if "://" in name and not os.path.exists(name):
            raise FileError(f"{name}: is an address, and nothing is fetched; expected {expected}")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refused(name, error) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return Source(name, descriptor=descriptor, max_memory=max_memory)
    with os.fdopen(descriptor, "rb") as stream:  # a pipe or a device
        try:
            return _read_stream(name, stream, max_memory)
        except OSError as error:
            raise refused(name, error) from None


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


def refused(label: str, error: Exception) -> FileError:
    """Make the error for what the system says of a file."""
    reason = getattr(error, "strerror", None) or str(error)
    message = f"{label}: {reason[0].lower()}{reason[1:]}"
    if isinstance(error, FileNotFoundError):
        return NoFileError(message, label)
    return FileError(message)


def _read_stream(label: str, stream: BinaryIO, max_memory: int | None) -> Source:
    limit = available_memory() if max_memory is None else max_memory
    data = BytesIO()  # gives its bytes away without a copy
    while chunk := stream.read(_CHUNK):
        data.write(chunk)
        if limit is not None and data.tell() > limit:
            raise FileError(
                f"{label}: more than the {readable(limit)} of memory there is",
                hint="save it as a file: files are mapped, not read whole",
            )
    return Source(label, data.getvalue(), max_memory=max_memory)


def encoding_of(beginning: bytes) -> str:
    """Tell the encoding of text by the mark at its beginning; without one it is UTF-8."""
    return next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), "utf-8")


def is_store(path: str) -> bool:
    """Tell whether a folder is a zarr store, by what is in it."""
    return any(os.path.lexists(os.path.join(path, mark)) for mark in STORE_MARKS)
