"""The matrices of one file less those of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from attncli.errors import ShapeError
from attncli.weights.selection import Chosen, Load


def difference(
    ours: Sequence[Chosen], theirs: Sequence[Chosen], labels: tuple[str, str]
) -> list[Chosen]:
    """Pair the matrices of two files; each pair loads as the first minus the second.

    Raises
    ------
    ShapeError
        If the files do not hold the same matrices.
    """
    label, other_label = labels
    if [one.place for one in ours] != [one.place for one in theirs]:
        axes = ", ".join(_differing_names(ours, theirs))
        held = "1 matrix" if len(ours) == 1 else f"{len(ours)} matrices"
        raise ShapeError(
            f"{label} has {held}, {other_label} {len(theirs)}: {axes}",
            hint="--layer, --item, --head, --mean and --axes hold for both files",
        )
    pairs = []
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            where = f" {one.heading}" if one.names else ""
            differ = " and ".join(
                f"{axis} differs ({size} and {other_size})"
                for axis, size, other_size in zip(
                    ("T_dec", "T_enc"), one.shape, other.shape, strict=True
                )
                if size != other_size
            )
            raise ShapeError(
                f"{label}{where} is {one.shape}, {other_label}{where} {other.shape}: {differ}"
            )
        pairs.append(replace(one, load=_minus(one.load, other.load)))
    return pairs


def _differing_names(ours: Sequence[Chosen], theirs: Sequence[Chosen]) -> Iterator[str]:
    """Say of which axis the matrices of one file are not those of the other."""
    for name, axis in (
        ("frame", "frames"), ("part", "parts"),
        ("layer", "layers"), ("item", "N"), ("head", "heads"),
    ):  # fmt: skip
        numbers = [dict.fromkeys(one.names.get(name) for one in every) for every in (ours, theirs)]
        differ = len(numbers[0]) != len(numbers[1])
        if numbers[0] == numbers[1] or (name == "frame" and not differ):
            continue
        if differ:
            yield f"{axis} differs ({len(numbers[0])} and {len(numbers[1])})"
        else:
            said = (", ".join("none" if x is None else str(x) for x in every) for every in numbers)
            yield f"{axis} differs ({' and '.join(said)})"


def _minus(ours: Load, theirs: Load) -> Load:
    return lambda cut: np.subtract(ours(cut), theirs(cut), dtype=np.float64)
