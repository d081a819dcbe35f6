"""Text in files: its encoding, the memory that it takes, and what is in it as an array."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import FileError
from attncli.files.entries import Entry
from attncli.files.source import Source, encoding_of
from attncli.memory import require

# Of so many bytes each byte of text with numbers becomes, as Python's objects, at the most.
_OF_A_BYTE = 12


def decoded(source: Source) -> str:
    """Read a file of text, if the objects that are made of it fit into memory.

    Raises
    ------
    FileError
        If it is no text.
    MemoryLimitError
    """
    require(_OF_A_BYTE * source.size, f"{source.label}, as text,", source.max_memory)
    with source.open() as stream:
        data = stream.read()
    encoding = encoding_of(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise FileError(
            f"{source.label}: line {line}: byte {data[error.start] if data else 0:#04x} is no "
            f"{encoding.removesuffix('-sig').upper()}",
            hint="iconv -f latin1 -t utf-8 FILE > NEW reads it, if it is of Western Europe",
        ) from None


def words_array(words: list[Any], label: str, max_memory: int | None) -> Array:
    """Make an array of words, if it fits: each takes as much as the longest."""
    flat = np.array(words, dtype=object).ravel()
    nbytes = 4 * flat.size * max(map(len, flat), default=1)
    require(nbytes, f"{label}: {flat.size} words", max_memory)
    return np.array(words, dtype=np.str_)


def entries_of(arrays: dict[str, Array]) -> dict[str, Entry]:
    """Describe arrays that are read already."""
    return {name: _entry(array) for name, array in arrays.items()}


def _entry(array: Array) -> Entry:
    return Entry(array.shape, array.dtype, lambda max_memory: array)


def text_entry(text: str) -> Entry:
    """Describe text that a format keeps beside its arrays: one, or a list of them as JSON."""
    try:
        array = np.array(json.loads(text) if text[:1] == "[" else text, dtype=np.str_)
    except (ValueError, RecursionError):  # not ours: keep it as the text it is
        array = np.array(text)
    return _entry(array)


def text_of(array: Array) -> str:
    """Write an array of text as `text_entry` reads it."""
    return str(array) if array.ndim == 0 else json.dumps(array.tolist(), ensure_ascii=False)
