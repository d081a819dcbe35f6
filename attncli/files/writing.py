"""Writing arrays to a file, in the format of its ending."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import FileError, ParameterError
from attncli.files import chunks, npy, regions
from attncli.files.atomic import check_output, is_device, replacing, same_file
from attncli.files.formats import FORMATS, ending_of, format_of
from attncli.files.texts import text_of


def check_target(path: str, *, force: bool = False, inputs: tuple[str, ...] = ()) -> None:
    """Say before any work whether `path` names a known format and could be written.

    Raises
    ------
    FileError
    """
    check_output(path, force=force, inputs=inputs, is_store=format_of(path).is_folder)


def check_outputs(
    option: str,
    paths: Sequence[str],
    endings: Collection[str],
    *,
    force: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """Say before any work whether the files that an option names could be written.

    Parameters
    ----------
    option : str
        For the message.
    paths : sequence of str
    endings : collection of str
        Those that are known.
    force, inputs
        As of `check_target`.

    Raises
    ------
    FileError
    ParameterError
        If two are one file.
    """
    inputs, before = tuple(inputs), list[str]()
    for path in paths:
        real = os.path.realpath(path)
        for other in before:
            if real == os.path.realpath(other) or same_file(path, other):
                raise ParameterError(f"{option} {other}: the same file is named twice")
        before.append(path)
        ending_of(path, endings)
        check_output(path, force=force, inputs=inputs)


def save(
    path: str, arrays: Mapping[str, Array], *, force: bool = False, main: str | None = None
) -> str | None:
    """Write arrays to a file in the format of its ending, atomically.

    Parameters
    ----------
    path : str
    arrays : mapping of str to ndarray
        What to write.
    force : bool, default False
        Whether an existing file may be replaced.
    main : str, optional
        Which of several arrays goes into a file that holds but one.

    Returns
    -------
    str or None
        The array that the file holds, where it holds but one of several.

    Raises
    ------
    FileError
        If the ending is not known, the file exists or cannot be written, or holds but one array
        and nothing says which.
    """
    one = format_of(path)
    main = main if one.holds_one and len(arrays) > 1 else None
    if one.holds_one and len(arrays) > 1:
        if main is None:
            raise FileError(
                f"{path}: an {one.ending} file holds one array, and there are several results",
                hint=f"write an {FORMATS[0].ending} file",
            )
        arrays = {main: arrays[main]}
    if one.is_folder:
        _save_store(path, arrays, force=force)
        return main
    with replacing(path, force=force) as stream:
        one.write(stream, arrays, path)
    return main


def _save_store(path: str, arrays: Mapping[str, Array], *, force: bool) -> None:
    """Write arrays in chunks, and text among the store's attributes."""
    tensors = {name: array for name, array in arrays.items() if array.dtype.kind != "U"}
    with regions.create(
        path,
        {
            name: (array.shape, array.dtype, chunks.pieces(array.shape, array.itemsize))
            for name, array in tensors.items()
        },
        {name: text_of(array) for name, array in arrays.items() if name not in tensors},
        force=force,
    ) as output:
        for name, array in tensors.items():
            regions.write(output.regions[name], (), array)
        output.finish()


@contextlib.contextmanager
def filling(
    path: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, force: bool = False
) -> Iterator[Array | None]:
    """Offer a place in a file to compute an array into, if such a file holds one array alone.

    Yields
    ------
    ndarray or None
        Mapped into the file, which appears once this is left; it stays readable afterwards. None
        if the file is to be written in another way.

    Raises
    ------
    FileError
        If the file exists, cannot be written, or has no room on the disk.
    """
    if not format_of(path).holds_one or 0 in shape or is_device(path):
        yield None
        return
    with replacing(path, force=force) as stream:
        yield npy.create(stream, shape, dtype)


def save_to_stream(stream: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a stream that need not be seekable, and flush it."""
    FORMATS[0].write(stream, arrays, "standard output")
    stream.flush()
