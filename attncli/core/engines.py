"""Which engine computes what, and whether the weights are kept: two questions, each by size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attncli.core.cache import Engine
from attncli.core.operands import Operands
from attncli.errors import ParameterError
from attncli.memory import require

ENGINES = ("auto", "direct", "tiled")

# Each engine with the weights kept, or computed again: their names wherever all are told apart.
WAYS: Mapping[str, tuple[Engine, bool]] = {
    "direct-kept": ("direct", True),
    "direct-again": ("direct", False),
    "tiled-kept": ("tiled", True),
    "tiled-again": ("tiled", False),
}

# Measured, forward and backward together: up to here it is faster to keep all weights, if those of
# a (batch, head) pair are not too many either, than to compute them again.
KEPT_LIMIT = 64 << 20
KEPT_PAIR_LIMIT = 16 << 20
# Up to here it is faster to compute a pair as a whole than in tiles.
PIECE_LIMIT = 2 << 20


def choose(pair_nbytes: int, hidden: bool = False) -> Engine:
    """Return the engine for pairs whose weights take so many bytes each.

    The rule: direct up to 2 MiB a (batch, head) pair, tiled above.  Tiles that are `hidden` by
    their steps, as under causal order or a window, are not computed, so then it is half of that.

    Examples
    --------
    >>> choose(5 * 5 * 4), choose(8192 * 8192 * 4)
    ('direct', 'tiled')
    """
    return "direct" if pair_nbytes <= (PIECE_LIMIT // 2 if hidden else PIECE_LIMIT) else "tiled"


def worth_keeping(nbytes: int, pair_nbytes: int, hidden: bool = False) -> bool:
    """Return whether weights that take so many bytes in all, and for each pair, are to be kept.

    The rule: up to 64 MiB, and 16 MiB a (batch, head) pair.  Keeping them costs writing all of
    them to memory and reading them again; not keeping them, computing them again in backward.
    Tiles that are `hidden` by their steps take memory, and nobody would compute them again, so
    then it is a quarter of that in all, and half for each pair.

    Examples
    --------
    >>> worth_keeping(3 * 5 * 5 * 4, 5 * 5 * 4), worth_keeping(8192 * 8192 * 4, 8192 * 8192 * 4)
    (True, False)
    """
    if hidden:
        nbytes, pair_nbytes = 4 * nbytes, 2 * pair_nbytes
    return nbytes <= KEPT_LIMIT and pair_nbytes <= KEPT_PAIR_LIMIT


def resolve(
    engine: str,
    weights: bool | None,
    tile: tuple[int, int] | None,
    threads: int,
    operands: Operands,
) -> tuple[Engine, bool]:
    """Return which engine is meant, and whether it is to keep the weights.

    Raises
    ------
    ParameterError
        For an engine that there is not, or tiles for one that has none.
    MemoryLimitError
        If the weights were asked for, or the direct engine by name, and what that takes would not
        fit the memory that is free.
    """
    pair = operands.pair_nbytes
    nbytes = math.prod(operands.lead) * pair
    hidden = bool(operands.visibility.by_step)
    keep = worth_keeping(nbytes, pair, hidden) if weights is None else bool(weights)
    if keep and nbytes > KEPT_LIMIT:
        hint = "compute without keeping weights: the tiled engine needs memory linear in T"
        require(nbytes, "the weights", None, hint=hint)
    if engine == "auto":
        return "tiled" if tile else choose(pair, hidden), keep
    if engine == "tiled":
        return "tiled", keep
    if engine != "direct":
        raise ParameterError(f"engine is {engine!r}, expected one of {ENGINES}")
    if tile is not None:
        raise ParameterError(f"tile is {tile}, but the direct engine computes whole pairs")
    if pair > KEPT_PAIR_LIMIT and not keep:
        at_once = min(threads, math.prod(operands.lead))
        hint = "the tiled engine needs memory linear in T"
        require(at_once * pair, "the weights of whole pairs", None, hint=hint)
    return "direct", keep
