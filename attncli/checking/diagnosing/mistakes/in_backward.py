"""Mistakes in the backward pass alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.in_masking import LEFT_OUT, MASKING, from_on, kept
from attncli.checking.diagnosing.mistakes.in_scores import SCORES
from attncli.checking.diagnosing.mistakes.mistake import (
    LOOPED,
    SCORED,
    STEPPED,
    WHOLE,
    Mistake,
    Value,
)
from attncli.operations.steps import PRODUCTS, QKV, STEPS, Calculation, Steps

_SOFTMAX = "dscores = weights ⊙ (dweights − Σ weights ⊙ dweights)"
_JOIN = "dhs = the path through the values + the path through the scores"
_STEPS = "dhs_enc = Σ over the decoder steps"


def _shared(c: Calculation, weights: Array) -> Array:
    return np.asarray((c.weights * weights).sum(axis=-1, keepdims=True))


def _last_step(x: Array, size: int) -> Array:
    """The last decoder step's, in place of every step's: (…, T_dec, T_enc, H)."""
    return np.repeat(x[..., -1:, :, :], size, axis=-3)


def _shared_attention(c: Calculation) -> None:
    """One Attention object for every step: its cache is that of the last forward."""
    if c.layer != "time-attention":
        return
    c.hr = _last_step(c.hr, c.T_dec)
    c.weights = np.repeat(c.weights[..., -1:, :], c.T_dec, axis=-2)
    c.ar = c.weights[..., None]


def _shared_softmax(c: Calculation) -> None:
    if c.layer == "time-attention":
        c.weights = np.repeat(c.weights[..., -1:, :], c.T_dec, axis=-2)


def _of(name: str, change: Callable[[Array], Array]) -> Callable[..., Any]:
    """Change one of the gradients: the first, the second or the last."""

    def gradients(c: Calculation, given: tuple[Array, ...]) -> tuple[Array, ...]:
        chosen = {"first": 0, "second": 1, "last": len(given) - 1}[name]
        return tuple(change(x) if i == chosen else x for i, x in enumerate(given))

    return gradients


def _multiplied(name: str, value: Value) -> Steps:
    return {"gradients": lambda c, given: _of(name, lambda x: value(c) * x)(c, given)}


def _without_steps(left_out: slice) -> Callable[..., Any]:
    """The gradients of some decoder steps are never assigned."""

    def gradients(c: Calculation, given: tuple[Array, ...]) -> tuple[Array, ...]:
        if c.layer != "time-attention":
            return given
        dhs_enc, dhs_dec = given
        kept = np.array(dhs_dec)
        kept[:, left_out] = 0
        return dhs_enc, kept

    return gradients


def _dweights(factor: Value) -> Steps:
    """The gradient of the weights made of dout and another factor than the values."""

    def back(c: Calculation, dout: Array) -> tuple[Array, Array]:
        dvalue, _ = STEPS["weights_value_back"](c, dout)
        return dvalue, c.note("dweights", (dout[..., None, :] * factor(c)).sum(axis=-1))

    return {"weights_value_back": back}


def _first_of_group(c: Calculation, x: Array) -> Array:
    return x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:])[..., 0, :, :]


def _mean_of_group(c: Calculation, x: Array) -> Array:
    return np.asarray(x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:]).mean(axis=-3))


def _interleaved(c: Calculation, x: Array) -> Array:
    return np.asarray(x.reshape(*x.shape[:-3], c.groups, -1, *x.shape[-2:]).sum(axis=-4))


def _scores_of(c: Calculation, steps: Steps) -> Array:
    """The masked scores, as forward has them, or with steps that are replaced."""
    steps = {**PRODUCTS, **steps}
    again = Calculation(c.layer, c.given, c.semantics, c.mask, steps, extras=c.extras)
    scores = again.given[0][:, None, :] if c.layer == "softmax" else again("query_key")
    return scores if c.layer == "softmax" else np.asarray(again("logits", scores))


def _logsumexp(scores: Array) -> Array:
    """The log-sum-exp of every row; infinite where every key is hidden: no weight is left."""
    largest = scores.real.max(axis=-1, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    total = np.exp(scores - largest).sum(axis=-1, keepdims=True)
    return np.where(total == 0, np.inf, largest + np.log(np.where(total == 0, 1, total)))


def _recomputed(weights: Callable[[Calculation], Array], *, delta: bool) -> dict[str, Any]:
    """Backward computes the weights again; delta = rowsum(dout ⊙ out) is of forward's."""

    def recomputed(c: Calculation) -> None:
        if c.layer == "weight-sum":  # it is given its weights
            return
        c.kept_weights = c.weights
        c.keep(weights(c))

    def softmax_back(c: Calculation, dweights: Array) -> Array:
        before = c.kept_weights if delta else c.weights
        rowsum = (before * dweights).sum(axis=-1, keepdims=True)
        return np.asarray(c.weights * (dweights - rowsum))

    return {"recomputed": recomputed, "softmax_back": softmax_back}


def _in_backward(mistake: Mistake) -> Mistake:
    """The same mistake made in backward alone, which computes the weights again."""

    def by_softmax(c: Calculation, steps: Steps) -> Array:
        return np.asarray(STEPS["softmax"](c, _scores_of(c, steps)))

    def by_lse(c: Calculation, steps: Steps) -> Array:
        return np.asarray(np.exp(_scores_of(c, steps) - _logsumexp(_scores_of(c, {}))))

    steps, *variants = (
        _recomputed(partial(way, steps=reading.steps), delta=delta)
        for reading in mistake.readings
        for way in (by_lse, by_softmax)
        for delta in (True, False)
    )
    return Mistake(
        f"{mistake.name}, in backward's own weights",
        f"backward's weights are forward's: {mistake.meant}",
        f"forward is right; backward computes its own weights with {mistake.computed}",
        f"Backward computes the weights again, and not as forward did. {mistake.why}",
        steps,
        remedy=mistake.remedy,
        variants=tuple(variants),
        layers=STEPPED,
        alone=True,
    )


def _last_keys(size: Value) -> Steps:
    """The gradient of the queries by the last tile of keys alone."""

    def back(c: Calculation, dscores: Array) -> tuple[Array, Array]:
        dkey, _ = PRODUCTS["query_key_back"](c, dscores)
        last = slice((c.T_enc - 1) // size(c) * size(c), None)
        return dkey, c.note("dquery", dscores[..., last] @ c.key[..., last, :])

    return {"query_key_back": back}


def _of_base_2(c: Calculation) -> Array:
    scores = _scores_of(c, {})
    return np.asarray(np.exp(scores - np.log(2.0) * _logsumexp(scores)))


def _of_base_e(c: Calculation) -> Array:
    scores = _scores_of(c, {})
    return np.asarray(np.exp(scores - _logsumexp(scores) / np.log(2.0)))


def _less(lse: Callable[[Array, Array], Array], *, delta: bool) -> dict[str, Any]:
    """Weights by another quantity in the place of the log-sum-exp: of the maximum and the sum."""

    def weights(c: Calculation) -> Array:
        largest, total = c.noted["largest"], c.noted["total"]
        return np.asarray(
            np.exp(_scores_of(c, {}) - np.where(total == 0, np.inf, lse(largest, total)))
        )

    return _recomputed(weights, delta=delta)


def _delta_of_channels(value: Value) -> Steps:
    def softmax_back(c: Calculation, dweights: Array) -> Array:
        first = np.s_[..., : value(c)]
        delta = (c.noted["dout"][first] * c.noted["out"][first]).sum(axis=-1, keepdims=True)
        return np.asarray(c.weights * (dweights - delta))

    return {"softmax_back": softmax_back}


def _delta_of_keys(value: Value) -> Steps:
    def softmax_back(c: Calculation, dweights: Array) -> Array:
        left = c.weights * kept(c.T_enc, value(c))
        return np.asarray(c.weights * (dweights - (left * dweights).sum(axis=-1, keepdims=True)))

    return {"softmax_back": softmax_back}


def _without_last_key(*which: int) -> Callable[..., Any]:
    """Of query, key and value; of the book's layers the first has all keys."""

    def gradients(c: Calculation, given: tuple[Array, ...]) -> tuple[Array, ...]:
        changed = [np.array(x) for x in given]
        for i in which if c.layer == QKV else (0,):
            changed[i][..., -1, :] = 0
        return tuple(changed)

    return gradients


def _last_tile(value: Value) -> Steps:
    """The sums over queries assigned, tile by tile, where they should be added."""

    def last(c: Calculation, x: Array) -> Array:
        return x[..., (x.shape[-2] - 1) // value(c) * value(c) :, :]

    return {
        "weights_value_back": lambda c, dout: (
            last(c, c.left).swapaxes(-1, -2) @ last(c, dout),
            dout @ c.value.swapaxes(-1, -2),
        ),
        "query_key_back": lambda c, dscores: (
            last(c, dscores).swapaxes(-1, -2) @ last(c, c.query),
            dscores @ c.key,
        ),
    }


def _without_steps_in_both(left_out: slice, kept: slice) -> dict[str, Any]:
    return {
        "over_steps": lambda c, steps: steps[..., kept, :, :].sum(axis=-3),
        "gradients": _without_steps(left_out),
    }


def _first_channels(*, delta: bool) -> dict[str, Any]:
    """Dout · valueᵀ over as many channels as the query has; delta over all of them."""

    def weights_value_back(c: Calculation, dout: Array) -> tuple[Array, Array]:
        dvalue, c.whole_dweights = PRODUCTS["weights_value_back"](c, dout)
        H = c.H
        return dvalue, dout[..., :H] @ c.value[..., :H].swapaxes(-1, -2)

    def softmax_back(c: Calculation, dweights: Array) -> Array:
        whole = c.whole_dweights if delta and c.whole_dweights is not None else dweights
        rowsum = (c.weights * whole).sum(axis=-1, keepdims=True)
        return np.asarray(c.weights * (dweights - rowsum))

    return {"weights_value_back": weights_value_back, "softmax_back": softmax_back}


def _written_into_dhs_enc() -> dict[str, Any]:
    """dhs_enc[:, t] = dh in the loop: what was added there before is gone."""

    def over_steps(c: Calculation, steps: Array) -> Array:
        T_dec, T_enc = steps.shape[-3:-1]
        if T_dec > T_enc:
            raise ValueError("no such step")
        later = np.arange(T_dec)[:, None] > np.arange(T_enc)
        later |= np.arange(T_enc) >= T_dec
        return np.asarray((steps * later[..., None]).sum(axis=-3))

    def gradients(c: Calculation, given: tuple[Array, ...]) -> tuple[Array, ...]:
        dhs_enc, dhs_dec = given
        written = np.array(dhs_enc)
        written[:, : dhs_dec.shape[1]] += dhs_dec
        return written, np.zeros_like(dhs_dec)

    return {"over_steps": over_steps, "gradients": gradients}


def _transposed_sums(c: Calculation, dweights: Array) -> Array:
    """Sums of (N,) beside (N, T), without keepdims: they lie along T."""
    sums = _shared(c, dweights)[..., 0].swapaxes(0, 1)[None]
    return np.asarray(c.weights * (dweights - sums))


def _divided_again(c: Calculation, dweights: Array, *, shifted: bool) -> Array:
    scores = _scores_of(c, {})
    if shifted:
        scores = scores - scores.max(axis=-1, keepdims=True)
    total = np.exp(scores).sum(axis=-1, keepdims=True)
    return np.asarray(c.weights * (dweights - _shared(c, dweights) / total))


def _over_all(axes: tuple[int, ...] | None) -> Callable[..., Any]:
    return lambda c, d: c.weights * (d - (c.weights * d).sum(axis=axes, keepdims=True))


def _in_place(c: Calculation, dweights: Array) -> Array:
    """Dx = self.out; dx *= dout; dx -= self.out * Σ dx: out is dx by then."""
    product = c.weights * dweights
    return np.asarray(product * (1 - product.sum(axis=-1, keepdims=True)))


_RECOMPUTED = (
    *(m for m in MASKING if m.name in {
        "mask ignored", "mask polarity reversed", "causal order missing",
        "causal order where none is meant",
        "causal order, aligned lower-right, where none is meant",
        "causal order off by one: its own step hidden",
        "causal order off by one: one step ahead seen",
        "causal diagonal aligned at the other corner", "window missing",
        "window and causal order missing", "window off by one: too narrow",
        "window off by one: too wide",
    }),
    *(m for m in SCORES if m.name in {"softcap missing"}),
)  # fmt: skip


BACKWARD: tuple[Mistake, ...] = (
    Mistake(
        "softmax backward without Σ",
        _SOFTMAX,
        "dscores = weights ⊙ dweights",
        "Every weight depends on every score of its row, through the sum in the denominator.",
        {"softmax_back": lambda c, dweights: c.weights * dweights},
        remedy="dx = y * (dout - np.sum(y * dout, axis=-1, keepdims=True))",
    ),
    Mistake(
        "softmax backward with the wrong sign",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights + Σ weights ⊙ dweights)",
        "dx += where dx -= is meant.",
        {"softmax_back": lambda c, d: c.weights * (d + _shared(c, d))},
        remedy="dx -= y * sumdx",
    ),
    Mistake(
        "softmax backward as if element-wise",
        _SOFTMAX,
        "dscores = weights ⊙ (1 − weights) ⊙ dweights",
        "That is the sigmoid's derivative: only the diagonal of the softmax's Jacobian.",
        {"softmax_back": lambda c, d: c.weights * (1 - c.weights) * d},
        remedy="dx = y * (dout - np.sum(y * dout, axis=-1, keepdims=True))",
    ),
    Mistake(
        "softmax backward without the factor weights",
        _SOFTMAX,
        "dscores = dweights − Σ weights ⊙ dweights",
        "The weights in front are missing.",
        {"softmax_back": lambda c, d: d - _shared(c, d)},
        remedy="dx = y * (dout - np.sum(y * dout, axis=-1, keepdims=True))",
    ),
    Mistake(
        "softmax backward with Σ dweights",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ dweights)",
        "The sum is that of weights ⊙ dweights, not of dweights.",
        {"softmax_back": lambda c, d: c.weights * (d - d.sum(axis=-1, keepdims=True))},
        remedy="sumdx = np.sum(y * dout, axis=-1, keepdims=True)",
    ),
    Mistake(
        "softmax backward: Σ without the weights in front",
        _SOFTMAX,
        "dscores = weights ⊙ dweights − Σ weights ⊙ dweights",
        "dx -= sumdx where dx -= y * sumdx is meant.",
        {"softmax_back": lambda c, d: c.weights * d - _shared(c, d)},
        remedy="dx -= y * sumdx",
    ),
    Mistake(
        "softmax backward with Σ over the batch",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ over N)",
        "np.sum(…, axis=0) in the softmax's backward.",
        {"softmax_back": lambda c, d: c.weights * (d - (c.weights * d).sum(axis=0, keepdims=True))},
        remedy="sumdx = np.sum(y * dout, axis=-1, keepdims=True)",
    ),
    Mistake(
        "softmax backward missing",
        _SOFTMAX,
        "dscores = dweights",
        "The gradient passes the softmax as if it were not there.",
        {"softmax_back": lambda c, dweights: dweights},
        remedy="ds = self.softmax.backward(da)",
    ),
    Mistake(
        "scale missing in backward",
        "dscores = {scale} · softmax's backward",
        "dscores = softmax's backward",
        "forward multiplies by the scale, so backward has to as well.",
        {"scale_back": lambda c, dscores: dscores},
        layers=WHOLE,
        remedy="ds = scale * softmax_backward(da)",
    ),
    Mistake(
        "scale applied twice in backward",
        "dscores = {scale} · softmax's backward",
        "dscores = {scale} · {scale} · softmax's backward",
        "The gradient is scaled once too often.",
        {"scale_back": lambda c, dscores: dscores * c("factor") ** 2},
        layers=WHOLE,
        remedy="ds = scale * softmax_backward(da)  # once",
    ),
    Mistake(
        "softcap missing in backward",
        "dscores = dscores ⊙ (1 − tanh²)",
        "dscores = dscores",
        "The derivative of tanh is left out.",
        {"softcap_back": lambda c, dscores: dscores},
        layers=WHOLE,
        remedy="ds = ds * (1 - tanh**2)",
    ),
    Mistake(
        "score path missing from dhs",
        _JOIN,
        "dhs = the path through the values",
        "hs is used twice, as the values and in the scores; the gradient is the sum of both.",
        {"join": lambda c, dkey, dvalue: dvalue},
        remedy="dhs = dhs0 + dhs1",
    ),
    Mistake(
        "value path missing from dhs",
        _JOIN,
        "dhs = the path through the scores",
        "hs is used twice, as the values and in the scores; the gradient is the sum of both.",
        {"join": lambda c, dkey, dvalue: dkey},
        remedy="dhs = dhs0 + dhs1",
    ),
    Mistake(
        "paths of dhs subtracted",
        _JOIN,
        "dhs = the path through the values − the path through the scores",
        "A minus where a plus is meant.",
        {"join": lambda c, dkey, dvalue: dvalue - dkey},
        remedy="dhs = dhs0 + dhs1",
    ),
    Mistake(
        "value path counted twice in dhs",
        _JOIN,
        "dhs = 2 · the path through the values",
        "dhs0 + dhs0 where dhs0 + dhs1 is meant.",
        {"join": lambda c, dkey, dvalue: 2 * dvalue},
        remedy="dhs = dhs0 + dhs1",
    ),
    Mistake(
        "paths of dhs averaged",
        _JOIN,
        "dhs = ½ · (both paths)",
        "Gradients of a variable that is used twice are added, not averaged.",
        {"join": lambda c, dkey, dvalue: (dkey + dvalue) / 2},
        remedy="dhs = dhs0 + dhs1",
    ),
    Mistake(
        "gradients of the steps overwritten instead of added",
        _STEPS,
        "dhs_enc = the last decoder step's",
        "dhs_enc = dhs in the loop where dhs_enc += dhs is meant: every step used hs_enc.",
        {"over_steps": lambda c, steps: steps[..., -1, :, :]},
        layers=STEPPED,
        remedy="dhs_enc += dhs",
    ),
    Mistake(
        "gradient of the first step alone",
        _STEPS,
        "dhs_enc = the first decoder step's",
        "The loop ends after one step: a return that is indented too far.",
        {"over_steps": lambda c, steps: steps[..., 0, :, :]},
        variants=(
            {
                "over_steps": lambda c, steps: steps[..., 0, :, :],
                "gradients": _without_steps(slice(1, None)),
            },
        ),
        layers=STEPPED,
        remedy="for t in range(T): dhs_enc += dhs  # return stands behind the loop",
    ),
    Mistake(
        "last step left out of backward",
        _STEPS,
        "dhs_enc = Σ over the decoder steps but the last, whose dhs_dec is not assigned",
        "range(T − 1) in backward's loop: it ends a step too early.",
        {
            "over_steps": lambda c, steps: steps[..., :-1, :, :].sum(axis=-3),
            "gradients": _without_steps(slice(-1, None)),
        },
        layers=STEPPED,
        remedy="for t in range(T):",
    ),
    Mistake(
        "gradients of the steps averaged",
        _STEPS,
        "dhs_enc = mean over the decoder steps",
        "Every step used hs_enc: its gradients are added.",
        {"over_steps": lambda c, steps: steps.mean(axis=-3)},
        layers=STEPPED,
        remedy="dhs_enc += dhs",
    ),
    Mistake(
        "only the last step's gradient in dhs_dec",
        "dhs_dec[:, t] = dh of step t",
        "dhs_dec is 0 but for the last step",
        "The assignment stands behind the loop instead of inside it.",
        {"gradients": _without_steps(slice(None, -1))},
        layers=LOOPED,
        remedy="for t in range(T): dhs_dec[:, t, :] = dh  # inside the loop",
    ),
    Mistake(
        "one Attention object shared by all steps",
        "every decoder step has its own Attention(), which remembers its inputs",
        "all steps share one, whose cache holds the last step's",
        "layer = Attention() belongs inside the loop: forward overwrites the cache at every step.",
        {"cache": _shared_attention},
        layers=LOOPED,
        remedy="for t in range(T): layer = Attention()",
    ),
    Mistake(
        "one Softmax object shared by all steps",
        "every decoder step has its own Softmax(), which remembers its output",
        "all steps share one, whose out is the last step's",
        "A Softmax in the class body, or as a default argument, is one object for all.",
        {"cache": _shared_softmax},
        layers=LOOPED,
        remedy="self.softmax = Softmax()  # in __init__",
    ),
    Mistake(
        "dhs of the scores multiplied by hs instead of h",
        "dkey = dscores · query",
        "dkey = dscores · key",
        "The product's derivative with respect to hs is h: dhs = dt * hr.",
        {"key_path": lambda c, ds: ds * c.key[..., None, :, :]},
        remedy="dhs = dt * hr",
    ),
    Mistake(
        "dh multiplied by h instead of hs",
        "dquery = Σ_t dscores · key",
        "dquery = Σ_t dscores · query",
        "The product's derivative with respect to h is hs: dhr = dt * hs.",
        {"query_path": lambda c, ds: ds * c.hr},
        remedy="dhr = dt * hs",
    ),
    Mistake(
        "mean instead of sum over T in dh",
        "dquery = Σ_t dscores · key",
        "dquery = mean_t dscores · key",
        "h was repeated T times: its gradients are added.",
        {"dquery": lambda c, dhr: dhr.mean(axis=-2)},
        remedy="dh = np.sum(dhr, axis=1)",
    ),
    Mistake(
        "dh summed over H instead of T",
        "dquery = Σ_t dscores · key",
        "dquery = Σ_h dscores · key",
        "np.sum(dhr, axis=2) where axis=1 is meant: it fits only where T and H are equal.",
        {"dquery": lambda c, dhr: dhr.sum(axis=-1)},
        remedy="dh = np.sum(dhr, axis=1)",
    ),
    Mistake(
        "mean instead of sum over H in da",
        "dweights = Σ_h dout · value",
        "dweights = mean_h dout · value",
        "The weight was repeated H times: its gradients are added.",
        {"dweights": lambda c, dar: dar.mean(axis=-1)},
        remedy="da = np.sum(dar, axis=2)",
    ),
    Mistake(
        "da multiplied by the weights instead of hs",
        "dweights = Σ_h dout · value",
        "dweights = Σ_h dout · weights",
        "dar = dt * ar where dar = dt * hs is meant.",
        _dweights(lambda c: c.ar),
        remedy="dar = dt * hs",
    ),
    Mistake(
        "hs missing in da",
        "dweights = Σ_h dout · value",
        "dweights = Σ_h dout",
        "dar = dt where dar = dt * hs is meant: ar was multiplied by hs.",
        _dweights(lambda c: np.ones_like(c.ar)),
        remedy="dar = dt * hs",
    ),
    Mistake(
        "dout of the first step for every step",
        "step t walks back from dout[:, t]",
        "every step walks back from dout[:, 0]",
        "The index does not move with the loop.",
        {"dout": lambda c, dout: np.repeat(dout[..., :1, :], dout.shape[-2], axis=-2)},
        layers=LOOPED,
        remedy="dhs, dh = layer.backward(dout[:, t, :])",
    ),
    Mistake(
        "dout multiplied by the keys in dweights",
        "dweights = dout · valueᵀ",
        "dweights = dout · keyᵀ",
        "The weights met the values: these are what dout is multiplied by.",
        _dweights(lambda c: c.key[..., None, :, :]),
        layers=(QKV,),
        remedy="dweights = dout @ value.swapaxes(-1, -2)",
    ),
    Mistake(
        "da summed over T instead of H",
        "dweights = Σ_h dout · value",
        "dweights = Σ_t dout · value",
        "np.sum(dar, axis=1) where axis=2 is meant: it fits only where T and H are equal.",
        {"dweights": lambda c, dar: dar.sum(axis=-2)},
        remedy="da = np.sum(dar, axis=2)",
    ),
    Mistake(
        "weights missing in the value path",
        "dvalue = weightsᵀ · dout",
        "dvalue = dout for every step",
        "dhs = dt where dhs = dt * ar is meant.",
        {"value_path": lambda c, dt: dt},
        remedy="dhs = dt * ar",
    ),
    Mistake(
        "value path multiplied by hs instead of the weights",
        "dvalue = weightsᵀ · dout",
        "dvalue = hs ⊙ dout",
        "dhs = dt * hs where dhs = dt * ar is meant.",
        {"value_path": lambda c, dt: dt * c.value[..., None, :, :]},
        remedy="dhs = dt * ar",
    ),
    Mistake(
        "dout repeated along the wrong axis",
        "dt = dout repeated T times along a new axis 1",
        "dt = every number of dout repeated T times, then reshaped to (N, T, H)",
        "np.repeat(dc, T, axis=1).reshape(N, T, H) mixes up T and H; "
        "dc.reshape(N, 1, H).repeat(T, axis=1) is meant.",
        {
            "repeat_dout": lambda c, dout: np.repeat(dout, c.T_enc, axis=-1).reshape(
                *dout.shape[:-1], c.T_enc, dout.shape[-1]
            )
        },
        remedy="dt = dc.reshape(N, 1, H).repeat(T, axis=1)",
    ),
    Mistake(
        "dscores tiled instead of repeated",
        "dt = every number of dscores repeated H times",
        "dt = the row of dscores repeated H times, then reshaped to (N, T, H)",
        "np.tile(ds, H).reshape(N, T, H) mixes up T and H; "
        "ds.reshape(N, T, 1).repeat(H, axis=2) is meant.",
        {"repeat_dscores": lambda c, ds: np.tile(ds, c.H).reshape(*ds.shape, c.H)},
        remedy="dt = ds.reshape(N, T, 1).repeat(H, axis=2)",
    ),
    Mistake(
        "dout ignored",
        "gradients of Σ dout ⊙ out",
        "gradients of Σ out",
        "backward has to use the gradient that comes in.",
        {"dout": lambda c, dout: np.ones_like(dout)},
        remedy="dhs, dh = layer.backward(dout[:, t, :])",
    ),
    Mistake(
        "gradients divided by the batch size",
        "gradients are sums over the batch",
        "gradients / N",
        "The mean over the batch belongs to the loss, and is in dout already.",
        {"gradients": lambda c, given: tuple(x / len(x) for x in given)},
        remedy="return dhs, dh  # the loss has divided dout by N",
    ),
    Mistake(
        "sign of the gradients reversed",
        "gradients",
        "− gradients",
        "The update rule subtracts; the gradient itself has no minus.",
        {"gradients": lambda c, given: tuple(-x for x in given)},
        remedy="return dhs, dh",
    ),
    *(
        Mistake(
            f"sign of the {name} gradient reversed",
            f"the gradient of the {name} input",
            f"− the gradient of the {name} input",
            "A minus too many on the way to that one; the others are right.",
            {"gradients": _of(name, np.negative)},
            remedy="return dhs, dh",
            layers=("weight-sum", *SCORED),
        )
        for name in ("first", "last")
    ),
    *(
        Mistake(
            f"{name} gradient all zero",
            f"the gradient of the {name} input",
            "0",
            "Allocated with zeros, and never filled.",
            {"gradients": _of(name, np.zeros_like)},
            remedy="dhs_dec[:, t, :] = dh",
            layers=("weight-sum", *SCORED),
        )
        for name in ("first", "last")
    ),
    Mistake(
        "gradients in the wrong order",
        "gradients in the order of forward's inputs",
        "gradients in the reverse order",
        "backward returns dh, dhs where dhs, dh is meant.",
        {"gradients": lambda c, given: given[::-1]},
        remedy="return dhs, dh  # in the order of forward's inputs",
    ),
    Mistake(
        "gradients rounded to float32",
        "gradients have the dtype of the inputs",
        "gradients are float32",
        "np.zeros(…, dtype=np.float32) or astype('f') in backward.",
        {"gradients": lambda c, given: tuple(x.astype(np.float32) for x in given)},
        remedy="dhs = np.zeros_like(hs)  # its dtype, too",
    ),
    Mistake(
        "gradient of the first key head of each group alone",
        "the gradients of a shared head are summed over its group",
        "that of the first query head alone",
        "A key head that serves several query heads gets the sum of their gradients.",
        {"over_groups": _first_of_group},
        remedy="dkey = dkey.reshape(N, kv_heads, g, T, H).sum(axis=2)",
    ),
    Mistake(
        "gradients averaged over a group",
        "the gradients of a shared head are summed over its group",
        "their mean",
        "A key head that serves several query heads gets the sum of their gradients.",
        {"over_groups": _mean_of_group},
        remedy="dkey = dkey.reshape(N, kv_heads, g, T, H).sum(axis=2)",
    ),
    *map(_in_backward, _RECOMPUTED),
    Mistake(
        "log-sum-exp of base e taken for one of base 2, in backward",
        "weights = exp(scores − lse)",
        "weights = exp2(scores · log2(e) − lse), lse = ln Σ exp(scores)",
        "forward keeps a natural log-sum-exp, and backward takes it for one of base 2: the "
        "exponential's base and the logarithm's must be the same.",
        _recomputed(_of_base_2, delta=True),
        remedy="p = np.exp2((s - lse) * np.log2(np.e))  # or np.exp(s - lse)",
        variants=(_recomputed(_of_base_2, delta=False),),
        alone=True,
    ),
    Mistake(
        "log-sum-exp of base 2 taken for one of base e, in backward",
        "weights = exp(scores − lse)",
        "weights = exp(scores − lse), lse = log2 Σ exp(scores)",
        "forward keeps a log-sum-exp of base 2, and backward takes it for a natural one.",
        _recomputed(_of_base_e, delta=True),
        remedy="p = np.exp2(s * np.log2(np.e) - lse)",
        variants=(_recomputed(_of_base_e, delta=False),),
        alone=True,
    ),
    Mistake(
        "row maximum left out of the log-sum-exp, in backward",
        "weights = exp(scores − lse), lse = max + log Σ exp(scores − max)",
        "weights = exp(scores − lse), lse = log Σ exp(scores − max)",
        "forward subtracts the maximum before it sums; what it keeps for backward lacks it, and "
        "every row of backward's weights is off by the factor exp(max).",
        _less(lambda largest, total: np.log(total), delta=True),
        remedy="lse = m + np.log(np.exp(s - m).sum(axis=-1, keepdims=True))",
        variants=(_less(lambda largest, total: np.log(total), delta=False),),
        alone=True,
    ),
    Mistake(
        "weights not divided by their sum, in backward",
        "weights = exp(scores − max) / Σ exp(scores − max)",
        "weights = exp(scores − max)",
        "Backward computes the weights again from forward's maximum alone: it needs the sum as "
        "well, or the log-sum-exp.",
        _less(lambda largest, total: largest, delta=True),
        remedy="p = np.exp(s - m) / total  # or np.exp(s - lse)",
        variants=(_less(lambda largest, total: largest, delta=False),),
        alone=True,
    ),
    Mistake(
        "only the first channels of the values in backward",
        "dweights = Σ over the H_v channels of dout · value",
        "dweights = Σ over the first H channels, H being the query's",
        "The loop runs over the head size of the query where that of the value is meant: it shows "
        "where H_v is larger.",
        _first_channels(delta=True),
        remedy="dp = dout @ value.swapaxes(-1, -2)  # over all of value.shape[-1]",
        variants=(_first_channels(delta=False),),
        alone=True,
    ),
    Mistake(
        "heads folded by another map in backward",
        "the gradients of the query heads i·g … i·g+g−1 are summed for key head i",
        "those of the heads i, i + key heads, … are summed",
        "reshape(N, g, kv_heads, …).sum(1) belongs to groups that were tiled; repeated ones are "
        "folded by reshape(N, kv_heads, g, …).sum(2).",
        {"over_groups": _interleaved},
        remedy="dkey = dkey.reshape(N, kv_heads, g, T, H).sum(axis=2)",
    ),
    Mistake(
        "gradients not summed over a group",
        "dkey and dvalue have the heads of key and value",
        "they have the heads of query",
        "A key head that serves several query heads gets the sum of their gradients.",
        {"over_groups": lambda c, x: x},
        remedy="dkey = dkey.reshape(N, kv_heads, g, T, H).sum(axis=2)",
    ),
    Mistake(
        "first step left out of backward",
        _STEPS,
        "dhs_enc = Σ over the decoder steps but the first, whose dhs_dec is not assigned",
        "range(1, T) in backward's loop: it begins a step too late.",
        _without_steps_in_both(slice(0, 1), slice(1, None)),
        remedy="for t in range(T):",
        layers=STEPPED,
    ),
    Mistake(
        "only the last tile of queries in dkey and dvalue",
        "dkey and dvalue = Σ over all queries",
        "that over the last tile of {value} queries",
        "Each tile of queries assigns where it should add: what the tiles before gave is gone. "
        "Right as long as there is one tile.",
        remedy="dkey += ds.swapaxes(-1, -2) @ query[start : start + tile]",
        family=_last_tile,
        choices=(2, 4, 8, 16, 32, 64, 128),
        sized=("T_dec", int),
        layers=(QKV,),
    ),
    Mistake(
        "only the last tile of keys in dquery",
        "dquery = Σ over all keys",
        "that over the last tile of {value} keys",
        "Each tile of keys assigns where it should add: what the tiles before gave is gone.",
        remedy="dquery += scale * (dscores @ k)",
        family=_last_keys,
        choices=(2, 3, 4, 8, 16, 32, 64, 128),
        sized=("T_enc", int),
        layers=(QKV,),
        alone=True,
    ),
    Mistake(
        "only the first channels in delta",
        "delta = Σ over the H_v channels of dout · out",
        "delta = Σ over the first {value}",
        "The sum of the row ends at {value} channels: right as long as H_v is no larger.",
        remedy="delta = (dout * out).sum(axis=-1, keepdims=True)",
        family=_delta_of_channels,
        choices=(1, 4, 16, 32, 64, 96, 128),
        sized=("H", int),
        layers=(QKV,),
        alone=True,
    ),
    Mistake(
        "only a part of the keys in delta",
        "delta = Σ over all keys of weights ⊙ dweights",
        "delta = Σ without {value}",
        "The sum of the row leaves out {value}.",
        remedy="delta = (a * da).sum(axis=-1, keepdims=True)  # over all tiles",
        family=_delta_of_keys,
        choices=LEFT_OUT,
        sized=("T_enc", from_on),
        layers=SCORED,
        alone=True,
    ),
    Mistake(
        "the last key's gradient zero",
        "dkey and dvalue of every key",
        "0 for the last",
        "The loop over the keys ends one too early in backward, or the last tile is not written.",
        {"gradients": _without_last_key(1, 2)},
        remedy="for j in range(T_enc):",
        variants=tuple({"gradients": _without_last_key(which)} for which in (1, 2)),
        layers=("weight-sum", *SCORED),
    ),
    Mistake(
        "dkey and dvalue exchanged",
        "backward returns dquery, dkey, dvalue",
        "dquery, dvalue, dkey",
        "Both have one shape, so that nothing raises.",
        {"gradients": lambda c, given: (given[0], given[2], given[1])},
        remedy="return dquery, dkey, dvalue  # in the order of forward's inputs",
        layers=(QKV,),
    ),
    Mistake(
        "dh written into dhs_enc",
        "dhs_dec[:, t] = dh of step t",
        "dhs_enc[:, t] = dh of step t; dhs_dec is never written",
        "The two names are mixed up: what was added to dhs_enc is overwritten.",
        _written_into_dhs_enc(),
        remedy="dhs_dec[:, t, :] = dh",
        layers=LOOPED,
    ),
    Mistake(
        "softmax's forward in its backward",
        _SOFTMAX,
        "dscores = softmax(dweights)",
        "self.softmax.forward(da) where self.softmax.backward(da) is meant.",
        {"softmax_back": lambda c, d: STEPS["softmax"](c, d)},
        remedy="ds = self.softmax.backward(da)",
    ),
    Mistake(
        "Jacobian of the whole batch",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ over all rows of weights ⊙ dweights)",
        "np.diag(y) − np.outer(y, y) of the flattened batch: the rows of other items take part.",
        {"softmax_back": _over_all(None)},
        remedy="dx = y * (dout - (y * dout).sum(axis=-1, keepdims=True))",
        variants=({"softmax_back": _over_all((0, -1))},),
    ),
    Mistake(
        "divided by the sum once too often in backward",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ weights ⊙ dweights / Σ exp(scores))",
        "The gradient of the denominator has 1/s² once; a second division by s follows.",
        {"softmax_back": lambda c, d: _divided_again(c, d, shifted=False)},
        remedy="ds = -(e * dout).sum(axis=1, keepdims=True) / s**2; de = dout / s + ds",
        variants=({"softmax_back": lambda c, d: _divided_again(c, d, shifted=True)},),
    ),
    Mistake(
        "the cached output overwritten in backward",
        _SOFTMAX,
        "dscores = weights ⊙ dweights ⊙ (1 − Σ weights ⊙ dweights)",
        "dx = self.out names the cached array; dx *= dout writes into it, and what follows reads "
        "that. What forward returned is changed as well.",
        {"softmax_back": _in_place},
        remedy="dx = self.out * dout",
    ),
    Mistake(
        "keepdims missing in the softmax's backward",
        "dscores[n, t] = weights · (dweights − Σ of row n)",
        "dscores[n, t] = weights · (dweights − Σ of row t)",
        "The sums have lost their axis and lie along T: it fits only where N and T are equal.",
        {"softmax_back": _transposed_sums},
        remedy="sumdx = np.sum(dx, axis=1, keepdims=True)",
    ),
    Mistake(
        "another scale in backward",
        "dscores = {scale} · softmax's backward",
        "dscores = ({value}) · softmax's backward",
        "forward has another scale: backward has to multiply by the same, here by {value}.",
        remedy="ds = a * (da - (a * da).sum(axis=-1, keepdims=True)) * scale",
        family=lambda value: {"scale_back": lambda c, dscores: dscores * value(c)},
        starts=(1.5,),
        claim="scale",
        by_head=True,
        layers=WHOLE,
    ),
    Mistake(
        "gradients off by a factor",
        "gradients",
        "({value}) · gradients",
        "All of them are {value} times what they should be.",
        remedy="return dquery, dkey, dvalue",
        family=lambda value: {"dout": lambda c, dout: value(c) * dout},
        starts=(1.5,),
    ),
    *(
        Mistake(
            f"{name} gradient off by a factor",
            f"the gradient of the {name} input",
            f"({{value}}) · the gradient of the {name} input",
            "That one is {value} times what it should be; the others are right.",
            remedy="return dhs, dh  # each once",
            family=partial(_multiplied, name),
            starts=(1.5,),
            layers=(QKV,) if name == "second" else ("weight-sum", *SCORED),
        )
        for name in ("first", "second", "last")
    ),
)
