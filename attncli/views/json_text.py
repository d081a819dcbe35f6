"""JSON written piece by piece: a large tensor is never there as text, or as lists, as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array

# So many numbers become text at a time.
_AT_ONCE = 1 << 14


# Of the schemas in attncli/guide/schemas: another once what is there means another thing.
SCHEMA = 1


def object_pieces(value: dict[str, Any]) -> Iterator[str]:
    r"""Write the object that a command answers with, and that says which schema it is of.

    Examples
    --------
    >>> "".join(object_pieces({"command": "forward"}))
    '{"schema": 1, "command": "forward"}\n'
    """
    yield from json_pieces({"schema": SCHEMA, **value})
    yield "\n"


def json_pieces(value: Any) -> Iterator[str]:
    """Write what `json.dumps` would, in pieces.

    Arrays become nested lists whose numbers read back exactly, iterators become lists; what these
    are in may be dictionaries only. No bare NaN ever leaves.

    Examples
    --------
    >>> "".join(json_pieces({"a": np.eye(2), "b": iter([{"c": [1, None]}, {}])}))
    '{"a": [[1.0, 0.0], [0.0, 1.0]], "b": [{"c": [1, null]}, {}]}'
    """
    if isinstance(value, np.ndarray):
        yield from _array(value)
    elif isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(key)}: "
            yield from json_pieces(item)
        yield "}"
    elif isinstance(value, Iterator):
        yield from _list(json_pieces(item) for item in value)
    else:
        yield json.dumps(value, allow_nan=False)


def _array(array: Array) -> Iterator[str]:
    if array.size <= _AT_ONCE:
        yield json.dumps(jsonable(array), allow_nan=False)
    elif array.ndim > 1:
        yield from _list(map(_array, array))
    else:
        parts = (array[first : first + _AT_ONCE] for first in range(0, array.size, _AT_ONCE))
        yield from _list(iter([json.dumps(jsonable(part))[1:-1]]) for part in parts)


def _list(items: Iterator[Iterator[str]]) -> Iterator[str]:
    yield "["
    for number, item in enumerate(items):
        if number:
            yield ", "
        yield from item
    yield "]"


def jsonable(array: Array) -> Any:
    """Turn an array into nested lists whose numbers read back exactly.

    JSON has no NaN or infinity: they are written as the strings "NaN", "Infinity", "-Infinity"; so
    are the digits of long doubles, which no reader's floats could take.

    Examples
    --------
    >>> jsonable(np.array([[0.1, 2.0]])), jsonable(np.array([np.nan, -np.inf]))
    ([[0.1, 2.0]], ['NaN', '-Infinity'])
    """
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.str_).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = array.astype(np.float64).astype(object)
        values[np.isnan(array)] = "NaN"
        values[array == np.inf] = "Infinity"
        values[array == -np.inf] = "-Infinity"
        return values.tolist()
    return array.tolist()


def tensor_as_json(array: Array, axes: Sequence[str] | None) -> dict[str, Any]:
    """Describe a tensor, with its numbers."""
    return {
        "shape": list(array.shape),
        "axes": None if axes is None else list(axes),
        "dtype": str(array.dtype),
        "data": array,
    }


def jsonable_number(value: float) -> float | str:
    """Turn one number into what `jsonable` makes of it.

    Examples
    --------
    >>> jsonable_number(0.5), jsonable_number(float("inf"))
    (0.5, 'Infinity')
    """
    converted: float | str = jsonable(np.asarray(value, np.float64))
    return converted
