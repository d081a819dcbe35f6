"""The attention layers of "Deep Learning from Scratch 2": the definition of correct.

Short and readable, nothing clever; everything faster in this package is tested against
this page.  ``N`` is the batch size, ``T`` the number of encoder steps (``T_enc``), ``T_dec``
the number of decoder steps, ``H`` the hidden size.

    scores  = hs · h            (N, T)       how well each encoder step fits the decoder's state
    weights = softmax(scores)   (N, T)       rows sum to one
    out     = weights · hs      (N, H)       the weighted mean of the encoder's states

The layers ask an array for its own namespace (the Python array API standard) instead of
importing NumPy: CuPy or JAX arrays go in and come out.

A ``mask`` may be given wherever weights are computed.  Boolean: **True = takes part**.
Floating: added to the scores, so −inf takes an encoder step out.  A row in which nothing takes
part gives weights 0, output 0 and gradient 0.
"""

from __future__ import annotations

from typing import Any

Array = Any  # whatever follows the array API standard: NumPy, CuPy, JAX …


class Softmax:
    """Scores to weights, along the last axis.

    Examples
    --------
    >>> import numpy as np
    >>> Softmax().forward(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.out: Array = None

    def forward(self, scores: Array) -> Array:
        """Return weights (…, T) for scores (…, T); −inf scores get weight 0."""
        xp, scores = _floating(scores)

        # Subtracted only for numerical stability: the weights do not depend on it, exp stays ≤ 1.
        largest = xp.max(_real(scores), axis=-1, keepdims=True)
        # A row of −inf only has no largest score; −inf − (−inf) would make it NaN.
        largest = xp.where(largest == -xp.inf, 0.0, largest)

        exps = xp.exp(scores - largest)
        total = xp.sum(exps, axis=-1, keepdims=True)
        self.out = exps / xp.where(total == 0, 1.0, total)
        return self.out

    def backward(self, dweights: Array) -> Array:
        """Return dscores (…, T) = weights ⊙ (dweights − Σ weights ⊙ dweights)."""
        weights = self.out
        xp = weights.__array_namespace__()

        shared = xp.sum(weights * dweights, axis=-1, keepdims=True)
        return weights * (dweights - shared)


class WeightSum:
    """Encoder states hs (N, T, H) and weights a (N, T) to their weighted sum c (N, H).

    Examples
    --------
    >>> import numpy as np
    >>> hs = np.array([[[1.0, 0.0], [0.0, 4.0]]])
    >>> WeightSum().forward(hs, np.array([[0.25, 0.75]]))
    array([[0.25, 3.  ]])
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.cache: Array = None

    def forward(self, hs: Array, a: Array) -> Array:
        """Return c (N, H): c[n] = Σ_t a[n, t] · hs[n, t]."""
        xp, hs, a = _floating(hs, a)

        ar = a[:, :, None]  # (N, T, 1)
        self.cache = (hs, ar)
        return xp.sum(hs * ar, axis=1)

    def backward(self, dc: Array) -> tuple[Array, Array]:
        """Return dhs (N, T, H) and da (N, T)."""
        hs, ar = self.cache
        xp = hs.__array_namespace__()

        dt = dc[:, None, :]  # (N, 1, H): the sum hands the same gradient to every step
        dhs = dt * ar
        da = xp.sum(dt * hs, axis=2)
        return dhs, da


class AttentionWeight:
    """Encoder states hs (N, T, H) and one decoder state h (N, H) to weights a (N, T).

    Examples
    --------
    >>> import numpy as np
    >>> hs = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> AttentionWeight().forward(hs, np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.softmax = Softmax()
        self.cache: Array = None

    def forward(self, hs: Array, h: Array, mask: Array = None) -> Array:
        """Return a (N, T): the softmax over t of hs[n, t] · h[n]; mask is (N, T)."""
        xp, hs, h = _floating(hs, h)
        hs = _taking_part(hs, mask)

        hr = h[:, None, :]  # (N, 1, H)
        scores = xp.sum(hs * hr, axis=2)  # (N, T)
        self.cache = (hs, hr)
        return self.softmax.forward(_masked(scores, mask))

    def backward(self, da: Array) -> tuple[Array, Array]:
        """Return dhs (N, T, H) and dh (N, H)."""
        hs, hr = self.cache
        xp = hs.__array_namespace__()

        ds = self.softmax.backward(da)  # (N, T)
        dt = ds[:, :, None]  # (N, T, 1)
        dhs = dt * hr
        dh = xp.sum(dt * hs, axis=1)
        return dhs, dh


class Attention:
    """Encoder states hs (N, T, H) and one decoder state h (N, H) to a context out (N, H).

    After ``forward``, ``attention_weight`` holds the weights (N, T).

    Examples
    --------
    >>> import numpy as np
    >>> hs = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> attention = Attention()
    >>> attention.forward(hs, np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    >>> dhs, dh = attention.backward(np.array([[1.0, 0.0]]))
    >>> dh
    array([[ 0.1875, -0.1875]])
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.attention_weight_layer = AttentionWeight()
        self.weight_sum_layer = WeightSum()
        self.attention_weight: Array = None

    def forward(self, hs: Array, h: Array, mask: Array = None) -> Array:
        """Return out (N, H), the mean of hs weighted by how well each step fits h."""
        a = self.attention_weight_layer.forward(hs, h, mask)
        out = self.weight_sum_layer.forward(_taking_part(hs, mask), a)
        self.attention_weight = a
        return out

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dhs (N, T, H) and dh (N, H)."""
        dhs_value, da = self.weight_sum_layer.backward(dout)
        dhs_score, dh = self.attention_weight_layer.backward(da)
        return dhs_value + dhs_score, dh  # hs was used twice: as the values and in the scores


class TimeAttention:
    """Attention for every decoder step: hs_enc (N, T_enc, H), hs_dec (N, T_dec, H) to out.

    After ``forward``, ``attention_weights`` holds one (N, T_enc) array per decoder step and
    ``layers`` one `Attention` per decoder step.

    Examples
    --------
    >>> import numpy as np
    >>> hs_enc = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> hs_dec = np.log([[[1.0, 3.0], [1.0, 1.0]]])
    >>> layer = TimeAttention()
    >>> layer.forward(hs_enc, hs_dec)
    array([[[0.25, 0.75],
            [0.5 , 0.5 ]]])
    >>> np.array(layer.attention_weights).shape  # (T_dec, N, T_enc)
    (2, 1, 2)
    """

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []
        self.layers: list[Any] | None = None
        self.attention_weights: list[Array] | None = None

    def one_step(self) -> Any:
        """Return a layer of its own for a step: each remembers its inputs for backward."""
        return Attention()

    def forward(self, hs_enc: Array, hs_dec: Array, mask: Array = None) -> Array:
        """Return out (N, T_dec, H); mask broadcasts to (N, T_dec, T_enc)."""
        xp = hs_enc.__array_namespace__()
        (N, T_enc, _), T_dec = hs_enc.shape, hs_dec.shape[1]
        if mask is not None:
            mask = xp.broadcast_to(mask, (N, T_dec, T_enc))

        outs, self.layers, self.attention_weights = [], [], []
        for t in range(T_dec):
            layer = self.one_step()
            step_mask = None if mask is None else mask[:, t, :]
            outs.append(layer.forward(hs_enc, hs_dec[:, t, :], step_mask))
            self.layers.append(layer)
            self.attention_weights.append(layer.attention_weight)
        return xp.stack(outs, axis=1)

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dhs_enc (N, T_enc, H) and dhs_dec (N, T_dec, H)."""
        if self.layers is None:
            raise RuntimeError("backward needs the inputs of a forward: call forward first")
        xp = dout.__array_namespace__()

        dhs_enc: Array = None
        dhs_dec = []
        for t, layer in enumerate(self.layers):
            dhs, dh = layer.backward(dout[:, t, :])
            dhs_enc = dhs if dhs_enc is None else dhs_enc + dhs  # every step used hs_enc
            dhs_dec.append(dh)
        return dhs_enc, xp.stack(dhs_dec, axis=1)


def _floating(*arrays: Array) -> tuple[Array, ...]:
    """The arrays' namespace, then the arrays with integers made float64."""
    xp = arrays[0].__array_namespace__()
    kinds = ("real floating", "complex floating")
    return xp, *(x if xp.isdtype(x.dtype, kinds) else xp.astype(x, xp.float64) for x in arrays)


def _real(x: Array) -> Array:
    """The real part: complex numbers come in when a derivative is taken by complex step."""
    xp = x.__array_namespace__()
    return xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x


def _masked(scores: Array, mask: Array) -> Array:
    """Scores under a mask: boolean False = −inf, floating = added."""
    if mask is None:
        return scores
    xp = scores.__array_namespace__()
    return xp.where(mask, scores, -xp.inf) if xp.isdtype(mask.dtype, "bool") else scores + mask


def _taking_part(hs: Array, mask: Array) -> Array:
    """Hs with zeros where a step is masked: 0 · NaN would be NaN, and masked means unseen."""
    if mask is None:
        return hs
    xp = hs.__array_namespace__()
    seen = mask if xp.isdtype(mask.dtype, "bool") else mask != -xp.inf
    return xp.where(seen[:, :, None], hs, 0.0)
