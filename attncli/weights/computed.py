"""Weights that follow from what a file holds, each computed when it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.core import compute
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility, pick, positions, read_mask
from attncli.errors import ShapeError
from attncli.files.contents import TensorFile
from attncli.memory import require
from attncli.operations import OPERATIONS
from attncli.operations.layout import Order
from attncli.operations.operation import turned
from attncli.operations.steps import QKV
from attncli.problems.beside import BESIDE, sizes_beside
from attncli.problems.from_files import extras_in, in_file, problem_in, semantics_in
from attncli.problems.masks import MASKS, combine_masks, fitting_mask
from attncli.problems.setting import Setting
from attncli.tensors import describe_shape
from attncli.weights.weight_source import FOUR, Layer, Part, Region, is_whole, short


def computed_by_layer(file: TensorFile, asked: Mapping[str, Any]) -> Part:
    """Compute the weights of one item when it is looked at."""
    problem = problem_in(file, **asked)
    if problem.operation.name == QKV and {"query", "key"} <= {*file}:  # beside a layer's states
        return computed_from_queries(file, asked)
    axes = problem.operation.mask_axes(problem.inputs)
    N, T_dec, T_enc = (problem.sizes[axis] for axis in ("N", "T_dec", "T_enc"))
    heads = problem.sizes["heads"] if "heads" in axes else 1
    arguments = " and ".join(problem.operation.arguments)
    if problem.sizes["H"] == 0:
        raise ShapeError(f"{file.label}: {arguments} have H = 0: no weights follow")

    def load(item: int, head: int, region: Region) -> Array:
        if T_dec == 0:
            return np.zeros((T_dec, T_enc))[region]
        rows, columns = region
        one = problem.item(item)
        if "hs_dec" in one.inputs and not is_whole(rows, T_dec):
            one, rows = one.steps(rows), slice(None)
        weights: Array = one.forward().results["weights"][0]
        return (weights[head] if "heads" in axes else weights)[rows, columns]

    layer = Layer("weights", (N, heads, T_dec, T_enc), load)
    shape = tuple(problem.sizes[axis] for axis in axes)
    how = f"weights {describe_shape(shape, axes)} computed from {arguments}"
    return Part("", how, {0: layer}, False, axes)


def computed_from_queries(file: TensorFile, asked: Mapping[str, Any]) -> Part:
    """Compute the weights of one head when it is looked at: softmax(scale · query · keyᵀ)."""
    # As large as they are, and nothing of them read; the values have no say in the weights.
    unread = {
        name: np.broadcast_to(np.float32(0), file.shape("query" if name == "query" else "key"))
        for name in ("query", "key", "value")
    }
    setting, operation = Setting.of(file.options, file.label, **asked), OPERATIONS[QKV]
    beside = {name: file.numbers(name, allow_nonfinite=True) for name in BESIDE if name in file}
    meant = setting.tell_of_reading(
        operation, {name: array.shape for name, array in unread.items()}, sizes_beside(beside)
    )
    operation, layout = setting.applied(
        operation, {name: array.ndim for name, array in unread.items()}
    )
    orders = {
        name: layout.order(name) or Order(axes, axes)
        for name, array in unread.items()
        if (axes := operation.axes(name, array.ndim)) is not None
    }
    with in_file(file.label, hint=meant):
        unread = layout.read(unread)
        found, axes = operation.sizes(unread), operation.mask_axes(unread)
    sizes = {axis: found.get(axis, 1) for axis in FOUR}
    own = tuple(sizes[axis] for axis in axes)
    N, heads, T_dec, T_enc = sizes.values()
    shape = (N, heads, T_dec, T_enc)
    H, key_heads = found["H"], found.get("kv_heads", 1)
    if H == 0:
        raise ShapeError(f"{file.label}: query and key have H = 0: no weights follow")
    masks = {name: read_mask(name, file.numbers(name)) for name in MASKS if name in file}
    mask, padding = combine_masks(masks, axes, sizes), None
    if "dec_mask" in masks:
        padding = fitting_mask("dec_mask", masks, sizes)
    semantics, extras = semantics_in(file), extras_in(file, operation)
    with in_file(file.label):
        placed = extras.placed(own[:-2], T_dec, T_enc)
    visibility = Visibility.of(semantics, T_dec, T_enc, mask, placed)
    own_keys, at = positions(semantics, T_dec, T_enc, placed)

    def load(item: int, head: int, region: Region) -> Array:
        rows, columns = region
        count = len(range(T_dec)[rows]) if isinstance(rows, slice) else len(rows)
        copies = 2 if visibility.adds else 1  # what is added is held beside
        nbytes = 8 * copies * count * T_enc
        require(nbytes, f"weights {(count, T_enc)}", file.reading.max_memory)
        shared = head * key_heads // heads
        index = (item, head)[: len(own) - 2]
        part = _steps_of(file, "query", orders["query"], item, head, rows, H)
        keys = _steps_of(file, "key", orders["key"], item, shared, slice(0, T_enc), H)
        if operation.rotation is not None:
            own_key = own_keys[item] if own_keys.ndim > 1 else own_keys
            part = turned(operation.rotation, part, own_key[rows])
            keys = turned(operation.rotation, keys, at)
        sinks = placed.sinks
        if sinks is not None:
            sinks = sinks[pick(index, sinks.shape)].reshape(1)
        cache = compute(
            part,
            keys,
            np.empty((T_enc, 0), keys.dtype),
            mask=visibility.of_rows(rows).as_mask(index),
            extras=Extras(sinks=sinks),
            semantics=Semantics(scale=semantics.scale, softcap=semantics.softcap),
            weights=True,
        )[1]
        assert cache.weights is not None  # as was asked for
        weights = cache.weights.astype(cache.operands.dtype, copy=False)
        if padding is not None:
            weights = np.where(padding[item][rows, None], weights, 0)
        return weights[:, columns]

    how = f"weights {describe_shape(own, axes)} computed from query and key"
    return Part("", how, {0: Layer("weights", shape, load)}, False, axes)


def _steps_of(
    file: TensorFile,
    name: str,
    order: Order,
    item: int,
    head: int,
    steps: slice | Array,
    H: int,
) -> Array:
    """Read some steps of one head, as (T, H)."""
    index = order.place(item, head, steps, H)
    part = file.numbers(name, short(index, file.shape(name)))
    return part if order.upright else part.T
