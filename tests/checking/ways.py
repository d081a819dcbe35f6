"""Attention in many ways that are all right: the choices that kernels have, combined."""

import itertools

import numpy as np

LOG2E = 1.4426950408889634


def row_maximum(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_logsumexp(s):
    top = s.max(-1, keepdims=True)
    return np.exp(s - (top + np.log(np.exp(s - top).sum(-1, keepdims=True))))


def by_logaddexp(s):
    return np.exp(s - np.logaddexp.reduce(s, axis=-1, keepdims=True))


def base_2(s):
    s = s * s.dtype.type(LOG2E)
    top = s.max(-1, keepdims=True)
    return np.exp2(s - (top + np.log2(np.exp2(s - top).sum(-1, keepdims=True))))


def running_maximum(s, size=2):
    """Tile by tile, as out is summed up too: what came before is rescaled."""
    top, total, parts = np.full((*s.shape[:-1], 1), -np.inf, s.dtype), 0, []
    for start in range(0, s.shape[-1], size):
        tile = s[..., start : start + size]
        new = np.maximum(top, tile.max(-1, keepdims=True))
        e, old = np.exp(tile - new), np.exp(top - new)
        total, top = total * old + e.sum(-1, keepdims=True), new
        parts = [part * old for part in parts] + [e]
    return np.concatenate(parts, -1) / total


def split_keys(s):
    """Two parts, each with a softmax and a log-sum-exp of its own, merged by these."""
    parts = np.array_split(s, 2, -1) if s.shape[-1] > 1 else [s]
    weights, sums = [], []
    for part in parts:
        top = part.max(-1, keepdims=True)
        e = np.exp(part - top)
        weights.append(e / e.sum(-1, keepdims=True))
        sums.append(top + np.log(e.sum(-1, keepdims=True)))
    whole = np.logaddexp(*sums) if len(sums) > 1 else sums[0]
    return np.concatenate([w * np.exp(x - whole) for w, x in zip(weights, sums, strict=True)], -1)


SOFTMAX = (row_maximum, by_logsumexp, by_logaddexp, base_2, running_maximum, split_keys)

# Products of (…, i, k) and (…, j, k).
PRODUCT = {
    "matmul": lambda a, b: a @ b.swapaxes(-1, -2),
    "einsum": lambda a, b: np.einsum("...ik,...jk->...ij", a, b),
    "one at a time": lambda a, b: sum(
        (a[..., :, None, k] * b[..., None, :, k] for k in range(1, a.shape[-1])),
        a[..., :, None, 0] * b[..., None, :, 0],
    ),
    "in two halves": lambda a, b: (
        a[..., ::2] @ b[..., ::2].swapaxes(-1, -2) + a[..., 1::2] @ b[..., 1::2].swapaxes(-1, -2)
    ),
}

# How query and key are scaled before their product, and the product after it.
SCALE = {
    "of the scores": lambda c: (1, 1, c),
    "of the query": lambda c: (c, 1, 1),
    "of both, its root": lambda c: (c**0.5, c**0.5, 1),
}

DELTA = {
    "of weights and dweights": lambda a, da, out, dout: (a * da).sum(-1, keepdims=True),
    "of out and dout": lambda a, da, out, dout: (out * dout).sum(-1, keepdims=True),
}

WAYS = list(itertools.product(SOFTMAX, PRODUCT, SCALE, DELTA))


def make(softmax, product, scale, delta, change=lambda name, x: x):
    """Make a class that computes so; half precision is stored, and computed in float32.

    `change` is given everything that has a name: a test may get it wrong.
    """
    product, delta = PRODUCT[product], DELTA[delta]

    class Attention:
        def forward(self, query, key, value):
            self.dtype = query.dtype
            self.wide = np.result_type(query.dtype, np.float32)
            query, key, value = (x.astype(self.wide) for x in (query, key, value))
            scale_of = SCALE[scale](change("scale", query.shape[-1] ** -0.5))
            of_query, of_key, of_scores = self.factors = [self.wide.type(x) for x in scale_of]
            query, key = query * of_query, key * of_key
            a = change("weights", softmax(product(query, key) * of_scores))
            out = change("out", product(a, value.swapaxes(-1, -2))).astype(self.dtype)
            self.cache = query, key, value, a, out.astype(self.wide)
            return out

        def backward(self, dout):
            query, key, value, a, out = self.cache
            of_query, of_key, of_scores = self.factors
            dout = dout.astype(self.wide)
            da = product(dout, value)
            ds = a * (da - change("delta", delta(a, da, out, dout))) * of_scores
            turned = ds.swapaxes(-1, -2)
            found = {
                "dquery": of_query * product(ds, key.swapaxes(-1, -2)),
                "dkey": of_key * product(turned, query.swapaxes(-1, -2)),
                "dvalue": product(a.swapaxes(-1, -2), dout.swapaxes(-1, -2)),
            }
            return tuple(change(name, x).astype(self.dtype) for name, x in found.items())

    return Attention
