"""Tensors of torch and JAX go in, and tensors of theirs come out."""

import copy
import doctest
import gc
import re
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import attncli
from attncli.errors import DataError, ParameterError

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = jax.numpy
PAGE = Path(attncli.__file__).parent / "guide" / "python.md"

SHAPES = {"query": (2, 4, 7, 5), "key": (2, 2, 11, 5), "value": (2, 2, 11, 3)}
DTYPES = ("float64", "float32", "float16", "bfloat16")


def drawn(dtype, **more):
    rng = np.random.default_rng(3)
    return {
        name: torch.tensor(rng.normal(size=shape), **more).to(getattr(torch, dtype))
        for name, shape in SHAPES.items()
    }


def as_wide(tensors):
    return [x.detach().double().numpy() for x in tensors.values()]


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_gives_torch_in_the_same_dtype(dtype):
    tensors = drawn(dtype)
    out, cache = attncli.attention(*tensors.values(), causal="lower_right")
    gradients = attncli.attention_backward(torch.ones_like(out), cache)
    expected, wide = attncli.attention(*as_wide(tensors), causal="lower_right")
    back = attncli.attention_backward(np.ones_like(expected), wide)
    weights = attncli.attention_weights(tensors["query"], tensors["key"], causal="lower_right")
    for found, right in zip(
        (out, weights, *gradients), (expected, wide.weights, *back), strict=True
    ):
        assert type(found) is torch.Tensor
        assert (found.dtype, found.device.type) == (getattr(torch, dtype), "cpu")
        near = torch.finfo(found.dtype).eps * 4
        assert np.allclose(found.double().numpy(), right, rtol=near, atol=near)
    for found in (cache.weights, cache.logsumexp):
        assert found.dtype == (torch.float64 if dtype == "float64" else torch.float32)


def test_half_precision_is_rounded_once():
    tensors = drawn("bfloat16")
    out, _ = attncli.attention(*tensors.values())
    wide, _ = attncli.attention(*(x.float() for x in tensors.values()))
    assert torch.equal(out, wide.bfloat16())


def test_different_dtypes_meet_as_numpys_do():
    tensors = drawn("bfloat16")
    out, _ = attncli.attention(tensors["query"], tensors["key"].float(), tensors["value"])
    assert out.dtype == torch.float32


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_everything_beside_may_be_a_tensor_too(engine):
    tensors = {name: x[:, :, : min(7, x.shape[2])] for name, x in drawn("float32").items()}
    beside = {
        "mask": torch.randn(7, 7).bfloat16(),
        "sinks": torch.zeros(4, requires_grad=True),
        "alibi": torch.full((4,), 0.25),
        "segments": torch.tensor([0, 0, 0, 1, 1, 1, 1]),
        "kv_lengths": torch.tensor([7, 5]),
        "keep": torch.rand(7, 7) < 0.9,
    }
    out, cache = attncli.attention(*tensors.values(), **beside, keep_prob=0.9, engine=engine)
    attncli.attention_backward(torch.ones_like(out), cache, torch.ones_like(cache.logsumexp))
    arrays = {name: x.detach().float().numpy() for name, x in beside.items()}
    whole = {name: arrays[name].astype(int) for name in ("segments", "kv_lengths")}
    expected, right = attncli.attention(
        *(x.numpy() for x in tensors.values()), **{**arrays, **whole}, keep_prob=0.9, engine=engine
    )
    attncli.attention_backward(np.ones_like(expected), right, np.ones_like(right.logsumexp))
    assert np.array_equal(out.detach().numpy(), expected)
    for name in ("dmask", "dsinks", "dalibi"):
        found = getattr(cache, name)
        assert type(found) is torch.Tensor
        assert np.array_equal(found.numpy(), getattr(right, name))


@pytest.mark.parametrize("which", [*SHAPES, "mask", "sinks"])
def test_only_torchs_own_backward_raises_and_says_what_to_call(which):
    tensors = {**drawn("float32"), "mask": torch.zeros(7, 11), "sinks": torch.zeros(4)}
    tensors[which].requires_grad_()
    out, cache = attncli.attention(**tensors)
    assert out.requires_grad
    loss = out.square().sum()
    with pytest.raises(ParameterError, match=r"attncli\.attention_backward\(dout, cache\)"):
        loss.backward()
    dquery, _, _ = attncli.attention_backward(2 * out, cache)
    assert not dquery.requires_grad
    with torch.no_grad():
        assert not attncli.attention(**tensors)[0].requires_grad


def test_gradients_are_those_of_torchs_own():
    tensors = {name: x.requires_grad_() for name, x in drawn("float64").items()}
    theirs = torch.nn.functional.scaled_dot_product_attention(*tensors.values(), enable_gqa=True)
    dout = torch.randn_like(theirs)
    theirs.backward(dout)
    _, cache = attncli.attention(*tensors.values())
    for found, x in zip(attncli.attention_backward(dout, cache), tensors.values(), strict=True):
        assert torch.allclose(found, x.grad)


def test_a_tensor_that_was_changed_in_place_is_noticed():
    tensors = drawn("float32")
    out, cache = attncli.attention(*tensors.values())
    tensors["key"] += 1
    with pytest.raises(DataError, match="key was changed in place since forward"):
        attncli.attention_backward(torch.ones_like(out), cache)


def test_a_cache_holds_nobodys_graph_and_may_be_copied():
    query = drawn("float32", requires_grad=True)["query"] * 2
    _, cache = attncli.attention(query, query, query)
    attncli.attention_backward(torch.ones(query.shape), copy.deepcopy(cache))
    held = weakref.ref(query)
    del query
    gc.collect()
    assert held() is None


def test_tensors_of_inference_mode_are_taken():
    with torch.inference_mode():
        tensors = drawn("float32")
        out, cache = attncli.attention(*tensors.values())
        attncli.attention_backward(torch.ones_like(out), cache)


def test_parameters_and_slices_are_taken():
    base = torch.nn.Parameter(torch.randn(3, 7, 10))
    query = base[..., ::2].transpose(0, 1)
    out, _ = attncli.attention(query, query, query)
    expected, _ = attncli.attention(*[query.detach().numpy()] * 3)
    assert np.allclose(out.detach().numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_jax_gives_jax_in_the_same_dtype(dtype):
    arrays = [jnp.asarray(x, dtype) for x in as_wide(drawn(dtype))]
    out, cache = attncli.attention(*arrays)
    gradients = attncli.attention_backward(jnp.ones_like(out), cache)
    turned = attncli.rotary(arrays[1][..., :4])
    for found in (out, *gradients, turned):
        assert isinstance(found, jax.Array)
        assert found.dtype == dtype
    expected, _ = attncli.attention(*map(np.float64, arrays))
    near = float(jnp.finfo(dtype).eps) * 4
    assert np.allclose(np.float64(out), expected, rtol=near, atol=near)


def test_what_jax_traces_is_refused_with_a_way_out():
    x = jnp.ones((3, 5))
    with pytest.raises(ParameterError, match=r"float32\[3,5\] is traced.*attention_backward"):
        jax.grad(lambda x: attncli.attention(x, x, x)[0].sum())(x)


def test_rotary_gives_back_what_it_is_given():
    x = torch.randn(2, 7, 4).bfloat16().requires_grad_()
    turned = attncli.rotary(x, torch.arange(7))
    assert (type(turned), turned.dtype) == (torch.Tensor, torch.bfloat16)
    with pytest.raises(ParameterError, match="attention_backward"):
        turned.sum().backward()


def test_numpys_arrays_beside_torchs_decide_by_query():
    tensors = drawn("float32")
    arrays = [x.numpy() for x in tensors.values()]
    assert type(attncli.attention(arrays[0], *list(tensors.values())[1:])[0]) is np.ndarray
    assert type(attncli.attention(tensors["query"], *arrays[1:])[0]) is torch.Tensor


def test_neither_is_imported_by_us():
    code = (
        "import attncli, sys; x = [[1.0, 2.0]]; out, cache = attncli.attention(x, x, x); "
        "attncli.attention_backward(out, cache); attncli.compare(out, out); "
        "sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_whatever_speaks_dlpack_is_taken():
    class Alone:
        def __init__(self, tensor):
            self.__dlpack__, self.__dlpack_device__ = tensor.__dlpack__, tensor.__dlpack_device__

    x = torch.randn(3, 5)
    out, _ = attncli.attention(Alone(x), Alone(x), x.numpy())
    assert np.array_equal(out, attncli.attention(*[x.numpy()] * 3)[0])


@pytest.mark.parametrize("make", [torch.tensor, jnp.asarray])
def test_tensors_are_compared_at_the_tolerance_of_their_own_dtype(make):
    a, b = make([1.0, 2.0]), make([1.0, 2.015])
    half = "bfloat16" if make is jnp.asarray else torch.bfloat16
    near = attncli.compare(make([1.0, 2.0], dtype=half), make([1.0, 2.015], dtype=half))
    assert near
    assert near.tensors[0].dtypes == ("bfloat16", "bfloat16")
    assert not attncli.compare(a, b)
    attncli.assert_close((a, b), (a, b))
    with pytest.raises(AssertionError, match=r"\[1\]: 1 of 2 elements"):
        attncli.assert_close((a, a), (a, b))


def test_what_the_guide_says_of_tensors_is_so():
    blocks = re.findall(r"^```pycon\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    blocks = [block for block in blocks if "torch" in block]
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    said = list[str]()
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("make", [torch.tensor, jnp.asarray])
def test_a_convention_is_read_from_tensors_at_their_precision(make):
    half = torch.bfloat16 if make is torch.tensor else "bfloat16"
    tensors = {
        name: make(x, dtype=half) for name, x in zip("qkv", as_wide(drawn("float32")), strict=True)
    }
    out, _ = attncli.attention(*tensors.values(), scale=0.25)
    report = attncli.convention(**tensors, out=out)
    assert report
    assert report.dtype == "bfloat16"
    assert not attncli.convention(**tensors, out=out * out)


def test_a_function_at_hand_is_checked_as_one_in_a_file_is():
    def attend(query, key, value):
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return torch.softmax(scores, -1) @ value

    attncli.assert_correct(attend)
    with pytest.raises(AssertionError, match="likely scale"):
        attncli.assert_correct(attend, scale=1.0)
