"""The catalogue against itself: what each mistake gives is explained by that mistake first."""

import warnings
from functools import cache
from itertools import chain

import numpy as np
import pytest

from attncli.checking.comparing.agreement import near
from attncli.checking.comparing.rounding import beyond
from attncli.checking.diagnosing.cases import Suite, beside_largest
from attncli.checking.diagnosing.diagnosis import diagnose
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.checking.diagnosing.mistakes.mistake import constant
from attncli.checking.diagnosing.observing import Observation, predict
from attncli.core.semantics import Semantics
from attncli.operations.steps import QKV

CLAIMS = Semantics(causal="upper_left", softcap=2.0, window=2)
# The operations, and what they claim to be.
BEYOND_ROUNDING = beside_largest(3e-8)
STAGES = [
    (QKV, Semantics(), 4),
    (QKV, CLAIMS, 4),
    ("time-attention", Semantics(), 3),
    ("attention", Semantics(), 3),
    ("attention-weight", Semantics(), 3),
    ("weight-sum", Semantics(), 3),
    ("softmax", Semantics(), 3),
]

# Mistakes that give the same numbers wherever both can be made: either may be named.
TWINS = [
    {"softmax over the hidden units", "softmax over an axis of length 1"},
    {"scale 1/H", "scale applied twice"},
    # dscores sum to 0 over T, and so does what they make of an h that is the same for all.
    {"last gradient all zero", "dh multiplied by h instead of hs"},
    {"first gradient all zero", "dh multiplied by h instead of hs"},
    # Of bounded scores that nothing overflows, and in masked rows both are 0 / 0.
    {"maximum not subtracted", "a fully masked row gives NaN"},
    {"softmax missing", "logarithm of the softmax"},  # where a hidden key makes both NaN
    # Of a boolean mask alone, and −∞ for what it shows.
    {"what is hidden and what is shown exchanged", "mask polarity reversed"},
    {"another window", "window missing"},  # one as long as the row
    {"an axis missing beside h", "h tiled instead of repeated"},  # which fits where N and T are one
]


BESIDE = ("sinks", "alibi", "kv_lengths", "segments")
CONCERNED = ("sink", "linear bias", "lengths", "segments", "slopes")


@cache
def situations(layer, claims, axes, beside=()):
    options = dict.fromkeys(("mask", *beside))
    return list(Suite(layer, claims, options, axes).cases())


def observed(stage, steps, beside=()):
    """What a target with these steps gives, and whether anything of it is wrong."""
    layer, seen, wrong = stage[0], [], False
    for case in situations(*stage, beside):
        truth = case.truth
        results, gradients, dout = truth.results, truth.gradients, truth.dout
        predicted = predict(layer, case, dout, steps, backward="formulas")
        one = Observation(case, dout)
        seen.append(one)
        if predicted is None:
            one.forward_fault = "forward raises"
            continue
        one.out = np.array(predicted[0])
        if one.out.shape != dout.shape:
            one.forward_fault, wrong = "another shape", True
            continue
        given = [np.array(gradient) for gradient in predicted[2]]
        shapes = [gradient.shape for gradient in gradients] == [x.shape for x in given]
        one.gradients, one.misshapen = (given, None) if shapes else (None, given)
        if layer != QKV:
            one.weights = predicted[1]
        far = truth.rounding
        pairs = [(one.out, results["out"], far.results["out"])]
        pairs += zip(given, gradients, far.gradients, strict=True) if shapes else []
        # By more than rounding, and by numbers.
        right = all(
            near(beyond(a, b, by), b, BEYOND_ROUNDING).agrees
            for a, b, by in pairs
            if np.isfinite(a).any()
        )
        right = right and shapes
        wrong = wrong or (case.probe and not right)
    return seen, wrong


def made(mistake):
    """A mistake in every way in which it is made; of a family a few members."""
    if mistake.family is None:
        return mistake.readings
    numbers = mistake.choices[:: max(1, len(mistake.choices) // 2)] or (1.37 * mistake.starts[0],)
    return tuple(mistake.with_value(constant(number)) for number in numbers)


@pytest.mark.parametrize(
    "mistake", [m for m in MISTAKES if not m.symptom], ids=lambda mistake: mistake.name
)
def test_what_a_mistake_gives_is_explained_by_it_first(mistake):
    names = next((twins for twins in TWINS if mistake.name in twins), {mistake.name})
    seen_somewhere = False
    # Only what concerns the arrays beside query, key and value is looked for with them.
    beside = BESIDE if any(word in mistake.name for word in CONCERNED) else ()
    for stage in STAGES:
        if not mistake.fits(stage[0]):
            continue
        for reading in made(mistake):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                seen, wrong = observed(stage, reading.steps, beside)
                if not wrong:
                    continue
                seen_somewhere = True
                best = diagnose(stage[0], seen, [], stage[1])[0]
            assert [m.name for m in best.mistakes] == [mistake.name] or (
                {m.name for m in best.mistakes} <= names
            ), stage
    assert seen_somewhere


def test_a_twin_is_a_mistake_that_there_is():
    assert set(chain(*TWINS)) <= {mistake.name for mistake in MISTAKES}
