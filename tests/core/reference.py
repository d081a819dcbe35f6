"""Attention as its formula reads, one query at a time, in whatever precision it is given.

It masks by leaving keys out, so nothing hidden can leak, and works for complex numbers, so that
a complex step gives derivatives of it without any formula for the gradient.
"""

import math

import numpy as np


def tanh(x):
    """Complex tanh of NumPy loses the real part's precision for large x; this does not."""
    e = np.exp(-2 * x * np.where(x.real < 0, -1, 1))
    return np.where(x.real < 0, -1, 1) * (1 - e) / (1 + e)


def visible(mask, causal, window, shape, align=None):
    """The boolean (…, T_dec, T_enc) array of what each query sees."""
    *_, T_dec, T_enc = shape
    t, s = np.arange(T_dec)[:, None], np.arange(T_enc)
    own = t + (T_enc - T_dec if "lower_right" in (causal, align) else 0)
    seen = np.ones((T_dec, T_enc), bool)
    if causal is not None:
        seen &= s <= own
    if window is not None:
        left, right = window if isinstance(window, tuple) else (window, window)
        seen &= (s >= own - left) | (left == -1)
        seen &= (s <= own + right) | (right == -1)
    if mask is not None:
        mask = np.asarray(mask)
        seen = seen & (mask if mask.dtype == bool else mask != -np.inf)
    return np.broadcast_to(seen, shape)


def attention(
    query, key, value, mask=None, causal=None, scale=None, softcap=None, window=None, align=None,
    seen=None, moved_alone=False,
):  # fmt: skip
    """Return (out, weights).

    `seen` overrides what the mask hides (for complex float masks); with `moved_alone` the rows
    that no imaginary part goes into stay zero, as their imaginary parts are.
    """
    if query.ndim > 3:  # grouped queries: every query head gets its own copy of its key head
        key, value = (
            np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3) if x.ndim > 2 else x
            for x in (key, value)
        )
    lead = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    T_dec, T_enc, H_v = query.shape[-2], key.shape[-2], value.shape[-1]
    if seen is None:
        seen = visible(mask, causal, window, (*lead, T_dec, T_enc), align)
    query, key, value = (np.broadcast_to(x, lead + x.shape[-2:]) for x in (query, key, value))
    adds = mask is not None and np.asarray(mask).dtype != bool
    dtype = np.result_type(query, key, value, *([mask] if adds else []))
    if scale is None:
        scale = 1 / np.sqrt(query.real.dtype.type(query.shape[-1]))
    bias = np.broadcast_to(mask, seen.shape) if adds else np.zeros(seen.shape, dtype)

    out, weights = np.zeros((*lead, T_dec, H_v), dtype), np.zeros(seen.shape, dtype)
    wanted = np.ones((*lead, T_dec), bool)
    if moved_alone:
        wanted = query.imag.any(-1) | bias.imag.any(-1)
        wanted |= (key.imag.any((-2, -1)) | value.imag.any((-2, -1)))[..., None]
    for at in map(tuple, np.argwhere(wanted)):
        keys = np.flatnonzero(seen[at])
        if not len(keys):
            continue
        scores = (key[at[:-1]][keys] * query[at]).sum(-1) * scale
        if softcap is not None:
            scores = softcap * tanh(scores / softcap)
        scores = scores + bias[at][keys]
        exps = np.exp(scores - scores.real.max())
        weights[(*at, keys)] = exps / exps.sum()
        out[at] = (weights[(*at, keys)][:, None] * value[at[:-1]][keys]).sum(0)
    return out, weights


def gradients(arrays, dout, step=1e-30, **options):
    """Return d Σ(dout ⊙ out) / dx for each array in the dict `arrays`, by complex step.

    The step is so small that its square vanishes, so the derivative is as exact as the function.
    """
    seen = None
    if "mask" in arrays:
        T_dec, T_enc = arrays["query"].shape[-2], arrays["key"].shape[-2]
        shape = np.broadcast_shapes((*dout.shape[:-2], T_dec, T_enc), arrays["mask"].shape)
        band = (options.get(name) for name in ("causal", "window"))
        seen = visible(arrays["mask"], *band, shape, options.get("align"))
    result = {}
    for name, x in arrays.items():
        result[name] = np.zeros(x.shape)
        for at in np.ndindex(*x.shape):
            if not math.isfinite(x[at]):
                continue  # −inf of a mask: nothing to move
            moved = x.astype(complex)
            moved[at] += 1j * step
            tensors = {**arrays, name: moved}
            out, _ = attention(**tensors, seen=seen, moved_alone=True, **options)
            result[name][at] = (out.imag * dout).sum() / step
    return result
