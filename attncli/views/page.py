"""A page of its own: heads to choose from, weights under the pointer, no network."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, FileError
from attncli.files.pictures import read_picture
from attncli.version import __version__
from attncli.views import svg
from attncli.views.gallery import Gallery
from attncli.views.json_text import json_pieces
from attncli.views.legends import beyond, ends
from attncli.views.pooling import factor
from attncli.views.shades import HOLE, LEVELS, gradient

# Bytes of numbers, a third more as text: what a browser opens in a moment. The rest of a page is
# small beside them.
_MOST_BYTES = 15_000_000
# No picture has more cells down or across than a canvas may have.
_MOST_CELLS = 30_000
_MOST_MATRICES = 10_000
_ROUNDED = {4: "7 digits", 2: "1/32767 of its largest", 1: "two digits"}
"""How exact numbers of so many bytes are."""

_FEWER = "--layer, --head, --item, --rows and --cols leave fewer numbers, in full"


def write(gallery: Gallery) -> Iterator[str]:
    """Write the page, matrix by matrix.

    It is a file that needs no other one, XML as well as HTML. The numbers are in one script
    element, ``<script type="application/json" id="data">``: of each of `matrices` its `names`,
    `shape`, `weights` (base64 of `dtype`, of one byte their squares with the sign, to be multiplied
    by `unit`) and, as places in `labels`, `tokens_dec` and `tokens_enc`. They are exact where they
    fit; else they are rounded, and of still more a cell stands for `by` rows and columns, which
    the page and a warning say.

    Raises
    ------
    FileError
        If there are so many that not even that would help.
    """
    if gallery.selection.wanted.overlay:
        yield from _drawn(gallery)
        return
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    before, after = template.split("{{data}}")
    texts = {"title": gallery.title, "reading": gallery.reading}
    yield re.sub(r"\{\{(\w+)\}\}", lambda place: escape(texts[place[1]]), before)
    for piece in json_pieces(_data(gallery)):
        for character in "<>&":  # the only ones that mean something to a parser of the page
            piece = piece.replace(character, f"\\u{ord(character):04x}")
        yield piece
    yield after


def _drawn(gallery: Gallery) -> Iterator[str]:
    """Write a page that holds a drawing, whose cells say the weights of all heads."""
    title = escape(gallery.title)
    yield '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en">\n<head>\n'
    yield f'<meta charset="utf-8"/>\n<title>{title}</title>\n'
    yield "<style>:root{color-scheme:light dark}body{margin:1rem}</style>\n</head>\n<body>\n"
    yield from svg.write(gallery)
    yield "</body>\n</html>\n"


def _data(gallery: Gallery) -> dict[str, Any]:
    selection, wanted = gallery.selection, gallery.selection.wanted
    cuts = (selection.cut(one) for one in selection.matrices)
    shapes = [(len(cut.rows), len(cut.columns)) for cut in cuts]
    size, most = _affordable(shapes)
    labels: dict[tuple[str, ...], int] = {}
    frames = selection.frames
    diverging = wanted.diff is not None
    return {
        "attn": __version__,
        "source": selection.source.label,
        "reading": gallery.reading,
        "image": wanted.grid is not None,
        "pool": wanted.pool,
        "digits": gallery.look.precision,
        "frames": [frames.described(number) for number in range(len(frames))] if frames else [],
        "hole": f"{HOLE:06x}",
        "over": None if wanted.over is None else read_picture(wanted.over),
        "colors": {
            "dark": _hex(gradient(LEVELS, diverging=diverging)),
            "light": _hex(gradient(LEVELS, diverging=diverging, light=True)),
        },
        "matrices": _matrices(gallery, size, most, labels),
        "labels": _listed(labels),
    }


def _affordable(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Find how many bytes a number may have, and how many cells a picture down and across.

    Examples
    --------
    >>> _affordable([(500, 500)] * 12), _affordable([(512, 512)] * 144)
    ((4, 30000), (1, 488))
    """
    if len(shapes) > _MOST_MATRICES:
        raise FileError(
            f"{len(shapes)} matrices are too many for one page, which holds {_MOST_MATRICES}",
            hint="--layer 0 leaves those of one layer, as --head 0 and --item 0 do",
        )
    most = _MOST_CELLS
    while True:
        count = sum(
            -(-rows // factor(rows, most)) * -(-columns // factor(columns, most))
            for rows, columns in shapes
        )
        for size in (8, 4, 2, 1):
            if count * size <= _MOST_BYTES:
                return size, most
        most = most * 9 // 10


def _matrices(
    gallery: Gallery, size: int, most: int, labels: dict[tuple[str, ...], int]
) -> Iterator[dict[str, Any]]:
    selection = gallery.selection
    said: dict[str, None] = {}

    def known(texts: Sequence[str] | None) -> int | None:
        """Give the number of a list of labels, most of which are those of the matrix before."""
        return None if texts is None else labels.setdefault(tuple(texts), len(labels))

    for one, picture in zip(selection.matrices, gallery, strict=True):
        down, across = (factor(side, most) for side in picture.weights.shape)
        weights, scale, note = picture.pooled(down, across)
        numbers, unit, exact = _numbers(weights, size)
        notes = [note, "" if exact else f"weights are rounded to {_ROUNDED[numbers.itemsize]}"]
        notes = [*filter(None, notes)]
        said |= dict.fromkeys(notes)
        told = beyond(scale.smaller, scale.larger)
        cut, pooled = selection.cut(one), down * across > 1
        tokens = {
            name: None if pooled or texts is None else [texts[place] for place in kept.tolist()]
            for name, axis, kept in (
                ("tokens_dec", "T_dec", cut.rows),
                ("tokens_enc", "T_enc", cut.columns),
            )
            for texts in [selection.tokens(one, axis)]
        }
        low, top = ends(scale)
        yield {
            "heading": picture.heading,
            "names": one.names,
            "part": one.part,
            "shape": list(numbers.shape),
            "by": [down, across],
            **{name: known(texts) for name, texts in tokens.items()},
            "rows": known(_blocks(picture.rows, down)),
            "columns": known(_blocks(picture.columns, across)),
            "scale": {"kind": scale.kind, "bottom": scale.bottom, "top": scale.top},
            "legend": [low, top, *filter(None, (told, *notes))],
            "dtype": numbers.dtype.str,
            "unit": unit,
            "weights": base64.b64encode(numbers.tobytes()).decode(),
        }
    if said:
        message = f"the page is not exact: {', '.join(said)}; {_FEWER}"
        warnings.warn(message, AttnWarning, stacklevel=2)


def _numbers(weights: Array, size: int) -> tuple[Array, float, bool]:
    """Write weights as numbers of at most so many bytes; say by what to multiply, and if exactly.

    Examples
    --------
    >>> _numbers(np.array([[0.5, 0.25]]), 8)
    (array([[0.5 , 0.25]], dtype=float32), 1.0, True)
    >>> weights = np.array([[0.5, 0.125, np.nan]])
    >>> _numbers(weights, 2)[0], _numbers(weights, 1)[0]
    (array([[ 32767,   8192, -32768]], dtype=int16), array([[ 127,   64, -128]], dtype=int8))
    """
    short = weights.astype("<f4")
    exact = np.array_equal(short, weights, equal_nan=True)
    if size >= 4 and (exact or size < 8):
        return short, 1.0, exact
    if size >= 8:
        return weights.astype("<f8"), 1.0, True
    dtype = np.dtype("<i2" if size == 2 else "i1")
    most = np.iinfo(dtype).max
    finite = np.isfinite(weights)
    largest = float(np.abs(weights, dtype=np.float64).max(initial=0.0, where=finite)) or 1.0
    shares = np.where(finite, weights, 0) / largest
    if size == 1:  # squares, so that small ones are told apart too
        shares = np.sign(shares) * np.sqrt(np.abs(shares))
    codes = np.where(finite, np.rint(shares * most), -most - 1).astype(dtype)
    unit = largest / (most if size == 2 else most**2)
    return codes, unit, False


def _blocks(texts: Sequence[str], by: int) -> Sequence[str]:
    """Label every block by its first step."""
    return texts if by == 1 else [f"{text}…" for text in texts[::by]]


def _listed(labels: dict[tuple[str, ...], int]) -> Iterator[tuple[str, ...]]:
    """Give the lists of labels, all of which are known when it is their turn."""
    yield from labels


def _hex(colors: Sequence[tuple[int, int, int]]) -> list[str]:
    return [f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors]
