"""The book's common where it is not there: right layers stand in, and a real one wins."""

import numpy as np
import pytest

from attncli.checking.targets.book_modules import MODULES
from attncli.checking.targets.loading import load_targets
from attncli.errors import CodeError

LAYERS = {**MODULES["common.layers"], **MODULES["common.time_layers"]}
N, T, D, H = 2, 3, 5, 7

WEIGHT = """
class AttentionWeight:
    def __init__(self):
        self.params, self.grads = [], []
        self.softmax = Softmax()

    def forward(self, hs, h):
        self.cache = hs, h
        return self.softmax.forward(np.sum(hs * h[:, None, :], axis=2))

    def backward(self, da):
        hs, h = self.cache
        dt = self.softmax.backward(da)[:, :, None]
        return dt * h[:, None, :], np.sum(dt * hs, axis=1)
"""
SOFTMAX = """
from common.np import *
from common.layers import Softmax
"""
REAL = """
import numpy as np

class Softmax:
    def forward(self, x):
        return np.exp(x) / {0} / np.exp(x).sum(axis=-1, keepdims=True)
"""


@pytest.fixture
def write(folder):
    def write(name, source):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(source)

    return write


def random(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def started(name):
    weights = {
        "LSTM": [random(D, 4 * H), random(H, 4 * H), random(4 * H)],
        "Affine": [random(D, H), random(H)],
        "MatMul": [random(D, H)],
        "Embedding": [random(D, H)],
    }
    kind = name.removeprefix("Time")
    layer = LAYERS[name](*weights.get(kind, ()))
    if kind == "Dropout":
        layer.train_flg = False
    return layer


def inputs(name):
    x = random(N, T, D, seed=2)
    return {
        "LSTM": [x[:, 0], random(N, H, seed=3), random(N, H, seed=4)],
        "Embedding": [np.array([[0, 1, 0], [4, 4, 2]])],
        "TimeEmbedding": [np.array([[0, 1, 0], [4, 4, 2]])],
        "SoftmaxWithLoss": [x[0], np.array([0, 4, 1])],
        "TimeSoftmaxWithLoss": [x, np.array([[0, 4, -1], [-1, 2, 2]])],
    }.get(name, [x])


def numeric(function, array):
    gradient, step = np.zeros_like(array), 1e-6
    for i in np.ndindex(array.shape):
        held = array[i]
        array[i] = held + step
        above = function()
        array[i] = held - step
        gradient[i] = (above - function()) / (2 * step)
        array[i] = held
    return gradient


@pytest.mark.parametrize("name", [name for name in LAYERS if name[0].isupper() and name != "GPU"])
def test_every_layer_walks_back_what_it_walked_forward(name):
    layer, given = started(name), inputs(name)

    def results():
        found = layer.forward(*given)
        return found if isinstance(found, tuple) else (found,)

    douts = [random(*np.shape(out), seed=5 + i) for i, out in enumerate(results())]

    def loss():
        return sum(np.sum(a * b) for a, b in zip(results(), douts, strict=True))

    loss()
    back = layer.backward(*douts)
    back = back if isinstance(back, tuple) else (back,)
    floats = [array for array in given if array.dtype.kind == "f"]
    for array, gradient in zip(floats, back, strict=bool(floats)):
        assert np.allclose(gradient, numeric(loss, array), rtol=1e-5, atol=1e-7)
    gradients = [gradient.copy() for gradient in layer.grads]
    for param, gradient in zip(layer.params, gradients, strict=True):
        assert np.allclose(gradient, numeric(loss, param), rtol=1e-5, atol=1e-7)


def test_the_gradient_of_the_state_that_a_lstm_begins_with_is_kept():
    layer = LAYERS["TimeLSTM"](*started("LSTM").params, stateful=True)
    xs, h, dout = random(N, T, D), random(N, H, seed=3), random(N, T, H, seed=5)

    def loss():
        layer.set_state(h)
        return np.sum(layer.forward(xs) * dout)

    loss()
    layer.backward(dout)
    assert np.allclose(layer.dh, numeric(loss, h), rtol=1e-5, atol=1e-7)


def test_softmax_of_labels_one_hot_or_as_numbers_is_one_loss():
    x, t = random(N, D), np.array([4, 1])
    loss = LAYERS["SoftmaxWithLoss"]()
    one = loss.forward(x, t), loss.backward()
    other = loss.forward(x, np.eye(D)[t]), loss.backward()
    assert np.allclose(one[0], LAYERS["cross_entropy_error"](LAYERS["softmax"](x), t), atol=1e-5)
    assert one[0] == other[0]
    assert np.array_equal(one[1], other[1])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_optimisers_go_downhill_in_place(name):
    x = np.array([3.0, -2.0])
    optimiser = MODULES["common.optimizer"][name](lr=0.1)
    for _ in range(200):
        optimiser.update([x], [2 * x])
    assert np.abs(x).max() < 1e-2


def test_a_file_of_the_book_is_checked_without_the_book(attn, write):
    write("mine.py", SOFTMAX + WEIGHT)
    result = attn("check", "mine.py")
    assert result.code == 0
    assert result.err == (
        "note: mine.py: common.np, common.layers not found: attn's own stand in\n"
    )
    assert "let attncli compute" not in result.out
    wrong = SOFTMAX + WEIGHT.replace("[:, :, None]", "[:, :, None] * 2")
    write("mine.py", wrong)
    assert attn("check", "mine.py").code == 1


@pytest.mark.parametrize(
    "line",
    [
        "from common.layers import *",
        "from common.time_layers import *",
        "import common.layers; from common.np import np; Softmax = common.layers.Softmax",
        "from common import config; config.GPU = True\nfrom common.layers import *",
        "from common.base_model import BaseModel\nfrom common.optimizer import Adam\n"
        "from common.functions import softmax\nfrom common.config import GPU\n"
        "from common.layers import np, Softmax",
    ],
)
def test_every_way_to_import_it_works(write, line):
    write("mine.py", line + "\n" + WEIGHT)
    (target,) = load_targets("mine.py")
    layer = target.start({})
    assert layer.forward(random(N, T, H), random(N, H)).sum() == pytest.approx(N)


@pytest.mark.parametrize("place", ["a/b/c/common", "a/b/common", "a/common", "common"])
@pytest.mark.parametrize("package", [True, False])
def test_a_real_one_beside_the_file_or_above_wins(write, place, package):
    write(f"{place}/layers.py", REAL.format(5))
    write(f"{place}/np.py", "import numpy as np\n")
    if package:
        write(f"{place}/__init__.py", "")
    write("a/b/c/mine.py", SOFTMAX + WEIGHT)
    (target,) = load_targets("a/b/c/mine.py", note=(said := []).append)
    assert target.start({}).forward(random(N, T, H), random(N, H)).sum() == pytest.approx(N / 5)
    assert said == []


def test_what_a_real_one_lacks_is_an_error_of_theirs(write):
    write("common/layers.py", REAL.format(1))
    write("mine.py", SOFTMAX + WEIGHT)
    with pytest.raises(CodeError, match=r"No module named 'common\.np'"):
        load_targets("mine.py")


def test_an_empty_folder_of_that_name_is_none(write):
    write("common/notes.txt", "")
    write("mine.py", SOFTMAX + WEIGHT)
    (target,) = load_targets("mine.py")
    assert target.name == "AttentionWeight"


def test_what_does_not_stand_in_is_named(write):
    write("mine.py", "from common.time_layers import TimeGRU\n" + WEIGHT)
    with pytest.raises(CodeError, match=r"TimeGRU is not in what stands in for common\.time"):
        load_targets("mine.py")
