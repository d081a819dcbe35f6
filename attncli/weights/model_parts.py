"""Which of the arrays in a file are the weights of each part of a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from attncli.errors import AttnWarning, DataError, ShapeError
from attncli.files.contents import TensorFile
from attncli.spelling import renames
from attncli.weights.counting import Counted, Shapes, count
from attncli.weights.name_families import Family, families_of
from attncli.weights.stored import OURS, stored_part
from attncli.weights.wanted import PARTS
from attncli.weights.weight_source import Part

_MOST = 3  # how sure the name of an array can be that is not ours
_MOST_NAMED = 3
_READ_OTHERWISE = {5: "N,layers,heads,dec,enc", 4: "layers,heads,dec,enc", 3: "heads,dec,enc"}


def stored_families(file: TensorFile, *, shaped: bool) -> list[Family]:
    """Give what may be weights in a file, by names and shapes; nothing is read.

    Parameters
    ----------
    file : TensorFile
    shaped : bool
        Whether it was said what the axes are, so that shapes need not speak for themselves.
    """
    for name in OURS:
        if name in file:
            return [
                Family("", _MOST + 1, frozenset(), (), {(): name}),
                *(one for one in stored_families(_without(file, name), shaped=shaped)),
            ]
    numbers = (name for name, entry in file.entries.items() if entry.dtype.kind in "fiubV")
    found = []
    families = families_of(numbers)
    for family in families:
        members = {
            key: name
            for key, name in family.members.items()
            if shaped
            or _may_be(family, file.shape(name))
            # Whatever a list of matrices was of, where there is nothing else.
            or (family.rank == 1 and len(families) == 1 and len(file.shape(name)) > 1)
        }
        sure = shaped or family.rank != 0
        if members and (sure or _are_square(map(file.shape, members.values()))):
            found.append(replace(family, members=members))
    if not found and "a" in file:
        found.append(Family("", 0, frozenset(), (), {(): "a"}))
    return found


def _without(file: TensorFile, name: str) -> TensorFile:
    entries = {one: entry for one, entry in file.entries.items() if one != name}
    return TensorFile(file.label, entries, file.reading)


def _may_be(family: Family, shape: tuple[int, ...]) -> bool:
    """Whether an array can be weights: the less its name says, the more its shape has to."""
    if family.rank == 1 and "layers" in family.counts:
        return len(shape) > 0
    if family.rank > 1 or (family.rank < 0 and _are_square([shape])):
        return len(shape) > 1
    return len(shape) > 3 or (family.rank == 1 and _are_square([shape]))


def _are_square(shapes: Iterable[tuple[int, ...]]) -> bool:
    """Whether one has as many rows as keys, as the first of those that grow has; or all one row."""
    rows = [(shape[-2], shape[-1]) for shape in shapes if len(shape) > 1]
    return any(T_dec == T_enc for T_dec, T_enc in rows) or {T_dec for T_dec, _ in rows} == {1}


def best_of_parts(file: TensorFile, families: Iterable[Family]) -> dict[str, Family]:
    """Choose the likeliest arrays for each part, in the order of parts; say which are left over.

    Raises
    ------
    DataError
        If there are none, or two have one number.
    """
    for _ in range(2):  # what is across tells that what stands beside is the decoder's
        families = [_of_its_part(file, family, families) for family in families]
    found: dict[str, Family] = {}
    left_over: list[list[str]] = []
    for family in sorted(families, key=lambda one: (-one.rank, -len(one.members))):
        if family.part not in found:
            found[family.part] = family
            continue
        if family.rank >= 0:
            left_over.append(list(family.members.values()))
    if left_over:
        _tell_of(file, left_over)
    if not found:
        held = ", ".join(file) or "nothing"
        raise DataError(
            f"{file.label}: no weights: expected weights, layer0 …, hs_enc and hs_dec, or query "
            f"and key; it holds {held}",
            hint=renames(["weights"], file)
            or "--rename weights=THEIRS reads an array under another name",
        )
    if max(one.rank for one in found.values()) > _MOST:  # of this tool's own names
        found = {part: one for part, one in found.items() if one.rank > _MOST}
    for family in found.values():
        if family.twins:
            raise DataError(f"{file.label}: {' and '.join(family.twins)} are two of one number")
    if list(found) != [""]:
        found = {name: found[name] for name in (*PARTS, "") if name in found}
    return found


def _tell_of(file: TensorFile, left_over: Sequence[Sequence[str]]) -> None:
    """Name what looks like weights and is not shown."""
    said = [
        f"{names[0]}{f' to {names[-1]}' if names[1:] else ''} {file.shape(names[0])}"
        for names in left_over[:_MOST_NAMED]
    ]
    if more := len(left_over) - len(said):
        said.append(f"{more} more")
    warnings.warn(
        f"{file.label}: not used: {', '.join(said)}; --rename weights={left_over[0][0]} reads that",
        AttnWarning,
        stacklevel=3,
    )


def _of_its_part(file: TensorFile, family: Family, families: Iterable[Family]) -> Family:
    """Say whose attention it is, where what stands beside it tells."""
    beside = {one.part for one in families}
    shapes = [file.shape(name) for name in family.members.values()]
    if family.part == "" and family.rank > _MOST and {"hs_enc", "hs_dec"} <= {*file}:
        return replace(family, part="cross")  # the book's
    if family.part == "" and "cross" in beside and "decoder" not in beside:
        return replace(family, part="decoder")
    own = any(one.part == "" and "self" in one.words for one in families)
    oblong = any(len(shape) > 1 and shape[-1] != shape[-2] for shape in shapes)
    if family.part == "encoder" and "cross" not in beside and (oblong or own):
        return replace(family, part="cross")  # of a decoder: its attention to the encoder
    return family


def read_parts(
    file: TensorFile,
    wanted: Mapping[str, Family],
    every: Mapping[str, Family],
    axes: tuple[str, ...] | None,
) -> dict[str, Part]:
    """Read the arrays of the parts that are wanted; what others' numbers count may tell theirs.

    Raises
    ------
    ShapeError
        If the axes do not fit.
    """
    shapes = {
        name: {numbers: file.shape(one) for numbers, one in family.members.items()}
        for name, family in every.items()
    }
    counted = {name: count(family, shapes[name]) for name, family in every.items()}
    parts = {}
    for name, family in wanted.items():
        how, inner = counted[name], None
        if axes is not None:
            how, inner = _given(file, family, axes, how)
        elif not family.counts and _are_padded(file, next(iter(family.members.values()))):
            inner = ("steps", "N", "heads", "T_dec", "T_enc")
        elif "heads" in family.words and _is_of_heads(file, family):
            inner = ("heads", "T_dec", "T_enc")
        elif how.doubt:
            how = _settled(file, family, name, shapes, counted)
        numbered = "arr" not in family.words or len(family.members) > 1
        parts[name] = stored_part(file, replace(family, part=name), how, inner, numbered=numbered)
        if axes is None:
            beside = {*file} - {one for some in every.values() for one in some.members.values()}
            otherwise = _otherwise(file, family, parts[name], beside)
            parts[name] = replace(parts[name], otherwise=otherwise)
    return parts


def _is_of_heads(file: TensorFile, family: Family) -> bool:
    """Whether three axes begin with the heads that a name speaks of, and no number in it counts."""
    ndims = {len(file.shape(name)) for name in family.members.values()}
    return ndims == {3} and "heads" not in family.counts


def _are_padded(file: TensorFile, name: str) -> bool:
    """Whether layers of one row are steps: the last has keys that the first lacks."""
    shape = file.shape(name)
    if len(shape) != 5 or shape[0] < 2 or shape[-2] != 1 or 0 in shape:
        return False
    first, last = (
        np.nan_to_num(file.numbers(name, (at, 0, 0, 0), allow_nonfinite=True)) != 0
        for at in (0, shape[0] - 1)
    )
    return bool(np.trim_zeros(first, "b").size < np.trim_zeros(last, "b").size)


def _given(
    file: TensorFile, family: Family, axes: tuple[str, ...], counted: Counted
) -> tuple[Counted, tuple[str, ...]]:
    """Part the axes that were given into those of numbers in names and those of the arrays."""
    name = next(iter(family.members.values()))
    ndim = len(file.shape(name))
    outer = len(axes) - ndim
    if outer == 0 or not family.counts:
        return counted, axes
    if outer != len(family.counts):
        raise ShapeError(
            f"{file.label}: {name} is {file.shape(name)}: --axes names {len(axes)}, "
            f"{', '.join(axes)}",
            hint="what the numbers in names count may come first: --axes layers,N,heads,dec,enc",
        )
    return Counted(axes[:outer]), axes[outer:]


def _settled(
    file: TensorFile,
    family: Family,
    name: str,
    shapes: Mapping[str, Shapes],
    counted: Mapping[str, Counted],
) -> Counted:
    """Tell steps from layers by the parts beside, or by how many tokens there are."""
    for other, how in counted.items():
        if not how.doubt and {*shapes[other]} == {*shapes[name]}:
            return replace(counted[name], axes=how.axes)
    words = [file.shape(one)[-1] for one in ("tokens_dec", "tokens") if one in file]
    places = range(len(family.counts))
    sizes = [len({numbers[place] for numbers in family.members}) for place in places]
    steps = [place for place in places if {sizes[place], sizes[place] + 1} & {*words}]
    if len(steps) == 1:
        axes = ("steps" if place in steps else "layers" for place in places)
        return replace(counted[name], axes=tuple(axes))
    names = list(family.members.values())
    ndim = len(file.shape(names[0]))
    read = ",".join((*counted[name].axes, *("layers",) * (ndim > 4)))
    ways = {"layers": "steps", "steps,layers": "layers,steps"}
    if read in ways:
        inner = ",".join(("N", "heads", "dec", "enc")[-ndim:]) if ndim != 3 else "heads,dec,enc"
        warnings.warn(
            f"{file.label}: {names[0]} to {names[-1]} are read as {read}; "
            f"--axes {ways[read]},{inner} reads them otherwise",
            AttnWarning,
            stacklevel=3,
        )
    return counted[name]


def _otherwise(file: TensorFile, family: Family, part: Part, beside: set[str]) -> str:
    """Say how axes were read that may be others, and the option that reads them so."""
    name = next(iter(family.members.values()))
    shape = file.shape(name)
    N = part.layers[min(part.layers)].shape[0]
    if name == "weights" or N < 2 or "N" not in part.axes or len(shape) not in _READ_OTHERWISE:
        return ""
    if len(shape) > 3 and family.counts:
        return ""
    if any(len(file.shape(one)) > 1 and file.shape(one)[0] == N for one in beside):
        return ""  # what there is of each item
    return (
        f"{file.label}: {name or 'the array'} {shape} is read with N = {N}; "
        f"--axes {_READ_OTHERWISE[len(shape)]} reads it otherwise"
    )
