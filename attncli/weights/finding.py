"""Which attention weights a file holds, and how they were found; loaded only when looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attncli.errors import ParameterError
from attncli.files.contents import TensorFile
from attncli.operations import WITH_WEIGHTS
from attncli.spelling import nearest
from attncli.weights.computed import computed_by_layer, computed_from_queries
from attncli.weights.model_parts import best_of_parts, read_parts, stored_families
from attncli.weights.tabled import tabled_parts
from attncli.weights.weight_source import Part, WeightSource
from attncli.weights.words_beside import words_of_parts


def find_weights(
    file: TensorFile,
    axes: tuple[str, ...] | None = None,
    asked: Mapping[str, Any] | None = None,
    part: str | None = None,
) -> WeightSource:
    """Find the attention weights of a file, or of arrays at hand.

    Taken from ``weights``, from arrays whose names or numbers say that they are weights, of each
    part of a model; from ``a``; else computed from ``hs_enc`` and ``hs_dec`` or from ``query`` and
    ``key``.

    Parameters
    ----------
    file : TensorFile
    axes : tuple of str, optional
        What the axes of the stored arrays are, of steps, layers, N, heads, T_dec and T_enc; where
        that is not what their number implies. What the numbers in names count comes before them.
    asked : mapping, optional
        The ``layout`` and the ``heads`` of what weights are computed from.
    part : {"encoder", "decoder", "cross"}, optional
        Find those of this part alone.

    Raises
    ------
    DataError
        If the file holds nothing that weights follow from.
    ShapeError
        If the array has other axes.
    ParameterError
        If it has no such part.
    """
    asked = {name: given for name, given in (asked or {}).items() if given}
    if (tabled := tabled_parts(file)) is not None:
        _refuse_other(file.label, part, tabled)
        kept = {name: one for name, one in tabled.items() if part in (None, name)}
        return WeightSource(file.label, words_of_parts(file, kept))
    families = stored_families(file, shaped=axes is not None)
    sure = [family for family in families if family.rank > 0]
    if asked and sure:
        raise ParameterError(
            f"--{next(iter(asked))} has no meaning for {file.label}: it holds weights",
            hint="--axes N,heads,dec,enc says what their axes are",
        )
    computed = None if sure else _computed(file, axes, asked)
    if computed is not None:
        parts = {computed.name: computed}
        _refuse_other(file.label, part, parts)
    else:
        found = best_of_parts(file, sure or families)
        _refuse_other(file.label, part, found)
        wanted = {name: one for name, one in found.items() if part in (None, name)}
        parts = read_parts(file, wanted, found, axes)
    return WeightSource(file.label, words_of_parts(file, parts), "sinks" in file)


def _refuse_other(label: str, part: str | None, found: Iterable[str]) -> None:
    if part is not None and part not in found:
        held = " and ".join(filter(None, found)) or "weights, and does not say of which part"
        says = f"--part {part}: {label} has no such part; it holds {held}"
        near = nearest(part, filter(None, found)) or next(filter(None, found), None)
        raise ParameterError(says, hint=near and f"--part {near}")


def _computed(
    file: TensorFile, axes: tuple[str, ...] | None, asked: Mapping[str, Any]
) -> Part | None:
    """Compute weights from what is there, if they follow from it."""
    by_layer = {"hs_enc", "hs_dec"} <= {*file} or file.options.get("layer") in WITH_WEIGHTS
    if not (by_layer or {"query", "key"} <= {*file} or "qkv" in file):
        return None
    if axes is not None and "a" not in file:
        raise ParameterError(
            f"--axes has no meaning for {file.label}: it holds no weights, they are computed"
        )
    if by_layer or not {"query", "key"} <= {*file}:
        return computed_by_layer(file, asked)
    return computed_from_queries(file, asked)
