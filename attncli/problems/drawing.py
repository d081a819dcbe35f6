"""Drawing the inputs of an operation at random."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning
from attncli.memory import require
from attncli.operations import OPERATIONS
from attncli.operations.layout import Layout
from attncli.problems.beside import fitted, implied_sizes, in_dtype
from attncli.problems.problem import Problem
from attncli.problems.request import Request
from attncli.problems.setting import Setting
from attncli.tensors import describe_shape, random_keep, random_tensor

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_DEFAULT_LAYER = "time-attention"
_DEFAULT_SIZES = {"N": 3, "T": 5, "H": 4}


def random_problem(request: Request, *, unseen: bool = False) -> Problem:
    """Draw the inputs of an operation at random.

    If nobody sees its weights, none are kept.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    implied = _DEFAULT_LAYER
    if request.heads or request.rotary:  # the book's has one head, and turns nothing
        implied = "scaled-dot-product"
    setting = Setting("random", request.layout, request.heads, request.rotary)
    operation, layout = setting.applied(OPERATIONS[request.layer or implied])
    operation.require_options(request.semantics, request.extras)
    if unseen and operation.is_whole and request.execution.weights is None:
        execution = dataclasses.replace(request.execution, weights=False)
        request = dataclasses.replace(request, execution=execution)
    given = implied_sizes(request.extras, _DEFAULT_SIZES)
    if "T" in request.sizes:
        given.pop("T_enc", None)
    given |= request.sizes
    full = {
        "N": given["N"],
        "T_dec": given["T"],
        "T_enc": given.get("T_enc", given["T"]),
        "H": given["H"],
    }
    shapes = layout.shapes(full)
    for size in request.sizes:
        if not _decides(size, shapes, layout):
            option = f"--{size.replace('_', '-')}"
            message = f"{option} has no effect: {operation.name} has no such size"
            warnings.warn(message, AttnWarning, stacklevel=2)
    seed, dtype = request.seed or 0, request.dtype or "float64"
    names = (
        f"{name} {describe_shape(shape, layout.axes(name, len(shape)))}"
        for name, shape in shapes.items()
    )
    drawn = sum(map(prod, shapes.values())) * np.dtype(dtype).itemsize
    if request.draw is random_tensor:
        require(
            drawn, f"random {', '.join(names)}", request.reading.max_memory,
            hint="smaller --N, --T or --H",
        )  # fmt: skip
    planned = {name: unwritten(name, shape, dtype=dtype) for name, shape in shapes.items()}
    problem = Problem(
        request,
        operation,
        layout.read(planned),
        f"random, seed {seed}",
        request.semantics,
        layout,
    )
    extras = in_dtype(fitted(request.extras, problem.sizes), request.dtype)
    problem = dataclasses.replace(problem, extras=extras)
    problem.require_memory(beside=drawn)  # for the results too, before anything is drawn
    inputs = {
        name: request.draw(name, shape, seed=seed, dtype=dtype) for name, shape in shapes.items()
    }
    if (keep_prob := request.semantics.keep_prob) is not None:
        shape = problem.weights_shape
        if request.draw is unwritten:
            keep = unwritten("keep", shape, dtype=bool)
        else:
            require(prod(shape), f"random keep {shape}", request.reading.max_memory)
            keep = random_keep(shape, keep_prob, seed=seed)
        extras = extras._replace(keep=keep)
    problem = dataclasses.replace(problem, inputs=layout.read(inputs), extras=extras)
    _ = problem.placed  # whether they fit
    return problem


def unwritten(name: str, shape: tuple[int, ...], *, seed: int = 0, dtype: DTypeLike) -> Array:
    """Draw nothing: zeros that take no memory, for who asks what would come of it."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _decides(size: str, shapes: Mapping[str, tuple[int, ...]], layout: Layout) -> bool:
    """Whether a size option has a say in the shapes of the inputs."""
    named = (layout.axes(name, len(shape)) or () for name, shape in shapes.items())
    axes = {part for one in named for axis in one for part in axis.split("·")}
    return size in axes or (size == "T" and bool(axes & {"T_dec", "T_enc"}))
