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

    def forward(self, x):  # (N, T)
        x = x - x.max(axis=1, keepdims=True)  # changes no weight, and no exp overflows
        exps = ...
        out = ...  # each row sums to 1
        self.out = out
        return out

    def backward(self, dout):
        out = self.out
        dx = ...  # each weight hangs on each x of its row
        return dx


class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []
        self.cache = None

    def forward(self, hs, a):  # (N, T, H) and (N, T)
        N, T, H = hs.shape
        ar = ...  # a, once for each hidden unit: (N, T, H)
        t = ...
        c = ...  # (N, H)
        self.cache = (hs, ar)
        return c

    def backward(self, dc):
        hs, ar = self.cache
        N, T, H = hs.shape
        dt = ...  # back through the sum: the same dc for each step
        dhs = ...
        dar = ...
        da = ...  # back through the repetition: a sum
        return dhs, da


class AttentionWeight:
    def __init__(self):
        self.params, self.grads = [], []
        self.softmax = Softmax()
        self.cache = None

    def forward(self, hs, h):  # (N, T, H) and (N, H)
        N, T, H = hs.shape
        hr = ...  # h, once for each encoder step: (N, T, H)
        t = ...
        s = ...  # the scores: (N, T)
        a = ...
        self.cache = (hs, hr)
        return a

    def backward(self, da):
        hs, hr = self.cache
        N, T, H = hs.shape
        ds = ...
        dt = ...  # back through the sum over H
        dhs = ...
        dhr = ...
        dh = ...  # back through the repetition
        return dhs, dh


class Attention:
    def __init__(self):
        self.params, self.grads = [], []
        self.attention_weight_layer = AttentionWeight()
        self.weight_sum_layer = WeightSum()
        self.attention_weight = None

    def forward(self, hs, h):  # (N, T, H) and (N, H)
        a = ...  # where to look
        out = ...  # what is found there
        self.attention_weight = a
        return out

    def backward(self, dout):
        dhs0, da = ...  # a gradient for each input of WeightSum
        dhs1, dh = ...
        dhs = ...  # hs was used twice
        return dhs, dh


class TimeAttention:
    def __init__(self):
        self.params, self.grads = [], []
        self.layers = None
        self.attention_weights = None

    def forward(self, hs_enc, hs_dec):  # (N, T_enc, H) and (N, T_dec, H)
        N, T, H = hs_dec.shape
        out = np.empty_like(hs_dec)
        self.layers = []
        self.attention_weights = []

        for t in range(T):
            layer = ...  # each step has to remember its own inputs
            out[:, t, :] = ...
            self.layers.append(layer)
            self.attention_weights.append(layer.attention_weight)

        return out

    def backward(self, dout):
        N, T, H = dout.shape
        dhs_enc = 0
        dhs_dec = np.empty_like(dout)

        for t in range(T):
            dhs, dh = ...
            dhs_enc = ...  # every step has used hs_enc
            dhs_dec[:, t, :] = ...

        return dhs_enc, dhs_dec
