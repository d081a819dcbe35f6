"""Derivatives by evaluating forward alone: complex step and central differences.

Both give the gradient of the number Σ cotangent ⊙ f(inputs), one input element at a time, and
know nothing of any backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from attncli.arrays import Array, Floats
from attncli.checking.derivatives.jacobians import complex_columns

Function = Callable[..., Array]

# The step with the least error of a central difference: the cube root of the rounding unit.
_CENTRAL_STEP = float(np.cbrt(np.finfo(np.float64).eps))


def complex_step(
    function: Function,
    inputs: Sequence[Array],
    which: int,
    cotangent: Array,
    *,
    stepped: Callable[[], None] = lambda: None,
) -> Floats:
    """Differentiate by a step into the imaginary direction: exact to rounding.

    f(x + ih) = f(x) + ih f'(x) + O(h²), so f'(x) = Im f(x + ih) / h, and no two nearly equal
    numbers are subtracted.  The function must be analytic and accept complex arrays.

    Parameters
    ----------
    function : callable
        Takes arrays, returns one array.
    inputs : sequence of float64 ndarray
        Where to differentiate.
    which : int
        The input to differentiate with respect to.
    cotangent : ndarray
        Of the shape of the result.
    stepped : callable, optional
        Called after every element.

    Returns
    -------
    float64 ndarray of the shape of ``inputs[which]``

    References
    ----------
    Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
    SIAM Review 40 (1998).

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> complex_step(lambda x: x**3, [x], 0, np.ones(2))
    array([ 3., 12.])
    """
    point = inputs[which].astype(np.complex128)

    def reduce(column: Array) -> Array:
        stepped()
        return np.asarray(np.vdot(cotangent, column))

    def evaluate() -> Array:
        return function(*_replaced(inputs, which, point))

    return complex_columns(evaluate, point, reduce).reshape(point.shape)


def central_differences(
    function: Function,
    inputs: Sequence[Array],
    which: int,
    cotangent: Array,
    *,
    stepped: Callable[[], None] = lambda: None,
) -> Floats:
    """Differentiate by (f(x + h) − f(x − h)) / 2h: for code that takes real numbers only.

    The error is about 1e-10 of the values involved; a step of max(1, |x|)·ε^(1/3) makes truncation
    and rounding about equal.

    Parameters
    ----------
    function : callable
        Takes arrays, returns one array.
    inputs : sequence of float64 ndarray
        Where to differentiate.
    which : int
        The input to differentiate with respect to.
    cotangent : ndarray
        Of the shape of the result.
    stepped : callable, optional
        Called after every element.

    Returns
    -------
    float64 ndarray of the shape of ``inputs[which]``

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> central_differences(lambda x: x**3, [x], 0, np.ones(2)).round(8)
    array([ 3., 12.])
    """
    point = inputs[which].astype(np.float64)
    gradient = np.empty(point.shape, np.float64)
    for index in np.ndindex(point.shape):
        original = point[index]
        step = _CENTRAL_STEP * max(1.0, abs(float(original)))
        values = []
        for moved in (original + step, original - step):
            point[index] = moved
            values.append(function(*_replaced(inputs, which, point)))
        # What was really added, after rounding, is what is divided by.
        span = (original + step) - (original - step)
        gradient[index] = np.vdot(cotangent, values[0] - values[1]) / span
        point[index] = original
        stepped()
    return gradient


def _replaced(inputs: Sequence[Array], which: int, point: Array) -> Iterator[Array]:
    return (point if i == which else array for i, array in enumerate(inputs))
