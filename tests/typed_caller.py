"""A caller with types, as a user may have one: `mypy --strict` accepts it, and it runs."""

import numpy as np
from numpy.typing import NDArray

import attncli

Floats = NDArray[np.float64]


def attend(query: Floats, key: Floats, value: Floats, mask: NDArray[np.bool_]) -> list[Floats]:
    """Every option once, and what comes back."""
    out, cache = attncli.attention(
        query,
        key,
        value,
        mask=mask,
        causal="lower_right",
        scale=0.5,
        softcap=30.0,
        window=2,
        threads=1,
        engine="tiled",
        weights=True,
    )
    dquery, dkey, dvalue = attncli.attention_backward(np.ones_like(out), cache)
    weights = attncli.attention_weights(query, key, mask=mask, causal="lower_right", window=2)
    kept: Floats | None = cache.weights
    positions = np.arange(len(key))
    turned: Floats = attncli.rotary(
        key, positions, style="interleaved", base=500.0, width=2, inverse=True, cos=None, sin=None
    )
    return [turned, out, dquery, dkey, dvalue, weights, *([] if kept is None else [kept])]
