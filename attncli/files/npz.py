"""The .npz format: a zip archive with one .npy per array."""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import shlex
import stat
import struct
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, FileError, ForeignFormatError
from attncli.files.conversions import READ_OF_A_PICKLE
from attncli.files.entries import Entry, Place, place_in, refuse_twins
from attncli.files.npy import OneGo, array_from_bytes, map_array
from attncli.files.preflight import Header, read_npy_header
from attncli.files.source import STORE_MARKS, Source, refused
from attncli.memory import require

# Larger arrays are mapped where they lie in the archive; smaller ones are read, so that their
# checksum is verified.
_MAP_FROM = 16_000_000

_ENCRYPTED = 1  # a bit of a member's flags

# What the zip and compression libraries raise on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression method or version this Python does not know
    RuntimeError,  # an encrypted member
    ValueError,
    OSError,
    OverflowError,
    lzma.LZMAError,
    struct.error,
)
if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError

    _DAMAGE += (ZstdError,)


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe every array of the archive by its name, reading only headers."""
    entries = {}
    try:
        with source.open() as stream, zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _refuse_part(stream, len(archive.comment), source.label)
            _refuse_pickle(archive, members)
            _refuse_doubtful(members, source.label)
            _refuse_store(members, source.label)
            for member in members:
                if _is_array(member, source.label):
                    name = member.filename.removesuffix(".npy")
                    entries[name] = _describe(source, archive, member)
    except _DAMAGE as error:
        raise _damaged(source.label, error) from None
    return entries


def _refuse_pickle(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        if f"/{member.filename}".endswith("/data.pkl"):
            with contextlib.suppress(*_DAMAGE), archive.open(member) as stream:
                raise ForeignFormatError("a pickle", stream.read(READ_OF_A_PICKLE))
            raise ForeignFormatError("a pickle", b"")


def _refuse_part(stream: BinaryIO, comment: int, label: str) -> None:
    """Refuse one of several files that are an archive together, by the numbers in its end."""
    stream.seek(max(-22 - comment, -stream.seek(0, os.SEEK_END)), os.SEEK_END)
    end = stream.read(8)
    if end[:4] == b"PK\x05\x06" and end[4:] not in (bytes(4), b"\xff" * 4):
        raise FileError(f"{label}: damaged: is a part of a split archive")


def _refuse_doubtful(members: list[zipfile.ZipInfo], label: str) -> None:
    names = [member.orig_filename for member in members]
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise FileError(f"{label}: holds {count} members named {name}, expected each name once")
    refuse_twins(names, label)


def _refuse_store(members: list[zipfile.ZipInfo], label: str) -> None:
    if any(member.filename.rpartition("/")[2] in STORE_MARKS for member in members):
        stem = label.removesuffix(".zip").removesuffix(".zarr")
        folder = f"{stem}.zarr" if label != f"{stem}.zarr" else f"{stem}-folder.zarr"
        raise FileError(
            f"{label}: is a zarr store in an archive, expected the folder",
            hint=f"python3 -m zipfile -e {shlex.quote(label)} {shlex.quote(folder)}",
        )


def _is_array(member: zipfile.ZipInfo, label: str) -> bool:
    name = member.filename
    if name.endswith(".npy") and ".." not in name.split("/") and not name.startswith("/"):
        return True
    warnings.warn(f"{label}: member {name} is no array and is ignored", AttnWarning, stacklevel=4)
    return False


def _describe(source: Source, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Entry:
    where = f"{source.label}: {member.filename}"
    if member.volume:
        raise FileError(f"{where}: damaged: lies in part {member.volume} of a split archive")
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
        raise FileError(
            f"{where}: damaged: two sizes, {member.file_size} and {member.compress_size}"
        )
    try:
        with archive.open(member) as stream:
            header = read_npy_header(stream, member.file_size, where)  # type: ignore[arg-type]
    except _DAMAGE as error:
        raise _damaged(where, error) from None
    if (extra := member.file_size - header.offset - header.nbytes) > _MAP_FROM:
        raise FileError(f"{where}: damaged: {extra} bytes behind the array")

    def load(max_memory: int | None) -> Array:
        stored = member.compress_type == zipfile.ZIP_STORED
        if source.is_file and stored and header.nbytes >= _MAP_FROM:
            return map_array(source, header, _data_offset(source, member, where) + header.offset)
        require(header.nbytes, where, max_memory)
        return _read_member(source, member, header, where)

    def place() -> Place | None:
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        return place_in(source, header, _data_offset(source, member, where) + header.offset)

    return Entry(header.shape, header.dtype, load, place=place)


def _data_offset(source: Source, member: zipfile.ZipInfo, where: str) -> int:
    """Where a stored member's bytes begin: behind its local header, whose length varies."""
    with source.open() as stream:
        stream.seek(member.header_offset)
        local = stream.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        raise FileError(f"{where}: damaged: no member at its place in the archive")
    name_length, extra_length = local[26:28], local[28:30]
    offset = member.header_offset + 30
    offset += int.from_bytes(name_length, "little") + int.from_bytes(extra_length, "little")
    if offset + member.compress_size > source.size:
        raise FileError(f"{where}: truncated or damaged")
    return offset


def _read_member(source: Source, member: zipfile.ZipInfo, header: Header, where: str) -> Array:
    try:
        if header.nbytes < _MAP_FROM and member.compress_type in (
            zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED,
        ) and not member.flag_bits & _ENCRYPTED:  # fmt: skip
            return array_from_bytes(_small_member(source, member, header, where), header)
        with (
            source.open() as raw,
            zipfile.ZipFile(raw) as archive,
            archive.open(member) as stream,
        ):
            data = stream.read(header.offset + header.nbytes)
            while stream.read(_MAP_FROM):  # to the end: the checksum is compared there
                pass
    except _DAMAGE as error:
        raise _damaged(where, error) from None
    if len(data) < header.offset + header.nbytes:
        raise FileError(f"{where}: truncated or damaged")
    return array_from_bytes(data, header)


def _small_member(source: Source, member: zipfile.ZipInfo, header: Header, where: str) -> bytes:
    """Read a member where it lies: of many, the archive's directory is not read again for each."""
    offset, size = _data_offset(source, member, where), header.offset + header.nbytes
    with source.open() as stream:
        stream.seek(offset)
        data = stream.read(member.compress_size)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.file_size + 1)
    if len(data) < size:
        raise FileError(f"{where}: truncated or damaged")
    if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
    return data[:size]


def _damaged(where: str, error: Exception) -> FileError:
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return refused(where, error)  # the system's trouble, not the archive's
    reason = str(error).rstrip(".") or type(error).__name__
    return FileError(f"{where}: damaged or truncated archive ({reason})")


def write(stream: BinaryIO, arrays: Mapping[str, Array], label: str) -> None:
    """Write arrays as an uncompressed .npz: its members can be mapped."""
    # A device says that it can seek, and cannot: whatever is no file of ours is written in one go.
    target: Any = stream if stream.seekable() and _is_file(stream) else OneGo(stream)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that bytes do not vary
            member.external_attr = 0o644 << 16
            with archive.open(member, "w", force_zip64=True) as handle:
                np.lib.format.write_array(handle, np.asanyarray(array), allow_pickle=False)


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, AttributeError):  # in memory
        return True
