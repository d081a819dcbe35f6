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
from attncli.core.extras import Extras
from attncli.core.progress import steps
from attncli.core.semantics import Semantics
from attncli.core.visibility import Alibi, Mask, Visibility


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

    def attend(
        self,
        query: Array,
        key: Array,
        value: Array,
        mask: Array | None,
        extras: Extras = Extras(),  # noqa: B008 (it is frozen)
    ) -> Array:
        """Return out (…, T_dec, H_v); the weights and logsumexp are there then."""
        lead, T_dec, T_enc = query.shape[:-2], query.shape[-2], key.shape[-2]
        self.shapes, self.lead = (query.shape, key.shape, value.shape), lead
        self.H = query.shape[-1]
        states = np.concatenate([_repeated(key, lead), _repeated(value, lead)], axis=-1)

        self.placed = extras.placed(lead, T_dec, T_enc)
        self.given = {name: np.shape(x) for name, x in extras.given().items() if name != "segments"}
        self.visibility = Visibility.of(self.semantics, T_dec, T_enc, mask, self.placed)
        bias, seen = self.visibility.whole()
        self.blind, both = None, None
        if seen is not None:
            seen = np.broadcast_to(seen, (*lead, T_dec, T_enc)).reshape(-1, T_dec, T_enc)
            self.blind = ~seen.any(axis=-1).reshape(*lead, T_dec)
            both = seen
        if bias is not None:
            bias = np.broadcast_to(bias, (*lead, T_dec, T_enc)).reshape(-1, T_dec, T_enc)
            both = bias if seen is None else np.where(seen, bias, -np.inf)
        self.sinks = self._of_items(self.placed.sinks, T_dec, 1)
        self.keep = self._of_items(self.placed.keep, T_dec, T_enc)

        self.step_done = steps(T_dec)
        out = self.forward(states, query.reshape(-1, T_dec, self.H), both)
        self.weights = np.stack(self.attention_weights or [], axis=1).reshape(*lead, T_dec, T_enc)
        each = [step.logsumexp for step in self.layers or []]
        self.logsumexp = np.stack(each, axis=1).reshape(*lead, T_dec)
        return np.asarray(out).reshape(*lead, T_dec, value.shape[-1])

    def _of_items(self, placed: Array | None, *sizes: int) -> Array | None:
        """Return what each item and head has of an extra, with their axes made one."""
        if placed is None:
            return None
        return np.broadcast_to(placed, (*self.lead, *sizes)).reshape(-1, *sizes)

    def gradients(
        self, dout: Array, dlogsumexp: Array | None
    ) -> tuple[Array, Array, Array, dict[str, Array | None]]:
        """Return dquery, dkey, dvalue, and the gradients of what is beside them by name."""
        assert self.layers is not None
        T_dec, T_enc = dout.shape[-2], self.shapes[1][-2]
        self.step_done = steps(T_dec)
        for t, step in enumerate(self.layers):
            rows = None if dlogsumexp is None else dlogsumexp.reshape(-1, T_dec)[:, t, None]
            step.dlogsumexp = rows
        dstates, dquery = self.backward(dout.reshape(-1, *dout.shape[-2:]))
        query, key, value = self.shapes
        dkey = _gathered(dstates[..., : self.H], self.lead, key)
        dvalue = _gathered(dstates[..., self.H :], self.lead, value)
        added = self.visibility.new_gradients()
        if self.visibility.adds:
            dbias = np.stack([step.dbias for step in self.layers], axis=1)
            dbias = dbias.reshape(*self.lead, T_dec, T_enc)
            every = slice(0, T_dec), slice(0, T_enc)
            self.visibility.add_gradients(added, dbias, *every, ())
        beside = {"dmask": self.visibility.gradient_of(Mask, added)}
        dalibi = self.visibility.gradient_of(Alibi, added)
        if dalibi is not None:
            beside["dalibi"] = dalibi.reshape(self.given["alibi"])
        if self.placed.sinks is not None:
            dsinks = np.stack([step.dsink for step in self.layers], axis=1)
            dsinks = sum_to(dsinks.reshape(*self.lead, T_dec, 1), self.placed.sinks.shape)
            beside["dsinks"] = dsinks.reshape(self.given["sinks"])
        return dquery.reshape(query), dkey, dvalue, beside


class _OneStep:
    """The book's softmax and weighted sum; every option stands where formulas have it.

    Hidden states are a key and a value beside each other.  A sink is a score more that the softmax
    sees and the weighted sum does not.
    """

    def __init__(self, loop: OptionAttention) -> None:
        self.loop, self.t = loop, len(loop.layers or [])
        self.softmax, self.weight_sum = layers.Softmax(), layers.WeightSum()
        self.attention_weight: Any = None
        self.dlogsumexp: Array | None = None

    def forward(self, states: Array, h: Array, mask: Array | None) -> Array:
        """Return out (N, H_v)."""
        loop, softcap = self.loop, self.loop.semantics.softcap
        states = layers._taking_part(states, mask)
        key, value = states[..., : loop.H], states[..., loop.H :]
        hr = h[:, None, :]  # (N, 1, H)
        scores = loop.scale * np.sum(key * hr, axis=2)  # (N, T_enc)
        self.capped = None
        if softcap is not None:
            self.capped = np.tanh(scores / softcap)
            scores = softcap * self.capped
        self.cache = key, hr
        scores = layers._masked(scores, mask)
        if loop.sinks is not None:
            scores = np.concatenate([scores, loop.sinks[:, self.t].astype(scores.dtype)], axis=1)
        self.all_weights = np.asarray(self.softmax.forward(scores))
        self.logsumexp = _logsumexp(scores)
        a = self.attention_weight = self.all_weights[:, : key.shape[1]]
        loop.step_done()
        return np.asarray(self.weight_sum.forward(value, self._dropped(a)))

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dstates (N, T_enc, H + H_v) and dh (N, H)."""
        key, hr = self.cache
        dvalue, da = self.weight_sum.backward(dout)
        da = self._dropped(da)
        if self.loop.sinks is not None:
            da = np.concatenate([da, np.zeros_like(da[:, :1])], axis=1)  # it leads to no value
        dscores = self.softmax.backward(da)
        if self.dlogsumexp is not None:
            dscores = dscores + self.dlogsumexp * self.all_weights
        dscores, self.dsink = dscores[:, : key.shape[1]], dscores[:, key.shape[1] :]
        self.dbias = dscores
        if self.capped is not None:
            dscores = dscores * (1 - self.capped**2)
        dt = self.loop.scale * dscores[:, :, None]  # (N, T_enc, 1)
        self.loop.step_done()
        return np.concatenate([dt * hr, dvalue], axis=-1), np.sum(dt * key, axis=1)

    def _dropped(self, a: Array) -> Array:
        """Return weights, or their gradient, after dropout."""
        if self.loop.keep is None:
            return a
        kept = self.loop.keep[:, self.t].astype(a.dtype)
        return np.asarray(a * kept / a.dtype.type(self.loop.semantics.keep_prob or 1))


def _logsumexp(scores: Array) -> Array:
    """Return log Σ exp(scores) of each row; −inf for a row of nothing else."""
    top = np.max(scores, axis=1, keepdims=True)
    top = np.where(top == -np.inf, top.dtype.type(0), top)
    with np.errstate(divide="ignore"):
        return np.asarray((top + np.log(np.sum(np.exp(scores - top), axis=1, keepdims=True)))[:, 0])


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
