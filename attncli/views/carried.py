"""The weights themselves within what is drawn of them, so that it reads back exactly."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from attncli.files.drawn import MARK, PNG
from attncli.version import __version__
from attncli.views.gallery import Gallery
from attncli.views.json_text import json_pieces

# Bytes of numbers; of more a drawing would be large for the sake of what it does not show.
_MOST_BYTES = 1_000_000


def with_weights(parts: Iterable[str | bytes], gallery: Gallery) -> Iterator[str | bytes]:
    """Give the parts of a file, and the weights that it shows in a comment, or a chunk of a PNG.

    The object is as that of a page. Many weights are left out.
    """
    text = _text(gallery)
    for part in parts:
        if isinstance(part, bytes) and part.startswith(PNG) and text:
            data = f"{MARK}\0{text}".encode("latin-1")
            chunk = struct.pack(">I", len(data)) + b"tEXt" + data
            part = part[:-12] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + part[-12:]
            text = ""
        yield part
    if text:
        yield f"<!-- {MARK} {text} -->\n"


def _text(gallery: Gallery) -> str:
    """Write the object; empty where it would be large. Nothing in it ends a comment."""
    cuts = map(gallery.selection.cut, gallery.selection.matrices)
    if 8 * sum(len(cut.rows) * len(cut.columns) for cut in cuts) > _MOST_BYTES:
        return ""
    labels: dict[tuple[str, ...], int] = {}
    matrices = list(_matrices(gallery, labels))
    whole = {"attn": __version__, "matrices": iter(matrices), "labels": iter(labels)}
    text = "".join(json_pieces(whole)).replace("--", "-\\u002d")
    for character in "<>&":  # the only others that mean something around it
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _matrices(gallery: Gallery, labels: dict[tuple[str, ...], int]) -> Iterator[dict[str, Any]]:
    selection = gallery.selection
    for one in selection.matrices:
        cut = selection.cut(one)
        weights = one.load(cut)
        short = weights.astype("<f4")
        numbers = short if (short == weights).all() else weights.astype("<f8")
        words = {}
        for name, shown, axis, kept in (
            ("tokens_dec", "rows", "T_dec", cut.rows.tolist()),
            ("tokens_enc", "columns", "T_enc", cut.columns.tolist()),
        ):
            tokens = selection.tokens(one, axis)
            for key, texts in (
                (name, None if tokens is None else tuple(tokens[place] for place in kept)),
                (shown, tuple(map(str, kept))),
            ):
                words[key] = None if texts is None else labels.setdefault(texts, len(labels))
        yield {
            "names": one.names,
            "part": one.part,
            "shape": list(numbers.shape),
            "by": [1, 1],
            **words,
            "dtype": numbers.dtype.str,
            "unit": 1.0,
            "weights": base64.b64encode(numbers.tobytes()).decode(),
        }
