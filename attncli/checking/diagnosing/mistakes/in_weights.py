"""Mistakes on the way from the scores to the weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import LOOPED, SCORED, STEPPED, Mistake, Value
from attncli.operations.steps import QKV, STEPS, Calculation, Step, softmax

_SOFTMAX = "weights = exp(scores) / Σ over T_enc"


def softmax_over(axes: tuple[int, ...] | None) -> Any:
    """The softmax as it is often written: where every score is −∞ it gives NaN."""

    def normalised(c: Calculation, scores: Array) -> Array:
        return _shares(np.exp(scores - scores.real.max(axis=axes, keepdims=True)), axes)

    return normalised


def _shares(x: Array, axes: tuple[int, ...] | None = (-1,)) -> Array:
    return np.asarray(x / x.sum(axis=axes, keepdims=True))


def _largest(scores: Array) -> Array:
    """The largest of each row; 0 where there is none."""
    largest = scores.real.max(axis=-1, keepdims=True)
    return np.where(np.isfinite(largest), largest, 0)


def _exponentials(c: Calculation, scores: Array) -> Array:
    return np.asarray(np.exp(scores - _largest(scores)))


def _over_more(more: Callable[[Calculation, Array], Any]) -> dict[str, Any]:
    """A softmax with something more in its denominator, beside exp(scores − largest)."""

    def normalised(c: Calculation, scores: Array) -> Array:
        exps, largest = _exponentials(c, scores), _largest(scores)
        total = exps.sum(axis=-1, keepdims=True) + more(c, largest)
        return np.asarray(exps / np.where(total == 0, 1, total))

    return {"softmax": normalised}


def _elu(x: Array) -> Array:
    return np.where(x.real > 0, x, np.exp(np.where(x.real > 0, 0, x)) - 1)


def _linear(feature: Callable[[Calculation, Array], Array]) -> Step:
    """Shares of products of features, of the keys that are seen."""

    def normalised(c: Calculation, scores: Array) -> Array:
        products = feature(c, c.query) @ feature(c, c.key).swapaxes(-1, -2)
        shares = np.where(scores.real == -np.inf, 0, products)
        total = shares.sum(axis=-1, keepdims=True)
        return np.asarray(shares / np.where(total == 0, 1, total))

    return normalised


def _with_epsilon(epsilon: Value) -> dict[str, Any]:
    return _over_more(lambda c, largest: epsilon(c))


def _with_sink(sink: Value) -> dict[str, Any]:
    return _over_more(lambda c, largest: np.exp(sink(c) - largest))


def _with_padding(size: Value) -> dict[str, Any]:
    """Keys of zeros up to a multiple of a size: each has the score 0."""
    return _over_more(lambda c, largest: (-c.T_enc % size(c)) * np.exp(-largest))


def _begun_at(start: Value) -> dict[str, Any]:
    """A running maximum that begins at a number."""

    def normalised(c: Calculation, scores: Array) -> Array:
        exps = np.exp(scores - np.maximum(_largest(scores), start(c)))
        total = exps.sum(axis=-1, keepdims=True)
        return np.asarray(exps / np.where(total == 0, 1, total))

    return {"softmax": normalised}


_HALF = "half the keys"


def _chunks(scores: Array, size: int | str) -> list[Array]:
    """The keys in chunks of a size, or in two."""
    T = scores.shape[-1]
    size = (T + 1) // 2 if isinstance(size, str) else size
    return [scores[..., start : start + size] for start in range(0, T, size)]


def _merged(log: float) -> Callable[[Value], dict[str, Any]]:
    """Chunks merged by their log-sum-exp, as if it were that of another base."""

    def family(size: Value) -> dict[str, Any]:
        def normalised(c: Calculation, scores: Array) -> Array:
            parts = _chunks(scores, size(c))
            lse = [
                _largest(part) + np.log(_exponentials(c, part).sum(axis=-1, keepdims=True))
                for part in parts
            ]
            shares = softmax(np.concatenate(lse, axis=-1) * log)
            weights = [softmax(part) * shares[..., i : i + 1] for i, part in enumerate(parts)]
            return np.concatenate(weights, axis=-1)

        return {"softmax": normalised}

    return family


def _not_rescaled(size: Value, *, total: bool = False, out: bool = False) -> dict[str, Any]:
    """An online softmax that keeps what it had when the maximum moves, but for one of the two."""

    def normalised(c: Calculation, scores: Array) -> Array:
        running, exps = np.full((*scores.shape[:-1], 1), -np.inf), []
        for part in _chunks(scores, size(c)):
            running = np.maximum(running, part.real.max(axis=-1, keepdims=True))
            exps.append(np.exp(part - np.where(np.isfinite(running), running, 0)))
        kept, rescaled = np.concatenate(exps, axis=-1), _exponentials(c, scores)
        sums = (rescaled if total else kept).sum(axis=-1, keepdims=True)
        return np.asarray((rescaled if out else kept) / np.where(sums == 0, 1, sums))

    return {"softmax": normalised}


def _of_the_batch(c: Calculation, scores: Array) -> Array:
    """Each row's maximum subtracted, and the sum taken over the batch."""
    exps = _exponentials(c, scores)
    total = exps.sum(axis=0, keepdims=True)
    return np.asarray(exps / np.where(total == 0, 1, total))


def _along_keys(total: Array) -> Array:
    """Sums of (N,) beside scores of (N, T), without keepdims: they lie along T."""
    return total[..., 0].swapaxes(0, 1)[None]


_TILES = (_HALF, 2, 3, 4, 5, 8, 16, 32, 64, 128)


WEIGHTS: tuple[Mistake, ...] = (
    Mistake(
        "softmax over the batch",
        _SOFTMAX,
        "weights = exp(scores) / Σ over N",
        "axis=0 is the batch: the items compete with each other, and every item's weights no "
        "longer sum to 1.",
        {"softmax": lambda c, scores: softmax(scores, axis=0)},
        remedy="softmax(scores, axis=-1)",
        variants=({"softmax": _of_the_batch},),
    ),
    Mistake(
        "softmax over the decoder steps",
        _SOFTMAX,
        "weights = exp(scores) / Σ over T_dec",
        "The queries compete for each key: columns sum to 1, not rows.",
        {"softmax": lambda c, scores: softmax(scores, axis=-2)},
        layers=STEPPED,
        remedy="softmax(scores, axis=-1)",
    ),
    Mistake(
        "softmax over an axis of length 1",
        "scores are (N, T), the softmax is over T",
        "scores are (N, T, 1), the softmax is over the 1: every weight is 1",
        "An axis of length 1 sums to 1 by itself, so all weights are 1.",
        {"softmax": lambda c, scores: np.ones_like(scores)},
        remedy="a = softmax(s.squeeze(-1), axis=1)",
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
        layers=SCORED,
        remedy="s = np.sum(t, axis=2); a = softmax(s, axis=1)",
    ),
    Mistake(
        "softmax over the whole array",
        _SOFTMAX,
        "weights = exp(scores) / Σ over all of the array",
        "np.sum without axis: all weights of the array together sum to 1.",
        {"softmax": softmax_over(None)},
        remedy="a = e / e.sum(axis=-1, keepdims=True)",
        variants=({"softmax": lambda c, scores: _shares(_exponentials(c, scores), None)},),
    ),
    Mistake(
        "softmax over batch and steps together",
        _SOFTMAX,
        "weights = exp(scores) / Σ over N and T_enc",
        "np.sum without axis in a layer that sees one decoder step: all items of the batch "
        "together sum to 1.",
        {"softmax": softmax_over((0, -1))},
        layers=LOOPED,
        remedy="a = e / e.sum(axis=-1, keepdims=True)",
    ),
    Mistake(
        "maximum not subtracted",
        "weights = exp(scores − max) / Σ",
        "weights = exp(scores) / Σ exp(scores)",
        "Right until a score exceeds about 709 (88 in float32): then exp overflows and the "
        "weights are NaN.",
        {"softmax": lambda c, scores: _shares(np.exp(scores))},
        remedy="e = np.exp(s - s.max(axis=-1, keepdims=True))",
    ),
    Mistake(
        "softmax missing",
        "weights = softmax(scores)",
        "weights = scores",
        "The scores are used as weights.",
        {"softmax": lambda c, scores: scores},
        remedy="weights = softmax(scores)",
    ),
    Mistake(
        "linear attention in place of the softmax",
        "weights = softmax(scores)",
        "weights = φ(query) · φ(key)ᵀ / Σ over T_enc, φ(x) = elu(x) + 1",
        "Features of query and key take the place of exp(query · keyᵀ). It is linear in T, and "
        "another operation.",
        {"softmax": _linear(lambda c, x: _elu(x) + 1)},
        variants=tuple(
            {"softmax": _linear(feature)}
            for feature in (
                lambda c, x: _elu(c.scale * x) + 1,
                lambda c, x: _elu(abs(c.scale) ** 0.5 * x) + 1,
                lambda c, x: np.where(x.real > 0, x, 0),
            )
        ),
        remedy="weights = softmax(scale * query @ key.swapaxes(-1, -2))",
        layers=(QKV,),
    ),
    Mistake(
        "softmax applied twice",
        "weights = softmax(scores)",
        "weights = softmax(softmax(scores))",
        "Weights are between 0 and 1, so the second softmax makes them all nearly alike.",
        {"softmax": lambda c, scores: softmax(softmax(scores))},
        remedy="weights = softmax(scores)",
    ),
    Mistake(
        "softmax not normalised",
        _SOFTMAX,
        "weights = exp(scores − max)",
        "The division by the sum is missing: rows do not sum to 1.",
        {"softmax": _exponentials},
        remedy="a = e / e.sum(axis=-1, keepdims=True)",
    ),
    Mistake(
        "normalised without exp",
        _SOFTMAX,
        "weights = scores / Σ scores",
        "The exponential is missing: weights can be negative, and the sum can be near 0.",
        {"softmax": lambda c, scores: _shares(scores)},
        remedy="e = np.exp(s - s.max(-1, keepdims=True)); a = e / e.sum(-1, keepdims=True)",
    ),
    Mistake(
        "sigmoid instead of softmax",
        _SOFTMAX,
        "weights = 1 / (1 + exp(−scores))",
        "Each weight is between 0 and 1, but a row does not sum to 1.",
        {"softmax": lambda c, scores: 1 / (1 + np.exp(-scores))},
        remedy="e = np.exp(s - s.max(-1, keepdims=True)); a = e / e.sum(-1, keepdims=True)",
    ),
    Mistake(
        "exp2 instead of exp",
        _SOFTMAX,
        "weights = 2^scores / Σ 2^scores",
        "A kernel that uses exp2 has to multiply the scores by log2(e) first.",
        {"softmax": lambda c, scores: softmax(scores * np.log(2.0))},
        remedy="e = np.exp2(s * np.log2(np.e))",
    ),
    Mistake(
        "logarithm of the softmax",
        "weights = softmax(scores)",
        "weights = log softmax(scores)",
        "log_softmax is for losses; the weights are not to be logarithms.",
        {"softmax": lambda c, scores: np.log(softmax(scores))},
        remedy="weights = softmax(scores)  # not log_softmax",
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
        remedy="out = weights @ value",
    ),
    Mistake(
        "one minus the weights",
        "weights = softmax(scores)",
        "weights = 1 − softmax(scores)",
        "What fits best gets the least weight.",
        {"after_softmax": lambda c, weights: 1 - weights},
        remedy="weights = softmax(scores)",
    ),
    Mistake(
        "sign of the scores reversed",
        "weights = softmax(scores)",
        "weights = softmax(−scores)",
        "What fits best gets the least weight.",
        {"softmax": lambda c, scores: STEPS["softmax"](c, -scores)},
        remedy="weights = softmax(scores)",
    ),
    Mistake(
        "a number added to the softmax's denominator",
        _SOFTMAX,
        "weights = exp(scores − max) / (Σ over T_enc + {value})",
        "With the maximum subtracted the sum is at least 1: nothing has to be added to it, and "
        "the weights no longer sum to 1.",
        remedy="a = e / e.sum(axis=-1, keepdims=True)",
        family=_with_epsilon,
        starts=(1e-6, 1e-3),
    ),
    Mistake(
        "softmax off by one",
        _SOFTMAX,
        "weights = exp(scores) / (1 + Σ over T_enc)",
        "One more logit, a sink of 0, takes part in the sum and leads to no value: rows sum to "
        "less than 1.",
        _with_sink(lambda c: 0.0),
        remedy="a = e / e.sum(axis=-1, keepdims=True)  # no + np.exp(-m)",
    ),
    Mistake(
        "a sink where none is meant",
        _SOFTMAX,
        "weights = exp(scores) / (exp({value}) + Σ over T_enc)",
        "One more logit, a sink of {value}, takes part in the sum and leads to no value: rows sum "
        "to less than 1.",
        remedy="a = e / e.sum(axis=-1, keepdims=True)  # no + np.exp(sink - m)",
        family=_with_sink,
        starts=(-6.0, -3.0, -1.0, 1.0, 3.0, 6.0),
        by_head=True,
    ),
    Mistake(
        "padded keys take part",
        _SOFTMAX,
        "weights = exp(scores) / (Σ over T_enc + exp(0) for each key of padding), padded to a "
        "multiple of {value}",
        "Keys were padded with zeros: their scores are 0, not −∞, so each takes a share of the "
        "weights.",
        remedy="s = np.where(np.arange(s.shape[-1]) < T_enc, s, -np.inf)",
        family=_with_padding,
        choices=(4, 8, 16, 32, 64, 128),
    ),
    Mistake(
        "the running maximum begins at a number",
        "m = max(scores), begun at −∞",
        "m = max({value}, scores)",
        "Scores some 745 below {value} (88 in float32) underflow: every exp is 0, and so is the "
        "row.",
        remedy="m = -np.inf",
        family=_begun_at,
        choices=(0.0, -1.0, -10.0, -100.0, -1e3, -1e4, -2e4, -5e4, -65504.0, -1e5),
    ),
    Mistake(
        "log-sum-exp of base 2 taken for a natural one",
        "chunks of keys are merged by exp(lse), lse = ln Σ exp(scores)",
        "exp(lse) with lse = log2 Σ exp(scores); chunks of {value}",
        "Each chunk is right, but they are merged with the wrong weights: the base of the "
        "log-sum-exp is 2, and it is taken for e.",
        remedy="lse = m + np.log(total)  # or merge with np.exp2(lse - largest)",
        family=_merged(1 / np.log(2.0)),
        choices=_TILES,
    ),
    Mistake(
        "natural log-sum-exp taken for one of base 2",
        "chunks of keys are merged by exp(lse), lse = ln Σ exp(scores)",
        "exp2(lse) with lse = ln Σ exp(scores); chunks of {value}",
        "Each chunk is right, but they are merged with the wrong weights: the base of the "
        "log-sum-exp is e, and it is taken for 2.",
        remedy="w = np.exp(lse - largest)  # or lse * np.log2(np.e) with np.exp2",
        family=_merged(np.log(2.0)),
        choices=_TILES,
    ),
    Mistake(
        "online softmax not rescaled",
        "what was summed is multiplied by exp(old maximum − new maximum)",
        "it is left as it is when the running maximum moves; tiles of {value}",
        "Right as long as there is one tile of {value} keys, or the first holds the largest score.",
        remedy="alpha = np.exp(m - m_new); acc, total = alpha * acc, alpha * total",
        family=_not_rescaled,
        choices=_TILES,
    ),
    Mistake(
        "only the output of an online softmax rescaled",
        "the sum of exps is multiplied by exp(old maximum − new maximum) too",
        "it is left as it is when the running maximum moves; tiles of {value}",
        "The output and the sum that it is divided by belong to the same maximum.",
        remedy="total = alpha * total + e.sum(axis=-1, keepdims=True)",
        family=partial(_not_rescaled, out=True),
        choices=_TILES,
        layers=(QKV,),
    ),
    Mistake(
        "only the sum of an online softmax rescaled",
        "the output is multiplied by exp(old maximum − new maximum) too",
        "it is left as it is when the running maximum moves; tiles of {value}",
        "The output and the sum that it is divided by belong to the same maximum.",
        remedy="acc = alpha * acc + e @ v",
        family=partial(_not_rescaled, total=True),
        choices=_TILES,
        layers=(QKV,),
    ),
    Mistake(
        "keepdims missing in the softmax",
        "weights[n, t] = exp(scores[n, t]) / Σ of row n",
        "weights[n, t] = exp(scores[n, t]) / Σ of row t",
        "The sums have lost their axis and lie along T: it fits only where N and T are equal.",
        {
            "softmax": lambda c, scores: (
                (e := _exponentials(c, scores)) / _along_keys(e.sum(axis=-1, keepdims=True))
            )
        },
        remedy="a = e / e.sum(axis=1, keepdims=True)",
    ),
    Mistake(
        "the first item's weights for all",
        "weights[n] of item n",
        "weights[0] for every item",
        "An index [0], or a loop that keeps the first: the whole batch looks where item 0 does.",
        {"after_softmax": lambda c, weights: np.broadcast_to(weights[:1], weights.shape)},
        remedy="a = softmax(s)  # (N, T), not a[0]",
    ),
)
