"""Check the gradients of somebody's own layer against derivatives of its own forward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal, cast

import numpy as np

from attncli.arrays import Array
from attncli.checking.derivatives.gradcheck import compare_gradient, relative_errors
from attncli.checking.derivatives.gradcheck import gradcheck as gradcheck_ours
from attncli.checking.derivatives.jacobians import complex_columns, richardson_columns
from attncli.checking.derivatives.judging import Moved, explained, find_kinks, noise, share_for
from attncli.checking.derivatives.precision import EPSILON, coarser, precision_of, step_for
from attncli.checking.targets.loading import target_of
from attncli.checking.targets.target import (
    Layer,
    Shapes,
    Target,
    as_gradients,
    how_many,
    kind_of,
    real_array,
    same,
)
from attncli.checking.targets.unfilled import describe_unfilled
from attncli.errors import ParameterError, TargetError
from attncli.reports import GradcheckReport, InputCheck, Method
from attncli.tensors import random_tensor

SIZES: Mapping[str, int] = {"N": 3, "T_dec": 5, "T_enc": 7, "H": 4}
"""All different, so that a swapped axis shows."""

_TOLERANCES = {"complex": 1e-9, "central": 1e-6}
# Where what passes is measured, it is no less than what sums of float32 numbers lose in backward.
_FLOAT32_LEAST = 1e-3
# Of single elements of the Jacobian, where nothing averages out.
_JACOBIAN_LEAST = 1e-2
_HEADS = 2
_ENGINE = "own"  # theirs, beside the names of ours
# Of a larger result, the Jacobian is not checked row by row: backward runs once for each.
_JACOBIAN_ROWS = 128
_JACOBIAN_ELEMENTS = 1 << 20
# How far complex step and central differences may be apart to say the same.
_AGREEMENT = 1e-5


def gradcheck(
    thing: Any = None,
    *,
    sizes: Mapping[str, int] | None = None,
    shapes: Shapes | None = None,
    method: Literal["auto", "complex", "central"] = "auto",
    tolerance: float | None = None,
    seed: int = 0,
    dtype: str = "float64",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GradcheckReport:
    """Check the backward pass of a layer against derivatives of its forward.

    Parameters
    ----------
    thing : class, instance, pair of functions, or str, optional
        ``"file.py:Name"`` or ``"package.module:Name"`` names one in a file.  Default: the layers
        of this package and the engines of its core.
    sizes : mapping of str to int, optional
        N, T_dec, T_enc and H.
    shapes : mapping of str to tuple of int, optional
        The shapes of inputs, or of arrays for the constructor, whose names do not say them.
    method : {"auto", "complex", "central"}
        Auto: complex step where the code survives it, else central differences.
    tolerance : float, optional
        The largest relative error that passes.
    seed : int, default 0
    dtype : {"float64", "float32"}
        Of the inputs.
    progress : callable, optional
        Called with the number of input elements that are done and that there are.

    Returns
    -------
    GradcheckReport

    Raises
    ------
    TargetError
        If it cannot be loaded or called.
    """
    if thing is None:
        return gradcheck_ours(
            sizes={**SIZES, **(sizes or {})},
            method="complex" if method == "auto" else method,
            tolerance=tolerance,
            seed=seed,
            progress=progress,
        )
    target = target_of(thing)
    sizes = {**SIZES, **(sizes or {})}
    given = dict(shapes or {})
    with np.errstate(all="ignore"):  # their numbers may be anything
        try:
            return _Check(target, sizes, given, seed, dtype, progress).report(method, tolerance)
        except TargetError as refused:
            heads = _with_heads(target, sizes)
            if not heads or heads.keys() & given.keys():
                raise
            try:
                check = _Check(target, sizes, {**given, **heads}, seed, dtype, progress)
                check.notes.append(f"the code takes no arrays of three axes: {_HEADS} heads")
                return check.report(method, tolerance)
            except TargetError:
                if refused.hint is None:
                    refused.hint = "--input NAME=3,2,5,4 gives an input another shape"
                raise refused from None


def _with_heads(target: Target, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes with an axis for heads, for a layer of query, key and value; else empty."""
    known = [target.known_as(name) for name in target.inputs]
    if sorted(map(str, known)) != ["key", "query", "value"]:
        return {}
    shapes = target.shapes(sizes)
    return {name: (shape[0], _HEADS, *shape[1:]) for name, shape in shapes.items()}


class _Check:
    """One target, its inputs, and the instance that everything is evaluated on."""

    def __init__(
        self,
        target: Target,
        sizes: Mapping[str, int],
        given: Shapes,
        seed: int,
        dtype: str,
        progress: Callable[[int, int], None],
    ) -> None:
        self.target, self.sizes, self.given, self.seed = target, sizes, given, seed
        self.shapes = target.shapes(sizes, given)
        self.dtype = dtype
        self.inputs = target.draw(self.shapes, seed, dtype)
        self.layer = self._start()
        self.parameters = [parameter.copy() for parameter in self.layer.parameters]
        elements = sum(array.size for array in (*self.inputs, *self.parameters))
        done = count(1)

        def stepped() -> None:
            progress(next(done), elements)

        self.stepped = stepped
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.measured = False  # whether tolerances follow the noise in float32

    def report(self, method: str, tolerance: float | None) -> GradcheckReport:
        if tolerance is not None and not tolerance > 0:
            raise ParameterError(f"the tolerance is {tolerance}, expected more than 0")
        out = self._output(self._first_forward())
        dout = random_tensor("dout", out.shape, seed=self.seed, dtype=out.dtype)
        gradients = self._gradients(self.layer.backward(dout.copy()))
        parameter_gradients = [gradient.copy() for gradient in self.layer.gradients]
        self._compare_calls(out, dout, gradients, parameter_gradients)

        computed = self._computed_in()
        chosen = self._choose(method, computed)
        self.measured = tolerance is None and computed != "float64"
        if tolerance is None:
            tolerance = _FLOAT32_LEAST if self.measured else _TOLERANCES[chosen]
        rows = self._backward_rows(out) if out.size <= _JACOBIAN_ROWS else None
        checks = []
        for which, name in enumerate(self.target.inputs):
            gradient = gradients[which] if which < len(gradients) else None
            if gradient is None or not self._fits(f"d{name}", gradient, self.shapes[name]):
                continue
            columns, again = self._columns(which, chosen, computed, dout, whole=rows is not None)
            row = rows[which] if rows is not None else None
            moved = self._real(which, computed)
            checks.append(self._judge(name, gradient, columns, again, dout, tolerance, row, moved))
        if self.measured:
            self._note_tolerances(checks, computed)
        checks += self._check_parameters(parameter_gradients, dout, tolerance, computed)
        return GradcheckReport(
            cast(Method, chosen),
            max([tolerance, *(check.tolerance for check in checks)]),
            self.seed,
            tuple(checks),
            target=self.target.where,
            dtype=computed,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    # What the target gives.

    def _start(self) -> Layer:
        return self.target.start(self.sizes, self.given, self.seed)

    def _fresh(self) -> Layer:
        """Another instance, with the first one's parameters: a constructor may draw them."""
        layer = self._start()
        for theirs, ours in zip(layer.parameters, self.parameters, strict=False):
            if theirs.shape == ours.shape and theirs.flags.writeable:
                theirs[...] = ours
        return layer

    def _first_forward(self) -> Any:
        """Run forward; where it refuses float64, everything goes on in float32."""
        try:
            return self._forward(self.layer, self.inputs)
        except TargetError as refused:
            if self.dtype != "float64":
                raise
            narrow = [array.astype(np.float32) for array in self.inputs]
            self.layer = self._fresh()
            try:
                result = self._forward(self.layer, narrow)
            except TargetError:
                raise refused from None
            self.dtype, self.inputs = "float32", narrow
            self.notes.append(
                "the code does not take float64: inputs are float32, and derivatives are "
                "differences of float32 numbers"
            )
            return result

    def _forward(self, layer: Layer, inputs: Sequence[Array]) -> Any:
        # A seed, so that what is random in it (dropout) stays the same from call to call.
        np.random.seed(self.seed % 2**32)  # noqa: NPY002 (it is their code that uses it)
        return layer.forward(*(array.copy() for array in inputs))  # it may change them

    def _output(self, result: Any) -> Array:
        out = real_array(result)
        if out is None:
            raise TargetError(
                f"{self.target.where}: forward returns {kind_of(result)}, expected one array",
                hint="is there a return?" if result is None else None,
            )
        # A copy: backward may use the same memory.
        return out.astype(np.float64) if out.dtype.kind in "biu" else np.array(out)

    def _gradients(self, result: Any) -> list[Array | None]:
        number = len(self.target.inputs)
        given = as_gradients(result, number)
        names = ", ".join(f"d{name}" for name in self.target.inputs)
        if result is None:
            self.problems.append(f"backward returns None, expected {names}")
            return [None] * number
        if len(given) != number:
            self.problems.append(f"backward returns {how_many(given)}, expected {number}: {names}")
        arrays = [real_array(gradient) for gradient in given[:number]]
        for name, value, array in zip(self.target.inputs, given, arrays, strict=False):
            if array is None:
                self.problems.append(f"d{name} is {kind_of(value)}, expected an array")
        return [None if array is None else np.array(array) for array in arrays]

    def _fits(self, name: str, gradient: Array, shape: tuple[int, ...]) -> bool:
        if gradient.shape == shape:
            return True
        self.problems.append(f"{name} is {gradient.shape}, expected {shape} as the input is")
        return False

    def _compare_calls(
        self,
        out: Array,
        dout: Array,
        gradients: Sequence[Array | None],
        parameter_gradients: Sequence[Array],
    ) -> None:
        """Call it again in several ways that must make no difference."""

        def run() -> list[Any]:
            layer = self._fresh()
            held = np.array(self._forward(layer, self.inputs))
            return [held, *as_gradients(layer.backward(dout.copy()), len(gradients))]

        names = ["out", *(f"d{name}" for name in self.target.inputs)]
        if unfilled := describe_unfilled(run, names):
            self.problems.append(unfilled)
            return
        copies, others = ([array.copy() for array in self.inputs] for _ in range(2))
        again = dout.copy()
        fresh = self._fresh()
        plain = self._output(fresh.forward(*copies))  # without a seed: shows what is random
        if not same(plain, out) or not same(self._fresh().forward(*others), plain):
            self.problems.append(
                "forward is not deterministic: the same input gives different results "
                "(dropout left on?); gradients are checked with NumPy's random seed fixed"
            )
            return
        fresh.backward(again)
        for name, before, after in zip(self.target.inputs, self.inputs, copies, strict=True):
            if not same(before, after):
                self.problems.append(f"the input {name} is changed in place")
        if not same(again, dout):
            self.problems.append("dout is changed in place")
        self._forward(self.layer, self.inputs)
        dagain = as_gradients(self.layer.backward(dout.copy()), len(gradients))
        if any(g is not None and not same(g, d) for g, d in zip(gradients, dagain, strict=False)):
            self.problems.append("a second forward and backward of the same instance gives others")
        elif not same(list(parameter_gradients), self.layer.gradients):
            self.problems.append(
                "grads are not the same after a second forward and backward: are they added to "
                "(+=)? self.grads[0][...] = dW begins anew"
            )

    def _computed_in(self) -> str:
        """The precision that the target computes in, with inputs as precise as it takes."""
        found = precision_of(self._output(self._forward(self._fresh(), self.inputs)))
        computed = coarser(found, self.dtype)
        if computed != self.dtype:
            relative = (
                ", errors relative to each gradient's largest element"
                if share_for(computed) == 1
                else ""
            )
            self.notes.append(
                f"the code computes in {computed} whatever it is given: derivatives are "
                f"differences of {computed} numbers{relative}"
            )
        return computed

    # Derivatives.

    def _choose(self, method: str, computed: str) -> str:
        if computed != "float64" or method == "central":
            return "central"
        reason = self._fails_complex()
        if reason is None:
            return "complex"
        if method == "complex":
            raise ParameterError(
                f"{self.target.where}: the complex step cannot be used: {reason}",
                hint="--method central",
            )
        self.notes.append(f"central differences, since {reason}")
        return "central"

    def _fails_complex(self) -> str | None:
        """Say why the complex step cannot be trusted here, or None where it can."""
        rng = np.random.RandomState(self.seed % 2**32)
        directions = [rng.standard_normal(array.shape) for array in self.inputs]
        wide = [array.astype(np.float64) for array in self.inputs]
        try:
            moved = [x + 1e-100j * d for x, d in zip(wide, directions, strict=True)]
            result = np.asarray(self._forward(self._fresh(), moved))
        except TargetError:
            return "the code does not take complex numbers"
        if result.dtype.kind != "c":
            return "the code drops imaginary parts"
        step = 1e-5
        above, below = (
            np.asarray(
                self._forward(
                    self._fresh(),
                    [x + sign * step * d for x, d in zip(wide, directions, strict=True)],
                ),
                np.float64,
            )
            for sign in (1, -1)
        )
        central, exact = (above - below) / (2 * step), result.imag / 1e-100
        size = max(float(np.abs(central).max(initial=0)), 1e-8)
        if float(np.abs(central - exact).max(initial=0)) > _AGREEMENT * size:
            return "complex step and central differences disagree"
        return None

    def _real(self, which: int, computed: str) -> Moved:
        inputs = self._moving(computed)
        layer = self._fresh()
        return Moved(lambda: self._forward(layer, inputs), inputs[which], computed)

    def _moving(self, computed: str) -> list[Array]:
        """Inputs to move: what is computed more coarsely than float32 need not round them too."""
        dtype = "float64" if computed == "float64" else "float32"
        return [array.astype(dtype) for array in self.inputs]

    def _columns(
        self, which: int, method: str, computed: str, dout: Array, *, whole: bool
    ) -> tuple[Array, Array | None]:
        """The Jacobian (input elements, out elements), or its product with dout.

        Where noise is to be measured, also by another step.
        """
        whole = whole and dout.size * self.inputs[which].size <= _JACOBIAN_ELEMENTS
        cotangent = dout.astype(np.float64).ravel()

        def keep(column: Array) -> Array:
            self.stepped()
            flat = np.asarray(column, np.float64).ravel()
            return flat if whole else np.asarray(cotangent @ flat)

        if method == "complex":
            inputs = [array.astype(np.complex128) for array in self.inputs]
            layer = self._fresh()
            return complex_columns(lambda: self._forward(layer, inputs), inputs[which], keep), None
        return self._by_differences(self._real(which, computed), keep)

    def _by_differences(
        self, moved: Moved, keep: Callable[[Array], Array]
    ) -> tuple[Array, Array | None]:
        """Differences; below float64 at half the step as well, which tells how noisy they are."""
        step = step_for(moved.precision)
        columns = richardson_columns(moved.evaluate, moved.point, keep, step)
        if moved.precision == "float64":
            return columns, None
        return columns, richardson_columns(moved.evaluate, moved.point, keep, step / 2)

    def _backward_rows(self, out: Array) -> list[Array | None]:
        """What backward makes of each unit vector, for every input: (out elements, elements)."""
        number = len(self.target.inputs)
        rows: list[list[Array]] = [[] for _ in range(number)]
        layer = self._fresh()
        for index in np.ndindex(out.shape):
            unit = np.zeros_like(out)
            unit[index] = 1
            self._forward(layer, [array.copy() for array in self.inputs])
            result = as_gradients(layer.backward(unit), number)
            for row, gradient in zip(rows, result, strict=False):
                array = real_array(gradient)
                if array is not None:
                    row.append(np.array(array, np.float64).ravel())
        return [
            np.array(row) if len(row) == out.size and len({x.size for x in row}) == 1 else None
            for row in rows
        ]

    # Verdicts.

    def _judge(
        self,
        name: str,
        gradient: Array,
        columns: Array,
        again: Array | None,
        dout: Array,
        tolerance: float,
        rows: Array | None,
        moved: Moved,
    ) -> InputCheck:
        shape = gradient.shape
        gradient = np.asarray(gradient, np.float64)
        whole = columns.ndim == 2
        derivative = columns @ dout.astype(np.float64).ravel() if whole else columns
        derivative = derivative.reshape(shape)
        unsteady = np.zeros(shape, bool)
        coarse = tolerance
        share = share_for(moved.precision)
        if again is not None:
            other = again @ dout.astype(np.float64).ravel() if whole else again
            if self.measured:
                coarse = max(_JACOBIAN_LEAST, noise(columns, again, share))
                tolerance = max(tolerance, noise(derivative, other.reshape(shape), share))
            # Where the two steps disagree by more, a kink lies within the step.
            apart = relative_errors(derivative, other.reshape(shape), share)
            off = relative_errors(gradient, derivative, share)
            unsteady = (apart > tolerance) & (off <= 2 * apart)

        def compared(gradient: Array) -> InputCheck:
            return compare_gradient(
                self.target.name, name, gradient, derivative, tolerance, _ENGINE, share
            )

        check = compared(gradient)
        jacobian_error, kinks = None, np.zeros(shape, bool)
        if not check.passed:
            kinks = unsteady | find_kinks(moved, gradient, derivative, dout, tolerance, share)
            if kinks.any():
                check = compared(np.where(kinks, derivative, gradient))
        if whole and rows is not None and rows.shape == columns.T.shape:
            keep = ~kinks.ravel()
            found = compare_gradient("", "", rows[:, keep], columns.T[:, keep], coarse, share=share)
            jacobian_error = found.relative_error
            if check.passed and not found.passed:
                self.problems.append(
                    f"d{name} is right for a random dout but not for single elements of it: "
                    "is backward linear in dout?"
                )
        check = replace(check, not_differentiable=int(kinks.sum()), jacobian_error=jacobian_error)
        if check.passed:
            return check
        judged = np.where(kinks, derivative, gradient)
        return explained(
            check, judged, derivative, tolerance, self.target.known_as(name) or name, share
        )

    def _check_parameters(
        self, gradients: Sequence[Array], dout: Array, tolerance: float, computed: str
    ) -> list[InputCheck]:
        """Check ``grads`` against derivatives with respect to ``params``, in place."""
        if not self.parameters:
            return []
        if len(gradients) != len(self.parameters):
            self.problems.append(
                f"grads holds {len(gradients)} arrays and params {len(self.parameters)}"
            )
            return []
        layer = self._fresh()
        inputs = self._moving(computed)
        cotangent = dout.astype(np.float64).ravel()
        checks = []
        for number, (point, gradient) in enumerate(zip(layer.parameters, gradients, strict=True)):
            name = f"params[{number}]"
            if point.dtype.name not in EPSILON:
                self.notes.append(f"{name} holds {point.dtype}: it has no gradient to check")
                continue
            if not point.flags.writeable:
                self.notes.append(f"{name} is read-only: its gradient is not checked")
                continue
            if not self._fits(f"grads[{number}]", gradient, point.shape):
                continue

            def keep(column: Array) -> Array:
                self.stepped()
                return np.asarray(cotangent @ np.asarray(column).ravel())

            moved = Moved(
                lambda: cast(Array, self._forward(layer, inputs)),
                point,
                coarser(computed, point.dtype.name),
            )
            narrow = moved.precision != "float64"
            self.measured = self.measured or narrow
            columns, again = self._by_differences(moved, keep)
            near = max(tolerance, _FLOAT32_LEAST if narrow else _TOLERANCES["central"])
            checks.append(self._judge(name, gradient, columns, again, dout, near, None, moved))
        found = ", ".join(
            f"{check.tolerance:.2g} for {check.input.replace('params', 'grads')}"
            for check in checks
        )
        self.notes.append(f"params: central differences in place, tolerance {found}")
        return checks

    def _note_tolerances(self, checks: Sequence[InputCheck], computed: str) -> None:
        found = ", ".join(f"{check.tolerance:.2g} for d{check.input}" for check in checks)
        if found:
            self.notes.append(f"tolerances are measured by the noise in {computed}: {found}")
