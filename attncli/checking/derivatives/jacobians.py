"""Derivatives of all of a result at once: one column of the Jacobian for each input element."""

from collections.abc import Callable

import numpy as np

from attncli.arrays import Array

Evaluate = Callable[[], Array]
Reduce = Callable[[Array], Array]

# Small enough that its square vanishes beside 1 even in exp, large enough not to underflow.
_COMPLEX_STEP = 1e-100


def complex_columns(evaluate: Evaluate, point: Array, reduce: Reduce) -> Array:
    """Differentiate by complex step: exact to rounding.

    Parameters
    ----------
    evaluate : callable
        Runs forward on what is in `point`, and returns a complex array.
    point : complex ndarray
        The input to differentiate with respect to; changed and changed back.
    reduce : callable
        What is kept of each column; linear.

    Returns
    -------
    ndarray, (elements of `point`, *what `reduce` gives*)

    Examples
    --------
    >>> x = np.array([1.0 + 0j, 2.0])
    >>> complex_columns(lambda: x**3, x, np.sum)
    array([ 3., 12.])
    """
    columns = []
    for index in np.ndindex(point.shape):
        original = point[index]
        point[index] = original + 1j * _COMPLEX_STEP
        columns.append(np.asarray(reduce(np.imag(evaluate()))) / _COMPLEX_STEP)
        point[index] = original
    return np.array(columns)


def richardson_columns(evaluate: Evaluate, point: Array, reduce: Reduce, step: float) -> Array:
    """Differentiate by central differences at two steps, extrapolated to step 0.

    With D(h) = (f(x + h) − f(x − h)) / 2h = f' + c h² + O(h⁴), the h² term cancels in
    (4 D(h/2) − D(h)) / 3.

    Parameters
    ----------
    evaluate : callable
        Runs forward on what is in `point`.
    point : ndarray
        The array to differentiate with respect to; changed and changed back.
    reduce : callable
        What is kept of each column.
    step : float
        As `attncli.checking.derivatives.precision.step_for` gives; multiplied by |x| where that
        is above 1.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> richardson_columns(lambda: x**3, x, np.sum, 1e-3).round(9)
    array([ 3., 12.])
    """
    columns = []
    for index in np.ndindex(point.shape):
        h = step * max(1.0, abs(float(point[index])))
        wide = central_quotient(evaluate, point, index, h)
        narrow = central_quotient(evaluate, point, index, h / 2)
        columns.append(reduce((4 * narrow - wide) / 3))
    return np.array(columns)


def central_quotient(
    evaluate: Evaluate, point: Array, index: tuple[int, ...], step: float
) -> Array:
    """Return (f(x + h) − f(x − h)) / 2h in one element; h as it is after rounding."""
    original = point[index]
    above = _moved(evaluate, point, index, original + step)
    high = point[index]
    below = _moved(evaluate, point, index, original - step)
    span = float(high) - float(point[index])
    point[index] = original
    return (above - below) / span


def slopes(
    evaluate: Evaluate, point: Array, index: tuple[int, ...], step: float, cotangent: Array
) -> tuple[float, float, float]:
    """Return the slopes of Σ cotangent ⊙ f to the left and to the right of one element.

    And how large the numbers are that the step changes, whose rounding makes slopes uncertain.
    """
    original = point[index]
    here = np.asarray(evaluate(), np.float64)
    above = _moved(evaluate, point, index, original + step)
    span = float(point[index]) - float(original)
    right = float(np.vdot(cotangent, above - here)) / span
    below = _moved(evaluate, point, index, original - step)
    span = float(original) - float(point[index])
    left = float(np.vdot(cotangent, here - below)) / span
    point[index] = original
    changed = (above != here) | (below != here)
    return left, right, float(np.linalg.norm((cotangent * here)[changed]))


def _moved(evaluate: Evaluate, point: Array, index: tuple[int, ...], value: Array) -> Array:
    point[index] = value
    return np.asarray(evaluate(), np.float64)
