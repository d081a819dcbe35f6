"""Judging a gradient by derivatives of forward, which may be noisy, or not there at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, errors, near, outside
from attncli.checking.comparing.places import count_along_axes, patterns, places
from attncli.checking.derivatives.jacobians import complex_columns, richardson_columns, slopes
from attncli.checking.derivatives.precision import EPSILON, step_for
from attncli.errors import ShapeError
from attncli.reports import GradientElement, InputCheck
from attncli.tensors import axes_of

# An element is measured against its own size, but never against less than this share of the
# tensor's largest, nor less than this number: what is left there is rounding, not gradient.
_SHARE_OF_LARGEST = 0.01
_SMALLEST_SCALE = 0.01
# Of single elements of the Jacobian, where nothing averages out.
_JACOBIAN_LEAST = 1e-2
# Below float64, what passes is measured: so many times as much as the derivatives at two steps are
# apart in nine elements of ten.
_NOISE_FACTOR = 4.0
_NOISE_SHARE = 0.9
# Left and right slope differ by at least this share of the largest gradient at a kink.
_KINK = 1e-3
# So many times as much as one number is rounded by, slopes between several may be off.
_ROUNDING = 8.0
_KINKS_SOUGHT = 300
_SHOWN = 5


def gradient_tolerance(relative: float, precision: str = "float64") -> Tolerance:
    """Say how far a gradient may be from the derivative, where that has this precision."""
    # Of numbers with three digits, small elements are noise altogether.
    coarse = EPSILON[precision] > EPSILON["float32"]
    return Tolerance(relative, share=1.0 if coarse else _SHARE_OF_LARGEST, least=_SMALLEST_SCALE)


class Moved(NamedTuple):
    """A way to evaluate forward, the array that may be moved, and how precise what comes out is."""

    evaluate: Callable[[], Array]
    point: Array
    precision: str


@dataclass(frozen=True)
class Derivative:
    """The derivative of forward with respect to one array.

    Attributes
    ----------
    columns : ndarray
        The Jacobian (elements of the array, elements of out), or its product with dout.
    again : ndarray or None
        The same by differences at another step, where that tells how noisy they are.
    dout : ndarray
    moved : Moved
        What is differentiated, by real numbers.
    """

    columns: Array
    again: Array | None
    dout: Array
    moved: Moved

    @property
    def jacobian(self) -> Array | None:
        """The Jacobian, where it is there."""
        return self.columns if self.columns.ndim == 2 else None

    @property
    def gradient(self) -> Array:
        """What backward should give for dout."""
        return self._times_dout(self.columns)

    @property
    def gradient_again(self) -> Array | None:
        """The same at another step."""
        return None if self.again is None else self._times_dout(self.again)

    def _times_dout(self, columns: Array) -> Array:
        product = columns @ self.dout.ravel() if columns.ndim == 2 else columns
        return product.reshape(self.moved.point.shape)


def differentiate(
    moved: Moved,
    dout: Array,
    *,
    analytic: Moved | None = None,
    whole: bool = False,
    stepped: Callable[[], None] = lambda: None,
) -> Derivative:
    """Differentiate forward with respect to one array.

    Parameters
    ----------
    moved : Moved
        What is differentiated; below float64 at two steps, which tells how noisy differences are.
    dout : ndarray
    analytic : Moved, optional
        The same by complex numbers, where that can be trusted.
    whole : bool, default False
        Whether all of the Jacobian is kept.
    stepped : callable, optional
        Called after every element.

    Examples
    --------
    >>> x = np.array([1.0, 2.0])
    >>> found = differentiate(Moved(lambda: x**3, x, "float64"), np.ones(2))
    >>> found.gradient.round(9), found.jacobian
    (array([ 3., 12.]), None)
    """
    cotangent = dout.astype(np.float64)

    def keep(column: Array) -> Array:
        flat = np.asarray(column, np.float64).ravel()
        return flat if whole else np.asarray(cotangent.ravel() @ flat)

    def keep_and_tell(column: Array) -> Array:
        stepped()
        return keep(column)

    if analytic is not None:
        columns = complex_columns(analytic.evaluate, analytic.point, keep_and_tell)
        return Derivative(columns, None, cotangent, moved)
    step = step_for(moved.precision)
    columns = richardson_columns(moved.evaluate, moved.point, keep_and_tell, step)
    again = None
    if moved.precision != "float64":
        again = richardson_columns(moved.evaluate, moved.point, keep, step / 2)
    return Derivative(columns, again, cotangent, moved)


class Judge(NamedTuple):
    """Who judges the gradients of one layer as one engine gives them.

    Attributes
    ----------
    layer, engine : str
    relative : float
        The largest relative error that passes.
    measured : bool
        Whether more passes where derivatives are noisier.
    """

    layer: str
    engine: str
    relative: float
    measured: bool = False

    def judge(
        self, name: str, known: str, gradient: Array, derivative: Derivative, rows: Array | None
    ) -> tuple[InputCheck, bool]:
        """Hold the gradient with respect to one array against the derivative.

        Parameters
        ----------
        name, known : str
            The array's name, and what we call it.
        gradient : ndarray
            As backward gave it.
        derivative : Derivative
        rows : ndarray or None
            What backward makes of each unit vector: the Jacobian, turned.

        Returns
        -------
        InputCheck
        bool
            Whether all of the Jacobian is right wherever the gradient is.
        """
        gradient = np.asarray(gradient, np.float64)
        right, again, moved = derivative.gradient, derivative.gradient_again, derivative.moved
        tolerance = gradient_tolerance(self.relative, moved.precision)
        coarse, unsteady = tolerance, np.zeros(gradient.shape, bool)
        if again is not None:
            if self.measured:
                assert derivative.again is not None
                each = _noise(derivative.columns, derivative.again, tolerance)
                coarse = replace(tolerance, relative=max(_JACOBIAN_LEAST, each))
                most = max(self.relative, _noise(right, again, tolerance))
                tolerance = replace(tolerance, relative=most)
            # Where the two steps disagree by more, a kink lies within the step.
            apart = errors(right, again, tolerance)
            off = errors(gradient, right, tolerance)
            unsteady = (apart > tolerance.relative) & (off <= 2 * apart)

        check = compare_gradient(self.layer, name, gradient, right, tolerance, self.engine)
        kinks = np.zeros(gradient.shape, bool)
        if not check.passed:
            kinks = unsteady | _find_kinks(moved, gradient, right, derivative.dout, tolerance)
            if kinks.any():
                gradient = np.where(kinks, right, gradient)
                check = compare_gradient(self.layer, name, gradient, right, tolerance, self.engine)
        check = replace(check, not_differentiable=int(kinks.sum()))
        linear, jacobian = True, derivative.jacobian
        if jacobian is not None and rows is not None and rows.shape == jacobian.T.shape:
            keep = ~kinks.ravel()
            found = near(rows[:, keep], jacobian.T[:, keep], coarse)
            check = replace(check, jacobian_error=found.relative)
            linear = found.agrees or not check.passed
        if not check.passed:
            check = _explained(check, gradient, right, tolerance, known)
        return check, linear


def compare_gradient(
    layer: str,
    name: str,
    backward: Array,
    derivative: Array,
    tolerance: Tolerance,
    engine: str = "reference",
) -> InputCheck:
    """Compare the gradient that a backward pass gave with the derivative of its forward.

    Raises
    ------
    ShapeError
        If the gradient does not have the shape of the input.

    Examples
    --------
    >>> backward, derivative = np.array([1.0, 2.5]), np.array([1.0, 2.0])
    >>> check = compare_gradient("mine", "x", backward, derivative, gradient_tolerance(1e-9))
    >>> check.passed, check.worst, check.relative_error
    (False, (1,), 0.25)
    """
    if backward.shape != derivative.shape:
        raise ShapeError(
            f"{layer}: d{name} is {backward.shape}, expected the shape of {name}, "
            f"{derivative.shape}"
        )
    found = near(backward, derivative, tolerance)
    empty = derivative.size == 0
    return InputCheck(
        layer=layer,
        engine=engine,
        input=name,
        elements=derivative.size,
        absolute_error=found.absolute,
        relative_error=found.relative,
        worst=() if empty else found.worst,
        backward=0.0 if empty else float(backward[found.worst]),
        derivative=0.0 if empty else float(derivative[found.worst]),
        passed=found.agrees,
        tolerance=tolerance.relative,
    )


def _noise(first: Array, second: Array, tolerance: Tolerance) -> float:
    """Say how far off derivatives may be that are differences of rounded numbers.

    Not by the largest: a kink within the step makes a few elements differ by as much as it likes.
    """
    apart = errors(second, first, tolerance)
    apart = apart[apart > 0]  # what an input has no influence on says nothing
    return _NOISE_FACTOR * float(np.quantile(apart, _NOISE_SHARE)) if apart.size else 0.0


def _find_kinks(
    moved: Moved, gradient: Array, derivative: Array, dout: Array, tolerance: Tolerance
) -> Array:
    """Find the wrong elements at which forward has a kink: other slopes to the left and right.

    A smooth function's slopes come together as the step shrinks, but for rounding, which grows;
    at a kink they do not.
    """
    kinks = np.zeros(gradient.shape, bool)
    size = max(float(np.abs(derivative).max(initial=0)), 1e-3)
    wrong = np.argwhere(outside(gradient, derivative, tolerance))
    point, epsilon = moved.point, EPSILON[moved.precision]
    step = epsilon ** (1 / 3)
    least = size * max(_KINK, 4 * epsilon / step)  # slopes are rounded, too
    for index in map(tuple, wrong[:_KINKS_SOUGHT].tolist()):
        h = step * max(1.0, abs(float(point[index])))
        gaps, narrow = [], h / 8
        for width in (h, narrow):
            left, right, changing = slopes(moved.evaluate, point, index, width, dout)
            gaps.append(abs(right - left))
        rounding = _ROUNDING * epsilon * changing / narrow
        kinks[index] = gaps[0] > least and gaps[1] > max(0.5 * gaps[0], rounding)
    return kinks


def _explained(
    check: InputCheck, gradient: Array, derivative: Array, tolerance: Tolerance, known: str
) -> InputCheck:
    """Add where and how a gradient is wrong."""
    off, wrong = errors(gradient, derivative, tolerance), outside(gradient, derivative, tolerance)
    order = np.argsort(-off, axis=None, kind="stable")[:_SHOWN]
    worst = []
    for flat in order.tolist():
        index = tuple(int(i) for i in np.unravel_index(flat, off.shape))
        if wrong[index]:
            values = float(gradient[index]), float(derivative[index])
            worst.append(GradientElement(index, *values, float(off[index])))
    found = patterns(gradient, derivative)
    if not wrong.all():
        found += places(count_along_axes(wrong), axes_of(known, gradient.ndim))
    return replace(check, worst_elements=tuple(worst), patterns=found, errors=off)
