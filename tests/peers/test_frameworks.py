"""Code for torch and JAX as it is: given its own arrays, its gradients by autograd and vjp."""

import pytest

ATTENTION = """
import torch

def attention(query, key, value):
    scores = query @ key.mT * {scale}
    return scores.softmax(-1) @ value
"""
NUMPY = """
import sys
import numpy as np

def attention(query, key, value):
    assert "torch" not in sys.modules and "jax" not in sys.modules
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ value
"""
MODULE = """
import torch

class SelfAttention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, query, key, value):
        return self.dropout({weights}) @ value
"""
FUNCTION = """
import torch

class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
        ctx.save_for_backward(query, key, value, weights)
        return weights @ value

    @staticmethod
    def backward(ctx, dout):
        query, key, value, weights = ctx.saved_tensors
        dweights = dout @ value.mT
        dscores = weights * (dweights{subtracted}) * query.shape[-1] ** -0.5
        return dscores @ key, dscores.mT @ query, weights.mT @ dout

attention = Attention.apply
"""
JAX = """
import jax
import jax.numpy as jnp
{config}
{jit}
def attention(query, key, value):
    scores = query @ jnp.swapaxes(key, -1, -2) {scale}
    return jax.nn.softmax(scores, axis=-1) @ value
"""
QKV = "--as", "scaled-dot-product"


@pytest.fixture
def judged(attn, folder):
    """Check what is written in a file, and give the result's JSON."""

    def check(code, name="", *options):
        if "import jax" in code:
            pytest.importorskip("jax")
        elif "import torch" in code:
            pytest.importorskip("torch")
        (folder / "theirs.py").write_text(code)
        result = attn("check", f"theirs.py{name}", *QKV, *options, "--json")
        (target,) = result.json["targets"]
        assert result.code == (not target["passed"])
        return target

    return check


def faults(target):
    return {one["name"] for one in target["findings"] if one["status"] == "wrong"}


def notes(target):
    return " ".join(one["detail"] for one in target["findings"] if one["status"] == "note")


def named(target):
    return [one["mistakes"][0]["name"] for one in target["diagnoses"]]


def test_a_torch_function_is_judged_with_the_gradients_of_autograd(judged):
    right = judged(ATTENTION.format(scale="query.shape[-1] ** -0.5"))
    assert right["passed"], right
    assert "alone" not in notes(right)
    assert named(judged(ATTENTION.format(scale="1"))) == ["scale missing"]


def test_a_gradient_that_is_cut_off_for_one_input_is_wrong(judged):
    cut = ATTENTION.format(scale="query.shape[-1] ** -0.5").replace("key.mT", "key.detach().mT")
    assert "different prime sizes" in faults(judged(cut))


def test_where_all_is_cut_off_forward_is_judged_alone(judged):
    code = ATTENTION.format(scale="query.shape[-1] ** -0.5")
    target = judged(code.replace("def attention", "@torch.no_grad()\ndef attention"))
    assert target["passed"]
    assert "cut off" in notes(target)
    assert "forward is judged alone" in notes(target)


def test_a_module_is_judged_as_it_is_used_after_training(judged):
    right = "(query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)"
    assert judged(MODULE.format(weights=right), ":SelfAttention")["passed"]
    wrong = right.replace("softmax(-1)", "softmax(-2)")
    assert "softmax over the decoder steps" in named(judged(MODULE.format(weights=wrong)))


@pytest.mark.parametrize("name", [":Attention", ":attention"])
def test_a_function_with_a_backward_of_its_own_is_judged_by_that(judged, name):
    row = " - (weights * dweights).sum(-1, keepdim=True)"
    assert judged(FUNCTION.format(subtracted=row), name)["passed"]
    wrong = judged(FUNCTION.format(subtracted=""), name)
    assert wrong["diagnoses"]
    parts = {f["part"] for f in wrong["findings"] if f["status"] == "wrong"}
    assert parts == {"backward"}


def test_jax_is_judged_in_what_it_computes_in(judged):
    scale = "* query.shape[-1] ** -0.5"
    for jit in ("", "@jax.jit"):
        target = judged(JAX.format(config="", jit=jit, scale=scale))
        assert target["passed"], target
        assert "every case is in float32" in notes(target)


def test_jax_in_float64_where_the_target_says_so(judged):
    config = 'jax.config.update("jax_enable_x64", True)'
    target = judged(JAX.format(config=config, jit="", scale="* query.shape[-1] ** -0.5"))
    assert target["passed"], target
    assert "refused" not in notes(target)
    assert named(judged(JAX.format(config=config, jit="@jax.jit", scale=""))) == ["scale missing"]


def test_for_code_of_numpy_no_framework_is_loaded(attn, folder):
    (folder / "theirs.py").write_text(NUMPY)
    assert attn("check", "theirs.py").code == 0


def test_gradcheck_takes_what_autograd_gives(attn, folder):
    pytest.importorskip("torch")
    (folder / "theirs.py").write_text(ATTENTION.format(scale="2"))
    assert attn("gradcheck", "theirs.py").code == 0
    cut = ATTENTION.format(scale="2").replace("key.mT", "key.detach().mT")
    (folder / "theirs.py").write_text(cut)
    assert attn("gradcheck", "theirs.py").code == 1
