"""One mask out of all that a file says about who takes part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attncli.arrays import Array
from attncli.errors import ShapeError
from attncli.tensors import default_axes, describe_shape

MASKS = ("mask", "enc_mask", "dec_mask")


def combine_masks(
    masks: Mapping[str, Array],
    axes: tuple[str, ...],
    sizes: Mapping[str, int],
    paddings: tuple[str, ...] = ("enc_mask",),
) -> Array | None:
    """Combine ``mask`` and ``enc_mask`` into one that broadcasts to the weights.

    Parameters
    ----------
    masks : mapping of str to ndarray
        Those of the two that there are, as `attncli.core.visibility.read_mask` gives them.
    axes : tuple of str
        The axes of the weights.
    sizes : mapping of str to int
    paddings : tuple of str, optional
        With ``dec_mask`` among them, the steps that take no part see no key.

    Returns
    -------
    ndarray, bool or floating, or None
        As small as it can be: an axis on which nothing depends has length 1.

    Raises
    ------
    ShapeError
        If a mask does not fit.
    """
    shape = tuple(sizes[axis] for axis in axes)
    mask = masks.get("mask")
    if mask is not None:
        try:
            np.broadcast_to(mask, shape)
        except ValueError:
            raise ShapeError(
                f"mask is {mask.shape}, expected a shape that broadcasts to "
                f"{describe_shape(shape, axes)}"
            ) from None
        mask = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)
    for name in paddings:
        own = default_axes(name)
        if name not in masks or not set(own) <= set(axes):
            continue
        # An axis of length one wherever this mask says nothing.
        seen = fitting_mask(name, masks, sizes)
        seen = seen.reshape([sizes[axis] if axis in own else 1 for axis in axes])
        if mask is None or mask.dtype == bool:
            mask = seen if mask is None else mask & seen
        else:
            mask = np.where(seen, mask, mask.dtype.type(-np.inf))
    return mask


def fitting_mask(name: str, masks: Mapping[str, Array], sizes: Mapping[str, int]) -> Array:
    """Return ``enc_mask`` or ``dec_mask`` (N, T), if it fits.

    Raises
    ------
    ShapeError
        If it does not.
    """
    mask = masks[name]
    axes = default_axes(name)
    expected = tuple(sizes[axis] for axis in axes)
    if mask.shape != expected:
        raise ShapeError(f"{name} is {mask.shape}, expected {describe_shape(expected, axes)}")
    return mask
