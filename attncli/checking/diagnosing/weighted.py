"""Layers with weights of their own: what they compute, and what is wrong with them.

There is no one reference for them: which matrix is on which side, transposed or not, how many
heads there are is the layer's own.  So forward is held against every reading of its parameters,
and against every known mistake in each; backward against derivatives of its own forward, which
`attncli.checking.derivatives.proof` takes.  Where a gradient is wrong, it is held against what
mistaken code would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.checking.targets.target import Target
from attncli.core.semantics import Semantics
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Steps
from attncli.reports import CheckReport, Diagnosis, Finding, NamedMistake, Status

_AGREES = beside_largest(1e-6)
_HEADS = ("heads", "num_heads", "n_heads", "n_head", "nhead", "h")
_SIZES = (
    {"N": 2, "T_dec": 3, "T_enc": 5, "H": 4},
    {"N": 3, "T_dec": 2, "T_enc": 7, "H": 6},
    {"N": 1, "T_dec": 1, "T_enc": 1, "H": 4},
)
# What a layer is called, by how many parameters it has.
_KINDS = {1: "luong", 3: "bahdanau", 4: "multi-head"}
_DERIVED = "backward is the derivative of this forward"

Arrays = Sequence[Array]


@dataclass(frozen=True)
class Reading:
    """What a layer with these parameters may be.

    Attributes
    ----------
    words : str
    names : tuple of str
        Of the parameters.
    forward : callable
        ``forward(inputs, parameters, steps)`` gives the result.
    mistake : str
        The mistake that it is; empty where it is right.
    back : mapping of str to callable
        For a mistake in backward: ``gradients(inputs, parameters, dout)`` as it gives them.
    """

    words: str
    names: tuple[str, ...]
    forward: Callable[[Arrays, Arrays, Steps], Array]
    mistake: str = ""
    back: Mapping[str, Callable[[Arrays, Arrays, Array], list[Array]]] | None = None


def explain_weighted(
    trials: Sequence[Trial], claims: Semantics, *, forward_alone: bool = False
) -> tuple[Reading | None, tuple[Diagnosis, ...]]:
    """Find the reading under which forward is right, or the mistakes that explain it.

    Parameters
    ----------
    trials : sequence of Trial
        The layer at several sizes.
    claims : Semantics
    forward_alone : bool
        Whether its gradients are the derivatives of its forward.

    Returns
    -------
    reading : Reading or None
        None where there is none under which forward is right.
    diagnoses : tuple of Diagnosis
    """
    readings = list(_readings(trials[0], claims))
    for reading in readings:
        if not reading.mistake and _agree(trials, reading, {}):
            return reading, tuple(_of_gradients(trials, reading))
    backward = _DERIVED if forward_alone else ""
    found = []
    for reading in readings:
        if reading.mistake and _agree(trials, reading, {}):
            found.append(_diagnosis(reading.mistake, backward))
    if not found:
        for mistake, reading in product(MISTAKES, readings):
            may = mistake.in_forward and mistake.fits(QKV) and not reading.mistake
            if may and any(_agree(trials, reading, way.steps) for way in mistake.readings):
                found.append(_diagnosis(mistake.name, backward))
    unique = {one.mistakes[0].name: one for one in found}
    return None, tuple(unique.values())[:3]


def check_weighted(target: Target, claims: Semantics) -> CheckReport | None:
    """Check a layer with weights of its own; None where it is none that there is a reading of."""
    target = target.laid_out(target.given.layout)
    if "causal" in target.name.lower() and claims.causal is None:
        claims = replace(claims, causal="upper_left")
    trials = list[Trial]()
    for sizes in ({**one, **target.sizes_said} for one in _SIZES):
        unknown = [name for name in target.inputs if target.known_as(name) is None]
        given = dict.fromkeys(unknown, (sizes["N"], sizes["T_enc"], sizes["H"]))
        trials.append(Trial(target, sizes, {**given, **target.given.shapes}, 0, "float64"))
        if not trials[0].parameters or not any(_readings(trials[0], claims)):
            return None
    known = {name: array.shape for name, array in zip(target.inputs, trials[0].inputs, strict=True)}
    proof = gradcheck(target, sizes=trials[0].sizes, inputs=known)
    right = all(check.passed for check in proof.checks)
    reading, diagnoses = explain_weighted(trials, claims, forward_alone=right)
    names = {f"params[{i}]": name for i, name in enumerate(_gradient_names(trials[0], claims))}
    findings = [_of_forward(reading)]
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
    kind = _KINDS[len(trials[0].parameters)]
    words = ", ".join(filter(None, (reading.words if reading else "", claims.described())))
    return CheckReport(
        target.where, kind, words, tuple(findings), (*diagnoses, *beside),
        differs=any(f.status == "wrong" and f.part != "contract" for f in findings),
    )  # fmt: skip


def _gradient_names(trial: Trial, claims: Semantics) -> list[str]:
    """Say of each entry of grads which parameter it belongs to."""
    known = next(_readings(trial, claims)).names
    return [f"grads[{i}], of {name}" for i, name in enumerate(known)]


def _of_forward(reading: Reading | None) -> Finding:
    if reading is not None:
        return Finding("result", "forward", "ok")
    detail = "out is that of no reading of its parameters"
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


def _agree(trials: Sequence[Trial], reading: Reading, steps: Steps) -> bool:
    for trial in trials:
        try:
            out = reading.forward(trial.inputs, trial.parameters, steps)
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


# What a layer may be.


def _readings(trial: Trial, claims: Semantics) -> Iterator[Reading]:
    """Every reading of the inputs and parameters, the usual one first."""
    shapes = [parameter.ndim for parameter in trial.parameters]
    few = len(trial.inputs) == 2
    if shapes == [2] and few:
        yield from _general_scores(claims)
    elif sorted(shapes) == [1, 2, 2] and few:
        yield from _additive_scores(trial, claims)
    elif shapes in ([2] * 3, [2] * 4):
        yield from _projected(trial, claims)


def _memory_first(inputs: Arrays) -> tuple[Array, Array]:
    """Keys and queries of (hs, h): h of one step has an axis for it."""
    hs, h = inputs
    return hs, h[:, None] if h.ndim == 2 else h


def _attend(
    query: Array, key: Array, value: Array, claims: Semantics, steps: Steps, scale: float
) -> Array:
    semantics = claims if claims.scale is not None else replace(claims, scale=scale)
    chain = Calculation(QKV, (query, key, value), semantics, None, {**PRODUCTS, **steps})
    return chain.forward()["out"]


def _general_scores(claims: Semantics) -> Iterator[Reading]:
    """Scores of Luong: hs · W · h; the weights are for hs."""

    def forward(
        turned: bool, values: bool, inputs: Arrays, parameters: Arrays, steps: Steps
    ) -> Any:
        hs, h = _memory_first(inputs)
        W = parameters[0].T if turned else parameters[0]
        key = hs @ W
        out = _attend(h, key, key if values else hs, claims, steps, 1.0)
        return out[:, 0] if inputs[1].ndim == 2 else out

    for turned in (False, True):
        words = f"scores = hs · W{'ᵀ' * turned} · h"
        back = {
            "a matrix not transposed in backward": partial(_untransposed, turned, claims),
        }
        yield Reading(words, ("W",), partial(forward, turned, False), back=back)
        yield Reading(
            words, ("W",), partial(forward, turned, True), "the projected states as values"
        )


def _untransposed(
    turned: bool, claims: Semantics, inputs: Arrays, parameters: Arrays, dout: Array
) -> list[Array]:
    """The gradients where dhs = dk · W in place of dk · Wᵀ."""
    hs, h = _memory_first(inputs)
    W = parameters[0].T if turned else parameters[0]
    if W.shape[0] != W.shape[1]:
        raise ValueError("it does not fit")
    scale = 1.0 if claims.scale is None else claims.scale
    chain = Calculation(QKV, (h, hs @ W, hs), replace(claims, scale=scale), None, PRODUCTS)
    chain.forward()
    dh, dk, dvalue = chain.backward(dout[:, None] if inputs[1].ndim == 2 else dout)
    rows = hs.reshape(-1, hs.shape[-1]).T @ dk.reshape(-1, dk.shape[-1])
    dh = dh[:, 0] if inputs[1].ndim == 2 else dh
    return [dvalue + dk @ W, dh, rows.T if turned else rows]


def _additive_scores(trial: Trial, claims: Semantics) -> Iterator[Reading]:
    """Scores of Bahdanau: v · tanh(hs · W + h · U)."""

    def forward(
        order: tuple[int, ...], bent: bool, inputs: Arrays, parameters: Arrays, steps: Steps
    ) -> Any:
        hs, h = _memory_first(inputs)
        W, U, v = (parameters[i] for i in order)
        met = (hs @ W)[:, None] + (h @ U)[:, :, None]
        scores = (np.tanh(met) if bent else met) @ v
        out = _attend(h, hs, hs, claims, {**steps, "query_key": lambda c: scores}, 1.0)
        return out[:, 0] if inputs[1].ndim == 2 else out

    vector = [parameter.ndim for parameter in trial.parameters].index(1)
    others = [i for i in range(3) if i != vector]
    for pair in permutations(others):
        order = (*pair, vector)
        by_place = dict(zip(order, ("W", "U", "v"), strict=True))
        names = tuple(by_place[i] for i in range(3))
        words = "scores = v · tanh(hs · W + h · U)"
        back = {
            "derivative of tanh taken of what is already activated": partial(
                _additive_back, order, claims, lambda u: 1 - np.tanh(u) ** 2
            ),
            "derivative of tanh missing": partial(_additive_back, order, claims, np.ones_like),
        }
        yield Reading(words, names, partial(forward, order, True), back=back)
        yield Reading(words, names, partial(forward, order, False), "tanh missing from the scores")


def _additive_back(
    order: tuple[int, ...],
    claims: Semantics,
    slope: Callable[[Array], Array],
    inputs: Arrays,
    parameters: Arrays,
    dout: Array,
) -> list[Array]:
    """The gradients with another derivative of tanh."""
    hs, h = _memory_first(inputs)
    W, U, v = (parameters[i] for i in order)
    u = np.tanh((hs @ W)[:, None] + (h @ U)[:, :, None])
    scores = u @ v
    steps = {**PRODUCTS, "query_key": lambda c: scores}
    chain = Calculation(QKV, (h, hs, hs), replace(claims, scale=1.0), None, steps)
    chain.forward()
    _, _, dvalue = chain.backward(dout[:, None] if inputs[1].ndim == 2 else dout)
    ds = chain.noted["dscores"][..., None]
    du = ds * v * slope(u)
    dhs = dvalue + du.sum(axis=1) @ W.T
    dh = du.sum(axis=2) @ U.T
    dW = np.einsum("nth,ndtk->hk", hs, du)
    dU = np.einsum("ndh,ndtk->hk", h, du)
    dv = (ds * u).sum(axis=(0, 1, 2))
    given = dict(zip(order, (dW, dU, dv), strict=True))
    return [dhs, dh[:, 0] if inputs[1].ndim == 2 else dh, *(given[i] for i in range(3))]


def _projected(trial: Trial, claims: Semantics) -> Iterator[Reading]:
    """Query, key and value are projected, and mostly the result: with heads, or as one."""

    def forward(
        heads: int, turned: bool, cut: bool, joined: bool, inputs: Arrays, parameters: Arrays,
        steps: Steps,
    ) -> Any:  # fmt: skip
        query, key, value = {1: (0, 0, 0), 2: (0, 1, 1), 3: (0, 1, 2)}[len(inputs)]
        matrices = [parameter.T if turned else parameter for parameter in parameters]
        q, k, v = (
            _split(inputs[which] @ P, heads, cut)
            for which, P in zip((query, key, value), matrices, strict=False)
        )
        out = _merge(_attend(q, k, v, claims, steps, q.shape[-1] ** -0.5), joined)
        return out @ matrices[3] if len(matrices) > 3 else out

    named = (trial.layer.held(name) for name in _HEADS)
    known = next((int(x) for x in named if isinstance(x, (int, np.integer)) and x > 0), None)
    counts = (known,) if known else (1, 2, 4)
    names = ("Wq", "Wk", "Wv", "Wo")[: len(trial.parameters)]
    for turned, heads in product((False, True), counts):
        words = f"{heads} heads" if heads > 1 else "one head"
        yield Reading(words, names, partial(forward, heads, turned, True, True))
        for cut, joined in ((False, False), (False, True), (True, False)) if heads > 1 else ():
            name = "heads merged without a transpose" if cut else "heads split without a transpose"
            yield Reading(words, names, partial(forward, heads, turned, cut, joined), name)


def _split(x: Array, heads: int, transposed: bool) -> Array:
    N, T, D = x.shape
    if transposed:
        return x.reshape(N, T, heads, D // heads).swapaxes(1, 2)
    return x.reshape(N, heads, T, D // heads)


def _merge(x: Array, transposed: bool) -> Array:
    N, heads, T, d = x.shape
    return (x.swapaxes(1, 2) if transposed else x).reshape(N, T, heads * d)


# What a wrong gradient may be.


def _of_gradients(trials: Sequence[Trial], reading: Reading) -> Iterator[Diagnosis]:
    """Name the mistakes that the gradients show."""
    trial = trials[0]
    given = [*trial.gradients, *trial.parameter_gradients]
    right = _derivatives(trial, reading, trial.dout)
    if len(given) != len(right):
        return
    names = [f"d{name}" for name in trial.target.inputs]
    names += _gradient_names(trial, Semantics())
    wrong = [
        i
        for i, (a, b) in enumerate(zip(given, right, strict=True))
        if a is not None and not near(a, b, _AGREES).agrees
    ]
    if not wrong:
        return
    for name, back in (reading.back or {}).items():
        if all(_gives(one, reading, back) for one in trials[:2]):
            yield _diagnosis(name)
            return
    first = trial.dout.copy()
    first[1:] = 0
    of_first = _derivatives(trial, reading, first)
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


def _gives(trial: Trial, reading: Reading, back: Callable[..., list[Array]]) -> bool:
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


def _derivatives(trial: Trial, reading: Reading, dout: Array) -> list[Array]:
    """The gradients by complex step through the reading."""
    inputs = [array.astype(np.complex128) for array in trial.inputs]
    parameters = [array.astype(np.complex128) for array in trial.parameters]

    def evaluate() -> Array:
        return np.asarray(reading.forward(inputs, parameters, {}))

    def reduce(column: Array) -> Array:
        return np.asarray(np.vdot(dout, column))

    return [
        complex_columns(evaluate, point, reduce).reshape(point.shape)
        for point in (*inputs, *parameters)
    ]
