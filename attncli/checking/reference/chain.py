"""Attention, forward and backward, in elementary steps, each of which can be replaced.

With every step as it is in `STEPS`, this is the reference.  A known mistake is the same chain with
one or two steps replaced (`attncli.checking.diagnosing.mistakes`).

The steps are as small as those of the book's layers: weights and states are spread out to
(…, T_dec, T_enc, H), multiplied and summed.  That is slow and takes memory, but the tensors are
small, and every mistake one can make in such code has its place.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility

Step: TypeAlias = Callable[..., Any]
Steps: TypeAlias = Mapping[str, Step]

QKV = "scaled-dot-product"
"""The general operation, beside the names of the book's layers."""

INPUTS: Mapping[str, tuple[str, ...]] = {
    "softmax": ("scores",),
    "weight-sum": ("hs", "a"),
    "attention-weight": ("hs", "h"),
    "attention": ("hs", "h"),
    "time-attention": ("hs_enc", "hs_dec"),
    QKV: ("query", "key", "value"),
}


class Chain:
    """One calculation: what the steps share, and what they leave for the backward pass.

    Parameters
    ----------
    layer : str
        A key of `INPUTS`.
    inputs : sequence of ndarray
        As the layer's forward takes them.
    claims : Semantics
    mask : ndarray or None
        Boolean (True = takes part) or floating, broadcastable to (…, T_dec, T_enc).
    steps : mapping of str to callable
        The steps that replace those of `STEPS`.

    Attributes
    ----------
    query, key, value : ndarray (…, T, H)
    scale : float
    hr, ar : ndarray (…, T_dec, T_enc, H)
        The query and the weights, spread out.
    capped : ndarray
        tanh of the scores, where there is a softcap.
    weights : ndarray (…, T_dec, T_enc)
    """

    def __init__(
        self,
        layer: str,
        inputs: list[Array],
        claims: Semantics,
        mask: Array | None = None,
        steps: Steps | None = None,
    ) -> None:
        self.layer, self.claims, self.mask = layer, claims, mask
        self.steps = {**STEPS, **(steps or {})}
        self.given = inputs
        self.query, self.key, self.value = self("operands", *_operands(layer, inputs))
        self.groups = 1
        if self.query is not None and self.query.ndim > 3:
            self.groups = self.query.shape[-3] // self.key.shape[-3]
            self.key = self("key_groups", self.key)
            self.value = self("value_groups", self.value)
        self.scale = claims.scale
        if self.scale is None:
            self.scale = self.query.shape[-1] ** -0.5 if layer == QKV else 1.0
        # What forward leaves; Any, since each is an array once it is looked at.
        self.hr: Any = None
        self.ar: Any = None
        self.weights: Any = None
        self.capped: Any = None

    def __call__(self, step: str, *arguments: Any) -> Any:
        """Do a step."""
        return self.steps[step](self, *arguments)

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
            self.weights = self.given[1][:, None, :]
        elif self.layer == "softmax":
            self.weights = self("softmax", self.given[0][:, None, :])
        else:
            self.hr = self("repeat_query", self.query)
            scores = self("sum_h", self("product", self.key[..., None, :, :], self.hr))
            self.weights = self("after_softmax", self("softmax", self("logits", scores)))
        if self.layer in ("softmax", "attention-weight"):
            return {"out": self("result", self.weights[..., 0, :])}
        self.ar = self("repeat_weights", self.weights)
        out = self("result", self("sum_t", self.value[..., None, :, :] * self.ar))
        if self.layer in (QKV, "time-attention"):
            return {"out": out, "weights": self.weights}
        out = out[..., 0, :]
        return {"out": out} if self.layer == "weight-sum" else {
            "out": out,
            "weights": self.weights[..., 0, :],
        }  # fmt: skip

    def backward(self, dout: Array) -> list[Array]:
        """Return the gradient of every input, by the formulas and what forward left."""
        dout = self("dout", dout)
        self("cache")
        dvalue = None
        if self.layer in ("softmax", "attention-weight"):
            dweights = dout[..., None, :]
        else:
            if self.layer in ("weight-sum", "attention"):
                dout = dout[..., None, :]
            dt = self("repeat_dout", dout)
            dvalue = self("over_steps", self("value_path", dt))
            dweights = self("dweights", dt * self.value[..., None, :, :])
        if self.layer == "weight-sum":
            return list(self("gradients", (dvalue, dweights[..., 0, :])))
        dscores = self("softmax_back", self("after_softmax_back", dweights))
        if self.layer == "softmax":
            return list(self("gradients", (dscores[..., 0, :],)))
        dscores = self("scale_back", self("softcap_back", dscores))
        ds = self("repeat_dscores", dscores)
        dkey = self("over_steps", self("key_path", ds))
        dquery = self("dquery", self("query_path", ds))
        if self.layer == QKV:
            if self.groups > 1:
                dkey, dvalue = self("over_groups", dkey), self("over_groups", dvalue)
            return list(self("gradients", (dquery, dkey, dvalue)))
        dhs = dkey if dvalue is None else self("join", dkey, dvalue)
        if self.layer != "time-attention":
            dquery = dquery[..., 0, :]
        return list(self("gradients", (dhs, dquery)))


def softmax(scores: Array, axis: int = -1) -> Array:
    """Softmax that keeps a row of −inf at 0, and takes complex numbers."""
    largest = scores.real.max(axis=axis, keepdims=True)
    exps = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    total = exps.sum(axis=axis, keepdims=True)
    return np.asarray(exps / np.where(total == 0, 1, total))


def _operands(layer: str, inputs: list[Array]) -> tuple[Any, Any, Any]:
    if layer == QKV:
        return inputs[0], inputs[1], inputs[2]
    if layer == "softmax":
        return None, None, inputs[0]
    if layer == "weight-sum":
        return inputs[0][:, :1], None, inputs[0]
    hs, h = inputs
    return (h if layer == "time-attention" else h[:, None, :]), hs, hs


def seen_and_biased(c: Chain, scores: Array) -> tuple[Array, Array]:
    """Say what is seen, and give the scores with a floating mask added."""
    bias, seen = Visibility.of(Semantics(), c.T_dec, c.T_enc, c.mask).whole()
    seen = c("band") if seen is None else c("band") & seen
    return np.broadcast_to(seen, scores.shape), scores if bias is None else scores + bias


def _masked(c: Chain, scores: Array) -> Array:
    seen, biased = seen_and_biased(c, scores)
    return np.where(seen, biased, -np.inf)


def _softcap(c: Chain, scores: Array) -> Array:
    if c.claims.softcap is None:
        return scores
    c.capped = np.tanh(scores / c.claims.softcap)
    return np.asarray(c.capped * c.claims.softcap)


def _over_groups(c: Chain, x: Array) -> Array:
    return np.asarray(x.reshape(*x.shape[:-3], -1, c.groups, *x.shape[-2:]).sum(axis=-3))


STEPS: Steps = {
    # forward
    "operands": lambda c, query, key, value: (query, key, value),
    "key_groups": lambda c, key: key.repeat(c.groups, axis=-3),
    "value_groups": lambda c, value: value.repeat(c.groups, axis=-3),
    "repeat_query": lambda c, query: np.repeat(query[..., :, None, :], c.T_enc, axis=-2),
    "product": lambda c, key, hr: key * hr,
    "sum_h": lambda c, t: t.sum(axis=-1),
    "logits": lambda c, scores: c("mask", c("softcap", c("scaled", scores))),
    "scaled": lambda c, scores: scores * c("factor"),
    "factor": lambda c: c.scale,
    "softcap": _softcap,
    "band": lambda c: Visibility.of(c.claims, c.T_dec, c.T_enc).pattern(),
    "mask": _masked,
    "softmax": lambda c, scores: softmax(scores),
    "after_softmax": lambda c, weights: weights,
    "repeat_weights": lambda c, weights: weights[..., None],
    "sum_t": lambda c, t: t.sum(axis=-2),
    "result": lambda c, out: out,
    # backward
    "dout": lambda c, dout: dout,
    "cache": lambda c: None,
    "repeat_dout": lambda c, dout: np.repeat(dout[..., :, None, :], c.T_enc, axis=-2),
    "value_path": lambda c, dt: dt * c.ar,
    "dweights": lambda c, dar: dar.sum(axis=-1),
    "after_softmax_back": lambda c, dweights: dweights,
    "softmax_back": lambda c, dweights: (
        c.weights * (dweights - (c.weights * dweights).sum(axis=-1, keepdims=True))
    ),
    "softcap_back": lambda c, dscores: dscores if c.capped is None else dscores * (1 - c.capped**2),
    "scale_back": lambda c, dscores: dscores * c("factor"),
    "repeat_dscores": lambda c, dscores: dscores[..., None],
    "key_path": lambda c, ds: ds * c.hr,
    "query_path": lambda c, ds: ds * c.key[..., None, :, :],
    "dquery": lambda c, dhr: dhr.sum(axis=-2),
    "over_steps": lambda c, steps: steps.sum(axis=-3),
    "over_groups": _over_groups,
    "join": lambda c, dkey, dvalue: dkey + dvalue,
    "gradients": lambda c, gradients: gradients,
}
"""The reference, step by step."""

FORWARD = frozenset(list(STEPS)[: list(STEPS).index("dout")])
"""The steps that forward takes."""
