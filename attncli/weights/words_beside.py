"""The words of the steps, and which steps are padding: what stands beside weights in a file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from attncli.arrays import Tokens
from attncli.errors import AttnWarning, ShapeError
from attncli.files.contents import TensorFile
from attncli.tensors import describe_shape
from attncli.weights.weight_source import FOUR, Part

BOTH, ENC, DEC = _OURS = "tokens", "tokens_enc", "tokens_dec"
GIVEN = "--"
"""How entries are called that an option gave."""

# Whose steps the rows and the keys of a part are.
_SIDES = {"encoder": (ENC, ENC), "decoder": (DEC, DEC)}
# Words in names: of what is words or ids, and of whose they are.
_WORDS = {
    "tokens", "token", "toks", "words", "word", "text", "texts", "pieces", "wordpieces", "subwords",
    "strs", "labels", "source", "target", "src", "tgt", "sentence", "sentences",
}  # fmt: skip
_IDS = {"ids", "sequences", "tokens"}
_OF_ENC = {
    "enc", "encoder", "src", "source", "key", "keys", "right", "bot", "bottom", "col", "cols",
    "column", "columns", "memory",
}  # fmt: skip
_OF_DEC = {
    "dec", "decoder", "tgt", "trg", "target", "output", "outputs", "query", "queries", "left",
    "top", "row", "rows", "hyp", "hypothesis", "generated", "translation",
}  # fmt: skip
_INPUT = {"input", "inputs"}
_MASKS = {"mask", "masks"}
_NO_WORDS = {"type", "types", "mask", "position", "positions", "segment", "label"}


class _Found(NamedTuple):
    """What may be the words of an axis: where they are, whose, and whether they are only ids."""

    name: str
    side: str
    are_ids: bool


def words_of_parts(file: TensorFile, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Give every part the words of its rows and of its keys, each of its own side.

    Those that an option gave, else those under our names, else those under a name that says so;
    ids stand for words where there is nothing better, which is said.

    Raises
    ------
    ShapeError
        If words that were given, or go by our names, are not one a step.
    """
    found = list(_found_in(file, several=len(parts) > 1 or "cross" in parts))
    labelled = {name: _with_words(file, part, found) for name, part in parts.items()}
    used = {one.name: one for _, some in labelled.values() for one in some}
    for one in found:
        if one.name.startswith(GIVEN) and one.name not in used:
            _refuse_given(file, one, parts)
    ids = [name for name, one in used.items() if one.are_ids]
    if ids:
        warnings.warn(
            f"{file.label}: {' and '.join(ids)} {'are' if ids[1:] else 'is'} of ids: --tokens FILE "
            "gives their words, from a tokenizer.json or one a line",
            AttnWarning,
            stacklevel=3,
        )
    elif BOTH in file and BOTH not in used and not used:
        steps = _sizes_of(parts.values())
        warnings.warn(
            f"{file.label}: tokens is {file.shape(BOTH)}, one a step of neither "
            f"{' nor '.join(steps)}, and left out",
            AttnWarning,
            stacklevel=3,
        )
    return {name: part for name, (part, _) in labelled.items()}


def _found_in(file: TensorFile, *, several: bool) -> list[_Found]:
    """Find what may be words, the best first: given, by our names, by others, ids."""
    found = []
    for place, name in enumerate(file):
        side = _side_of(file, name, several=several)
        if side is None:
            continue
        are_ids = file.entries[name].dtype.kind in "iu"
        # Of what was generated the sequence has all words, what went in only the first.
        rank = (
            not name.startswith(GIVEN), are_ids, side == BOTH, name not in _OURS,
            "sequences" not in _split(name),
        )  # fmt: skip
        found.append((rank, place, _Found(name, side, are_ids)))
    return [one for *_, one in sorted(found, key=lambda x: x[:2])]


def _side_of(file: TensorFile, name: str, *, several: bool) -> str | None:
    """Say whose words an array has by its name, if they are any: our name for them.

    Of a model of several parts, what goes in is the encoder's, and a sequence what comes out.
    """
    entry, words = file.entries[name], _split(name)
    if entry.dtype.kind not in "USiu" or not 1 <= len(entry.shape) <= 2:
        return None
    if name.startswith(GIVEN) or name in _OURS:
        return name.removeprefix(GIVEN).replace("-", "_")
    if words & _NO_WORDS or not words & (_WORDS | _IDS if entry.dtype.kind in "US" else _IDS):
        return None
    if words & _OF_DEC or (several and "sequences" in words):
        return DEC
    return ENC if words & _OF_ENC or (several and words & _INPUT) else BOTH


def side_of_ids(file: TensorFile, name: str) -> str | None:
    """Say whose ids an array has, if it has ids of words."""
    several = any(words & (_OF_DEC | _OF_ENC) for words in map(_split, file))
    return _side_of(file, name, several=several) if file.entries[name].dtype.kind in "iu" else None


def _split(name: str) -> set[str]:
    """Split a name into its words.

    Examples
    --------
    >>> sorted(_split("decoder_inputIds.src-tokens"))
    ['decoder', 'ids', 'input', 'src', 'tokens']
    """
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {*re.findall(r"[^\W_]+", parted.lower())}


def side_of_mask(file: TensorFile, name: str, *, several: bool) -> str | None:
    """Say whose steps an array masks, (N, T) or (T,), if it masks any."""
    entry, words = file.entries[name], _split(name)
    if entry.dtype.kind not in "biuf" or not 1 <= len(entry.shape) <= 2 or not words & _MASKS:
        return None
    if words & _OF_DEC:
        return DEC
    return ENC if (words - {"key"}) & _OF_ENC or several else BOTH


def sides_of(part: str) -> tuple[str, str]:
    """Say whose steps the rows and the keys of a part are, by our names for their words."""
    return _SIDES.get(part, (DEC, ENC))


def _with_words(file: TensorFile, part: Part, found: Iterable[_Found]) -> tuple[Part, list[_Found]]:
    """Label the axes of a part with the first that fits each, and say which were used."""
    tokens: dict[str, Tokens] = {}
    used = []
    shape = dict(zip(FOUR, part.layers[min(part.layers)].shape, strict=True))
    steps = "steps" in part.axes
    for axis, side in zip(("T_dec", "T_enc"), sides_of(part.name), strict=True):
        for one in found:
            if one.side not in (side, BOTH):
                continue
            fitting = _fitting(file, one, (shape["N"], shape[axis]), written=steps)
            if fitting is None and steps and axis == "T_dec" and part.name != "cross":
                # What went before was not kept: the rows are the last of the keys.
                fitting = _fitting(file, one, (shape["N"], shape["T_enc"]), written=True)
                fitting = None if fitting is None else fitting[..., -shape["T_dec"] :]
            if fitting is not None:
                tokens[axis] = fitting
                used.append(one)
                break
            if one.name in (ENC, DEC):
                size = shape["N"], shape[axis]
                raise ShapeError(
                    f"{file.label}: {one.name} is {file.shape(one.name)}, expected one token a "
                    f"step: {describe_shape(size, ('N', axis))} or "
                    f"{describe_shape(size[1:], (axis,))}"
                )
    return replace(part, tokens=tokens), used


def _fitting(
    file: TensorFile, one: _Found, size: tuple[int, int], *, written: bool
) -> Tokens | None:
    """Load words if they are one a step, of all items or of each; of what was written one more."""
    shape = file.shape(one.name)
    N, T = size
    spare = (written or "sequences" in _split(one.name)) and shape[-1] == T + 1
    if shape[-1] != T + spare or (len(shape) == 2 and shape[0] not in (1, N)):
        return None
    words = file.tokens(one.name)[..., :T]  # the last that was generated did not go in again
    return words[0] if words.shape[:-1] == (1,) else words


def _refuse_given(file: TensorFile, one: _Found, parts: Mapping[str, Part]) -> None:
    shape = file.shape(one.name)
    count = f"{shape[-1]} words" if len(shape) == 1 else f"{shape[0]} lists of {shape[-1]} words"
    axes = {ENC: ("T_enc",), DEC: ("T_dec",)}.get(one.side, ("T_dec", "T_enc"))
    sizes = _sizes_of(parts.values(), axes if len(parts) == 1 else ("T_dec", "T_enc"))
    raise ShapeError(
        f"{one.name} has {count}, and {file.label} {' and '.join(sizes)}: expected one a step"
    )


def _sizes_of(parts: Iterable[Part], axes: Iterable[str] = ("T_dec", "T_enc")) -> list[str]:
    """Name the sizes of axes, each once."""
    shapes = (part.layers[min(part.layers)].shape for part in parts)
    sizes = [dict(zip(FOUR, shape, strict=True)) for shape in shapes]
    return list(dict.fromkeys(f"{axis} = {size[axis]}" for size in sizes for axis in axes))
