"""Judging a gradient by derivatives that are noisy, or not there at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.places import count_along_axes, patterns, places
from attncli.checking.derivatives.gradcheck import SHARE_OF_LARGEST, relative_errors
from attncli.checking.derivatives.jacobians import slopes
from attncli.checking.derivatives.precision import EPSILON
from attncli.reports import GradientElement, InputCheck
from attncli.tensors import axes_of

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


class Moved(NamedTuple):
    """A way to evaluate forward, the array that may be moved, and how precise what comes out is."""

    evaluate: Callable[[], Array]
    point: Array
    precision: str


def share_for(precision: str) -> float:
    """Give the share of a tensor's largest element that errors are relative to at least."""
    # Of numbers with three digits, small elements are noise altogether.
    return 1.0 if EPSILON[precision] > EPSILON["float32"] else SHARE_OF_LARGEST


def noise(first: Array, second: Array, share: float) -> float:
    """Say how far off derivatives may be that are differences of rounded numbers.

    Not by the largest: a kink within the step makes a few elements differ by as much as it likes.
    """
    apart = relative_errors(second, first, share)
    apart = apart[apart > 0]  # what an input has no influence on says nothing
    return _NOISE_FACTOR * float(np.quantile(apart, _NOISE_SHARE)) if apart.size else 0.0


def find_kinks(
    moved: Moved,
    gradient: Array,
    derivative: Array,
    dout: Array,
    tolerance: float,
    share: float,
) -> Array:
    """Find the wrong elements at which forward has a kink: other slopes to the left and right.

    A smooth function's slopes come together as the step shrinks, but for rounding, which grows;
    at a kink they do not.
    """
    kinks = np.zeros(gradient.shape, bool)
    size = max(float(np.abs(derivative).max(initial=0)), 1e-3)
    wrong = np.argwhere(relative_errors(gradient, derivative, share) > tolerance)
    point, epsilon = moved.point, EPSILON[moved.precision]
    step = epsilon ** (1 / 3)
    least = size * max(_KINK, 4 * epsilon / step)  # slopes are rounded, too
    cotangent = dout.astype(np.float64)
    for index in map(tuple, wrong[:_KINKS_SOUGHT].tolist()):
        h = step * max(1.0, abs(float(point[index])))
        gaps, narrow = [], h / 8
        for width in (h, narrow):
            left, right, changing = slopes(moved.evaluate, point, index, width, cotangent)
            gaps.append(abs(right - left))
        rounding = _ROUNDING * epsilon * changing / narrow
        kinks[index] = gaps[0] > least and gaps[1] > max(0.5 * gaps[0], rounding)
    return kinks


def explained(
    check: InputCheck,
    gradient: Array,
    derivative: Array,
    tolerance: float,
    known: str,
    share: float,
) -> InputCheck:
    """Add where and how a gradient is wrong."""
    errors = relative_errors(gradient, derivative, share)
    order = np.argsort(-errors, axis=None, kind="stable")[:_SHOWN]
    worst = []
    for flat in order.tolist():
        index = tuple(int(i) for i in np.unravel_index(flat, errors.shape))
        if errors[index] > tolerance:
            values = float(gradient[index]), float(derivative[index])
            worst.append(GradientElement(index, *values, float(errors[index])))
    wrong = errors > tolerance
    found = patterns(gradient, derivative)
    if not wrong.all():
        found += places(count_along_axes(wrong), axes_of(known, gradient.ndim))
    return replace(check, worst_elements=tuple(worst), patterns=found, errors=errors)
