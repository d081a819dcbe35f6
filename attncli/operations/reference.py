"""The reference engine: the book's layers, and their loop over decoder steps for every option.

Slow and plain on purpose: the core is tested against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attncli import layers
from attncli.arrays import Array
from attncli.core.progress import steps
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility, as_mask
from attncli.errors import ParameterError
from attncli.operations.execution import Execution
from attncli.operations.forward import Forward, Gradients, sum_to

if TYPE_CHECKING:
    from attncli.operations.operation import Operation
    from attncli.operations.whole import WholeAttention


def run_layer(
    operation: Operation,
    inputs: list[Array],
    mask: Array | None,
    semantics: Semantics,
    execution: Execution,
) -> Forward:
    """Run one of the book's layers as it is."""
    if semantics.given():
        names = ", ".join(f"--{name}" for name in semantics.given())
        raise ParameterError(f"{operation.name} takes no {names}: it is a part of attention alone")
    layer = operation.layer()
    if operation.name == "softmax" and mask is not None:
        (scores,) = inputs
        inputs = [np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask]
    masks = [mask] if mask is not None and operation.name != "softmax" else []
    results = {operation.result: layer.forward(*inputs, *masks)}
    if isinstance(layer, layers.Attention):
        results["a"] = layer.attention_weight
    if isinstance(layer, layers.TimeAttention):
        results["weights"] = np.stack(layer.attention_weights or [], axis=1)

    blind = None if mask is None else _without_keys(mask)

    def backward(dout: Array) -> tuple[Gradients, Array | None]:
        gradients = layer.backward(dout)
        return (gradients if isinstance(gradients, tuple) else (gradients,)), None

    return Forward(results, backward, "reference", blind)


def run_loop(
    operation: WholeAttention,
    inputs: list[Array],
    mask: Array | None,
    semantics: Semantics,
    execution: Execution,
) -> Forward:
    """Run the loop over decoder steps on what the operation's inputs are as query, key, value."""
    floating_mask = mask is not None and mask.dtype != bool
    if operation.layer is not None and not semantics.given() and not floating_mask:
        return run_layer(operation, inputs, mask, semantics, execution)
    query, key, value = operation.to_core(inputs)
    scale = operation.scale(semantics, query.shape[-1])
    loop = TimeLoop(semantics, scale)
    out = loop.forward(query, key, value, None if mask is None else operation.core_mask(mask))

    def backward(dout: Array) -> tuple[Gradients, Array | None]:
        dquery, dkey, dvalue, dmask = loop.backward(operation.core_dout(dout))
        if mask is not None and dmask is not None:
            dmask = dmask.reshape(mask.shape)
        return operation.from_core(dquery, dkey, dvalue), dmask

    return Forward(operation.core_results(out, loop.weights), backward, "reference", loop.blind)


class TimeLoop:
    """`attncli.layers.TimeAttention`'s loop with a query, key and value of their own.

    Each step is the book's softmax and weighted sum; scale, softcap and masks stand between the
    products as the formulas have them.  Grouped queries repeat their key and value heads.
    """

    def __init__(self, semantics: Semantics, scale: float) -> None:
        self.semantics, self.scale = semantics, scale
        self.steps: list[tuple[layers.Softmax, layers.WeightSum, Array, Array]] = []

    def forward(self, query: Array, key: Array, value: Array, mask: Array | None) -> Array:
        """Return out (…, T_dec, H_v)."""
        self.shapes = query.shape, key.shape, value.shape
        lead, T_dec, T_enc = query.shape[:-2], query.shape[-2], key.shape[-2]
        self.lead, self.mask = lead, mask
        visibility = Visibility.of(self.semantics, T_dec, T_enc, mask)
        self.query = query.reshape(-1, *query.shape[-2:])
        self.key, self.value = (_repeated(x, lead) for x in (key, value))

        outs, weights, blind = [], [], []
        step_done = steps(T_dec)
        for t in range(T_dec):
            step = as_mask(*visibility.row(t))
            if step is not None:
                step = np.broadcast_to(step, (*lead, T_enc)).reshape(-1, T_enc)
            key_t, value_t = (layers._taking_part(x, step) for x in (self.key, self.value))

            scores = self.scale * np.sum(key_t * self.query[:, None, t, :], axis=2)
            if self.semantics.softcap is not None:
                scores = self.semantics.softcap * np.tanh(scores / self.semantics.softcap)
            softmax, weight_sum = layers.Softmax(), layers.WeightSum()
            a = softmax.forward(layers._masked(scores, step))
            outs.append(weight_sum.forward(value_t, a))
            weights.append(a)
            self.steps.append((softmax, weight_sum, key_t, scores))
            blind.append(np.zeros(len(a), bool) if step is None else _without_keys(step))
            step_done()
        self.weights = np.stack(weights, axis=1).reshape(*lead, T_dec, T_enc)
        self.blind = np.stack(blind, axis=1).reshape(*lead, T_dec) if visibility else None
        return np.stack(outs, axis=1).reshape(*lead, T_dec, value.shape[-1])

    def backward(self, dout: Array) -> tuple[Array, Array, Array, Array | None]:
        """Return dquery, dkey, dvalue and, for a floating mask, dmask."""
        dout = dout.reshape(-1, *dout.shape[-2:])
        dkey: Any = np.zeros_like(self.key)
        dvalue: Any = np.zeros_like(self.value)
        dquery, dbias = [], []
        step_done = steps(len(self.steps))
        for t, (softmax, weight_sum, key_t, scores) in enumerate(self.steps):
            dvalue_t, da = weight_sum.backward(dout[:, t])
            dscores = softmax.backward(da)
            dbias.append(dscores)
            if self.semantics.softcap is not None:
                dscores = dscores * (1 - (scores / self.semantics.softcap) ** 2)
            dvalue += dvalue_t
            dkey += self.scale * dscores[:, :, None] * self.query[:, None, t, :]
            dquery.append(self.scale * np.sum(dscores[:, :, None] * key_t, axis=1))
            step_done()
        query_shape, key_shape, value_shape = self.shapes
        dmask = None
        if self.mask is not None and self.mask.dtype != bool:
            full = np.stack(dbias, axis=1)
            dmask = sum_to(full.reshape(*self.lead, *full.shape[-2:]), self.mask.shape)
        return (
            np.stack(dquery, axis=1).reshape(query_shape),
            _gathered(dkey, self.lead, key_shape),
            _gathered(dvalue, self.lead, value_shape),
            dmask,
        )


def _repeated(x: Array, lead: tuple[int, ...]) -> Array:
    """Give every query head a key head of its own, and make the leading axes one."""
    if len(lead) > 1 and x.shape[-3] != lead[-1]:
        x = np.repeat(x, lead[-1] // x.shape[-3], axis=-3)
    return np.ascontiguousarray(np.broadcast_to(x, (*lead, *x.shape[-2:]))).reshape(
        -1, *x.shape[-2:]
    )


def _gathered(gradient: Array, lead: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Undo `_repeated`: sum the gradients of a shared head."""
    gradient = gradient.reshape(*lead, *shape[-2:])
    if len(lead) > 1 and shape[-3] != lead[-1]:
        gradient = gradient.reshape(*lead[:-1], shape[-3], -1, *shape[-2:]).sum(axis=-3)
    return sum_to(gradient, shape)


def _without_keys(mask: Array) -> Array:
    """Where a row of a mask leaves no key."""
    hidden: Array = np.logical_not(mask) if mask.dtype == bool else np.equal(mask, -np.inf)
    return np.asarray(hidden.all(axis=-1))
