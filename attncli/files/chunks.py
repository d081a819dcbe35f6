"""Arrays that lie in chunks, each a file, as in zarr stores: read and written region by region.

The chunks are decoded here: the zarr package takes whatever room and codec a store asks for, and
follows its links. What is packed by more than Python knows needs numcodecs, which zarr brings.
"""

from __future__ import annotations

import bz2
import contextlib
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import FileError
from attncli.files.atomic import sync_folder
from attncli.files.source import STORE_MARKS
from attncli.memory import require

Slices = tuple[slice, ...]

_MOST_CHUNKS = 1 << 20  # in one read: each is a file that is looked for
_LARGE = 1_000_000_000  # bytes: smaller arrays are read in no time, whatever is there of them
_MOST_PACKED = 1000  # times smaller than its numbers no chunk of any use is
_ABSENT = 2**64 - 1  # both numbers of a shard's index where a chunk is not there


class Codec(NamedTuple):
    """What the bytes of a chunk went through."""

    name: str
    size: int = 1  # of the elements that are shuffled


class Shard(NamedTuple):
    """How the chunks within a chunk are found."""

    grid: Grid
    has_checksum: bool
    index_at_end: bool


@dataclass(frozen=True)
class Grid:
    """Into what an array is cut, and how each chunk becomes bytes.

    Attributes
    ----------
    chunk : tuple of int
    order : tuple of int
        The axes as they lie in the bytes.
    dtype : dtype
        With the byte order of the bytes.
    codecs : tuple of Codec
        In the order of writing.
    shard : Shard or None
        Where a chunk consists of chunks.
    """

    chunk: tuple[int, ...]
    order: tuple[int, ...]
    dtype: np.dtype[Any]
    codecs: tuple[Codec, ...] = ()
    shard: Shard | None = None

    @property
    def at_once(self) -> int:
        """The bytes of what is decoded in one go."""
        if self.shard is not None:
            return self.shard.grid.at_once
        return math.prod(self.chunk) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Where the numbers of an array lie in its folder.

    Attributes
    ----------
    shape : tuple of int
    grid : Grid
    fill : bytes
        One element: what stands where a chunk is missing.
    prefix, separator : str
        Of the chunks' names.
    """

    shape: tuple[int, ...]
    grid: Grid
    fill: bytes
    prefix: str = "c/"
    separator: str = "/"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read."""
        return self.grid.dtype

    @property
    def stored_bytes(self) -> int:
        """The bytes of all chunks as they are unpacked, those at the end in full."""
        counts = (-(-n // size) for n, size in zip(self.shape, self.grid.chunk, strict=True))
        return math.prod(counts) * math.prod(self.grid.chunk) * self.dtype.itemsize

    def key(self, number: Sequence[int]) -> str:
        """Name the file of a chunk."""
        name = self.separator.join(map(str, number))
        if self.prefix == "":
            return name or "0"
        return self.prefix + name if number else self.prefix.rstrip("/.")


# Reading


class Blob:
    """The bytes of a file of the store, which lies in it and nowhere else."""

    def __init__(self, file: str, root: str, where: str) -> None:
        self.file, self.where = file, where
        if os.path.realpath(file) != os.path.normpath(file):
            raise FileError(f"{where}: is or lies behind a link, which is not followed")
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{where}: is no file")
        self.size = status.st_size

    def read(self, offset: int, size: int) -> bytes:
        """Read some of them."""
        with open(self.file, "rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) < size:
            raise FileError(f"{self.where}: truncated")
        return data


class _Part:
    """Some of the bytes of a file."""

    def __init__(self, whole: Blob | _Part, offset: int, size: int) -> None:
        self.whole, self.offset, self.size = whole, offset, size
        self.where: str = whole.where

    def read(self, offset: int, size: int) -> bytes:
        return self.whole.read(self.offset + offset, size)


Find = Callable[[tuple[int, ...]], Blob | _Part | None]


def read(
    folder: str, layout: Layout, index: Slices, where: str, max_memory: int | None = None
) -> Array:
    """Read a region of an array; of its chunks only those that it lies in.

    Parameters
    ----------
    folder : str
        The array's.
    layout : Layout
    index : tuple of slice
        Along every axis, without steps.
    where : str
        The array, for messages.
    max_memory : int, optional
        The most bytes to take; default: what there is.

    Returns
    -------
    ndarray
        As it is stored.

    Raises
    ------
    FileError, MemoryLimitError
    """
    sizes = [len(range(n)[one]) for n, one in zip(layout.shape, index, strict=True)]
    nbytes = math.prod(sizes) * layout.dtype.itemsize
    require(nbytes, f"{where} {tuple(sizes)}", max_memory)
    out = np.empty(sizes, layout.dtype)
    index = tuple(slice(*one.indices(n)[:2]) for n, one in zip(layout.shape, index, strict=True))

    def find(number: tuple[int, ...]) -> Blob | None:
        file = os.path.join(folder, *layout.key(number).split("/"))
        if not os.path.lexists(file):
            return None
        blob = Blob(file, folder, f"{where}: chunk {layout.key(number)}")
        # Beside the region there is the largest piece that is decoded, packed and unpacked.
        require(
            nbytes + 2 * layout.grid.at_once, f"{where}: chunks {layout.grid.chunk}", max_memory
        )
        return blob

    _fill(out, layout.grid, find, index, np.frombuffer(layout.fill, layout.dtype)[0], where)
    return out


def has_chunks(folder: str) -> bool:
    """Tell whether there is any chunk of an array, or other file beside those that describe it."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(name not in (*STORE_MARKS, ".zattrs") for name in names)


def require_backed(folder: str, layout: Layout, where: str, max_memory: int | None) -> None:
    """Refuse an array larger than memory that is hardly there: it would be read for ever.

    Raises
    ------
    MemoryLimitError
    """
    nbytes = math.prod(layout.shape) * layout.dtype.itemsize
    enough = nbytes // _MOST_PACKED if nbytes > _LARGE else 0
    for above, _, names in os.walk(folder):
        for name in names:
            if enough <= 0:
                return
            enough -= os.lstat(os.path.join(above, name)).st_size
    if enough > 0:
        require(nbytes, f"{where} {layout.shape}", max_memory)


def _fill(out: Array, grid: Grid, find: Find, index: Slices, fill: Any, where: str) -> None:
    """Read the chunks that a region lies in."""
    ranges = [
        range(
            one.start // size, -(-one.stop // size) if one.stop > one.start else one.start // size
        )
        for one, size in zip(index, grid.chunk, strict=True)
    ]
    if (count := math.prod(map(len, ranges))) > _MOST_CHUNKS:
        raise FileError(f"{where}: {count} chunks would be looked for, more than {_MOST_CHUNKS}")
    for number in product(*ranges):
        inside: list[slice] = []
        there: list[Any] = [...]
        for at, size, one in zip(number, grid.chunk, index, strict=True):
            first, end = max(one.start, at * size), min(one.stop, (at + 1) * size)
            inside.append(slice(first - at * size, end - at * size))
            there.insert(-1, slice(first - one.start, end - one.start))
        place: Array = out[tuple(there)]
        blob = find(number)
        if blob is None:
            place[...] = fill
        else:
            _decode(
                place.transpose(grid.order), grid, blob,
                tuple(inside[axis] for axis in grid.order), fill,
            )  # fmt: skip


def _decode(out: Array, grid: Grid, blob: Blob | _Part, inside: Slices, fill: Any) -> None:
    """Decode a part of a chunk, its axes as they lie in the bytes."""
    shape = tuple(grid.chunk[axis] for axis in grid.order)
    if grid.shard is None:
        data = _unpacked(blob, grid)
        out[...] = np.frombuffer(data, grid.dtype).reshape(shape)[inside]
        return
    counts = tuple(size // n for size, n in zip(shape, grid.shard.grid.chunk, strict=True))
    length = 16 * math.prod(counts) + 4 * grid.shard.has_checksum
    if length > blob.size:
        raise FileError(f"{blob.where}: truncated: is no shard of {counts} chunks")
    data = blob.read(blob.size - length if grid.shard.index_at_end else 0, length)
    if grid.shard.has_checksum:
        data = _unchecked(data, blob.where)
    places = np.frombuffer(data, "<u8").reshape(*counts, 2)

    def find(number: tuple[int, ...]) -> _Part | None:
        offset, size = map(int, places[number])
        if offset == size == _ABSENT:
            return None
        if offset + size > blob.size:
            raise FileError(f"{blob.where}: damaged: a chunk lies behind the shard's end")
        return _Part(blob, offset, size)

    _fill(out, grid.shard.grid, find, inside, fill, blob.where)


def _unpacked(blob: Blob | _Part, grid: Grid) -> Any:
    """Undo what the bytes of a chunk went through; nothing is larger than what is expected."""
    # What it is after every codec, and whether exactly that.
    sizes = [(grid.at_once, True)]
    for codec in grid.codecs:
        size, exact = sizes[-1]
        if codec.name in PACKERS:  # what cannot be packed grows a little
            sizes.append((size + size // 8 + 65536, False))
        else:
            sizes.append((size + 4 * (codec.name == "crc32c"), exact))
    _require_size(blob.size, *sizes.pop(), blob.where)
    data: Any = blob.read(0, blob.size)
    for codec in reversed(grid.codecs):
        size, exact = sizes.pop()
        try:
            data = CODECS[codec.name](data, size, codec, blob.where)
        except (ValueError, RuntimeError, zlib.error, OSError, EOFError) as error:
            raise FileError(f"{blob.where}: damaged: {codec.name}: {error}") from None
        _require_size(len(data), size, exact, blob.where)
    return data


def _require_size(found: int, size: int, exact: bool, where: str) -> None:
    if found > size or (exact and found < size):
        bound = "" if exact else "at most "
        raise FileError(f"{where}: damaged: {found} bytes, expected {bound}{size}")


def _inflated(start: Callable[[], Any], data: bytes, size: int, codec: Codec, where: str) -> bytes:
    """Unpack what is streamed, members behind each other, to the size that is expected."""
    parts, room = [], size
    while data:
        stream = start()
        parts.append(stream.decompress(data, room + 1))
        room -= len(parts[-1])
        if room < 0 or not stream.eof:
            raise FileError(f"{where}: damaged: {codec.name} does not end with {size} bytes")
        data = stream.unused_data
    return b"".join(parts)


def _by_library(data: bytes, size: int, codec: Codec, where: str) -> Array:
    """Unpack into room of the size that is expected, which the data have to declare.

    What blosc says of the size of the data themselves it reads behind their end.
    """
    library = _library(f"numcodecs.{codec.name}", codec, where)
    declared = {"blosc": {4: size, 12: len(data)}, "lz4": {0: size}}.get(codec.name, {})
    for at, expected in declared.items():
        if int.from_bytes(bytes(data[at : at + 4]), "little") != expected:
            raise FileError(f"{where}: damaged: {codec.name} declares other than {expected} bytes")
    room = np.empty(size, np.uint8)
    library.decompress(data, room)
    return room


def _unshuffled(data: Any, size: int, codec: Codec, where: str) -> bytes:
    flat = np.frombuffer(data, np.uint8)
    whole = size - size % codec.size  # what is left is not shuffled
    lanes: Array = flat[:whole].reshape(codec.size, -1)
    return bytes(lanes.T.tobytes() + flat[whole:].tobytes())


def _unchecked(data: Any, where: str) -> bytes:
    library = _library("google_crc32c", Codec("crc32c"), where)
    inside, checksum = bytes(data[:-4]), bytes(data[-4:])
    if library.value(inside) != int.from_bytes(checksum, "little"):
        raise FileError(f"{where}: damaged: its checksum is another")
    return inside


def _library(module: str, codec: Codec, where: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise FileError(
            f"{where}: is encoded by {codec.name}, which needs the zarr package",
            hint="pip install 'attncli[cluster]'",
        ) from None


# By the name of a codec, what undoes it: ``(data, size, codec, where)``.
PACKERS: dict[str, Callable[[Any, int, Codec, str], Any]] = {
    "gzip": partial(_inflated, partial(zlib.decompressobj, 31)),
    "zlib": partial(_inflated, zlib.decompressobj),
    "bz2": partial(_inflated, bz2.BZ2Decompressor),
    "blosc": _by_library,
    "lz4": _by_library,
    "zstd": _by_library,
}
CODECS: dict[str, Callable[[Any, int, Codec, str], Any]] = {
    **PACKERS,
    "shuffle": _unshuffled,
    "crc32c": lambda data, size, codec, where: _unchecked(data, where),
}


def plain(shape: tuple[int, ...], dtype: np.dtype[Any], chunk: tuple[int, ...]) -> Layout:
    """Lay out an array whose chunks are its bytes."""
    dtype = dtype.newbyteorder("<")
    grid = Grid(tuple(max(n, 1) for n in chunk), tuple(range(len(shape))), dtype)
    return Layout(shape, grid, bytes(dtype.itemsize))


def pieces(shape: tuple[int, ...], itemsize: int, most: int = 1 << 22) -> tuple[int, ...]:
    """Cut an array into chunks of at most so many bytes, along its first axes first.

    What is cut is cut into powers of two: the blocks of a cluster are whole chunks then.

    Examples
    --------
    >>> pieces((16, 4096, 4000), 4), pieces((1, 1, 1_000_000, 64), 4)
    ((1, 256, 4000), (1, 1, 16384, 64))
    """
    chunk = list(shape)
    for axis, size in enumerate(shape):
        fit = most // max(1, math.prod(shape[axis + 1 :]) * itemsize)
        if fit >= size:
            break
        chunk[axis] = 1 << max(0, fit.bit_length() - 1)
        if fit > 1:
            break
    return tuple(chunk)


def chunks_of(layout: Layout, index: Slices) -> Iterator[tuple[str, Slices]]:
    """Name the files that a region is written to, and which part of the region each takes.

    Raises
    ------
    ValueError
        If the region begins or ends within a chunk: two who write one would lose what one wrote.
    """
    cuts = []
    for size, n, one in zip(layout.grid.chunk, layout.shape, index, strict=True):
        start, stop, _ = one.indices(n)
        if start % size or (stop % size and stop != n):
            raise ValueError(f"{start}:{stop} is not of whole chunks of {size}")
        cuts.append(
            [
                (at // size, slice(at - start, min(at + size, n) - start))
                for at in range(start, stop, size)
            ]
        )
    for some in product(*cuts):
        yield layout.key([at for at, _ in some]), tuple(part for _, part in some)


def write(folder: str, layout: Layout, index: Slices, array: Array) -> None:
    """Write a region of whole chunks; each file appears once it is complete and on the disk."""
    part: Any
    for key, part in chunks_of(layout, index):
        block: Array = array[*part, ...]
        short = [(0, size - n) for size, n in zip(layout.grid.chunk, block.shape, strict=True)]
        data = np.ascontiguousarray(
            np.pad(block, short) if any(n for _, n in short) else block, layout.dtype
        )
        put(folder, key, data.reshape(-1).view(np.uint8).data)


def put(folder: str, key: str, data: Any) -> None:
    """Write a file of a store, which appears once it is complete and on the disk.

    The folders that its key names are made, but not the one they are in: where that is gone, the
    store was given up.
    """
    *above, name = key.split("/")
    for part in above:
        folder = os.path.join(folder, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
    file = os.path.join(folder, name)
    temporary = f"{file}.{os.urandom(6).hex()}.tmp"
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def close(folder: str, layout: Layout) -> None:
    """See that every chunk is there, and nothing else.

    Raises
    ------
    RuntimeError
        If a region was never written: it would read as zeros.
    """
    folders = {folder}
    for key, _ in chunks_of(layout, tuple(map(slice, layout.shape))):
        file = os.path.join(folder, *key.split("/"))
        if not os.path.exists(file):
            raise RuntimeError(f"{folder}: the chunk {key} was not written")
        folders.add(os.path.dirname(file))
    for one in folders:
        for name in os.listdir(one):
            if name.endswith(".tmp"):  # of a process that was killed
                os.unlink(os.path.join(one, name))
        sync_folder(Path(one))
