"""Attention, forward and backward, in elementary steps, each of which can be replaced.

With every step as it is in `STEPS`, this is the formula as it reads.  The trace prints what it
takes note of on the way; a known mistake is the same calculation with one or two steps replaced
(`attncli.checking.diagnosing.mistakes`).

The steps are as small as those of the book's layers: weights and states are spread out to
(…, T_dec, T_enc, H), multiplied and summed.  That is slow and takes memory, but every mistake one
can make in such code has its place.  `PRODUCTS` are the steps that replace these by products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from attncli.arrays import Array
from attncli.core.extras import Placed
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.operations.operation import OPERATIONS

Step: TypeAlias = Callable[..., Any]
Steps: TypeAlias = Mapping[str, Step]

QKV = "scaled-dot-product"
"""The general operation, beside the names of the book's layers."""


class Calculation:
    """One calculation: what the steps share, and what they leave for the backward pass.

    Parameters
    ----------
    layer : str
        The name of an operation.
    inputs : sequence of ndarray
        As the layer's forward takes them.
    semantics : Semantics
    mask : ndarray or None
        Boolean (True = takes part) or floating, broadcastable to (…, T_dec, T_enc).
    steps : mapping of str to callable
        The steps that replace those of `STEPS`.
    extras : Placed, optional
        Sinks, slopes, segments, lengths and dropout, placed for the scores.
    rounded : callable, optional
        What becomes of every number that is taken note of: the precision of what is stored.

    Attributes
    ----------
    query, key, value : ndarray (…, T, H)
    scale : float
    hr, ar : ndarray (…, T_dec, T_enc, H)
        The query and the weights, spread out.
    capped : ndarray
        tanh of the scores, where there is a softcap.
    weights, left : ndarray (…, T_dec, T_enc)
        The weights, and what dropout leaves of them.
    noted : dict of str to ndarray
        The quantities that have a name in the mathematics, in the order in which they came.
    """

    def __init__(
        self,
        layer: str,
        inputs: Sequence[Array],
        semantics: Semantics,
        mask: Array | None = None,
        steps: Steps | None = None,
        *,
        extras: Placed = Placed(),  # noqa: B008 (it is immutable)
        rounded: Callable[[Array], Array] = np.asarray,
    ) -> None:
        self.layer, self.semantics, self.mask, self.extras = layer, semantics, mask, extras
        self.steps = {**STEPS, **(steps or {})}
        self.noted: dict[str, Array] = {}
        self.rounded = rounded
        self.given = inputs
        self.query, self.key, self.value = self("operands", *_operands(layer, inputs))
        self.groups = 1
        if self.query is not None and self.query.ndim > 3:
            self.groups = self.query.shape[-3] // self.key.shape[-3]
            self.key = self("key_groups", self.key)
            self.value = self("value_groups", self.value)
        # The softmax and the weighted sum alone have no query and key to be scaled.
        H = self.query.shape[-1] if self.query is not None else 1
        self.scale = OPERATIONS[layer].scale(semantics, H)
        # What forward leaves; Any, since each is an array once it is looked at.
        self.hr: Any = None if self.query is None else self.query[..., :, None, :]
        self.ar: Any = None
        self.weights: Any = None
        self.left: Any = None
        self.dlogsumexp: Array | None = None
        self.capped: Any = None
        # What a mistaken backward pass puts aside.
        self.kept_weights: Any = None
        self.whole_dweights: Any = None
        self.inside: Any = None

    def __call__(self, step: str, *arguments: Any) -> Any:
        """Do a step."""
        return self.steps[step](self, *arguments)

    def note(self, name: str, value: Array) -> Array:
        """Take note of a quantity under its name in the mathematics; return it as it is stored."""
        self.noted[name] = value = self.rounded(value)
        return value

    def keep(self, weights: Array) -> None:
        """Leave other weights for the backward pass."""
        self.weights, self.left = weights, self("dropout", weights)
        self.ar = self.left[..., None]

    @property
    def H(self) -> int:
        """The hidden size."""
        size: int = self.query.shape[-1]
        return size

    @property
    def T_enc(self) -> int:
        """The number of keys."""
        size: int = (self.key if self.key is not None else self.value).shape[-2]
        return size

    @property
    def T_dec(self) -> int:
        """The number of queries."""
        size: int = self.query.shape[-2]
        return size

    def forward(self) -> dict[str, Array]:
        """Return ``out`` (whatever the layer gives), and ``weights`` where there are any inside."""
        if self.layer == "weight-sum":
            self.left = self.weights = self.given[1][:, None, :]
        elif self.layer == "softmax":
            self.weights = self("softmax", self.given[0][:, None, :])
        else:
            logits = self("logits", self("query_key"))
            self.weights = self("after_softmax", self("softmax", logits))
            self.left = self("dropout", self.weights)
        self.ar = None if self.left is None else self.left[..., None]
        if self.layer in ("softmax", "attention-weight"):
            return {"out": self("result", self.weights[..., 0, :])}
        out = self("result", self.note("out", self("weights_value")))
        weights = self("kept", self.weights)
        if self.layer in (QKV, "time-attention"):
            return {"out": out, "weights": weights}
        out = out[..., 0, :]
        return {"out": out} if self.layer == "weight-sum" else {
            "out": out,
            "weights": weights[..., 0, :],
        }  # fmt: skip

    def backward(self, dout: Array, dlogsumexp: Array | None = None) -> list[Array]:
        """Return the gradient of every input, by the formulas and what forward left."""
        self.dlogsumexp = dlogsumexp
        dout = self.note("dout", self("dout", dout))
        self("cache")
        self("recomputed")
        dvalue = None
        if self.layer in ("softmax", "attention-weight"):
            dweights = dout[..., None, :]
        else:
            if self.layer in ("weight-sum", "attention"):
                dout = dout[..., None, :]
            dvalue, dweights = self("weights_value_back", dout)
            dweights = self("dropout_back", dweights)
        if self.layer == "weight-sum":
            return list(self("gradients", (dvalue, dweights[..., 0, :])))
        dscores = self("softmax_back", self("after_softmax_back", dweights))
        if self.layer == "softmax":
            return list(self("gradients", (dscores[..., 0, :],)))
        dscores = self.note("dscores", self("softcap_back", dscores))
        dkey, dquery = self("query_key_back", self("scale_back", dscores))
        if self.layer == QKV:
            if self.groups > 1:
                dkey, dvalue = (self.rounded(self("over_groups", x)) for x in (dkey, dvalue))
            return list(self("gradients", (dquery, dkey, dvalue)))
        dhs = dkey if dvalue is None else self.rounded(self("join", dkey, dvalue))
        if self.layer != "time-attention":
            dquery = dquery[..., 0, :]
        return list(self("gradients", (dhs, dquery)))


def softmax(
    scores: Array,
    axis: int = -1,
    note: Any = lambda name, value: value,
    sink: Array | None = None,
) -> Array:
    """Softmax that keeps a row of −inf at 0, and takes complex numbers.

    A `sink` is one more score in the sum, which has no weight among those returned.
    """
    largest = scores.real.max(axis=axis, keepdims=True)
    largest = note("largest", largest if sink is None else np.maximum(largest, sink))
    # A row of −inf only has no largest score; −inf − (−inf) would make it NaN.
    base = np.where(largest == -np.inf, 0, largest)
    exps = note("exps", np.exp(scores - base))
    total = exps.sum(axis=axis, keepdims=True)
    total = note("total", total if sink is None else total + np.exp(sink - base))
    return np.asarray(note("weights", exps / np.where(total == 0, 1, total)))


def _operands(layer: str, inputs: Sequence[Array]) -> tuple[Any, Any, Any]:
    if layer == QKV:
        return inputs[0], inputs[1], inputs[2]
    if layer == "softmax":
        return None, None, inputs[0]
    if layer == "weight-sum":
        return inputs[0][:, :1], None, inputs[0]
    hs, h = inputs
    return (h if layer == "time-attention" else h[:, None, :]), hs, hs


def band(c: Calculation) -> Array:
    """Say what order, window, lengths and segments let each query see: (…, T_dec, T_enc)."""
    return Visibility.of(c.semantics, c.T_dec, c.T_enc, extras=c.extras).pattern()


def alibi(c: Calculation) -> Array | None:
    """Return the linear biases, where there are slopes."""
    if c.extras.alibi is None:
        return None
    return Visibility.of(c.semantics, c.T_dec, c.T_enc, extras=c.extras).whole()[0]


def seen_and_biased(c: Calculation, scores: Array) -> tuple[Array, Array]:
    """Say what is seen, and give the scores with a floating mask and linear biases added."""
    seen, linear = c("band"), c("alibi")
    if linear is not None:
        scores = c.note("biased", scores + linear)
    if c.mask is not None:
        bias, visible = Visibility.of(Semantics(), c.T_dec, c.T_enc, c.mask).whole()
        if visible is not None:
            seen = seen & visible
        if bias is not None:
            bias = bias if visible is None else np.where(visible, bias, bias.dtype.type(0))
            scores = c.note("biased", scores + bias)
    return np.broadcast_to(seen, scores.shape), scores


def _masked(c: Calculation, scores: Array) -> Array:
    seen, biased = seen_and_biased(c, scores)
    return c.note("masked", np.where(seen, biased, -np.inf))


def _softcap(c: Calculation, scores: Array) -> Array:
    softcap = c.semantics.softcap
    if softcap is None:
        return scores
    c.capped = c.rounded(np.tanh(scores / softcap))
    return c.note("capped", c.capped * softcap)


def _softmax_back(c: Calculation, dweights: Array) -> Array:
    rowsum = c.note("rowsum", (c.weights * dweights).sum(axis=-1, keepdims=True))
    name = "dscores" if c.capped is None else "dcapped"
    change = dweights - rowsum
    if c.dlogsumexp is not None:
        change = change + c.dlogsumexp[..., None]
    return c.note(name, c.weights * c.rounded(change))


def _dropout(c: Calculation, weights: Array) -> Array:
    """Return weights, or their gradient, after dropout with a given mask."""
    if c.extras.keep is None:
        return weights
    left: Array = weights * c.extras.keep / weights.dtype.type(c.semantics.keep_prob or 1)
    return left


def _over_groups(c: Calculation, x: Array) -> Array:
    return np.asarray(x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:]).sum(axis=-3))


def _query_key(c: Calculation) -> Any:
    c.hr = c("repeat_query", c.query)
    return c("sum_h", c("product", c.key[..., None, :, :], c.hr))


def _weights_value(c: Calculation) -> Any:
    c.ar = c("repeat_weights", c.left)
    return c("sum_t", c.value[..., None, :, :] * c.ar)


def _weights_value_back(c: Calculation, dout: Array) -> tuple[Any, Any]:
    dt = c("repeat_dout", dout)
    dvalue = c.note("dvalue", c("over_steps", c("value_path", dt)))
    return dvalue, c.note("dweights", c("dweights", dt * c.value[..., None, :, :]))


def _query_key_back(c: Calculation, dscores: Array) -> tuple[Any, Any]:
    ds = c("repeat_dscores", dscores)
    dquery = c.note("dquery", c("dquery", c("query_path", ds)))
    return c.note("dkey", c("over_steps", c("key_path", ds))), dquery


STEPS: Steps = {
    # forward
    "operands": lambda c, query, key, value: (query, key, value),
    "key_groups": lambda c, key: key.repeat(c.groups, axis=-3),
    "value_groups": lambda c, value: value.repeat(c.groups, axis=-3),
    "query_key": _query_key,
    "repeat_query": lambda c, query: np.repeat(query[..., :, None, :], c.T_enc, axis=-2),
    "product": lambda c, key, hr: key * hr,
    "sum_h": lambda c, t: t.sum(axis=-1),
    "logits": lambda c, scores: c("mask", c("softcap", c("scaled", scores))),
    "scaled": lambda c, scores: c.note("scores", c.rounded(scores) * c("factor")),
    "factor": lambda c: c.scale,
    "softcap": _softcap,
    "band": band,
    "mask": _masked,
    "alibi": alibi,
    "softmax": lambda c, scores: softmax(scores, note=c.note, sink=c("sink")),
    "sink": lambda c: c.extras.sinks,
    "after_softmax": lambda c, weights: weights,
    "dropout": _dropout,
    "weights_value": _weights_value,
    "repeat_weights": lambda c, weights: weights[..., None],
    "sum_t": lambda c, t: t.sum(axis=-2),
    "result": lambda c, out: out,
    "kept": lambda c, weights: weights,
    # backward
    "dout": lambda c, dout: dout,
    "cache": lambda c: None,
    "recomputed": lambda c: None,
    "weights_value_back": _weights_value_back,
    "repeat_dout": lambda c, dout: np.repeat(dout[..., :, None, :], c.T_enc, axis=-2),
    "value_path": lambda c, dt: dt * c.ar,
    "dweights": lambda c, dar: dar.sum(axis=-1),
    "dropout_back": _dropout,
    "after_softmax_back": lambda c, dweights: dweights,
    "softmax_back": _softmax_back,
    "softcap_back": lambda c, dscores: dscores if c.capped is None else dscores * (1 - c.capped**2),
    "scale_back": lambda c, dscores: c.rounded(dscores * c("factor")),
    "query_key_back": _query_key_back,
    "repeat_dscores": lambda c, dscores: dscores[..., None],
    "key_path": lambda c, ds: ds * c.hr,
    "query_path": lambda c, ds: ds * c.key[..., None, :, :],
    "dquery": lambda c, dhr: dhr.sum(axis=-2),
    "over_steps": lambda c, steps: steps.sum(axis=-3),
    "over_groups": _over_groups,
    "join": lambda c, dkey, dvalue: dkey + dvalue,
    "gradients": lambda c, gradients: gradients,
}
"""The formula, step by step."""

FORWARD = frozenset(list(STEPS)[: list(STEPS).index("dout")])
"""The steps that forward takes."""

PRODUCTS: Steps = {
    "query_key": lambda c: c.query @ c.key.swapaxes(-1, -2),
    "weights_value": lambda c: c.left @ c.value,
    "weights_value_back": lambda c, dout: (
        c.note("dvalue", c.left.swapaxes(-1, -2) @ dout),
        c.note("dweights", dout @ c.value.swapaxes(-1, -2)),
    ),
    "query_key_back": lambda c, dscores: (
        c.note("dkey", dscores.swapaxes(-1, -2) @ c.query),
        c.note("dquery", dscores @ c.key),
    ),
}
"""Steps that multiply matrices, for tensors that are too large to be spread out."""

_VALUES = {"repeat_weights", "sum_t", "repeat_dout", "value_path", "dweights"}
_KEYS = {"repeat_query", "product", "sum_h", "repeat_dscores", "key_path"}
_SPREAD_OUT = {
    "query_key": {*_KEYS, "query_path", "dquery", "over_steps", "cache"},
    "weights_value": {*_VALUES, "over_steps", "cache"},
    "weights_value_back": {*_VALUES, "over_steps", "cache"},
    "query_key_back": {*_KEYS, "query_path", "dquery", "over_steps", "cache"},
}


def by_products(steps: Steps) -> Steps:
    """Multiply matrices wherever no step is replaced that needs them spread out."""
    free = {name: step for name, step in PRODUCTS.items() if not _SPREAD_OUT[name] & steps.keys()}
    return {**free, **steps}
