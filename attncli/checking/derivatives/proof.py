"""Proving gradients: backward held against derivatives of forward, ours like anybody's."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Literal, cast

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near
from attncli.checking.derivatives.along import HEADS, prove_head_counts, prove_large
from attncli.checking.derivatives.judging import (
    Judge,
    Moved,
    differentiate,
    gradient_tolerance,
)
from attncli.checking.derivatives.precision import EPSILON, coarser
from attncli.checking.derivatives.trial import Trial, no_backward
from attncli.checking.targets.arguments import takes_heads
from attncli.checking.targets.arranging import TABLES, arranged, takes_tables, turning
from attncli.checking.targets.given import Given, Shapes
from attncli.checking.targets.operation_target import operation_target
from attncli.checking.targets.target import Target
from attncli.errors import CodeError, NoLayerError, ParameterError, TargetError
from attncli.operations import OPERATIONS, Operation
from attncli.operations.layout import SIDE_BY_SIDE
from attncli.reports import (
    GradcheckReport,
    GradcheckReports,
    InputCheck,
    Method,
    gradient_name,
)
from attncli.translation import Sentence

SIZES: Mapping[str, int] = {"N": 3, "T_dec": 5, "T_enc": 7, "H": 4}
"""All different, so that a swapped axis shows."""

_TOLERANCES: Mapping[Method, float] = {"complex": 1e-9, "central": 1e-6}
_OUR_TOLERANCES: Mapping[Method, float] = {"complex": 1e-12, "central": 1e-6}
# Where what passes is measured, it is no less than what sums of float32 numbers lose in backward.
_FLOAT32_LEAST = 1e-3
_RESIDUAL = "dout is missing in it: the path of the residual"
# A larger Jacobian is not kept.
_JACOBIAN_ELEMENTS = 1 << 20
# How far complex step and central differences may be apart to say the same.
_SAME_DERIVATIVE = Tolerance.of_largest(1e-5, least=1e-8)


def gradcheck(
    thing: Any = None,
    *,
    sizes: Mapping[str, int] | None = None,
    arguments: Mapping[str, Any] | None = None,
    inputs: Shapes | None = None,
    layout: str | Mapping[str, tuple[str, ...]] | None = None,
    method: Literal["auto", "complex", "central"] = "auto",
    tolerance: float | None = None,
    seed: int = 0,
    dtype: Literal["float64", "float32"] = "float64",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GradcheckReport:
    """Check the backward pass of a layer against derivatives of its forward.

    Every element of every input and parameter, under a random ``dout``.

    Parameters
    ----------
    thing : class, instance, pair of functions, Operation, str, or path, optional
        ``"file.py:Name"`` or ``"package.module:Name"`` names one in a file, which runs in a process
        of its own, ``"file.py"`` every layer in it; what is given as an object runs in this one,
        with nothing between.  Default: the layers of this package that have no weights of their
        own, each with the engines of its core.
    sizes : mapping of str to int, optional
        N, T_dec, T_enc and H; default 3, 5, 7 and 4: all different, so that swapped axes show.
    arguments : mapping of str to object, optional
        What the constructor is given, or forward, where names do not say it.
    inputs : mapping of str to tuple of int, optional
        The shapes of inputs, or of random arrays for the constructor, whose names do not say them.
    layout : str, optional
        In which order the axes of its tensors come, as ``"N,T,heads,H"``; default: as in this
        package.
    method : {"auto", "complex", "central"}
        Auto: complex step where the code survives it, else central differences.
    tolerance : float, optional
        The largest relative error that passes; default 1e-9 by complex step (1e-12 for our own
        layers), 1e-6 by central differences, and 1e-3 or what the noise says below float64.
    seed : int, default 0
        Of the random tensors.
    dtype : {"float64", "float32"}
        Of the inputs.
    progress : callable, optional
        Called with the number of elements that are done and that there are.

    Returns
    -------
    GradcheckReport
        A right backward pass has relative errors of about 1e-15 (complex) or 1e-9 (central).  Of
        several layers it holds the ``reports`` on each, and is true if all are.

    Raises
    ------
    TargetError
        If it cannot be loaded or called.
    ParameterError
        If the tolerance is not positive.

    Examples
    --------
    >>> report = gradcheck(OPERATIONS["time-attention"])
    >>> report.passed, report.worst.relative_error < 1e-13
    (True, True)
    """
    if tolerance is not None and not tolerance > 0:
        raise ParameterError(
            Sentence("the tolerance is {tolerance}, expected more than 0", tolerance=tolerance)
        )
    ours = (one for one in OPERATIONS.values() if not one.parameters)
    given = Given.of(arguments, inputs, layout)
    if isinstance(thing, str | os.PathLike):
        from attncli.checking.targets.loading import as_named, reports_on, targets_of

        thing = as_named(thing)
        named = targets_of(thing, given)
        if len(named) > 1:
            how: dict[str, Any] = {"method": method, "tolerance": tolerance}
            one_by_one = partial(gradcheck, sizes=sizes, seed=seed, dtype=dtype, **how)
            return GradcheckReports.of(thing, reports_on(thing, named, one_by_one))
        thing = named[0]
    targets = [_target(one, given) for one in (ours if thing is None else (thing,))]
    with np.errstate(all="ignore"):  # their numbers may be anything
        proofs = [
            _start(target, {**SIZES, **target.sizes_said, **(sizes or {})}, seed, dtype)
            for target in targets
        ]
        done, total = count(1), sum(proof.trial.elements for proof in proofs)

        def stepped() -> None:
            progress(next(done), total)

        reports = [proof.report(method, tolerance, stepped) for proof in proofs]
    return reports[0] if thing is not None else _together(reports)


def _target(thing: Any, given: Given) -> Target:
    if isinstance(thing, Operation):
        return operation_target(thing).having(given)
    from attncli.checking.targets.loading import targets_of  # ours need not be looked for

    (target,) = targets_of(thing, given)
    if target.fault is not None:
        raise target.fault
    if not target.has_backward:
        raise no_backward(target)
    target = arranged(target, target.given.layout)
    return _with_tables(target) if takes_tables(target) else target


def _with_tables(target: Target) -> Target:
    """The target given cosines and sines in a form that it takes; any is as good as another."""
    for one in (turning(target, tables) for tables in TABLES):
        for axes in (_with_heads(one, SIZES), {}):
            with suppress(TargetError):
                Trial(one, SIZES, axes, 0, "float64")
                return one
    return turning(target, TABLES[0])


def _start(target: Target, sizes: Mapping[str, int], seed: int, dtype: str) -> "_Proof":
    if any({"heads", SIDE_BY_SIDE} & {*words} for words in target.given.layout.values()):
        sizes = {**sizes, "heads": HEADS}
    try:
        return _Proof(target, sizes, seed, dtype)
    except TargetError as refused:
        heads = _with_heads(target, sizes)
        if not heads or heads.keys() & target.given.shapes.keys():
            if len(target.inputs) == 2 and not target.one_step:
                with suppress(TargetError):
                    return _start(replace(target, one_step=True), sizes, seed, dtype)
            if isinstance(refused, CodeError):
                raise
            raise NoLayerError(str(refused), hint=refused.hint) from None
        try:
            proof = _Proof(target, {**sizes, "heads": HEADS}, seed, dtype)
        except TargetError:
            if refused.hint is None:
                refused.hint = "--input NAME=3,2,5,4 gives an input another shape"
            raise refused from None
        proof.trial.notes.append(
            Sentence("the code takes no arrays of three axes: {heads} heads", heads=HEADS)
        )
        return proof


def _with_heads(target: Target, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes with an axis for heads, for a layer of query, key and value; else empty."""
    known = [target.known_as(name) for name in target.inputs]
    if sorted(map(str, known)) != ["key", "query", "value"]:
        return {}
    heads = sizes.get("heads", HEADS)
    return {
        name: (shape[0], heads if ours == "query" else sizes.get("kv_heads", heads), *shape[1:])
        for (name, shape), ours in zip(target.shapes(sizes).items(), known, strict=True)
    }


def _together(reports: Sequence[GradcheckReport]) -> GradcheckReport:
    """One report of all our layers."""
    return replace(
        reports[0],
        target="attn",
        checks=tuple(check for report in reports for check in report.checks),
        problems=tuple(f"{one.target}: {text}" for one in reports for text in one.problems),
        notes=tuple(f"{one.target}: {text}" for one in reports for text in one.notes),
    )


class _Proof:
    """The gradients of one target, and of what else computes the same, against one derivative."""

    def __init__(self, target: Target, sizes: Mapping[str, int], seed: int, dtype: str) -> None:
        def make(sizes: Mapping[str, int], target: Target = target) -> Trial:
            headed = _with_heads(target, sizes) if "heads" in sizes else {}
            return Trial(target, sizes, headed, seed, dtype)

        self.target, self.make = target, make
        self.trial, *self.others = (make(sizes, one) for one in (target, *target.others))
        self.fixed = bool(target.given.shapes.keys() & set(target.inputs))

    def report(
        self, method: str, tolerance: float | None, stepped: Callable[[], None]
    ) -> GradcheckReport:
        trial = self.trial
        self.stepped = stepped
        trial.call_again()
        precision = self._precision()
        chosen = self._choose(method, precision)
        self.measured = tolerance is None and precision != "float64"
        if tolerance is None:
            defaults = _OUR_TOLERANCES if self.target.trusted else _TOLERANCES
            tolerance = _FLOAT32_LEAST if self.measured else defaults[chosen]
        checks = self._check_inputs(chosen, precision, tolerance)
        if self.measured and checks:
            found = ", ".join(
                Sentence(
                    "{tolerance} for d{input}",
                    tolerance=f"{check.tolerance:.2g}",
                    input=check.input,
                )
                for check in checks
            )
            trial.notes.append(
                Sentence(
                    "tolerances are measured by the noise in {precision}: {found}",
                    precision=precision,
                    found=found,
                )
            )
        checks += self._check_parameters(precision, tolerance)
        self._compare_results(tolerance)
        free = not (self.target.trusted or self.fixed or trial.problems)
        if free and checks and all(check.passed for check in checks):
            problems, notes = prove_large(self.make, precision, trial.sizes, tolerance)
            trial.problems += problems
            trial.notes += notes
            target = self.target
            if takes_heads(target.made_of, target.given) and "H" not in target.sizes_said:
                problems, notes = prove_head_counts(
                    self._of_heads, precision, trial.sizes, tolerance
                )
                trial.problems += problems
                trial.notes += notes
        return GradcheckReport(
            chosen,
            max([tolerance, *(check.tolerance for check in checks)]),
            trial.seed,
            tuple(checks),
            target=self.target.where,
            dtype=precision,
            problems=tuple(trial.problems),
            notes=tuple(trial.notes),
            sizes=dict(trial.sizes),
        )

    def _precision(self) -> str:
        precision, dtype = self.trial.precision(), self.trial.dtype
        if precision != dtype:
            coarse = EPSILON[precision] > EPSILON["float32"]
            relative = ", errors relative to each gradient's largest element" if coarse else ""
            self.trial.notes.append(
                Sentence(
                    "the code computes in {precision} whatever it is given: derivatives are "
                    "differences of {precision} numbers{relative}",
                    precision=precision,
                    relative=relative,
                )
            )
        return precision

    # How derivatives are taken.

    def _choose(self, method: str, precision: str) -> Method:
        if precision != "float64" or method == "central":
            return "central"
        reason = None if self.target.trusted else self._fails_complex()
        if reason is None:
            return "complex"
        if method == "complex":
            raise ParameterError(
                Sentence(
                    "{where}: the complex step cannot be used: {reason}",
                    where=self.target.where,
                    reason=reason,
                ),
                hint="--method central",
            )
        self.trial.notes.append(Sentence("central differences, since {reason}", reason=reason))
        return "central"

    def _fails_complex(self) -> str | None:
        """Say why the complex step cannot be trusted here, or None where it can."""
        trial = self.trial
        rng = np.random.RandomState(trial.seed % 2**32)
        directions = [rng.standard_normal(array.shape) for array in trial.inputs]
        wide = [array.astype(np.float64) for array in trial.inputs]

        def along(step: complex) -> Array:
            moved = [x + step * d for x, d in zip(wide, directions, strict=True)]
            return np.asarray(trial.forward(trial.fresh(), moved))

        try:
            result = along(1e-100j)
        except TargetError:
            return "the code does not take complex numbers"
        if result.dtype.kind != "c":
            return "the code drops imaginary parts"
        above, below = (along(step).astype(np.float64) for step in (1e-5, -1e-5))
        if not near(result.imag / 1e-100, (above - below) / 2e-5, _SAME_DERIVATIVE).agrees:
            return "complex step and central differences disagree"
        return None

    def _of_heads(self, sizes: Mapping[str, int]) -> Trial:
        """The same with so many heads inside."""
        return Trial(self.target, sizes, {}, self.trial.seed, self.trial.dtype)

    # Verdicts.

    def _check_inputs(self, method: Method, precision: str, tolerance: float) -> list[InputCheck]:
        trial = self.trial
        rows = trial.backward_rows()
        checks: dict[str, list[InputCheck]] = {one.target.engine: [] for one in self._all()}
        for which, name in enumerate(self.target.inputs):
            if all(one.gradients[which] is None for one in self._all()):
                continue
            small = trial.out.size * trial.inputs[which].size <= _JACOBIAN_ELEMENTS
            derivative = differentiate(
                trial.moved(which, precision),
                trial.dout,
                analytic=trial.moved_analytically(which) if method == "complex" else None,
                whole=small and rows[which] is not None,
                stepped=self.stepped,
            )
            for one in self._all():
                if (gradient := one.gradients[which]) is not None:
                    judge = Judge(self.target.name, one.target.engine, tolerance, self.measured)
                    known = self.target.known_as(name) or name
                    check, linear = judge.judge(name, known, gradient, derivative, rows[which])
                    dout = trial.dout
                    if not check.passed and gradient.shape == dout.shape:
                        lacking = near(gradient + dout, derivative.gradient, _SAME_DERIVATIVE)
                        if lacking.agrees:
                            check = replace(check, patterns=(_RESIDUAL, *check.patterns))
                    checks[judge.engine].append(check)
                    if not linear:
                        trial.problems.append(
                            Sentence(
                                "d{name} is right for a random dout but not for single elements of "
                                "it: is backward linear in dout?",
                                name=name,
                            )
                        )
        return [check for found in checks.values() for check in found]

    def _check_parameters(self, precision: str, tolerance: float) -> list[InputCheck]:
        """Check ``grads`` against derivatives with respect to ``params``, in place."""
        trial = self.trial
        if not trial.parameters:
            return []
        gradients = trial.parameter_gradients
        if len(gradients) != len(trial.parameters):
            trial.problems.append(
                Sentence(
                    "grads holds {gradients} arrays and params {parameters}",
                    gradients=len(gradients),
                    parameters=len(trial.parameters),
                )
            )
            return []
        layer = trial.fresh()
        inputs = trial.moving(precision)
        checks = []
        for number, (point, gradient) in enumerate(zip(layer.parameters, gradients, strict=True)):
            name = trial.parameter_names[number]
            if point.dtype.name not in EPSILON:
                trial.notes.append(
                    Sentence(
                        "{name} holds {dtype}: it has no gradient to check",
                        name=name,
                        dtype=point.dtype,
                    )
                )
                continue
            if not point.flags.writeable:
                trial.notes.append(
                    Sentence("{name} is read-only: its gradient is not checked", name=name)
                )
                continue
            if not trial.fits(gradient_name(name), gradient, point.shape):
                continue
            point = point.copy()

            def evaluate(number: int = number, point: Array = point) -> Array:
                layer.assign(number, point)
                return cast(Array, trial.forward(layer, inputs))

            moved = Moved(evaluate, point, coarser(precision, point.dtype.name))
            narrow = moved.precision != "float64"
            least = _FLOAT32_LEAST if narrow else _TOLERANCES["central"]
            judge = Judge(
                self.target.name,
                self.target.engine,
                max(tolerance, least),
                self.measured or narrow,
            )
            derivative = differentiate(moved, trial.dout, stepped=self.stepped)
            checks.append(judge.judge(name, name, gradient, derivative, None)[0])
            layer.assign(number, point)
        found = ", ".join(
            Sentence(
                "{tolerance} for {replace}",
                tolerance=f"{check.tolerance:.2g}",
                replace=check.input.replace("params", "grads"),
            )
            for check in checks
        )
        trial.notes.append(
            Sentence("params: central differences in place, tolerance {found}", found=found)
        )
        return checks

    def _compare_results(self, tolerance: float) -> None:
        """Hold what else computes the same against the target, forward as well."""
        for other in self.others:
            engine = other.target.engine
            found = near(other.out, self.trial.out, gradient_tolerance(tolerance))
            if not found.agrees:
                other.problems.insert(
                    0,
                    Sentence(
                        "out is off by {relative}, at {worst}",
                        relative=f"{found.relative:.1e}",
                        worst=found.worst,
                    ),
                )
            self.trial.problems += [f"{engine}: {problem}" for problem in other.problems]

    def _all(self) -> tuple[Trial, ...]:
        return (self.trial, *self.others)
