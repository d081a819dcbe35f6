"""The one place in the core that multiplies matrices, so that who multiplies is chosen here alone.

That is NumPy, with the BLAS that it came with; or Intel's MKL, where that is installed and asked
for, or known to be the faster.  Small products are NumPy's always.  The definition of correct
(`attncli.layers`) stays with the array API standard.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from attncli.arrays import Array
from attncli.core import mkl
from attncli.errors import ParameterError

BLAS = ("auto", "numpy", "mkl")

# Multiplications in all from where a call of MKL, 5 µs, is less than what it may save.
LARGE = 1 << 22

_asked: str | None = None
_why_not = ""


def choose(blas: str | None) -> None:
    """Say who multiplies from here on.

    Parameters
    ----------
    blas : {"auto", "numpy", "mkl"} or None
        ``"auto"`` is MKL where it is installed, can be loaded and has code of its own for this
        processor, and NumPy's BLAS is held to one thread as it is itself.  None: what
        ``ATTN_BLAS`` says, else ``"auto"``; so it is too when the first product comes before this.

    Raises
    ------
    ParameterError
        If MKL is asked for by name and is not installed or cannot be loaded; or if ``ATTN_BLAS``
        is none of these.

    Examples
    --------
    >>> choose("numpy")
    >>> told()
    'numpy'
    >>> choose(None)
    """
    global _asked
    _asked = blas
    _decide()


def told() -> str:
    """Say who multiplies, and why MKL does not where it is installed."""
    if matmul is _at_first:
        _decide()
    return "mkl" if matmul is _by_size else f"numpy{_why_not and f' ({_why_not})'}"


def _at_first(first: Array, second: Array, out: Array | None = None) -> Array:
    _decide()
    return matmul(first, second, out=out)


def _until_large(first: Array, second: Array, out: Array | None = None) -> Array:
    if first.size * second.shape[-1] >= LARGE:
        _settle()
        return matmul(first, second, out=out)
    product: Array = np.matmul(first, second, out=out)
    return product


def _by_size(first: Array, second: Array, out: Array | None = None) -> Array:
    if first.size * second.shape[-1] >= LARGE:
        return mkl.matmul(first, second, out)
    product: Array = np.matmul(first, second, out=out)
    return product


# The product of matrices on the last two axes: ``matmul(first, second, out=None)``.
matmul: Callable[..., Array] = _at_first


def _use(multiply: Callable[..., Array], why_not: str = "") -> None:
    global matmul, _why_not
    matmul, _why_not = multiply, why_not


def _decide() -> None:
    """Go by what is asked for; in doubt whether MKL is, load nothing yet."""
    asked = _asked or os.environ.get("ATTN_BLAS") or "auto"
    if asked not in BLAS:
        says = f"ATTN_BLAS is {asked!r}, expected {', '.join(BLAS[:-1])} or {BLAS[-1]}"
        raise ParameterError(says, hint="ATTN_BLAS=auto")
    if asked == "mkl":
        if mkl.find() is None:
            says = "mkl, which is to multiply, is not installed"
            raise ParameterError(says, hint="pip install 'attncli[mkl]'")
        try:
            mkl.load()
        except OSError as error:
            says = f"mkl, which is to multiply, cannot be loaded: {error}"
            hint = "--blas numpy" if _asked else "ATTN_BLAS=numpy"
            raise ParameterError(says, hint=hint) from error
        _use(_by_size)
    elif asked == "numpy" or mkl.find() is None:
        _use(np.matmul)
    elif not _one_thread():
        _use(np.matmul, "mkl only where OPENBLAS_NUM_THREADS=1 holds this to one thread too")
    else:
        _use(_until_large, "mkl is for larger products")


def _settle() -> None:
    """Look whether MKL is good for large products."""
    try:
        loaded = mkl.load()
    except OSError as error:
        _use(np.matmul, f"mkl cannot be loaded: {error}")
        return
    if loaded.tuned:
        _use(_by_size)
    else:
        _use(np.matmul, "mkl has no code of its own for this processor")


def _one_thread() -> bool:
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return (threads or str(os.cpu_count())) == "1"


# The products of rows with rows of the same numbers: ``vecdot(first, second)``, (…, n) to (…).
vecdot = np.vecdot


def row_sums(x: Array) -> Array:
    """Return the sums over the last axis, by a product: it is the faster way.

    Examples
    --------
    >>> row_sums(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    sums: Array = np.matmul(x, np.ones(x.shape[-1], x.dtype))
    return sums


def weighted_sums(weights: Array, x: Array) -> Array:
    """Add up the rows of x (…, T, H), each with its weight (T,): the same bits on any threads.

    Examples
    --------
    >>> weighted_sums(np.array([1.0, 10.0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([31., 42.])
    """
    sums: Array = np.einsum("t,...th->...h", weights, x)
    return sums


def sum_of_squares(x: Array) -> float:
    """Return one number that is not finite if any of `x` is not: no sum is had for less.

    Examples
    --------
    >>> sum_of_squares(np.array([3.0, 4.0])), sum_of_squares(np.array([3.0, np.nan]))
    (25.0, nan)
    """
    return float(np.vdot(x, x))
