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

Beside the book's layers stand those with weights of their own, which are trained: Luong's,
Bahdanau's, and attention with several heads.  They take their parameters when they are made;
``params`` holds these very arrays, so that what an optimizer writes into them counts at the next
forward, and ``backward`` writes their gradients into the arrays that ``grads`` holds.
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
        _require_forward(self.layers)
        xp = dout.__array_namespace__()

        dhs_enc: Array = None
        dhs_dec = []
        for t, layer in enumerate(self.layers or []):
            dhs, dh = layer.backward(dout[:, t, :])
            dhs_enc = dhs if dhs_enc is None else dhs_enc + dhs  # every step used hs_enc
            dhs_dec.append(dh)
        return dhs_enc, xp.stack(dhs_dec, axis=1)


class LuongAttention:
    """Attention by scores = hs_dec · W · hs_encᵀ: hs_enc (N, T_enc, H), hs_dec (N, T_dec, H_dec).

    The "general" score of Luong, Pham and Manning, "Effective approaches to attention-based neural
    machine translation", EMNLP 2015.  W (H_dec, H) turns what the decoder says into what it looks
    for; the rest is the book's `TimeAttention`.  After ``forward``, ``attention_weight`` holds the
    weights (N, T_dec, T_enc).

    Examples
    --------
    >>> import numpy as np
    >>> layer = LuongAttention(np.log([[1.0, 3.0]]))  # H_dec = 1, H = 2
    >>> layer.forward(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[[1.0], [0.0]]]))
    array([[[0.25, 0.75],
            [0.5 , 0.5 ]]])
    >>> dhs_enc, dhs_dec = layer.backward(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    >>> layer.grads
    [array([[ 0.1875, -0.1875]])]
    """

    def __init__(self, W: Array) -> None:
        self.params, self.grads = _trained(W)
        self.attention = TimeAttention()
        self.attention_weight: Array = None
        self.hs_dec: Array = None

    def forward(self, hs_enc: Array, hs_dec: Array, mask: Array = None) -> Array:
        """Return out (N, T_dec, H); mask broadcasts to (N, T_dec, T_enc)."""
        xp, hs_enc, hs_dec = _floating(hs_enc, hs_dec)
        (W,) = self.params

        self.hs_dec = hs_dec
        out = self.attention.forward(hs_enc, hs_dec @ W, mask)
        self.attention_weight = xp.stack(self.attention.attention_weights, axis=1)
        return out

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dhs_enc (N, T_enc, H) and dhs_dec (N, T_dec, H_dec); write dW (H_dec, H)."""
        (W,) = self.params

        dhs_enc, dquery = self.attention.backward(dout)
        self.grads[0][...] = _rows(self.hs_dec).T @ _rows(dquery)
        return dhs_enc, dquery @ W.T


class BahdanauAttention:
    """Attention by scores = vᵀ tanh(hs_enc · W_enc + hs_dec · W_dec).

    Of Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and
    translate", ICLR 2015: hs_enc (N, T_enc, H) and hs_dec (N, T_dec, H_dec) meet in a hidden layer
    of size A; W_enc is (H, A), W_dec (H_dec, A), v (A,).  After ``forward``, ``attention_weight``
    holds the weights (N, T_dec, T_enc).

    Examples
    --------
    >>> import numpy as np
    >>> W_enc, W_dec, v = np.array([[9.0], [-9.0]]), np.array([[0.0]]), np.array([np.log(3) / 2])
    >>> layer = BahdanauAttention(W_enc, W_dec, v)  # tanh(±9) is ±1 as far as can be seen
    >>> hs_enc, hs_dec = np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[[1.0]]])
    >>> layer.forward(hs_enc, hs_dec).round(4)
    array([[[0.75, 0.25]]])
    """

    def __init__(self, W_enc: Array, W_dec: Array, v: Array) -> None:
        self.params, self.grads = _trained(W_enc, W_dec, v)
        self.softmax = Softmax()
        self.attention_weight: Array = None
        self.cache: Array = None

    def forward(self, hs_enc: Array, hs_dec: Array, mask: Array = None) -> Array:
        """Return out (N, T_dec, H); mask broadcasts to (N, T_dec, T_enc)."""
        xp, hs_enc, hs_dec = _floating(hs_enc, hs_dec)
        W_enc, W_dec, v = self.params
        (N, T_enc, H), T_dec = hs_enc.shape, hs_dec.shape[1]
        if mask is not None:
            mask = xp.broadcast_to(mask, (N, T_dec, T_enc))

        hs = xp.broadcast_to(hs_enc[:, None, :, :], (N, T_dec, T_enc, H))  # as each step sees it
        hs = _taking_part(hs, mask)
        met = xp.tanh(hs @ W_enc + (hs_dec @ W_dec)[:, :, None, :])  # (N, T_dec, T_enc, A)
        scores = xp.sum(met * v, axis=-1)  # (N, T_dec, T_enc)
        a = self.softmax.forward(_masked(scores, mask))
        self.cache = (hs, hs_dec, met, a)
        self.attention_weight = a
        return xp.sum(a[..., None] * hs, axis=2)

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """Return dhs_enc (N, T_enc, H) and dhs_dec (N, T_dec, H_dec); write dW_enc, dW_dec, dv."""
        _require_forward(self.cache)
        hs, hs_dec, met, a = self.cache
        W_enc, W_dec, v = self.params
        xp = dout.__array_namespace__()

        dt = dout[:, :, None, :]  # (N, T_dec, 1, H)
        ds = self.softmax.backward(xp.sum(dt * hs, axis=-1))[..., None]  # (N, T_dec, T_enc, 1)
        dmet = ds * v * (1 - met**2)  # back through the tanh: (N, T_dec, T_enc, A)
        ddec = xp.sum(dmet, axis=2)  # (N, T_dec, A)

        self.grads[0][...] = _rows(hs).T @ _rows(dmet)
        self.grads[1][...] = _rows(hs_dec).T @ _rows(ddec)
        self.grads[2][...] = xp.sum(_rows(ds * met), axis=0)
        dhs = dt * a[..., None] + dmet @ W_enc.T  # used twice: as the values and in the scores
        return xp.sum(dhs, axis=1), ddec @ W_dec.T


class MultiHeadAttention:
    """Attention with several heads, each looking for something else.

    Of Vaswani et al., "Attention is all you need", NeurIPS 2017.  query (N, T_dec, H), key and
    value (N, T_enc, H) are projected by Wq, Wk, Wv (H, D); each of the heads attends with its
    D / heads features, by scores = query · keyᵀ / √(D / heads); Wo (D, H) takes what they found
    side by side.  After ``forward``, ``attention_weight`` holds the weights
    (N, heads, T_dec, T_enc).

    Examples
    --------
    >>> import numpy as np
    >>> one = np.eye(2)
    >>> layer = MultiHeadAttention(np.log([[1.0, 1.0], [9.0, 1.0]]), one, one, one, heads=2)
    >>> layer.forward(np.array([[[0.0, 1.0]]]), np.array([[[0.0, 0.0], [0.5, 2.0]]]))
    array([[[0.375, 1.   ]]])
    >>> layer.attention_weight
    array([[[[0.25, 0.75]],
    <BLANKLINE>
            [[0.5 , 0.5 ]]]])
    """

    def __init__(self, Wq: Array, Wk: Array, Wv: Array, Wo: Array, heads: int) -> None:
        if heads < 1 or any(W.shape[-1] % heads for W in (Wq, Wk, Wv)):
            shapes = ", ".join(str(tuple(W.shape)) for W in (Wq, Wk, Wv))
            raise ValueError(f"Wq, Wk, Wv are {shapes}: cannot be split into {heads} heads")
        self.params, self.grads = _trained(Wq, Wk, Wv, Wo)
        self.heads = heads
        self.given = 0  # how many inputs forward was given
        self.steps: list[Any] | None = None
        self.attention_weight: Array = None
        self.cache: Array = None

    def forward(
        self,
        query: Array,
        key: Array = None,
        value: Array = None,
        mask: Array = None,
        causal: bool = False,
    ) -> Array:
        """Return out (N, T_dec, H).

        Without key the query attends to itself, without value the key is the value too.  The mask
        broadcasts to (N, heads, T_dec, T_enc); causal: query t sees the keys up to t.
        """
        self.given = 1 if key is None else 2 if value is None else 3
        key = query if key is None else key
        xp, query, key, value = _floating(query, key, key if value is None else value)
        Wq, Wk, Wv, Wo = self.params
        (N, T_dec, _), T_enc = query.shape, key.shape[1]
        if causal:
            lower = xp.arange(T_dec)[:, None] >= xp.arange(T_enc)[None, :]
            mask = lower if mask is None else _both(mask, lower)
        if mask is not None:  # heads are computed like more items of the batch
            mask = xp.broadcast_to(mask, (N, self.heads, T_dec, T_enc))
            anybody = xp.any(_seen(mask), axis=(1, 2))  # (N, T_enc)
            key, value = (xp.where(anybody[:, :, None], x, 0.0) for x in (key, value))
            mask = xp.reshape(mask, (N * self.heads, T_dec, T_enc))

        q, k, v = self._split(query @ Wq), self._split(key @ Wk), self._split(value @ Wv)
        q = q / q.shape[-1] ** 0.5  # else scores grow with the number of features
        outs, self.steps = [], []
        for t in range(T_dec):
            step_mask = None if mask is None else mask[:, t, :]
            attention_weight, weight_sum = AttentionWeight(), WeightSum()
            a = attention_weight.forward(k, q[:, t, :], step_mask)
            outs.append(weight_sum.forward(_taking_part(v, step_mask), a))
            self.steps.append((attention_weight, weight_sum, a))
        found = self._merge(xp.stack(outs, axis=1))  # (N, T_dec, D)
        self.cache = (query, key, value, found)
        a = xp.stack([a for *_, a in self.steps], axis=1)
        self.attention_weight = xp.reshape(a, (N, self.heads, T_dec, T_enc))
        return found @ Wo

    def backward(self, dout: Array) -> Any:
        """Return dquery, dkey and dvalue: of as many inputs as forward was given.

        Writes dWq, dWk, dWv and dWo.
        """
        _require_forward(self.cache)
        query, key, value, found = self.cache
        Wq, Wk, Wv, Wo = self.params
        xp = dout.__array_namespace__()

        self.grads[3][...] = _rows(found).T @ _rows(dout)
        dfound = self._split(dout @ Wo.T)
        dq, dk, dv = [], 0.0, 0.0
        for t, (attention_weight, weight_sum, _) in enumerate(self.steps or []):
            dv_step, da = weight_sum.backward(dfound[:, t, :])
            dk_step, dq_step = attention_weight.backward(da)
            dk, dv = dk + dk_step, dv + dv_step  # every step used them
            dq.append(dq_step)
        dq = xp.stack(dq, axis=1)
        dq, dk, dv = self._merge(dq / dq.shape[-1] ** 0.5), self._merge(dk), self._merge(dv)

        self.grads[0][...] = _rows(query).T @ _rows(dq)
        self.grads[1][...] = _rows(key).T @ _rows(dk)
        self.grads[2][...] = _rows(value).T @ _rows(dv)
        dquery, dkey, dvalue = dq @ Wq.T, dk @ Wk.T, dv @ Wv.T
        if self.given == 1:  # one array was all three
            return dquery + dkey + dvalue
        return (dquery, dkey + dvalue) if self.given == 2 else (dquery, dkey, dvalue)

    def _split(self, x: Array) -> Array:
        """(N, T, D) to (N · heads, T, D / heads)."""
        xp = x.__array_namespace__()
        N, T, D = x.shape
        x = xp.reshape(x, (N, T, self.heads, D // self.heads))
        return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (N * self.heads, T, D // self.heads))

    def _merge(self, x: Array) -> Array:
        """(N · heads, T, D / heads) to (N, T, D)."""
        xp = x.__array_namespace__()
        N, (_, T, d) = x.shape[0] // self.heads, x.shape
        x = xp.reshape(x, (N, self.heads, T, d))
        return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (N, T, self.heads * d))


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
    return xp.where(_seen(mask)[..., None], hs, 0.0)


def _seen(mask: Array) -> Array:
    """Where a mask lets a step take part."""
    xp = mask.__array_namespace__()
    return mask if xp.isdtype(mask.dtype, "bool") else mask != -xp.inf


def _both(mask: Array, seen: Array) -> Array:
    """A mask that hides what either hides."""
    xp = mask.__array_namespace__()
    return mask & seen if xp.isdtype(mask.dtype, "bool") else xp.where(seen, mask, -xp.inf)


def _trained(*parameters: Array) -> tuple[list[Array], list[Array]]:
    """Params and grads: the arrays that were given, and as many zeros to write gradients into."""
    xp, *params = _floating(*parameters)
    return params, [xp.zeros_like(x) for x in params]


def _rows(x: Array) -> Array:
    """(…, H) to (rows, H): a parameter's gradient sums over items and steps alike."""
    return x.__array_namespace__().reshape(x, (-1, x.shape[-1]))


def _require_forward(cache: Array) -> None:
    if cache is None:
        raise RuntimeError("backward needs the inputs of a forward: call forward first")
