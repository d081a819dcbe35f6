"""What precision numbers were computed in, told by the numbers themselves."""

from collections.abc import Mapping

import numpy as np

from attncli.arrays import Array

EPSILON: Mapping[str, float] = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}
"""The distance from 1 to the next number, coarsest first."""

_FRACTION = np.int64(2**52 - 1)  # the bits of a float64 behind its leading one


def precision_of(numbers: Array) -> str:
    """Say in which precision real numbers were computed or rounded last.

    An array of float32 may hold what was computed in bfloat16: then the fractions of all its
    numbers end where those of bfloat16 do.  Among a dozen numbers that are no round ones, some
    use every bit that they have.

    Examples
    --------
    >>> tenths = np.linspace(0.1, 1.2, 12)
    >>> precision_of(tenths), precision_of(tenths.astype("f2").astype("f4"))
    ('float64', 'float16')
    >>> precision_of(np.arange(12, dtype="f4"))
    'float32'
    """
    dtype = numbers.dtype.name if numbers.dtype.name in EPSILON else "float64"
    wide = np.ascontiguousarray(numbers, np.float64).ravel()
    used = int(np.bitwise_or.reduce(wide[np.isfinite(wide)].view(np.int64) & _FRACTION, initial=0))
    if not used:
        return dtype
    smallest = (used & -used) * EPSILON["float64"]  # what the last bit in use stands for, beside 1
    for name, epsilon in EPSILON.items():
        if smallest == epsilon:
            return coarser(name, dtype)
    return dtype


def coarser(*names: str) -> str:
    """Give the coarsest of some precisions.

    Examples
    --------
    >>> coarser("float64", "float16", "float32")
    'float16'
    """
    return max(names, key=EPSILON.__getitem__)


def step_for(precision: str) -> float:
    """Give the step at which truncation and rounding of `richardson_columns` are about equal.

    Examples
    --------
    >>> round(step_for("float64"), 5), round(step_for("float32"), 3)
    (0.00074, 0.041)
    """
    return float(EPSILON[precision] ** 0.2)
