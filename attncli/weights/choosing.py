"""Which matrices of a source are wanted, which part of each, and how several become one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attncli.arrays import Array
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.tensors import describe_numbers
from attncli.weights.combining import max_of, mean_of, rollout
from attncli.weights.cutting import Cut
from attncli.weights.difference import difference
from attncli.weights.finding import find_weights
from attncli.weights.frames import Frames, frames_in
from attncli.weights.images import as_images
from attncli.weights.oddities import load_weights
from attncli.weights.padding import with_masks
from attncli.weights.selection import Chosen, Load, Selection
from attncli.weights.wanted import Numbers, Span, Wanted, spelt
from attncli.weights.weight_source import Part, WeightSource
from attncli.weights.words_given import with_given_words

_COMBINE: dict[str, Callable[[Iterable[Array]], Array]] = {"mean": mean_of, "max": max_of}


def select_weights(file: TensorFile, wanted: Wanted) -> Selection:
    """Find the weights of a file, or those that it has more than another, and choose from them.

    Raises
    ------
    AttnError
        If there are none, or not those that are wanted.
    """
    file = with_given_words(file, wanted)
    source, frames, chosen = _of_frames(file, wanted)
    doubts = [part.otherwise for part in source.parts.values() if part.otherwise]
    if doubts and wanted.item is None:  # one option is for all
        warnings.warn(doubts[0], AttnWarning, stacklevel=2)
    if wanted.diff is not None:
        other = with_given_words(open_tensors(wanted.diff, file.reading), wanted)
        labels = (file.label, other.label)
        chosen = difference(chosen, _of_frames(other, wanted)[2], labels)
    selection = Selection(source, wanted, chosen, frames).with_words().with_named()
    if wanted.grid is not None:
        selection = as_images(selection, wanted.grid)
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
        source = _found(file, wanted.axes, asked, wanted)
        return source, None, choose_weights(source, wanted)
    chosen = []
    for number in frames.chosen(wanted):
        found = _found(frames[number], frames.axes, asked, wanted)
        source = replace(found, frame=number)
        names = {"frame": number, "step": frames.steps[number]}
        of_frame = choose_weights(source, wanted)
        chosen += [replace(one, names={**names, **one.names}) for one in of_frame]
    return source, frames, chosen


def _found(
    file: TensorFile, axes: tuple[str, ...] | None, asked: Mapping[str, Any], wanted: Wanted
) -> WeightSource:
    source = find_weights(file, axes, asked, wanted.part)
    return replace(source, parts=with_masks(file, source.parts)) if wanted.drop_pad else source


def choose_weights(source: WeightSource, wanted: Wanted) -> list[Chosen]:
    """List the matrices that the options leave, in the order of the file.

    Raises
    ------
    ParameterError
        If there is no such layer, item or head, or nothing to combine.
    """
    parts, where = list(source.parts.values()), source.label
    if wanted.part is not None:
        where = f"{where} {wanted.part}"
    every = [layer for part in parts for layer in part.layers.items()]
    there = sorted({number for number, _ in every})
    items = sorted({item for _, layer in every for item in layer.items})
    heads = sorted({head for _, layer in every for head in layer.heads})
    group = _Group(
        source,
        choose("layer", wanted.layer, there, where),
        choose("item", wanted.item, items, where),
        choose("head", wanted.head, heads, where),
        dict.fromkeys(wanted.mean, "mean") | dict.fromkeys(wanted.maximum, "max"),
    )
    if wanted.rollout:
        single = wanted.head is not None and len(group.heads) == 1
        how = {"layers": "rollout"} | ({} if single else {"heads": "mean"})
        group, parts = replace(group, how=how), _of_steps_among_themselves(source, parts)
    found = [one for part in parts for one in group.of(part)]
    if not found and group.layers and group.items and group.heads:
        number, layer = next((n, one) for n, one in every if n in group.layers)
        heads = [head for head in range(layer.shape[1]) if layer.holds(group.items, head)]
        raise ParameterError(
            f"--head {', '.join(map(str, group.heads))}: layer {number} of {where} has no such "
            f"head; {describe_numbers(heads)}"
        )
    return found


def _of_steps_among_themselves(source: WeightSource, parts: list[Part]) -> list[Part]:
    """Leave out what leads from one sequence to another: layers cannot follow each other there."""
    kept = [part for part in parts if part.name != "cross"]
    if not kept:
        others = [name for name in source.parts if name != "cross"]
        raise ShapeError(
            f"rollout needs self-attention, T_dec = T_enc: the weights of {source.label} "
            "are cross attention",
            hint=f"--rollout --part {others[0]}" if others else "--mean layers --mean heads",
        )
    if len(kept) < len(parts):
        warnings.warn("cross attention has no rollout, and is left out", AttnWarning, stacklevel=3)
    return kept


@dataclass(frozen=True)
class _Group:
    """The layers, items and heads that are wanted of every part that has them.

    Attributes
    ----------
    source : WeightSource
    layers, items, heads : list of int
    how : dict of str to str
        How the ``heads`` of a layer, and the ``layers``, become one, where they do.
    """

    source: WeightSource
    layers: list[int]
    items: list[int]
    heads: list[int]
    how: dict[str, str]

    def of(self, part: Part) -> Iterator[Chosen]:
        """Give the matrices of a part."""
        how = self.how.get("layers")
        if how is not None and not part.numbered:
            option = "--rollout" if how == "rollout" else f"--{how} layers"
            raise ParameterError(
                f"{option}: {' '.join(filter(None, (self.source.label, part.name)))} has one layer",
                hint="layers are arrays layer0, layer1 …, or an axis: --axes layers,heads,dec,enc",
            )
        layers = [layer for layer in self.layers if layer in part.layers]
        for group in ([layers] if layers else []) if how else [[layer] for layer in layers]:
            yield from self._of_layers(part, group)

    def _of_layers(self, part: Part, layers: list[int]) -> Iterator[Chosen]:
        """Give the matrices of one layer, or of several that become one.

        Layers need not have the same heads, as pruned ones have not: those of a layer are the ones
        that it has.
        """
        heads = {
            layer: [head for head in self.heads if part.layers[layer].holds(self.items, head)]
            for layer in layers
        }
        self._check(part, heads)
        for item in (one for one in self.items if one in part.layers[layers[0]].items):
            first = heads[layers[0]]
            for some in [first] if "heads" in self.how and first else [[head] for head in first]:
                names: dict[str, Any] = {"part": part.name} if len(self.source.parts) > 1 else {}
                if part.numbered:
                    names["layer"] = self.how.get("layers", layers[0])
                if "N" in part.axes:
                    names["item"] = item
                if "heads" in part.axes:
                    names["head"] = self.how.get("heads") or some[0]
                each = heads if "heads" in self.how else dict.fromkeys(layers, some)
                load = self._loader(part, each, item)
                size = part.layers[layers[0]].size(item)
                yield Chosen(names, item, size, load, part.name)

    def _check(self, part: Part, heads: dict[int, list[int]]) -> None:
        """Say which of several layers do not go with the first."""
        first, *others = heads
        for other in others:
            if not heads[other] and heads[first]:
                raise ShapeError(
                    f"{self.source.label}: layer {other} has none of these heads; "
                    f"{describe_numbers(range(part.layers[other].shape[1]))}",
                    hint="--layer leaves out layers",
                )
            shapes = part.layers[first].shape, part.layers[other].shape
            if (shapes[0][0], *shapes[0][2:]) != (shapes[1][0], *shapes[1][2:]):
                hint = "--layer chooses those that belong together"
            elif "heads" not in self.how and heads[first] != heads[other]:
                hint = "--mean heads averages those of each layer first"
            else:
                continue
            raise ShapeError(
                f"{self.source.label}: layer {first} has (N, heads, T_dec, T_enc) = {shapes[0]}, "
                f"layer {other} {shapes[1]}: they cannot be combined",
                hint=hint,
            )

    def _loader(self, part: Part, heads: dict[int, list[int]], item: int) -> Load:
        """Load these heads of these layers as one."""
        how = self.how

        def of_layer(layer: int, cut: Cut) -> Array:
            matrices = (
                load_weights(self.source, part, layer, item, head, cut) for head in heads[layer]
            )
            return _COMBINE[how["heads"]](matrices) if "heads" in how else next(matrices)

        def load(cut: Cut) -> Array:
            if "layers" not in how:
                return cut.finished(of_layer(next(iter(heads)), cut))
            if how["layers"] == "rollout":  # what flows into a row went through all the others
                every = (
                    of_layer(layer, Cut.whole(part.layers[layer].size(item))) for layer in heads
                )
                return cut.apply(rollout(every))
            combine = _COMBINE[how["layers"]]
            return cut.finished(combine(of_layer(layer, cut) for layer in heads))

        return load


def choose(name: str, wanted: Numbers | None, there: Sequence[int], label: str) -> list[int]:
    """Give those of several that an option chooses, in the order of the file.

    Parameters
    ----------
    name : {"layer", "item", "head"}
        Whose option it is.
    wanted : tuple of int and of spans, or None
        None means all.
    there : sequence of int
        The numbers that there are, ascending.
    label : str
        The file.

    Raises
    ------
    ParameterError
        If there is no such one.

    Examples
    --------
    >>> choose("layer", ((0, 4), 7), [0, 1, 3, 7, 9], "w.npz")
    [0, 1, 3, 7]
    >>> choose("layer", ((-2, None),), [0, 1, 3, 7, 9], "w.npz")
    [7, 9]
    """
    if wanted is None:
        return list(there)
    found: set[int] = set()
    missing = []
    for one in wanted:
        some = _in_span(one, there) if isinstance(one, tuple) else [x for x in there if x == one]
        found |= {*some}
        if not some:
            missing.append(spelt(one) if isinstance(one, tuple) else str(one))
    if missing:
        axes = {"head": "heads,dec,enc", "layer": "layers,heads,dec,enc"}.get(name, "")
        near = max(there, default=0) if missing[0].isdecimal() else min(there, default=0)
        hint = f"--{name} {near}" if there else None
        if axes and len(there) == 1:
            first = f"array's first axis as {name}s"
            hint = f"--axes {axes} reads a {len(axes.split(','))}-D {first}"
        message = (
            f"--{name} {','.join(missing)}: {label} has no such {name}; {describe_numbers(there)}"
        )
        raise ParameterError(message, hint=hint)
    return [number for number in there if number in found]


def _in_span(span: Span, there: Sequence[int]) -> list[int]:
    """Give the numbers between two of them; negative ones are counted from the end."""
    first, last = (end if end is None or end >= 0 else there[max(end, -len(there))] for end in span)
    return [
        number
        for number in there
        if (first is None or number >= first) and (last is None or number < last)
    ]
