"""Which matrices of a source are wanted, which part of each, and how several become one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from attncli.arrays import Array
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.tensors import describe_range
from attncli.weights.combining import max_of, mean_of, rollout
from attncli.weights.cutting import Cut
from attncli.weights.difference import difference
from attncli.weights.finding import find_weights
from attncli.weights.frames import Frames, frames_in
from attncli.weights.oddities import load_weights
from attncli.weights.selection import Chosen, Load, Selection
from attncli.weights.wanted import Wanted
from attncli.weights.weight_source import Part, WeightSource

_COMBINE: dict[str, Callable[[Iterable[Array]], Array]] = {"mean": mean_of, "max": max_of}


def select_weights(file: TensorFile, wanted: Wanted) -> Selection:
    """Find the weights of a file, or those that it has more than another, and choose from them.

    Raises
    ------
    AttnError
        If there are none, or not those that are wanted.
    """
    source, frames, chosen = _of_frames(file, wanted)
    if wanted.diff is not None:
        other = open_tensors(wanted.diff, file.reading)
        labels = (file.label, other.label)
        chosen = difference(chosen, _of_frames(other, wanted)[2], labels)
    selection = Selection(source, wanted, chosen, frames).with_rows()
    for axis, size in zip(("N", "heads", "T_dec"), source.shape, strict=False):
        if size == 0:
            warnings.warn(f"{source.label}: no weights: {axis} is 0", AttnWarning, stacklevel=2)
            break
    return selection


def _of_frames(
    file: TensorFile, wanted: Wanted
) -> tuple[WeightSource, Frames | None, list[Chosen]]:
    """Find and choose in the frames that are wanted, or in a file that has none."""
    asked = {"layout": wanted.layout, "heads": wanted.heads}
    frames = frames_in(file, wanted.axes)
    if frames is None:
        if wanted.frames or wanted.frame is not None:
            option = "--frames" if wanted.frames else f"--frame {wanted.frame}"
            raise ParameterError(
                f"{option}: {file.label} holds the weights of one step alone",
                hint="--axes frames,N,dec,enc says which axis of an array is that of frames",
            )
        source = find_weights(file, wanted.axes, asked)
        return source, None, choose_weights(source, wanted)
    chosen = []
    for number in frames.chosen(wanted):
        source = find_weights(frames[number], frames.axes, asked)
        names = {"frame": number, "step": frames.steps[number]}
        of_frame = choose_weights(source, wanted)
        chosen += [replace(one, names={**names, **one.names}) for one in of_frame]
    return source, frames, chosen


def choose_weights(source: WeightSource, wanted: Wanted) -> list[Chosen]:
    """List the matrices that the options leave, in the order of the file.

    Raises
    ------
    ParameterError
        If there is no such part, layer, item or head, or nothing to combine.
    """
    parts = list(source.parts.values())
    if wanted.part is not None:
        parts = [part for part in parts if part.name == wanted.part]
        if not parts:
            held = " and ".join(filter(None, source.parts)) or "no parts that are told apart"
            raise ParameterError(
                f"--part {wanted.part}: {source.label} has no such part; it holds {held}"
            )
    return [one for part in parts for one in _in_part(source, part, wanted)]


def _in_part(source: WeightSource, part: Part, wanted: Wanted) -> Iterator[Chosen]:
    where = " ".join(filter(None, (source.label, part.name)))
    if wanted.layer is not None and wanted.layer not in part.layers:
        there = ", ".join(map(str, part.layers))
        raise ParameterError(f"--layer {wanted.layer}: {where} has no such layer; there is {there}")
    layers = list(part.layers) if wanted.layer is None else [wanted.layer]
    how = dict.fromkeys(wanted.mean, "mean") | dict.fromkeys(wanted.maximum, "max")
    if wanted.rollout:
        how = {"layers": "rollout"} | ({} if wanted.head is not None else {"heads": "mean"})
    if "layers" in how and not part.numbered:
        option = "--rollout" if wanted.rollout else f"--{how['layers']} layers"
        raise ParameterError(
            f"{option}: {where} has one layer",
            hint="layers are arrays layer0, layer1 …, or an axis: --axes layers,heads,dec,enc",
        )
    groups = [layers] if "layers" in how else [[layer] for layer in layers]
    for group in groups:
        yield from _in_layers(source, part, group, how, wanted)


def _in_layers(
    source: WeightSource, part: Part, layers: list[int], how: dict[str, str], wanted: Wanted
) -> Iterator[Chosen]:
    """Give the matrices of one layer, or of several that become one."""
    N, heads, T_dec, T_enc = part.layers[layers[0]].shape
    for layer in layers:
        if part.layers[layer].shape[:2] != (N, heads):
            raise ShapeError(
                f"{source.label}: layer {layers[0]} has (N, heads) = {(N, heads)}, "
                f"layer {layer} {part.layers[layer].shape[:2]}: they cannot be combined"
            )
    for item in choose("item", wanted.item, N, source.label):
        every = list(choose("head", wanted.head, heads, source.label))
        for some in [every] if "heads" in how and every else [[head] for head in every]:
            names: dict[str, Any] = {"part": part.name} if part.name else {}
            if part.numbered:
                names["layer"] = how.get("layers", layers[0])
            if "N" in part.axes:
                names["item"] = item
            if "heads" in part.axes:
                names["head"] = how.get("heads", some[0])
            load = _loader(source, part, layers, item, some, how)
            yield Chosen(names, item, (T_dec, T_enc), load, part.name)


def _loader(
    source: WeightSource,
    part: Part,
    layers: list[int],
    item: int,
    heads: list[int],
    how: dict[str, str],
) -> Load:
    def of_layer(layer: int, cut: Cut) -> Array:
        matrices = (load_weights(source, part, layer, item, head, cut) for head in heads)
        return _COMBINE[how["heads"]](matrices) if "heads" in how else next(matrices)

    def load(cut: Cut) -> Array:
        if "layers" not in how:
            return cut.finished(of_layer(layers[0], cut))
        if how["layers"] == "rollout":  # what flows into a row went through all the others
            every = (of_layer(layer, Cut.whole(part.layers[layer].shape[2:])) for layer in layers)
            return cut.apply(rollout(every))
        combine = _COMBINE[how["layers"]]
        return cut.finished(combine(of_layer(layer, cut) for layer in layers))

    return load


def choose(name: str, wanted: int | None, count: int, label: str) -> range:
    """Turn an option that chooses one of several into the range of those to show.

    Raises
    ------
    ParameterError
        If there is no such one.
    """
    if wanted is None:
        return range(count)
    if not 0 <= wanted < count:
        axes = "--axes heads,dec,enc reads a 3-D array's first axis as heads"
        hint = axes if name == "head" and count == 1 else None
        message = f"--{name} {wanted}: {label} has no such {name}; {describe_range(count)}"
        raise ParameterError(message, hint=hint)
    return range(wanted, wanted + 1)
