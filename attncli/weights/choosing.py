"""Which matrices of a source are wanted, which part of each, and how several become one."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.tensors import describe_range
from attncli.weights.combining import max_of, mean_of, rollout
from attncli.weights.cutting import Cut
from attncli.weights.finding import WeightSource, find_weights
from attncli.weights.frames import Frames, frames_in
from attncli.weights.tokens import is_padding, is_special, readable
from attncli.weights.wanted import Span, Wanted

# How far the sum of a row may be from 1 before it is worth a warning: float16 has 3 digits.
_SUM_TOLERANCE = 5e-3

_COMBINE: dict[str, Callable[[Iterable[Array]], Array]] = {"mean": mean_of, "max": max_of}


Load = Callable[[Cut], Array]


@dataclass(frozen=True)
class Chosen:
    """One matrix of weights, not yet loaded.

    Attributes
    ----------
    names : dict of str to int or str
        Frame and step, layer, item and head, as far as the file has those axes; or how they were
        combined.
    item : int
        Whose tokens label it.
    shape : tuple of int
        (T_dec, T_enc)
    load : callable
        ``load(cut)`` returns the part of it that is looked at.
    """

    names: dict[str, Any]
    item: int
    shape: tuple[int, int]
    load: Load

    @property
    def place(self) -> dict[str, Any]:
        """Its names but for the frame: where in the model it is."""
        return {name: x for name, x in self.names.items() if name not in ("frame", "step")}

    @property
    def heading(self) -> str:
        """Its names in one line."""
        return "  ".join(f"{name} {number}" for name, number in self.names.items())


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
        If there is no such layer, item or head, or nothing to combine.
    """
    if wanted.layer is not None and wanted.layer not in source.layers:
        there = ", ".join(map(str, source.layers))
        raise ParameterError(
            f"--layer {wanted.layer}: {source.label} has no such layer; there is {there}"
        )
    layers = list(source.layers) if wanted.layer is None else [wanted.layer]
    how = dict.fromkeys(wanted.mean, "mean") | dict.fromkeys(wanted.maximum, "max")
    if wanted.rollout:
        how = {"layers": "rollout"} | ({} if wanted.head is not None else {"heads": "mean"})
    if "layers" in how and not source.numbered:
        option = "--rollout" if wanted.rollout else f"--{how['layers']} layers"
        raise ParameterError(
            f"{option}: {source.label} has one layer",
            hint="layers are arrays layer0, layer1 …, or an axis: --axes layers,heads,dec,enc",
        )
    groups = [layers] if "layers" in how else [[layer] for layer in layers]
    return [one for group in groups for one in _in_layers(source, group, how, wanted)]


def _in_layers(
    source: WeightSource, layers: list[int], how: dict[str, str], wanted: Wanted
) -> Iterator[Chosen]:
    """Give the matrices of one layer, or of several that become one."""
    N, heads, T_dec, T_enc = source.layers[layers[0]].shape
    for layer in layers:
        if source.layers[layer].shape[:2] != (N, heads):
            raise ShapeError(
                f"{source.label}: layer {layers[0]} has (N, heads) = {(N, heads)}, "
                f"layer {layer} {source.layers[layer].shape[:2]}: they cannot be combined"
            )
    for item in choose("item", wanted.item, N, source.label):
        every = list(choose("head", wanted.head, heads, source.label))
        for some in [every] if "heads" in how and every else [[head] for head in every]:
            names: dict[str, Any] = {}
            if source.numbered:
                names["layer"] = how.get("layers", layers[0])
            if "N" in source.axes:
                names["item"] = item
            if "heads" in source.axes:
                names["head"] = how.get("heads", some[0])
            load = _loader(source, layers, item, some, how)
            yield Chosen(names, item, (T_dec, T_enc), load)


def _loader(
    source: WeightSource, layers: list[int], item: int, heads: list[int], how: dict[str, str]
) -> Load:
    def of_layer(layer: int, cut: Cut) -> Array:
        matrices = (load_weights(source, layer, item, head, cut) for head in heads)
        return _COMBINE[how["heads"]](matrices) if "heads" in how else next(matrices)

    def load(cut: Cut) -> Array:
        if "layers" not in how:
            return cut.finished(of_layer(layers[0], cut))
        if how["layers"] == "rollout":  # what flows into a row went through all the others
            parts = (of_layer(layer, Cut.whole(source.layers[layer].shape[2:])) for layer in layers)
            return cut.apply(rollout(parts))
        combine = _COMBINE[how["layers"]]
        return cut.finished(combine(of_layer(layer, cut) for layer in layers))

    return load


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
        pairs.append(Chosen(one.names, one.item, one.shape, _minus(one.load, other.load)))
    return pairs


def _differing_names(ours: Sequence[Chosen], theirs: Sequence[Chosen]) -> Iterator[str]:
    """Say of which axis the matrices of one file are not those of the other."""
    for name, axis in (
        ("frame", "frames"), ("layer", "layers"), ("item", "N"), ("head", "heads")
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


def load_weights(source: WeightSource, layer: int, item: int, head: int, cut: Cut) -> Array:
    """Load a part of one matrix; warn of what weights never are.

    Only the rows that are shown are read and checked. So are, with ``--cols``, only these columns:
    whether a row sums to 1 they do not tell.
    """
    weights = source.layers[layer].load(item, head, cut.region)
    if weights.dtype.kind != "f":
        weights = weights.astype(np.float64)
    names = [f"layer {layer}"] if source.numbered else []
    names += [f"item {item}"] if "N" in source.axes else []
    names += [f"head {head}"] if "heads" in source.axes else []
    for problem in _oddities(weights, cut, source.has_sinks):
        warnings.warn(f"{' '.join((source.label, *names))}: {problem}", AttnWarning, stacklevel=1)
    return cut.of_region(weights)


def _oddities(weights: Array, cut: Cut, has_sinks: bool) -> Iterator[str]:
    if not weights.size:
        return
    least = float(weights.min())
    if least < 0:
        row, column = np.unravel_index(int(weights.argmin()), weights.shape)
        at = [int(cut.rows[row]), int(column) + cut.first_column]
        yield f"weights are negative: the least, {least:.3g}, is at {at}"
    if cut.narrow:
        return
    sums = weights.sum(axis=1, dtype=np.float64)
    off = sums - 1
    if not has_sinks:
        off = np.where(sums == 0, 0.0, np.abs(off))  # a masked row is all zero
    off[np.isnan(off)] = np.inf
    worst = int(off.argmax())
    if off[worst] > _SUM_TOLERANCE:
        count = int((off > _SUM_TOLERANCE).sum())
        rows = "row does" if count == 1 else "rows do"
        place = int(cut.rows[worst])
        yield f"{count} {rows} not sum to 1: the worst, row {place}, sums to {sums[worst]:.6g}"


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


# Which part of a matrix


@dataclass(frozen=True)
class Selection:
    """The matrices of a file that are wanted, none of them loaded yet.

    Attributes
    ----------
    source : WeightSource
    wanted : Wanted
    matrices : list of Chosen
    frames : Frames or None
        All that the file has, where it was written in the course of a training.
    """

    source: WeightSource
    wanted: Wanted
    matrices: list[Chosen]
    frames: Frames | None = None

    @property
    def telling(self) -> list[str]:
        """The names that tell the matrices apart; all of them where there is but one matrix."""
        every = self.matrices
        names = list(every[0].names) if every else []
        return [x for x in names if len({one.names[x] for one in every}) > 1] or names

    def tokens(self, one: Chosen, axis: str) -> list[str] | None:
        """Give the tokens along an axis of a matrix, as the file has them; None if it has none."""
        tokens = self.source.tokens.get(axis)
        if tokens is None:
            return None
        row = tokens if tokens.ndim == 1 else tokens[one.item]
        return row.tolist() if len(row) == one.shape[axis == "T_enc"] else None

    def cut(self, one: Chosen) -> Cut:
        """Find the rows and columns that the options leave of a matrix.

        Raises
        ------
        ParameterError
            If that is nothing, or the file has no tokens to go by.
        """
        wanted, kept = self.wanted, []
        for axis, size, span, option in (
            ("T_dec", one.shape[0], wanted.rows, "--rows"),
            ("T_enc", one.shape[1], wanted.cols, "--cols"),
        ):
            tokens = self.tokens(one, axis)
            keep = _within(span, size, option)
            if axis == "T_dec" and wanted.row:
                keep &= _named(wanted.row, tokens, size)
            for dropped, tells, name in (
                (wanted.drop_special, is_special, "--drop-special"),
                (wanted.drop_pad, is_padding, "--drop-pad"),
            ):
                if dropped and tokens is not None:
                    keep &= [not tells(token) for token in tokens]
                elif dropped and not any(self.tokens(one, other) for other in ("T_dec", "T_enc")):
                    raise ParameterError(
                        f"{name}: {self.source.label} has no tokens, of {one.shape} steps",
                        hint="tokens_dec and tokens_enc, or tokens for both, say what each step is",
                    )
            if axis == "T_enc" and wanted.drop_sink:
                keep[0] = False
            if not keep.any() and size:
                raise ParameterError(f"nothing is left of {axis}: {_steps(size)}, all left out")
            kept.append(np.flatnonzero(keep))
        return Cut(kept[0], kept[1], wanted.renormalise, narrow=wanted.cols is not None)

    def with_rows(self) -> Selection:
        """Leave out the matrices that have none of the rows that ``--row`` names, saying so.

        Raises
        ------
        ParameterError
            If none has.
        """
        if not self.wanted.row or len(self.matrices) < 2:
            return self
        kept, missing = [], None
        for one in self.matrices:
            try:
                self.cut(one)
            except ParameterError as error:
                missing = error
            else:
                kept.append(one)
        if missing is not None and not kept:
            raise missing
        if len(kept) < len(self.matrices):
            left_out = len(self.matrices) - len(kept)
            message = (
                f"{left_out} of {len(self.matrices)} matrices have no such row and are left out"
            )
            warnings.warn(message, AttnWarning, stacklevel=3)
        return replace(self, matrices=kept)

    def load_all(self) -> None:
        """Load every matrix and forget it: what cannot be is said before any is printed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttnWarning)  # they come when it is shown
            for one in self.matrices[1:]:
                one.load(self.cut(one))


def _within(span: Span | None, size: int, option: str) -> Array:
    keep = np.full(size, span is None)
    if span is not None:
        keep[slice(*span)] = True
        if not keep.any():
            first, last = ("" if end is None else str(end) for end in span)
            raise ParameterError(
                f"{option} {first}:{last} leaves nothing: there are {size}, 0 to {size - 1}"
            )
    return keep


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _named(wanted: Sequence[str], tokens: list[str] | None, size: int) -> Array:
    """Where a row has one of the tokens, as the file has it or as it is shown; or its number."""
    keep = np.zeros(size, bool)
    shown = readable(tokens) if tokens is not None else []
    # An accent may be a character of its own, or one with its letter: they look alike.
    names = [
        {unicodedata.normalize("NFC", x) for x in pair}
        for pair in zip(tokens or [], shown, strict=True)
    ]
    for text in wanted:
        wanted_name = unicodedata.normalize("NFC", text)
        found = [
            place
            for place in range(size)
            if (wanted_name in names[place] if tokens else str(place) == text)
        ]
        if not found and text.isdecimal() and int(text) < size:
            found = [int(text)]
        if not found:
            import difflib

            near = difflib.get_close_matches(text, shown, n=1)
            hint = f"did you mean {near[0]}?" if near else None
            what = "is no decoder token here" if tokens else f"is none of {_steps(size)}"
            raise ParameterError(f"--row {text}: {what}", hint=hint)
        keep[found] = True
    return keep
