"""Mistakes on the way from the scores to the weights."""

from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import Mistake
from attncli.operations.steps import STEPS, Calculation, softmax

_SOFTMAX = "weights = exp(scores) / Σ over T_enc"


def softmax_over(axes: tuple[int, ...] | None) -> Any:
    """The softmax as it is often written: where every score is −∞ it gives NaN."""

    def normalised(c: Calculation, scores: Array) -> Array:
        return _shares(np.exp(scores - scores.real.max(axis=axes, keepdims=True)), axes)

    return normalised


def _shares(x: Array, axes: tuple[int, ...] | None = (-1,)) -> Array:
    return np.asarray(x / x.sum(axis=axes, keepdims=True))


def _exponentials(c: Calculation, scores: Array) -> Array:
    largest = scores.real.max(axis=-1, keepdims=True)
    return np.asarray(np.exp(scores - np.where(np.isfinite(largest), largest, 0)))


def _with_epsilon(epsilon: float) -> Any:
    def normalised(c: Calculation, scores: Array) -> Array:
        exps = _exponentials(c, scores)
        return np.asarray(exps / (exps.sum(axis=-1, keepdims=True) + epsilon))

    return normalised


WEIGHTS: tuple[Mistake, ...] = (
    *(
        Mistake(
            f"{epsilon} added to the softmax's denominator",
            _SOFTMAX,
            f"weights = exp(scores) / (Σ over T_enc + {epsilon})",
            "With the maximum subtracted the sum is at least 1: nothing has to be added to it, and "
            "the weights no longer sum to 1.",
            {"softmax": _with_epsilon(float(epsilon))},
        )
        for epsilon in ("1e-3", "1e-4", "1e-5", "1e-6", "1e-7", "1e-8")
    ),
    Mistake(
        "softmax over the batch",
        _SOFTMAX,
        "weights = exp(scores) / Σ over N",
        "axis=0 is the batch: the items compete with each other, and every item's weights no "
        "longer sum to 1.",
        {"softmax": lambda c, scores: softmax(scores, axis=0)},
    ),
    Mistake(
        "softmax over the decoder steps",
        _SOFTMAX,
        "weights = exp(scores) / Σ over T_dec",
        "The queries compete for each key: columns sum to 1, not rows.",
        {"softmax": lambda c, scores: softmax(scores, axis=-2)},
    ),
    Mistake(
        "softmax over the hidden units",
        "weights = softmax over T_enc of Σ_h hs · h",
        "weights = Σ_h softmax over H of hs · h = 1",
        "The softmax is taken before the sum over H, so every step gets the weight 1.",
        {
            "sum_h": lambda c, t: softmax(t).sum(axis=-1),
            "logits": lambda c, scores: scores,
            "softmax": lambda c, scores: scores,
        },
    ),
    Mistake(
        "softmax over the whole array",
        _SOFTMAX,
        "weights = exp(scores) / Σ over all of the array",
        "np.sum without axis: all weights of the array together sum to 1.",
        {"softmax": softmax_over(None)},
    ),
    Mistake(
        "softmax over batch and steps together",
        _SOFTMAX,
        "weights = exp(scores) / Σ over N and T_enc",
        "np.sum without axis in a layer that sees one decoder step: all items of the batch "
        "together sum to 1.",
        {"softmax": softmax_over((0, -1))},
    ),
    Mistake(
        "maximum not subtracted",
        "weights = exp(scores − max) / Σ",
        "weights = exp(scores) / Σ exp(scores)",
        "Right until a score exceeds about 709 (88 in float32): then exp overflows and the "
        "weights are NaN.",
        {"softmax": lambda c, scores: _shares(np.exp(scores))},
    ),
    Mistake(
        "softmax missing",
        "weights = softmax(scores)",
        "weights = scores",
        "The scores are used as weights.",
        {"softmax": lambda c, scores: scores},
    ),
    Mistake(
        "softmax applied twice",
        "weights = softmax(scores)",
        "weights = softmax(softmax(scores))",
        "Weights are between 0 and 1, so the second softmax makes them all nearly alike.",
        {"softmax": lambda c, scores: softmax(softmax(scores))},
    ),
    Mistake(
        "softmax not normalised",
        _SOFTMAX,
        "weights = exp(scores − max)",
        "The division by the sum is missing: rows do not sum to 1.",
        {"softmax": _exponentials},
    ),
    Mistake(
        "normalised without exp",
        _SOFTMAX,
        "weights = scores / Σ scores",
        "The exponential is missing: weights can be negative, and the sum can be near 0.",
        {"softmax": lambda c, scores: _shares(scores)},
    ),
    Mistake(
        "sigmoid instead of softmax",
        _SOFTMAX,
        "weights = 1 / (1 + exp(−scores))",
        "Each weight is between 0 and 1, but a row does not sum to 1.",
        {"softmax": lambda c, scores: 1 / (1 + np.exp(-scores))},
    ),
    Mistake(
        "exp2 instead of exp",
        _SOFTMAX,
        "weights = 2^scores / Σ 2^scores",
        "A kernel that uses exp2 has to multiply the scores by log2(e) first.",
        {"softmax": lambda c, scores: softmax(scores * np.log(2.0))},
    ),
    Mistake(
        "logarithm of the softmax",
        "weights = softmax(scores)",
        "weights = log softmax(scores)",
        "log_softmax is for losses; the weights are not to be logarithms.",
        {"softmax": lambda c, scores: np.log(softmax(scores))},
    ),
    Mistake(
        "weights transposed",
        "out = weights · value",
        "out = weightsᵀ · value",
        "It fits only where T_dec and T_enc are equal.",
        {
            "after_softmax": lambda c, weights: (
                weights.swapaxes(-1, -2)
                if c.layer not in ("attention", "attention-weight")
                else weights
            )
        },
    ),
    Mistake(
        "one minus the weights",
        "weights = softmax(scores)",
        "weights = 1 − softmax(scores)",
        "What fits best gets the least weight.",
        {"after_softmax": lambda c, weights: 1 - weights},
    ),
    Mistake(
        "sign of the scores reversed",
        "weights = softmax(scores)",
        "weights = softmax(−scores)",
        "What fits best gets the least weight.",
        {"softmax": lambda c, scores: STEPS["softmax"](c, -scores)},
    ),
)
