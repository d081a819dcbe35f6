"""Intel's MKL through ctypes: the products of large matrices, where its wheel is installed.

Each is computed by the thread that asks for it, as work is divided over threads here; MKL starts
none, so there is nothing that a fork would lose.
"""

from __future__ import annotations

import csv
import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array

# Numbers in a pair of matrices that are worth a product by MKL: measured, smaller ones take twice
# as long as NumPy's, and a call takes 5 µs.
WORTH = 1 << 20

# What loading comes to.  MKL ends the process where one of these is missing or cut off.
_LOADED = re.compile(r"(lib)?mkl_(rt|core|sequential|intel_lp64|def|mc3|(vml_)?avx\w+|vml_\w+)\.")
_SEQUENTIAL, _ROWS, _AS_IS, _TURNED = 1, 101, 111, 112
_INT = 1 << 31


class Mkl(NamedTuple):
    """The functions of MKL by dtype, and whether it has code of its own for this processor."""

    gemm: Mapping[str, Callable[..., None]]
    gemm_batch: Mapping[str, Callable[..., None]]
    tuned: bool


class _Version(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("major", "minor", "update")),
        *((name, ctypes.c_char_p) for name in ("status", "build", "processor", "platform")),
    )


@lru_cache
def find() -> Path | None:
    """Return where pip wrote down the files of the wheel; None if it is not installed."""
    for folder in sys.path:
        for record in Path(folder).glob("mkl-[0-9]*.dist-info/RECORD"):
            return record
    return None


@lru_cache
def load() -> Mkl:
    """Load MKL.

    Raises
    ------
    OSError
        If it is not installed, or what is there cannot be loaded.
    """
    library = ctypes.CDLL(str(_whole(find())))
    try:
        if library.MKL_Set_Threading_Layer(_SEQUENTIAL) != _SEQUENTIAL:
            raise OSError("other code of this process has loaded it with threads of its own")
        version = _Version()
        library.MKL_Get_Version(ctypes.byref(version))
        one = {char: library[f"cblas_{kind}gemm"] for char, kind in ("fs", "dd")}
        many = {char: library[f"cblas_{kind}gemm_batch"] for char, kind in ("fs", "dd")}
    except AttributeError as error:
        raise OSError(f"it is not the MKL that is known here: {error}") from error
    for char, number in (("f", ctypes.c_float), ("d", ctypes.c_double)):
        matrix: list[Any] = [ctypes.c_void_p, ctypes.c_int]
        one[char].argtypes = [*[ctypes.c_int] * 6, number, *matrix, *matrix, number, *matrix]
        many[char].argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 13, *matrix[::-1]]
    # "Intel(R) Architecture processors" are all others than those it names by what they can do.
    return Mkl(one, many, b"enabled" in version.processor)


def _whole(record: Path | None) -> Path:
    """Return the library, once all that it loads is there as it was installed."""
    if record is None:
        raise OSError("not installed")
    files = {Path(name).name: (record.parent.parent / name, size) for name, size in _files(record)}
    if not (libraries := [name for name in files if re.match(r"(lib)?mkl_rt\.", name)]):
        raise OSError(f"{record} names no library")
    heads = set()
    for path, size in files.values():
        with path.open("rb") as file:
            heads.add(file.read(4))
        if (there := path.stat().st_size) != size:
            raise OSError(f"{path} has {there} bytes, not {size} as installed: it is damaged")
    if len(heads) > 1:
        raise OSError(f"not all of {files[libraries[0]][0].parent} are libraries: some are damaged")
    return files[libraries[0]][0]


def _files(record: Path) -> Iterator[tuple[str, int]]:
    with record.open(encoding="utf-8", newline="") as file:
        for name, _, size in (row[:3] for row in csv.reader(file) if len(row) > 2):
            if _LOADED.match(Path(name).name) and size.isdecimal():
                yield name, int(size)


def matmul(first: Array, second: Array, out: Array | None = None) -> Array:
    """Return the same as `numpy.matmul`, and leave to that what MKL is not made for.

    That is small matrices, other numbers than float32 and float64, rows and columns that both have
    gaps, and results that overlap with what they are made of.
    """
    product = _product(first, second, out)
    return np.matmul(first, second, out=out) if product is None else product


def _product(first: Array, second: Array, out: Array | None) -> Array | None:
    dtype = first.dtype
    if dtype.char not in "fd" or not dtype.isnative or second.dtype != dtype:
        return None
    if first.ndim < 2 or second.ndim < 2 or first.shape[-1] != second.shape[-2]:
        return None
    (m, k), n = first.shape[-2:], second.shape[-1]
    if m * k * n < max(WORTH, 1):
        return None
    lead = first.shape[:-2]
    if lead != second.shape[:-2]:
        lead = np.broadcast_shapes(lead, second.shape[:-2])
    if 0 in lead:
        return None
    if out is None:
        out = np.empty((*lead, m, n), dtype)
    elif (
        out.dtype != dtype
        or out.shape != (*lead, m, n)
        or not out.flags.writeable
        or np.may_share_memory(out, first)
        or np.may_share_memory(out, second)
    ):
        return None
    laid, by, goes = _laid(first), _laid(second), _laid(out)
    if laid is None or by is None or goes is None or max(m, n, k) >= _INT:
        return None
    if goes[0] == _TURNED:
        return None if _product(second.mT, first.mT, out.mT) is None else out
    if lead:
        _batch(first, second, out, lead, laid, by, goes)
        return out
    load().gemm[dtype.char](
        _ROWS, laid[0], by[0], m, n, k,
        1.0, _address(first), laid[1], _address(second), by[1],
        0.0, _address(out), goes[1],
    )  # fmt: skip
    return out


def _laid(x: Array) -> tuple[int, int] | None:
    """Return how matrices lie: by rows or turned, and the numbers from one row to the next."""
    (rows, columns), (by_row, by_column), size = x.shape[-2:], x.strides[-2:], x.itemsize
    if not x.flags.aligned:
        return None
    # Of an axis of one place the stride says nothing.
    for turned, width, count, step, across in (
        (_AS_IS, columns, rows, by_column, by_row),
        (_TURNED, rows, columns, by_row, by_column),
    ):
        across = across if count > 1 else width * size
        along, rest = divmod(across, size)
        if (step == size or width == 1) and not rest and width <= along < _INT:
            return turned, along
    return None


def _batch(
    first: Array,
    second: Array,
    out: Array,
    lead: tuple[int, ...],
    laid: tuple[int, int],
    by: tuple[int, int],
    goes: tuple[int, int],
) -> None:
    """Compute a product for every place of the leading axes, as one group of equals."""
    whole = ctypes.c_int
    number = ctypes.c_float if out.dtype.char == "f" else ctypes.c_double
    (m, n), k = out.shape[-2:], first.shape[-1]
    firsts, seconds, outs = (_addresses(x, lead) for x in (first, second, out))
    one_each: list[Any] = [
        whole(laid[0]), whole(by[0]), whole(m), whole(n), whole(k),
        number(1), firsts, whole(laid[1]), seconds, whole(by[1]),
        number(0), outs, whole(goes[1]),
    ]  # fmt: skip
    given = [_address(x) if isinstance(x, np.ndarray) else ctypes.byref(x) for x in one_each]
    size = whole(len(outs))
    load().gemm_batch[out.dtype.char](_ROWS, *given, 1, ctypes.byref(size))


def _addresses(x: Array, lead: tuple[int, ...]) -> Array:
    """Return where the matrix of every place of the leading axes begins."""
    place = np.array(_address(x), np.intp)
    for size, stride in zip(lead, np.broadcast_to(x, (*lead, *x.shape[-2:])).strides, strict=False):
        place = place[..., None] + np.arange(size, dtype=np.intp) * stride
    return np.ascontiguousarray(place.ravel())


def _address(x: Array) -> Any:
    return x.__array_interface__["data"][0]
