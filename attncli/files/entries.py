"""One array in a file: what it declares, and how to load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from attncli.arrays import Array


@dataclass(frozen=True)
class Entry:
    """An array that is in a file.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    load : callable
        ``load(max_memory)`` returns the array, mapped where the format allows it, else read
        after `max_memory` bytes (None: what there is) have been found to be enough.
    stored_as : str or None
        What the numbers were before `load` widens them, where it does: ``"bfloat16"``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[int | None], Array]
    stored_as: str | None = None
