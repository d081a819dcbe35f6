"""What a file holds: tensors by the names this tool knows, tokens, and the options of a run."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.errors import AttnError, DataError, DtypeError, FileError
from attncli.files.dtypes import require_finite, to_numbers
from attncli.files.entries import Entry
from attncli.files.formats import ENDINGS, list_entries, list_folder, listed
from attncli.files.reading import Reading
from attncli.files.source import open_source, refused
from attncli.foreign import as_array, dtype_name
from attncli.memory import require
from attncli.spelling import nearest

Index = int | slice | Array
"""One position along an axis, a slice, or an array of positions."""

SHORT_NAMES = {"q": "query", "k": "key", "v": "value"}
_OTHER_NAMES = {
    **SHORT_NAMES,
    "alibi_slopes": "alibi",
    "cache_seqlens": "kv_lengths",
    "seqused_k": "kv_lengths",
    "cu_seqlens_q": "cu_seqlens",
}
_OPTIONS = "options"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _are_steps(value: Any) -> bool:
    return all(map(_is_whole, value if isinstance(value, list) else [value]))


_TEXT, _WHOLE = (_is_text, "text"), (_is_whole, "a whole number of 64 bits")
_NUMBER, _STEPS = (_is_number, "a finite number"), (_are_steps, "a whole number, or a list of some")
# What a run writes of itself.  Nothing is computed where there is anything else.
_WRITTEN = {
    **dict.fromkeys(("attn", "command", "layer", "source", "engine"), _TEXT),
    **dict.fromkeys(("causal", "align", "layout", "rotary"), _TEXT),
    **dict.fromkeys(("heads", "kv_heads", "rotary_width", "item", "head", "step"), _WHOLE),
    "seed": (lambda value: _is_whole(value) and value >= 0, "a whole number, 0 or more"),
    **dict.fromkeys(("scale", "softcap", "keep_prob", "rotary_base"), _NUMBER),
    **dict.fromkeys(("window", "block"), _STEPS),
    "inputs": (lambda value: isinstance(value, dict), "an object"),
}


@dataclass(frozen=True)
class TensorFile:
    """The arrays of a file by the names this tool knows; nothing is loaded until asked for.

    Attributes
    ----------
    label : str
        The file's name in messages.
    entries : dict of str to Entry
    reading : Reading
    elsewhere : dict of str to (str, str)
        The inputs of a run that it did not copy and that are not in its folder: the file of each,
        and its name there.
    theirs : mapping of str to str
        What the file itself calls those of another name.
    """

    label: str
    entries: dict[str, Entry]
    reading: Reading
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    theirs: Mapping[str, str] = field(default_factory=dict, repr=False)
    _last: dict[str, Array] = field(default_factory=dict, repr=False)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without loading it."""
        return self.entries[name].shape

    def called(self, name: str) -> str:
        """Give the name of an array in the file itself."""
        return self.theirs.get(name, name)

    def numbers(
        self,
        name: str,
        index: tuple[Index, ...] = (),
        *,
        known_as: str | None = None,
        allow_nonfinite: bool = False,
    ) -> Array:
        """Load an array of booleans, integers or floats, or the part of it at an index.

        Only that part is read where the file can be mapped, and only that part is checked. An
        index takes along every axis one position, a slice, or an array of positions. Where the
        file's name for it is not ours, `known_as` is ours, for messages. With `allow_nonfinite`,
        NaN and Inf are no error whatever `Reading` says.

        Raises
        ------
        DtypeError
            If it holds something else.
        DataError
            If it holds NaN or Inf and `Reading.allow_nonfinite` is not set.
        FileError, MemoryLimitError
            If it cannot be loaded.
        """
        raw = self._load(name, index)
        name = known_as or name or "the array"
        array = to_numbers(
            raw, name, self.label,
            as_dtype=self.reading.as_dtype, max_memory=self.reading.max_memory,
        )  # fmt: skip
        if not (allow_nonfinite or self.reading.allow_nonfinite):
            where = f"{name}[{', '.join(map(_written, index))}]" if index else name
            require_finite(array, where, self.label, minus_inf=name == "mask")
        return array

    def stored_dtype(self, name: str, loaded: Array) -> str:
        """Name what the numbers of an array, loaded and perhaps widened, are in the file."""
        entry = self.entries[name]
        if entry.dtype.kind == "V" and loaded.dtype.kind == "f":
            return "float16" if loaded.dtype == np.float16 else "bfloat16"
        return entry.stored_as or loaded.dtype.name

    def tokens(self, name: str) -> Tokens:
        """Load an array of tokens; byte strings are decoded, numbers (token ids) written out.

        Raises
        ------
        DtypeError
            If it holds neither text nor integers.
        """
        array = self._load(name)
        require(array.nbytes, f"{self.label}: {name}", self.reading.max_memory)
        if array.dtype.kind == "S":
            return np.strings.decode(array, "utf-8", "backslashreplace")
        if array.dtype.kind not in "Uiu":
            raise DtypeError(f"{self.label}: {name} is {array.dtype}, expected text or token ids")
        if array.dtype.kind == "U" and not _is_unicode(array):
            raise DataError(f"{self.label}: {name} holds what is no Unicode character")
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
        array, its = self._load(_OPTIONS), f"{self.label}: its options"
        options: Any = None
        if array.dtype.kind == "U" and array.ndim == 0 and _is_unicode(array):
            from attncli.files.json_arrays import parse_json

            options = parse_json(str(array), its)
        if not isinstance(options, dict):
            raise DataError(f"{self.label}: options is not the JSON object that a run writes")
        for name, value in options.items():
            if name not in _WRITTEN:
                raise DataError(f"{its} hold what no run writes: {name!r}")
            is_good, expected = _WRITTEN[name]
            if value is not None and not is_good(value):
                came = text if len(text := str(value)) < 30 else f"{text[:20]}…"
                raise DataError(
                    f"{its} hold what no run writes: {name} is {came}, expected {expected}"
                )
        return {name: value for name, value in options.items() if value is not None}

    def at(self, name: str, axis: int, number: int) -> TensorFile:
        """Give the file with only one position along an axis of one of its arrays."""
        whole, index = self.entries[name], (slice(None),) * axis + (number,)
        shape = whole.shape[:axis] + whole.shape[axis + 1 :]
        part = Entry(shape, whole.dtype, lambda _: self._load(name)[index], whole.stored_as)
        return TensorFile(self.label, {**self.entries, name: part}, self.reading)

    def _load(self, name: str, index: tuple[Index, ...] = ()) -> Array:
        """Load an array, or a part; of arrays that cannot be mapped, the last one is remembered."""
        entry = self.entries[name]
        try:
            if index and entry.read is not None and name not in self._last:
                box, index = _box(entry.shape, index)
                return _part(entry.read(box, self.reading.max_memory), index)
            if name not in self._last:
                self._last.clear()
                self._last[name] = entry.load(self.reading.max_memory)
        except OSError as error:
            raise refused(self.label, error) from None
        return _part(self._last[name], index) if index else self._last[name]


def _box(
    shape: tuple[int, ...], index: tuple[Index, ...]
) -> tuple[tuple[slice, ...], tuple[Index, ...]]:
    """Give the region that an index lies in, and the index within it."""
    box: list[slice] = []
    within: list[Index] = []
    one: Any
    whole = (slice(None),) * (len(shape) - len(index))
    for size, one in zip(shape, (*index, *whole), strict=True):
        if isinstance(one, np.ndarray):
            first, last = (int(one.min()), int(one.max())) if one.size else (0, -1)
            within.append(one - first)
        elif isinstance(one, slice):
            places = range(size)[one]
            first, last = sorted((places[0], places[-1])) if places else [0, -1]
            within.append(slice(None, None, one.step))
        else:
            first = last = range(size)[one]
            within.append(0)
        box.append(slice(first, last + 1))
    return tuple(box), tuple(within)


def _is_unicode(text: Array) -> bool:
    """Tell whether all that text from a file holds are characters; Python fails on others."""
    if text.dtype.itemsize == 0:
        return True
    codes = np.ascontiguousarray(text).view(text.dtype.str[0] + "u4")
    return int(codes.max(initial=0)) <= sys.maxunicode


def _follow(entries: dict[str, Entry], store: str) -> dict[str, tuple[str, str]]:
    """Add the inputs that a run says are in files of its folder; return those that are elsewhere.

    What it says is somebody's: it names no file that is not beside it.
    """
    elsewhere = {}
    here = os.path.dirname(os.path.realpath(store))
    try:
        told = json.loads(str(entries[_OPTIONS].load(None)))["inputs"].items()
        inputs = {name: (str(one["path"]), str(one["name"])) for name, one in told}
        paths = {path: os.path.realpath(os.path.join(here, path)) for path, _ in inputs.values()}
    except (AttnError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}  # who reads the options says what is wrong with them

    @functools.cache  # opened once, however many it is said to hold
    def beside(path: str) -> dict[str, Entry]:
        is_there = os.path.isfile(path) or os.path.isdir(path)  # a pipe would be waited for
        if not is_there or not path.startswith(os.path.join(here, "")):
            raise FileError(f"{path} is no file in {here}")
        return open_tensors(path, follow=False).entries

    for name, (path, theirs) in inputs.items():
        if name in entries:
            continue
        try:
            entries[name] = beside(paths[path])[theirs]
        except (AttnError, LookupError):
            elsewhere[name] = paths[path], theirs
    return elsewhere


def open_tensors(name: str, reading: Reading | None = None, *, follow: bool = True) -> TensorFile:
    """Open a file of tensors, or a folder of .npy files, each of which is one.

    Parameters
    ----------
    name : str
        A path; ``-`` is standard input.
    reading : Reading, optional
        How to read it.
    follow : bool, default True
        Whether the inputs of a run are read where it says that they are, if that is beside it.

    Raises
    ------
    FileError
        If it cannot be read, is damaged or of no known format, or lacks a name to be renamed.
    """
    reading = reading or Reading()
    expected = f"an {listed(ENDINGS)} file"
    try:
        if os.path.isdir(name) and (entries := list_folder(name, reading.max_memory)) is not None:
            elsewhere = _follow(entries, name) if follow else {}
            return replace(_by_our_names(entries, name, reading), elsewhere=elsewhere)
        source = open_source(name, max_memory=reading.max_memory, expected=expected)
        entries = list_entries(source)
    except OSError as error:
        raise refused(name, error) from None
    return _by_our_names(entries, source.label, reading)


def hold_tensors(
    tensors: Mapping[str, Any], label: str, reading: Reading | None = None
) -> TensorFile:
    """Treat arrays at hand, of NumPy or of others, as what a file holds.

    Examples
    --------
    >>> held = hold_tensors({"q": np.ones((3, 2))}, "mine")
    >>> held.shape("query"), held.numbers("query", (0,))
    ((3, 2), array([1., 1.]))
    """
    entries = {name: _at_hand(tensor) for name, tensor in tensors.items()}
    reading = reading or Reading()
    return _by_our_names(entries, label, reading)


def _at_hand(tensor: Any) -> Entry:
    array = as_array(tensor)
    half = hasattr(tensor, "dtype") and dtype_name(tensor) == "bfloat16"
    stored_as = "bfloat16" if half else None
    return Entry(array.shape, array.dtype, lambda max_memory: array, stored_as)


def _by_our_names(entries: Mapping[str, Entry], label: str, reading: Reading) -> TensorFile:
    names: dict[str, list[str]] = {}  # one array may go by several: a key that is the value too
    for ours, theirs in reading.rename.items():
        names.setdefault(theirs, []).append(_OTHER_NAMES.get(ours, ours))
    for theirs in names:
        if theirs not in entries:
            held = ", ".join(entries) or "none"
            near = nearest(theirs, entries)
            hint = near and " ".join(f"--rename {ours}={near}" for ours in names[theirs])
            raise FileError(
                f"{label}: no array named {theirs} to rename (it holds: {held})", hint=hint
            )
    known: dict[str, Entry] = {}
    taken: dict[str, str] = {}
    for theirs, entry in entries.items():
        for ours in names.get(theirs) or [_OTHER_NAMES.get(theirs, theirs)]:
            if ours in known:
                other = next(x for x in (theirs, taken[ours]) if x != ours)
                raise FileError(f"{label}: {ours} is there twice, also as {other}")
            known[ours], taken[ours] = entry, theirs
    return TensorFile(label, known, reading, theirs=taken)


def _part(array: Array, index: tuple[Index, ...]) -> Array:
    """Take a part along every axis by itself; of a mapped array nothing else is read."""
    part = array[tuple(slice(None) if isinstance(one, np.ndarray) else one for one in index)]
    axes = [one for one in index if not isinstance(one, int)]
    for axis, one in enumerate(axes):
        if isinstance(one, np.ndarray):
            part = part[(slice(None),) * axis + (one,)]
    return part


def _written(index: Index) -> str:
    """Write an index as in Python, a long one in short."""
    if isinstance(index, slice):
        return ":".join("" if end is None else str(end) for end in (index.start, index.stop))
    if isinstance(index, np.ndarray):
        return np.array2string(index, separator=", ", threshold=6, edgeitems=2)
    return str(index)


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
