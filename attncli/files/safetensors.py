"""The .safetensors format, read through the library of that name (the ``safetensors`` extra).

The library validates the file; the arrays are then mapped where they lie.  Text (tokens, options)
is no tensor there, so it is kept as JSON in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from attncli.arrays import Array
from attncli.errors import FileError
from attncli.files.dtypes import widen_bfloat16
from attncli.files.entries import Entry, place_in
from attncli.files.json_arrays import parse_json
from attncli.files.npy import array_from_bytes, map_array, write_data
from attncli.files.preflight import Header
from attncli.files.source import Source
from attncli.files.texts import text_entry, text_of
from attncli.memory import require

_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "V2",
}


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe every tensor of the file by its name, and the text in its metadata."""
    safetensors: Any = import_module("safetensors")
    try:
        if source.is_file:
            with safetensors.safe_open(source.label, framework="numpy"):
                pass
        else:
            safetensors.deserialize(source.data)
    except (safetensors.SafetensorError, OSError) as error:
        raise FileError(f"{source.label}: damaged or truncated ({error})") from None
    with source.open() as stream:
        length = int.from_bytes(stream.read(8), "little")
        fields = parse_json(stream.read(length).decode(), source.label)
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise FileError(f"{source.label}: damaged header")

    entries = {
        name: text_entry(text)
        for name, text in metadata.items()
        if name == "options" or name.startswith("tokens")
    }
    for name, field in fields.items():
        entries[name] = _tensor_entry(source, name, field, 8 + length)
    return entries


def _tensor_entry(source: Source, name: str, field: dict[str, Any], start: int) -> Entry:
    shape, code = tuple(field["shape"]), field["dtype"]
    if code not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise FileError(f"{source.label}: {name} is {code}, expected one of {known}")
    header = Header(shape, np.dtype(_DTYPES[code]), False, start + field["data_offsets"][0])

    def load(max_memory: int | None) -> Array:
        if source.is_file:
            array = map_array(source, header, header.offset)
        else:
            array = array_from_bytes(source.data, header)
        if code != "BF16":
            return array
        require(2 * array.nbytes, f"{source.label}: {name} as float32", max_memory)
        return widen_bfloat16(array)

    place = partial(place_in, source, header, header.offset)
    if code == "BF16":
        return Entry(shape, np.dtype(np.float32), load, stored_as="bfloat16", place=place)
    return Entry(shape, header.dtype, load, place=place)


def write(stream: BinaryIO, arrays: Mapping[str, Array], label: str) -> None:
    """Write arrays as .safetensors; arrays of strings go to the metadata.

    The library would hold a copy of everything.
    """
    codes = {np.dtype(kind): code for code, kind in _DTYPES.items() if code != "BF16"}
    texts = {name: array for name, array in arrays.items() if array.dtype.kind == "U"}
    # The largest elements first: so every array lies at a multiple of its elements' size.
    tensors = sorted(
        (item for item in arrays.items() if item[0] not in texts),
        key=lambda item: -item[1].dtype.itemsize,
    )
    fields: dict[str, Any] = {
        "__metadata__": {name: text_of(array) for name, array in texts.items()}
    }
    end = 0
    for name, array in tensors:
        code = codes.get(array.dtype.newbyteorder("<"))
        if code is None:
            found = f"{name} is {array.dtype}"
            raise FileError(f"{label}: {found}, which .safetensors files do not know")
        begin, end = end, end + array.nbytes
        fields[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    header = json.dumps(fields, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    stream.write(len(header).to_bytes(8, "little") + header)
    for _, array in tensors:
        write_data(stream, array.astype(array.dtype.newbyteorder("<"), copy=False))
