"""What an untrusted file says of itself, checked before anything of that size is allocated."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np

from attncli.errors import FileError

_MAGIC = b"\x93NUMPY"

# NumPy writes headers of some 120 bytes, and itself refuses to parse more than this.
_LONGEST_HEADER = 10_000
_MOST_AXES = 64


@dataclass(frozen=True)
class Header:
    """What the header of an npy array declares.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    fortran_order : bool
    offset : int
        Bytes from the array's beginning to its data.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes of the data (Python integers: no shape overflows)."""
        return prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: BinaryIO, size: int, where: str) -> Header:
    """Read the header of an npy array, believing none of it.

    Parameters
    ----------
    stream : binary file
        At the array's beginning; left at its data.
    size : int
        The bytes there are from here, header included.
    where : str
        The file, and the member in it, for messages.

    Raises
    ------
    FileError
        If it is no npy header, is damaged, declares more data than there is, or holds objects.
    """
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise FileError(f"{where}: not an npy array")
    if (version := start[6:8]) not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise FileError(f"{where}: npy format {version[0]}.{version[1]}, expected 1.0, 2.0 or 3.0")
    width = 2 if version[0] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    offset = 8 + width + length
    if length > _LONGEST_HEADER:
        raise FileError(f"{where}: damaged: declares a header of {length} bytes")
    text = stream.read(length)
    if len(text) < length:
        raise FileError(f"{where}: truncated in its header")

    header = _parse_header(text, "utf-8" if version[0] == 3 else "latin-1", offset, where)
    if header.nbytes > size - offset:
        raise FileError(
            f"{where}: truncated or damaged: declares {header.dtype} {header.shape}, "
            f"{header.nbytes} bytes, and holds {max(0, size - offset)}"
        )
    if header.dtype.itemsize == 0 and prod(header.shape) > size:
        raise FileError(f"{where}: damaged: declares {header.dtype} {header.shape}")
    return header


def _parse_header(text: bytes, encoding: str, offset: int, where: str) -> Header:
    damaged = FileError(f"{where}: damaged header")
    try:
        tree = ast.parse(text.decode(encoding).strip(), mode="eval").body
        fields = ast.literal_eval(tree)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise damaged from None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise damaged
    if isinstance(tree, ast.Dict) and len(tree.keys) > len(fields):  # one of them twice
        raise damaged
    shape, fortran_order, descr = fields["shape"], fields["fortran_order"], fields["descr"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise damaged
    if not isinstance(fortran_order, bool) or len(shape) > _MOST_AXES:
        raise damaged
    if not isinstance(descr, str):
        raise FileError(f"{where}: holds records (structured dtype), expected plain numbers")
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError, SyntaxError, OverflowError):
        raise damaged from None
    if dtype.hasobject:
        raise FileError(
            f"{where}: holds Python objects (pickled), expected numbers",
            hint="save it as numbers: numpy.save(FILE, numpy.array(data, dtype='float64'))",
        )
    if dtype.fields or dtype.subdtype:  # as NumPy understands commas and sizes in front
        raise FileError(f"{where}: holds records (structured dtype), expected plain numbers")
    if dtype.itemsize == 0 and dtype.kind not in "US":
        raise damaged
    return Header(shape, dtype, fortran_order, offset)
