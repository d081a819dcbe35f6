"""Kernels in Triton and Pallas, on a machine that may have no GPU: right ones, and wrong twins."""

from pathlib import Path

import pytest
from conftest import SAMPLES, Attn

FLASH = (SAMPLES / "kernels" / "flash_triton.py").read_text()

# What is wrong, by which change, and what must be said of it.
TWINS = {
    "nothing is rescaled when the maximum moves": (
        "out * rescale[:, None] + ", "out + ", "right up to T_enc = 32",
    ),
    "the keys of an incomplete last tile are left out": (
        "seen = s < T_enc",
        "seen = (s < T_enc) & (s < tl.maximum(T_enc // TILE, 1) * TILE)",
        "right up to T_enc = 32",
    ),
    "the causal diagonal is hidden": ("(s <= t)", "(s < t)", "own"),
    "dkey is not added up over tiles": ("dkey += ", "dkey = ", "right up to T_dec = 32"),
}  # fmt: skip

PALLAS = """
import functools
import jax
import jax.numpy as jnp
from jax.experimental import pallas

def kernel(query, key, value, out, *, scale):
    scores = scale * (query[...] @ key[...].T)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    out[...] = (weights / weights.sum(-1, keepdims=True)) @ value[...]

def attention(query, key, value):
    *lead, T_dec, H = query.shape
    T_enc, H_v = value.shape[-2:]
    assert key.shape[:-2] == query.shape[:-2]
    q, k, v = (x.reshape(-1, *x.shape[-2:]) for x in (query, key, value))
    rows = lambda T, H: pallas.BlockSpec((None, T, H), lambda i: (i, 0, 0))
    out = pallas.pallas_call(
        functools.partial(kernel, scale={scale}),
        grid=(len(q),),
        in_specs=[rows(T_dec, H), rows(T_enc, H), rows(T_enc, H_v)],
        out_specs=rows(T_dec, H_v),
        out_shape=jax.ShapeDtypeStruct((len(q), T_dec, H_v), query.dtype),
        interpret=True,
    )(q, k, v)
    return out.reshape(*lead, T_dec, H_v)
"""


def test_a_right_triton_kernel_passes(attn: Attn) -> None:
    pytest.importorskip("triton")
    result = attn("check", f"{SAMPLES}/kernels/flash_triton.py:flash_attention")
    assert result.code == 0
    assert "interpret" in result.err


@pytest.mark.parametrize("kind", TWINS)
def test_a_wrong_twin_of_it_is_found(attn: Attn, folder: Path, kind: str) -> None:
    pytest.importorskip("triton")
    right, wrong, said = TWINS[kind]
    assert FLASH.count(right) == 1
    (folder / "twin.py").write_text(FLASH.replace(right, wrong))
    result = attn("check", "twin.py:flash_attention")
    assert result.code == 1
    assert said in result.out


@pytest.mark.parametrize(("scale", "code"), [("H**-0.5", 0), ("H**-0.25", 1)])
def test_forward_of_a_pallas_kernel_is_judged(
    attn: Attn, folder: Path, scale: str, code: int
) -> None:
    pytest.importorskip("jax")
    (folder / "kernel.py").write_text(PALLAS.replace("{scale}", scale))
    result = attn("check", "kernel.py:attention")
    assert result.code == code
    assert "forward is judged alone" in result.out
