"""Loading weights, and what they never are said in a warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning
from attncli.weights.cutting import Cut
from attncli.weights.weight_source import Part, WeightSource

# How far the sum of a row may be from 1 before it is worth a warning: float16 has 3 digits.
_SUM_TOLERANCE = 5e-3


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
    names = [part.name] if part.name else []
    names += [f"layer {layer}"] if part.numbered else []
    names += [f"item {item}"] if "N" in part.axes else []
    names += [f"head {head}"] if "heads" in part.axes else []
    for problem in _oddities(weights, cut, source.has_sinks):
        warnings.warn(f"{' '.join((source.label, *names))}: {problem}", AttnWarning, stacklevel=1)
    return cut.of_region(weights)


def _oddities(weights: Array, cut: Cut, has_sinks: bool) -> Iterator[str]:
    if not weights.size:
        return
    least = float(weights.min())
    if least < 0:
        row, column = np.unravel_index(int(weights.argmin()), weights.shape)
        at = [int(cut.steps[row]), int(column) + cut.first_column]
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
        place = int(cut.steps[worst])
        yield f"{count} {rows} not sum to 1: the worst, row {place}, sums to {sums[worst]:.6g}"
