"""The weights that drawings and tables of ``attn show-weights`` carry, as its pages do."""

from __future__ import annotations

import struct

from attncli.files.entries import Entry
from attncli.files.pages import arrays_in
from attncli.files.source import Source
from attncli.files.texts import decoded, entries_of
from attncli.memory import require

MARK = "attn-data"
"""What stands before the object in a comment, and is its keyword in a PNG."""

PNG = b"\x89PNG\r\n\x1a\n"
_COMMENT = f"<!-- {MARK} "


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe the weights that a drawing or a table carries; all of them are read."""
    with source.open() as stream:
        in_png = stream.read(len(PNG)) == PNG
    text = _in_png(source) if in_png else _behind(source)
    return entries_of(arrays_in(text, source.label, "drawing or table"))


def _behind(source: Source) -> str:
    """Find the comment for us: what is drawn may say anything, and behind it nothing else is."""
    last = decoded(source).rpartition(_COMMENT)
    return last[2].partition(" -->")[0] if last[1] else "null"


def _in_png(source: Source) -> str:
    """Find the text that is for us among the chunks of a PNG."""
    require(2 * source.size, source.label, source.max_memory)
    with source.open() as stream:
        stream.seek(len(PNG))
        while len(head := stream.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            data = stream.read(min(size, source.size))
            stream.read(4)  # the checksum
            if kind == b"tEXt" and data.startswith(MARK.encode() + b"\0"):
                return data.partition(b"\0")[2].decode("latin-1")
    return "null"
