"""Layers with weights of their own: right in any style, and each mistake in them named."""

import sys
import types

import pytest
from checking.book import changed

from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.checking.diagnosing.mistakes.in_parameters import PARAMETERS

SOURCE = '''
import numpy as np


def normalised(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def through(a, da):
    return a * (da - np.sum(a * da, axis=-1, keepdims=True))


class General:
    """Scores by a matrix, of all decoder steps at once."""

    def __init__(self, H):
        self.params = [np.random.RandomState(3).normal(size=(H, H))]
        self.grads = [np.zeros((H, H))]

    def forward(self, hs_enc, hs_dec):
        (W,) = self.params
        asked = hs_dec @ W
        a = normalised(asked @ hs_enc.swapaxes(1, 2))
        self.kept = hs_enc, hs_dec, asked, a
        return a @ hs_enc

    def backward(self, dout):
        (W,) = self.params
        hs_enc, hs_dec, asked, a = self.kept
        ds = through(a, dout @ hs_enc.swapaxes(1, 2))
        dasked = ds @ hs_enc
        dW = np.tensordot(hs_dec, dasked, axes=((0, 1), (0, 1)))
        self.grads[0][...] = dW
        return a.swapaxes(1, 2) @ dout + ds.swapaxes(1, 2) @ asked, dasked @ W.T


class Additive:
    """Scores by a hidden layer; the vector comes first among the parameters."""

    def __init__(self, H):
        rng = np.random.RandomState(5)
        self.params = [rng.normal(size=3), rng.normal(size=(H, 3)), rng.normal(size=(H, 3))]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, hs, h):
        v, U, W = self.params
        u = np.tanh(hs @ W + (h @ U)[:, None])
        a = normalised(u @ v)
        self.kept = hs, h, u, a
        return np.sum(a[:, :, None] * hs, axis=1)

    def backward(self, dout):
        v, U, W = self.params
        hs, h, u, a = self.kept
        ds = through(a, np.sum(hs * dout[:, None], axis=2))
        du = ds[:, :, None] * v * (1 - u * u)
        dv = np.sum(ds[:, :, None] * u, axis=(0, 1))
        dU = h.T @ du.sum(axis=1)
        dW = np.einsum("nth,ntk->hk", hs, du)
        for grad, d in zip(self.grads, (dv, dU, dW)):
            grad[...] = d
        return a[:, :, None] * dout[:, None] + du @ W.T, du.sum(axis=1) @ U.T


class Heads:
    """Several heads, with matrices as torch has them: y = x · Wᵀ."""

    def __init__(self, d_model, num_heads):
        rng = np.random.RandomState(7)
        self.num_heads = num_heads
        self.params = [rng.normal(size=(d_model, d_model)) / 2 for _ in range(4)]
        self.grads = [np.zeros_like(p) for p in self.params]

    def cut(self, x):
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)

    def joined(self, x):
        N, heads, T, d = x.shape
        return x.transpose(0, 2, 1, 3).reshape(N, T, heads * d)

    def forward(self, query, key, value):
        Wq, Wk, Wv, Wo = self.params
        q, k, v = (self.cut(x @ P.T) for x, P in ((query, Wq), (key, Wk), (value, Wv)))
        self.scale = 1 / np.sqrt(q.shape[-1])
        a = normalised(self.scale * q @ k.swapaxes(-1, -2))
        found = self.joined(a @ v)
        self.kept = (query, key, value), (q, k, v), a, found
        return found @ Wo.T

    def backward(self, dout):
        Wq, Wk, Wv, Wo = self.params
        given, (q, k, v), a, found = self.kept
        dfound = self.cut(dout @ Wo)
        ds = through(a, dfound @ v.swapaxes(-1, -2)) * self.scale
        back = ds @ k, ds.swapaxes(-1, -2) @ q, a.swapaxes(-1, -2) @ dfound
        back = [self.joined(x) for x in back]
        dWs = [np.einsum("nti,ntj->ij", d, x) for d, x in zip((*back, dout), (*given, found))]
        for grad, d in zip(self.grads, dWs):
            grad[...] = d
        return tuple(d @ P for d, P in zip(back, (Wq, Wk, Wv)))


class CausalSelf:
    """No step sees a later one; query, key and value are of one input."""

    def __init__(self, H):
        rng = np.random.RandomState(9)
        self.params = [rng.normal(size=(H, H)) for _ in range(3)]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x):
        q, k, v = (x @ P for P in self.params)
        s = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        seen = np.tri(x.shape[1], dtype=bool)
        s = np.where(seen, s, -np.inf)
        a = normalised(s)
        self.kept = x, q, k, v, a
        return a @ v

    def backward(self, dout):
        x, q, k, v, a = self.kept
        ds = through(a, dout @ v.swapaxes(1, 2)) / np.sqrt(q.shape[-1])
        back = ds @ k, ds.swapaxes(1, 2) @ q, a.swapaxes(1, 2) @ dout
        for grad, d in zip(self.grads, back):
            grad[...] = np.einsum("nti,ntj->ij", x, d)
        return sum(d @ P.T for d, P in zip(back, self.params))
'''


def load(source, name, monkeypatch):
    module = types.ModuleType("learner")
    monkeypatch.setitem(sys.modules, "learner", module)
    exec(compile(source, "learner.py", "exec"), module.__dict__)
    return getattr(module, name)


@pytest.mark.parametrize("layer", ["General", "Additive", "Heads", "CausalSelf"])
def test_a_right_layer_passes_whatever_its_style(layer, monkeypatch):
    report = check(load(SOURCE, layer, monkeypatch))
    assert [f.detail for f in report.findings if f.status == "wrong"] == []
    assert report.passed
    assert report.diagnoses == ()


MISTAKES = {
    "gradient of a parameter transposed": ("General", "[...] = dW", "[...] = dW.T"),
    "one entry of a parameter's gradient wrong": (
        "General",
        "self.grads[0][...] = dW\n",
        "self.grads[0][...] = dW\n        self.grads[0][-1, 0] *= 1.001\n",
    ),
    "gradients of parameters added to over calls": ("General", "[0][...] = dW", "[0] += dW"),
    "grads replaced by other arrays": ("General", "self.grads[0][...] = dW", "self.grads = [dW]"),
    "the projected states as values": (
        "General",
        "hs_enc, hs_dec):\n        (W,) = self.params\n        asked = hs_dec @ W",
        "hs_enc, hs_dec):\n        (W,) = self.params\n        asked, hs_enc = hs_dec, hs_enc @ W",
    ),
    "derivative of tanh taken of what is already activated": (
        "Additive",
        "(1 - u * u)",
        "(1 - np.tanh(u) ** 2)",
    ),
    "derivative of tanh missing": ("Additive", " * (1 - u * u)", ""),
    "tanh missing from the scores": (
        "Additive",
        "u = np.tanh(hs @ W + (h @ U)[:, None])",
        "u = hs @ W + (h @ U)[:, None]",
        " * (1 - u * u)",
        "",
    ),
    "gradient of a parameter averaged": ("Additive", "du.sum(axis=1)\n", "du.mean(axis=1)\n"),
    "gradient of the first item alone": (
        "Additive",
        "np.sum(ds[:, :, None] * u, axis=(0, 1))",
        "ds[0] @ u[0]",
    ),
    "gradients of two parameters exchanged": (
        "Heads",
        "zip(self.grads, dWs)",
        "zip(self.grads, (dWs[0], dWs[2], dWs[1], dWs[3]))",
    ),
    "heads split without a transpose": (
        "Heads",
        "x.reshape(*x.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)",
        "x.reshape(len(x), self.num_heads, x.shape[1], -1)",
        "x.transpose(0, 2, 1, 3).reshape(N, T, heads * d)",
        "x.reshape(N, T, heads * d)",
    ),
    "heads merged without a transpose": (
        "Heads",
        "found = self.joined(a @ v)",
        "found = (a @ v).reshape(query.shape)",
        "dfound = self.cut(dout @ Wo)",
        "dfound = (dout @ Wo).reshape(q.shape)",
    ),
    "scale 1/√(heads·H)": ("Heads", "1 / np.sqrt(q.shape[-1])", "1 / np.sqrt(query.shape[-1])"),
    "mask after the softmax": (
        "CausalSelf",
        "        s = np.where(seen, s, -np.inf)\n        a = normalised(s)\n",
        "        a = normalised(s) * seen\n",
    ),
    "masked with 0 instead of −∞": ("CausalSelf", "np.where(seen, s, -np.inf)", "s * seen"),
    "causal order off by one: one step ahead seen": ("CausalSelf", "np.tri(", "np.tri(k=1, N="),
    "a matrix not transposed in backward": (
        "Turned",
        "class General:",
        "class Turned:",
        "asked = hs_dec @ W\n        a = normalised(asked @ hs_enc.swapaxes(1, 2))",
        "asked = hs_enc @ W\n        a = normalised(hs_dec @ asked.swapaxes(1, 2))",
        "        dasked = ds @ hs_enc\n"
        "        dW = np.tensordot(hs_dec, dasked, axes=((0, 1), (0, 1)))\n",
        "        dk = ds.swapaxes(1, 2) @ hs_dec\n"
        "        dW = np.tensordot(hs_enc, dk, axes=((0, 1), (0, 1)))\n",
        "return a.swapaxes(1, 2) @ dout + ds.swapaxes(1, 2) @ asked, dasked @ W.T",
        "return a.swapaxes(1, 2) @ dout + dk @ W, ds @ asked",
    ),
    "gradient goes back through another projection's matrix": (
        "CausalSelf",
        "zip(back, self.params))\n",
        "zip(back, (self.params[1], *self.params[1:])))\n",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_layer_with_weights_is_named(name, monkeypatch):
    layer, *changes = MISTAKES[name]
    report = check(load(changed(SOURCE, *changes), layer, monkeypatch))
    assert not report.passed
    best = report.diagnoses[0].mistakes[0]
    assert best.name == name
    assert "{" not in best.meant + best.computed


@pytest.mark.parametrize(
    ("layer", "right", "wrong", "expected"),
    [
        ("Heads", "(Wq, Wk, Wv)))", "(Wq, Wv, Wv)))", "dx = dk · Wvᵀ"),
        ("Heads", "(Wq, Wk, Wv)))", "(Wk, Wq, Wv)))", "dx = dq · Wkᵀ, dx = dk · Wqᵀ"),
        ("Heads", "(Wq, Wk, Wv)))", "(Wq, Wq, Wq)))", "dx = dk · Wqᵀ, dx = dv · Wqᵀ"),
        ("Heads", "self.cut(dout @ Wo)", "self.cut(dout @ Wv)", "dc = dout · Wvᵀ"),
        ("Additive", "du.sum(axis=1) @ U.T", "du.sum(axis=1) @ W.T", "dh = du · Wᵀ"),
    ],
)
def test_which_matrix_a_gradient_goes_back_through_is_said(
    layer, right, wrong, expected, monkeypatch
):
    report = check(load(changed(SOURCE, right, wrong), layer, monkeypatch))
    (best,) = report.diagnoses[0].mistakes
    assert best.name == "gradient goes back through another projection's matrix"
    assert best.computed == expected


def test_projections_that_are_not_transposed_in_backward_are_named(monkeypatch):
    source = changed(SOURCE, "sum(d @ P.T for d", "sum(d @ P for d")
    report = check(load(source, "CausalSelf", monkeypatch))
    assert report.diagnoses[0].mistakes[0].name == "a matrix not transposed in backward"


def test_a_gradient_that_is_wrong_in_no_known_way_is_said_with_its_parameter(monkeypatch):
    source = changed(SOURCE, "(*given, found)", "(*given, given[0])")
    report = check(load(source, "Heads", monkeypatch))
    (wrong,) = [f for f in report.findings if f.status == "wrong"]
    assert wrong.name == "grads[3], of Wo"
    assert report.diagnoses == ()


def test_a_residual_that_backward_forgets_is_named(monkeypatch):
    source = changed(SOURCE, "return a @ v\n", "return a @ v + x\n")
    wrong = gradcheck(load(source, "CausalSelf", monkeypatch), inputs={"x": (2, 5, 4)})
    (check,) = [check for check in wrong.checks if not check.passed]
    assert check.patterns[0] == "dout is missing in it: the path of the residual"
    source = changed(
        source, "for d, P in zip(back, self.params))", "for d, P in zip(back, self.params)) + dout"
    )
    assert gradcheck(load(source, "CausalSelf", monkeypatch), inputs={"x": (2, 5, 4)}).passed


def test_gradients_are_proved_for_many_heads_where_the_constructor_is_told_how_many(monkeypatch):
    source = changed(
        SOURCE, "zip(self.grads, dWs):\n            grad[...] = d\n",
        "zip(self.grads, dWs):\n            grad[...] = d * (1 + (self.num_heads > 8))\n",
    )  # fmt: skip
    layer = load(source, "Heads", monkeypatch)
    wrong = gradcheck(layer)
    assert all(one.passed for one in wrong.checks)
    assert {text.partition(";")[0] for text in wrong.problems} == {
        f"grads[{number}] is wrong with heads = 13" for number in range(4)
    }
    assert gradcheck(layer, arguments={"num_heads": 2}).passed


def test_every_mistake_of_such_layers_is_made_here():
    made = MISTAKES.keys() | {"the residual missing in backward"}
    assert {mistake.name for mistake in PARAMETERS} <= made
