"""Many matrices of weights as one: their mean, their maximum, or what flows through all layers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from attncli.arrays import Array
from attncli.errors import ShapeError


def mean_of(matrices: Iterable[Array]) -> Array:
    """Average matrices of one shape, one at a time.

    Examples
    --------
    >>> mean_of([np.eye(2), np.ones((2, 2))])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    total, count = None, 0
    for matrix in matrices:
        total = matrix.astype(np.float64) if total is None else _same_shape(total, matrix) + matrix
        count += 1
    assert total is not None
    mean: Array = total / count
    return mean


def max_of(matrices: Iterable[Array]) -> Array:
    """Take the largest of every place of matrices of one shape, one at a time.

    Examples
    --------
    >>> max_of([np.eye(2), np.full((2, 2), 0.5)])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    largest = None
    for matrix in matrices:
        largest = matrix if largest is None else np.maximum(_same_shape(largest, matrix), matrix)
    assert largest is not None
    return largest


def rollout(layers: Iterable[Array]) -> Array:
    """Follow attention through all layers, the residual path included.

    Attention rollout of Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020):
    each layer is (weights + identity) / 2, rows normalised; their product, the last layer at the
    left, says how much of every input step is in every output step.

    Parameters
    ----------
    layers : iterable of ndarray (T, T)
        The first layer first; of several heads their mean.

    Raises
    ------
    ShapeError
        If the matrices are not square, or not of one size.

    Examples
    --------
    >>> rollout([np.array([[1.0, 0.0], [1.0, 0.0]])] * 2)
    array([[1.  , 0.  ],
           [0.75, 0.25]])
    """
    flow = None
    for weights in layers:
        T_dec, T_enc = weights.shape
        if T_dec != T_enc:
            raise ShapeError(
                f"rollout needs self-attention, T_dec = T_enc: the weights are {weights.shape}"
            )
        mixed = (weights.astype(np.float64) + np.eye(T_dec)) / 2
        mixed /= mixed.sum(axis=1, keepdims=True)
        flow = mixed if flow is None else mixed @ _same_shape(flow, mixed)
    assert flow is not None
    return flow


def _same_shape(one: Array, other: Array) -> Array:
    if one.shape != other.shape:
        raise ShapeError(f"weights of {one.shape} and of {other.shape} have nothing in common")
    return one
