"""The attention layers of "Deep Learning from Scratch 2", chapter 8, with gaps.

Fill in every ``...``, then ask what is right and what is not:

    attn check sample_inputs/exercise/attention.py:WeightSum
    attn check sample_inputs/exercise/attention.py
"""

import numpy as np


class Softmax:
    def __init__(self):
        self.params, self.grads = [], []
        self.out = None

    def forward(self, x):
        x = x - x.max(axis=1, keepdims=True)
        x = np.exp(x)
        self.out = x / x.sum(axis=1, keepdims=True)
        return self.out

    def backward(self, dout):
        dx = ...  # every output depends on every input of its row
        return dx


class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []
        self.cache = None

    def forward(self, hs, a):
        N, T, H = hs.shape

        ar = ...  # a, with an axis for H: (N, T, H)
        t = ...
        c = ...

        self.cache = (hs, ar)
        return c

    def backward(self, dc):
        hs, ar = self.cache
        N, T, H = hs.shape
        dt = ...  # the sum's gradient: the same dc for every step, (N, T, H)
        dar = ...
        dhs = ...
        da = ...  # the gradient of the repetition is a sum

        return dhs, da


class AttentionWeight:
    def __init__(self):
        self.params, self.grads = [], []
        self.softmax = Softmax()
        self.cache = None

    def forward(self, hs, h):
        N, T, H = hs.shape

        hr = ...  # h, for every step: (N, T, H)
        t = ...
        s = ...
        a = ...

        self.cache = (hs, hr)
        return a

    def backward(self, da):
        hs, hr = self.cache
        N, T, H = hs.shape

        ds = ...
        dt = ...
        dhs = ...
        dhr = ...
        dh = ...

        return dhs, dh


class Attention:
    def __init__(self):
        self.params, self.grads = [], []
        self.attention_weight_layer = AttentionWeight()
        self.weight_sum_layer = WeightSum()
        self.attention_weight = None

    def forward(self, hs, h):
        a = self.attention_weight_layer.forward(hs, h)
        out = self.weight_sum_layer.forward(hs, a)
        self.attention_weight = a
        return out

    def backward(self, dout):
        dhs0, da = self.weight_sum_layer.backward(dout)
        dhs1, dh = self.attention_weight_layer.backward(da)
        dhs = ...  # hs was used twice
        return dhs, dh


class TimeAttention:
    def __init__(self):
        self.params, self.grads = [], []
        self.layers = None
        self.attention_weights = None

    def forward(self, hs_enc, hs_dec):
        N, T, H = hs_dec.shape
        out = np.empty_like(hs_dec)
        self.layers = []
        self.attention_weights = []

        for t in range(T):
            layer = ...
            out[:, t, :] = ...
            self.layers.append(layer)
            self.attention_weights.append(layer.attention_weight)

        return out

    def backward(self, dout):
        N, T, H = dout.shape
        dhs_enc = 0
        dhs_dec = np.empty_like(dout)

        for t in range(T):
            layer = self.layers[t]
            dhs, dh = ...
            dhs_enc = ...
            dhs_dec[:, t, :] = ...

        return dhs_enc, dhs_dec
