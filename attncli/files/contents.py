"""What a file holds: tensors by the names this tool knows, tokens, and the options of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.errors import DataError, DtypeError, FileError
from attncli.files.dtypes import require_finite, to_numbers
from attncli.files.entries import Entry
from attncli.files.formats import list_entries
from attncli.files.reading import Reading
from attncli.files.source import open_source

_SHORT_NAMES = {"q": "query", "k": "key", "v": "value"}
_OPTIONS = "options"


@dataclass(frozen=True)
class TensorFile:
    """The arrays of a file by the names this tool knows; nothing is loaded until asked for.

    Attributes
    ----------
    label : str
        The file's name in messages.
    entries : dict of str to Entry
    reading : Reading
    """

    label: str
    entries: dict[str, Entry]
    reading: Reading

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without loading it."""
        return self.entries[name].shape

    def numbers(self, name: str, index: tuple[int, ...] = ()) -> Array:
        """Load an array of booleans, integers or floats, or the part of it at an index.

        Only that part is read where the file can be mapped, and only that part is checked.

        Raises
        ------
        DtypeError
            If it holds something else.
        DataError
            If it holds NaN or Inf and `Reading.allow_nonfinite` is not set.
        FileError, MemoryLimitError
            If it cannot be loaded.
        """
        raw = self.entries[name].load(self.reading.max_memory)[index]
        name = name or "the array"
        array = to_numbers(raw, name, self.label, as_bfloat16=self.reading.as_bfloat16)
        if not self.reading.allow_nonfinite:
            where = f"{name}{list(index)}" if index else name
            require_finite(array, where, self.label, minus_inf=name == "mask")
        return array

    def tokens(self, name: str) -> Tokens:
        """Load an array of tokens; byte strings are decoded, numbers (token ids) written out.

        Raises
        ------
        DtypeError
            If it holds neither text nor integers.
        """
        array = self.entries[name].load(self.reading.max_memory)
        if array.dtype.kind == "S":
            return np.strings.decode(array, "utf-8", "backslashreplace")
        if array.dtype.kind not in "Uiu":
            raise DtypeError(f"{self.label}: {name} is {array.dtype}, expected text or token ids")
        return array.astype(np.str_)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the run that wrote this file; empty where no run did.

        Raises
        ------
        DataError
            If there is an array of that name that is not what a run writes.
        """
        if _OPTIONS not in self.entries:
            return {}
        array = self.entries[_OPTIONS].load(self.reading.max_memory)
        try:
            options = json.loads(str(array)) if array.dtype.kind == "U" else None
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            raise DataError(f"{self.label}: options is not the JSON object that a run writes")
        return options


def open_tensors(name: str, reading: Reading | None = None) -> TensorFile:
    """Open a file of tensors.

    Parameters
    ----------
    name : str
        A path; ``-`` is standard input.
    reading : Reading, optional
        How to read it.

    Raises
    ------
    FileError
        If it cannot be read, is damaged or of no known format, or lacks a name to be renamed.
    """
    reading = reading or Reading()
    source = open_source(name, max_memory=reading.max_memory)
    entries = list_entries(source)
    for ours, theirs in reading.rename.items():
        if theirs not in entries:
            held = ", ".join(entries) or "none"
            raise FileError(f"{source.label}: no array named {theirs} to rename (it holds: {held})")
        if ours in entries and ours != theirs:
            raise FileError(f"{source.label}: renaming {theirs} to {ours}, but {ours} is there too")
    names = {theirs: ours for ours, theirs in reading.rename.items()}
    known: dict[str, Entry] = {}
    for theirs, entry in entries.items():
        ours = names.get(theirs) or _SHORT_NAMES.get(theirs, theirs)
        if ours in known:
            raise FileError(f"{source.label}: {ours} is there twice, also under a short name")
        known[ours] = entry
    return TensorFile(source.label, known, reading)


def run_arrays(
    options: Mapping[str, Any], tensors: Mapping[str, Array], tokens: Mapping[str, Any]
) -> dict[str, Array]:
    """Gather what a run file holds: tensors, tokens, and the options as JSON text.

    Examples
    --------
    >>> arrays = run_arrays({"seed": 0}, {"h": np.zeros((1, 2))}, {})
    >>> sorted(arrays), str(arrays["options"])
    (['h', 'options'], '{"seed": 0}')
    """
    text = np.array(json.dumps(options, ensure_ascii=False))
    return {**tensors, **{name: np.asarray(t) for name, t in tokens.items()}, _OPTIONS: text}
