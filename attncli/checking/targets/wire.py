"""What goes to a target's process and comes from it: arrays as plain bytes, never their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

# By their own names: what code under test makes of NumPy's does not reach them.
from numpy import (
    asarray,
    ascontiguousarray,
    broadcast_to,
    empty,
    float32,
    frombuffer,
    generic,
    ndarray,
    uint8,
    zeros,
)
from numpy import dtype as dtype_of

from attncli.arrays import Array
from attncli.errors import shortened

_KINDS = "biufc"
# A result of more bytes is not carried: that its shape is wrong shows without it.
_MOST = 1 << 28
# Of so many numbers a list is carried as it is, of more as an array.
_FEW = 16
# Lists of more values are carried as one array, or not at all.
_LONG = 4096
_DEPTH = 3
_LONGEST_NAME = 160


class Foreign:
    """What stands for a value that is not carried: it has no numbers that could be judged.

    Attributes
    ----------
    kind : str
        What it is, in words.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Layout:
    """How an array lies in memory: the order of its axes there, and the steps along the last.

    Examples
    --------
    >>> array = np.arange(12.0).reshape(2, 6)[:, ::2].T
    >>> layout = Layout.of(array)
    >>> layout.order, layout.step
    ((1, 0), 2)
    >>> layout.empty((3, 2), "float64").strides == array.strides
    True
    """

    def __init__(self, order: Sequence[int], step: int) -> None:
        self.order, self.step = tuple(order), step

    @classmethod
    def of(cls, array: Array) -> Layout:
        """That of an array; what cannot be said this way counts as in order."""
        steps = [abs(step) for step in array.strides]
        order = sorted(range(array.ndim), key=lambda axis: -steps[axis])
        last = steps[order[-1]] if array.ndim and array.size else 0
        return cls(order, max(1, last // array.itemsize))

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """A new array that lies like this."""
        sizes = [shape[axis] for axis in self.order]
        if sizes:
            sizes[-1] *= self.step
        turned = sorted(range(len(sizes)), key=self.order.__getitem__)
        return empty(sizes, dtype)[..., :: self.step].transpose(turned)


def twin(array: Array) -> Array:
    """A copy that lies in memory as the array does."""
    if array.flags.c_contiguous:
        return array.copy()
    made = Layout.of(array).empty(array.shape, array.dtype)
    made[...] = array
    return made


def encode(value: Any, parts: list[Any], depth: int = _DEPTH) -> Any:
    """Describe a value in JSON; the bytes of its arrays are added to `parts`.

    Examples
    --------
    >>> parts = []
    >>> encode((np.ones(2), None), parts)["items"][1], len(parts)
    ({'is': 'None'}, 1)
    >>> decode(encode([np.ones((2, 3)), ...], parts := []), parts)
    [array([[1., 1., 1.],
           [1., 1., 1.]]), Ellipsis]
    """
    if value is None or type(value) in (bool, int, float, str):
        return {"is": "None"} if value is None else {"is": "plain", "value": value}
    if value is ...:
        return {"is": "gap"}
    kind = type(value).__name__
    if isinstance(value, (tuple, list)):
        numbers = len(value) > _FEW and all(isinstance(x, (int, float)) for x in value)
        if len(value) <= _LONG and depth and not numbers:
            items = [encode(item, parts, depth - 1) for item in value]
            return {"is": "tuple" if isinstance(value, tuple) else "list", "items": items}
    if isinstance(value, Mapping) and depth and len(value) <= _LONG:
        items = [[str(name), encode(item, parts, depth - 1)] for name, item in value.items()]
        return {"is": "dict", "items": items}
    array = value if isinstance(value, ndarray) else array_or_none(value)
    if array is None:
        return {"is": "other", "kind": kind}
    if array.dtype.kind not in _KINDS and array.dtype.name != "bfloat16":
        kind = f"an array of {array.dtype}" if isinstance(value, ndarray) else kind
        return {"is": "other", "kind": kind}
    held: dict[str, Any] = {"is": "array", "dtype": array.dtype.name, "shape": array.shape}
    held["from"] = "" if isinstance(value, (ndarray, generic)) else kind
    held["writeable"] = array.flags.writeable
    if array.nbytes <= _MOST:
        layout = Layout.of(array)
        held["order"], held["step"] = layout.order, layout.step
        held["part"] = len(parts)
        parts.append(ascontiguousarray(array).reshape(-1).view(uint8).data)
    return held


def decode(told: Any, parts: Sequence[bytes | bytearray | memoryview]) -> Any:
    """Make a value of what `encode` said of it; nothing of it is believed.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it makes no sense.
    """
    kind = told["is"]
    if kind == "None":
        return None
    if kind == "gap":
        return ...
    if kind == "plain":
        if type(told["value"]) not in (bool, int, float, str):
            raise TypeError("no plain value")
        return told["value"]
    if kind in ("tuple", "list"):
        items = [decode(item, parts) for item in told["items"]]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {str(name): decode(item, parts) for name, item in told["items"]}
    if kind != "array":
        return Foreign(shortened(str(told["kind"]), _LONGEST_NAME))
    dtype, shape = dtype_named(str(told["dtype"])), [int(size) for size in told["shape"]]
    if dtype.kind not in _KINDS and dtype.name != "bfloat16":
        raise ValueError("no numbers")
    if "part" not in told:  # too large to be carried: the shape alone can be judged
        return broadcast_to(zeros((), dtype), shape)
    part = parts[told["part"]]
    if len(part) != prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError("bytes that do not fit")
    array = frombuffer(part, dtype).reshape(shape)
    few = told["step"] * array.nbytes <= _MOST  # what lies between them is memory too
    layout = Layout(told["order"], told["step"] if few else 1)
    if layout.step > 1 or layout.order != tuple(range(len(shape))):
        made = layout.empty(shape, dtype)
        made[...] = array
        array = made
    return array


def dtype_named(name: str) -> np.dtype[Any]:
    """The dtype of a name, also where NumPy learns it from ml_dtypes."""
    try:
        return dtype_of(name)
    except TypeError:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]

        found: np.dtype[Any] = dtype_of(getattr(ml_dtypes, name))
        return found


def array_or_none(value: Any) -> Array | None:
    """Give a value as an array of whatever it holds, or None where it is none."""
    try:
        array = asarray(value)
    except Exception:  # an __array__ of theirs may raise anything
        return None
    # Of ml_dtypes; NumPy has none.
    return array.astype(float32) if array.dtype.name == "bfloat16" else array
