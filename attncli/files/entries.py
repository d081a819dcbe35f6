"""One array in a file: what it declares, and how to load it."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from math import prod
from typing import TYPE_CHECKING, Any

from attncli.errors import FileError

if TYPE_CHECKING:
    import numpy as np

    from attncli.arrays import Array
    from attncli.files.chunks import Layout
    from attncli.files.preflight import Header
    from attncli.files.source import Source


@dataclass(frozen=True)
class Place:
    """Where an array lies on the disk, so that another process can read any region of it.

    Attributes
    ----------
    path : str
        The file that its bytes are in; of a zarr array its folder.
    described_in : str
        The file that says so.
    stamp : tuple of int
        That file's size and time of change.
    layout : Header or Layout
        How its bytes lie, a header's offset counted from the file's beginning.
    """

    path: str
    described_in: str
    stamp: tuple[int, int]
    layout: Header | Layout


@dataclass(frozen=True)
class Entry:
    """An array that is in a file.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    load : callable
        ``load(max_memory)`` returns the array, mapped where the format allows it, else read
        after `max_memory` bytes (None: what there is) have been found to be enough.
    stored_as : str or None
        What the numbers were before `load` widens them, where it does: ``"bfloat16"``.
    read : callable or None
        ``read(index, max_memory)`` loads a region, a slice along every axis, where no part of the
        array need be mapped for it.
    place : callable
        ``place()`` says where it lies on the disk; None where it has to be unpacked first, or is
        no file's.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int | None], Array]
    stored_as: str | None = None
    read: Callable[[tuple[slice, ...], int | None], Array] | None = None
    place: Callable[[], Place | None] = lambda: None


def place_in(source: Source, header: Header, offset: int) -> Place | None:
    """Say where an array lies whose numbers begin at an offset of a file; None in a stream."""
    if not source.is_file:
        return None
    path = os.path.abspath(source.label)
    return Place(path, path, source.stamp, replace(header, offset=offset))


# What holds no numbers costs nothing to declare: so many rows or matrices of nothing it may have,
# and so many numbers if its zeros were ones.
_MOST_OF_NOTHING = 1 << 16
_LARGEST_OF_NOTHING = 1 << 30


def require_credible(entries: Mapping[str, Entry], label: str) -> None:
    """Refuse what no array is, whatever the format: twins, and shapes that only an empty one has.

    Raises
    ------
    FileError
    """
    refuse_twins(entries, label)
    for name, entry in entries.items():
        before = prod(takewhile(bool, entry.shape))
        size = prod(n or 1 for n in entry.shape)
        if size * max(1, entry.dtype.itemsize) > sys.maxsize or (
            0 in entry.shape and (before > _MOST_OF_NOTHING or size > _LARGEST_OF_NOTHING)
        ):
            where = f"{label}: {name}" if name else label
            raise FileError(f"{where}: damaged: declares {entry.dtype} {entry.shape}")


def refuse_twins(names: Iterable[str], label: str) -> None:
    """Refuse names that a file system or a reader may take for one: only one of them would be read.

    Raises
    ------
    FileError
        If two differ in nothing but their case, how Unicode writes them, or ``.npy``; or if there
        is a NUL in one, where some readers stop.

    Examples
    --------
    >>> refuse_twins(["W", "x", "w"], "my.npz")
    Traceback (most recent call last):
    attncli.errors.FileError: my.npz: holds W and w, which are two of one name
    """
    known: dict[str, str] = {}
    for name in names:
        if "\0" in name:
            raise FileError(f"{label}: {name!r} has a NUL in its name")
        plain = unicodedata.normalize("NFKC", name).casefold()
        plain = unicodedata.normalize("NFKC", plain).removesuffix(".npy")
        if (other := known.setdefault(plain, name)) is not name:
            raise FileError(f"{label}: holds {other} and {name}, which are two of one name")
