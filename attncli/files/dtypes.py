"""From the dtypes that files hold to numbers that can be computed with."""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array
from attncli.errors import DataError, DtypeError
from attncli.memory import require

_CHECKED_AT_ONCE = 1 << 20  # elements: a mapped array is never read whole


def to_numbers(
    array: Array,
    name: str,
    where: str,
    *,
    as_dtype: str | None = None,
    max_memory: int | None = None,
) -> Array:
    """Return booleans, integers or floats in native byte order.

    Parameters
    ----------
    array : ndarray
        As it came from the file.
    name, where : str
        The array's and the file's name, for messages.
    as_dtype : {"bfloat16", "float16"}, optional
        Read two-byte raw elements as these; bfloat16 is widened to float32, which is exact.
    max_memory : int, optional
        The most bytes to take where they have to be copied; default: what there is.

    Raises
    ------
    DtypeError
        If the elements are no real numbers.
    MemoryLimitError
        If a copy is needed and does not fit.
    """
    dtype = array.dtype
    if dtype.kind in "biuf":
        if dtype.isnative:
            return array
        require(array.nbytes, f"{where}: {name} in this machine's byte order", max_memory)
        return array.astype(dtype.newbyteorder("="))
    if dtype == np.dtype("V2"):
        if as_dtype == "float16":
            return np.ascontiguousarray(array).view("<f2")
        if as_dtype == "bfloat16":
            require(2 * array.nbytes, f"{where}: {name} as float32", max_memory)
            return widen_bfloat16(array)
        raise DtypeError(
            f"{where}: {name} is raw two-byte elements (V2)",
            hint="it looks like bfloat16: pass --as-dtype bfloat16",
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
    count, first = 0, array.size
    # A view of every contiguous array, mapped ones included: walked through as it lies there.
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = array.reshape(-1, order="F" if fortran else "C")
    for start in range(0, flat.size, _CHECKED_AT_ONCE):
        part = flat[start : start + _CHECKED_AT_ONCE]
        good = np.isfinite(part)
        if minus_inf:
            good |= part == -np.inf
        if not good.all():
            places = np.flatnonzero(~good)
            count += places.size
            if fortran:  # what comes first is meant as the axes are read
                places = np.ravel_multi_index(
                    np.unravel_index(start + places, array.shape, order="F"), array.shape
                ) - start  # fmt: skip
            first = min(first, start + int(places.min()))
    if count:
        index = tuple(int(i) for i in np.unravel_index(first, array.shape))
        value = array[index]
        raise DataError(
            f"{where}: {name} holds {count} non-finite "
            f"{'value' if count == 1 else 'values'}, the first ({value}) at {list(index)}",
            hint="--allow-nonfinite computes with them all the same",
        )
