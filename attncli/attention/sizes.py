"""Sizes: which engine computes what, and whether the weights would fit memory at all."""

from __future__ import annotations

import math
from typing import Literal

from attncli.attention.inputs import Operands
from attncli.errors import ParameterError
from attncli.memory import require

Engine = Literal["direct", "tiled"]
ENGINES = ("auto", "direct", "tiled")

# Measured, forward and backward together: up to here the direct engine is the faster one.
DIRECT_LIMIT = 16 << 20
PIECE_LIMIT = 512 << 10


def weights_nbytes(operands: Operands) -> int:
    """Return how many bytes all weights of a calculation take, kept or not."""
    count: int = math.prod(operands.lead) * operands.query.shape[-2] * operands.key.shape[-2]
    return count * operands.query.itemsize


def in_one_piece(operands: Operands) -> bool:
    """Return whether the weights of a (batch, head) pair are too few to be worth tiling."""
    query, key = operands.query, operands.key
    nbytes: int = query.shape[-2] * key.shape[-2] * query.itemsize
    return nbytes <= PIECE_LIMIT or 0 in query.shape


def choose(nbytes: int) -> Engine:
    """Return the engine for a calculation whose weights take `nbytes` bytes.

    The rule: direct up to 16 MiB of weights, tiled above.  The direct engine materialises the
    weights and pays for every pass over them in memory; the tiled one pays for visiting tiles and
    for computing the weights again in backward.

    Examples
    --------
    >>> choose(3 * 5 * 5 * 4), choose(8192 * 8192 * 4)
    ('direct', 'tiled')
    """
    return "direct" if nbytes <= DIRECT_LIMIT else "tiled"


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
    if engine == "auto" and choose(nbytes) == "tiled":
        return "tiled"
    if nbytes > DIRECT_LIMIT:
        hint = "compute without keeping weights: the tiled engine needs memory linear in T"
        require(nbytes, "the weights", None, hint=hint)
    return "direct"
