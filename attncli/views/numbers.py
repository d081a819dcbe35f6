"""Numbers as text: aligned and short on a terminal, to the last digit elsewhere."""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array

DEFAULT_PRECISION = 4

_LARGEST_FIXED = 1e5
_SMALLEST_FIXED = 1e-3


def format_array(array: Array, precision: int | None) -> list[str]:
    """Write the elements of an array, in order, all in one notation.

    Parameters
    ----------
    array : ndarray
        Booleans, integers or floats.
    precision : int or None
        Digits behind the point; None writes as many as it takes to read the same number back.

    Returns
    -------
    list of str

    Examples
    --------
    >>> format_array(np.array([0.1, -2.0]), 3), format_array(np.array([1e-9, 2.0]), 1)
    (['0.100', '-2.000'], ['0.0', '2.0'])
    >>> format_array(np.array([1e-9, 2e-9]), 1), format_array(np.float32([0.1]), None)
    (['1.0e-09', '2.0e-09'], ['0.1'])
    """
    if array.dtype.kind != "f":
        return [str(value) for value in array.ravel().tolist()]
    if precision is None:
        return [str(value) for value in array.ravel()]
    notation = "f" if reads_well_fixed(array, precision) else "e"
    # Python's formatting of Python floats: exact, and much faster than NumPy's scalars.
    values = array.ravel().astype(np.float64).tolist()
    return [_without_minus_zero(f"{value:.{precision}{notation}}") for value in values]


def reads_well_fixed(array: Array, precision: int) -> bool:
    """Tell whether fixed notation shows the numbers, rather than zeros or a row of digits."""
    magnitudes = np.abs(array[np.isfinite(array)])
    largest = float(magnitudes.max()) if magnitudes.size else 0.0
    smallest = min(_SMALLEST_FIXED, 10.0 ** (1 - precision))
    return largest == 0 or smallest <= largest < _LARGEST_FIXED


def format_error(value: float) -> str:
    """Write the size of an error: its magnitude is what matters.

    Examples
    --------
    >>> format_error(9.70215e-15), format_error(0.0)
    ('9.7e-15', '0')
    """
    return "0" if value == 0 else f"{value:.1e}"


def _without_minus_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
