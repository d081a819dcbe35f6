"""The formats by their endings: what reads and what writes each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import FileError
from attncli.files import npy, npz, safetensors
from attncli.files.atomic import check_output, replacing
from attncli.files.entries import Entry
from attncli.files.preflight import NPY_MAGIC, ZIP_MAGICS, refuse_foreign
from attncli.files.source import Source

ENDINGS = (".npz", ".npy", ".safetensors")


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe the arrays of a file of any format, told by its first bytes.

    Raises
    ------
    FileError
        If it is of no known format, or damaged.
    """
    with source.open() as stream:
        beginning = stream.read(16)
    if beginning.startswith(NPY_MAGIC):
        return npy.list_entries(source)
    if beginning.startswith(ZIP_MAGICS):
        return npz.list_entries(source)
    if source.label.endswith(".safetensors") or safetensors.looks_like(beginning, source.size):
        return safetensors.list_entries(source)
    refuse_foreign(beginning, source.label)
    what = "not an .npy, .npz or .safetensors file"
    raise FileError(f"{source.label}: {what}" + (": it is empty" if source.size == 0 else ""))


def check_target(path: str, *, force: bool = False, inputs: tuple[str, ...] = ()) -> None:
    """Say before any work whether `path` names a known format and could be written.

    Raises
    ------
    FileError
    """
    _ending(path)
    check_output(path, force=force, inputs=inputs)


def save(path: str, arrays: Mapping[str, Array], *, force: bool = False) -> None:
    """Write arrays to a file in the format of its ending, atomically.

    Parameters
    ----------
    path : str
        Ends in one of `ENDINGS`.
    arrays : mapping of str to ndarray
        What to write; an .npy file takes exactly one.
    force : bool, default False
        Whether an existing file may be replaced.

    Raises
    ------
    FileError
        If the ending is not known, the file exists or cannot be written.
    """
    ending = _ending(path)
    with replacing(path, force=force) as stream:
        if ending == ".npy":
            (array,) = arrays.values()
            npy.write(stream, array)
        elif ending == ".npz":
            npz.write(stream, arrays)
        else:
            safetensors.write(stream, arrays, path)


@contextlib.contextmanager
def filling(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, force: bool = False
) -> Iterator[Array]:
    """Write one array to an .npy file as it is computed, atomically.

    Yields
    ------
    ndarray
        Mapped into the file; fill it in.  It stays readable afterwards.

    Raises
    ------
    FileError
        If the file exists, cannot be written, or has no room on the disk.
    """
    with replacing(path, force=force) as stream:
        yield npy.create(stream, shape, dtype)


def save_to_stream(stream: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays as .npz to a stream that need not be seekable, and flush it."""
    npz.write(stream, arrays)
    stream.flush()


def _ending(path: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        return ".npz"  # a pipe or a device has no ending to go by
    ending = PurePath(path).suffix.lower()
    if ending not in ENDINGS and path and not os.path.isdir(path):
        found = f"the ending {ending}" if ending else "no ending"
        raise FileError(f"{path}: {found}, expected one of {', '.join(ENDINGS)}")
    return ending
