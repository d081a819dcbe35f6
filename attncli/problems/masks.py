"""One mask out of all that a file says about who takes part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attncli.arrays import Array
from attncli.errors import DtypeError, ShapeError
from attncli.tensors import default_axes, describe_shape

MASKS = ("mask", "enc_mask", "dec_mask")


def combine_masks(
    tensors: Mapping[str, Array], axes: tuple[str, ...], sizes: Mapping[str, int]
) -> Array | None:
    """Combine ``mask`` and ``enc_mask`` into one that broadcasts to the weights.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Those of the two that there are. True = takes part; 0/1 integers count as booleans; a
        floating ``mask`` is added to the scores.
    axes : tuple of str
        The axes of the weights.
    sizes : mapping of str to int

    Returns
    -------
    ndarray, bool or floating, or None
        As small as it can be: an axis on which nothing depends has length 1.

    Raises
    ------
    ShapeError, DtypeError
        If a mask does not fit.
    """
    shape = tuple(sizes[axis] for axis in axes)
    mask = None
    if "mask" in tensors:
        mask = boolean_or_floating("mask", tensors["mask"])
        try:
            np.broadcast_to(mask, shape)
        except ValueError:
            raise ShapeError(
                f"mask is {mask.shape}, expected a shape that broadcasts to "
                f"{describe_shape(shape, axes)}"
            ) from None
        mask = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)
    if "enc_mask" not in tensors:
        return mask
    seen = fitting_mask("enc_mask", tensors, sizes)
    # An axis of length one wherever this mask says nothing.
    seen = seen.reshape([sizes[axis] if axis in ("N", "T_enc") else 1 for axis in axes])
    if mask is None:
        return seen
    return mask & seen if mask.dtype == bool else np.where(seen, mask, mask.dtype.type(-np.inf))


def fitting_mask(name: str, tensors: Mapping[str, Array], sizes: Mapping[str, int]) -> Array:
    """Return ``enc_mask`` or ``dec_mask`` as booleans of (N, T).

    Raises
    ------
    ShapeError, DtypeError
        If it does not fit.
    """
    mask = boolean_or_floating(name, tensors[name])
    axes = default_axes(name)
    expected = tuple(sizes[axis] for axis in axes)
    if mask.shape != expected:
        raise ShapeError(f"{name} is {mask.shape}, expected {describe_shape(expected, axes)}")
    return mask


def boolean_or_floating(name: str, mask: Array) -> Array:
    """Return a mask whose integers, if they are 0 and 1, have become booleans.

    Raises
    ------
    DtypeError
        If it is neither boolean nor, for ``mask``, floating.
    """
    if mask.dtype == bool or (name == "mask" and mask.dtype.kind == "f"):
        return mask
    if mask.dtype.kind in "iuf" and np.isin(mask, (0, 1)).all():
        return mask.astype(bool)
    expected = "bool or 0/1 (True = takes part)" + (", or floating" if name == "mask" else "")
    raise DtypeError(f"{name} is {mask.dtype} with other values than 0 and 1, expected {expected}")
