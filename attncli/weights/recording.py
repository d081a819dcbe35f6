"""Weights of a training, kept within a bound: the first, the last, and evenly between."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import DtypeError, MemoryLimitError, ParameterError, ShapeError
from attncli.files.contents import hold_tensors
from attncli.files.dtypes import to_numbers
from attncli.memory import readable
from attncli.tensors import describe_shape
from attncli.weights.at_hand import (
    READING,
    fitting_tokens,
    in_python,
    name_tokens,
    name_weights,
    number_array,
)
from attncli.weights.choosing import choose
from attncli.weights.finding import find_weights
from attncli.weights.stored import STACK, weight_axes
from attncli.weights.wanted import parse_axes
from attncli.weights.weight_source import WeightSource

_LABEL = "attncli.watch"
_CHOSEN = {"layer": "layers", "item": "N", "head": "heads"}


@dataclass(frozen=True)
class Kept:
    """Which part of the weights is kept.

    Attributes
    ----------
    layer, item, head : int or None
        This one alone.
    axes : str or None
        Those of the weights, where their number implies others.
    """

    layer: int | None = None
    item: int | None = None
    head: int | None = None
    axes: str | None = None

    def of(self, weights: Any, tokens: Any) -> tuple[list[Any], tuple[str, ...]]:
        """Give the part of every layer, whosever tensors they are, and the axes of them all."""
        if isinstance(weights, Mapping):
            raise DtypeError(f"{_LABEL}: weights is a mapping, expected an array, or one a layer")
        layers = list(name_weights(weights, tokens, _LABEL, self.axes).items())
        layer, outer = self.layer, tuple[str, ...]()
        if layers[0][0] != "weights":  # one a layer
            if layer is None:
                outer = ("layers",)
            else:
                layers = [layers[choose("layer", (layer,), range(len(layers)), _LABEL)[0]]]
            layer = None
        parts = []
        for name, one in layers:
            array = one if hasattr(one, "shape") else number_array(one, name, _LABEL)
            index, axes = _plan(name, tuple(array.shape), self.axes, layer, self.item, self.head)
            parts.append(array[index])
        return parts, (*outer, *axes)

    def tokens(self, tokens: Any) -> dict[str, Array]:
        """Name the tokens of the steps of this part."""
        named = name_tokens(tokens, _LABEL)
        if self.item is None:
            return named
        return {
            name: texts[self.item] if texts.ndim > 1 and self.item < len(texts) else texts
            for name, texts in named.items()
        }


@functools.lru_cache(maxsize=64)  # nearly always the same again
def _plan(
    name: str,
    shape: tuple[int, ...],
    given: str | None,
    layer: int | None,
    item: int | None,
    head: int | None,
) -> tuple[tuple[int | slice, ...], tuple[str, ...]]:
    """Give the index of a part of an array, and the axes that are left."""
    axes = weight_axes(
        _LABEL, name, shape, None if given is None else parse_axes(given), outer=("steps",)
    )
    index = list[int | slice](slice(None) for _ in shape)
    for (what, axis), number in zip(_CHOSEN.items(), (layer, item, head), strict=True):
        if number is None:
            continue
        if axis not in axes:
            raise ParameterError(
                f"--{what} {number}: {_LABEL} has no such {what}; "
                f"{name} is {describe_shape(shape, axes)}",
                hint="--axes heads,dec,enc says what the axes are",
            )
        choose(what, (number,), range(shape[axes.index(axis)]), _LABEL)
        index[axes.index(axis)] = number
    left = tuple(axis for axis, at in zip(axes, index, strict=True) if isinstance(at, slice))
    return tuple(index), left


class Moment:
    """The weights after one step of a training.

    Parameters
    ----------
    step : int or float
    loss : number, array of one, or None
    parts : list of arrays
        Of each layer, whosever tensors they are.
    axes : tuple of str
        Those of all.
    memory : Memory
        Where they are copied to.
    """

    def __init__(
        self, step: float, loss: Any, parts: list[Any], axes: tuple[str, ...], memory: Memory
    ) -> None:
        self.step, self.axes = step, axes
        self.shapes = [tuple(part.shape) for part in parts]
        # What becomes of the arrays, and of the graph that they are in, is of no matter here.
        self._parts, self._loss = [memory.copy(part) for part in parts], memory.copy(loss)
        self._frame: Array | None = None
        self._memory, self._held = memory, self._parts

    @property
    def described(self) -> str:
        """The shape with its axes; that of each layer, where they differ."""
        different = dict.fromkeys(self.shapes)
        inner = self.axes[-len(self.shapes[0]) :]
        return " and ".join(describe_shape(shape, inner) for shape in different)

    @property
    def loss(self) -> float:
        """The loss as a number; NaN where there is none."""
        if type(self._loss) is not float:
            known = self._loss is not None
            loss = number_array(self._loss if known else math.nan, "loss", _LABEL)
            if loss.size != 1:
                raise ShapeError(f"{_LABEL}: loss is {loss.shape}, expected one number")
            self._loss = float(loss.item())
        return self._loss

    @property
    def frame(self) -> Array:
        """The weights as one array, in our order of axes.

        Whoever reads it goes by how many axes there are: an outer one comes with all inner ones.
        """
        if self._frame is None:
            arrays = [
                to_numbers(number_array(part, "weights", _LABEL), "weights", _LABEL)
                for part in self._parts
            ]
            array = arrays[0]
            if len(self.axes) > array.ndim:
                array = self._memory.of((len(arrays), *array.shape), array.dtype)
                self._held = [np.stack(arrays, out=array)]
                self._memory.take_back(self._parts)
            sizes = dict(zip(self.axes, array.shape, strict=True))
            turned = array.transpose([self.axes.index(axis) for axis in STACK if axis in sizes])
            steps = [axis for axis in STACK if axis in sizes or axis in ("T_dec", "T_enc")]
            axes = STACK if "layers" in sizes else STACK[1:] if "heads" in sizes else steps
            shape = [sizes.get(axis, 1) for axis in axes]
            self._frame, self._parts = turned.reshape(shape), []
        return self._frame

    def forget(self) -> None:
        """Give back its memory: nobody looks at it any more."""
        self._memory.take_back(self._held)


class Memory:
    """Memory for arrays of the same kind again and again, which is used again.

    What is new has to be given to the process by its system, page by page, which for a frame takes
    ten times as long as to copy it; so what is dropped is kept, and more is taken at a time, of
    which the pages are large.
    """

    _AT_ONCE, _MOST = 1 << 24, 32  # bytes, arrays

    def __init__(self) -> None:
        self._free: dict[tuple[tuple[int, ...], Any], list[Array]] = {}

    def of(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Give an array that nobody uses, with whatever is in it."""
        free = self._free.setdefault((shape, dtype), [])
        if not free:
            nbytes = max(1, math.prod(shape) * dtype.itemsize)
            count = min(max(1, self._AT_ONCE // nbytes), self._MOST)
            free.extend(np.empty((count, *shape), dtype))
        return free.pop()

    def copy(self, value: Any) -> Any:
        """Copy an array, whosever it is, without the graph that it is in."""
        if isinstance(value, np.ndarray) and value.ndim:
            copied = self.of(value.shape, value.dtype)
            np.copyto(copied, value)
            return copied
        if hasattr(value, "detach"):
            return value.detach().clone()
        return value.copy() if hasattr(value, "copy") else value

    def take_back(self, arrays: list[Any]) -> None:
        """Use these again, as far as they are from here."""
        for array in arrays:
            if isinstance(array, np.ndarray) and (array.shape, array.dtype) in self._free:
                self._free[array.shape, array.dtype].append(array)


class Recording:
    """What is kept of the weights of a training: the first, the last, and evenly between.

    That is every update whose number is a multiple of `stride`, which doubles whenever they
    become too many; and the last one.

    Parameters
    ----------
    part : Kept
    tokens : sequence, pair of sequences, or None
    every : int
        Only each so many-th update, and the last, is worth keeping.
    max_frames, max_bytes : int
        No more than these are kept.

    Attributes
    ----------
    source : WeightSource or None
        How the first frame was read, and the tokens.

    Examples
    --------
    >>> recording = Recording(Kept(), None, every=1, max_frames=4, max_bytes=1000)
    >>> for step in range(11):
    ...     recording.add(np.eye(2), step, None)
    >>> [moment.step for moment in recording.moments]
    [0, 4, 8, 10]
    """

    def __init__(
        self, part: Kept, tokens: Any, *, every: int, max_frames: int, max_bytes: int
    ) -> None:
        for name, value, least in (("every", every, 1), ("max_frames", max_frames, 2)):
            if value < least:
                raise ParameterError(f"{name} is {value}, expected at least {least}")
        with in_python():
            self.part, self.given, self.texts = part, tokens, part.tokens(tokens)
            if part.axes is not None:
                parse_axes(part.axes)
        self.stride, self.max_frames, self.max_bytes = every, max_frames, max_bytes
        self.updates = 0
        self.source: WeightSource | None = None
        self._memory = Memory()
        self._kept: list[Moment] = []
        self._last: Moment | None = None

    def add(self, weights: Any, step: float | None, loss: Any) -> None:
        """Take an update.

        Raises
        ------
        AttnError
            If these are no weights, or of another shape than the first.
        """
        number = self.updates
        with in_python():
            parts, axes = self.part.of(weights, self.given)
            if step is not None and not isinstance(step, int | float):
                step = to_numbers(number_array(step, "step", _LABEL), "step", _LABEL).item()
            moment = Moment(number if step is None else step, loss, parts, axes, self._memory)
            if number == 0:
                self._begin(moment)
            first = self._kept[0] if self._kept else moment
            if (moment.shapes, moment.axes) != (first.shapes, first.axes):
                raise ShapeError(
                    f"{_LABEL}: update {number}: weights are {moment.described}, and were "
                    f"{first.described}",
                    hint="watch the same batch each time, or of every batch item=0",
                )
            if due := number % self.stride == 0:
                _ = moment.frame  # numbers of this machine now, not all of them at the end
                _ = moment.loss
        before, self._last = (
            self._last,
            moment,
        )  # first: whenever it is interrupted, all is in order
        dropped = [] if before is None or before in self._kept[-1:] else [before]
        if due:
            self._kept.append(moment)
        self.updates = number + 1
        while len(self.moments) > self.max_frames:
            dropped += [one for one in self._kept[1::2] if one is not moment]
            self._kept, self.stride = self._kept[::2], 2 * self.stride
        for one in dropped:
            one.forget()

    def _begin(self, moment: Moment) -> None:
        """See whether there is a frame at all, with these tokens, and how many are too many."""
        if len(set(moment.shapes)) > 1:
            raise ShapeError(
                f"{_LABEL}: layers differ: {moment.described}", hint="layer=0 keeps one of them"
            )
        nbytes = moment.frame.nbytes
        if 2 * nbytes > self.max_bytes:
            raise MemoryLimitError(
                f"{_LABEL}: one frame {moment.described} is {readable(nbytes)}, and two of them "
                f"are more than max_bytes={self.max_bytes}",
                hint="layer=, item= or head= keeps a part",
            )
        self.max_frames = min(self.max_frames, self.max_bytes // max(1, nbytes))
        held = hold_tensors({"weights": moment.frame, **self.texts}, _LABEL, READING)
        with fitting_tokens():
            self.source = find_weights(held)

    @property
    def moments(self) -> list[Moment]:
        """Those that are kept, in their order."""
        if self._last is None or self._last in self._kept[-1:]:
            return self._kept
        return [*self._kept, self._last]

    def arrays(self) -> dict[str, Array]:
        """Gather what a file of frames holds."""
        moments = self.moments
        loss = np.array([moment.loss for moment in moments])
        return {
            "weights": np.stack([moment.frame for moment in moments]),
            "steps": np.array([moment.step for moment in moments]),
            **({} if np.isnan(loss).all() else {"loss": loss}),
            **self.texts,
        }
