"""Layers with weights of their own: what they compute, and what is wrong with them.

There is no one reference for them.  So forward is held against every form that its parameters
fit, and against every known mistake in the usual ones; backward against derivatives of its own
forward, which `attncli.checking.derivatives.proof` takes.  Where a gradient is wrong, it is held
against what mistaken code would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near, outside
from attncli.checking.comparing.formulas import Reading as Number
from attncli.checking.comparing.formulas import formula_of
from attncli.checking.derivatives.jacobians import complex_columns
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.derivatives.trial import Trial
from attncli.checking.diagnosing.cases import beside_largest
from attncli.checking.diagnosing.forms import Form, forms
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.checking.targets.arranging import arranged
from attncli.checking.targets.target import Target
from attncli.core.semantics import Semantics
from attncli.errors import TargetError
from attncli.operations.steps import QKV, Steps
from attncli.reports import (
    CheckReport,
    Diagnosis,
    Finding,
    NamedMistake,
    Status,
    gradient_name,
)

_AGREES = beside_largest(1e-6)
_SIZES = (
    {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4},
    {"N": 3, "T_dec": 2, "T_enc": 7, "H": 6},
    {"N": 1, "T_dec": 1, "T_enc": 1, "H": 4},
)
_DERIVED = "backward is the derivative of this forward"


def explain_weighted(
    trials: Sequence[Trial], claims: Semantics, *, forward_alone: bool = False
) -> tuple[Form | None, tuple[Diagnosis, ...]]:
    """Find the form in which forward is right, or the mistakes that explain it.

    Parameters
    ----------
    trials : sequence of Trial
        The layer at several sizes.
    claims : Semantics
    forward_alone : bool
        Whether its gradients are the derivatives of its forward.

    Returns
    -------
    form : Form or None
        None where there is none in which forward is right.
    diagnoses : tuple of Diagnosis
    """
    every = list(forms(trials[0], claims))
    for form in every:
        if not form.mistake and _agree(trials, form, {}):
            return form, tuple(_of_gradients(trials, form))
    backward = _DERIVED if forward_alone else ""
    found = []
    for form in every:
        if form.mistake and _agree(trials, form, {}):
            found.append(_diagnosis(form.mistake, backward))
    if not found:
        usual = [form for form in every if form.usual and not form.mistake]
        for mistake, form in product(MISTAKES, usual):
            may = mistake.in_forward and mistake.fits(QKV)
            if may and any(_agree(trials, form, way.steps) for way in mistake.readings):
                found.append(_diagnosis(mistake.name, backward))
    unique = {one.mistakes[0].name: one for one in found}
    return None, tuple(unique.values())[:3]


def check_weighted(target: Target, claims: Semantics) -> CheckReport | None:
    """Check a layer with weights of its own; None where there is no form for it."""
    target = arranged(target, target.given.layout)
    if "causal" in target.name.lower() and claims.causal is None:
        claims = replace(claims, causal="upper_left")
    trials = list[Trial]()
    for sizes in ({**one, **target.sizes_said} for one in _SIZES):
        unknown = [name for name in target.inputs if target.known_as(name) is None]
        assumed = dict.fromkeys(unknown, (sizes["N"], sizes["T_enc"], sizes["H"]))
        given = {**assumed, **target.given.shapes}
        try:
            trials.append(Trial(target, sizes, given, 0, "float64"))
        except TargetError:
            if trials or len(target.inputs) != 2:
                raise
            target = replace(target, one_step=True)
            trials.append(Trial(target, sizes, given, 0, "float64"))
        if not trials[0].parameters or not any(forms(trials[0], claims)):
            return None
    known = {name: array.shape for name, array in zip(target.inputs, trials[0].inputs, strict=True)}
    proof = gradcheck(target, sizes=trials[0].sizes, inputs=known)
    right = all(check.passed for check in proof.checks)
    form, diagnoses = explain_weighted(trials, claims, forward_alone=right)
    likely = form or next(forms(trials[0], claims))
    names = dict(zip(trials[0].parameter_names, _gradient_names(trials[0], likely), strict=False))
    findings = [_of_forward(form)]
    for one in proof.checks:
        name = names.get(one.input, f"d{one.input}")
        detail = ", ".join(one.patterns) or f"off by {one.relative_error:.1e}"
        status: Status = "ok" if one.passed else "wrong"
        findings.append(
            Finding(name, "backward", status, "" if one.passed else f"{name}: {detail}")
        )
    findings += [Finding(_named(x), "contract", "wrong", x) for x in proof.problems]
    findings.append(_kept(trials[0]))
    failed = {finding.name for finding in findings if finding.status == "wrong"}
    beside = [replace(_diagnosis(m.name), beside=True) for m in MISTAKES if m.symptom in failed]
    words = ", ".join(filter(None, (form.words if form else "", claims.described())))
    return CheckReport(
        target.where, likely.kind, words, tuple(findings), (*diagnoses, *beside),
        differs=any(f.status == "wrong" and f.part != "contract" for f in findings),
    )  # fmt: skip


def _gradient_names(trial: Trial, form: Form) -> list[str]:
    """Say of each gradient which parameter it belongs to."""
    return [
        gradient_name(theirs) + (f", of {ours}" if theirs != ours else "")
        for theirs, ours in zip(trial.parameter_names, form.names, strict=False)
    ]


def _of_forward(form: Form | None) -> Finding:
    if form is not None:
        return Finding("result", "forward", "ok")
    detail = "out is what no form gives that its parameters fit"
    return Finding("result", "forward", "wrong", detail)


def _named(problem: str) -> str:
    """Name what a gradient check finds wrong beside numbers as a check does."""
    names = {"(+=)": "grads begun anew", "not deterministic": "deterministic",
             "dout is changed": "dout unchanged", "is changed in place": "inputs unchanged",
             "of the same instance": "called twice",
             "a second backward": "backward twice"}  # fmt: skip
    return next((name for part, name in names.items() if part in problem), problem)


def _kept(trial: Trial) -> Finding:
    """Whether the arrays in grads are the same after backward: an optimiser holds them."""
    layer = trial.fresh()
    before = layer.identity("grads")
    trial.forward(layer, trial.inputs)
    layer.backward(trial.dout)
    if before == layer.identity("grads"):
        return Finding("grads kept", "contract", "ok")
    detail = "backward puts other arrays in the place of those that grads has held"
    return Finding("grads kept", "contract", "wrong", detail)


def _agree(trials: Sequence[Trial], form: Form, steps: Steps) -> bool:
    for trial in trials:
        try:
            out = form.forward(trial.inputs, trial.parameters, steps)
        except (ValueError, IndexError):
            return False
        if not near(trial.out, np.asarray(out), _AGREES).agrees:
            return False
    return True


def _diagnosis(name: str, backward: str = "", **texts: str) -> Diagnosis:
    mistake = next(one for one in MISTAKES if one.name == name)
    fields = {x: getattr(mistake, x) for x in ("name", "meant", "computed", "why")}
    fields = {x: text.replace("{scale}", "1/√H") for x, text in fields.items()}
    for x, text in texts.items():
        fields = {key: value.replace(f"{{{x}}}", text) for key, value in fields.items()}
    return Diagnosis((NamedMistake(**fields),), "everything", backward, 0.0)


# What a wrong gradient may be.


def _of_gradients(trials: Sequence[Trial], form: Form) -> Iterator[Diagnosis]:
    """Name the mistakes that the gradients show."""
    trial = trials[0]
    given = [*trial.gradients, *trial.parameter_gradients]
    right = _derivatives(trial, form, trial.dout)
    if len(given) != len(right):
        return
    names = [f"d{name}" for name in trial.target.inputs]
    names += _gradient_names(trial, form)
    wrong = [
        i
        for i, (a, b) in enumerate(zip(given, right, strict=True))
        if a is not None and not near(a, b, _AGREES).agrees
    ]
    if not wrong:
        return
    for name, back in (form.back or {}).items():
        if all(_gives(one, form, back) for one in trials[:2]):
            yield _diagnosis(name)
            return
    first = trial.dout.copy()
    first[1:] = 0
    of_first = _derivatives(trial, form, first)
    parameters = [i for i in wrong if i >= len(trial.inputs)]
    for i, j in permutations(parameters, 2):
        if i < j and _alike(given[i], right[j]) and _alike(given[j], right[i]):
            yield _diagnosis(
                "gradients of two parameters exchanged", which=names[i], other=names[j]
            )
            wrong = [k for k in wrong if k not in (i, j)]
    for i in wrong:
        found = _of_one(trial, given[i], right[i], of_first[i], names[i], i in parameters)
        if found is not None:
            yield found


def _gives(trial: Trial, form: Form, back: Callable[..., list[Array]]) -> bool:
    try:
        mistaken = back(trial.inputs, trial.parameters, trial.dout)
    except ValueError:
        return False
    given = [*trial.gradients, *trial.parameter_gradients]
    return len(given) == len(mistaken) and all(map(_alike, given, mistaken))


def _of_one(
    trial: Trial, given: Any, right: Array, of_first: Array, name: str, parameter: bool
) -> Diagnosis | None:
    if _alike(given, of_first):
        return _diagnosis("gradient of the first item alone", which=name)
    if not parameter or given is None or given.shape != right.shape:
        return None
    if right.ndim == 2 and right.shape[0] == right.shape[1] and _alike(given, right.T):
        return _diagnosis("gradient of a parameter transposed", which=name)
    factor = float(np.vdot(given, right) / np.vdot(right, right))
    if factor and _alike(given, factor * right):
        sizes = {x: trial.sizes[x] for x in ("T_enc", "T_dec", "N", "H") if x in trial.sizes}
        if (formula := _share(factor, sizes)) is not None:
            return _diagnosis("gradient of a parameter averaged", which=name, share=formula)
    off = outside(given, right, beside_largest(1e-6))
    if int(off.sum()) == 1:
        (index,) = np.argwhere(off)
        at = f"{name}{index.tolist()}"
        return _diagnosis("one entry of a parameter's gradient wrong", which=at)
    return None


def _share(factor: float, sizes: Mapping[str, int]) -> str | None:
    """Say of which sizes a factor is the share: 1/T_enc, 1/N."""
    for name, size in sizes.items():
        if abs(factor * size - 1) < 1e-6:
            return f"1/{name}"
    return formula_of(Number(factor, {}), rtol=1e-6)


def _alike(a: Any, b: Any) -> bool:
    return a is not None and a.shape == b.shape and near(a, b, _AGREES).agrees


def _derivatives(trial: Trial, form: Form, dout: Array) -> list[Array]:
    """The gradients by complex step through the form."""
    inputs = [array.astype(np.complex128) for array in trial.inputs]
    parameters = [array.astype(np.complex128) for array in trial.parameters]

    def evaluate() -> Array:
        return np.asarray(form.forward(inputs, parameters, {}))

    def reduce(column: Array) -> Array:
        return np.asarray(np.vdot(dout, column))

    return [
        complex_columns(evaluate, point, reduce).reshape(point.shape)
        for point in (*inputs, *parameters)
    ]
