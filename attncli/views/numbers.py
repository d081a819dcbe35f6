"""Numbers as text: aligned and short on a terminal, to the last digit elsewhere."""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array

DEFAULT_PRECISION = 4

# So many numbers become text at a time.
_AT_ONCE = 1 << 16
# Of floats by their bytes: so many digits tell every two apart.
_DIGITS = {2: 5, 4: 9, 8: 17}
_NO_BOUND = 50
_LARGEST_FIXED = 1e5
_SMALLEST_FIXED = 1e-3


class Notation:
    """How the elements of an array are written, all alike.

    Parameters
    ----------
    array : ndarray
        Booleans, integers or floats.
    precision : int or None
        Digits behind the point; None writes as many as it takes to read the same number back.

    Examples
    --------
    >>> array = np.array([[1e-9, 2e-9], [1e-9, -3e-9]])
    >>> Notation(array, 1).write(array[0]), Notation(array, 1).longest(array)
    (['1.0e-09', '2.0e-09'], 8)
    """

    def __init__(self, array: Array, precision: int | None) -> None:
        self.precision = precision
        self.letter = ""
        if array.dtype.kind == "f" and precision is not None:
            self.letter = "f" if reads_well_fixed(array, precision) else "e"

    def write(self, part: Array) -> list[str]:
        """Write the elements of a part of the array, in order."""
        if part.dtype.kind != "f" or (part.dtype == np.float64 and self.precision is None):
            # Python's repr is that of float64, and faster.
            return list(map(repr, part.ravel().tolist()))
        if self.precision is None:
            return list(map(str, part.ravel()))
        # Python's formatting of Python floats: exact, and much faster than NumPy's scalars.
        values = part.ravel().astype(np.float64).tolist()
        form = f".{self.precision}{self.letter}"
        return [_without_minus_zero(format(value, form)) for value in values]

    def longest(self, array: Array) -> int:
        """Return the length of the longest text, without having them all at a time."""
        longest = 0
        rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array
        step = max(1, _AT_ONCE * len(rows) // max(1, array.size))
        for first in range(0, len(rows), step):
            part = self._candidates(rows[first : first + step].ravel(), longest)
            longest = max(longest, max(map(len, self.write(part)), default=0))
        return longest

    def _candidates(self, part: Array, longest: int) -> Array:
        """Leave out the elements whose texts cannot be longer than `longest`."""
        if part.dtype.kind != "f":
            return np.array([part.min(), part.max()]) if part.size else part
        if self.precision is not None:
            return part
        return part[_bound(part) > longest]


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
    return Notation(array, precision).write(array)


def _bound(array: Array) -> Array:
    """Give how long the shortest text that reads back to a float can be, at the most.

    A sign, the dtype's digits and a point; zeros in front of them from 1e-4 to 0.1, and an exponent
    below.
    """
    digits = _DIGITS.get(array.dtype.itemsize, _NO_BOUND)
    with np.errstate(invalid="ignore"):  # some bits of NaN
        size = np.abs(array.astype(np.float64, copy=False))
    bound = np.full(array.shape, max(digits + 6, 19), np.int8)  # -d.ddde-05, -1234567890123456.0
    for zeros in range(4):
        smallest = 10.0 ** (-1 - zeros)
        bound[(size >= smallest) & (size < 10 * smallest)] = digits + 3 + zeros  # -0.00ddd
    bound[(size >= 1) & (size < 100)] = digits + 2  # -12.ddd
    bound[(size < 1e-99) | (size >= 1e100)] = max(digits + 7, 19)
    bound[size == 0] = 4
    return bound - ~np.signbit(array)


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
