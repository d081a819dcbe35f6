"""From the dtypes that files hold to numbers that can be computed with."""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array, parts
from attncli.errors import DataError, DtypeError

_CHECKED_AT_ONCE = 1 << 20  # elements: a mapped array is never read whole


def to_numbers(array: Array, name: str, where: str, *, as_bfloat16: bool = False) -> Array:
    """Return booleans, integers or floats in native byte order.

    Parameters
    ----------
    array : ndarray
        As it came from the file.
    name, where : str
        The array's and the file's name, for messages.
    as_bfloat16 : bool, default False
        Read two-byte raw elements as bfloat16 (widened to float32, which is exact).

    Raises
    ------
    DtypeError
        If the elements are no real numbers.
    """
    dtype = array.dtype
    if dtype.kind in "biuf":
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    if dtype == np.dtype("V2"):
        if as_bfloat16:
            return widen_bfloat16(array)
        raise DtypeError(
            f"{where}: {name} is raw two-byte elements (V2)",
            hint="it looks like bfloat16: pass --as bfloat16",
        )
    kind = {"c": "complex", "U": "text", "S": "text", "M": "dates", "m": "durations"}
    found = f"{dtype} ({kind[dtype.kind]})" if dtype.kind in kind else str(dtype)
    raise DtypeError(f"{where}: {name} is {found}, expected real numbers")


def widen_bfloat16(array: Array) -> Array:
    """Widen raw little-endian bfloat16 to float32: bfloat16 is float32's upper half.

    Examples
    --------
    >>> widen_bfloat16(np.array([0x3F80, 0xC020], dtype="<u2").view("V2"))
    array([ 1. , -2.5], dtype=float32)
    """
    bits = np.ascontiguousarray(array).view("<u2").astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32)


def require_finite(array: Array, name: str, where: str, *, minus_inf: bool = False) -> None:
    """Raise if an array holds NaN or Inf; −inf may be allowed, for floating masks.

    Raises
    ------
    DataError
        With how many there are and where the first is.
    """
    if array.dtype.kind != "f":
        return
    count, first = 0, -1
    for number, part in enumerate(parts(array, _CHECKED_AT_ONCE)):
        good = np.isfinite(part)
        if minus_inf:
            good |= part == -np.inf
        if not good.all():
            if first < 0:
                first = number * _CHECKED_AT_ONCE + int(np.argmin(good))
            count += int(good.size - np.count_nonzero(good))
    if count:
        index = tuple(int(i) for i in np.unravel_index(first, array.shape))
        value = array[index]
        raise DataError(
            f"{where}: {name} holds {count} non-finite "
            f"{'value' if count == 1 else 'values'}, the first ({value}) at {list(index)}",
            hint="--allow-nonfinite computes with them all the same",
        )
