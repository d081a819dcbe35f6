"""The weights that a file holds or implies, found and not yet loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from attncli.arrays import Array, Tokens

FOUR = ("N", "heads", "T_dec", "T_enc")

Region = tuple[slice | Array, slice]


@dataclass(frozen=True)
class Layer:
    """The weights of one layer.

    Attributes
    ----------
    name : str
        The array's name in the file, or how the weights were computed.
    shape : tuple of int
        (N, heads, T_dec, T_enc); N and heads are 1 where the file has no such axis.
    load : callable
        ``load(item, head, region)`` returns the (T_dec, T_enc) weights, or what an index of rows
        and one of columns leaves of them; nothing else is read of a file that is mapped.
    has : callable
        ``has(item, head)`` says whether there is such a head: numbers may have gaps, and a stack of
        layers is filled up where one has fewer heads than others.
    numbers : pair of sequences of int, optional
        Of its items and of its heads, where they are not all from 0 on.
    sizes : dict of int to (int, int)
        The (T_dec, T_enc) of items that have fewer steps than `shape` says.
    """

    name: str
    shape: tuple[int, int, int, int]
    load: Callable[[int, int, Region], Array]
    has: Callable[[int, int], bool] = lambda item, head: True
    numbers: tuple[Sequence[int], Sequence[int]] | None = None
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def size(self, item: int) -> tuple[int, int]:
        """Return the (T_dec, T_enc) of an item."""
        return self.sizes.get(item, self.shape[2:])

    @property
    def items(self) -> Sequence[int]:
        """The numbers of its items."""
        return range(self.shape[0]) if self.numbers is None else self.numbers[0]

    @property
    def heads(self) -> Sequence[int]:
        """The numbers of heads, as far as all items have them."""
        return range(self.shape[1]) if self.numbers is None else self.numbers[1]

    def holds(self, items: Sequence[int], head: int) -> bool:
        """Whether the first that there is of some items has a head."""
        there = (item for item in items if item in self.items)
        return head < self.shape[1] and all(self.has(item, head) for item in islice(there, 1))


@dataclass(frozen=True)
class Part:
    """The attention of one kind: of the encoder, of the decoder, or from one to the other.

    Attributes
    ----------
    name : {"encoder", "decoder", "cross", ""}
        Empty where the file does not say.
    reading : str
        How the axes were read, or from what the weights were computed.
    layers : dict of int to Layer
        By their number.
    numbered : bool
        Whether the file numbers its layers.
    axes : tuple of str
        The axes that the file really has.
    tokens : dict of str to ndarray of str
        The tokens of ``T_dec`` and ``T_enc``, (T,) or (N, T).
    padding : dict of str to ndarray of bool
        Which steps of ``T_dec`` and ``T_enc`` masks say are padding, (N, T).
    otherwise : str
        How the axes were read, and may be read otherwise; empty where nothing is in doubt.
    """

    name: str
    reading: str
    layers: dict[int, Layer]
    numbered: bool
    axes: tuple[str, ...]
    tokens: dict[str, Tokens] = field(default_factory=dict)
    padding: dict[str, Array] = field(default_factory=dict)
    otherwise: str = ""

    @cached_property
    def has_shorter_items(self) -> bool:
        """Whether some items have fewer steps than others."""
        return any(layer.sizes for layer in self.layers.values())


@dataclass(frozen=True)
class WeightSource:
    """The weights that a file holds or implies.

    Attributes
    ----------
    label : str
        The file.
    parts : dict of str to Part
        By their names.
    has_sinks : bool
        Whether rows sum to less than 1, because a sink has the rest.
    frame : int or None
        Which frame of a training it is, where there are several.
    """

    label: str
    parts: dict[str, Part]
    has_sinks: bool = False
    frame: int | None = None

    @property
    def reading(self) -> str:
        """How the weights of every part were found."""
        return "; ".join(
            f"{part.name}: {part.reading}" if part.name else part.reading
            for part in self.parts.values()
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The (N, heads, T_dec, T_enc) of the first layer."""
        layers = next(iter(self.parts.values())).layers
        return layers[min(layers)].shape


def short(index: Sequence[Any], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Leave out at the end what takes an axis whole: messages say where something is, in short."""
    kept = list(index)
    while kept and isinstance(kept[-1], slice) and is_whole(kept[-1], shape[len(kept) - 1]):
        kept.pop()
    return tuple(kept)


def is_whole(rows: slice | Array, size: int) -> bool:
    """Whether an index leaves an axis of that size as it is."""
    return isinstance(rows, slice) and len(range(size)[rows]) == size
