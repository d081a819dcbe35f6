"""Which frameworks code has loaded, where they compute, and what they are told."""

import dataclasses
import os

import numpy as np
import pytest

import attncli
from attncli.checking.targets import serving, target
from attncli.checking.targets.discovery import target_of_object
from attncli.checking.targets.frameworks import loaded
from attncli.checking.targets.frameworks.adapter import Adapter
from attncli.errors import TargetError


class Accelerated(Adapter):
    """A framework with two GPUs."""

    name, devices, aliases = "fast", ("cpu", "cuda:0", "cuda:1"), {"gpu": "cuda"}

    def owns(self, value):
        return False


@pytest.fixture
def accelerated(monkeypatch):
    adapter = Accelerated(np)
    for module in (loaded, target):
        monkeypatch.setattr(module, "loaded", lambda: (adapter,))
    return adapter


def test_a_device_is_known_by_its_kind_its_number_and_as_a_gpu(accelerated):
    names = {name: accelerated.place(name) for name in ("cpu", "cuda", "cuda:1", "gpu:1", "gpu")}
    assert names == {
        "cpu": "cpu", "cuda": "cuda:0", "cuda:1": "cuda:1", "gpu:1": "cuda:1", "gpu": "cuda:0",
    }  # fmt: skip
    assert accelerated.place("cuda:2") is None


def test_a_device_that_is_not_there_is_one_line_with_those_that_are(accelerated):
    loaded.require_device("cuda:1")
    with pytest.raises(TargetError, match="no device xpu here: there is cpu, cuda:0, cuda:1") as no:
        loaded.require_device("xpu")
    assert no.value.hint == "--device cuda:1"


def test_code_of_numpy_has_no_device(attn, folder):
    (folder / "mine.py").write_text("def attention(query, key, value):\n    return value\n")
    result = attn("check", "mine.py", "--device", "cuda")
    assert result.code == 2
    assert "--device cuda is for code of torch and jax: this loads neither" in result.err


@pytest.mark.parametrize(("there", "said", "told"), [
    ((), {}, "1"), (("/dev/nvidiactl",), {}, None), ((), {"TRITON_INTERPRET": "0"}, "0"),
])  # fmt: skip
def test_triton_interprets_where_there_is_no_gpu_unless_it_is_said(monkeypatch, there, said, told):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving.os.path, "exists", lambda path: path in there)
    assert serving._interpret_kernels() == (told == "1")
    assert os.environ.get("TRITON_INTERPRET") == told
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


class Exported:
    """An array of somebody's that gives its memory by DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@dataclasses.dataclass
class Result:
    context: np.ndarray
    weights: np.ndarray


@pytest.mark.parametrize("wrapped", [
    Exported, lambda out: Result(out, 2 * out), lambda out: {"weights": 2 * out, "context": out},
])  # fmt: skip
def test_a_result_comes_in_whatever_holds_it(wrapped):
    def attention(query, key, value):
        return wrapped(np.ones_like(query))

    layer = target_of_object(attention).start({"N": 2, "T_dec": 3, "T_enc": 5, "H": 4})
    out = layer.forward(*(np.zeros((2, 3, 4)) for _ in range(3)))
    assert np.array_equal(out, np.ones((2, 3, 4)))


def test_no_framework_is_loaded_by_us(attn, folder):
    code = """
import sys
import numpy as np

def attention(query, key, value):
    assert not {"torch", "jax"} & {*sys.modules}, "loaded"
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ value
"""
    (folder / "mine.py").write_text(code)
    result = attn("check", "mine.py")
    assert (result.code, "loaded" in result.out) == (0, False)
    assert loaded.ADAPTERS.keys() == {"torch", "jax"}


def test_code_of_numpy_is_judged_as_such_beside_a_framework(accelerated):
    class Attention:
        def forward(self, query, key, value):
            scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
            e = np.exp(scores - scores.max(-1, keepdims=True))
            return (e / e.sum(-1, keepdims=True)).astype(np.float32).astype(float) @ value

    report = attncli.check(Attention, layer="scaled-dot-product")
    assert not report.passed
    assert "float64 inputs" not in {one.name for one in report.findings}
