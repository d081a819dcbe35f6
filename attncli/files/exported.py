"""The matrices that ``attn show-weights`` writes, as arrays under the names it finds them by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import DataError

# The columns of a spreadsheet behind those that name a matrix.
COLUMNS = ("dec", "dec_label", "enc", "enc_label", "weight")
# What spreadsheets would compute has an apostrophe before it, and so what looks as if it had one.
# The wide forms count too, and what takes no place before it does not.
_FORMULA = re.compile(r"'*[\s\ufeff\u200b-\u200f\u2060]*[=+\-@\t\r＝＋－＠]")

NAMES = ("part", "layer", "item", "head")
TABLE = "matrices"
"""Where there are gaps: the names of all matrices as JSON, and before the number of each."""

Words = Sequence[str] | None

# Whose words are those of the rows, and whose of the keys.
_SIDES = {"encoder": ("tokens_enc", "tokens_enc"), "decoder": ("tokens_dec", "tokens_dec")}
_BOTH = ("tokens_dec", "tokens_enc")


class Matrix(NamedTuple):
    """One matrix, as it was exported.

    Attributes
    ----------
    names : mapping
        Frame, part, layer, item and head, by number; what is none has no such axis.
    words : pair of sequence of str or None
        Of the rows and of the columns.
    weights : ndarray (rows, columns)
    """

    names: Mapping[str, Any]
    words: tuple[Words, Words]
    weights: Array

    def number(self, name: str) -> int | None:
        """Give the number of an axis; None where it has none, or several were combined."""
        number = self.names.get(name)
        return number if type(number) is int else None


def arrays_of(matrices: Sequence[Matrix], label: str) -> dict[str, Array]:
    """Put matrices together as the arrays that a file of weights has: one a part and layer.

    Raises
    ------
    DataError
        If they are no grid of items and heads.
    """
    if not matrices:
        return {}
    for one in matrices:
        refuse_image(one.names, label)
    frames: dict[int | None, list[Matrix]] = {}
    for one in matrices:
        frames.setdefault(one.number("frame"), []).append(one)
    words = _words(next(iter(frames.values()), []))
    if len(frames) == 1 and not all(map(_are_all, _families(matrices).values())):
        names = [{name: one.names.get(name) for name in NAMES} for one in matrices]
        arrays = {f"{TABLE}.{number}": one.weights for number, one in enumerate(matrices)}
        return {TABLE: np.array(json.dumps(names)), **arrays, **words}
    each = [_of_frame(some, label) for some in frames.values()]
    if len(each) == 1:
        return {**each[0], **words}
    if any(len(one) > 1 for one in each):
        raise DataError(f"{label}: holds frames of several layers: expected frames of one")
    steps = np.array([some[0].names.get("step", number) for number, some in frames.items()])
    stacked = np.stack([array for one in each for array in one.values()])
    return {"weights": stacked, "steps": steps, **words}


def refuse_image(names: Mapping[str, Any], label: str) -> None:
    """Refuse what ``--grid`` made of rows: their keys are no longer one axis.

    Raises
    ------
    DataError
    """
    if "row" in names:
        raise DataError(
            f"{label}: holds rows as images", hint="written without --grid, it has all weights"
        )


def _of_frame(matrices: Sequence[Matrix], label: str) -> dict[str, Array]:
    families = _families(matrices)
    return {name: _stacked(some, f"{label}: {name}") for name, some in families.items()}


def _families(matrices: Sequence[Matrix]) -> dict[str, list[Matrix]]:
    """Put the matrices of each part and layer together."""
    families: dict[str, list[Matrix]] = {}
    for one in matrices:
        families.setdefault(_name(one), []).append(one)
    return families


def _are_all(matrices: Sequence[Matrix]) -> bool:
    """Whether items and heads are counted from 0 without a gap, and are of one shape."""
    if len({one.weights.shape for one in matrices}) > 1:
        return False
    for axis in ("item", "head"):
        numbers = {one.number(axis) or 0 for one in matrices}
        if numbers != {*range(len(numbers))}:
            return False
    return True


def _name(one: Matrix) -> str:
    part, layer = one.names.get("part"), one.number("layer")
    if part:
        return f"{part}_attentions" + ("" if layer is None else f".{layer}")
    return "weights" if layer is None else f"layer{layer}"


def _stacked(matrices: Sequence[Matrix], what: str) -> Array:
    """Stack what is told apart by item and head; an axis that nothing has is none."""
    axes = [name for name in ("item", "head") if matrices[0].number(name) is not None]
    if axes == ["head"]:  # three axes would be those of items
        axes = ["item", "head"]
    numbers = [sorted({one.number(axis) or 0 for one in matrices}) for axis in axes]
    sizes = tuple(map(len, numbers))
    shape = matrices[0].weights.shape
    if any(one.weights.shape != shape for one in matrices):
        shapes = " and ".join(dict.fromkeys(str(one.weights.shape) for one in matrices))
        raise DataError(f"{what}: its matrices are of different shapes, {shapes}")
    places = [
        tuple(some.index(one.number(axis) or 0) for axis, some in zip(axes, numbers, strict=True))
        for one in matrices
    ]
    if len(set(places)) < len(places) or len(places) != np.prod(sizes, dtype=int):
        raise DataError(
            f"{what}: {len(matrices)} matrices are no grid of {' and '.join(axes) or 'one'}"
        )
    stacked = np.empty(sizes + shape, np.result_type(*(one.weights for one in matrices)))
    for place, one in zip(places, matrices, strict=True):
        stacked[place] = one.weights
    return stacked


def _words(matrices: Sequence[Matrix]) -> dict[str, Array]:
    """Give the words of both sides; an item without some, where others have them, has places."""
    found: dict[str, dict[int, Sequence[str]]] = {}
    some = set()
    for one in matrices:
        sides = _SIDES.get(one.names.get("part") or "", _BOTH)
        for name, words, size in zip(sides, one.words, one.weights.shape, strict=True):
            if words is not None:
                some.add(name)
            places = [str(place) for place in range(size)]
            found.setdefault(name, {}).setdefault(one.number("item") or 0, words or places)
    return {name: _array(items) for name, items in found.items() if name in some}


def _array(items: Mapping[int, Sequence[str]]) -> Array:
    """One list of words where all items have the same, else a list an item."""
    first, *others = (items[number] for number in sorted(items))
    if all(list(one) == list(first) for one in others):
        return np.array(first, dtype=np.str_)
    longest = max(map(len, items.values()))
    each = (items.get(number, first) for number in range(max(items) + 1))
    return np.array([[*one, *[""] * (longest - len(one))] for one in each], dtype=np.str_)


def protected(label: str) -> str:
    """Put an apostrophe before what spreadsheets would compute, as OWASP advises.

    A token may be anything, `=HYPERLINK(…)` too; and `-ing` would be an error there.

    Examples
    --------
    >>> protected("=1+1"), protected("'s"), unprotected("'=1+1"), unprotected("'s")
    ("'=1+1", "'s", '=1+1', "'s")
    """
    return f"'{label}" if _FORMULA.match(label) else label


def unprotected(label: str) -> str:
    """Take the apostrophe away that `protected` put there."""
    return label[1:] if label[:1] == "'" and _FORMULA.match(label) else label
