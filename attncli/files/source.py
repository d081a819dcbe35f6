"""Where bytes come from: a regular file that can be mapped, or a stream that is read once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from attncli.errors import FileError
from attncli.memory import available_memory, readable

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """The bytes of one input.

    Attributes
    ----------
    label : str
        What messages call it.
    path : Path or None
        A regular file; None where the bytes were read from a stream.
    data : bytes
        The bytes of a stream; empty for a file.
    size : int
        How many bytes there are.
    """

    label: str
    path: Path | None
    data: bytes
    size: int

    def open(self) -> BinaryIO:
        """Open the bytes from their beginning."""
        return BytesIO(self.data) if self.path is None else self.path.open("rb")


def open_source(name: str, *, max_memory: int | None = None) -> Source:
    """Find the bytes of a file by its name; ``-`` is standard input.

    Parameters
    ----------
    name : str
        A path, or ``-``.
    max_memory : int, optional
        The most bytes to take from a stream; default: what there is.

    Raises
    ------
    FileError
        If it does not exist, is a folder, cannot be read, or is larger than memory.
    """
    if name == "-":
        return _read_stream("standard input", sys.stdin.buffer, max_memory)
    path = Path(name)
    try:
        if path.is_dir():
            raise FileError(f"{name}: is a folder, expected an .npz, .npy or .safetensors file")
        if path.is_file():
            with path.open("rb"):
                return Source(name, path, b"", path.stat().st_size)
        with path.open("rb") as stream:  # a pipe or a device
            return _read_stream(name, stream, max_memory)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise cannot_be_read(name, error) from None


def cannot_be_read(label: str, error: Exception) -> FileError:
    """Make the error for what the system says of a file."""
    reason = getattr(error, "strerror", None) or str(error)
    return FileError(f"{label}: {reason[0].lower()}{reason[1:]}")


def _read_stream(label: str, stream: BinaryIO, max_memory: int | None) -> Source:
    limit = available_memory() if max_memory is None else max_memory
    data = bytearray()
    while chunk := stream.read(_CHUNK):
        data += chunk
        if limit is not None and len(data) > limit:
            raise FileError(
                f"{label}: more than the {readable(limit)} of memory there is",
                hint="save it as a file: files are mapped, not read whole",
            )
    return Source(label, None, bytes(data), len(data))
