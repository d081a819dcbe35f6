"""Loading weights; what weights never are is counted over all heads, and said once."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning
from attncli.weights.cutting import Cut
from attncli.weights.weight_source import Part, WeightSource

# How far the sum of a row may be from 1 before it is worth a warning: float16 has 3 digits.
_SUM_TOLERANCE = 5e-3
_MOST_WARNINGS = 3
_NOT_FINITE, _NEGATIVE, _ABOVE_1, _SUMS = _KINDS = (
    "weights are not finite", "weights are negative", "weights are above 1", "rows do not sum to 1"
)  # fmt: skip


class Oddity(NamedTuple):
    """What the weights of a head never are.

    Attributes
    ----------
    kind : str
        What others may have too.
    size : float
        How odd: the largest of several is the worst.
    worst : str
        Where in the head it is worst, and what is there.
    alone : str
        All of it, where no other head is looked at.
    why : str
        What it may come from.
    """

    kind: str
    size: float
    worst: str
    alone: str
    why: str = ""


class Head(NamedTuple):
    """Which head of which file; the item goes without saying where it is the only one."""

    label: str
    whole: str
    short: str
    order: tuple[int, int, int]


@dataclass
class Count:
    """What is odd in each of the heads that were looked at."""

    heads: dict[Head, list[Oddity]] = field(default_factory=dict)

    def warn(self) -> None:
        """Say each kind once: in how many heads it is, and where it is worst."""
        kinds: dict[tuple[str, str], list[tuple[Head, Oddity]]] = {}
        for head, oddities in self.heads.items():
            for oddity in oddities:
                kinds.setdefault((head.label, oddity.kind), []).append((head, oddity))
        told = []
        for (label, kind), found in sorted(
            kinds.items(), key=lambda pair: _KINDS.index(pair[0][1])
        ):
            looked_at = sum(head.label == label for head in self.heads)
            # Of equal ones the first, in whatever order they were loaded.
            head, worst = min(found, key=lambda pair: (-pair[1].size, pair[0].order))
            if looked_at == 1:
                told.append(f"{head.whole}: {worst.alone}{worst.why}")
            else:
                heads = f"in {len(found)} of {looked_at} heads"
                told.append(
                    f"{label}: {heads} {kind}: the worst, {head.short} {worst.worst}{worst.why}"
                )
        if len(told) > _MOST_WARNINGS:
            left = len(told) - _MOST_WARNINGS + 1
            told[_MOST_WARNINGS - 1 :] = [f"{left} more such warnings: --head shows those of one"]
        for text in told:
            warnings.warn(text, AttnWarning, stacklevel=4)


_counting: ContextVar[Count | None] = ContextVar("counting", default=None)


@contextlib.contextmanager
def counted(*, said: bool = True) -> Iterator[Count]:
    """Say what is odd in all weights that are loaded within this at its end, and only once.

    Unless it is `said`, whoever is given the count says it.
    """
    if (count := _counting.get()) is not None:  # whoever counts already will say it
        yield count
        return
    count = Count()
    token = _counting.set(count)
    try:
        yield count
    finally:
        _counting.reset(token)
        if said:
            count.warn()


def load_weights(
    source: WeightSource, part: Part, layer: int, item: int, head: int, cut: Cut
) -> Array:
    """Load a part of one matrix; warn of what weights never are.

    Only the rows that are shown are read and checked. So are, with ``--cols``, only these columns:
    whether a row sums to 1 they do not tell.
    """
    weights = part.layers[layer].load(item, head, cut.region)
    if weights.dtype.kind != "f":
        weights = weights.astype(np.float64)
    with counted() as count:
        head_of = _head(source, part, layer, item, head)
        count.heads[head_of] = list(_oddities(weights, cut, source.has_sinks))
    return cut.of_region(weights)


def _head(source: WeightSource, part: Part, layer: int, item: int, head: int) -> Head:
    first = [] if source.frame is None else [f"frame {source.frame}"]
    first += [part.name] if part.name else []
    first += [f"layer {layer}"] if part.numbered else []
    of_item = [f"item {item}"] if "N" in part.axes else []
    last = [f"head {head}"] if "heads" in part.axes else []
    whole = " ".join((source.label, *first, *of_item, *last))
    if part.layers[layer].shape[0] == 1:
        of_item = []
    return Head(source.label, whole, " ".join((*first, *of_item, *last)), (layer, item, head))


def _oddities(weights: Array, cut: Cut, has_sinks: bool) -> Iterator[Oddity]:
    if not weights.size:
        return

    def place(index: int) -> tuple[int, int]:
        row, column = divmod(index, weights.shape[1])
        return int(cut.steps[row]), column + cut.first_column

    # What is right is looked at where it is mapped, without a copy of its size.
    known = weights
    with np.errstate(invalid="ignore", over="ignore"):
        sums = weights.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all() and not (finite := np.isfinite(weights)).all():
        row, key = place(int(finite.argmin()))
        count = int(finite.size - np.count_nonzero(finite))
        yield Oddity(
            _NOT_FINITE, count, f"has {count}, the first in row {row}, key {key}",
            f"{count} not finite, the first at [{row}, {key}]",
        )  # fmt: skip
        known = np.where(finite, weights, weights.dtype.type(0))
    lowest, highest = float(known.min()), float(known.max())
    if lowest < 0:
        (row, key), why = place(int(known.argmin())), ""
        if highest > 1 + _SUM_TOLERANCE:
            why = "; and some are above 1, as scores are before the softmax"
        elif not cut.narrow and _sum_to_1(np.abs(known)):
            why = "; their sizes sum to 1, as where the sign marks dropout"
        yield Oddity(
            _NEGATIVE, -lowest, f"row {row}, is {lowest:.3g} at key {key}",
            f"weights are negative: the least, {lowest:.3g}, is at [{row}, {key}]", why,
        )  # fmt: skip
    elif cut.narrow and highest > 1 + _SUM_TOLERANCE:
        row, key = place(int(known.argmax()))
        yield Oddity(
            _ABOVE_1, highest, f"row {row}, is {highest:.3g} at key {key}",
            f"weights are above 1: the largest, {highest:.3g}, is at [{row}, {key}]",
        )  # fmt: skip
    if not cut.narrow:
        yield from _odd_sums(sums, cut, has_sinks)


def _sum_to_1(sizes: Array) -> bool:
    return bool(np.abs(sizes.sum(axis=1, dtype=np.float64) - 1).max() < _SUM_TOLERANCE)


def _odd_sums(sums: Array, cut: Cut, has_sinks: bool) -> Iterator[Oddity]:
    off = sums - 1 if has_sinks else np.abs(sums - 1)
    off[np.isnan(off)] = np.inf
    odd = off > _SUM_TOLERANCE
    # A row that is all zero is masked; where most others do not sum to 1 it may be none.
    masked = (sums == 0) & (2 * np.count_nonzero(odd & (sums != 0)) <= np.count_nonzero(sums))
    off[masked], odd[masked] = 0.0, False
    if not odd.any():
        return
    count, worst = np.count_nonzero(odd), int(off.argmax())
    row, rows = int(cut.steps[worst]), "row does" if count == 1 else "rows do"
    yield Oddity(
        _SUMS, float(off[worst]), f"row {row}, sums to {sums[worst]:.3f}",
        f"{count} {rows} not sum to 1: the worst, row {row}, sums to {sums[worst]:.6g}",
    )  # fmt: skip
