"""How much memory a measurement takes, told before any of it is allocated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attncli.benchmarks.contenders import PRODUCTS
from attncli.reports import Cell

# Matrices of N · T · T numbers that one run holds; the tiled engines hold none that counts.
_MATRICES = {"direct": 3, "loop": 4, "jax": 3, "onnxruntime": 2}
# Everybody's inputs and results: query, key, value and dout; out and three gradients.
_TENSORS = 8


def needed(cell: Cell, contenders: Sequence[str], *, accuracy: bool = False) -> int:
    """Give the bytes for one cell: all hold their tensors at a time, one at a time computes.

    Examples
    --------
    >>> needed(Cell(1, 1000, 64, "float32"), ["core"])
    2560000
    >>> needed(Cell(1, 1000, 64, "float32"), ["core", "direct"])
    16096000
    """
    tensor = cell.N * cell.T * cell.H
    matrix = cell.T**2
    itemsize = np.dtype(cell.dtype).itemsize
    held = len(contenders) * _TENSORS * tensor * itemsize
    working = max(cell.N * matrix * _MATRICES.get(name, 0) for name in contenders)
    if PRODUCTS in contenders:
        held += matrix * itemsize
    exact = _TENSORS * tensor * 8 if accuracy else 0
    drawing = 8 * tensor  # one float64 tensor at a time, before it is rounded
    return held + max(working * itemsize, exact, drawing)
