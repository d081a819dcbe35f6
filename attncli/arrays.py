"""The type of a NumPy array, without importing ``numpy.typing``: it takes longer than our start."""

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Tokens: TypeAlias = np.ndarray[Any, np.dtype[np.str_]]
