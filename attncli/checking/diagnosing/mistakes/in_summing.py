"""Mistakes on the way from the weights to the output."""

import numpy as np

from attncli.arrays import Array
from attncli.checking.diagnosing.mistakes.mistake import Mistake
from attncli.operations.steps import Calculation


def _by_value_axis(c: Calculation, weights: Array) -> Array:
    """a.reshape(N, 1, T).repeat(H, axis=1): the weights lie along H."""
    return np.repeat(weights[..., None, :], c.value.shape[-1], axis=-2)


def _largest(c: Calculation, t: Array) -> Array:
    where = t.real.argmax(axis=-2)[..., None, :]
    return np.take_along_axis(t, where, axis=-2)[..., 0, :]


SUMMING: tuple[Mistake, ...] = (
    Mistake(
        "mean instead of sum over T",
        "out = Σ_t weights · hs",
        "out = mean_t weights · hs",
        "The weights sum to 1 already, so the mean divides by T a second time.",
        {"sum_t": lambda c, t: t.mean(axis=-2)},
    ),
    Mistake(
        "output summed over H instead of T",
        "out = Σ_t weights · hs",
        "out = Σ_h weights · hs",
        "np.sum(t, axis=2) where axis=1 is meant: it fits only where T and H are equal.",
        {"sum_t": lambda c, t: t.sum(axis=-1)},
    ),
    Mistake(
        "largest instead of sum over T",
        "out = Σ_t weights · hs",
        "out = max_t weights · hs",
        "np.max where np.sum is meant.",
        {"sum_t": _largest},
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
    ),
    Mistake(
        "weights repeated along the wrong axis",
        "ar[n, t, h] = a[n, t]",
        "ar[n, t, h] = a[n, h]",
        "a.reshape(N, 1, T).repeat(H, axis=1) where a.reshape(N, T, 1).repeat(H, axis=2) is "
        "meant: it fits only where T and H are equal.",
        {"repeat_weights": _by_value_axis},
    ),
    Mistake(
        "weights forgotten: plain sum of hs",
        "out = Σ_t weights · hs",
        "out = Σ_t hs",
        "The weights are computed and not used.",
        {"repeat_weights": lambda c, weights: np.ones_like(weights)[..., None]},
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
    ),
    Mistake(
        "output truncated to whole numbers",
        "out is a floating array",
        "out is an integer array",
        "The output was allocated as integers, and assigning to it cuts off the fractions.",
        {"result": lambda c, out: np.trunc(out.real)},
    ),
    Mistake(
        "output rounded to float32",
        "out has the dtype of the inputs",
        "out is float32",
        "np.zeros(…, dtype=np.float32) or astype('f') on the way out.",
        {"result": lambda c, out: out.real.astype(np.float32)},
    ),
    Mistake(
        "output rounded to float16",
        "out has the dtype of the inputs",
        "out is float16",
        "A dtype=np.float16 on the way out.",
        {"result": lambda c, out: out.real.astype(np.float16)},
    ),
)
