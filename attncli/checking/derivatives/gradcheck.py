"""Check a backward pass against derivatives of its forward, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np

from attncli.arrays import Array, Floats
from attncli.checking.derivatives.gradients import central_differences, complex_step
from attncli.errors import ParameterError, ShapeError
from attncli.operations import OPERATIONS, Execution, Operation, reference_function, run
from attncli.reports import GradcheckReport, InputCheck, Method
from attncli.tensors import random_tensor

METHODS: Mapping[Method, Callable[..., Floats]] = {
    "complex": complex_step,
    "central": central_differences,
}
TOLERANCES: Mapping[Method, float] = {"complex": 1e-12, "central": 1e-6}
"""The largest relative error that passes, unless another is asked for."""

_REFERENCE = Execution("reference")
# Tiles small enough that several are merged even on small tensors.
_CORE = (Execution("direct"), Execution("tiled", tile=(2, 3)))

# An element is measured against its own size, but never against less than this share of the
# tensor's largest, nor less than this number: what is left there is rounding, not gradient.
SHARE_OF_LARGEST = 0.01
_SMALLEST_SCALE = 0.01


def gradcheck(
    operations: Sequence[Operation] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    method: Method = "complex",
    tolerance: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GradcheckReport:
    """Check the backward pass of operations on random float64 tensors.

    Every element of every input, under a random ``dout``.

    Parameters
    ----------
    operations : sequence of Operation, optional
        Default: the layers of `attncli.layers` and the core's engines beside them.
    sizes : mapping of str to int, optional
        N, T_dec, T_enc and H; default 3, 5, 7 and 4: all different, so that swapped axes show.
    method : {"complex", "central"}
        How derivatives are taken; see `attncli.checking.derivatives`.
    tolerance : float, optional
        The largest relative error that passes; default 1e-12 (complex) or 1e-6 (central).
    seed : int, default 0
        Of the random tensors.
    progress : callable, optional
        Called with the number of elements that are done and that there are.

    Returns
    -------
    GradcheckReport
        A right backward pass has relative errors of about 1e-15 (complex) or 1e-9 (central).

    Raises
    ------
    ParameterError
        If the tolerance is not positive.

    Examples
    --------
    >>> report = gradcheck([OPERATIONS["time-attention"]])
    >>> report.passed, report.worst.relative_error < 1e-13
    (True, True)
    """
    if tolerance is None:
        tolerance = TOLERANCES[method]
    if not tolerance > 0:
        raise ParameterError(f"the tolerance is {tolerance}, expected more than 0")
    sizes = sizes or {"N": 3, "T_dec": 5, "T_enc": 7, "H": 4}
    sizes = {**sizes, "H_v": sizes["H"] + 2}  # other than H, so that mixing them up shows
    drawn = [
        (
            operation,
            {
                name: random_tensor(name, shape, seed=seed)
                for name, shape in operation.shapes(sizes).items()
            },
        )
        for operation in operations or tuple(OPERATIONS.values())
    ]
    counter = count(1)
    total = sum(x.size for _, inputs in drawn for x in inputs.values())

    def stepped() -> None:
        progress(next(counter), total)

    checks: list[InputCheck] = []
    for operation, inputs in drawn:
        checks += _check(operation, inputs, method, tolerance, seed, stepped)
    return GradcheckReport(method, tolerance, seed, tuple(checks))


def _check(
    operation: Operation,
    inputs: Mapping[str, Array],
    method: Method,
    tolerance: float,
    seed: int,
    stepped: Callable[[], None],
) -> list[InputCheck]:
    """Check every engine of an operation against the same derivatives of the reference."""
    engines = _CORE if operation.is_whole else ()
    passes = [run(operation, inputs, execution=engine) for engine in (_REFERENCE, *engines)]
    dout = random_tensor("dout", passes[0].results[operation.result].shape, seed=seed)
    gradients = [one.backward(dout) for one in passes]

    arrays = [inputs[name] for name in operation.inputs]
    checks = []
    for which, name in enumerate(operation.inputs):
        derivative = METHODS[method](
            reference_function(operation), arrays, which, dout, stepped=stepped
        )
        checks += [
            compare_gradient(
                operation.name, name, gradient[f"d{name}"], derivative, tolerance, one.engine
            )
            for one, gradient in zip(passes, gradients, strict=True)
        ]
    return sorted(checks, key=lambda check: [one.engine for one in passes].index(check.engine))


def compare_gradient(
    layer: str,
    name: str,
    backward: Array,
    derivative: Array,
    tolerance: float,
    engine: str = "reference",
    share: float = SHARE_OF_LARGEST,
) -> InputCheck:
    """Compare the gradient that a backward pass gave with the derivative of its forward.

    An element's error is relative to its size, but to no less than a `share` of the largest.

    Raises
    ------
    ShapeError
        If the gradient does not have the shape of the input.

    Examples
    --------
    >>> check = compare_gradient("mine", "x", np.array([1.0, 2.5]), np.array([1.0, 2.0]), 1e-9)
    >>> check.passed, check.worst, check.relative_error
    (False, (1,), 0.25)
    """
    if backward.shape != derivative.shape:
        raise ShapeError(
            f"{layer}: d{name} is {backward.shape}, expected the shape of {name}, "
            f"{derivative.shape}"
        )
    if derivative.size == 0:
        return InputCheck(layer, engine, name, 0, 0.0, 0.0, (), 0.0, 0.0, True, tolerance=tolerance)
    error = np.abs(backward - derivative)
    relative = relative_errors(backward, derivative, share)
    worst = np.unravel_index(int(relative.argmax()), relative.shape)
    return InputCheck(
        layer=layer,
        engine=engine,
        input=name,
        elements=derivative.size,
        absolute_error=float(error.max()),
        relative_error=float(relative.max()),
        worst=tuple(int(i) for i in worst),
        backward=float(backward[worst]),
        derivative=float(derivative[worst]),
        passed=bool(relative.max() <= tolerance),
        tolerance=tolerance,
    )


def relative_errors(backward: Array, derivative: Array, share: float = SHARE_OF_LARGEST) -> Array:
    """Give the relative error of every element, as `compare_gradient` measures it.

    Examples
    --------
    >>> relative_errors(np.array([1.0, np.nan]), np.array([2.0, 0.0]))
    array([0.5, inf])
    """
    size = np.abs(derivative)
    least = max(share * float(size.max(initial=0)), _SMALLEST_SCALE)
    relative = np.asarray(np.abs(backward - derivative) / np.maximum(size, least))
    relative[np.isnan(relative)] = np.inf  # NaN is as wrong as can be, and must not compare false
    return relative
