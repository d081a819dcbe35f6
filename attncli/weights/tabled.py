"""Weights that were exported, some of all items and heads: each goes on by its own numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attncli.arrays import Array
from attncli.errors import DataError
from attncli.files.contents import TensorFile
from attncli.files.exported import NAMES, TABLE
from attncli.tensors import describe_shape
from attncli.weights.wanted import PARTS
from attncli.weights.weight_source import Layer, Part, Region

_Places = dict[tuple[int, int], str]


def tabled_parts(file: TensorFile) -> dict[str, Part] | None:
    """Give the parts of a file that has a table of its matrices; None where there is none.

    Raises
    ------
    DataError
        If the table is not what an export writes.
    """
    if TABLE not in file or file.shape(TABLE) != ():
        return None
    parts: dict[str, dict[int, _Places]] = {}
    axes: dict[str, set[str]] = {}
    for number, names in enumerate(_names(file)):
        part, layer, item, head = (names.get(name) for name in NAMES)
        places = parts.setdefault(part or "", {}).setdefault(layer or 0, {})
        if places.setdefault((item or 0, head or 0), f"{TABLE}.{number}") != f"{TABLE}.{number}":
            raise DataError(f"{file.label}: two matrices have the names {names}")
        axes.setdefault(part or "", set()).update(x for x in NAMES if names.get(x) is not None)
    return {name: _part(file, name, layers, axes[name]) for name, layers in parts.items()}


def _names(file: TensorFile) -> list[Mapping[str, Any]]:
    try:
        table = json.loads(str(file.tokens(TABLE)))
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, list) or not all(isinstance(one, dict) for one in table):
        raise DataError(f"{file.label}: {TABLE} is no table of matrices")
    for number, one in enumerate(table):
        numbers = [one.get(name) for name in NAMES[1:]]
        if (
            one.get("part") not in (None, *PARTS)
            or not all(x is None or (type(x) is int and 0 <= x < 1 << 32) for x in numbers)
            or len(file.entries[f"{TABLE}.{number}"].shape if f"{TABLE}.{number}" in file else ())
            != 2
        ):
            raise DataError(f"{file.label}: {TABLE} is no table of matrices: {number} is none")
    return table


def _part(file: TensorFile, name: str, layers: Mapping[int, _Places], axes: set[str]) -> Part:
    outer = [axis for axis, one in (("N", "item"), ("heads", "head")) if one in axes]
    kept = (*outer, "T_dec", "T_enc")
    read = {number: _layer(file, places) for number, places in sorted(layers.items())}
    first = next(iter(read.values()))
    count = sum(map(len, layers.values()))
    what = "1 matrix" if count == 1 else f"{count} matrices"
    how = f"{what} {describe_shape(first.shape[2:], ('T_dec', 'T_enc'))}"
    return Part(name, how, read, "layer" in axes, kept)


def _layer(file: TensorFile, places: _Places) -> Layer:
    sizes: dict[int, tuple[int, int]] = {}
    for (item, _), name in places.items():
        T_dec, T_enc = file.shape(name)
        if sizes.setdefault(item, (T_dec, T_enc)) != (T_dec, T_enc):
            raise DataError(
                f"{file.label}: heads of one item are of different shapes, {sizes[item]} and "
                f"{(T_dec, T_enc)}"
            )
    items, heads = (sorted({place[axis] for place in places}) for axis in (0, 1))

    def load(item: int, head: int, region: Region) -> Array:
        return file.numbers(places[item, head], region)

    T_dec, T_enc = (max(size[axis] for size in sizes.values()) for axis in (0, 1))
    return Layer(
        TABLE,
        (max(items) + 1, max(heads) + 1, T_dec, T_enc),
        load,
        lambda item, head: (item, head) in places,
        (items, heads),
        sizes,
    )
