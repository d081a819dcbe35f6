"""Many attention heads as one table of numbers that say what each does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType

from attncli.arrays import Array
from attncli.views.look import Look
from attncli.views.numbers import format_array
from attncli.views.records import Column, draw_records


@dataclass(frozen=True)
class HeadStatistics:
    """What one matrix of weights does, in numbers.

    Attributes
    ----------
    names : dict of str to int
        Its layer, item and head, as far as the file has those axes.
    entropy : float
        Mean over the rows, in bits; 0 looks at one key, log2(T_enc) at all alike.
    maximum : float
        The largest weight.
    first, diagonal, previous : float
        Mean weight on the first key, on the key of the same position, and on the one before it.
    """

    names: dict[str, int]
    entropy: float
    maximum: float
    first: float
    diagonal: float
    previous: float


def head_statistics(weights: Array) -> tuple[float, float, float, float, float]:
    """Compute entropy (bits), maximum, and the mean weight on first, diagonal and previous key.

    Examples
    --------
    >>> [round(x, 2) for x in head_statistics(np.array([[1.0, 0.0], [0.5, 0.5]]))]
    [0.5, 1.0, 0.75, 0.75, 0.5]
    """
    if not weights.size:
        return (0.0,) * 5
    w = weights.astype(np.float64, copy=False)
    logs = np.log2(w, where=w > 0, out=np.zeros_like(w))
    previous = np.diagonal(w, offset=-1)
    return (
        float(-(w * logs).sum(axis=1).mean()),
        float(w.max()),
        float(w[:, 0].mean()),
        float(np.diagonal(w).mean()),
        float(previous.mean()) if previous.size else 0.0,
    )


def draw_heads(
    heads: Sequence[HeadStatistics], look: Look, precision: int | None = None
) -> RenderableType:
    """Draw one line for each head, in the order given."""
    names = [
        Column(name, [str(head.names[name]) for head in heads], right=True)
        for name in heads[0].names
    ]
    fields = {
        "entropy": [head.entropy for head in heads],
        "max": [head.maximum for head in heads],
        "on first": [head.first for head in heads],
        "on diagonal": [head.diagonal for head in heads],
        "on previous": [head.previous for head in heads],
    }
    digits = 2 if precision is None and not look.plain else precision
    numbers = [
        Column(heading, format_array(np.asarray(values), digits), right=True)
        for heading, values in fields.items()
    ]
    return draw_records([*names, *numbers], look)
