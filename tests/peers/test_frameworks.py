"""Code for torch and JAX as it is: given its own arrays, its gradients by autograd and vjp."""

import json
import os
import shutil

import pytest

ATTENTION = """
import torch

def attention(query, key, value):
    scores = query @ key.mT * {scale}
    return scores.softmax(-1) @ value
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
ADDITIVE = """
import torch
from torch import nn

class AdditiveAttention(nn.Module):
    def __init__(self, num_hiddens, dropout):
        super().__init__()
        self.W_k = nn.LazyLinear(num_hiddens, bias=False)
        self.W_q = nn.LazyLinear(num_hiddens, bias=False)
        self.w_v = nn.LazyLinear(1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries, keys, values, valid_lens):
        met = self.W_q(queries).unsqueeze(2) + self.W_k(keys).unsqueeze(1)
        scores = self.w_v(torch.tanh(met)).squeeze(-1)
        if valid_lens is not None:
            past = torch.arange(scores.shape[-1]) >= {lengths}.reshape(len(scores), -1, 1)
            scores = scores.masked_fill(past, -1e6)
        return self.dropout(scores.softmax(-1)) @ values
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


def test_what_jax_compiles_is_kept_for_as_long_as_a_check_takes(judged, tmp_path, monkeypatch):
    scratch, kept = tmp_path / "scratch", []
    scratch.mkdir()

    def remove(path, *options, really=shutil.rmtree):
        kept.extend(os.listdir(path))
        really(path)

    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("shutil.rmtree", remove)
    assert judged(JAX.format(config="", jit="", scale="* query.shape[-1] ** -0.5"))["passed"]
    assert kept
    assert not os.listdir(scratch)


def test_jax_in_float64_where_the_target_says_so(judged):
    config = 'jax.config.update("jax_enable_x64", True)'
    target = judged(JAX.format(config=config, jit="", scale="* query.shape[-1] ** -0.5"))
    assert target["passed"], target
    assert "refused" not in notes(target)
    assert named(judged(JAX.format(config=config, jit="@jax.jit", scale=""))) == ["scale missing"]


def test_gradcheck_takes_what_autograd_gives(attn, folder):
    pytest.importorskip("torch")
    (folder / "theirs.py").write_text(ATTENTION.format(scale="2"))
    assert attn("gradcheck", "theirs.py").code == 0
    cut = ATTENTION.format(scale="2").replace("key.mT", "key.detach().mT")
    (folder / "theirs.py").write_text(cut)
    assert attn("gradcheck", "theirs.py").code == 1


TAKES = """
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

def attention(query, key, value):
    {line}
    return sdpa(query, key, value)
"""


@pytest.mark.parametrize(("line", "said"), [
    ("assert query.dtype == torch.float32", "every case is in float32"),
    ("assert query.dtype == torch.bfloat16", "every case is in bfloat16"),
    ("assert query.shape[-2] % 16 == 0 and key.shape[-2] % 16 == 0", "T_dec of 16, T_enc of 16"),
    ("query = query.float().to(query.dtype)", "right to float32 alone"),
])  # fmt: skip
def test_what_it_takes_is_a_note(judged, line, said):
    target = judged(TAKES.format(line=line))
    assert target["passed"], target
    assert said in notes(target)


def test_what_is_asked_for_is_no_note(judged):
    line = "query = query.float().to(query.dtype)"
    assert not judged(TAKES.format(line=line), "", "--dtype", "float64")["passed"]


@pytest.mark.parametrize(("line", "fault"), [
    ("query *= 2.0; query = query / 2", "inputs unchanged"),
    ("value = value + torch.empty_like(value)", "every element filled"),
    ("query = torch.nn.functional.dropout(query, 0.5)", "deterministic"),
])  # fmt: skip
def test_what_it_does_beside_is_found(judged, line, fault):
    assert fault in faults(judged(TAKES.format(line=line)))


def test_weights_of_a_module_are_proved_by_their_names(attn, folder):
    pytest.importorskip("torch")
    (folder / "theirs.py").write_text("""
import torch

class Attention(torch.nn.Module):
    def __init__(self, H):
        super().__init__()
        self.q, self.k = torch.nn.Linear(H, H), torch.nn.Linear(H, H)

    def forward(self, query, key, value):
        weights = (self.q(query) @ self.k(key).detach().mT).softmax(-1)
        return weights @ value
""")
    found = attn("gradcheck", "theirs.py", "--json").json["targets"][0]["checks"]
    wrong = {one["input"] for one in found if not one["passed"]}
    assert {"key", "k.weight"} <= wrong
    assert "q.weight" in {one["input"] for one in found} - wrong


@pytest.mark.parametrize("options", [[], ["--causal"]])
def test_a_function_without_python_code_is_read_from_its_documentation(options, attn):
    pytest.importorskip("torch")
    result = attn("check", "torch.nn.functional:scaled_dot_product_attention", *options)
    assert result.code == 0
    assert "checks: all hold" in result.out


@pytest.mark.parametrize("options", [[], ["--arg", "batch_first=true"]])
def test_torch_s_own_attention_is_held_against_ours_straight_from_the_module(options, attn):
    pytest.importorskip("torch")
    result = attn("check", "torch.nn:MultiheadAttention", "--json", *options)
    (report,) = json.loads(result.out)["targets"]
    assert result.code == 0
    notes = {one["name"]: one["detail"] for one in report["findings"] if one["status"] == "note"}
    assert notes["key_padding_mask"] == notes["attn_mask"] == "True hides a key"
    judged = {one["name"] for one in report["findings"] if one["status"] == "ok"}
    assert {"result", "key_padding_mask", "attn_mask"} <= judged


def test_a_whole_block_has_its_gradients_proved(attn):
    pytest.importorskip("torch")
    result = attn("check", "torch.nn:TransformerEncoderLayer")
    assert result.code == 0
    assert "forward is held against nothing, its gradients are proved" in result.out


@pytest.mark.parametrize(
    ("lengths", "status"), [("valid_lens", "ok"), ("(valid_lens + 1)", "wrong")]
)
def test_weights_made_at_the_first_call_and_values_beside_keys(attn, folder, lengths, status):
    pytest.importorskip("torch")
    (folder / "theirs.py").write_text(ADDITIVE.format(lengths=lengths))
    (report,) = attn("check", "theirs.py", "--json").json["targets"]
    assert report["layer"] == "bahdanau"
    found = {one["name"]: one["status"] for one in report["findings"]}
    assert (found["result"], found["valid_lens"]) == ("ok", status)
