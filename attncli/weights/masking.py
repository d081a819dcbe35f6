"""Who sees whom as weights of 1 and 0, so that whatever shows or writes weights takes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core.visibility import Index, Visibility
from attncli.problems.surveying import alone, pairs_of_cells, survey
from attncli.problems.visible import Place, Scene
from attncli.weights.cutting import Cut
from attncli.weights.selection import Chosen, Load, Selection
from attncli.weights.wanted import Wanted
from attncli.weights.weight_source import Part, WeightSource


def masks_as_weights(scene: Scene, wanted: Wanted, most: int) -> Selection:
    """Give a matrix for each place and reading, and with two for what each sees alone.

    Where there are more than `most` steps, a number is the share seen of the pairs in a cell, and
    each label that of its steps.
    """
    down, across = (max(1, -(-size // most)) for size in scene.shape)
    label = " ".join(filter(None, ("show-mask", scene.source)))
    if len(scene.sights) == 1:
        label += f": {scene.sights[0].described}"
    told = [f"{axis}={size}" for axis, size in scene.sizes.items()]
    told += [one.described for one in scene.sights if len(scene.sights) > 1]
    tokens = scene.tokens
    if down * across > 1:
        label += f"; 1 cell = {down} × {across} pairs"
        tokens = {"T_dec": _ranges(scene.shape[0], down), "T_enc": _ranges(scene.shape[1], across)}
    told.append("1 = seen, 0 = hidden" + ", between: the share" * (down * across > 1))
    part = Part("", ", ".join(told), {}, False, (), tokens)
    source = WeightSource(label, {"": part})
    return Selection(source, wanted, list(_matrices(scene, down, across)))


def _ranges(size: int, by: int) -> Tokens:
    firsts = range(0, size, by)
    return np.array([f"{first}–{min(first + by, size) - 1}" for first in firsts])


def _matrices(scene: Scene, down: int, across: int) -> Iterator[Chosen]:
    views = [one.visibility for one in scene.sights]
    for place in scene.places:
        for number, one in enumerate(views):
            name = f"{'AB'[number]} {scene.sights[number].short}"
            names = {"reading": name} if len(views) > 1 else {}
            yield _chosen(names, scene, place, (one, None), (down, across))
        for number, one in enumerate(views if len(views) > 1 else ()):
            names = {"reading": f"{'AB'[number]} alone"}
            yield _chosen(names, scene, place, (one, views[1 - number]), (down, across))


def _chosen(
    names: dict[str, str],
    scene: Scene,
    place: Place,
    views: tuple[Visibility, Visibility | None],
    by: tuple[int, int],
) -> Chosen:
    pairs = pairs_of_cells(scene.shape, *by)
    item = place.names.get("item", scene.wanted.get("item", 0))
    return Chosen(
        {**place.names, **names}, item, (pairs.shape[0], pairs.shape[1]),
        _loader(views, place.index, by, pairs),
    )  # fmt: skip


def _loader(
    views: tuple[Visibility, Visibility | None],
    index: Index,
    by: tuple[int, int],
    pairs: Array,
) -> Load:
    one, other = views

    def load(cut: Cut) -> Array:
        if other is None:
            return cut.apply(survey(one, index, *by).cells / pairs)
        return cut.apply(alone(one, other, index, *by)[1] / pairs)

    return load
