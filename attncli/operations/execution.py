"""How a calculation is to be run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from attncli.arrays import Array

Engine = Literal["auto", "direct", "tiled", "reference", "dask"]
ENGINES: tuple[Engine, ...] = ("auto", "direct", "tiled", "reference")


@dataclass(frozen=True)
class Execution:
    """The options that do not change the result.

    Attributes
    ----------
    engine : {"auto", "direct", "tiled", "reference", "dask"}
        Which code runs: direct computes whole (batch, head) pairs, tiled tiles with an online
        softmax, auto goes by size; reference is the book's loop. dask is not run from here:
        `attncli.cluster` does.
    threads : int
        How many threads the core uses.
    tile : (int, int) or None
        How many queries and keys the core computes at a time; None for what is fastest.
    weights : bool or None
        Whether the weights are kept, and among the results, or computed again in backward; None
        goes by their size, and the reference keeps them.
    out : ndarray or None
        Where the core puts the result block by block, if it computes in this dtype; whoever asks
        for it looks whether the result came to lie there.
    """

    engine: Engine = "auto"
    threads: int = 1
    tile: tuple[int, int] | None = None
    weights: bool | None = None
    out: Array | None = field(default=None, compare=False, repr=False)
