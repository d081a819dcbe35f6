"""The formats of files: an entry for each, and the module that reads and writes it.

To add one, add a `Format` to the table, and its module with ``list_entries(source)``, which
describes what is in a file, and ``write(stream, arrays, label)``. Nothing here imports NumPy: help
texts are made from the table too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from attncli.errors import FileError, ForeignFormatError

if TYPE_CHECKING:
    from attncli.arrays import Array
    from attncli.files.entries import Entry
    from attncli.files.source import Source

Begins = Callable[[bytes, "Source"], bool]


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
    """

    ending: str
    module: str
    begins: Begins
    holds_one: bool = False
    library: str = ""

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


FORMATS = (
    Format(".npz", "attncli.files.npz", _with(b"PK\x03\x04", b"PK\x05\x06")),
    Format(".npy", "attncli.files.npy", _with(b"\x93NUMPY"), holds_one=True),
    Format(
        ".safetensors", "attncli.files.safetensors", _as_safetensors, library="safetensors"
    ),
)  # fmt: skip
ENDINGS = tuple(one.ending for one in FORMATS)

# What people have that executes code or needs another library: how it begins, or, where text has
# no beginning to be told by, ends; and the lines that convert it.
_FOREIGN = {
    "a pickle": (
        b"\x80",
        "convert it where you trust it: import numpy, torch; t = torch.load(FILE)",
        "numpy.savez('out.npz', **{name: tensor.numpy() for name, tensor in t.items()})",
    ),
    "an HDF5 file": (
        b"\x89HDF",
        "convert it: import h5py, numpy; f = h5py.File(FILE)",
        "numpy.savez('out.npz', **{name: f[name][()] for name in f})",
    ),
    "a CSV file": (
        ".csv",
        "convert it: import numpy; numpy.save('out.npy', numpy.loadtxt(FILE, delimiter=','))",
    ),
    "a TSV file": (
        ".tsv",
        "convert it: import numpy; numpy.save('out.npy', numpy.loadtxt(FILE))",
    ),
    "a JSON file": (
        ".json",
        "convert it: import json, numpy; numpy.save('out.npy', json.load(open(FILE)))",
    ),
}


def listed(endings: Sequence[str]) -> str:
    """Name endings in a sentence.

    Examples
    --------
    >>> listed(ENDINGS)
    '.npz, .npy or .safetensors'
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
    with source.open() as stream:
        beginning = stream.read(16)
    try:
        for one in FORMATS:
            if one.begins(beginning, source):
                return one.list_entries(source)
        _refuse_foreign(beginning, ending_of(source.label))
    except ForeignFormatError as found:
        raise FileError(
            f"{source.label}: is {found.kind}, expected {listed(ENDINGS)}",
            hint="\n".join(map(str, _FOREIGN[found.kind][1:])),
        ) from None
    what = f"not an {listed(ENDINGS)} file"
    raise FileError(f"{source.label}: {what}" + (": it is empty" if source.size == 0 else ""))


def _refuse_foreign(beginning: bytes, ending: str) -> None:
    for kind, (told_by, *_) in _FOREIGN.items():
        by_bytes = isinstance(told_by, bytes) and beginning.startswith(told_by)
        if by_bytes or (told_by == ending and beginning):
            raise ForeignFormatError(kind)


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
        raise FileError(f"{path}: {found}, expected one of {', '.join(known)}")
    return ending


def format_of(path: str) -> Format:
    """Return the format that the ending of a path means.

    Raises
    ------
    FileError
        If it means none.
    """
    if not path or (os.path.exists(path) and not os.path.isfile(path)):
        return FORMATS[0]  # a pipe or a device has no ending, and a folder another fault
    return FORMATS[ENDINGS.index(ending_of(path, ENDINGS))]
