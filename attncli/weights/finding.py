"""Which attention weights a file holds, and how they were found; loaded only when looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncli.arrays import Tokens
from attncli.errors import DataError, ParameterError
from attncli.files.contents import TensorFile
from attncli.operations import WITH_WEIGHTS
from attncli.problems.from_files import read_tokens
from attncli.problems.problem import TOKEN_AXES
from attncli.weights.computed import computed_by_layer, computed_from_queries
from attncli.weights.stored import stored_part
from attncli.weights.weight_source import FOUR, Part, WeightSource

# Whose steps the rows and the keys of a part are, as the file names their tokens.
_SIDES = {
    "encoder": ("tokens_enc", "tokens_enc"),
    "decoder": ("tokens_dec", "tokens_dec"),
}


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
    part = _found(file, axes, asked)
    part = replace(part, tokens=_tokens(file, part))
    return WeightSource(file.label, {part.name: part}, "sinks" in file)


def _found(file: TensorFile, axes: tuple[str, ...] | None, asked: Mapping[str, Any]) -> Part:
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
        return stored_part(file, {0: ""}, axes)
    if "weights" in file:
        return stored_part(file, {0: "weights"}, axes)
    if layers:
        return stored_part(file, dict(layers), axes, numbered=True)
    if axes is not None and "a" not in file:
        raise ParameterError(
            f"--axes has no meaning for {file.label}: it holds no weights, they are computed"
        )
    if {"hs_enc", "hs_dec"} <= {*file} or file.options.get("layer") in WITH_WEIGHTS:
        return computed_by_layer(file, asked)
    if "query" in file and "key" in file:
        return computed_from_queries(file, asked)
    if "qkv" in file:
        return computed_by_layer(file, asked)
    if "a" in file:
        return stored_part(file, {0: "a"}, axes)
    held = ", ".join(file) or "nothing"
    raise DataError(
        f"{file.label}: no weights: expected weights, layer0 …, hs_enc and hs_dec, or query and "
        f"key; it holds {held}",
        hint="--rename weights=THEIRS reads an array under another name",
    )


def _tokens(file: TensorFile, part: Part) -> dict[str, Tokens]:
    """The tokens of both axes: those of the side that the rows and the keys of a part are from."""
    held = {name: (file, name) for name in file}
    for ours, theirs in zip(("tokens_dec", "tokens_enc"), _SIDES.get(part.name, ()), strict=False):
        held.pop(ours, None)
        if theirs in file:
            held[ours] = (file, theirs)
    shape = part.layers[min(part.layers)].shape
    tokens = read_tokens(held, dict(zip(FOUR, shape, strict=True)))
    return {TOKEN_AXES[name]: texts for name, texts in tokens.items()}
