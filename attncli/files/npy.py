"""The .npy format: one array."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, FileError
from attncli.files.entries import Entry, place_in
from attncli.files.mapped import reserve
from attncli.files.preflight import Header, read_npy_header
from attncli.files.source import Source, open_source, require_unchanged
from attncli.memory import require

_WRITTEN_AT_ONCE = 1 << 24  # bytes


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe the one array of the file, under the empty name."""
    with source.open() as stream:
        header = read_npy_header(stream, source.size, source.label)
    if extra := source.size - header.offset - header.nbytes:
        message = f"{source.label}: the {extra} bytes behind the array are ignored"
        warnings.warn(message, AttnWarning, stacklevel=2)

    def load(max_memory: int | None) -> Array:
        if source.is_file:
            return map_array(source, header, header.offset)
        require(header.nbytes, source.label, max_memory)
        return array_from_bytes(source.data, header)

    place = partial(place_in, source, header, header.offset)
    return {"": Entry(header.shape, header.dtype, load, place=place)}


def list_files(path: str) -> dict[str, Entry]:
    """Describe the arrays of the .npy files in a folder by the files' names.

    None is left open: there may be more of them than a process may hold.
    """
    entries = {}
    for name in sorted(os.listdir(path)):
        stem, ending = os.path.splitext(name)
        if ending == ".npy":
            entries[stem] = _opened_when_asked(os.path.join(path, name))
    return entries


def _opened_when_asked(file: str) -> Entry:
    return replace(
        _only_entry(file),
        load=lambda max_memory: _only_entry(file).load(max_memory),
        place=lambda: _only_entry(file).place(),
    )


def _only_entry(file: str) -> Entry:
    return list_entries(open_source(file))[""]


def map_array(source: Source, header: Header, offset: int) -> Array:
    """Map the data of an array in a file into memory, read-only; pages are read when touched."""
    if header.nbytes == 0:  # nothing to map
        return np.zeros(header.shape, header.dtype)
    try:
        with source.open() as stream:
            return np.memmap(
                stream,
                dtype=header.dtype,
                mode="r",
                offset=offset,
                shape=header.shape,
                order="F" if header.fortran_order else "C",
            )
    except (OSError, ValueError) as error:
        require_unchanged()
        raise FileError(f"{source.label}: cannot be mapped into memory: {error}") from None


def array_from_bytes(data: bytes, header: Header) -> Array:
    """Read an array that is in memory already, behind its header."""
    if header.nbytes == 0:
        return np.zeros(header.shape, header.dtype)
    flat = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def begin(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Begin an .npy file in an empty one, and say where its numbers are to be filled in.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(stream, {**described, "shape": shape})
    stream.flush()
    offset = stream.tell()
    if nbytes := math.prod(shape) * dtype.itemsize:
        reserve(stream, offset, nbytes)
    return offset


def create(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Begin an .npy file in an empty one, and map its numbers, to be filled in.

    Raises
    ------
    OSError
        If the disk has no room for it: said here, because a mapped file cannot say it later.
    """
    offset = begin(stream, shape, dtype)
    return np.asarray(np.memmap(stream, dtype, "r+", offset, shape))


def write(stream: BinaryIO, arrays: Mapping[str, Array], label: str) -> None:
    """Write the one array there is as .npy."""
    (array,) = arrays.values()
    # To a file NumPy would write by itself, and not say why it could not.
    np.lib.format.write_array(OneGo(stream), array, allow_pickle=False)


def write_data(stream: BinaryIO, array: Array) -> None:
    """Write the bytes of an array in the order of its axes, some at a time."""
    at_once = max(1, _WRITTEN_AT_ONCE // max(1, array.itemsize))
    for part in np.nditer(
        array, ["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=at_once
    ):
        stream.write(np.asarray(part).tobytes())


class OneGo:
    """A stream that takes bytes, one after the other, and nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write, self.flush = stream.write, stream.flush
