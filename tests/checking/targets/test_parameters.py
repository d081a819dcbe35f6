"""Weights are found where a layer keeps them: a list, a dict, attributes, layers inside it."""

import numpy as np
import pytest

from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.checking.targets.loading import load_targets, targets_of
from attncli.checking.targets.parameters import weights_of

SOURCE = """\
import numpy as np

def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)

class General:
    def __init__(self, H):
        self.W = np.random.RandomState(0).randn(H, H)
        self.unused = np.ones(3)

    def forward(self, hs, h):
        asked = h @ self.W
        a = softmax(np.einsum("nth,nh->nt", hs, asked))
        self.kept = hs, h, asked, a
        self.s, self.ds = asked, asked  # no weight, though there is one beside it
        return np.einsum("nt,nth->nh", a, hs)

    def backward(self, dout):
        hs, h, asked, a = self.kept
        da = np.einsum("nh,nth->nt", dout, hs)
        ds = a * (da - (a * da).sum(-1, keepdims=True))
        dasked = np.einsum("nt,nth->nh", ds, hs)
        self.dW = h.T @ dasked
        return a[..., None] * dout[:, None] + ds[..., None] * asked[:, None], dasked @ self.W.T

class Dict(General):
    def __init__(self, H):
        super().__init__(H)
        self.params, self.grads = {"Wa": self.W}, {}

    def backward(self, dout):
        gradients = super().backward(dout)
        self.grads["Wa"] = self.dW
        return gradients

class OneStep(General):
    def forward(self, query, keys):
        assert query.shape[1] == 1
        return super().forward(keys, query[:, 0])[:, None]

    def backward(self, dout):
        dkeys, dquery = super().backward(dout[:, 0])
        return dquery[:, None], dkeys

class Affine:
    def __init__(self, H):
        self.params = [np.random.RandomState(H).randn(H, H) / 2, np.ones(H)]
        self.grads = [np.zeros((H, H)), np.zeros(H)]

    def forward(self, x):
        self.x = x
        return x @ self.params[0] + self.params[1]

    def backward(self, d):
        self.grads[0][...] = np.einsum("nti,ntj->ij", self.x, d)
        self.grads[1][...] = d.sum((0, 1))
        return d @ self.params[0].T

class OfLayers:
    def __init__(self, dim):
        self.projections = [Affine(dim) for _ in range(3)]
        self.out = Affine(dim)

    def forward(self, x):
        q, k, v = self.kept = [one.forward(x) for one in self.projections]
        self.a = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
        return self.out.forward(self.a @ v)

    def backward(self, dout):
        q, k, v = self.kept
        d, a = self.out.backward(dout), self.a
        da = d @ v.swapaxes(1, 2)
        ds = a * (da - (a * da).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
        back = ds @ k, ds.swapaxes(1, 2) @ q, a.swapaxes(1, 2) @ d
        return (sum(one.backward(x) for one, x in zip(self.projections, back)),)
"""
NAMES = {
    "General": ("W",),
    "Dict": ("Wa",),
    "OneStep": ("W",),
    "OfLayers": tuple(
        f"{part}.params[{i}]"
        for part in ("projections[0]", "projections[1]", "projections[2]", "out")
        for i in range(2)
    ),
}


@pytest.fixture
def module(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    names: dict = {"__name__": __name__}
    exec(SOURCE, names)
    return names | {"file": str(tmp_path / "mine.py")}


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_found_and_their_gradients_are_proved(name, module):
    assert weights_of(module[name](4)).names == NAMES[name]
    report = check(f"{module['file']}:{name}")
    assert report.passed, [x for x in report.findings if x.status == "wrong"]
    checked = [one.input for one in gradcheck(module[name]).checks]
    assert checked[-len(NAMES[name]) :] == [*NAMES[name]]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "said"),
    [
        ("General", "self.dW = h.T @ dasked", "self.dW = (h.T @ dasked).T", "dW"),
        ("Dict", '["Wa"] = self.dW', '["Wa"] = 2 * self.dW', "dWa, of W"),
        ("OfLayers", "d.sum((0, 1))", "d.mean((0, 1))", "out.grads[1], of bo"),
    ],
)
def test_a_wrong_gradient_is_said_by_the_name_of_its_weight(tmp_path, name, right, wrong, said):
    assert right in SOURCE
    (tmp_path / "mine.py").write_text(SOURCE.replace(right, wrong))
    report = check(f"{tmp_path / 'mine.py'}:{name}")
    assert said in {x.name for x in report.findings if x.status == "wrong"}


def test_what_forward_leaves_behind_is_no_weight(module):
    layer = targets_of(module["General"])[0].start({"H": 4})
    layer.forward(np.ones((2, 5, 4)), np.ones((2, 4)))
    assert layer.parameter_names == ("W",)
    assert layer.gradients == []
    layer.backward(np.ones((2, 4)))
    assert [one.shape for one in layer.gradients] == [(4, 4)]


def test_those_in_another_process_can_be_written_into(module):
    (target,) = load_targets(f"{module['file']}:Dict")
    layer = target.start({"H": 4})
    layer.assign(0, np.zeros((4, 4)))
    assert not layer.parameters[0].any()
    hs = np.arange(40.0).reshape(2, 5, 4)
    assert np.allclose(layer.forward(hs, np.ones((2, 4))), hs.mean(1))
