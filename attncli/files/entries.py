"""One array in a file: what it declares, and how to load it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
