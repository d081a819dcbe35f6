"""Dropout that was left on: no reading holds, but the weights tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.formulas import usual_scales
from attncli.checking.conventions.arrangements import Arrangement, of_weights
from attncli.checking.conventions.naming import close, named_scale
from attncli.checking.conventions.rows import softmax

_LEAST = 0.9  # of the weights have to be as dropout makes them


def left_on(ways: Sequence[Arrangement], held: Mapping[str, Array], dtype: str) -> Iterator[str]:
    """Say so where every weight is 0 or one multiple of what softmax gives.

    The weights are those in the file, or follow from output and values where these are as many
    channels as there are keys.

    Parameters
    ----------
    ways : sequence of Arrangement
    held : mapping of str to ndarray
    dtype : str
        Half precision leaves too little to go by.
    """
    if dtype not in ("float32", "float64"):
        return
    for arrangement in ways:
        weights = _weights(arrangement, held)
        if weights is None:
            continue
        _, heads, kv_heads, T_dec, T_enc = arrangement.sizes
        served = np.arange(heads) // (heads // kv_heads)
        products = arrangement.query @ arrangement.key[:, served].swapaxes(-1, -2)
        causal = np.arange(T_enc) <= np.arange(T_dec)[:, None]
        for words, seen in (("", np.ones_like(causal)), ("causal ", causal)):
            if (np.abs(weights[..., ~seen]) > 1e-4).any():
                continue
            found = _multiple(weights, products, seen)
            if found is None:
                continue
            scale, factor, dropped = found
            H, H_v = (x.shape[-1] for x in (arrangement.query, arrangement.value))
            formulas = usual_scales({"H": H, "H_v": H_v, "heads": heads, "kv_heads": kv_heads})
            number, formula = named_scale(scale, 1e-3 * scale, formulas)
            told = f"{words}softmax at scale {formula or close(number)}"
            yield (
                f"dropout was left on: rows are multiples of {factor:.6g}: each weight is 0 or "
                f"{factor:.6g} times that of the {told}, as dropout of {1 - 1 / factor:.3g} makes "
                f"it ({100 * dropped:.0f} % are 0)"
            )
            return


def _weights(arrangement: Arrangement, held: Mapping[str, Array]) -> Array | None:
    N, heads, kv_heads, T_dec, T_enc = arrangement.sizes
    if "weights" in held:
        return of_weights(held["weights"].astype(np.float64), (N, heads, T_dec, T_enc))
    out, value = arrangement.output, arrangement.value
    if out is None or T_enc > value.shape[-1] or not np.isfinite(out).all():
        return None
    served = np.arange(heads) // (heads // kv_heads)
    return np.asarray(out @ np.linalg.pinv(value)[:, served])


def _multiple(weights: Array, products: Array, seen: Array) -> tuple[float, float, float] | None:
    """Return scale, factor and the share of zeros, if that is how the weights are made."""
    tiny = 1e-4 * np.abs(weights).max(axis=-1, keepdims=True)
    kept = (weights > tiny) & seen
    # Within a row the logarithms of what is left are the scaled products, but for a constant.
    logs = np.where(kept, np.log(np.where(kept, weights, 1)), 0)
    count = np.maximum(kept.sum(axis=-1, keepdims=True), 1)
    logs = np.where(kept, logs - logs.sum(axis=-1, keepdims=True) / count, 0)
    x = np.where(kept, products, 0)
    x = np.where(kept, x - x.sum(axis=-1, keepdims=True) / count, 0)
    scale = float((x * logs).sum() / (x * x).sum()) if x.any() else 0.0
    whole, _, _ = softmax(np.where(seen, scale * products, -np.inf))
    ratio = np.where(kept, weights / np.where(whole > 0, whole, 1), np.nan)
    factor = float(np.nanmedian(ratio)) if kept.any() else 1.0
    if not factor > 1.005:
        return None
    whole_rows = np.broadcast_to(seen, kept.shape)
    dropped = float(1 - kept.sum() / whole_rows.sum())
    near = np.abs(ratio[kept] / factor - 1) < 2e-2
    enough = near.mean() >= _LEAST and 0 < dropped < 0.95
    return (scale, factor, dropped) if enough else None
