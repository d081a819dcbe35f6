"""Zarr stores, of version 2 and 3: what is in them, and what each array says of itself."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, FileError
from attncli.files.chunks import (
    CODECS,
    PACKERS,
    Blob,
    Codec,
    Grid,
    Layout,
    Shard,
    Slices,
    has_chunks,
    put,
    read,
    require_backed,
)
from attncli.files.dtypes import widen_bfloat16
from attncli.files.entries import Entry, Place
from attncli.files.json_arrays import parse_json
from attncli.files.source import STORE_MARKS, Source
from attncli.files.texts import text_entry
from attncli.memory import require

_LONGEST_METADATA = 16_000_000
_DEEPEST = 64  # groups in groups
_MOST_AXES = 64

_DTYPES = {
    "bool": "?", "bfloat16": "V2", "r16": "V2", "complex64": "c8", "complex128": "c16",
    "float16": "f2", "float32": "f4", "float64": "f8",
    **{f"int{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"uint{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
}  # fmt: skip
_NOT_FINITE = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


class _UnreadError(Exception):
    """An array that is as it should be, and is not read.

    Attributes
    ----------
    is_text : bool
        What it is meant to hold: so it is asked for and refused, and never passed over.
    """

    def __init__(self, message: str, *, is_text: bool = False) -> None:
        super().__init__(message)
        self.is_text = is_text


# What is in a store


def list_entries(source: Source) -> dict[str, Entry]:
    """Refuse a file: a store is a folder."""
    raise FileError(f"{source.label}: is a file, expected the folder that a .zarr store is")


def list_store(path: str, max_memory: int | None = None) -> dict[str, Entry]:
    """Describe every array by the path that leads to it, and the text in the group's attributes.

    What is said of all of them in one place (consolidated metadata) is not read: it may be old.

    Raises
    ------
    FileError
        If there is no store, or it is damaged.
    MemoryLimitError
        If an array claims more than `max_memory` and next to nothing of it is there.
    """
    entries: dict[str, Entry] = {}
    root = os.path.realpath(path)
    waiting = [""]
    while waiting:
        name = waiting.pop()
        folder = os.path.join(root, name) if name else root
        where = f"{path}: {name}" if name else path
        found = _metadata(folder, root, where)
        if found is None:
            if not name:
                raise FileError(f"{path}: no zarr store: holds none of {', '.join(STORE_MARKS)}")
            continue
        metadata, file = found
        kinds = {".zgroup": (2, "group"), ".zarray": (2, "array")}
        said = metadata.get("zarr_format"), metadata.get("node_type")
        version, kind = kinds.get(os.path.basename(file), said)
        if said[0] != version or version not in (2, 3) or kind not in ("array", "group"):
            raise FileError(f"{where}: damaged: is a {said[1]} of zarr's version {said[0]}")
        if kind == "group":
            if not name:
                entries |= _texts(metadata, folder, root, where)
            if name.count("/") + 2 > _DEEPEST:
                raise FileError(f"{where}: groups in groups, more than {_DEEPEST} deep")
            with os.scandir(folder) as inside:
                below = sorted((one.name for one in inside if one.is_dir()), reverse=True)
            waiting += [f"{name}/{one}" if name else one for one in below]
        else:
            entries[name] = _entry(metadata, file, where, max_memory)
    return entries


def _metadata(folder: str, root: str, where: str) -> tuple[dict[str, Any], str] | None:
    """Read what a folder says that it is, and say in which file it does."""
    for mark in STORE_MARKS:
        file = os.path.join(folder, mark)
        if os.path.lexists(file):
            return _object(file, root, where), file
    return None


def _object(file: str, root: str, where: str) -> dict[str, Any]:
    what = f"{where}: {os.path.basename(file)}"
    data = Blob(file, root, what)
    if data.size > _LONGEST_METADATA:
        raise FileError(f"{what}: {data.size} bytes of metadata, expected fewer")
    try:
        tree = parse_json(data.read(0, data.size).decode(), what)
    except UnicodeDecodeError:
        raise FileError(f"{what}: damaged: is no text in UTF-8") from None
    if not isinstance(tree, dict):
        raise FileError(f"{what}: damaged: is no JSON object")
    return tree


def _texts(metadata: dict[str, Any], folder: str, root: str, where: str) -> dict[str, Entry]:
    """Find options and tokens among a group's attributes, where a run file keeps them."""
    attributes = metadata.get("attributes", {})
    file = os.path.join(folder, ".zattrs")
    if "node_type" not in metadata and os.path.lexists(file):
        attributes = _object(file, root, where)
    if not isinstance(attributes, dict):
        raise FileError(f"{where}: damaged: its attributes are no JSON object")
    return {
        name: text_entry(text)
        for name, text in attributes.items()
        if isinstance(text, str) and (name == "options" or name.startswith("tokens"))
    }


def _entry(metadata: dict[str, Any], file: str, where: str, max_memory: int | None) -> Entry:
    folder = os.path.dirname(file)
    layout_of = _layout_2 if file.endswith(".zarray") else _layout_3
    try:
        shape = _sizes(metadata["shape"])
        layout = layout_of(metadata, shape)
        if math.prod(map(max, shape, [1] * len(shape))) * layout.dtype.itemsize > sys.maxsize:
            raise ValueError(f"declares {layout.dtype} {shape}")
    except _UnreadError as error:
        kind = np.dtype(object if error.is_text else "V1")
        return Entry(shape, kind, partial(_refuse, f"{where}: {error}"))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise FileError(
            f"{where}: damaged metadata: {said.splitlines()[0] if said else ''}"
        ) from None
    require_backed(folder, layout, where, max_memory)
    status = os.stat(file)
    place = Place(folder, file, (status.st_size, status.st_mtime_ns), layout)
    half = metadata.get("data_type") == "bfloat16"
    part = partial(_read, folder, layout, where, half, [])
    return Entry(
        shape, np.dtype(np.float32) if half else layout.dtype.newbyteorder("="),
        lambda max_memory: part(tuple(map(slice, shape)), max_memory),
        stored_as="bfloat16" if half else None,
        read=part,
        place=lambda: place,
    )  # fmt: skip


def _refuse(message: str, max_memory: int | None) -> Array:
    raise FileError(
        message,
        hint="save it as numbers: group['NAME'] = numpy.array(data, dtype='float64'); text as 'U'",
    )


# What an array says of itself


def _layout_3(metadata: dict[str, Any], shape: tuple[int, ...]) -> Layout:
    kind, grid = _named(metadata["data_type"]), _named(metadata["chunk_grid"])
    if metadata.get("storage_transformers"):
        raise _UnreadError("has storage transformers")
    if grid[0] != "regular":
        raise _UnreadError(f"has chunks in a {grid[0]} grid, expected a regular one")
    chunk = _chunk_sizes(grid[1]["chunk_shape"], shape)
    # Codecs first: one that runs code is named before the dtype that it is for.
    _refuse_codecs(_list(metadata["codecs"]))
    dtype = _dtype_3(*kind)
    encoding, how = _named(metadata.get("chunk_key_encoding", "default"))
    if encoding not in ("default", "v2"):
        raise _UnreadError(f"names its chunks by {encoding}, expected default or v2")
    separator = _separator(how.get("separator", "/" if encoding == "default" else "."))
    return Layout(
        shape,
        _grid_3(metadata["codecs"], chunk, dtype),
        _fill_value(metadata.get("fill_value"), dtype, half=kind[0] == "bfloat16"),
        f"c{separator}" if encoding == "default" else "",
        separator,
    )


def _layout_2(metadata: dict[str, Any], shape: tuple[int, ...]) -> Layout:
    chunk = _chunk_sizes(metadata["chunks"], shape)
    steps = [*_list(metadata.get("filters") or []), metadata.get("compressor")]
    codecs = [
        {"name": one.get("id") if isinstance(one, dict) else one, "configuration": one}
        for one in steps
        if one is not None
    ]
    _refuse_codecs(codecs)
    if not isinstance(metadata["dtype"], str):
        raise _UnreadError("holds records (structured dtype), expected plain numbers")
    dtype = _dtype(metadata["dtype"])
    if (order := metadata.get("order", "C")) not in ("C", "F"):
        raise ValueError(f"order {order!r}")
    axes = tuple(range(len(shape)))
    return Layout(
        shape,
        Grid(chunk, axes[::-1] if order == "F" else axes, dtype, _codecs(codecs)),
        _fill_value(metadata.get("fill_value"), dtype),
        "",
        _separator(metadata.get("dimension_separator", ".")),
    )


def _grid_3(
    codecs: Sequence[Any], chunk: tuple[int, ...], dtype: np.dtype[Any], deep: int = 0
) -> Grid:
    order, shard = tuple(range(len(chunk))), None
    codecs = [_named(one) for one in codecs]
    while codecs and codecs[0][0] == "transpose":
        by: Any = codecs.pop(0)[1]["order"]
        axes = {"C": list(range(len(chunk))), "F": list(range(len(chunk)))[::-1]}
        by = axes[by] if isinstance(by, str) else _list(by)
        if sorted(by) != axes["C"]:
            raise ValueError(f"the codec transpose has the order {by}")
        order = tuple(order[axis] for axis in by)
    name, how = codecs.pop(0) if codecs else ("no codec", {})
    if name == "bytes":
        if how.get("endian") == "big":
            dtype = dtype.newbyteorder(">")
    elif name == "sharding_indexed":
        inner = _sizes(how["chunk_shape"])
        cut = [chunk[axis] for axis in order]
        if len(inner) != len(cut) or not all(map(_divides, inner, cut)):
            raise ValueError(f"shards of {tuple(cut)} are cut into chunks of {inner}")
        index = [_named(one)[0] for one in _list(how["index_codecs"])]
        if codecs or deep > 1 or index not in (["bytes"], ["bytes", "crc32c"]):
            raise _UnreadError("is encoded around its shards, or around their index")
        if (place := how.get("index_location", "end")) not in ("start", "end"):
            raise ValueError(f"the index of shards lies at their {place!r}")
        grid = _grid_3(_list(how["codecs"]), inner, dtype, deep + 1)
        shard = Shard(grid, len(index) == 2, place == "end")
        dtype = grid.dtype
    else:
        raise ValueError(f"the codecs have {name} where bytes or sharding_indexed is expected")
    plain = [{"name": name, "configuration": how} for name, how in codecs]
    return Grid(chunk, order, dtype, _codecs(plain), shard)


def _named(value: Any) -> tuple[str, dict[str, Any]]:
    """Read what is named, with or without a configuration."""
    if isinstance(value, str):
        return value, {}
    said = value if isinstance(value, dict) else {}
    name, how = said.get("name"), said.get("configuration") or {}
    if not isinstance(name, str) or not isinstance(how, dict):
        raise ValueError(f"{str(value)[:60]} has no name")
    return name, how


def _refuse_codecs(codecs: Sequence[Any]) -> None:
    for one in codecs:
        name, how = _named(one)
        name = name.removeprefix("numcodecs.")
        if name == "sharding_indexed":
            _refuse_codecs(_list(how["codecs"]))
        elif name == "pickle":
            raise _UnreadError("holds Python objects (the codec pickle), expected numbers")
        elif name not in (*CODECS, "transpose", "bytes"):
            message = f"is encoded by {name}, expected one of {', '.join(CODECS)}"
            raise _UnreadError(message, is_text=name == "vlen-utf8")


def _codecs(codecs: Sequence[Any]) -> tuple[Codec, ...]:
    found = []
    for name, how in map(_named, codecs):
        size: Any = how.get("elementsize", 4)  # as it is where a shuffle is given none
        if type(size) is not int or not 0 < size < 1 << 16:
            raise ValueError(f"elements of {size!r} bytes")
        found.append(Codec(name.removeprefix("numcodecs."), size))
    if sum(one.name in PACKERS for one in found) > 1:
        raise _UnreadError(f"is packed twice, by {' and '.join(one.name for one in found)}")
    return tuple(found)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:60]} is no list")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 0 for n in _list(value)):
        raise ValueError(f"{str(value)[:60]} are no sizes")
    if len(value) > _MOST_AXES:
        raise ValueError(f"{len(value)} axes")
    return tuple(value)


def _chunk_sizes(value: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    chunk = _sizes(value)
    if len(chunk) != len(shape) or any(n == 0 < size for n, size in zip(chunk, shape, strict=True)):
        raise ValueError(f"the array is {shape}, its chunks are {chunk}")
    return tuple(max(n, 1) for n in chunk)


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole % part == 0


def _separator(value: Any) -> str:
    if value not in ("/", "."):
        raise ValueError(f"the separator {value!r}")
    return str(value)


def _dtype_3(name: str, how: Mapping[str, Any]) -> np.dtype[Any]:
    if name in _DTYPES:
        return np.dtype(_DTYPES[name]).newbyteorder("<")
    wide = {
        "fixed_length_utf32": ("U", 4),
        "null_terminated_bytes": ("S", 1),
        "raw_bytes": ("V", 1),
    }
    if name in wide:
        kind, each = wide[name]
        return _dtype(f"<{kind}{int(how['length_bytes']) // each}")
    raise _UnreadError(f"is of type {name}, expected numbers", is_text=name == "string")


def _dtype(text: str) -> np.dtype[Any]:
    if text[1:2] == "O":
        raise _UnreadError("holds Python objects, expected numbers")
    # Nothing else that NumPy understands: it may be of several numbers.
    if not re.fullmatch(r"[<>|=][biufcSUVMm]\d+(\[\w+\])?", text, re.ASCII):
        raise ValueError(f"dtype {text!r}")
    dtype = np.dtype(text)
    if not dtype.itemsize:
        raise ValueError(f"dtype {text!r}")
    return dtype


def _fill_value(value: Any, dtype: np.dtype[Any], *, half: bool = False) -> bytes:
    """Give the bytes of one element that stand where there is no chunk."""
    if half:
        return _fill_value(value, np.dtype("<f4"))[2:]
    if dtype.kind == "f" and isinstance(value, str):
        if value[:2] == "0x":  # the bits themselves
            bits = int(value, 16).to_bytes(dtype.itemsize, "big")
            return np.frombuffer(bits, dtype.newbyteorder(">")).astype(dtype).tobytes()
        value = _NOT_FINITE.get(value, value)
    if dtype.kind in "SV" and isinstance(value, str):
        return base64.b64decode(value, validate=True).ljust(dtype.itemsize, b"\0")[: dtype.itemsize]
    if value is None or dtype.kind not in "biufU":
        return bytes(dtype.itemsize)
    kinds = {"U": (str,), "b": (bool, int)}.get(dtype.kind, (int, float))
    if not isinstance(value, kinds) or (dtype.kind in "iu" and int(value) != value):
        raise ValueError(f"the fill value {str(value)[:60]!r} of {dtype}")
    return np.array(int(value) if dtype.kind in "iu" else value, dtype).tobytes()


def _read(
    folder: str,
    layout: Layout,
    where: str,
    half: bool,
    looked: list[bool],
    index: Slices,
    max_memory: int | None,
) -> Array:
    array = read(folder, layout, index, where, max_memory)
    if array.size and not looked:  # once for each array
        looked.append(has_chunks(folder))
        if not looked[0]:
            message = f"{where}: holds no chunk: all of it is the fill value"
            warnings.warn(message, AttnWarning, stacklevel=4)
    if not half:
        return array
    require(2 * array.nbytes, f"{where} as float32", max_memory)
    return widen_bfloat16(array)


# Writing


def _described(layout: Layout, where: str) -> dict[str, Any]:
    """Give the metadata of an array that lies as `chunks.plain` has it."""
    names = {np.dtype(code): name for name, code in _DTYPES.items() if code != "V2"}
    name = names.get(layout.dtype.newbyteorder("="))
    if name is None:
        raise FileError(f"{where} is {layout.dtype}, which zarr stores do not know")
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(layout.shape),
        "data_type": name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(layout.grid.chunk)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"bool": False}.get(name, [0.0, 0.0] if name[0] == "c" else 0),
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }


def store_metadata(
    layouts: Mapping[str, Layout], attributes: Mapping[str, Any], path: str
) -> dict[str, bytes]:
    """Write down what each file of a store says of it.

    Raises
    ------
    FileError
        If an array has a name or a dtype that no store has, or lies in another.
    """
    groups, said = {"": attributes}, {}
    for name, layout in layouts.items():
        steps = name.split("/") if name else []
        if any(step in ("", ".", "..") or step.startswith("__") or "\0" in step for step in steps):
            raise FileError(f"{path}: an array in a zarr store cannot be called {name}")
        for above in ("/".join(steps[:n]) for n in range(len(steps))):
            if above in layouts:
                raise FileError(f"{path}: {name} would lie in the array {above or 'itself'}")
            groups.setdefault(above, {})
        said[name] = _described(layout, f"{path}: {name}")
    if "" in said:
        said[""]["attributes"] = groups.pop("")
    for name, some in groups.items():
        said[name] = {"zarr_format": 3, "node_type": "group", "attributes": some}
    return {
        f"{name}/zarr.json" if name else "zarr.json": json.dumps(one).encode()
        for name, one in said.items()
    }


def write_metadata(folder: str, metadata: Mapping[str, bytes]) -> None:
    """Begin a store by what its files say of it."""
    for file, data in metadata.items():
        put(folder, file, data)


def holds(folder: str, metadata: Mapping[str, bytes]) -> bool:
    """Tell whether the files of a store say exactly this of it."""
    for file, data in metadata.items():
        try:
            with open(os.path.join(folder, file), "rb") as stream:
                if stream.read(len(data) + 1) != data:
                    return False
        except OSError:
            return False
    return True
