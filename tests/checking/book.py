"""Classes as a reader of the book writes them, right and with one mistake each."""

BOOK = """
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
        dx = self.out * dout
        sumdx = np.sum(dx, axis=1, keepdims=True)
        dx -= self.out * sumdx
        return dx


class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []
        self.cache = None

    def forward(self, hs, a):
        N, T, H = hs.shape

        ar = a.reshape(N, T, 1).repeat(H, axis=2)
        t = hs * ar
        c = np.sum(t, axis=1)

        self.cache = (hs, ar)
        return c

    def backward(self, dc):
        hs, ar = self.cache
        N, T, H = hs.shape
        dt = dc.reshape(N, 1, H).repeat(T, axis=1)
        dar = dt * hs
        dhs = dt * ar
        da = np.sum(dar, axis=2)

        return dhs, da


class AttentionWeight:
    def __init__(self):
        self.params, self.grads = [], []
        self.softmax = Softmax()
        self.cache = None

    def forward(self, hs, h):
        N, T, H = hs.shape

        hr = h.reshape(N, 1, H).repeat(T, axis=1)
        t = hs * hr
        s = np.sum(t, axis=2)
        a = self.softmax.forward(s)

        self.cache = (hs, hr)
        return a

    def backward(self, da):
        hs, hr = self.cache
        N, T, H = hs.shape

        ds = self.softmax.backward(da)
        dt = ds.reshape(N, T, 1).repeat(H, axis=2)
        dhs = dt * hr
        dhr = dt * hs
        dh = np.sum(dhr, axis=1)

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
        dhs = dhs0 + dhs1
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
            layer = Attention()
            out[:, t, :] = layer.forward(hs_enc, hs_dec[:, t, :])
            self.layers.append(layer)
            self.attention_weights.append(layer.attention_weight)

        return out

    def backward(self, dout):
        N, T, H = dout.shape
        dhs_enc = 0
        dhs_dec = np.empty_like(dout)

        for t in range(T):
            layer = self.layers[t]
            dhs, dh = layer.backward(dout[:, t, :])
            dhs_enc += dhs
            dhs_dec[:, t, :] = dh

        return dhs_enc, dhs_dec
"""

TRANSFORMER = '''
import numpy as np

CAP = 2.0
WINDOW = 2


class MultiHeadAttention:
    """query (N, heads, T_dec, H), key and value (N, key heads, T_enc, H); causal."""

    def __init__(self):
        self.params, self.grads = [], []

    def softmax(self, s):
        largest = s.max(axis=-1, keepdims=True)
        e = np.exp(s - np.where(np.isfinite(largest), largest, 0))
        total = e.sum(axis=-1, keepdims=True)
        return e / np.where(total == 0, 1, total)

    def forward(self, query, key, value, mask=None):
        groups = query.shape[1] // key.shape[1]
        k = np.repeat(key, groups, axis=1)
        v = np.repeat(value, groups, axis=1)
        T_dec, T_enc, H = query.shape[2], k.shape[2], k.shape[3]
        scale = 1 / np.sqrt(H)

        s = np.matmul(query, k.swapaxes(-1, -2))
        s = s * scale
        tanh = np.tanh(s / CAP)
        s = CAP * tanh

        i, j = np.arange(T_dec)[:, None], np.arange(T_enc)
        seen = j <= i
        seen = seen & (abs(j - i) <= WINDOW)
        if mask is not None:
            if mask.dtype == bool:
                seen = seen & mask
            else:
                s = s + mask
        s = np.where(seen, s, -np.inf)
        a = self.softmax(s)
        out = np.matmul(a, v)

        self.cache = (query, k, v, a, tanh, scale, groups)
        return out

    def backward(self, dout):
        query, k, v, a, tanh, scale, groups = self.cache
        dv = np.matmul(a.swapaxes(-1, -2), dout)
        da = np.matmul(dout, v.swapaxes(-1, -2))
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True))
        ds = ds * (1 - tanh**2)
        ds = ds * scale
        dq = np.matmul(ds, k)
        dk = np.matmul(ds.swapaxes(-1, -2), query)
        if groups > 1:
            N, heads, T, H = dk.shape
            dk = dk.reshape(N, heads // groups, groups, T, H).sum(axis=2)
            dv = dv.reshape(N, heads // groups, groups, T, H).sum(axis=2)
        return dq, dk, dv
'''


def changed(source: str, *changes: str) -> str:
    """The source with lines replaced; changes are old and new by turns."""
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def ONLINE(out: str, total: str) -> tuple[str, ...]:
    """Keys in tiles of two, exp(scores − maximum) with that of then (kept) or of the end (e)."""
    return (
        "        total = e.sum(axis=-1, keepdims=True)\n"
        "        return e / np.where(total == 0, 1, total)\n",
        "        kept, largest = np.empty_like(s), np.full(s[..., :1].shape, -np.inf)\n"
        "        for k in range(0, s.shape[-1], 2):\n"
        "            tile = s[..., k : k + 2]\n"
        "            largest = np.maximum(largest, tile.max(axis=-1, keepdims=True))\n"
        "            kept[..., k : k + 2] = np.exp(tile - np.where(largest > -9e9, largest, 0))\n"
        f"        total = {total}.sum(axis=-1, keepdims=True)\n"
        f"        return {out} / np.where(total == 0, 1, total)\n",
    )


def MERGED(exp: str, log: str) -> tuple[str, ...]:
    """Keys in two chunks, merged by their log-sum-exp."""
    return (
        "        a = self.softmax(s)\n        out = np.matmul(a, v)\n",
        "        half = (T_enc + 1) // 2\n"
        "        outs, lses = [], []\n"
        "        for part in (slice(0, half), slice(half, None)):\n"
        "            m = s[..., part].max(axis=-1, keepdims=True, initial=-1e30)\n"
        "            e = np.exp(s[..., part] - m)\n"
        "            total = np.maximum(e.sum(axis=-1, keepdims=True), 1e-300)\n"
        "            outs.append(np.matmul(e, v[:, :, part]) / total)\n"
        f"            lses.append(m * {log}(np.e) + {log}(total))\n"
        "        largest = np.maximum(*lses)\n"
        f"        first, second = ({exp}(lse - largest) for lse in lses)\n"
        "        out = (first * outs[0] + second * outs[1]) / (first + second)\n"
        "        a = self.softmax(s)\n",
    )


def AGAIN(seen: str) -> tuple[str, ...]:
    """Backward computes the weights again, by the log-sum-exp that forward has kept."""
    return (
        "        s = np.where(seen, s, -np.inf)\n",
        "        self.scores, self.mask = s, mask\n        s = np.where(seen, s, -np.inf)\n"
        "        m = np.maximum(s.max(axis=-1, keepdims=True), -1e30)\n"
        "        self.lse = m + np.log(np.exp(s - m).sum(axis=-1, keepdims=True))\n",
        "        dv = np.matmul(a.swapaxes(-1, -2), dout)\n",
        "        delta = np.sum(dout * np.matmul(a, v), axis=-1, keepdims=True)\n"
        "        i, j = np.arange(a.shape[-2])[:, None], np.arange(a.shape[-1])\n"
        f"        seen = {seen}\n"
        "        if self.mask is not None and self.mask.dtype == bool:\n"
        "            seen = seen & self.mask\n"
        "        lse = np.where(np.isfinite(self.lse), self.lse, np.inf)\n"
        "        a = np.where(seen, np.exp(self.scores - lse), 0)\n"
        "        dv = np.matmul(a.swapaxes(-1, -2), dout)\n",
        "np.sum(a * da, axis=-1, keepdims=True)",
        "delta",
    )


def KEPT(lse: str) -> tuple[str, ...]:
    """The same with another quantity in the place of the log-sum-exp."""
    total = "np.exp(s - m).sum(axis=-1, keepdims=True)"
    changes = AGAIN("(j <= i) & (abs(j - i) <= WINDOW)")
    return tuple(x.replace(f"m + np.log({total})", lse.format(total=total)) for x in changes)


def SAVED(weights: str, log: str) -> tuple[str, ...]:
    """The same with a log-sum-exp and an exponential of two bases."""
    changes = AGAIN("(j <= i) & (abs(j - i) <= WINDOW)")
    return (
        "CAP = 2.0",
        "CAP, LN2 = 2.0, np.log(2.0)",
        *(
            text.replace(
                "np.exp(self.scores - lse)", weights.replace("s ", "self.scores ")
            ).replace(
                "np.where(np.isfinite(self.lse), self.lse, np.inf)",
                f"np.where(np.isfinite(self.lse), self.lse, np.inf) / {log}",
            )
            for text in changes
        ),
    )


# The name of a mistake: the class that has it, then what was written and what is written instead.
BOOK_MISTAKES: dict[str, tuple[str, ...]] = {
    "scale 1/√H": ("Attention", "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / np.sqrt(H)"),
    "scale 1/H": ("AttentionWeight", "s = np.sum(t, axis=2)", "s = np.mean(t, axis=2)"),
    "scale √H": ("TimeAttention", "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) * np.sqrt(H)"),
    "scale 1/√T": ("TimeAttention", "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / np.sqrt(T)"),
    "scale 1/T": ("TimeAttention", "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / T"),
    "query and key added instead of multiplied": ("TimeAttention", "t = hs * hr", "t = hs + hr"),
    "h repeated along the wrong axis": (
        "TimeAttention",
        "h.reshape(N, 1, H).repeat(T, axis=1)",
        "h.repeat(T, axis=1).reshape(N, T, H)",
    ),
    "scores summed over T instead of H": (
        "Attention",
        "s = np.sum(t, axis=2)",
        "s = np.sum(t, axis=1)",
    ),
    "hs_enc and hs_dec swapped": (
        "TimeAttention",
        "layer.forward(hs_enc, hs_dec[:, t, :])",
        "layer.forward(hs_dec, hs_enc[:, t, :])",
    ),
    "softmax over the batch": (
        "TimeAttention",
        "x = x - x.max(axis=1, keepdims=True)",
        "x = x - x.max(axis=0, keepdims=True)",
        "x / x.sum(axis=1, keepdims=True)",
        "x / x.sum(axis=0, keepdims=True)",
    ),
    "softmax over the hidden units": (
        "TimeAttention",
        "s = np.sum(t, axis=2)\n        a = self.softmax.forward(s)",
        "e = np.exp(t - t.max(axis=2, keepdims=True))\n"
        "        a = np.sum(e / e.sum(axis=2, keepdims=True), axis=2)\n"
        "        self.softmax.out = a",
    ),
    "softmax over batch and steps together": (
        "TimeAttention",
        "x - x.max(axis=1, keepdims=True)",
        "x - x.max()",
        "x / x.sum(axis=1, keepdims=True)",
        "x / x.sum()",
    ),
    "maximum not subtracted": (
        "TimeAttention",
        "        x = x - x.max(axis=1, keepdims=True)\n",
        "",
    ),
    "softmax missing": (
        "TimeAttention",
        "a = self.softmax.forward(s)",
        "a = s",
        "ds = self.softmax.backward(da)",
        "ds = da",
    ),
    "softmax applied twice": (
        "TimeAttention",
        "a = self.softmax.forward(s)",
        "a = self.softmax.forward(self.softmax.forward(s))",
    ),
    "softmax not normalised": (
        "TimeAttention",
        "self.out = x / x.sum(axis=1, keepdims=True)",
        "self.out = x",
    ),
    "normalised without exp": (
        "Softmax",
        "x = np.exp(x)",
        "x = x + 0",
        "        x = x - x.max(axis=1, keepdims=True)\n",
        "",
    ),
    "sigmoid instead of softmax": (
        "TimeAttention",
        "x = np.exp(x)",
        "",
        "x / x.sum(axis=1, keepdims=True)",
        "1 / (1 + np.exp(-x))",
        "        x = x - x.max(axis=1, keepdims=True)\n",
        "",
    ),
    "exp2 instead of exp": ("TimeAttention", "x = np.exp(x)", "x = np.exp2(x)"),
    "logarithm of the softmax": ("Softmax", "return self.out\n", "return np.log(self.out)\n"),
    "one minus the weights": (
        "TimeAttention",
        "a = self.softmax.forward(s)",
        "a = 1 - self.softmax.forward(s)",
    ),
    "sign of the scores reversed": (
        "TimeAttention",
        "s = np.sum(t, axis=2)",
        "s = -np.sum(t, axis=2)",
    ),
    "mean instead of sum over T": (
        "TimeAttention",
        "c = np.sum(t, axis=1)",
        "c = np.mean(t, axis=1)",
    ),
    "output summed over H instead of T": (
        "WeightSum",
        "c = np.sum(t, axis=1)",
        "c = np.sum(t, axis=2)",
    ),
    "largest instead of sum over T": (
        "WeightSum",
        "c = np.sum(t, axis=1)",
        "c = np.max(t, axis=1)",
    ),
    "weights tiled instead of repeated": (
        "TimeAttention",
        "a.reshape(N, T, 1).repeat(H, axis=2)",
        "a.repeat(H, axis=0).reshape(N, T, H)",
    ),
    "weights repeated along the wrong axis": (
        "TimeAttention",
        "a.reshape(N, T, 1).repeat(H, axis=2)",
        "a.reshape(N, 1, T).repeat(H, axis=1)",
    ),
    "weights forgotten: plain sum of hs": ("TimeAttention", "t = hs * ar", "t = hs"),
    "every step holds the last step's output": (
        "TimeAttention",
        "out[:, t, :] = layer.forward",
        "out[...] = layer.forward",
        "layer.forward(hs_enc, hs_dec[:, t, :])",
        "layer.forward(hs_enc, hs_dec[:, t, :])[:, None]",
    ),
    "output truncated to whole numbers": (
        "TimeAttention",
        "out = np.empty_like(hs_dec)",
        "out = np.empty(hs_dec.shape, int)",
    ),
    "output rounded to float32": (
        "TimeAttention",
        "out = np.empty_like(hs_dec)",
        "out = np.empty((N, T, H), dtype='f')",
    ),
    "output rounded to float16": ("Attention", "return out", "return out.astype(np.float16)"),
    "softmax backward without Σ": ("TimeAttention", "        dx -= self.out * sumdx\n", ""),
    "softmax backward with the wrong sign": (
        "TimeAttention",
        "dx -= self.out * sumdx",
        "dx += self.out * sumdx",
    ),
    "softmax backward as if element-wise": (
        "TimeAttention",
        "dx -= self.out * sumdx",
        "dx = self.out * (1.0 - self.out) * dout",
    ),
    "softmax backward without the factor weights": (
        "Softmax",
        "dx -= self.out * sumdx",
        "dx = dout - sumdx",
    ),
    "softmax backward with Σ dweights": (
        "TimeAttention",
        "np.sum(dx, axis=1, keepdims=True)",
        "np.sum(dout, axis=1, keepdims=True)",
    ),
    "softmax backward: Σ without the weights in front": (
        "TimeAttention",
        "dx -= self.out * sumdx",
        "dx -= sumdx",
    ),
    "softmax backward with Σ over the batch": (
        "TimeAttention",
        "np.sum(dx, axis=1, keepdims=True)",
        "np.sum(dx, axis=0, keepdims=True)",
    ),
    "softmax backward missing": ("TimeAttention", "ds = self.softmax.backward(da)", "ds = da"),
    "score path missing from dhs": ("TimeAttention", "dhs = dhs0 + dhs1", "dhs = dhs0"),
    "value path missing from dhs": ("TimeAttention", "dhs = dhs0 + dhs1", "dhs = dhs1"),
    "paths of dhs subtracted": ("Attention", "dhs = dhs0 + dhs1", "dhs = dhs0 - dhs1"),
    "value path counted twice in dhs": ("Attention", "dhs = dhs0 + dhs1", "dhs = dhs0 + dhs0"),
    "paths of dhs averaged": ("Attention", "dhs = dhs0 + dhs1", "dhs = (dhs0 + dhs1) / 2"),
    "gradients of the steps overwritten instead of added": (
        "TimeAttention",
        "dhs_enc += dhs",
        "dhs_enc = dhs",
    ),
    "gradient of the first step alone": (
        "TimeAttention",
        "            dhs_enc += dhs\n",
        "            dhs_enc += dhs if t == 0 else 0\n",
    ),
    "last step left out of backward": (
        "TimeAttention",
        "        for t in range(T):\n            layer = self.layers[t]",
        "        for t in range(T - 1):\n            layer = self.layers[t]",
        "dhs_dec = np.empty_like(dout)",
        "dhs_dec = np.zeros_like(dout)",
    ),
    "gradients of the steps averaged": ("TimeAttention", "dhs_enc += dhs", "dhs_enc += dhs / T"),
    "only the last step's gradient in dhs_dec": (
        "TimeAttention",
        "            dhs_dec[:, t, :] = dh\n",
        "        dhs_dec[:, t, :] = dh\n",
        "dhs_dec = np.empty_like(dout)",
        "dhs_dec = np.zeros_like(dout)",
    ),
    "one Attention object shared by all steps": (
        "TimeAttention",
        "        for t in range(T):\n            layer = Attention()\n",
        "        layer = Attention()\n        for t in range(T):\n",
    ),
    "one Softmax object shared by all steps": (
        "TimeAttention",
        "self.softmax = Softmax()",
        "self.softmax = SOFTMAX",
        "class AttentionWeight:",
        "SOFTMAX = Softmax()\n\n\nclass AttentionWeight:",
    ),
    "dhs of the scores multiplied by hs instead of h": (
        "TimeAttention",
        "dhs = dt * hr",
        "dhs = dt * hs",
    ),
    "dh multiplied by h instead of hs": ("TimeAttention", "dhr = dt * hs", "dhr = dt * hr"),
    "mean instead of sum over T in dh": (
        "TimeAttention",
        "dh = np.sum(dhr, axis=1)",
        "dh = np.mean(dhr, axis=1)",
    ),
    "dh summed over H instead of T": (
        "TimeAttention",
        "dh = np.sum(dhr, axis=1)",
        "dh = np.sum(dhr, axis=2)",
    ),
    "mean instead of sum over H in da": (
        "TimeAttention",
        "da = np.sum(dar, axis=2)",
        "da = np.mean(dar, axis=2)",
    ),
    "the first decoder state for every step": (
        "TimeAttention",
        "layer.forward(hs_enc, hs_dec[:, t, :])",
        "layer.forward(hs_enc, hs_dec[:, 0, :])",
    ),
    "dout of the first step for every step": (
        "TimeAttention",
        "layer.backward(dout[:, t, :])",
        "layer.backward(dout[:, 0, :])",
    ),
    "da multiplied by the weights instead of hs": ("WeightSum", "dar = dt * hs", "dar = dt * ar"),
    "hs missing in da": ("TimeAttention", "dar = dt * hs", "dar = dt"),
    "da summed over T instead of H": (
        "WeightSum",
        "da = np.sum(dar, axis=2)",
        "da = np.sum(dar, axis=1)",
    ),
    "weights missing in the value path": ("TimeAttention", "dhs = dt * ar", "dhs = dt"),
    "value path multiplied by hs instead of the weights": (
        "TimeAttention",
        "dhs = dt * ar",
        "dhs = dt * hs",
    ),
    "dout repeated along the wrong axis": (
        "TimeAttention",
        "dc.reshape(N, 1, H).repeat(T, axis=1)",
        "dc.repeat(T, axis=1).reshape(N, T, H)",
    ),
    "dscores tiled instead of repeated": (
        "TimeAttention",
        "ds.reshape(N, T, 1).repeat(H, axis=2)",
        "np.tile(ds, H).reshape(N, T, H)",
    ),
    "dout ignored": (
        "TimeAttention",
        "N, T, H = dout.shape\n",
        "N, T, H = dout.shape\n        dout = np.ones_like(dout)\n",
    ),
    "gradients divided by the batch size": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return dhs_enc / N, dhs_dec / N",
    ),
    "sign of the gradients reversed": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return -dhs_enc, -dhs_dec",
    ),
    "sign of the first gradient reversed": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return -dhs_enc, dhs_dec",
    ),
    "sign of the last gradient reversed": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return dhs_enc, -dhs_dec",
    ),
    "first gradient all zero": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return np.zeros_like(dhs_enc), dhs_dec",
    ),
    "last gradient all zero": (
        "TimeAttention",
        "            dhs_dec[:, t, :] = dh\n",
        "",
        "dhs_dec = np.empty_like(dout)",
        "dhs_dec = np.zeros_like(dout)",
    ),
    "gradients rounded to float32": (
        "TimeAttention",
        "return dhs_enc, dhs_dec",
        "return dhs_enc.astype('f'), dhs_dec.astype('f')",
    ),
    "dropout left on": (
        "TimeAttention",
        "        self.attention_weight = a\n",
        "        self.attention_weight = a\n"
        "        out = out * (np.random.rand(*out.shape) > 0.5)\n",
    ),
    "input modified in place": (
        "Softmax",
        "x = x - x.max(axis=1, keepdims=True)",
        "x -= x.max(axis=1, keepdims=True)",
    ),
    "dout modified in place": (
        "Softmax",
        "dx = self.out * dout",
        "dout *= self.out\n        dx = dout.copy()",
    ),
    "state shared by all instances": (
        "Softmax",
        "        self.out = None\n",
        "",
        "class Softmax:\n",
        "class Softmax:\n    out = {}\n",
        "self.out = x / x.sum(axis=1, keepdims=True)\n        return self.out",
        "self.out['y'] = x / x.sum(axis=1, keepdims=True)\n        return self.out['y']",
        "dx = self.out * dout",
        "dx = self.out['y'] * dout",
        "dx -= self.out * sumdx",
        "dx -= self.out['y'] * sumdx",
    ),
    "state left over from the call before": (
        "TimeAttention",
        "        dhs_enc = 0\n",
        "",
        "        self.layers = None\n",
        "        self.layers = None\n        self.dhs_enc = 0\n",
        "dhs_enc += dhs",
        "self.dhs_enc = self.dhs_enc + dhs",
        "return dhs_enc, dhs_dec",
        "return self.dhs_enc, dhs_dec",
    ),
    "sizes left over from the call before": (
        "TimeAttention",
        "        self.layers = None\n",
        "        self.layers = None\n        self.steps = 0\n",
        "        out = np.empty_like(hs_dec)\n",
        "        out = np.empty_like(hs_dec)\n        T = self.steps = self.steps or T\n",
    ),
    "gradients of two backwards added up": (
        "WeightSum",
        "        self.cache = (hs, ar)\n",
        "        self.cache = (hs, ar)\n        self.dhs = np.zeros_like(hs)\n",
        "        return dhs, da\n",
        "        self.dhs += dhs\n        return self.dhs, da\n",
    ),
    "result of earlier inputs": (
        "WeightSum",
        "        c = np.sum(t, axis=1)\n",
        "        c = KEPT.setdefault(hs.shape, np.sum(t, axis=1))\n",
        "class WeightSum:\n",
        "KEPT = {}\n\n\nclass WeightSum:\n",
    ),
    "right for some calls only": (
        "WeightSum",
        "        c = np.sum(t, axis=1)\n",
        "        CALLS.append(1)\n        c = np.sum(t, axis=1) * (1 + (len(CALLS) > 11))\n",
        "class WeightSum:\n",
        "CALLS = []\n\n\nclass WeightSum:\n",
    ),
    "an earlier result is overwritten": (
        "WeightSum",
        "        c = np.sum(t, axis=1)\n",
        "        c = np.sum(t, axis=1, out=KEPT.setdefault(t.shape, np.zeros((N, H))))\n",
        "class WeightSum:\n",
        "KEPT = {}\n\n\nclass WeightSum:\n",
    ),
    "memory never written": (
        "WeightSum",
        "        c = np.sum(t, axis=1)\n",
        "        c = np.empty((N, H))\n",
    ),
    "weights not kept": ("Attention", "        self.attention_weight = a\n", ""),
    "computed in float32 throughout": (
        "Attention",
        "        a = self.attention_weight_layer",
        "        hs, h = hs.astype('f'), h.astype('f')\n        a = self.attention_weight_layer",
    ),
    "another scale": ("TimeAttention", "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / 3"),
    "the query of another item": (
        "AttentionWeight",
        "h.reshape(N, 1, H).repeat(T, axis=1)",
        "h.reshape(N, 1, H).repeat(T, axis=1)[::-1]",
    ),
    "h tiled instead of repeated": (
        "AttentionWeight",
        "h.reshape(N, 1, H).repeat(T, axis=1)",
        "np.tile(h, (T, 1)).reshape(N, T, H)",
    ),
    "an axis missing beside h": ("AttentionWeight", "t = hs * hr", "t = hs * h"),
    "softmax over an axis of length 1": (
        "Attention",
        "a = self.softmax.forward(s)",
        "a = self.softmax.forward(s.reshape(-1, 1)).reshape(N, T)",
        "ds = self.softmax.backward(da)",
        "ds = self.softmax.backward(da.reshape(-1, 1)).reshape(N, T)",
    ),
    "keepdims missing in the softmax": (
        "Softmax",
        "x / x.sum(axis=1, keepdims=True)",
        "x / x.sum(axis=1)",
    ),
    "a number added to the softmax's denominator": (
        "TimeAttention",
        "x / x.sum(axis=1, keepdims=True)",
        "x / (x.sum(axis=1, keepdims=True) + 3e-5)",
    ),
    **{
        name: (
            "TimeAttention",
            "x = x - x.max(axis=1, keepdims=True)",
            "m = x.max(axis=1, keepdims=True)\n        x = x - m",
            "x / x.sum(axis=1, keepdims=True)",
            f"x / (x.sum(axis=1, keepdims=True) + {more})",
        )
        for name, more in (
            ("softmax off by one", "np.exp(-m)"),
            ("a sink where none is meant", "np.exp(0.7 - m)"),
            ("padded keys take part", "(-x.shape[1] % 8) * np.exp(-m)"),
        )
    },
    "the running maximum begins at a number": (
        "Softmax",
        "x = x - x.max(axis=1, keepdims=True)",
        "x = x - np.maximum(x.max(axis=1, keepdims=True), -100.0)",
        "x / x.sum(axis=1, keepdims=True)",
        "x / np.where(x.any(axis=1, keepdims=True), x.sum(axis=1, keepdims=True), 1)",
    ),
    "the first item's weights for all": (
        "Attention",
        "a = self.attention_weight_layer.forward(hs, h)",
        "a = self.attention_weight_layer.forward(hs, h)[:1].repeat(len(hs), axis=0)",
    ),
    "the output off by a factor": (
        "WeightSum",
        "c = np.sum(t, axis=1)",
        "c = 0.3 * np.sum(t, axis=1)",
    ),
    "the weights off by a factor": (
        "Attention",
        "a = self.softmax.forward(s)",
        "a = 1.3 * self.softmax.forward(s)",
    ),
    "an axis missing beside the weights": (
        "WeightSum",
        "ar = a.reshape(N, T, 1).repeat(H, axis=2)",
        "ar = a",
    ),
    "axes of length 1 squeezed away": ("WeightSum", "return c\n", "return c.squeeze()\n"),
    "the last step never computed": (
        "TimeAttention",
        "for t in range(T):",
        "for t in range(T - 1):",
        "np.empty_like",
        "np.zeros_like",
    ),
    "the first step never computed": (
        "TimeAttention",
        "for t in range(T):",
        "for t in range(1, T):",
        "np.empty_like",
        "np.zeros_like",
        "self.layers[t]",
        "self.layers[t - 1]",
    ),
    "one buffer for the weights of all steps": (
        "TimeAttention",
        "class Softmax:",
        "BUFFERS = {}\n\n\nclass Softmax:",
        "self.out = x / x.sum(axis=1, keepdims=True)",
        "self.out = BUFFERS.setdefault(x.shape, x.copy())\n"
        "        self.out[...] = x / x.sum(axis=1, keepdims=True)",
        "a.reshape(N, T, 1).repeat(H, axis=2)",
        "a[:, :, None]",
    ),
    "first step left out of backward": (
        "TimeAttention",
        "        for t in range(T):\n            layer = self.layers[t]",
        "        for t in range(1, T):\n            layer = self.layers[t]",
        "dhs_dec = np.empty_like(dout)",
        "dhs_dec = np.zeros_like(dout)",
    ),
    "dh written into dhs_enc": (
        "TimeAttention",
        "dhs_dec[:, t, :] = dh",
        "dhs_enc[:, t, :] = dh",
        "dhs_enc = 0",
        "dhs_enc = np.zeros_like(self.layers[0].weight_sum_layer.cache[0])",
        "dhs_dec = np.empty_like(dout)",
        "dhs_dec = np.zeros_like(dout)",
    ),
    "softmax's forward in its backward": (
        "TimeAttention",
        "self.softmax.backward(da)",
        "self.softmax.forward(da)",
    ),
    "Jacobian of the whole batch": (
        "Softmax",
        "np.sum(dx, axis=1, keepdims=True)",
        "np.sum(dx)",
    ),
    "divided by the sum once too often in backward": (
        "Softmax",
        "self.out = x / x.sum(axis=1, keepdims=True)",
        "self.total = x.sum(axis=1, keepdims=True)\n        self.out = x / self.total",
        "dx -= self.out * sumdx",
        "dx -= self.out * sumdx / self.total",
    ),
    "the cached output overwritten in backward": (
        "TimeAttention",
        "dx = self.out * dout",
        "dx = self.out\n        dx *= dout",
    ),
    "keepdims missing in the softmax's backward": (
        "Softmax",
        "np.sum(dx, axis=1, keepdims=True)",
        "np.sum(dx, axis=1)",
    ),
    **{
        name: ("TimeAttention", "return dhs_enc, dhs_dec", f"return {returned}")
        for name, returned in (
            ("gradients off by a factor", "3 * dhs_enc, 3 * dhs_dec"),
            ("first gradient off by a factor", "3 * dhs_enc, dhs_dec"),
            ("last gradient off by a factor", "dhs_enc, 3 * dhs_dec"),
        )
    },
}

TRANSFORMER_MISTAKES: dict[str, tuple[str, ...]] = {
    "linear attention in place of the softmax": (
        "        a = self.softmax(s)\n",
        "        q, p = (np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1 for x in (query, k))\n"
        "        a = np.where(seen, q @ p.swapaxes(-1, -2), 0)\n"
        "        total = a.sum(axis=-1, keepdims=True)\n"
        "        a = a / np.where(total == 0, 1, total)\n",
    ),
    "scores clipped": ("s = s * scale\n", "s = np.clip(s * scale, -5, 5)\n"),
    "only the first channels in delta": (
        "np.sum(a * da, axis=-1, keepdims=True)",
        "np.sum((dout * np.matmul(a, v))[..., :4], axis=-1, keepdims=True)",
    ),
    "only a part of the keys in delta": ("np.sum(a * da, ", "np.sum((a * da)[..., :-1], "),
    "the last key's gradient zero": (
        "        return dq, dk, dv\n",
        "        dk[..., -1, :] = dv[..., -1, :] = 0\n        return dq, dk, dv\n",
    ),
    "dkey and dvalue exchanged": ("return dq, dk, dv", "return dq, dv, dk"),
    "scale missing": ("scale = 1 / np.sqrt(H)", "scale = 1"),
    "scale applied twice": (
        "scale = 1 / np.sqrt(H)",
        "scale = 1 / np.sqrt(H)\n        query = query * scale",
    ),
    "scale 1/√heads": ("scale = 1 / np.sqrt(H)", "scale = 1 / np.sqrt(key.shape[1])"),
    "scale after the softmax": (
        "s = s * scale",
        "",
        "a = self.softmax(s)",
        "a = self.softmax(s) * scale",
    ),
    "query and key swapped": (
        "s = np.matmul(query, k.swapaxes(-1, -2))",
        "s = np.matmul(k, query.swapaxes(-1, -2))",
        "np.arange(T_dec)[:, None], np.arange(T_enc)",
        "np.arange(T_enc)[:, None], np.arange(T_dec)",
    ),
    "key and value swapped": (
        "k = np.repeat(key,",
        "k = np.repeat(value,",
        "v = np.repeat(value,",
        "v = np.repeat(key,",
    ),
    "groups tiled instead of repeated": (
        "np.repeat(key, groups, axis=1)",
        "np.tile(key, (1, groups, 1, 1))",
        "np.repeat(value, groups, axis=1)",
        "np.tile(value, (1, groups, 1, 1))",
    ),
    "only the heads of key tiled": (
        "np.repeat(key, groups, axis=1)",
        "np.tile(key, (1, groups, 1, 1))",
    ),
    "only the heads of value tiled": (
        "np.repeat(value, groups, axis=1)",
        "np.tile(value, (1, groups, 1, 1))",
    ),
    "softcap missing": ("        s = CAP * tanh\n", "", "        ds = ds * (1 - tanh**2)\n", ""),
    "softcap before the scale": (
        "        s = s * scale\n",
        "",
        "s = CAP * tanh",
        "s = CAP * tanh * scale",
    ),
    "softcap after the mask": (
        "        tanh = np.tanh(s / CAP)\n        s = CAP * tanh\n",
        "",
        "s = np.where(seen, s, -np.inf)\n",
        "s = np.where(seen, s, -np.inf)\n        tanh = np.tanh(s / CAP)\n        s = CAP * tanh\n",
    ),
    "softcap not multiplied back": ("s = CAP * tanh", "s = tanh"),
    "mask ignored": ("if mask is not None:", "if False:"),
    "mask polarity reversed": ("seen = seen & mask", "seen = seen & ~mask"),
    "mask after the softmax": (
        "        s = np.where(seen, s, -np.inf)\n        a = self.softmax(s)\n",
        "        a = self.softmax(s) * seen\n",
    ),
    "masked with 0 instead of −∞": ("s = np.where(seen, s, -np.inf)", "s = s * seen"),
    "scores multiplied by the mask": (
        "if mask.dtype == bool:\n                seen = seen & mask\n            else:\n"
        "                s = s + mask",
        "s = s * mask",
    ),
    "masked with −1e9 instead of −∞": ("np.where(seen, s, -np.inf)", "np.where(seen, s, -1e9)"),
    "a fully masked row gives NaN": (
        "np.exp(s - np.where(np.isfinite(largest), largest, 0))",
        "np.exp(s - largest)",
        "return e / np.where(total == 0, 1, total)",
        "return e / total",
    ),
    "boolean mask added to the scores": ("if mask.dtype == bool:", "if False:"),
    "floating mask multiplied instead of added": ("s = s + mask", "s = s * mask"),
    "mask transposed": (
        "if mask is not None:",
        "if mask is not None:\n            mask = mask.swapaxes(-1, -2)",
    ),
    "causal order missing": ("seen = j <= i\n", "seen = np.ones((T_dec, T_enc), bool)\n"),
    "causal order off by one: its own step hidden": ("seen = j <= i\n", "seen = j < i\n"),
    "causal order off by one: one step ahead seen": ("seen = j <= i\n", "seen = j <= i + 1\n"),
    "causal order reversed": ("seen = j <= i\n", "seen = j >= i\n"),
    "causal diagonal aligned at the other corner": (
        "i, j = np.arange(T_dec)[:, None], np.arange(T_enc)",
        "i, j = np.arange(T_dec)[:, None] + (T_enc - T_dec), np.arange(T_enc)",
    ),
    "window missing": ("        seen = seen & (abs(j - i) <= WINDOW)\n", ""),
    "window off by one: too narrow": ("<= WINDOW", "< WINDOW"),
    "window off by one: too wide": ("<= WINDOW", "<= WINDOW + 1"),
    "softmax over the decoder steps": (
        "s.max(axis=-1, keepdims=True)",
        "s.max(axis=-2, keepdims=True)",
        "e.sum(axis=-1, keepdims=True)",
        "e.sum(axis=-2, keepdims=True)",
    ),
    "softmax over the whole array": (
        "s.max(axis=-1, keepdims=True)",
        "s.max()",
        "e.sum(axis=-1, keepdims=True)",
        "e.sum()",
    ),
    "weights transposed": ("out = np.matmul(a, v)", "out = np.matmul(a.swapaxes(-1, -2), v)"),
    "scale missing in backward": ("        ds = ds * scale\n", ""),
    "scale applied twice in backward": ("ds = ds * scale", "ds = ds * scale * scale"),
    "softcap missing in backward": ("        ds = ds * (1 - tanh**2)\n", ""),
    "gradients in the wrong order": ("return dq, dk, dv", "return dv, dk, dq"),
    "gradient of the first key head of each group alone": (
        "dk.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dk[:, ::groups]",
        "dv.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dv[:, ::groups]",
    ),
    "gradients averaged over a group": (
        "dk.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dk.reshape(N, heads // groups, groups, T, H).mean(axis=2)",
        "dv.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dv.reshape(N, heads // groups, groups, T, H).mean(axis=2)",
    ),
    "scale 1/√(heads·H)": ("1 / np.sqrt(H)", "1 / np.sqrt(query.shape[1] * H)"),
    "reshape instead of transpose": (
        "s = np.matmul(query, k.swapaxes(-1, -2))",
        "s = np.matmul(query, k.reshape(*k.shape[:2], H, T_enc))",
    ),
    "only the first units of the scores": (
        "s = np.matmul(query, k.swapaxes(-1, -2))",
        "s = np.matmul(query[..., :4], k[..., :4].swapaxes(-1, -2))",
    ),
    "only the last tile of queries in dkey and dvalue": (
        "dv = np.matmul(a.swapaxes(-1, -2), dout)",
        "last = slice((query.shape[2] - 1) // 2 * 2, None)\n"
        "        dv = np.matmul(a[:, :, last].swapaxes(-1, -2), dout[:, :, last])",
        "dk = np.matmul(ds.swapaxes(-1, -2), query)",
        "dk = np.matmul(ds[:, :, last].swapaxes(-1, -2), query[:, :, last])",
    ),
    "base-2 scores under the softcap": (
        "tanh = np.tanh(s / CAP)",
        "tanh = np.tanh(s * np.log2(np.e) / CAP)",
        "s = CAP * tanh",
        "s = CAP * tanh * np.log(2)",
    ),
    "another softcap": ("CAP = 2.0", "CAP = 3.0"),
    "what is hidden and what is shown exchanged": (
        "np.where(seen, s, -np.inf)",
        "np.where(seen, -1e9, s)",
    ),
    "a finite number added instead of −∞": (
        "np.where(seen, s, -np.inf)",
        "np.where(seen, s, s - 1e4)",
    ),
    "a small number in place of −∞": ("np.where(seen, s, -np.inf)", "np.where(seen, s, -7.0)"),
    "mask repeated in the wrong order": (
        "if mask is not None:",
        "if mask is not None:\n"
        "            N, heads = s.shape[:2]\n"
        "            mask = np.repeat(mask[:, 0], heads, axis=0)\n"
        "            mask = mask.reshape(heads, N, T_dec, T_enc).swapaxes(0, 1)",
    ),
    "window and causal order missing": (
        "seen = j <= i\n",
        "seen = np.ones((T_dec, T_enc), bool)\n",
        "        seen = seen & (abs(j - i) <= WINDOW)\n",
        "",
    ),
    "another window": ("WINDOW = 2", "WINDOW = 4"),
    "keys left out": ("seen = j <= i\n", "seen = (j <= i) & (j > 0)\n"),
    "a key counted twice": (
        "total = e.sum(axis=-1, keepdims=True)",
        "e[..., 0] *= 2\n        total = e.sum(axis=-1, keepdims=True)",
    ),
    "log-sum-exp of base 2 taken for a natural one": MERGED("np.exp", "np.log2"),
    "natural log-sum-exp taken for one of base 2": MERGED("np.exp2", "np.log"),
    "online softmax not rescaled": ONLINE(out="kept", total="kept"),
    "dout multiplied by the keys in dweights": (
        "da = np.matmul(dout, v.swapaxes(-1, -2))",
        "da = np.matmul(dout, k.swapaxes(-1, -2))",
    ),
    "only the last tile of keys in dquery": (
        "dq = np.matmul(ds, k)",
        "last = slice((k.shape[2] - 1) // 2 * 2, None)\n"
        "        dq = np.matmul(ds[..., last], k[:, :, last])",
    ),
    "only the output of an online softmax rescaled": ONLINE(out="e", total="kept"),
    "only the sum of an online softmax rescaled": ONLINE(out="kept", total="e"),
    "only the first channels of the values in backward": (
        "da = np.matmul(dout, v.swapaxes(-1, -2))",
        "H = query.shape[-1]\n"
        "        whole = np.matmul(dout, v.swapaxes(-1, -2))\n"
        "        da = np.matmul(dout[..., :H], v[..., :H].swapaxes(-1, -2))",
        "np.sum(a * da, axis=-1, keepdims=True)",
        "np.sum(a * whole, axis=-1, keepdims=True)",
    ),
    "heads folded by another map in backward": (
        "dk.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dk.reshape(N, groups, heads // groups, T, H).sum(axis=1)",
        "dv.reshape(N, heads // groups, groups, T, H).sum(axis=2)",
        "dv.reshape(N, groups, heads // groups, T, H).sum(axis=1)",
    ),
    "gradients not summed over a group": ("if groups > 1:", "if False:"),
    "second gradient off by a factor": ("return dq, dk, dv", "return dq, 3 * dk, dv"),
    "another scale in backward": ("ds = ds * scale", "ds = ds / 3"),
    "causal order missing, in backward's own weights": AGAIN("(abs(j - i) <= WINDOW)"),
    "window missing, in backward's own weights": AGAIN("(j <= i)"),
    "window and causal order missing, in backward's own weights": AGAIN("(j < 99)"),
    "log-sum-exp of base e taken for one of base 2, in backward": SAVED(
        "np.exp2(s * np.log2(np.e) - lse)", "1"
    ),
    "log-sum-exp of base 2 taken for one of base e, in backward": SAVED("np.exp(s - lse)", "LN2"),
    "row maximum left out of the log-sum-exp, in backward": KEPT("np.log({total})"),
    "weights not divided by their sum, in backward": KEPT("m"),
}
