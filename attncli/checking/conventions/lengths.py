"""Lengths that a file does not hold: how many keys each item's rows see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.fitting import Band
from attncli.checking.conventions.rows import softmax
from attncli.checking.conventions.settings import Places, Setting

_ROWS, _HEADS, _CHANNELS = 8, 2, 8
_BEST = 3


def with_lengths(setting: Setting, band: Band, scales: Sequence[float]) -> Iterator[Setting]:
    """Give a setting the lengths that fit best at some scales, the likeliest first.

    Parameters
    ----------
    setting : Setting
        Its alignment has to be moot: where the end of the keys counts, it would move with them.
    band : Band
    scales : sequence of float
    """
    lengths, costs = _fitted(setting, band, np.array(scales))
    T_enc, given = setting.arrangement.key.shape[2], set[tuple[int, ...]]()
    for k in np.argsort(costs)[:_BEST]:
        own = tuple(lengths[k].tolist())
        if min(own) == T_enc or own in given:
            continue
        given.add(own)
        stop = np.broadcast_to(lengths[k][:, None], (len(own), setting.places.own.shape[1]))
        places = Places(setting.places.own + 0 * stop, 0 * stop, stop)
        words = f"lengths {', '.join(map(str, own))} (not in the file)"
        if len(own) > _ROWS:
            words = f"lengths {min(own)} to {max(own)} (not in the file)"
        fitted = setting.chosen("lengths", words, usual=False, places=places)
        yield fitted.chosen("kv_lengths", "", usual=False)


def _fitted(setting: Setting, band: Band, scales: Array) -> tuple[Array, Array]:
    """The length of every item at every scale, and how far all are off then."""
    N, heads, _, T_dec, T_enc = setting.arrangement.sizes
    turned = setting.rotated()
    steps = np.unique(np.linspace(0, T_dec - 1, min(T_dec, _ROWS)).astype(int))
    lengths = np.zeros((len(scales), N), int)
    costs = np.zeros(len(scales))
    for item in range(N):
        own = (item + np.arange(min(heads, _HEADS))) % heads
        pairs = np.stack([np.full_like(own, item), own], axis=1)
        rows = setting.rows(pairs, steps, turned).banded(band.low, band.high)
        weights, _, _ = softmax(scales[:, None, None, None] * rows.products + rows.bias)
        value, target = rows.value[:, None, :, :_CHANNELS], rows.output[:, :, None, :_CHANNELS]
        totals = np.cumsum(weights, axis=-1)[..., None]
        sums = np.cumsum(weights[..., None] * value, axis=3)
        squares = np.mean((sums / np.where(totals > 0, totals, 1) - target) ** 2, axis=-1)
        squares = np.sort(squares.reshape(len(scales), -1, T_enc), axis=1)
        found = squares[:, : (squares.shape[1] + 1) // 2].mean(axis=1)
        # Of those that are as good the longest: what is behind counts for nothing.
        best = found.min(axis=1, keepdims=True)
        same = found <= best * (1 + 1e-6) + 1e-30
        lengths[:, item] = T_enc - same[:, ::-1].argmax(axis=1)
        costs += best[:, 0]
    return lengths, costs
