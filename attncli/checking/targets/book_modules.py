"""What stands in for the book's ``common`` where code imports it and it is not there.

The layers of "Deep Learning from Scratch 2" that a file on attention imports, with the book's names
and arguments, in ``MODULES`` by the module that holds them.  A ``common`` of their own wins.
"""

# ruff: noqa: D102 (what forward, backward and update do is the same everywhere)

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

Array = Any

GPU = False


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(−x))."""
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    """The positive part."""
    return np.maximum(0, x)


def softmax(x: Array) -> Array:
    """Exponentials that sum to 1, along the last axis."""
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def cross_entropy_error(y: Array, t: Array) -> Any:
    """Mean −log y at the labels t, given as numbers or one-hot."""
    y = y.reshape(-1, y.shape[-1])
    return -np.mean(np.log(y[np.arange(len(y)), _labels(t, y)] + 1e-7))


def _labels(t: Array, y: Array) -> Array:
    return t.reshape(y.shape).argmax(axis=-1) if t.size == y.size else t.reshape(y.shape[:-1])


class _Layer:
    """Parameters, and gradients of their shapes that are written in place."""

    def __init__(self, *params: Array) -> None:
        self.params = list(params)
        self.grads = [np.zeros_like(param) for param in params]
        self.cache: Any = None

    def _write(self, *grads: Array) -> None:
        for held, grad in zip(self.grads, grads, strict=True):
            held[...] = grad


class Affine(_Layer):
    """``x @ W + b``, over the last axis."""

    def __init__(self, W: Array, b: Array) -> None:
        super().__init__(W, b)

    def forward(self, x: Array) -> Array:
        self.cache = x
        return x @ self.params[0] + self.params[1]

    def backward(self, dout: Array) -> Array:
        x, W = self.cache, self.params[0]
        rows = dout.reshape(-1, dout.shape[-1])
        self._write(x.reshape(-1, x.shape[-1]).T @ rows, rows.sum(axis=0))
        return dout @ W.T


class MatMul(_Layer):
    """``x @ W``, over the last axis."""

    def __init__(self, W: Array) -> None:
        super().__init__(W)

    def forward(self, x: Array) -> Array:
        self.cache = x
        return x @ self.params[0]

    def backward(self, dout: Array) -> Array:
        x, W = self.cache, self.params[0]
        self._write(x.reshape(-1, x.shape[-1]).T @ dout.reshape(-1, dout.shape[-1]))
        return dout @ W.T


class Softmax(_Layer):
    """`softmax` as a layer."""

    out: Any = None

    def forward(self, x: Array) -> Array:
        self.out = softmax(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        dx = self.out * dout
        return dx - self.out * dx.sum(axis=-1, keepdims=True)


class Sigmoid(_Layer):
    """`sigmoid` as a layer."""

    out: Any = None

    def forward(self, x: Array) -> Array:
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * self.out * (1 - self.out)


class SoftmaxWithLoss(_Layer):
    """Scores and labels to their mean loss; labels of -1 do not count."""

    ignore_label: int | None = None

    def forward(self, x: Array, t: Array) -> Any:
        y = softmax(x)
        labels = _labels(t, y)
        counts = labels != self.ignore_label
        picked = np.take_along_axis(y, np.where(counts, labels, 0)[..., None], axis=-1)[..., 0]
        self.cache = y, labels, counts
        return -np.sum(np.log(picked) * counts) / counts.sum()

    def backward(self, dout: Any = 1) -> Array:
        y, labels, counts = self.cache
        right = np.arange(y.shape[-1]) == labels[..., None]
        return dout * (y - right) * counts[..., None] / counts.sum()


class TimeSoftmaxWithLoss(SoftmaxWithLoss):
    """The same over time steps."""

    ignore_label = -1


class Dropout(_Layer):
    """Sets a share of the numbers to 0 in training."""

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        super().__init__()
        self.dropout_ratio, self.mask, self.train_flg = dropout_ratio, np.ones(()), True

    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        training = self.train_flg if train_flg is None else train_flg
        kept = np.random.rand(*x.shape) > self.dropout_ratio  # noqa: NPY002 (as in the book)
        self.mask = kept / (1 - self.dropout_ratio) if training else np.ones(())
        return x * self.mask

    def backward(self, dout: Array) -> Array:
        return dout * self.mask


class Embedding(_Layer):
    """Rows of W by their numbers."""

    def __init__(self, W: Array) -> None:
        super().__init__(W)

    def forward(self, idx: Array) -> Array:
        self.cache = idx
        return self.params[0][idx]

    def backward(self, dout: Array) -> None:
        self.grads[0][...] = 0
        np.add.at(self.grads[0], self.cache, dout)


class LSTM(_Layer):
    """One step: x, h and c to the next h and c, by the gates f, g, i and o side by side."""

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        super().__init__(Wx, Wh, b)

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        Wx, Wh, b = self.params
        f, g, i, o = np.split(x @ Wx + h_prev @ Wh + b, 4, axis=1)
        f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
        c = f * c_prev + g * i
        self.cache = x, h_prev, c_prev, f, g, i, o, c
        return o * np.tanh(c), c

    def backward(self, dh: Array, dc: Array) -> tuple[Array, Array, Array]:
        Wx, Wh, _ = self.params
        x, h_prev, c_prev, f, g, i, o, c = self.cache
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        df, dg, di = dc * c_prev * f * (1 - f), dc * i * (1 - g**2), dc * g * i * (1 - i)
        dscores = np.hstack([df, dg, di, dh * np.tanh(c) * o * (1 - o)])
        self._write(x.T @ dscores, h_prev.T @ dscores, dscores.sum(axis=0))
        return dscores @ Wx.T, dscores @ Wh.T, dc * f


class TimeLSTM(_Layer):
    """`LSTM` over time steps; `dh` is the gradient of the state that it began with."""

    def __init__(self, Wx: Array, Wh: Array, b: Array, stateful: bool = False) -> None:
        super().__init__(Wx, Wh, b)
        self.layers: list[LSTM] = []
        self.stateful = stateful
        self.h: Any = None
        self.c: Any = None
        self.dh: Any = None

    def set_state(self, h: Any, c: Any = None) -> None:
        self.h, self.c = h, c

    def reset_state(self) -> None:
        self.h = self.c = None

    def forward(self, xs: Array) -> Array:
        zero = np.zeros((len(xs), len(self.params[1])), dtype=xs.dtype)
        if not self.stateful:
            self.reset_state()
        h, c = (zero if state is None else state for state in (self.h, self.c))
        self.layers, hs = [], []
        for t in range(xs.shape[1]):
            self.layers.append(LSTM(*self.params))
            h, c = self.layers[-1].forward(xs[:, t], h, c)
            hs.append(h)
        self.h, self.c = h, c
        return np.stack(hs, axis=1)

    def backward(self, dhs: Array) -> Array:
        dh = dc = np.zeros_like(dhs[:, 0])
        dxs = list[Array]()
        grads = [np.zeros_like(param) for param in self.params]
        for t in reversed(range(dhs.shape[1])):
            dx, dh, dc = self.layers[t].backward(dhs[:, t] + dh, dc)
            dxs.insert(0, dx)
            grads = [a + b for a, b in zip(grads, self.layers[t].grads, strict=True)]
        self._write(*grads)
        self.dh = dh
        return np.stack(dxs, axis=1)


class BaseModel:
    """What has layers, and their parameters and gradients."""

    params: Any = None
    grads: Any = None

    def forward(self, *arrays: Array) -> Any:
        raise NotImplementedError

    def backward(self, *arrays: Array) -> Any:
        raise NotImplementedError


class SGD:
    """Plain descent."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: list[Array], grads: list[Array]) -> None:
        for param, grad in zip(params, grads, strict=True):
            param -= self.lr * grad


class Adam:
    """Descent by running means of the gradients and of their squares."""

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr, self.beta1, self.beta2, self.iter = lr, beta1, beta2, 0
        self.m: list[Array] = []
        self.v: list[Array] = []

    def update(self, params: list[Array], grads: list[Array]) -> None:
        self.m = self.m or [np.zeros_like(param) for param in params]
        self.v = self.v or [np.zeros_like(param) for param in params]
        self.iter += 1
        lr = self.lr * np.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for param, grad, m, v in zip(params, grads, self.m, self.v, strict=True):
            m += (1 - self.beta1) * (grad - m)
            v += (1 - self.beta2) * (grad**2 - v)
            param -= lr * m / (np.sqrt(v) + 1e-7)


_NUMPY = {"np": np, "GPU": GPU}
_FUNCTIONS = {one.__name__: one for one in (sigmoid, relu, softmax, cross_entropy_error)}
_LAYERS = {
    one.__name__: one
    for one in (MatMul, Affine, Softmax, SoftmaxWithLoss, Sigmoid, Dropout, Embedding)
}
_TIME_LAYERS = {
    "LSTM": LSTM, "TimeLSTM": TimeLSTM, "TimeEmbedding": Embedding, "TimeAffine": Affine,
    "TimeSoftmaxWithLoss": TimeSoftmaxWithLoss, "TimeDropout": Dropout,
}  # fmt: skip
MODULES: Mapping[str, Mapping[str, Any]] = {
    "common": {},
    "common.config": {"GPU": GPU},
    "common.np": _NUMPY,
    "common.functions": {**_NUMPY, **_FUNCTIONS},
    "common.layers": {**_NUMPY, **_FUNCTIONS, **_LAYERS},
    "common.time_layers": {**_NUMPY, **_FUNCTIONS, **_LAYERS, **_TIME_LAYERS},
    "common.base_model": {**_NUMPY, "BaseModel": BaseModel},
    "common.optimizer": {**_NUMPY, "SGD": SGD, "Adam": Adam},
}


class StandIn:
    """A finder and loader of what `MODULES` lists where nothing else does.

    None by inheritance: `importlib.abc` is slow to load.

    Parameters
    ----------
    path : str
        Of the file whose imports these are: a ``common`` in any of the folders above it wins.

    Attributes
    ----------
    used : list of str
        What was imported.
    """

    def __init__(self, path: str) -> None:
        self._path, self.used = path, list[str]()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module, after everybody else has looked for it."""
        if name == "common":
            spec = PathFinder.find_spec(name, list(_above(self._path)))
            if spec is not None and _is_theirs(spec.submodule_search_locations):
                return spec
        elif _is_theirs(path):
            return None
        loader: Any = self
        return ModuleSpec(name, loader, is_package=name == "common") if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill it."""
        name = module.__name__

        def lacking(wanted: str) -> Any:
            if wanted.startswith("__"):
                raise AttributeError(wanted)
            raise ImportError(
                f"{wanted} is not in what stands in for {name}: add the book's common/"
            )

        vars(module).update(MODULES[name])
        if MODULES[name]:
            vars(module)["__getattr__"] = lacking
            self.used.append(name)


def _above(path: str) -> Iterator[str]:
    folder = os.path.dirname(os.path.abspath(path))
    while folder != os.path.dirname(folder):
        yield folder
        folder = os.path.dirname(folder)


def _is_theirs(folders: Sequence[str] | None) -> bool:
    """Whether a package holds anything: a folder may be there for modules that never came."""
    return any(name.endswith(".py") for folder in folders or () for name in os.listdir(folder))
