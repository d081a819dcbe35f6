"""Mistakes on the way from query and key to the scores."""

from collections.abc import Callable
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import SCORED, Mistake, Value
from attncli.operations.steps import QKV, STEPS, Calculation

_SCORES = "scores = {scale} · query · keyᵀ"


def _heads(c: Calculation, which: int) -> int:
    """How many heads one of the inputs has; nobody divides by them where there are none."""
    if c.given[which].ndim < 4:
        raise ValueError("no axis of heads")
    return int(c.given[which].shape[-3])


def _uncapped(c: Calculation, scores: Array) -> Array:
    if c.semantics.softcap is None:
        return scores
    bent: Array = np.tanh(scores / c.semantics.softcap)
    c.capped = bent
    return bent


def _tiled(c: Calculation, x: Array) -> Array:
    return np.concatenate([x] * c.groups, axis=-3)


def _softcap(cap: Value) -> dict[str, Any]:
    """Bend the scores by another cap, or where none is meant."""

    def softcap(c: Calculation, scores: Array) -> Array:
        c.capped = np.tanh(scores / cap(c))
        return np.asarray(c.capped * cap(c))

    return {"softcap": softcap}


def _clipped(value: Value) -> dict[str, Any]:
    """Beyond the limits there is no slope either."""

    def scaled(c: Calculation, scores: Array) -> Array:
        scores = STEPS["scaled"](c, scores)
        c.inside = np.abs(scores.real) < value(c)
        return np.where(c.inside, scores, np.sign(scores.real) * value(c))

    def scale_back(c: Calculation, dscores: Array) -> Any:
        return STEPS["scale_back"](c, dscores * c.inside)

    return {"scaled": scaled, "scale_back": scale_back}


def _of_base_2(c: Calculation, scores: Array) -> Array:
    if c.semantics.softcap is None:
        return scores
    c.capped = np.tanh(scores / np.log(2.0) / c.semantics.softcap)
    return np.asarray(c.capped * c.semantics.softcap * np.log(2.0))


def _by_item(order: Callable[[Calculation], Array]) -> dict[str, Any]:
    """The query of other items: which, for every item and key."""

    def repeat_query(c: Calculation, query: Array) -> Array:
        steps = np.arange(c.T_dec)[:, None]
        return np.asarray(query[order(c)[:, None, :], steps])

    return {"repeat_query": repeat_query}


def _without_axis(c: Calculation, query: Array) -> Array:
    """H of (N, H) beside hs of (N, T, H): its items lie along T."""
    return query.swapaxes(0, 1)[None]  # (1, T_dec, N, H) beside (N, 1, T_enc, H)


def _reshaped(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-1], x.shape[-2])


def _only_of(layer: str, swapped: Callable[[Array, Array, Array], Any]) -> dict[str, Any]:
    """Query, key and value of one layer in other places."""
    return {"operands": lambda c, *given: swapped(*given) if c.layer == layer else given}


def _scaled_by(factor: Callable[[Calculation], Any]) -> dict[str, Any]:
    """A wrong scale: everywhere, or as the default of an option that is used where it is given."""
    return {
        "steps": {"factor": factor},
        "variants": ({"factor": lambda c: factor(c) if c.semantics.scale is None else c.scale},),
    }


SCORES: tuple[Mistake, ...] = (
    Mistake(
        "scale missing",
        _SCORES,
        "scores = query · keyᵀ",
        "The scores are not scaled, so the softmax is too sharp, the more so the larger H is.",
        **_scaled_by(lambda c: 1.0),
        remedy="scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])",
    ),
    Mistake(
        "scale 1/√H",
        _SCORES,
        "scores = query · keyᵀ / √H",
        "The scores are divided by √H as in the Transformer. The book's layers do not scale.",
        **_scaled_by(lambda c: c.H**-0.5),
        remedy="s = np.sum(hs * hr, axis=2)  # or check --scale with what is meant",
    ),
    Mistake(
        "scale 1/H",
        _SCORES,
        "scores = query · keyᵀ / H",
        "The scores are divided by H: np.mean over H where np.sum is meant, or a missing root.",
        **_scaled_by(lambda c: 1.0 / c.H),
        remedy="scale = 1 / np.sqrt(query.shape[-1])  # in the book: np.sum, no scale",
    ),
    Mistake(
        "scale √H",
        _SCORES,
        "scores = query · keyᵀ · √H",
        "The scores are multiplied by √H where they should be divided by it.",
        **_scaled_by(lambda c: c.H**0.5),
        remedy="scores = scores / np.sqrt(H)",
    ),
    Mistake(
        "scale 1/√T",
        _SCORES,
        "scores = query · keyᵀ / √T_enc",
        "The scores are scaled by the number of keys: shape[1] was taken for the hidden size.",
        **_scaled_by(lambda c: c.T_enc**-0.5),
        remedy="H = key.shape[-1]; scale = 1 / np.sqrt(H)",
    ),
    Mistake(
        "scale 1/T",
        _SCORES,
        "scores = query · keyᵀ / T_enc",
        "The scores are divided by the number of keys.",
        **_scaled_by(lambda c: 1.0 / c.T_enc),
        remedy="H = key.shape[-1]; scale = 1 / np.sqrt(H)  # in the book: no scale",
    ),
    Mistake(
        "scale 1/√heads",
        _SCORES,
        "scores = query · keyᵀ / √heads",
        "key.shape[1] is the number of heads where there are any: key.shape[-1] is meant.",
        **_scaled_by(lambda c: _heads(c, 1) ** -0.5),
        remedy="scale = 1 / np.sqrt(key.shape[-1])  # shape[1] is the number of heads",
    ),
    Mistake(
        "scale applied twice",
        _SCORES,
        "scores = {scale} · ({scale} · query · keyᵀ)",
        "Both the query and the scores are scaled, or query and key each by the whole scale.",
        **_scaled_by(lambda c: c.scale**2),
        remedy="scores = scale * (query @ key.swapaxes(-1, -2))  # query is not scaled before",
    ),
    Mistake(
        "scale after the softmax",
        "weights = softmax({scale} · query · keyᵀ)",
        "weights = {scale} · softmax(query · keyᵀ)",
        "The scale is applied to the weights, so that they no longer sum to 1.",
        {"factor": lambda c: 1.0, "after_softmax": lambda c, weights: weights * c.scale},
        remedy="weights = softmax(scale * scores)",
    ),
    Mistake(
        "query and key added instead of multiplied",
        "scores = Σ_h hs · h",
        "scores = Σ_h (hs + h)",
        "hs + hr where hs * hr is meant: what h adds is the same for every step, and cancels.",
        {"product": lambda c, key, hr: key + hr},
        remedy="t = hs * hr",
    ),
    Mistake(
        "h repeated along the wrong axis",
        "hr = h repeated T times along a new axis 1",
        "hr = every number of h repeated T times, then reshaped to (N, T, H)",
        "np.repeat(h, T, axis=1).reshape(N, T, H) runs without an error and mixes up T and H; "
        "h.reshape(N, 1, H).repeat(T, axis=1) is meant.",
        {
            "repeat_query": lambda c, query: np.repeat(query, c.T_enc, axis=-1).reshape(
                *query.shape[:-1], c.T_enc, c.H
            )
        },
        remedy="hr = h.reshape(N, 1, H).repeat(T, axis=1)",
    ),
    Mistake(
        "scores summed over T instead of H",
        "scores = Σ_h hs · h",
        "scores = Σ_t hs · h",
        "np.sum(t, axis=1) where axis=2 is meant: it fits only where T and H are equal.",
        {"sum_h": lambda c, t: t.sum(axis=-2)},
        remedy="s = np.sum(t, axis=2)",
        # What makes weights alone gives as many as there are hidden units.
        variants=({"sum_h": lambda c, t: t.sum(axis=-2), "mask": lambda c, scores: scores},),
    ),
    Mistake(
        "hs_enc and hs_dec swapped",
        "attention(hs_enc, hs_dec): decoder steps look at encoder steps",
        "attention(hs_dec, hs_enc): encoder steps look at decoder steps",
        "The two arguments changed places, in the signature or in the call.",
        # In a loop over the decoder steps, only so many of the encoder's are looked at.
        _only_of(
            "time-attention", lambda query, key, value: (key[:, : query.shape[1]], query, query)
        ),
        remedy="out = layer.forward(hs_enc, hs_dec[:, t, :])",
    ),
    Mistake(
        "query and key swapped",
        "scores = query · keyᵀ",
        "scores = key · queryᵀ",
        "The scores are transposed: it fits only where T_dec and T_enc are equal.",
        _only_of(QKV, lambda query, key, value: (key, query, value)),
        remedy="scores = query @ key.swapaxes(-1, -2)",
    ),
    Mistake(
        "key and value swapped",
        "out = softmax(query · keyᵀ) · value",
        "out = softmax(query · valueᵀ) · key",
        "Key and value changed places.",
        _only_of(QKV, lambda query, key, value: (query, value, key)),
        remedy="out = softmax(scale * query @ key.swapaxes(-1, -2)) @ value",
    ),
    Mistake(
        "groups tiled instead of repeated",
        "key head i serves the query heads i·g … i·g+g−1",
        "key head i serves the query heads i, i + key heads, …",
        "np.tile(key, g) along the heads where np.repeat is meant: every query head but the "
        "first and last meets another key head.",
        {"key_groups": _tiled, "value_groups": _tiled},
        remedy="k, v = (np.repeat(x, groups, axis=1) for x in (key, value))",
    ),
    *(
        Mistake(
            f"only the heads of {one} tiled",
            f"{one} head i serves the query heads i·g … i·g+g−1",
            f"{one} head i serves the query heads i, i + {one} heads, …",
            f"np.tile({one}, g) along the heads where np.repeat is meant, as it is done for "
            f"{other}: a query head takes its weights from one head and its values from another.",
            {f"{one}_groups": _tiled},
            remedy=f"{one} = np.repeat({one}, groups, axis=1)",
        )
        for one, other in (("key", "value"), ("value", "key"))
    ),
    Mistake(
        "softcap missing",
        "scores = cap · tanh(scores / cap)",
        "scores = scores",
        "The scores are not bent.",
        {"softcap": lambda c, scores: scores},
        remedy="scores = cap * np.tanh(scores / cap)",
    ),
    Mistake(
        "softcap before the scale",
        "scores = cap · tanh(scale · query · keyᵀ / cap)",
        "scores = scale · cap · tanh(query · keyᵀ / cap)",
        "The scores are bent first and scaled after.",
        {"logits": lambda c, scores: c("mask", c("scaled", c("softcap", scores)))},
        remedy="scores = cap * np.tanh(scale * scores / cap)",
    ),
    Mistake(
        "softcap after the mask",
        "scores = mask(cap · tanh(scores / cap))",
        "scores = cap · tanh(mask(scores) / cap)",
        "tanh(−∞) = −1, so hidden keys come back with the score −cap.",
        {"logits": lambda c, scores: c("softcap", c("mask", c("scaled", scores)))},
        remedy="s = cap * np.tanh(s / cap); s = np.where(seen, s, -np.inf)",
    ),
    Mistake(
        "softcap not multiplied back",
        "scores = cap · tanh(scores / cap)",
        "scores = tanh(scores / cap)",
        "The scores are bent to ±1 instead of ±cap.",
        {"softcap": _uncapped},
        remedy="scores = cap * np.tanh(scores / cap)",
    ),
    Mistake(
        "scale 1/√(heads·H)",
        _SCORES,
        "scores = query · keyᵀ / √(heads · H)",
        "The scores are scaled by the size of the model: each head has only H of its features.",
        **_scaled_by(lambda c: (_heads(c, 0) * c.H) ** -0.5),
        remedy="scale = 1 / np.sqrt(query.shape[-1])  # (N, heads, T, H)",
    ),
    Mistake(
        "another scale",
        _SCORES,
        "scores = ({value}) · query · keyᵀ",
        "The scale is that of another size, or a number of its own: {value}.",
        remedy="scale = 1 / np.sqrt(query.shape[-1])",
        family=lambda value: {"factor": value},
        starts=tuple(2.0**k for k in range(-7, 5)),
        claim="scale",
        by_head=True,
    ),
    Mistake(
        "base-2 scores under the softcap",
        "scores = cap · tanh(scores / cap)",
        "scores = cap · ln 2 · tanh(scores · log2(e) / cap), which is a softcap of {cap · ln 2}",
        "The scores were multiplied by log2(e) for exp2 before they were bent: the cap is ln 2 "
        "times too small.",
        {"softcap": _of_base_2},
        remedy="scores = cap * np.tanh(scores / cap); p = np.exp2(scores * np.log2(np.e))",
    ),
    Mistake(
        "another softcap",
        "scores = cap · tanh(scores / cap)",
        "scores = {value} · tanh(scores / {value})",
        "The scores are bent by another cap, or bent where none is meant: {value}.",
        remedy="scores = cap * np.tanh(scores / cap) if cap else scores",
        family=_softcap,
        starts=(0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 50.0, 100.0),
        claim="softcap",
    ),
    Mistake(
        "scores clipped",
        _SCORES,
        "scores = clip({scale} · query · keyᵀ, −{value}, {value})",
        "Scores beyond ±{value} are all the same. Nothing overflows where the maximum is "
        "subtracted.",
        remedy="e = np.exp(s - s.max(axis=-1, keepdims=True))  # s as it is",
        family=_clipped,
        choices=(1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 88.0, 100.0),
        layers=SCORED,
    ),
    Mistake(
        "only the first units of the scores",
        "scores = scale · Σ over the H units of query · key",
        "scores = scale · Σ over the first {value}",
        "The loop over the head size ends at {value}: right as long as H is no larger.",
        remedy="scores = query @ key.swapaxes(-1, -2)  # over all of H",
        family=lambda value: {
            "query_key": lambda c: (
                c.query[..., : value(c)] @ c.key[..., : value(c)].swapaxes(-1, -2)
            )
        },
        choices=(1, 4, 16, 32, 64, 96, 128),
        sized=("H", int),
        layers=(QKV,),
    ),
    Mistake(
        "the query of another item",
        "item n is asked by its own h[n]",
        "item n is asked by h[N − 1 − n]",
        "The batch was turned around on the way: hs and h no longer belong together.",
        _by_item(lambda c: np.repeat(np.arange(len(c.query))[::-1, None], c.T_enc, axis=1)),
        variants=(
            _by_item(lambda c: np.repeat(np.roll(np.arange(len(c.query)), 1)[:, None], c.T_enc, 1)),
            _by_item(
                lambda c: np.repeat(np.roll(np.arange(len(c.query)), -1)[:, None], c.T_enc, 1)
            ),
        ),
        remedy="hr = h.reshape(N, 1, H).repeat(T, axis=1)",
    ),
    Mistake(
        "h tiled instead of repeated",
        "hr[n, t] = h[n]",
        "hr[n, t] = h[(n · T + t) mod N]",
        "np.tile(h, (T, 1)).reshape(N, T, H) mixes the items of the batch.",
        _by_item(lambda c: np.arange(len(c.query) * c.T_enc).reshape(-1, c.T_enc) % len(c.query)),
        remedy="hr = h.reshape(N, 1, H).repeat(T, axis=1)",
    ),
    Mistake(
        "an axis missing beside h",
        "hr[n, t] = h[n]",
        "hr[n, t] = h[t]",
        "hs * h pairs the items of h with the steps of hs: it fits only where N and T are equal.",
        {"product": lambda c, key, hr: key * _without_axis(c, c.query)},
        variants=({"repeat_query": _without_axis},),
        remedy="t = hs * h[:, None, :]",
    ),
    Mistake(
        "reshape instead of transpose",
        "scores = query · keyᵀ",
        "scores = query · key.reshape(N, H, T)",
        "reshape keeps the numbers in their order and cuts them anew; a transpose exchanges axes.",
        {"query_key": lambda c: c.query @ _reshaped(c.key)},
        variants=(
            {
                "query_key": lambda c: c.query @ _reshaped(c.key),
                "weights_value_back": lambda c, dout: (
                    c.weights.swapaxes(-1, -2) @ dout,
                    dout @ _reshaped(c.value),
                ),
            },
        ),
        remedy="scores = query @ key.swapaxes(-1, -2)",
        layers=SCORED,
    ),
)
