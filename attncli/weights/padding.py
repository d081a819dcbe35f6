"""Which steps are padding: by their words, by a mask beside them, or by weights that are zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from attncli.arrays import Array
from attncli.errors import DataError
from attncli.files.contents import TensorFile
from attncli.weights.tokens import is_padding
from attncli.weights.weight_source import FOUR, Part
from attncli.weights.words_beside import side_of_mask, sides_of


def with_masks(file: TensorFile, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Give every part the padding that masks beside it say, (N, T) or (T,), of its own side.

    1 is what takes part, and 0 padding; but in what is called a padding mask, as torch has it, 1
    is padding.

    Raises
    ------
    DataError
        If a mask holds something else.
    """
    masks = {}
    several = len(parts) > 1 or "cross" in parts
    for name in file:
        side = side_of_mask(file, name, several=several)
        if side is not None:
            masks[name] = side
    found = {}
    for key, part in parts.items():
        shape = dict(zip(FOUR, part.layers[min(part.layers)].shape, strict=True))
        padding: dict[str, Array] = {}
        for axis, own in zip(("T_dec", "T_enc"), sides_of(part.name), strict=True):
            size = shape["N"], shape[axis]
            for name, side in sorted(masks.items(), key=lambda one: one[1] != own):
                fits = file.shape(name) in (size, size[1:], (1, *size[1:]))
                if side in (own, "tokens") and fits and axis not in padding:
                    padding[axis] = np.broadcast_to(_padding_in(file, name), size)
        found[key] = replace(part, padding=padding)
    return found


def _padding_in(file: TensorFile, name: str) -> Array:
    mask = file.numbers(name, allow_nonfinite=True)
    if mask.dtype.kind == "f" and mask.min(initial=0) < 0:
        return np.asarray(mask < 0)  # added to scores
    if not np.isin(mask, (0, 1)).all():
        raise DataError(f"{file.label}: {name} holds other values than 0 and 1")
    return np.asarray(mask != 0 if "padding" in name or "pad_mask" in name else mask == 0)


def padding_by_words(words: Sequence[str], *, starts: bool) -> Array | None:
    """Tell padding by its words; None where they are but numbers, which do not say.

    Parameters
    ----------
    words : sequence of str
    starts : bool
        Whether they are a decoder's, which may start with one that is no padding, as T5's does.
    """
    if all(word.lstrip("-").isdecimal() for word in words):
        return None
    found = np.array([is_padding(word) for word in words], dtype=bool)
    if starts and found[:2].tolist() == [True, False]:
        found[0] = False
    return found


def padding_by_zeros(weights: Array, *, square: bool) -> tuple[Array, Array] | None:
    """Tell padding by rows without any weight, and keys at an end that no row looks at.

    Returns
    -------
    pair of ndarray of bool or None
        Of the rows and of the keys; None where nothing is zero.

    Examples
    --------
    >>> weights = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 0]])
    >>> padding_by_zeros(weights, square=True)[0].tolist()
    [False, False, True]
    """
    rows: Array = (weights == 0).all(axis=1)
    unseen: Array = (weights == 0).all(axis=0)
    # One that nobody looks at by chance lies between others.
    keys = np.logical_and.accumulate(unseen) | np.logical_and.accumulate(unseen[::-1])[::-1]
    if square:
        rows = keys = rows | keys
    return (rows, keys) if rows.any() or keys.any() else None
