"""Which attention weights a file holds, and how they were found; loaded only when looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core import compute
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility, pick, positions, read_mask
from attncli.errors import DataError, ParameterError, ShapeError
from attncli.files.contents import TensorFile
from attncli.memory import require
from attncli.operations import OPERATIONS, WITH_WEIGHTS
from attncli.operations.layout import Order
from attncli.operations.operation import turned
from attncli.operations.steps import QKV
from attncli.problems.beside import BESIDE, sizes_beside
from attncli.problems.from_files import (
    extras_in,
    in_file,
    problem_in,
    read_tokens,
    semantics_in,
)
from attncli.problems.masks import MASKS, combine_masks, fitting_mask
from attncli.problems.problem import TOKEN_AXES
from attncli.problems.setting import Setting
from attncli.tensors import axes_of, describe_shape

_FOUR = ("N", "heads", "T_dec", "T_enc")
STACK = ("layers", *_FOUR)


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
    """

    name: str
    shape: tuple[int, int, int, int]
    load: Callable[[int, int, Region], Array]


@dataclass(frozen=True)
class WeightSource:
    """The weights that a file holds or implies.

    Attributes
    ----------
    label : str
        The file.
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
    has_sinks : bool
        Whether rows sum to less than 1, because a sink has the rest.
    """

    label: str
    reading: str
    layers: dict[int, Layer]
    numbered: bool
    axes: tuple[str, ...]
    tokens: dict[str, Tokens]
    has_sinks: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The (N, heads, T_dec, T_enc) of the first layer."""
        return self.layers[min(self.layers)].shape


def find_weights(
    file: TensorFile,
    axes: tuple[str, ...] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> WeightSource:
    """Find the attention weights of a file, or of arrays at hand.

    Taken from ``weights``, from ``layer0``, ``layer1`` …, from ``a``; else computed from
    ``hs_enc`` and ``hs_dec`` or from ``query`` and ``key``.

    Parameters
    ----------
    file : TensorFile
    axes : tuple of str, optional
        What the axes of the stored arrays are, of layers, N, heads, T_dec and T_enc; where that is
        not what their number implies.
    asked : mapping, optional
        The ``layout`` and the ``heads`` of what weights are computed from.

    Raises
    ------
    DataError
        If the file holds nothing that weights follow from.
    ShapeError
        If the array has other axes.
    """
    asked = {name: given for name, given in (asked or {}).items() if given}
    return replace(_found(file, axes, asked), has_sinks="sinks" in file)


def _found(
    file: TensorFile, axes: tuple[str, ...] | None, asked: Mapping[str, Any]
) -> WeightSource:
    layers = sorted(
        (int(entry[5:]), entry)
        for entry in file
        if entry.startswith("layer") and entry[5:].isdecimal() and entry[5:].isascii()
    )
    if asked and (layers or "" in file or "weights" in file):
        raise ParameterError(
            f"--{next(iter(asked))} has no meaning for {file.label}: it holds weights",
            hint="--axes N,heads,dec,enc says what their axes are",
        )
    if "" in file:
        return _stored(file, {0: ""}, axes)
    if "weights" in file:
        return _stored(file, {0: "weights"}, axes)
    if layers:
        return _stored(file, dict(layers), axes, numbered=True)
    if axes is not None and "a" not in file:
        raise ParameterError(
            f"--axes has no meaning for {file.label}: it holds no weights, they are computed"
        )
    if {"hs_enc", "hs_dec"} <= {*file} or file.options.get("layer") in WITH_WEIGHTS:
        return _computed_by_layer(file, asked)
    if "query" in file and "key" in file:
        return _computed_from_queries(file, asked)
    if "qkv" in file:
        return _computed_by_layer(file, asked)
    if "a" in file:
        return _stored(file, {0: "a"}, axes)
    held = ", ".join(file) or "nothing"
    raise DataError(
        f"{file.label}: no weights: expected weights, layer0 …, hs_enc and hs_dec, or query and "
        f"key; it holds {held}",
        hint="--rename weights=THEIRS reads an array under another name",
    )


def _stored(
    file: TensorFile,
    names: dict[int, str],
    given: tuple[str, ...] | None,
    *,
    numbered: bool = False,
) -> WeightSource:
    layers: dict[int, Layer] = {}
    axes: tuple[str, ...] = ()
    for number, name in names.items():
        shape = file.shape(name)
        axes = weight_axes(file.label, name, shape, given)
        sizes = dict(zip(axes, shape, strict=True))
        if sizes["T_enc"] == 0:
            raise ShapeError(f"{file.label}: {name or 'the array'} is {shape}: T_enc = 0, no keys")
        four = (
            sizes.get("N", 1),
            sizes.get("heads", 1),
            sizes.get("T_dec", 1),
            sizes.get("T_enc", 1),
        )
        if "layers" in sizes:
            if numbered:
                raise ShapeError(
                    f"{file.label}: {name} {shape} is one layer, and cannot have an axis of them"
                )
            for layer in range(sizes["layers"]):
                layers[layer] = Layer(name, four, _loader(file, name, axes, layer))
            numbered = True
        else:
            layers[number] = Layer(name, four, _loader(file, name, axes))
    if not layers:
        raise ShapeError(f"{file.label}: {name or 'the array'} is {shape}: layers = 0")
    first = layers[min(layers)]
    shape = file.shape(first.name)
    what = first.name or "weights"
    if len(names) > 1:
        last = max(layers)
        whole = len(layers) == last - min(layers) + 1
        what = f"{first.name} to layer{last}" if whole else ", ".join(names.values())
    reading = f"{what} {describe_shape(shape, axes)}"
    if len({layer.shape for layer in layers.values()}) > 1:
        reading += " and other shapes"
    return WeightSource(file.label, reading, layers, numbered, axes, _tokens(file, first.shape))


def weight_axes(
    label: str, name: str, shape: tuple[int, ...], given: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Name the axes of stored weights: as they were given, else as their number implies.

    Raises
    ------
    ShapeError
        If there are others.
    """
    what = f"{label}: {name or 'the array'}"
    if given is not None:
        if len(given) != len(shape):
            raise ShapeError(f"{what} is {shape}: --axes names {len(given)}, {', '.join(given)}")
        return given
    if len(shape) == len(STACK):
        return STACK
    found = axes_of("a" if name == "a" else "weights", len(shape))
    if found is None:
        raise ShapeError(
            f"{what} is {shape}, expected (T_dec, T_enc), (N, T_dec, T_enc), "
            "(N, heads, T_dec, T_enc) or (layers, N, heads, T_dec, T_enc)",
            hint="--axes frames,layers,N,heads,dec,enc says what other axes are",
        )
    return found


def _loader(
    file: TensorFile, name: str, axes: tuple[str, ...], layer: int = 0
) -> Callable[[int, int, Region], Array]:
    steps = [axis for axis in axes if axis in ("T_dec", "T_enc")]

    def load(item: int, head: int, region: Region) -> Array:
        rows, columns = region
        at = {"layers": layer, "N": item, "heads": head, "T_dec": rows, "T_enc": columns}
        index = _short([at[axis] for axis in axes], file.shape(name))
        matrix = np.atleast_2d(file.numbers(name, index))
        return matrix.T if steps == ["T_enc", "T_dec"] else matrix

    return load


def _computed_by_layer(file: TensorFile, asked: Mapping[str, Any]) -> WeightSource:
    """Compute the weights of one item when it is looked at."""
    problem = problem_in(file, **asked)
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
        if "hs_dec" in one.inputs and not _is_whole(rows, T_dec):
            one, rows = one.steps(rows), slice(None)
        weights: Array = one.forward().results["weights"][0]
        return (weights[head] if "heads" in axes else weights)[rows, columns]

    layer = Layer("weights", (N, heads, T_dec, T_enc), load)
    shape = tuple(problem.sizes[axis] for axis in axes)
    how = f"weights {describe_shape(shape, axes)} computed from {arguments}"
    return WeightSource(file.label, how, {0: layer}, False, axes, _tokens(file, layer.shape))


def _computed_from_queries(file: TensorFile, asked: Mapping[str, Any]) -> WeightSource:
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
    sizes = {axis: found.get(axis, 1) for axis in _FOUR}
    own = tuple(sizes[axis] for axis in axes)
    N, heads, T_dec, T_enc = sizes.values()
    shape = (N, heads, T_dec, T_enc)
    H, key_heads = found["H"], found.get("kv_heads", 1)
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
    return WeightSource(
        file.label, how, {0: Layer("weights", shape, load)}, False, axes, _tokens(file, shape)
    )


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
    part = file.numbers(name, _short(index, file.shape(name)))
    return part if order.upright else part.T


def _short(index: Sequence[Any], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Leave out at the end what takes an axis whole: messages say where something is, in short."""
    kept = list(index)
    while kept and isinstance(kept[-1], slice) and _is_whole(kept[-1], shape[len(kept) - 1]):
        kept.pop()
    return tuple(kept)


def _is_whole(rows: slice | Array, size: int) -> bool:
    return isinstance(rows, slice) and len(range(size)[rows]) == size


def _tokens(file: TensorFile, shape: tuple[int, int, int, int]) -> dict[str, Tokens]:
    """The tokens of both axes."""
    tokens = read_tokens(
        {name: (file, name) for name in file}, dict(zip(_FOUR, shape, strict=True))
    )
    return {TOKEN_AXES[name]: texts for name, texts in tokens.items()}
