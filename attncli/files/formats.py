"""The formats of files: an entry for each, and the module that reads and writes it.

To add one, add a `Format` to the table, and its module with ``list_entries(source)``, which
describes what is in a file, and ``write(stream, arrays, label)``. Nothing here imports NumPy: help
texts are made from the table too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from attncli.errors import FileError, ForeignFormatError
from attncli.files.source import encoding_of, free, is_store
from attncli.spelling import nearest

if TYPE_CHECKING:
    from attncli.arrays import Array
    from attncli.files.entries import Entry
    from attncli.files.source import Source

Begins = Callable[[bytes, "Source"], bool]
_JSON = re.compile(r"[\[{]\s*(?:[\[\]{}\"0-9-]|true|false|null|NaN|$)")


class Format(NamedTuple):
    """A format of files.

    Attributes
    ----------
    ending : str
        What names of such files end in.
    module : str
        What reads and writes it.
    begins : callable
        ``begins(beginning, source)`` tells from the first bytes whether a file is one.
    holds_one : bool
        Whether it holds a single array without a name; then its module has ``create`` too, which
        makes a file that is filled in place.
    library : str
        What reading needs that is no dependency; the extra has the same name.
    written : bool
        Whether tensors are written as such too; what is not needs no `write`.
    is_folder : bool
        Whether it is a folder of files; then its module has ``list_store(path, max_memory)`` too.
    """

    ending: str
    module: str
    begins: Begins
    holds_one: bool = False
    library: str = ""
    written: bool = True
    is_folder: bool = False

    def list_entries(self, source: Source) -> dict[str, Entry]:
        """Describe every array of a file by its name."""
        if self.library and find_spec(self.library) is None:
            raise FileError(
                f"{source.label}: {self.ending} files need the {self.library} package",
                hint=f"pip install 'attncli[{self.library}]'",
            )
        entries: dict[str, Entry] = import_module(self.module).list_entries(source)
        return entries

    def write(self, stream: BinaryIO, arrays: Mapping[str, Array], label: str) -> None:
        """Write arrays to a stream; the label names it in messages."""
        import_module(self.module).write(stream, arrays, label)


def _with(*magics: bytes) -> Begins:
    return lambda beginning, source: beginning.startswith(magics)


def _as_safetensors(beginning: bytes, source: Source) -> bool:
    """A length, then a JSON object."""
    length = int.from_bytes(beginning[:8], "little")
    begins = beginning[8:9] == b"{" and 2 <= length <= source.size - 8
    return begins or source.label.endswith(".safetensors")


def _as_json(beginning: bytes, source: Source) -> bool:
    """A list or an object, which a table that begins with [CLS] is not; or what its name says."""
    return bool(_JSON.match(_first_line(beginning))) or (
        bool(beginning) and ending_of(source.label) == ".json"
    )


def _as_csv(beginning: bytes, source: Source) -> bool:
    """Text whose first line has a separator or a number; or whatever its name says."""
    if b"\x80" <= beginning[:1] < b"\xc0":  # no character begins so
        return False
    if ending_of(source.label) in (".csv", ".tsv"):
        return bool(beginning)
    first = _first_line(beginning)
    if not first.isprintable() and not first.replace("\t", "").isprintable():
        return False
    return any(mark in first for mark in ",;\t") or first[:1] in tuple("-+.0123456789")


def _as_page(beginning: bytes, source: Source) -> bool:
    return _first_line(beginning).lower().startswith("<!doctype html")


def _first_line(beginning: bytes) -> str:
    text = beginning.decode(encoding_of(beginning), "replace").lstrip("\ufeff \t\r\n")
    return text.partition("\n")[0].rstrip("\r")


def _as_drawn(beginning: bytes, source: Source) -> bool:
    """A PNG, an SVG, or the title that a table in Markdown has."""
    return beginning.startswith((b"\x89PNG\r\n", b"<svg ", b"<?xml", b"**"))


FORMATS = (
    Format(".npz", "attncli.files.npz", _with(b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
    Format(".npy", "attncli.files.npy", _with(b"\x93NUMPY"), holds_one=True),
    Format(
        ".safetensors", "attncli.files.safetensors", _as_safetensors, library="safetensors"
    ),
    Format(
        ".zarr", "attncli.files.zarr", lambda _, source: ending_of(source.label) == ".zarr",
        is_folder=True,
    ),
    Format(".json", "attncli.files.json_arrays", _as_json, written=False),
    Format(".html", "attncli.files.pages", _as_page, written=False),
    Format(".csv", "attncli.files.csv_rows", _as_csv, written=False),
)  # fmt: skip
ENDINGS = tuple(one.ending for one in FORMATS)
_FOLDERS = tuple(one.ending for one in FORMATS if one.is_folder)
WRITTEN = tuple(one.ending for one in FORMATS if one.written)
_BEGINNING = 512
# What is drawn of weights, and carries them.
_DRAWN = Format("", "attncli.files.drawn", _as_drawn, written=False)


def listed(endings: Sequence[str]) -> str:
    """Name endings in a sentence.

    Examples
    --------
    >>> listed(ENDINGS)
    '.npz, .npy, .safetensors, .zarr, .json, .html or .csv'
    """
    *others, last = endings
    return f"{', '.join(others)} or {last}"


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe the arrays of a file of any format, told by its first bytes.

    Raises
    ------
    FileError
        If it is of no known format, or damaged.
    """
    from attncli.files.conversions import conversion, kind_of  # not for help texts alone
    from attncli.files.entries import require_credible

    beginning = source.beginning(_BEGINNING)
    try:
        for one in (_DRAWN, *FORMATS):
            if one.begins(beginning, source):
                entries = one.list_entries(source)
                require_credible(entries, source.label)
                return entries
        if kind := kind_of(beginning, ending_of(source.label)):
            raise ForeignFormatError(kind)
    except ForeignFormatError as found:
        raise FileError(
            f"{source.label}: is {found.kind}, expected {listed(ENDINGS)}",
            hint=conversion(found.kind, source, found.inside),
        ) from None
    what = f"not an {listed(ENDINGS)} file"
    raise FileError(f"{source.label}: {what}" + ("" if beginning else ": it is empty"))


def list_folder(path: str, max_memory: int | None = None) -> dict[str, Entry] | None:
    """Describe the arrays of a folder: of a zarr store, or of .npy files; None if it is neither.

    Raises
    ------
    FileError
        If a store, or one of the files, is damaged.
    """
    from attncli.files.entries import require_credible
    from attncli.files.npy import list_files

    if not is_store(path) and (entries := list_files(path)):
        require_credible(entries, path)
        return entries
    if not is_store(path) and ending_of(path.rstrip("/")) not in _FOLDERS:
        return None
    (one,) = (one for one in FORMATS if one.is_folder)
    stored: dict[str, Entry] = import_module(one.module).list_store(path, max_memory)
    require_credible(stored, path)
    return stored


def ending_of(path: str, known: Collection[str] = ()) -> str:
    """Return what a path ends in, small.

    Raises
    ------
    FileError
        If endings that are known are given, and it is none of them.
    """
    ending = os.path.splitext(path)[1].lower()
    if known and ending not in known:
        found = f"the ending {ending}" if ending else "no ending"
        meant = os.path.splitext(path)[0] + (nearest(ending, known) or next(iter(known)))
        raise FileError(
            f"{path}: {found}, expected one of {', '.join(known)}",
            hint=f"is {free(meant)} meant?",
        )
    return ending


def format_of(path: str) -> Format:
    """Return the format that the ending of a path means.

    Raises
    ------
    FileError
        If it means none.
    """
    path = path.rstrip("/") or path
    is_other = os.path.exists(path) and not os.path.isfile(path)
    if not path or (is_other and ending_of(path) not in _FOLDERS):
        return FORMATS[0]  # a pipe or a device has no ending, and a folder another fault
    return FORMATS[ENDINGS.index(ending_of(path, WRITTEN))]
