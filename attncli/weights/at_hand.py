"""Weights as libraries hand them over, and the tokens beside them, named as a file would."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnError, AttnWarning, DtypeError, ParameterError, ShapeError
from attncli.files.contents import TensorFile, hold_tensors, open_tensors
from attncli.files.reading import Reading
from attncli.foreign import as_array
from attncli.weights.wanted import parse_axes

READING = Reading(allow_nonfinite=True)  # what is not finite is shown as what it is


def hold_weights(weights: Any, tokens: Any, label: str, axes: str | None = None) -> TensorFile:
    """Treat weights, and the tokens of their steps, as what a file holds; a path is that file.

    Parameters
    ----------
    weights : array, sequence of arrays, mapping of arrays, str or path
        As `name_weights` takes them.
    tokens : sequence, or a pair of them
        As `name_tokens` takes them.
    label : str
        What stands in messages for the name of a file.
    axes : str, optional

    Raises
    ------
    AttnError
        If they are none.
    """
    if isinstance(weights, str | os.PathLike):
        file = open_tensors(os.fspath(weights), READING)
        beside = hold_tensors(name_tokens(tokens, label), label, READING)
        return TensorFile(file.label, {**file.entries, **beside.entries}, READING)
    named = name_weights(weights, tokens, label, axes)
    arrays = {name: number_array(one, name, label) for name, one in named.items()}
    return hold_tensors({**arrays, **name_tokens(tokens, label)}, label, READING)


def name_weights(weights: Any, tokens: Any, label: str, axes: str | None) -> Mapping[str, Any]:
    """Name weights as a file would: ``weights``, or ``layer0``, ``layer1``, … of several layers.

    A list of matrices is a list of layers where they are square, as those of self-attention are,
    and else the book's: a matrix (N, T_enc) for each decoder step. Tokens or axes that fit but
    one of the two decide. Of lists of lists, as generate() gives them, the outer ones are steps.
    What a model returns has its parts by their names.
    """
    if hasattr(weights, "shape"):
        return {"weights": weights}
    whole = _output_of_model(weights)
    if whole is not None:
        named: dict[str, Any] = {}
        for name, given in whole.items():
            if isinstance(given, tuple) and any(one is None for one in given):
                raise _none(label, f"{name}, a tuple of None")
            if _is_nested(given):
                named |= _numbered(f"{name}.", given)
            elif hasattr(given, "shape") or isinstance(given, list | tuple):
                named[name] = given  # and no cache, nor what was not asked for
        return named
    several = weights if isinstance(weights, list | tuple) else ()
    if weights is None or any(one is None for one in several):
        raise _none(label, "None" if weights is None else "a tuple of None")
    if several and all(map(_is_nested, several)):
        return _numbered("step", several, "_layer")
    shapes = [tuple(one.shape) for one in several if hasattr(one, "shape")]
    if not several or len(shapes) < len(several):
        return {"weights": weights}
    if len(set(shapes)) == 1:
        if axes is not None and len(parse_axes(axes)) == len(shapes[0]) + 1:
            return {"weights": np.stack([number_array(one, "weights", label) for one in several])}
        if axes is None and len(shapes[0]) == 2 and _are_steps(len(shapes), shapes[0], tokens):
            steps = [number_array(one, "weights", label) for one in several]
            return {"weights": np.stack(steps, axis=1)}
    return _numbered("layer", several)


def _none(label: str, what: str) -> DtypeError:
    return DtypeError(
        f"{label}: weights is {what}",
        hint="models return them with output_attentions=True, attn_implementation='eager'",
    )


def _output_of_model(weights: Any) -> Mapping[str, Any] | None:
    """Give what has names: a mapping as it is, of what a model returns its attentions."""
    if isinstance(weights, Mapping) and not hasattr(weights, "to_tuple"):
        return weights
    names = [name for name in dir(weights) if name.endswith("attentions")]
    held = {name: getattr(weights, name) for name in names}
    return {name: one for name, one in held.items() if one is not None} if held else None


def _is_nested(given: Any) -> bool:
    """Whether it is a list of arrays, or of such lists."""
    return isinstance(given, list | tuple) and bool(given) and (
        all(hasattr(one, "shape") for one in given) or all(map(_is_nested, given))
    )  # fmt: skip


def _numbered(name: str, given: Sequence[Any], inner: str = ".") -> dict[str, Any]:
    """Name the arrays of a list, and of the lists in it, by their numbers."""
    named: dict[str, Any] = {}
    for number, one in enumerate(given):
        of_one = f"{name}{number}"
        named |= {of_one: one} if hasattr(one, "shape") else _numbered(f"{of_one}{inner}", one)
    return named


def _are_steps(count: int, shape: tuple[int, ...], tokens: Any) -> bool:
    rows = len(tokens[0]) if _is_pair(tokens) and tokens[0] is not None else 0
    if rows in (count, shape[0]) and count != shape[0]:
        return rows == count
    return shape[0] != shape[1]


def name_tokens(tokens: Any, label: str) -> dict[str, Array]:
    """Name tokens as a file would: one list, of both axes or of the one of its length, or a pair.

    Raises
    ------
    DtypeError, ParameterError
        If they are no tokens.
    """
    if tokens is None:
        return {}
    if isinstance(tokens, str):
        raise ParameterError(
            f"{label}: tokens is one text, expected a list",
            hint="tokens.split() gives words, list(tokens) letters",
        )
    if not _is_pair(tokens):
        return {"tokens": _texts(tokens, "tokens", label)}
    pair = zip(("tokens_dec", "tokens_enc"), tokens, strict=True)
    return {name: _texts(one, name, label) for name, one in pair if one is not None}


def _is_pair(tokens: Any) -> bool:
    """Whether it is (of the decoder, of the encoder), and no list of tokens or of lists of them."""
    return (
        isinstance(tokens, tuple)
        and len(tokens) == 2
        and not any(isinstance(one, str | int) for one in tokens)
    )


def _texts(tokens: Any, name: str, label: str) -> Array:
    try:
        array = as_array(tokens)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "USiu":
        raise DtypeError(f"{label}: {name} is no list of tokens, nor one for each item")
    return array if array.dtype.kind in "US" else array.astype(np.str_)  # ids, as they are meant


def number_array(numbers: Any, name: str, label: str) -> Array:
    """Take numbers from whoever holds them; the name is for messages.

    Raises
    ------
    DtypeError
        If they are no array.
    """
    try:
        return as_array(numbers)
    except AttnError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DtypeError(f"{label}: {name} is no array of numbers: {reason}") from None


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Say what is wrong as to a caller in Python, where options are arguments."""
    try:
        yield
    except AttnError as error:
        hint = None if error.hint is None else _as_argument(error.hint)
        raise type(error)(_as_argument(str(error)), hint=hint) from None


@contextlib.contextmanager
def fitting_tokens() -> Iterator[None]:
    """Let tokens that fit no axis be an error, which in a file are left out.

    Raises
    ------
    ShapeError
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".* and left out$", AttnWarning)
            yield
    except AttnWarning as unfit:
        raise ShapeError(str(unfit).removesuffix(", and left out")) from None


def _as_argument(text: str) -> str:
    """Write options as arguments.

    Examples
    --------
    >>> _as_argument("--item 2: there is none; --axes N,dec,enc or --top would do")
    'item=2: there is none; axes="N,dec,enc" or top would do'
    """
    text = re.sub(r"--(\w+) (-?\d+)", r"\1=\2", text)
    text = re.sub(r"--axes ([\w,]+)", r'axes="\1"', text).replace("--force", "force=True")
    return re.sub(r"--(\w)", r"\1", text)
