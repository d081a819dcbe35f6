"""The pages that ``attn show-weights --export`` writes, whose numbers and words are read back."""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, DataError, FileError
from attncli.files.entries import Entry
from attncli.files.exported import Matrix, Words, arrays_of, refuse_image
from attncli.files.json_arrays import parse_json
from attncli.files.source import Source
from attncli.files.texts import decoded, entries_of

_DATA = '<script type="application/json" id="data">'
_DTYPES = ("<f8", "<f4", "<i2", "|i1")
_EXACT = "drawn again with --export page.json, it has every number"


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe every array of the page; all of them are read.

    Raises
    ------
    FileError
        If it is another's page.
    DataError
        If it is damaged, or holds no weight for itself.
    """
    data = decoded(source).partition(_DATA)[2].partition("</script>")[0]
    return entries_of(arrays_in(data or "null", source.label, "page"))


def arrays_in(text: str, label: str, what: str) -> dict[str, Array]:
    """Read the arrays of the object that a page has, or another file that shows weights.

    Raises
    ------
    FileError, DataError
        If it is none of ours, damaged, or holds no weight for itself.
    """
    tree = parse_json(text, label)
    if not isinstance(tree, dict) or not isinstance(tree.get("matrices"), list):
        raise FileError(
            f"{label}: a {what} without the numbers that attn show-weights --export writes",
            hint=_EXACT,
        )
    if tree.get("image"):
        refuse_image({"row": 0}, label)
    matrices = [
        _matrix(tree, one, f"{label}: matrices[{number}]")
        for number, one in enumerate(tree["matrices"])
    ]
    if any("i" in one["dtype"] for one in tree["matrices"]):
        message = f"{label}: its weights were rounded when it was written"
        warnings.warn(message, AttnWarning, stacklevel=2)
    return arrays_of(matrices, label)


def _matrix(tree: Mapping[str, Any], one: Any, what: str) -> Matrix:
    if not isinstance(one, dict) or not isinstance(one.get("names"), dict):
        raise DataError(f"{what} has no names")
    by: Any = one.get("by")
    if by != [1, 1]:
        pair = isinstance(by, list) and [*map(type, by)] == [int, int]
        several = f"{by[0]} × {by[1]}" if pair else "several"
        raise DataError(f"{what} has one number for {several} weights", hint=_EXACT)
    weights = _weights(one, what)
    words = (
        _words(tree, one, "tokens_dec", "rows", weights.shape[0], what),
        _words(tree, one, "tokens_enc", "columns", weights.shape[1], what),
    )
    part = {"part": one["part"]} if one.get("part") and isinstance(one["part"], str) else {}
    return Matrix(one["names"] | part, words, weights)


def _weights(one: Mapping[str, Any], what: str) -> Array:
    shape, dtype = one.get("shape"), one.get("dtype")
    unit: Any = one.get("unit")
    try:
        data = base64.b64decode(one["weights"], validate=True)
        stored = np.frombuffer(data, _DTYPES[_DTYPES.index(dtype)]).reshape(shape)
        if stored.ndim != 2 or type(unit) not in (int, float):
            raise ValueError
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise DataError(f"{what}.weights are no {dtype} of shape {shape}") from None
    if stored.dtype.kind == "f":
        return stored
    codes = stored.astype(np.float64)
    values = codes * (np.abs(codes) if stored.itemsize == 1 else 1) * unit  # of one byte squares
    return np.where(stored == np.iinfo(stored.dtype).min, np.nan, values)


def _words(
    tree: Mapping[str, Any], one: Mapping[str, Any], name: str, shown: str, size: int, what: str
) -> Words:
    """Give the words along an axis; of a part without words, the places that it was cut at."""
    labels: Any = tree.get("labels")
    place = one.get(name)
    try:
        words = labels[one[shown] if place is None else place]
    except (KeyError, TypeError, IndexError):
        raise DataError(f"{what} has no {name}") from None
    if not isinstance(words, list) or [*map(type, words)] != [str] * size:
        raise DataError(f"{what}.{name} are no {size} words")
    return None if place is None and words == [*map(str, range(size))] else words
