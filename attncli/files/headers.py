"""The names and shapes in a file, at a glance and without NumPy: what completion offers.

It must answer at once, of any file: no more is read than headers of a usual size, and what is
damaged or hostile holds nothing.  What a file really holds, `attncli.files.formats` says.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

Shape = tuple[int, ...]

_MOST_BYTES = 1 << 22  # of a list of names
_MOST_NAMES = 2000
_NPY_HEADER = 512  # more than NumPy writes of any usual array
_SHAPE = re.compile(rb"'shape': \(([0-9, ]*)\)")
_END = struct.Struct("<4s4xHHIIH")  # of a zip archive
_MEMBER = struct.Struct("<4s6xHHHIIIHHHHHII")
_LOCAL = struct.Struct("<26xHH")
_DAMAGE = (
    OSError,
    ValueError,
    struct.error,
    zlib.error,
    TypeError,
    RecursionError,
    OverflowError,
    LookupError,
)


def shapes_at_a_glance(path: str) -> dict[str, Shape]:
    """Give the shape of every array in an .npz, .npy or .safetensors file by its name.

    Examples
    --------
    >>> from attncli.files.source import existing
    >>> shapes_at_a_glance(existing("sample_inputs/by_hand.npz"))["dout"]
    (1, 2, 2)
    >>> shapes_at_a_glance("nothing.npz")
    {}
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            return {}
        with open(path, "rb") as file:
            beginning = file.read(8)
            if beginning.startswith(b"PK"):
                return dict(_of_archive(file))
            if beginning.startswith(b"\x93NUMPY"):
                return {"": _shape(beginning + file.read(_NPY_HEADER))}
            return _of_safetensors(file, int.from_bytes(beginning, "little"))
    except _DAMAGE:
        return {}


def _of_archive(file: BinaryIO) -> Iterator[tuple[str, Shape]]:
    """Read the directory at the end of a zip archive, and the beginning of each member."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - 0xFFFF))
    end = file.read()
    _, _, count, length, begin, _ = _END.unpack_from(end, end.rindex(b"PK\x05\x06"))
    if length > _MOST_BYTES:
        return
    file.seek(begin)
    directory, at = file.read(length), 0
    for _ in range(min(count, _MOST_NAMES)):
        _, method, _, _, _, packed, _, named, extra, comment, _, _, _, place = _MEMBER.unpack_from(
            directory, at
        )
        name = directory[at + _MEMBER.size : at + _MEMBER.size + named].decode()
        at += _MEMBER.size + named + extra + comment
        if name.endswith(".npy"):
            file.seek(place)
            local = _LOCAL.unpack(file.read(_LOCAL.size))
            file.seek(sum(local), os.SEEK_CUR)
            data = file.read(min(packed, _NPY_HEADER))
            if method:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _NPY_HEADER)
            yield name.removesuffix(".npy"), _shape(data)


def _of_safetensors(file: BinaryIO, length: int) -> dict[str, Shape]:
    if not 2 <= length <= _MOST_BYTES:
        return {}
    text = file.read(length)
    if not text.startswith(b"{"):
        return {}
    import json  # slow to load, and no other format needs it

    found = {name: one["shape"] for name, one in json.loads(text).items() if name != "__metadata__"}
    return {name: tuple(map(int, shape)) for name, shape in found.items()}


def _shape(header: bytes) -> Shape:
    found = _SHAPE.search(header)
    return tuple(map(int, found[1].replace(b",", b" ").split())) if found else ()
