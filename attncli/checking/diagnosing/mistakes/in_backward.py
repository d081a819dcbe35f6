"""Mistakes in the backward pass alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import Mistake
from attncli.operations.steps import Calculation

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
    """Change one of the gradients: the first or the last."""

    def gradients(c: Calculation, given: tuple[Array, ...]) -> tuple[Array, ...]:
        chosen = {"first": 0, "last": len(given) - 1}[name]
        return tuple(change(x) if i == chosen else x for i, x in enumerate(given))

    return gradients


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


def _first_of_group(c: Calculation, x: Array) -> Array:
    return x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:])[..., 0, :, :]


def _mean_of_group(c: Calculation, x: Array) -> Array:
    return np.asarray(x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:]).mean(axis=-3))


BACKWARD: tuple[Mistake, ...] = (
    Mistake(
        "softmax backward without Σ",
        _SOFTMAX,
        "dscores = weights ⊙ dweights",
        "Every weight depends on every score of its row, through the sum in the denominator.",
        {"softmax_back": lambda c, dweights: c.weights * dweights},
    ),
    Mistake(
        "softmax backward with the wrong sign",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights + Σ weights ⊙ dweights)",
        "dx += where dx -= is meant.",
        {"softmax_back": lambda c, d: c.weights * (d + _shared(c, d))},
    ),
    Mistake(
        "softmax backward as if element-wise",
        _SOFTMAX,
        "dscores = weights ⊙ (1 − weights) ⊙ dweights",
        "That is the sigmoid's derivative: only the diagonal of the softmax's Jacobian.",
        {"softmax_back": lambda c, d: c.weights * (1 - c.weights) * d},
    ),
    Mistake(
        "softmax backward without the factor weights",
        _SOFTMAX,
        "dscores = dweights − Σ weights ⊙ dweights",
        "The weights in front are missing.",
        {"softmax_back": lambda c, d: d - _shared(c, d)},
    ),
    Mistake(
        "softmax backward with Σ dweights",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ dweights)",
        "The sum is that of weights ⊙ dweights, not of dweights.",
        {"softmax_back": lambda c, d: c.weights * (d - d.sum(axis=-1, keepdims=True))},
    ),
    Mistake(
        "softmax backward: Σ without the weights in front",
        _SOFTMAX,
        "dscores = weights ⊙ dweights − Σ weights ⊙ dweights",
        "dx -= sumdx where dx -= y * sumdx is meant.",
        {"softmax_back": lambda c, d: c.weights * d - _shared(c, d)},
    ),
    Mistake(
        "softmax backward with Σ over the batch",
        _SOFTMAX,
        "dscores = weights ⊙ (dweights − Σ over N)",
        "np.sum(…, axis=0) in the softmax's backward.",
        {"softmax_back": lambda c, d: c.weights * (d - (c.weights * d).sum(axis=0, keepdims=True))},
    ),
    Mistake(
        "softmax backward missing",
        _SOFTMAX,
        "dscores = dweights",
        "The gradient passes the softmax as if it were not there.",
        {"softmax_back": lambda c, dweights: dweights},
    ),
    Mistake(
        "scale missing in backward",
        "dscores = {scale} · softmax's backward",
        "dscores = softmax's backward",
        "forward multiplies by the scale, so backward has to as well.",
        {"scale_back": lambda c, dscores: dscores},
    ),
    Mistake(
        "scale applied twice in backward",
        "dscores = {scale} · softmax's backward",
        "dscores = {scale} · {scale} · softmax's backward",
        "The gradient is scaled once too often.",
        {"scale_back": lambda c, dscores: dscores * c("factor") ** 2},
    ),
    Mistake(
        "softcap missing in backward",
        "dscores = dscores ⊙ (1 − tanh²)",
        "dscores = dscores",
        "The derivative of tanh is left out.",
        {"softcap_back": lambda c, dscores: dscores},
    ),
    Mistake(
        "score path missing from dhs",
        _JOIN,
        "dhs = the path through the values",
        "hs is used twice, as the values and in the scores; the gradient is the sum of both.",
        {"join": lambda c, dkey, dvalue: dvalue},
    ),
    Mistake(
        "value path missing from dhs",
        _JOIN,
        "dhs = the path through the scores",
        "hs is used twice, as the values and in the scores; the gradient is the sum of both.",
        {"join": lambda c, dkey, dvalue: dkey},
    ),
    Mistake(
        "paths of dhs subtracted",
        _JOIN,
        "dhs = the path through the values − the path through the scores",
        "A minus where a plus is meant.",
        {"join": lambda c, dkey, dvalue: dvalue - dkey},
    ),
    Mistake(
        "value path counted twice in dhs",
        _JOIN,
        "dhs = 2 · the path through the values",
        "dhs0 + dhs0 where dhs0 + dhs1 is meant.",
        {"join": lambda c, dkey, dvalue: 2 * dvalue},
    ),
    Mistake(
        "paths of dhs averaged",
        _JOIN,
        "dhs = ½ · (both paths)",
        "Gradients of a variable that is used twice are added, not averaged.",
        {"join": lambda c, dkey, dvalue: (dkey + dvalue) / 2},
    ),
    Mistake(
        "gradients of the steps overwritten instead of added",
        _STEPS,
        "dhs_enc = the last decoder step's",
        "dhs_enc = dhs in the loop where dhs_enc += dhs is meant: every step used hs_enc.",
        {"over_steps": lambda c, steps: steps[..., -1, :, :]},
    ),
    Mistake(
        "gradient of the first step alone",
        _STEPS,
        "dhs_enc = the first decoder step's",
        "The loop ends after one step: a return that is indented too far.",
        {"over_steps": lambda c, steps: steps[..., 0, :, :]},
        beside={
            "over_steps": lambda c, steps: steps[..., 0, :, :],
            "gradients": _without_steps(slice(1, None)),
        },
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
    ),
    Mistake(
        "gradients of the steps averaged",
        _STEPS,
        "dhs_enc = mean over the decoder steps",
        "Every step used hs_enc: its gradients are added.",
        {"over_steps": lambda c, steps: steps.mean(axis=-3)},
    ),
    Mistake(
        "only the last step's gradient in dhs_dec",
        "dhs_dec[:, t] = dh of step t",
        "dhs_dec is 0 but for the last step",
        "The assignment stands behind the loop instead of inside it.",
        {"gradients": _without_steps(slice(None, -1))},
    ),
    Mistake(
        "one Attention object shared by all steps",
        "every decoder step has its own Attention(), which remembers its inputs",
        "all steps share one, whose cache holds the last step's",
        "layer = Attention() belongs inside the loop: forward overwrites the cache at every step.",
        {"cache": _shared_attention},
    ),
    Mistake(
        "one Softmax object shared by all steps",
        "every decoder step has its own Softmax(), which remembers its output",
        "all steps share one, whose out is the last step's",
        "A Softmax in the class body, or as a default argument, is one object for all.",
        {"cache": _shared_softmax},
    ),
    Mistake(
        "dhs of the scores multiplied by hs instead of h",
        "dkey = dscores · query",
        "dkey = dscores · key",
        "The product's derivative with respect to hs is h: dhs = dt * hr.",
        {"key_path": lambda c, ds: ds * c.key[..., None, :, :]},
    ),
    Mistake(
        "dh multiplied by h instead of hs",
        "dquery = Σ_t dscores · key",
        "dquery = Σ_t dscores · query",
        "The product's derivative with respect to h is hs: dhr = dt * hs.",
        {"query_path": lambda c, ds: ds * c.hr},
    ),
    Mistake(
        "mean instead of sum over T in dh",
        "dquery = Σ_t dscores · key",
        "dquery = mean_t dscores · key",
        "h was repeated T times: its gradients are added.",
        {"dquery": lambda c, dhr: dhr.mean(axis=-2)},
    ),
    Mistake(
        "dh summed over H instead of T",
        "dquery = Σ_t dscores · key",
        "dquery = Σ_h dscores · key",
        "np.sum(dhr, axis=2) where axis=1 is meant: it fits only where T and H are equal.",
        {"dquery": lambda c, dhr: dhr.sum(axis=-1)},
    ),
    Mistake(
        "mean instead of sum over H in da",
        "dweights = Σ_h dout · value",
        "dweights = mean_h dout · value",
        "The weight was repeated H times: its gradients are added.",
        {"dweights": lambda c, dar: dar.mean(axis=-1)},
    ),
    Mistake(
        "da summed over T instead of H",
        "dweights = Σ_h dout · value",
        "dweights = Σ_t dout · value",
        "np.sum(dar, axis=1) where axis=2 is meant: it fits only where T and H are equal.",
        {"dweights": lambda c, dar: dar.sum(axis=-2)},
    ),
    Mistake(
        "weights missing in the value path",
        "dvalue = weightsᵀ · dout",
        "dvalue = dout for every step",
        "dhs = dt where dhs = dt * ar is meant.",
        {"value_path": lambda c, dt: dt},
    ),
    Mistake(
        "value path multiplied by hs instead of the weights",
        "dvalue = weightsᵀ · dout",
        "dvalue = hs ⊙ dout",
        "dhs = dt * hs where dhs = dt * ar is meant.",
        {"value_path": lambda c, dt: dt * c.value[..., None, :, :]},
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
    ),
    Mistake(
        "dscores tiled instead of repeated",
        "dt = every number of dscores repeated H times",
        "dt = the row of dscores repeated H times, then reshaped to (N, T, H)",
        "np.tile(ds, H).reshape(N, T, H) mixes up T and H; "
        "ds.reshape(N, T, 1).repeat(H, axis=2) is meant.",
        {"repeat_dscores": lambda c, ds: np.tile(ds, c.H).reshape(*ds.shape, c.H)},
    ),
    Mistake(
        "dout ignored",
        "gradients of Σ dout ⊙ out",
        "gradients of Σ out",
        "backward has to use the gradient that comes in.",
        {"dout": lambda c, dout: np.ones_like(dout)},
    ),
    Mistake(
        "gradients divided by the batch size",
        "gradients are sums over the batch",
        "gradients / N",
        "The mean over the batch belongs to the loss, and is in dout already.",
        {"gradients": lambda c, given: tuple(x / len(x) for x in given)},
    ),
    Mistake(
        "sign of the gradients reversed",
        "gradients",
        "− gradients",
        "The update rule subtracts; the gradient itself has no minus.",
        {"gradients": lambda c, given: tuple(-x for x in given)},
    ),
    *(
        Mistake(
            f"sign of the {name} gradient reversed",
            f"the gradient of the {name} input",
            f"− the gradient of the {name} input",
            "A minus too many on the way to that one; the others are right.",
            {"gradients": _of(name, np.negative)},
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
        )
        for name in ("first", "last")
    ),
    Mistake(
        "gradients in the wrong order",
        "gradients in the order of forward's inputs",
        "gradients in the reverse order",
        "backward returns dh, dhs where dhs, dh is meant.",
        {"gradients": lambda c, given: given[::-1]},
    ),
    Mistake(
        "gradients rounded to float32",
        "gradients have the dtype of the inputs",
        "gradients are float32",
        "np.zeros(…, dtype=np.float32) or astype('f') in backward.",
        {"gradients": lambda c, given: tuple(x.astype(np.float32) for x in given)},
    ),
    Mistake(
        "gradient of the first key head of each group alone",
        "the gradients of a shared head are summed over its group",
        "that of the first query head alone",
        "A key head that serves several query heads gets the sum of their gradients.",
        {"over_groups": _first_of_group},
    ),
    Mistake(
        "gradients averaged over a group",
        "the gradients of a shared head are summed over its group",
        "their mean",
        "A key head that serves several query heads gets the sum of their gradients.",
        {"over_groups": _mean_of_group},
    ),
)
