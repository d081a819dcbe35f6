"""Where along the calculation the first difference arises, as far as it shows from outside.

Inside a layer one cannot look, but inputs can be chosen so that its results show the inside:

- with the identity matrix as hs_enc (key and value), out is the weights themselves and dhs_dec
  (dquery) is dscores;
- with hs_dec (query) = 0 nothing flows through the scores, and dhs_enc is dvalue alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near
from attncli.checking.comparing.rounding import beyond
from attncli.checking.diagnosing.cases import Case, Suite
from attncli.checking.diagnosing.observing import Observation
from attncli.operations.steps import QKV
from attncli.reports import Link

_State = Literal["right", "wrong", "not visible"]
_SEEN_LAYERS = ("attention", "time-attention", QKV)


def first_difference(
    observe: Callable[[Case], Observation], suite: Suite, layer: str
) -> tuple[Link, ...]:
    """Follow scores → weights → out → dvalue → dweights → dscores → dquery → dkey.

    Parameters
    ----------
    observe : callable
        Runs the target in a case.
    suite : Suite
    layer : str

    Returns
    -------
    tuple of Link
        Empty for a layer that has no such chain.
    """
    if layer not in _SEEN_LAYERS:
        return ()
    ordinary = suite.ordinary()
    # As many steps as units, so that the identity fits.
    sizes = {**ordinary.sizes, "T_enc": ordinary.sizes["H"]}
    square = suite.sized("identity as keys and values", sizes)

    def identity(like: Array) -> Array:
        return np.broadcast_to(np.eye(sizes["H"]), like.shape).copy()

    if layer == QKV:
        inputs = [square.inputs[0], *map(identity, square.inputs[1:])]
        still = [np.zeros_like(ordinary.inputs[0]), *ordinary.inputs[1:]]
        query, value = 0, 2
    else:
        inputs = [identity(square.inputs[0]), square.inputs[1]]
        still = [ordinary.inputs[0], np.zeros_like(ordinary.inputs[1])]
        query, value = 1, 0
    plain = observe(ordinary)
    shown = observe(replace(square, inputs=inputs))
    quiet = observe(replace(ordinary, inputs=still))

    by_identity = "out where hs is the identity matrix"
    by_logarithm = "the logarithm of out where hs is the identity matrix"
    seen, weights, name = shown, shown.out, "out"
    if plain.weights is not None:
        by_identity = "the weights that it keeps"
        by_logarithm = "the logarithm of the weights that it keeps"
        seen, weights, name = plain, plain.weights, "weights"
    right, far = (x.results[name] for x in (seen.case.truth, seen.case.truth.rounding))
    if weights is not None and weights.shape != right.shape:
        weights = None
    tolerance = plain.case.tolerance
    truth = plain.case.truth
    out = _compare(plain.out, truth.results["out"], truth.rounding.results["out"], tolerance)
    if out == "not visible" and plain.forward_fault:
        out = "wrong"
    dvalue = _gradient(quiet, value)
    dscores = _gradient(shown, query)
    dquery = _gradient(plain, query)
    scores = _scores(weights, right, far, tolerance)
    links = [
        Link("scores", scores, by_logarithm),
        Link("weights", _compare(weights, right, far, tolerance), by_identity),
        Link("out", out, "out"),
        Link("dvalue", dvalue, "the gradient of hs where h is 0"),
        Link("dweights", "right" if dscores == "right" else "not visible", "right if dscores is"),
        Link("dscores", dscores, "the gradient of h where hs is the identity matrix"),
        Link("dquery", dquery, "the gradient of h"),
        Link("dkey", _key(plain, layer, dvalue), "the gradient of hs less dvalue"),
    ]
    return tuple(links)


def _scores(weights: Array | None, right: Array, far: Array, tolerance: Tolerance) -> _State:
    """Compare scores by the logarithm of the weights, which leaves a constant in each row."""
    if weights is None or not ((weights > 0).all() and (right > 0).all()):
        return "not visible"
    ours, theirs = (np.log(x) - np.log(x).mean(axis=-1, keepdims=True) for x in (right, weights))
    # Weights that do not sum to 1 are another quantity's fault.
    return _compare(theirs, ours, 2 * (far / right).max(axis=-1, keepdims=True), tolerance)


def _gradient(seen: Observation, which: int) -> _State:
    if seen.gradients is None:
        return "not visible"
    right, far = (x.gradients[which] for x in (seen.case.truth, seen.case.truth.rounding))
    return _compare(seen.gradients[which], right, far, seen.case.tolerance)


def _key(plain: Observation, layer: str, dvalue: _State) -> _State:
    """Of the book's layers, dhs is dkey + dvalue, so that dkey shows only if dvalue is right."""
    state = _gradient(plain, 1 if layer == QKV else 0)
    if layer == QKV or dvalue == "right":
        return state
    return "not visible"


def _compare(observed: Array | None, right: Array, far: Array, tolerance: Tolerance) -> _State:
    if observed is None:
        return "not visible"
    if observed.shape != right.shape:
        return "wrong"
    return "right" if near(beyond(observed, right, far), right, tolerance).agrees else "wrong"
