"""Layers with weights of their own: what they compute, and what is wrong with them.

There is no one reference for them.  So forward is held against every form that its parameters
fit, and against every known mistake in the usual ones; backward against derivatives of its own
forward, which `attncli.checking.derivatives.proof` takes.  Where a gradient is wrong, it is held
against what mistaken code would give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near, outside
from attncli.checking.comparing.formulas import Reading as Number
from attncli.checking.comparing.formulas import formula_of
from attncli.checking.derivatives.along import slopes_along
from attncli.checking.derivatives.jacobians import complex_columns
from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.derivatives.trial import Trial
from attncli.checking.diagnosing.cases import beside_largest
from attncli.checking.diagnosing.forms import Form, forms
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.checking.diagnosing.weighted_options import judge_options
from attncli.checking.targets.arranging import arranged
from attncli.checking.targets.given import Given, Shapes
from attncli.checking.targets.target import Target
from attncli.core.semantics import Semantics
from attncli.errors import TargetError
from attncli.operations.layout import ALL
from attncli.operations.steps import QKV, Steps
from attncli.reports import (
    CheckReport,
    Diagnosis,
    Finding,
    NamedMistake,
    Status,
    gradient_name,
)
from attncli.translation import Sentence

_AGREES = beside_largest(1e-6)
_SIZES = (
    {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4},
    {"N": 3, "T_dec": 2, "T_enc": 7, "H": 6},
    {"N": 1, "T_dec": 1, "T_enc": 1, "H": 4},
)
# Where a layer may keep which steps are not later.
_TRIANGLES = ("tril", "mask", "bias", "causal_mask", "attn_mask", "triu")
# What the weights of a layer are called that is more than attention.
_OTHER = re.compile(
    r"norm|(^|[._])ln|gamma|beta|gain|mlp|ffn?[._\d]|feed|embed[^_]|gate|(^|[._])fc"
)
# What there is of attention in a name.
_ATTENTION = re.compile("att(entio)?n|attend|sdpa|mha|heads?$|luong|bahdanau")
_ITSELF = "derivatives of its own forward"
_WIDTHS = 3
_DERIVED = "backward is the derivative of this forward"


def explain_weighted(
    trials: Sequence[Trial], claims: Semantics, *, forward_alone: bool = False,
    kind: str | None = None,
) -> tuple[Form | None, tuple[Diagnosis, ...]]:  # fmt: skip
    """Find the form in which forward is right, or the mistakes that explain it.

    Parameters
    ----------
    trials : sequence of Trial
        The layer at several sizes.
    claims : Semantics
    forward_alone : bool
        Whether its gradients are the derivatives of its forward.
    kind : str, optional
        What it is meant to be.

    Returns
    -------
    form : Form or None
        None where there is none in which forward is right.
    diagnoses : tuple of Diagnosis
    """
    every = [one for one in forms(trials[0], claims) if kind in (None, one.kind)]
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


def check_weighted(
    target: Target, claims: Semantics, kind: str | None = None
) -> CheckReport | None:
    """Check a layer with weights of its own; None where nothing of it can be judged.

    Where its weights are not those of attention alone, its gradients are proved, and it is said
    that its forward is held against nothing.

    Parameters
    ----------
    target : Target
    claims : Semantics
    kind : str, optional
        What it is meant to be, of those that have weights.
    """
    target = arranged(target, target.given.layout)
    first = fitting(target, {**_SIZES[0], **target.sizes_said})
    target = first.target
    if claims.causal is None and len(target.inputs) == 1 and _is_meant_causal(first):
        claims = replace(claims, causal="upper_left")
    trials = [first]
    for sizes in _SIZES[1:]:
        with suppress(TargetError):  # sizes may be its own affair
            trials.append(fitting(target, {**sizes, **target.sizes_said}))
    every = [one for one in forms(first, claims) if kind in (None, one.kind)]
    if not every and (kind is not None or _is_misshapen(first)):
        return None
    checks, problems = _proved(first)
    right = not any(checks.values())
    form, diagnoses = None, tuple[Diagnosis, ...]()
    laid: list[Finding] = []
    if every:
        form, diagnoses = explain_weighted(trials, claims, forward_alone=right, kind=kind)
    if form is None and not diagnoses and every:
        found, form, diagnoses = _turned(trials, claims, right, kind)
        if found:
            laid = [_of_layout(target)]
            trials = found
    likely = form or next(iter(every), None)
    names = {}
    if likely is not None:
        held = _gradient_names(trials[0], likely)
        names = dict(zip(trials[0].parameter_names, held, strict=False))
    reason = "" if diagnoses else _no_measure(first, meant=kind is not None)
    reason = reason if every else reason or "its weights fit no form of attention"
    findings = [_of_forward(form, reason), *laid]
    for theirs, fault in checks.items():
        name = names.get(theirs, f"d{theirs}")
        status: Status = "wrong" if fault else "ok"
        findings.append(Finding(name, "backward", status, f"{name}: {fault}" if fault else ""))
    findings += [Finding(_named(x), "contract", "wrong", x) for x in problems]
    findings.append(_kept(trials[0]))
    if form is not None:
        findings += judge_options(trials[0].target, fitting, form)
    failed = {finding.name for finding in findings if finding.status == "wrong"}
    beside = [replace(_diagnosis(m.name), beside=True) for m in MISTAKES if m.symptom in failed]
    against = _ITSELF if reason and form is None else likely.kind if likely else _ITSELF
    said = (form.words if form else "", claims.described() if against != _ITSELF else "")
    return CheckReport(
        target.where, against, ", ".join(filter(None, said)), tuple(findings),
        (*diagnoses, *beside),
        differs=any(f.status == "wrong" and f.part != "contract" for f in findings),
    )  # fmt: skip


def _proved(trial: Trial) -> tuple[dict[str, str], Sequence[str]]:
    """What is wrong with the gradient of each input and parameter, and what is wrong beside.

    A framework's gradients are looked at along one direction each, somebody's own element by
    element.
    """
    target = trial.target
    if trial.layer.facts.framework and trial.layer.held("backward") is None:
        trial.call_again()
        names = [*target.inputs, *trial.parameter_names]
        slopes = {one.name: one for one in slopes_along(trial, trial.precision())}
        found = {
            name: ""
            if one.passed
            else Sentence(
                "along a random direction it is {backward}, and the derivative {derivative}",
                backward=f"{one.backward:.6g}",
                derivative=f"{one.derivative:.6g}",
            )
            for name in names
            if (one := slopes.get(gradient_name(name))) is not None
        }
        return found, trial.problems
    known = {name: array.shape for name, array in zip(target.inputs, trial.inputs, strict=True)}
    proof = gradcheck(target, sizes=trial.sizes, inputs=known)
    off = {
        x.input: ", ".join(x.patterns)
        or Sentence("off by {relative_error}", relative_error=f"{x.relative_error:.1e}")
        for x in proof.checks
    }
    return {x.input: "" if x.passed else off[x.input] for x in proof.checks}, proof.problems


def fitting(target: Target, sizes: Mapping[str, int]) -> Trial:
    """A trial of a layer with inputs of the width that its weights have.

    Raises
    ------
    TargetError
        If it takes none.
    """
    refused: TargetError | None = None
    for one, given, shapes in _tried(target, sizes):
        try:
            return Trial(one, given, shapes, 0, "float64", filled=True)
        except TargetError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _tried(
    target: Target, sizes: Mapping[str, int]
) -> Iterator[tuple[Target, Mapping[str, int], Shapes]]:
    """How a layer may be called, the likeliest first."""

    def shapes(one: Target, sizes: Mapping[str, int], width: int = 0) -> Shapes:
        unknown = [name for name in one.inputs if one.known_as(name) is None]
        assumed = dict.fromkeys(unknown, (sizes["N"], sizes["T_enc"], sizes["H"]))
        every = one.shapes(sizes, assumed)
        if not width:
            return {**assumed, **one.given.shapes}
        return {**{x: (*s[:-1], width) for x, s in every.items()}, **one.given.shapes}

    yield target, sizes, shapes(target, sizes)
    if len(target.inputs) == 2 and not target.one_step:
        one_step = replace(target, one_step=True)
        yield one_step, sizes, shapes(one_step, sizes)
    if (turned := _time_first(target)) is not None:
        yield turned, sizes, shapes(turned, sizes)
    matrices = [one.shape for one in target.start(sizes).parameters if one.ndim == 2]
    widths = sorted({size for shape in matrices for size in shape} - {sizes["H"]})

    def made(had: Mapping[str, int], given: Given, seed: int) -> Any:
        given = replace(given, shapes=target.given.shapes)
        return target.start_with({**had, "H": sizes["H"]}, given, seed)

    own = replace(target, start_with=made)  # whatever width its inputs have
    for width in widths[:_WIDTHS]:
        yield own, sizes, shapes(target, sizes, width)
        wider = {**sizes, "H": width}
        yield target, wider, shapes(target, wider)


def _time_first(target: Target) -> Target | None:
    """The target with (T, N, H); None where that is said otherwise."""
    known = [target.known_as(name) for name in target.inputs]
    if target.is_arranged or target.given.shapes or None in known:
        return None
    return arranged(target, {ALL: ("T", "N", "H")})


def _turned(
    trials: Sequence[Trial], claims: Semantics, right: bool, kind: str | None
) -> tuple[list[Trial], Form | None, tuple[Diagnosis, ...]]:
    """The trials with time first, where they are right so, or wrong in a way that is known."""
    turned = _time_first(trials[0].target)
    try:
        found = [fitting(turned, one.sizes) for one in trials] if turned is not None else []
    except TargetError:
        found = []
    if found:
        form, diagnoses = explain_weighted(found, claims, forward_alone=right, kind=kind)
        if form is not None or diagnoses:
            return found, form, diagnoses
    return [], None, ()


def _of_layout(target: Target) -> Finding:
    """Say that time comes first, which is its own affair where it is published."""
    if target.published:
        return Finding("layout", "contract", "note", "arrays are (T, N, H), time first")
    detail = "arrays are taken and given as (T, N, H), time first, expected (N, T, H)"
    return Finding(
        "layout",
        "contract",
        "wrong",
        Sentence("{detail}: --layout T,N,H if they are meant so", detail=detail),
    )


def _is_meant_causal(trial: Trial) -> bool:
    """Whether its name or a triangle that it holds says so, or the first step sees no last one."""
    held = (trial.layer.held(name) for name in _TRIANGLES)
    triangles = [one for one in held if isinstance(one, np.ndarray) and one.ndim > 1]
    if "causal" in trial.target.name.lower() or any(map(_is_triangle, triangles)):
        return True
    (x,) = trial.inputs
    if x.ndim != 3 or x.shape[1] < 3 or trial.out.shape[:2] != x.shape[:2]:
        return False
    moved = x.copy()
    moved[:, -1] += 1
    out = np.asarray(trial.forward(trial.fresh(), [moved]))
    return bool((out[:, 0] == trial.out[:, 0]).all() and (out[:, -1] != trial.out[:, -1]).any())


def _is_triangle(array: Array) -> bool:
    """Whether it says of each step which are not later, or which are."""
    square = array.reshape(-1, *array.shape[-2:])[0] != 0
    if square.shape[0] != square.shape[1] or len(square) < 2:
        return False
    lower = np.tri(len(square), dtype=bool)
    return bool((square == lower).all() or (square == ~lower).all())


def _no_measure(trial: Trial, *, meant: bool) -> str:
    """Why forward is held against nothing where no form fits; empty where one should.

    Gains that begin at 1, and what is called so, attention alone has not.
    """
    pairs = zip(trial.parameter_names, trial.started, strict=False)
    more = [
        name
        for name, one in pairs
        if (one.ndim == 1 and one.size > 1 and (one == 1).all()) or _OTHER.search(name.lower())
    ]
    if more:
        return Sentence(
            "its weights are not those of attention alone ({names})", names=", ".join(more)
        )
    known = {trial.target.known_as(name) for name in trial.target.inputs}
    if meant or len(known - {None}) > 1 or _ATTENTION.search(trial.target.name.lower()):
        return ""
    return "nothing says that it is attention, as --as multi-head does"


def _is_misshapen(trial: Trial) -> bool:
    """Whether its gradients cannot be held against derivatives, called as it is here."""
    shapes = [one.shape for one in trial.parameters]
    given = [one.shape for one in trial.parameter_gradients]
    return shapes != given or any(one is None for one in trial.gradients)


def _gradient_names(trial: Trial, form: Form) -> list[str]:
    """Say of each gradient which parameter it belongs to."""
    return [
        gradient_name(theirs)
        if theirs == ours
        else Sentence("{gradient}, of {ours}", gradient=gradient_name(theirs), ours=ours)
        for theirs, ours in zip(trial.parameter_names, form.names, strict=False)
    ]


def _of_forward(form: Form | None, reason: str) -> Finding:
    if form is not None:
        return Finding("result", "forward", "ok")
    if reason:
        detail = Sentence(
            "forward is held against nothing, its gradients are proved: {reason}", reason=reason
        )
        return Finding("result", "forward", "note", detail)
    return Finding(
        "result", "forward", "wrong", "out is what no form gives that its parameters fit"
    )


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
    fields = {x: Sentence(text, scale="1/√H", **texts) for x, text in fields.items()}
    return Diagnosis((NamedMistake(**fields),), "everything", backward, 0.0)


# What a wrong gradient may be.


def _of_gradients(trials: Sequence[Trial], form: Form) -> Iterator[Diagnosis]:
    """Name the mistakes that the gradients show."""
    trial = trials[0]
    given = [*trial.gradients, *trial.parameter_gradients]
    right = list(_derivatives(trial, form.forward, trial.dout))
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
    for astray in form.back():
        if all(_gives(one, astray.forward) for one in trials[:2]):
            yield _diagnosis(astray.name, **astray.texts)
            return
    first = trial.dout.copy()
    first[1:] = 0
    of_first = list(_derivatives(trial, form.forward, first))
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


def _gives(trial: Trial, forward: Callable[..., Array]) -> bool:
    given = [*trial.gradients, *trial.parameter_gradients]
    try:
        return all(map(_alike, given, _derivatives(trial, forward, trial.dout)))
    except ValueError:
        return False


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


def _derivatives(trial: Trial, forward: Callable[..., Array], dout: Array) -> Iterator[Array]:
    """The gradients by complex step through a form, one after the other."""
    inputs = [array.astype(np.complex128) for array in trial.inputs]
    parameters = [array.astype(np.complex128) for array in trial.parameters]

    def evaluate() -> Array:
        return np.asarray(forward(inputs, parameters, {}))

    def reduce(column: Array) -> Array:
        return np.asarray(np.vdot(dout, column))

    for point in (*inputs, *parameters):
        yield complex_columns(evaluate, point, reduce).reshape(point.shape)
