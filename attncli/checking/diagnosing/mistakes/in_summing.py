"""Mistakes on the way from the weights to the output."""

from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import LOOPED, WHOLE, Mistake
from attncli.operations.steps import Calculation


def _by_value_axis(c: Calculation, weights: Array) -> Array:
    """a.reshape(N, 1, T).repeat(H, axis=1): the weights lie along H."""
    return np.repeat(weights[..., None, :], c.value.shape[-1], axis=-2)


def _largest(c: Calculation, t: Array) -> Array:
    where = t.real.argmax(axis=-2)[..., None, :]
    return np.take_along_axis(t, where, axis=-2)[..., 0, :]


def _beside_hs(c: Calculation, weights: Array) -> Array:
    """Weights of (N, T) beside hs of (N, T, H), without an axis: their items lie along T."""
    return weights.swapaxes(0, 1)[None]


def _squeezed(c: Calculation, out: Array) -> Array:
    # The step that the weighted sums below have, and their result has not.
    one_step = c.layer in ("weight-sum", "attention")
    return out[..., 0, :].squeeze()[..., None, :] if one_step else out.squeeze()


def _last_for_all(c: Calculation, weights: Array) -> Array:
    return np.repeat(weights[..., -1:, :], weights.shape[-2], axis=-2)


def _share_last(c: Calculation) -> None:
    c.keep(_last_for_all(c, c.weights))


def _left_out(which: slice) -> Any:
    """Decoder steps that are never computed, in forward and backward: memory never written."""

    def result(c: Calculation, out: Array) -> Array:
        kept = np.array(out)
        kept[:, which] = 0
        return kept

    def dout(c: Calculation, given: Array) -> Array:
        return result(c, given)

    return {"result": result, "dout": dout}


SUMMING: tuple[Mistake, ...] = (
    Mistake(
        "mean instead of sum over T",
        "out = Σ_t weights · hs",
        "out = mean_t weights · hs",
        "The weights sum to 1 already, so the mean divides by T a second time.",
        {"sum_t": lambda c, t: t.mean(axis=-2)},
        remedy="c = np.sum(t, axis=1)",
    ),
    Mistake(
        "output summed over H instead of T",
        "out = Σ_t weights · hs",
        "out = Σ_h weights · hs",
        "np.sum(t, axis=2) where axis=1 is meant: it fits only where T and H are equal.",
        {"sum_t": lambda c, t: t.sum(axis=-1)},
        remedy="c = np.sum(t, axis=1)",
    ),
    Mistake(
        "largest instead of sum over T",
        "out = Σ_t weights · hs",
        "out = max_t weights · hs",
        "np.max where np.sum is meant.",
        {"sum_t": _largest},
        remedy="c = np.sum(t, axis=1)",
    ),
    Mistake(
        "weights tiled instead of repeated",
        "ar = every weight repeated H times",
        "ar = the row of weights repeated H times, then reshaped to (N, T, H)",
        "np.repeat(a, H, axis=0).reshape(N, T, H), or np.tile, runs without an error and mixes "
        "up T and H; a.reshape(N, T, 1).repeat(H, axis=2) is meant.",
        {
            "repeat_weights": lambda c, weights: np.tile(weights, c.value.shape[-1]).reshape(
                *weights.shape, c.value.shape[-1]
            )
        },
        remedy="ar = a.reshape(N, T, 1).repeat(H, axis=2)",
    ),
    Mistake(
        "weights repeated along the wrong axis",
        "ar[n, t, h] = a[n, t]",
        "ar[n, t, h] = a[n, h]",
        "a.reshape(N, 1, T).repeat(H, axis=1) where a.reshape(N, T, 1).repeat(H, axis=2) is "
        "meant: it fits only where T and H are equal.",
        {"repeat_weights": _by_value_axis},
        remedy="ar = a.reshape(N, T, 1).repeat(H, axis=2)",
    ),
    Mistake(
        "weights forgotten: plain sum of hs",
        "out = Σ_t weights · hs",
        "out = Σ_t hs",
        "The weights are computed and not used.",
        {"repeat_weights": lambda c, weights: np.ones_like(weights)[..., None]},
        remedy="t = hs * ar",
    ),
    Mistake(
        "the first decoder state for every step",
        "step t asks with hs_dec[:, t]",
        "every step asks with hs_dec[:, 0]",
        "The index does not move with the loop: all steps look at the same.",
        {
            "operands": lambda c, query, key, value: (
                np.repeat(query[..., :1, :], query.shape[-2], axis=-2),
                key,
                value,
            )
        },
        layers=LOOPED,
        remedy="out[:, t, :] = layer.forward(hs_enc, hs_dec[:, t, :])",
    ),
    Mistake(
        "every step holds the last step's output",
        "out[:, t] = the output of step t",
        "out[:] = the output of the last step",
        "out[...] = … in the loop overwrites all steps; out[:, t, :] = … is meant.",
        {
            "result": lambda c, out: (
                np.repeat(out[..., -1:, :], c.T_dec, axis=-2)
                if c.layer in ("time-attention", "scaled-dot-product")
                else out
            )
        },
        remedy="out[:, t, :] = layer.forward(hs_enc, hs_dec[:, t, :])",
    ),
    Mistake(
        "output truncated to whole numbers",
        "out is a floating array",
        "out is an integer array",
        "The output was allocated as integers, and assigning to it cuts off the fractions.",
        {"result": lambda c, out: np.trunc(out.real)},
        remedy="out = np.empty(shape, dtype=hs.dtype)",
    ),
    Mistake(
        "output rounded to float32",
        "out has the dtype of the inputs",
        "out is float32",
        "np.zeros(…, dtype=np.float32) or astype('f') on the way out.",
        {"result": lambda c, out: out.real.astype(np.float32)},
        remedy="out = np.empty(shape, dtype=hs.dtype)",
    ),
    Mistake(
        "output rounded to float16",
        "out has the dtype of the inputs",
        "out is float16",
        "A dtype=np.float16 on the way out.",
        {"result": lambda c, out: out.real.astype(np.float16)},
        remedy="out = np.empty(shape, dtype=hs.dtype)",
    ),
    Mistake(
        "the output off by a factor",
        "out = weights · value",
        "out = ({value}) · weights · value",
        "Every number is {value} times what it should be.",
        remedy="out = a @ value",
        family=lambda value: {"result": lambda c, out: value(c) * out},
        starts=(1.5,),
        by_head=True,
    ),
    Mistake(
        "the weights off by a factor",
        "weights = softmax(scores)",
        "weights = ({value}) · softmax(scores)",
        "Every row sums to {value}, and not to 1.",
        remedy="a = e / e.sum(axis=-1, keepdims=True)",
        family=lambda value: {"after_softmax": lambda c, weights: value(c) * weights},
        layers=WHOLE,
        starts=(1.5,),
    ),
    Mistake(
        "an axis missing beside the weights",
        "ar[n, t, h] = a[n, t]",
        "ar[n, t, h] = a[t, h]",
        "hs * a pairs the items of a with the steps of hs: it fits only where N, T and H are "
        "equal.",
        {"repeat_weights": _beside_hs},
        remedy="c = (hs * a[:, :, None]).sum(axis=1)",
    ),
    Mistake(
        "axes of length 1 squeezed away",
        "out is (N, H) for every N",
        "out is (H,) where N = 1",
        "squeeze() without an axis takes the batch away where it is one item.",
        {"result": _squeezed},
        remedy="out = out.squeeze(1)  # names the axis",
    ),
    Mistake(
        "the last step never computed",
        "out[:, t] for every decoder step t",
        "out[:, T − 1] is never written",
        "range(T − 1) in the loops: they end a step too early.",
        _left_out(slice(-1, None)),
        layers=LOOPED,
        remedy="for t in range(T):",
    ),
    Mistake(
        "the first step never computed",
        "out[:, t] for every decoder step t",
        "out[:, 0] is never written",
        "range(1, T) in the loops: they begin a step too late.",
        _left_out(slice(0, 1)),
        layers=LOOPED,
        remedy="for t in range(T):",
    ),
    Mistake(
        "one buffer for the weights of all steps",
        "every step keeps weights of its own",
        "every step keeps the same array, which holds the last step's weights",
        "a[...] = … writes into the one array that every step has been given: what backward reads "
        "are the last step's weights.",
        {"kept": _last_for_all, "cache": _share_last},
        variants=({"cache": _share_last},),
        layers=LOOPED,
        remedy="self.attention_weights.append(a.copy())  # or a = … in place of a[...] = …",
    ),
)
