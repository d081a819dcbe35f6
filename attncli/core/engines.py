"""Sizes: which engine computes what, and whether the weights would fit memory at all."""

from __future__ import annotations

import math
from typing import Literal

from attncli.core.operands import Operands
from attncli.errors import ParameterError
from attncli.memory import require

Engine = Literal["direct", "tiled"]
ENGINES = ("auto", "direct", "tiled")

# Measured, forward and backward together: up to here it is faster to keep all weights, if those of
# a (batch, head) pair are not too many either, than to compute them again.
DIRECT_LIMIT = 16 << 20
PAIR_LIMIT = 8 << 20
# Up to here it is faster to compute a pair as a whole than in tiles.
PIECE_LIMIT = 2 << 20


def weights_nbytes(operands: Operands) -> int:
    """Return how many bytes all weights of a calculation take, kept or not."""
    return math.prod(operands.lead) * pair_nbytes(operands)


def pair_nbytes(operands: Operands) -> int:
    """Return how many bytes the weights of one (batch, head) pair take."""
    nbytes: int = operands.query.shape[-2] * operands.key.shape[-2] * operands.query.itemsize
    return nbytes


def in_one_piece(operands: Operands) -> bool:
    """Return whether the weights of a (batch, head) pair are too few to be worth tiling.

    Tiles that are hidden by their steps are not computed, so then they are worth it sooner.
    """
    limit = PIECE_LIMIT // 2 if operands.visibility.by_step else PIECE_LIMIT
    return pair_nbytes(operands) <= limit or 0 in operands.query.shape


def choose(nbytes: int, pair_nbytes: int) -> Engine:
    """Return the engine for weights that take so many bytes in all, and for each pair.

    The rule: direct up to 16 MiB of weights and 8 MiB a (batch, head) pair, tiled above.  The
    direct engine pays for writing all weights to memory and reading them again; the tiled one
    for computing them again in backward.

    Examples
    --------
    >>> choose(3 * 5 * 5 * 4, 5 * 5 * 4), choose(8192 * 8192 * 4, 8192 * 8192 * 4)
    ('direct', 'tiled')
    """
    return "direct" if nbytes <= DIRECT_LIMIT and pair_nbytes <= PAIR_LIMIT else "tiled"


def resolve(engine: str, operands: Operands) -> Engine:
    """Return the engine that is meant by `engine`, and see to it that its weights fit memory.

    Raises
    ------
    ParameterError
        For an engine that there is not.
    MemoryLimitError
        If direct was asked for by name and the weights would not fit the memory that is free.
    """
    if engine not in ENGINES:
        raise ParameterError(f"engine is {engine!r}, expected one of {ENGINES}")
    nbytes = weights_nbytes(operands)
    if engine == "tiled":
        return "tiled"
    if engine == "auto":
        return choose(nbytes, pair_nbytes(operands))
    if nbytes > DIRECT_LIMIT:
        hint = "compute without keeping weights: the tiled engine needs memory linear in T"
        require(nbytes, "the weights", None, hint=hint)
    return "direct"
