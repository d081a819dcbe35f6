"""A model that translates, as the book builds it: encoder, attention, decoder; and its training.

    hs_enc = GRU(embedding of the English words)                 (N, T_enc, H)
    hs_dec = GRU(embedding of the French words so far)           (N, T_dec, H)
    c      = TimeAttention(hs_enc, hs_dec)                       (N, T_dec, H)
    scores = (c, hs_dec) · W + b                                 (N, T_dec, words)

The decoder is not handed the encoder's last state: whatever it knows of the sentence, it has looked
at.  So what the attention looks at is what the model reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.demo import phrases
from attncli.layers import TimeAttention

STEPS = 200
_BATCH, _WIDTH, _HIDDEN = 64, 16, 32
_EMBEDDED = 0.1  # so small that at first every word looks the same, and is looked at alike


class GRU:
    """A gated recurrent unit over all steps: xs (N, T, D) to hs (N, T, H), from a state of 0.

    Of Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014; the
    columns of Wx (D, 3H), Wh (H, 3H) and b (3H,) are those of z, r and the new state.
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(param) for param in self.params]

    def forward(self, xs: Array) -> Array:
        """Return hs (N, T, H): h = (1 − z) ⊙ h + z ⊙ tanh(x · Wx + (r ⊙ h) · Wh + b)."""
        Wx, Wh, b = self.params
        H = len(Wh)
        h = np.zeros((len(xs), H))
        inputs, hs = xs @ Wx + b, []
        self.xs, self.steps = xs, list[tuple[Array, ...]]()
        for t in range(xs.shape[1]):
            gates = _sigmoid(inputs[:, t, : 2 * H] + h @ Wh[:, : 2 * H])
            z, r = gates[:, :H], gates[:, H:]
            new = np.tanh(inputs[:, t, 2 * H :] + (r * h) @ Wh[:, 2 * H :])
            self.steps.append((h, z, r, new))
            h = (1 - z) * h + z * new
            hs.append(h)
        return np.stack(hs, axis=1)

    def backward(self, dhs: Array) -> Array:
        """Return dxs (N, T, D), and write dWx, dWh and db."""
        Wx, Wh, _ = self.params
        H = len(Wh)
        dinputs, dWh, dh = np.empty((*dhs.shape[:2], 3 * H)), np.zeros_like(Wh), 0.0
        for t, (h, z, r, new) in reversed([*enumerate(self.steps)]):
            dout = dhs[:, t] + dh
            dnew = dout * z * (1 - new**2)
            drh = dnew @ Wh[:, 2 * H :].T
            dz, dr = dout * (new - h) * z * (1 - z), drh * h * r * (1 - r)
            dgates = np.concatenate([dz, dr], axis=1)
            dh = dout * (1 - z) + drh * r + dgates @ Wh[:, : 2 * H].T
            dWh[:, : 2 * H] += h.T @ dgates
            dWh[:, 2 * H :] += (r * h).T @ dnew
            dinputs[:, t] = np.concatenate([dgates, dnew], axis=1)
        self.grads[0][...] = _rows(self.xs).T @ _rows(dinputs)
        self.grads[1][...] = dWh
        self.grads[2][...] = _rows(dinputs).sum(axis=0)
        return dinputs @ Wx.T


class Translator:
    """Sentences to sentences: the class has the model's parameters, forward and backward.

    Examples
    --------
    >>> english = phrases.draw(np.random.default_rng(0), 5)
    >>> model = Translator(np.random.default_rng(0))
    >>> bool(model.forward(english, phrases.translated(english)) > 3)  # it knows nothing yet
    True
    >>> model.attention_weight.shape  # (N, T_dec, T_enc)
    (5, 7, 7)
    """

    def __init__(self, rng: np.random.Generator, D: int = _WIDTH, H: int = _HIDDEN) -> None:
        english, french = len(phrases.ENGLISH), len(phrases.FRENCH)
        self.embeddings = [_EMBEDDED * rng.normal(size=(words, D)) for words in (english, french)]
        self.encoder, self.decoder = (GRU(*_drawn(rng, D, H)) for _ in range(2))
        self.attention = TimeAttention()
        self.affine = [rng.normal(size=(2 * H, french)) / np.sqrt(2 * H), np.zeros(french)]
        layers = (self.encoder, self.decoder)
        recurrent = [param for layer in layers for param in layer.params]
        self.params = [*self.embeddings, *recurrent, *self.affine]
        self.embedding_grads, self.affine_grads = (
            [np.zeros_like(param) for param in some] for some in (self.embeddings, self.affine)
        )
        recurrent = [grad for layer in layers for grad in layer.grads]
        self.grads = [*self.embedding_grads, *recurrent, *self.affine_grads]

    @property
    def attention_weight(self) -> Array:
        """The weights (N, T_dec, T_enc) of the last forward."""
        return np.stack(self.attention.attention_weights or [], axis=1)

    def scores(self, english: Array, before: Array) -> Array:
        """Return the scores (N, T, words) of each next French word, given those before it."""
        self.words = (english, before)
        hs_enc = self.encoder.forward(self.embeddings[0][english])
        hs_dec = self.decoder.forward(self.embeddings[1][before])
        c = self.attention.forward(hs_enc, hs_dec)
        self.found = np.concatenate([c, hs_dec], axis=2)
        W, b = self.affine
        scores: Array = self.found @ W + b
        return scores

    def forward(self, english: Array, french: Array) -> float:
        """Return the mean cross entropy of the right translation."""
        scores = self.scores(english, _shifted(french))
        probability = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probability /= probability.sum(axis=-1, keepdims=True)
        right = np.eye(probability.shape[-1])[french]
        self.dscores = (probability - right) / french.size
        return float(-np.log((probability * right).sum(axis=-1)).mean())

    def backward(self) -> None:
        """Write the gradients of the last loss into `grads`."""
        self.affine_grads[0][...] = _rows(self.found).T @ _rows(self.dscores)
        self.affine_grads[1][...] = _rows(self.dscores).sum(axis=0)
        dc, dhs_dec = np.split(self.dscores @ self.affine[0].T, 2, axis=2)
        dhs_enc, dlooking = self.attention.backward(dc)
        dwords = (self.encoder.backward(dhs_enc), self.decoder.backward(dhs_dec + dlooking))
        for grad, words, dword in zip(self.embedding_grads, self.words, dwords, strict=True):
            grad[...] = 0
            np.add.at(grad, words, dword)

    def translate(self, english: Array) -> Array:
        """Translate word by word, always the likeliest; `attention_weight` says where it looked."""
        french = np.full_like(english, phrases.START)
        for t in range(english.shape[1]):
            french[:, t] = self.scores(english, _shifted(french))[:, t].argmax(axis=-1)
        return french


class Adam:
    """Steps in the direction of the gradients' mean, measured by their size.

    Of Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(self, params: list[Array], grads: list[Array], rate: float = 0.005) -> None:
        self.params, self.grads, self.rate, self.count = params, grads, rate, 0
        self.means, self.squares = ([np.zeros_like(one) for one in params] for _ in range(2))

    def update(self) -> None:
        """Change the parameters by one step."""
        self.count += 1
        rate = self.rate * np.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        every = zip(self.params, self.grads, self.means, self.squares, strict=True)
        for param, grad, mean, square in every:
            mean += 0.1 * (grad - mean)
            square += 0.001 * (grad**2 - square)
            param -= rate * mean / (np.sqrt(square) + 1e-7)


class Learned(NamedTuple):
    """Where a training is: its step, the loss of it, and what the model does by then.

    Attributes
    ----------
    step : int
    loss : float
    model : Translator
    """

    step: int
    loss: float
    model: Translator


def learn(seed: int, steps: int) -> Iterator[Learned]:
    """Train a translator, and give it after each step; the seed says all that is random."""
    rng = np.random.default_rng(seed)
    model = Translator(rng)
    adam = Adam(model.params, model.grads)
    for step in range(steps + 1):
        english = phrases.draw(rng, _BATCH)
        loss = model.forward(english, phrases.translated(english))
        model.backward()
        yield Learned(step, loss, model)
        adam.update()


def _drawn(rng: np.random.Generator, D: int, H: int) -> tuple[Array, Array, Array]:
    """Draw what a GRU begins with; at first it takes more of what is new than it keeps."""
    b = np.zeros(3 * H)
    b[:H] = 1
    return rng.normal(size=(D, 3 * H)) / np.sqrt(D), rng.normal(size=(H, 3 * H)) / np.sqrt(H), b


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _shifted(french: Array) -> Array:
    """Give what stands before each word."""
    before = np.full_like(french, phrases.START)
    before[:, 1:] = french[:, :-1]
    return before


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])
