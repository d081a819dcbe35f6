"""Regions of arrays that lie on a disk, read and written by whichever process is given them.

What is handed about is a description, never an array and never a mapping: mapped pages count as
the memory of the process that touches them, and a mapping that is pickled is its contents.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, FileError, ParameterError
from attncli.files import chunks, npy, zarr
from attncli.files.atomic import beside, check_output, put_in_place, unfinished
from attncli.files.contents import TensorFile
from attncli.files.dtypes import require_finite, to_numbers
from attncli.files.formats import format_of
from attncli.files.preflight import Header
from attncli.files.reading import Reading
from attncli.files.source import refused
from attncli.memory import readable, require

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Region:
    """One array of one file, as another process needs it to read or write any region of it.

    Attributes
    ----------
    path : str
        The file; of a zarr array its folder.
    name : str
        The array's, for messages, as it is called here.
    shape : tuple of int
    dtype : dtype
        Of what `read` gives.
    layout : Header or Layout
        How its bytes lie.
    label : str
        The file's, for messages.
    reading : Reading
        How it is to be read.
    described_in : str
        The file that says how its bytes lie.
    stamp : tuple of int or None
        That file's size and time of change when it was described; None of what is being written.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: Header | chunks.Layout
    label: str
    reading: Reading = field(default_factory=Reading)
    described_in: str = ""
    stamp: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.label}: {self.name}" if self.name else self.label

    @property
    def chunk(self) -> tuple[int, ...] | None:
        """The sizes of the chunks it lies in, None if it lies in one piece."""
        return self.layout.grid.chunk if isinstance(self.layout, chunks.Layout) else None


def describe(file: TensorFile, name: str) -> Region:
    """Describe an array of an open file.

    Raises
    ------
    FileError
        If no other process could read regions of it.
    """
    entry = file.entries[name]
    place = entry.place()
    if place is None:
        raise FileError(
            f"{file.label}: {name or 'the array'} cannot be read in parts",
            hint="numpy.savez (not savez_compressed) and numpy.save write what can",
        )
    half = entry.stored_as or (file.reading.as_dtype if entry.dtype == np.dtype("V2") else None)
    dtypes: dict[str | None, Any] = {"bfloat16": np.float32, "float16": np.float16}
    return Region(
        place.path, name, entry.shape,
        np.dtype(dtypes.get(half, entry.dtype.newbyteorder("="))),
        place.layout, file.label,
        Reading(file.reading.max_memory, file.reading.allow_nonfinite, half),
        place.described_in, place.stamp,
    )  # fmt: skip


def read(region: Region, index: Slices = ()) -> Array:
    """Read a region of an array into memory of its own.

    Parameters
    ----------
    region : Region
    index : tuple of slice, optional
        Along the axes, without steps; those that are not named are read whole.

    Returns
    -------
    ndarray
        Booleans, integers or floats in native byte order.

    Raises
    ------
    FileError
        If it cannot be read, or its file has changed since it was described.
    DtypeError, DataError, MemoryLimitError
        As where a file is read whole.
    """
    index = _whole(index, region.shape)
    try:
        if region.stamp is not None:
            status = os.stat(region.described_in)
            if (status.st_size, status.st_mtime_ns) != region.stamp:
                raise FileError(f"{region.label}: has changed since this run began")
        if isinstance(region.layout, chunks.Layout):
            raw = chunks.read(
                region.path, region.layout, index, region.where, region.reading.max_memory
            )
        else:
            raw = _read_flat(region, region.layout, index)
    except OSError as error:
        raise refused(region.label, error) from None
    array = to_numbers(
        raw, region.name or "the array", region.label,
        as_dtype=region.reading.as_dtype, max_memory=region.reading.max_memory,
    )  # fmt: skip
    if not region.reading.allow_nonfinite:
        part = ", ".join(f"{one.start}:{one.stop}" for one in index)
        require_finite(
            array, f"{region.name}[{part}]", region.label, minus_inf=region.name == "mask"
        )
    return array


def write(region: Region, index: Slices, array: Array) -> None:
    """Write a region of an array that is being made; it is on the disk when this returns.

    Parameters
    ----------
    region : Region
        Of an `Output`.
    index : tuple of slice
        As of `read`; in zarr it must begin and end where chunks do.
    array : ndarray

    Raises
    ------
    FileError
        If there is no room, or the file is gone.
    ValueError
        If the array is no such region, or the region is not of whole chunks.
    """
    index = _whole(index, region.shape)
    sizes = tuple(one.stop - one.start for one in index)
    if array.shape != sizes:
        raise ValueError(f"{region.where}: {array.shape} is written to a region of {sizes}")
    try:
        if isinstance(region.layout, chunks.Layout):
            chunks.write(region.path, region.layout, index, array)
            return
        array = np.ascontiguousarray(array, region.layout.dtype)
        data = array.reshape(-1).view(np.uint8).data
        with open(region.path, "r+b", buffering=0) as stream:
            for offset, begin, end in _runs(region.layout, region.shape, index):
                stream.seek(offset)
                while begin < end:
                    begin += stream.write(data[begin:end])
            os.fsync(stream.fileno())
    except OSError as error:
        raise refused(region.label, error) from None


def is_written(region: Region, index: Slices) -> bool:
    """Tell whether a region that is being made was written, by this run or the one it resumes."""
    if not isinstance(region.layout, chunks.Layout):
        return False  # nothing says so
    there = chunks.chunks_of(region.layout, _whole(index, region.shape))
    return all(os.path.exists(os.path.join(region.path, key)) for key, _ in there)


def _whole(index: Slices, shape: tuple[int, ...]) -> Slices:
    index += (slice(None),) * (len(shape) - len(index))
    found = []
    for one, size in zip(index, shape, strict=True):
        start, stop, step = one.indices(size)
        if step != 1:
            raise ValueError(f"a region with steps of {step}")
        found.append(slice(start, max(start, stop)))
    return tuple(found)


def _read_flat(region: Region, header: Header, index: Slices) -> Array:
    if header.fortran_order:
        turned = replace(header, fortran_order=False), region.shape[::-1], index[::-1]
        return _read_flat(replace(region, shape=turned[1]), turned[0], turned[2]).T
    sizes = tuple(one.stop - one.start for one in index)
    require(math.prod(sizes) * header.dtype.itemsize, region.where, region.reading.max_memory)
    out: Array = np.empty(sizes, header.dtype)
    data = out.reshape(-1).view(np.uint8).data
    with open(region.path, "rb", buffering=0) as stream:
        for offset, begin, end in _runs(header, region.shape, index):
            stream.seek(offset)
            while begin < end:
                count = stream.readinto(data[begin:end])
                if not count:
                    raise FileError(f"{region.label}: truncated while it was read")
                begin += count
    return out


def _runs(header: Header, shape: tuple[int, ...], index: Slices) -> Iterator[tuple[int, int, int]]:
    """Say of each piece of a region that lies in one run where it begins, and its place in it."""
    sizes = [one.stop - one.start for one in index]
    if 0 in sizes:
        return
    # Behind the last axis that is cut all is one run.
    last = max((axis for axis, n in enumerate(shape) if sizes[axis] != n), default=0)
    steps = [math.prod(shape[axis + 1 :]) * header.dtype.itemsize for axis in range(len(shape))]
    start = header.offset + sum(one.start * step for one, step in zip(index, steps, strict=True))
    length = math.prod(sizes[last:]) * header.dtype.itemsize
    for number, at in enumerate(np.ndindex(*sizes[:last])):
        offset = start + sum(n * step for n, step in zip(at, steps, strict=False))
        yield offset, number * length, (number + 1) * length


@dataclass
class Output:
    """Arrays that are being made, beside the place that they take once they are complete.

    As a context it is discarded on the way out, unless it is finished.

    Attributes
    ----------
    path : str
        Where they are to be.
    temporary : Path
        Where they are.
    regions : dict of str to Region
    force : bool
        Whether what is there may be replaced.
    """

    path: str
    temporary: Path
    regions: dict[str, Region]
    force: bool
    _lock: BinaryIO | None = None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def finish(self) -> None:
        """Let what is complete take its place.

        Raises
        ------
        FileError
            If there is something by now.
        """
        try:
            for region in self.regions.values():
                if isinstance(region.layout, chunks.Layout):
                    chunks.close(region.path, region.layout)
            self.release()  # a system may not rename what is open
            target = Path(os.path.realpath(self.path))
            put_in_place(self.temporary, target, self.path, force=self.force)
        except OSError as error:
            raise refused(self.path, error) from None

    def discard(self) -> None:
        """Take away what is there of it."""
        self.release()
        if self.temporary.is_dir():
            # Elsewhere first: who still writes to it finds no folder, and makes no new one.
            gone = self.temporary.with_name(f"{self.temporary.name}.gone")
            self.temporary.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        else:
            self.temporary.unlink(missing_ok=True)

    def release(self) -> None:
        """Let another run go on with what is unfinished."""
        if self._lock is not None:
            self._lock.close()


def create(
    path: str,
    arrays: Mapping[str, tuple[tuple[int, ...], Any, tuple[int, ...]]],
    attributes: Mapping[str, Any],
    *,
    force: bool = False,
    inputs: tuple[str, ...] = (),
    resume: bool = False,
) -> Output:
    """Begin an output, with room for it on the disk.

    Parameters
    ----------
    path : str
        An .npy file or a .zarr store.
    arrays : mapping of str to (shape, dtype, chunk)
        An .npy file holds one, and has no chunks.
    attributes : mapping
        What a store says beside: JSON. An .npy file has none.
    force : bool, default False
        Whether what is there may be replaced.
    inputs : tuple of str
        The files that are read.
    resume : bool, default False
        Go on with an unfinished store of the very same arrays and attributes, if there is one.

    Raises
    ------
    FileError
        If it cannot be written, there is no room, or its ending means another format.
    ParameterError
        If an .npy file is to be resumed: nothing in it says what is done.
    """
    one = format_of(path)
    if not (one.holds_one or one.is_folder):
        stem = os.path.splitext(path)[0]
        raise FileError(
            f"{path}: an {one.ending} file cannot be filled in parts, expected .zarr or .npy",
            hint=f"-o {stem}.zarr",
        )
    check_output(path, force=force, inputs=inputs, is_store=one.is_folder)
    target = Path(os.path.realpath(path))
    if one.is_folder:
        return _create_store(path, target, arrays, attributes, force, resume)
    if resume:
        raise ParameterError(
            f"{path}: nothing in an .npy file says which rows are done", hint="-o OUT.zarr"
        )
    if len(arrays) > 1:
        raise FileError(
            f"{path}: an .npy file holds one array, and there are {', '.join(arrays)}",
            hint=f"-o {path.removesuffix('.npy')}.zarr",
        )
    ((name, (shape, dtype, _)),) = arrays.items()
    dtype, temporary = np.dtype(dtype), beside(target)
    with _or_nothing(path, temporary), open(temporary, "x+b") as stream:
        offset = npy.begin(stream, shape, dtype)
        os.fsync(stream.fileno())
    layout = Header(shape, dtype, False, offset)
    region = Region(str(temporary), name, shape, dtype, layout, path)
    return Output(path, temporary, {name: region}, force)


def _create_store(
    path: str,
    target: Path,
    arrays: Mapping[str, tuple[tuple[int, ...], Any, tuple[int, ...]]],
    attributes: Mapping[str, Any],
    force: bool,
    resume: bool,
) -> Output:
    layouts = {
        name: chunks.plain(shape, np.dtype(dtype), chunk)
        for name, (shape, dtype, chunk) in arrays.items()
    }
    parts = zarr.store_metadata(layouts, attributes, path)

    def output(temporary: Path, lock: BinaryIO | None) -> Output:
        regions = {
            name: Region(
                os.path.join(temporary, name), name, layout.shape,
                layout.dtype.newbyteorder("="), layout, path,
            )
            for name, layout in layouts.items()
        }  # fmt: skip
        return Output(path, temporary, regions, force, lock)

    if resume:
        for temporary in sorted(unfinished(target)):
            if not temporary.is_dir():
                continue
            if zarr.holds(str(temporary), parts):
                with _or_nothing(path, None):
                    return output(temporary, _locked(temporary, path))
            warnings.warn(
                f"{temporary}: not gone on with: it is of other inputs, options or blocks",
                AttnWarning,
                stacklevel=3,
            )
    need = sum(layout.stored_bytes for layout in layouts.values())
    temporary = beside(target)
    with _or_nothing(path, temporary):
        if need > (free := shutil.disk_usage(target.parent).free):
            raise FileError(
                f"{path}: no space left on device: it takes {readable(need)}, there is "
                f"{readable(free)}"
            )
        temporary.mkdir()
        zarr.write_metadata(str(temporary), parts)
        return output(temporary, _locked(temporary, path))


@contextlib.contextmanager
def _or_nothing(path: str, temporary: Path | None) -> Iterator[None]:
    """Leave nothing of what is begun and fails."""
    try:
        yield
    except BaseException as error:
        if temporary is not None:
            Output(path, temporary, {}, False).discard()
        if isinstance(error, OSError):
            raise refused(path, error) from None
        raise


def _locked(temporary: Path, path: str) -> BinaryIO:
    """Hold an unfinished store, so that no other run goes on with it at the same time."""
    stream = open(temporary / "zarr.json", "rb")  # noqa: SIM115 (held to the end)
    with contextlib.suppress(ImportError):  # Windows
        import fcntl

        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise FileError(f"{path}: another run is writing it") from None
        except OSError:  # a file system without locks
            pass
    return stream
