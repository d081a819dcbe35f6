"""The book's loop over decoder steps, for a query, key and value of their own and every option.

Slow and plain on purpose: the core is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attncli import layers
from attncli.arrays import Array
from attncli.core.blocks import sum_to
from attncli.core.progress import steps
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility


class OptionAttention(layers.TimeAttention):
    """`attncli.layers.TimeAttention` whose every step takes its options.

    Keys and values lie beside each other where the book has one ``hs_enc``; grouped queries
    repeat their key and value heads.
    """

    def __init__(self, semantics: Semantics, scale: float) -> None:
        super().__init__()
        self.semantics, self.scale = semantics, scale
        self.step_done: Callable[[], None] = lambda: None

    def one_step(self) -> Any:
        """Return the layer for one decoder step."""
        return _OneStep(self)

    def attend(self, query: Array, key: Array, value: Array, mask: Array | None) -> Array:
        """Return out (…, T_dec, H_v); the weights are in `weights` then."""
        lead, T_dec, T_enc = query.shape[:-2], query.shape[-2], key.shape[-2]
        self.shapes, self.lead, self.mask = (query.shape, key.shape, value.shape), lead, mask
        self.H = query.shape[-1]
        states = np.concatenate([_repeated(key, lead), _repeated(value, lead)], axis=-1)

        bias, seen = Visibility.of(self.semantics, T_dec, T_enc, mask).whole()
        self.blind, both = None, None
        if seen is not None:
            seen = np.broadcast_to(seen, (*lead, T_dec, T_enc)).reshape(-1, T_dec, T_enc)
            self.blind = ~seen.any(axis=-1).reshape(*lead, T_dec)
            both = seen
        if bias is not None:
            bias = np.broadcast_to(bias, (*lead, T_dec, T_enc)).reshape(-1, T_dec, T_enc)
            both = bias if seen is None else np.where(seen, bias, -np.inf)

        self.step_done = steps(T_dec)
        out = self.forward(states, query.reshape(-1, T_dec, self.H), both)
        self.weights = np.stack(self.attention_weights or [], axis=1).reshape(*lead, T_dec, T_enc)
        return np.asarray(out).reshape(*lead, T_dec, value.shape[-1])

    def gradients(self, dout: Array) -> tuple[Array, Array, Array, Array | None]:
        """Return dquery, dkey, dvalue and, for a floating mask, dmask."""
        assert self.layers is not None
        self.step_done = steps(len(self.layers))
        dstates, dquery = self.backward(dout.reshape(-1, *dout.shape[-2:]))
        query, key, value = self.shapes
        dkey = _gathered(dstates[..., : self.H], self.lead, key)
        dvalue = _gathered(dstates[..., self.H :], self.lead, value)
        dmask = None
        if self.mask is not None and self.mask.dtype != bool:
            dbias = np.stack([step.dbias for step in self.layers], axis=1)
            dmask = sum_to(dbias.reshape(*self.lead, *dbias.shape[-2:]), self.mask.shape)
        return dquery.reshape(query), dkey, dvalue, dmask


class _OneStep:
    """The book's softmax and weighted sum; scale, softcap and mask stand where formulas have them.

    Hidden states are a key and a value beside each other.
    """

    def __init__(self, loop: OptionAttention) -> None:
        self.loop = loop
        self.softmax, self.weight_sum = layers.Softmax(), layers.WeightSum()
        self.attention_weight: Any = None

    def forward(self, states: Array, h: Array, mask: Array | None) -> Array:
        """Return out (N, H_v)."""
        scale, softcap = self.loop.scale, self.loop.semantics.softcap
        states = layers._taking_part(states, mask)
        key, value = states[..., : self.loop.H], states[..., self.loop.H :]
        hr = h[:, None, :]  # (N, 1, H)
        scores = scale * np.sum(key * hr, axis=2)  # (N, T_enc)
        self.capped = None
        if softcap is not None:
            self.capped = np.tanh(scores / softcap)
            scores = softcap * self.capped
        self.cache = key, hr
        self.attention_weight = self.softmax.forward(layers._masked(scores, mask))
        self.loop.step_done()
        return np.asarray(self.weight_sum.forward(value, self.attention_weight))

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dstates (N, T_enc, H + H_v) and dh (N, H)."""
        key, hr = self.cache
        dvalue, da = self.weight_sum.backward(dout)
        dscores = self.dbias = self.softmax.backward(da)
        if self.capped is not None:
            dscores = dscores * (1 - self.capped**2)
        dt = self.loop.scale * dscores[:, :, None]  # (N, T_enc, 1)
        self.loop.step_done()
        return np.concatenate([dt * hr, dvalue], axis=-1), np.sum(dt * key, axis=1)


def _repeated(x: Array, lead: tuple[int, ...]) -> Array:
    """Give every query head a key head of its own, and make the leading axes one."""
    if len(lead) > 1 and x.shape[-3] != lead[-1]:
        x = np.repeat(x, lead[-1] // x.shape[-3], axis=-3)
    return np.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(-1, *x.shape[-2:])


def _gathered(gradient: Array, lead: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Undo `_repeated`: sum the gradients of a shared head."""
    gradient = gradient.reshape(*lead, *shape[-2:])
    if len(lead) > 1 and shape[-3] != lead[-1]:
        gradient = gradient.reshape(*lead[:-1], shape[-3], -1, *shape[-2:]).sum(axis=-3)
    return sum_to(gradient, shape)
