"""A picture to lay something over: PNG or JPEG by its content and bounded; nothing is decoded."""

from __future__ import annotations

import base64
import struct

from attncli.errors import FileError
from attncli.files.source import open_source

_MOST_BYTES = 3_000_000
"""A page that holds it stays smaller than what browsers and mail take."""

# What a browser makes of a picture takes four bytes a pixel, however small the file.
_MOST_PIXELS = 50_000_000
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# The segments of a JPEG that tell its size: of every way to code it.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def read_picture(path: str) -> str:
    """Read a picture as the address that holds it whole: ``data:image/png;base64,…``.

    Raises
    ------
    FileError
        If it is no such file, or too large.
    """
    if path == "-":
        raise FileError("standard input is no picture: it can be read but once")
    source = open_source(path, max_memory=_MOST_BYTES, expected="a picture")
    with source.open() as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise FileError(
            f"{path}: the picture is larger than {_MOST_BYTES / 1e6:g} MB",
            hint="a picture of 1000 pixels across shows as much",
        )
    kind, size = ("png", _png_size(data)) if data.startswith(_PNG) else ("jpeg", _jpeg_size(data))
    if size is None:
        raise FileError(
            f"{path}: neither a PNG nor a JPEG, by its content",
            hint="convert it: python -c 'from PIL import Image; "
            'Image.open("PICTURE").convert("RGB").save("picture.png")\'',
        )
    if not 0 < size[0] * size[1] <= _MOST_PIXELS:
        raise FileError(f"{path}: the picture is {size[0]} × {size[1]} pixels")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Give width and height, as the first chunk says them.

    Examples
    --------
    >>> _png_size(_PNG + bytes([0, 0, 0, 13]) + b"IHDR" + bytes([0, 0, 0, 3, 0, 0, 0, 2, 8, 2]))
    (3, 2)
    """
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Give width and height, as the segment of the frame says them."""
    if not data.startswith(_JPEG):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        length = 0 if marker == 0xFF else struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker != 0xFF and length < 2:
            return None
        at += 1 if marker == 0xFF else 2 + length
    return None
