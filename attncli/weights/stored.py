"""Weights that a file holds as arrays: which axis is which, and a matrix when it is looked at."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from attncli.arrays import Array
from attncli.errors import ShapeError
from attncli.files.contents import TensorFile
from attncli.files.dtypes import require_finite
from attncli.memory import require
from attncli.tensors import describe_shape
from attncli.weights.counting import Counted, rows_along
from attncli.weights.cutting import as_index
from attncli.weights.name_families import Family
from attncli.weights.weight_source import FOUR, Layer, Part, Region, short

STACK = ("layers", *FOUR)
_OUTER = ("steps", *STACK)
OURS = ("", "weights")
"""What this tool calls weights: an array alone in a file, and one among others."""
_MOST_REMEMBERED = 64_000_000  # bytes
_OF_A_MATRIX = 1000  # bytes that it takes to name one
_COUNTED: tuple[str, ...] = ("layers", "steps")


@dataclass(frozen=True)
class _Piece:
    """Rows of a matrix, or all of them, as an array holds them.

    Attributes
    ----------
    name : str
    axes : tuple of str
        Those of the array.
    shape : tuple of int
    at : dict of str to int
        The layer and the step in it, where they are among the axes.
    step : int
        Its place among the steps of generating.
    rows : int
        How many of its rows are new: the last ones, or those before `end`.
    first_key : int
        Where its keys begin.
    end : int or None
        The row behind the last that is not filled up.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    at: dict[str, int] = field(default_factory=dict)
    step: int = 0
    rows: int = 0
    first_key: int = 0
    end: int | None = None

    def size(self, axis: str) -> int:
        """Return how long an axis is, 1 where there is none."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def first_row(self) -> int:
        """The first row that is new."""
        return (self.size("T_dec") if self.end is None else self.end) - self.rows

    def read(
        self, file: TensorFile, item: int, head: int, region: Region, *, nonfinite: bool = False
    ) -> Array:
        """Load the weights of a head, or what an index of rows and one of columns leaves."""
        rows, columns = region
        at = {**self.at, "N": item, "heads": head, "T_dec": rows, "T_enc": columns}
        index = short([at[axis] for axis in self.axes], self.shape)
        matrix = np.atleast_2d(file.numbers(self.name, index, allow_nonfinite=nonfinite))
        turned = [axis for axis in self.axes if axis in ("T_dec", "T_enc")] == ["T_enc", "T_dec"]
        return matrix.T if turned else matrix

    def is_empty(self, file: TensorFile, item: int, head: int) -> bool:
        """Whether a head is zero, or no number, throughout: the first row tells nearly always."""
        whole = slice(None)
        return not any(
            np.nan_to_num(self.read(file, item, head, (rows, whole), nonfinite=True)).any()
            for rows in (slice(0, 1), whole)
        )

    def load(self, file: TensorFile, item: int, head: int, region: Region) -> Array:
        """Read; what a step was filled up with is 0."""
        filled = "steps" in self.at
        matrix = self.read(file, item, head, region, nonfinite=filled)
        if filled:
            missing = np.isnan(matrix)
            behind = np.logical_and.accumulate(missing[:, ::-1], axis=1)[:, ::-1]
            matrix = np.where(behind, matrix.dtype.type(0), matrix)
            if not file.reading.allow_nonfinite:
                require_finite(matrix, self.name, file.label)
        return matrix


def stored_part(
    file: TensorFile,
    family: Family,
    counted: Counted,
    given: tuple[str, ...] | None = None,
    *,
    numbered: bool = True,
) -> Part:
    """Read arrays that hold weights, by what their numbers count.

    Raises
    ------
    ShapeError
        If they have other axes than weights have, or than those given.
    """
    file = _remembering(file, family, counted)
    # By layer, by item and head where names count them, in the order of the steps.
    found: dict[tuple[int, ...], dict[tuple[int, int], list[_Piece]]] = {}
    for numbers, name in family.members.items():
        outer: dict[str, list[int]] = {}
        for kind, number in zip(counted.axes, numbers, strict=True):
            outer.setdefault(kind, []).append(number)
        piece = _piece(file, name, counted, given)
        inner = {
            axis: range(piece.size(axis)) for axis in ("layers", "steps") if axis in piece.axes
        }
        if "layers" in inner and "layers" in outer:
            raise ShapeError(
                f"{file.label}: {name} {piece.shape} is one layer, and cannot have an axis of them"
            )
        place = (outer.get("N", [0])[0], outer.get("heads", [0])[0])
        for layer in inner.get("layers", [0]):
            key = tuple(outer.get("layers", [layer]))
            for step in inner.get("steps", outer.get("steps", [0])):
                at: dict[str, int] = {
                    k: n for k, n in (("layers", layer), ("steps", step)) if k in inner
                }
                one = replace(piece, at=at, step=step)
                found.setdefault(key, {}).setdefault(place, []).append(one)
    if not found:
        name = next(iter(family.members.values()))
        raise ShapeError(f"{file.label}: {name or 'the array'} is {file.shape(name)}: layers = 0")
    keys = sorted(found)
    layers = {
        key[0] if len(key) == 1 else number: _layer(file, found[key], counted)
        for number, key in enumerate(keys)
    }
    some = next(iter(found[keys[0]].values()))[0]
    axes = tuple(axis for axis in _OUTER if axis in {*some.axes, *counted.axes})
    stacked = "layers" in some.axes
    return Part(
        family.part, _reading(file, family, counted, layers, some), layers,
        stacked or (numbered and "layers" in counted.axes), axes,
    )  # fmt: skip


def _remembering(file: TensorFile, family: Family, counted: Counted) -> TensorFile:
    """Load small arrays once for all heads, where one matrix is made of many; not more at once.

    Copies of mapped ones: those would hold as many files open.
    """
    if "steps" not in counted.axes:
        return file
    steps = counted.axes.index("steps")
    count = len({numbers[steps] for numbers in family.members})

    @functools.lru_cache(maxsize=count)
    def once(name: str, max_memory: int | None) -> Array:
        return np.array(file.entries[name].load(max_memory))

    small = {
        name: replace(entry, load=functools.partial(once, name), read=None)
        for name in family.members.values()
        if math.prod((entry := file.entries[name]).shape) * entry.dtype.itemsize
        <= _MOST_REMEMBERED // count
    }
    return TensorFile(file.label, {**file.entries, **small}, file.reading)


def weight_axes(
    label: str,
    name: str,
    shape: tuple[int, ...],
    given: tuple[str, ...] | None = None,
    outer: Sequence[str] = (),
) -> tuple[str, ...]:
    """Name the axes of stored weights: as they were given, else as their number implies.

    Raises
    ------
    ShapeError
        If there are others.
    """
    what = f"{label}: {name or 'the array'}"
    if given is not None:
        if len(given) != len(shape):
            raise ShapeError(f"{what} is {shape}: --axes names {len(given)}, {', '.join(given)}")
        return given
    if name == "a" and len(shape) == 2:
        return ("N", "T_enc")
    # What names count, an array has no axis of; but items and heads of its own it may have.
    left = [axis for axis in _OUTER if axis not in outer or axis in ("N", "heads")]
    # Steps have a row each, or an array's own name says that it is no training of many frames.
    if "steps" in left and (shape[:1] == (1,) or (name in OURS and shape[-2:-1] != (1,))):
        left.remove("steps")
    if len(shape) == 3:
        left.remove("N" if "N" in outer else "heads")
    if not 0 < len(shape) <= len(left):
        raise ShapeError(
            f"{what} is {shape}, expected (T_dec, T_enc), (N, T_dec, T_enc), "
            "(N, heads, T_dec, T_enc) or (layers, N, heads, T_dec, T_enc)",
            hint="--axes frames,layers,N,heads,dec,enc says what other axes are",
        )
    return tuple(left[len(left) - len(shape) :])


def _piece(file: TensorFile, name: str, counted: Counted, given: tuple[str, ...] | None) -> _Piece:
    shape = file.shape(name)
    if given is None and counted.flat:
        axes = ("N", "heads", "T_enc")[3 - len(shape) :]
    else:
        axes = weight_axes(file.label, name, shape, given, counted.axes)
    piece = _Piece(name, axes, shape)
    if piece.size("T_enc") == 0:
        raise ShapeError(f"{file.label}: {name or 'the array'} is {shape}: T_enc = 0, no keys")
    # Each is one to be chosen, also where they have no rows, and the file no bytes.
    count = math.prod(size for axis, size in zip(axes, shape, strict=True) if axis not in FOUR[-2:])
    what = f"{file.label}: {name or 'the array'} is {shape}: to list {count} matrices"
    require(_OF_A_MATRIX * count, what, file.reading.max_memory)
    return piece


def _layer(
    file: TensorFile, pieces: Mapping[tuple[int, int], list[_Piece]], counted: Counted
) -> Layer:
    """Put together what there is of a layer: of each item and head its steps."""
    blocks = {place: _in_steps(file, some) for place, some in pieces.items()}
    every = [piece for some in blocks.values() for piece in some]
    _require_alike(file, every)
    # The items and heads that an array has itself stand behind each other.
    items, heads = (max(piece.size(axis) for piece in every) for axis in ("N", "heads"))
    N = items * (1 + max(item for item, _ in blocks))
    T_dec = max(sum(piece.rows for piece in some) for some in blocks.values())
    T_enc = max(piece.first_key + piece.size("T_enc") for piece in every)
    shape = (N, heads * (1 + max(head for _, head in blocks)), T_dec, T_enc)
    count, names = N * shape[1], " and ".join(sorted({every[0].name, every[-1].name}))
    what = f"{file.label}: {names} stand far apart: to list {count} matrices"
    require(_OF_A_MATRIX * count, what, file.reading.max_memory)

    def has(item: int, head: int) -> bool:
        some = blocks.get((item // items, head // heads))
        if some is None or "layers" not in some[0].at or heads == 1 or 0 in shape:
            return some is not None
        return not some[0].is_empty(file, item % items, head % heads)

    def load(item: int, head: int, region: Region) -> Array:
        some = blocks[item // items, head // heads]
        sizes = tuple(map(some[0].size, ("N", "T_dec", "T_enc")))
        if len(some) == 1 and sizes == (items, *shape[2:]):
            return some[0].load(file, item % items, head % heads, region)
        return _put_together(file, some, (item % items, head % heads, items), shape[2:], region)

    return Layer(every[0].name, shape, load, has)


def _require_alike(file: TensorFile, pieces: Sequence[_Piece]) -> None:
    """Raise unless what is to be one layer has as many heads in each array; beams may be fewer."""
    for one in pieces:
        for axis, names in (("heads", "heads"), ("N", "items")):
            sizes = pieces[0].size(axis), one.size(axis)
            if len({*sizes}) > 1 and (axis == "heads" or 0 in sizes):
                raise ShapeError(
                    f"{file.label}: {pieces[0].name} is {pieces[0].shape} and {one.name} "
                    f"{one.shape}: {sizes[0]} and {sizes[1]} {names} of one layer"
                )


def _in_steps(file: TensorFile, pieces: list[_Piece]) -> list[_Piece]:
    """Say of the arrays of each step which rows are new."""
    pieces = sorted(pieces, key=lambda one: one.step)
    sizes = [(one.size("T_dec"), one.size("T_enc")) for one in pieces]
    nothing = any(0 in one.shape for one in pieces)
    if "steps" not in pieces[0].at or sizes[0][0] == 1 or nothing:
        return [
            replace(one, rows=rows, first_key=first_key)
            for one, (rows, first_key) in zip(pieces, rows_along(sizes), strict=True)
        ]
    # Filled up: what is no row is zero, or no number.
    found, before = [], 0
    whole = slice(None), slice(None)
    for one in pieces:
        there = np.flatnonzero(np.nan_to_num(one.load(file, 0, 0, whole)).any(axis=1))
        count, end = len(there), int(there.max(initial=-1)) + 1
        again = count > before > 0 or (before > 1 and count == before)
        found.append(replace(one, rows=count - before if again else count, end=end))
        before = count
    return found


def _put_together(
    file: TensorFile,
    pieces: list[_Piece],
    which: tuple[int, int, int],
    shape: tuple[int, int],
    region: Region,
) -> Array:
    """Load the rows of several arrays as one matrix, 0 where a key did not exist yet."""
    (item, head, items), (rows, columns) = which, region
    wanted = np.arange(shape[0])[rows]
    require(
        8 * len(wanted) * shape[1], f"weights {(len(wanted), shape[1])}", file.reading.max_memory
    )
    matrix, first = None, 0
    for piece in pieces:
        places = np.flatnonzero((wanted >= first) & (wanted < first + piece.rows))
        if places.size:
            at = as_index(wanted[places] - first + piece.first_row)
            of_item = item * piece.size("N") // items  # beams may share what came before them
            part = piece.load(file, of_item, head, (at, slice(None)))
            if matrix is None:
                matrix = np.zeros((len(wanted), shape[1]), part.dtype)
            keys = slice(piece.first_key, piece.first_key + part.shape[1])
            matrix[places, keys] = part
        first += piece.rows
    if matrix is None:
        matrix = np.zeros((len(wanted), shape[1]))
    return matrix[:, columns]


def _reading(
    file: TensorFile,
    family: Family,
    counted: Counted,
    layers: Mapping[int, Layer],
    some: _Piece,
) -> str:
    """Say which arrays were read, and how."""
    names = list(family.members.values())
    what = names[0] or "weights"
    if len(names) > 1:
        numbers = list(layers)
        gaps = numbers[-1] - numbers[0] + 1 > len(numbers) > 1 and "layers" in counted.axes
        what = f"{names[0]} to {names[-1]}"
        if gaps:
            what = ", ".join(names) if len(names) < 5 else f"{what}, layers {_listed(numbers)}"
    shape, axes = some.shape, some.axes
    first = layers[min(layers)]
    if "steps" in {*counted.axes, *axes}:
        kept = tuple(axis for axis in FOUR if axis in {*axes, *counted.axes, "T_dec"})
        shape = tuple(first.shape[FOUR.index(axis)] for axis in kept)
        what, axes = f"{what}, a row a step", kept
    reading = f"{what} {describe_shape(shape, axes)}"
    if len({layer.shape for layer in layers.values()}) > 1:
        reading += " and other shapes"
    return reading


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
