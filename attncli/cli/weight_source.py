"""Which attention weights a file holds, and how they were found; loaded only when looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.attention import attention_weights
from attncli.cli.problem_files import problem_in
from attncli.errors import DataError, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.files.reading import Reading
from attncli.tensors import axes_of, describe_shape

_TOKENS = {"T_dec": ("tokens_dec", "tokens"), "T_enc": ("tokens_enc", "tokens")}


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
        ``load(item, head)`` returns the (T_dec, T_enc) weights.
    """

    name: str
    shape: tuple[int, int, int, int]
    load: Callable[[int, int], Array]


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
    """

    label: str
    reading: str
    layers: dict[int, Layer]
    numbered: bool
    axes: tuple[str, ...]
    tokens: dict[str, Tokens]


def find_weights(name: str, reading: Reading) -> WeightSource:
    """Find the attention weights of a file.

    Taken from ``weights``, from ``layer0``, ``layer1`` …, from ``a``; else computed from
    ``hs_enc`` and ``hs_dec`` or from ``query`` and ``key``.

    Raises
    ------
    DataError
        If the file holds nothing that weights follow from.
    """
    file = open_tensors(name, reading)
    layers = sorted(
        (int(entry[5:]), entry)
        for entry in file
        if entry.startswith("layer") and entry[5:].isdecimal() and entry[5:].isascii()
    )
    if "" in file:
        return _stored(file, {0: ""})
    if "weights" in file:
        return _stored(file, {0: "weights"})
    if layers:
        return _stored(file, dict(layers), numbered=True)
    if "hs_enc" in file and "hs_dec" in file:
        return _computed_from_states(file)
    if "query" in file and "key" in file:
        return _computed_from_queries(file)
    if "a" in file:
        return _stored(file, {0: "a"})
    held = ", ".join(file) or "nothing"
    raise DataError(
        f"{file.label}: no weights: expected weights, layer0 …, hs_enc and hs_dec, or query and "
        f"key; it holds {held}",
        hint="--rename weights=THEIRS reads an array under another name",
    )


def _stored(file: TensorFile, names: dict[int, str], *, numbered: bool = False) -> WeightSource:
    layers: dict[int, Layer] = {}
    axes: tuple[str, ...] = ()
    for number, name in names.items():
        shape = file.shape(name)
        found = axes_of("a" if name == "a" else "weights", len(shape))
        if found is None:
            raise ShapeError(
                f"{file.label}: {name or 'the array'} is {shape}, expected (T_dec, T_enc), "
                "(N, T_dec, T_enc) or (N, heads, T_dec, T_enc)"
            )
        axes = found
        layers[number] = Layer(name, _four(shape, name), _loader(file, name))
    first = layers[min(layers)]
    shape = file.shape(first.name)
    what = first.name or "weights"
    if numbered:
        what = f"layer{min(layers)} to layer{max(layers)}" if len(layers) > 1 else first.name
    reading = f"{what} {describe_shape(shape, axes)}"
    return WeightSource(file.label, reading, layers, numbered, axes, _tokens(file, first.shape))


def _four(shape: tuple[int, ...], name: str = "") -> tuple[int, int, int, int]:
    """Complete a shape to four axes, with 1 for N or heads where there is no such axis."""
    if name == "a":  # (N, T_enc): one decoder step an item
        return (shape[0], 1, 1, shape[1])
    if len(shape) == 4:
        return (shape[0], shape[1], shape[2], shape[3])
    N, T_dec, T_enc = (1,) * (3 - len(shape)) + shape
    return (N, 1, T_dec, T_enc)


def _loader(file: TensorFile, name: str) -> Callable[[int, int], Array]:
    ndim = len(file.shape(name))

    def load(item: int, head: int) -> Array:
        index = (item, head)[: ndim - 2] if name != "a" else (item,)
        return np.atleast_2d(file.numbers(name, index))

    return load


def _computed_from_states(file: TensorFile) -> WeightSource:
    weights = problem_in(file).forward().results["weights"]
    N, T_dec, T_enc = weights.shape
    layer = Layer("weights", (N, 1, T_dec, T_enc), lambda item, head: weights[item])
    axes = ("N", "T_dec", "T_enc")
    how = f"weights {describe_shape(weights.shape, axes)} computed from hs_enc and hs_dec"
    return WeightSource(file.label, how, {0: layer}, False, axes, _tokens(file, layer.shape))


def _computed_from_queries(file: TensorFile) -> WeightSource:
    """Compute the weights of one head when it is looked at: softmax(query · keyᵀ / √H)."""
    query, key = file.shape("query"), file.shape("key")
    if len(query) != len(key) or not 2 <= len(query) <= 4:
        raise ShapeError(
            f"{file.label}: query is {query}, key is {key}: expected both (T, H), (N, T, H) or "
            "(N, heads, T, H)"
        )
    axes = (*("N", "heads")[: len(query) - 2], "T_dec", "T_enc")
    N, heads, T_dec, H = _four(query)
    N_key, key_heads, T_enc, H_key = _four(key)
    for axis, ours, theirs in (("N", N, N_key), ("H", H, H_key)):
        if ours != theirs:
            raise ShapeError(
                f"{file.label}: query is {query}, key is {key}: "
                f"{axis} differs ({ours} and {theirs})"
            )
    if key_heads == 0 or heads % key_heads:
        raise ShapeError(
            f"{file.label}: query has {heads} heads and key {key_heads}: "
            "expected a divisor, so that every key head serves as many query heads"
        )
    shape = (N, heads, T_dec, T_enc)
    masks = _broadcast_masks(file, shape)

    def load(item: int, head: int) -> Array:
        part = file.numbers("query", (item, head)[: len(query) - 2])
        keys = file.numbers("key", (item, head * key_heads // heads)[: len(key) - 2])
        mask = None
        for one in masks:
            more = one[item, head]
            mask = more if mask is None else np.where(more, mask, mask.dtype.type(-np.inf))
        return attention_weights(part, keys, mask=mask)

    how = f"weights {describe_shape(shape[4 - len(query) :], axes)} computed from query and key"
    return WeightSource(
        file.label, how, {0: Layer("weights", shape, load)}, False, axes, _tokens(file, shape)
    )


def _broadcast_masks(file: TensorFile, shape: tuple[int, int, int, int]) -> list[Array]:
    """Give ``mask`` and ``enc_mask`` as views of (N, heads, T_dec, T_enc), a float mask first."""
    masks = []
    for name in ("mask", "enc_mask"):
        if name not in file:
            continue
        mask = file.numbers(name)
        if mask.dtype.kind in "iu":
            mask = mask.astype(bool)
        if name == "enc_mask":
            mask = mask[:, None, None, :] if mask.ndim == 2 else mask
        try:
            masks.append(np.broadcast_to(mask, shape))
        except ValueError:
            raise ShapeError(
                f"{file.label}: {name} is {file.shape(name)}, expected a shape that broadcasts to "
                f"{describe_shape(shape, ('N', 'heads', 'T_dec', 'T_enc'))}"
            ) from None
    return masks


def _tokens(file: TensorFile, shape: tuple[int, int, int, int]) -> dict[str, Tokens]:
    """The tokens of both axes; a plain ``tokens`` serves every axis of its length."""
    N, _, T_dec, T_enc = shape
    found = {}
    for (axis, names), size in zip(_TOKENS.items(), (T_dec, T_enc), strict=True):
        for name in names:
            if name not in file:
                continue
            tokens = file.tokens(name)
            if tokens.shape in ((size,), (N, size)):
                found[axis] = tokens
                break
            if name != "tokens" or T_dec == T_enc:
                raise ShapeError(
                    f"{file.label}: {name} is {tokens.shape}, {axis} is {size}: expected one token "
                    f"a step, {(size,)} or {(N, size)}"
                )
    return found


def choose(name: str, wanted: int | None, count: int, label: str) -> range:
    """Turn an option that chooses one of several into the range of those to show.

    Raises
    ------
    ParameterError
        If there is no such one.
    """
    if wanted is None:
        return range(count)
    if not 0 <= wanted < count:
        there = f"there are {count}, 0 to {count - 1}" if count > 1 else "there is only 0"
        raise ParameterError(f"--{name} {wanted}: {label} has no such {name}; {there}")
    return range(wanted, wanted + 1)
