"""Flash attention in Triton, forward and backward, over tiles of 32 queries by 32 keys."""

import torch
import triton
import triton.language as tl

TILE = 32


@triton.jit
def load(pointer, start, T, H, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Rows start … start + TILE of a (T, H) matrix, in float32; zeros beyond its edges."""
    t, h = start + tl.arange(0, TILE)[:, None], tl.arange(0, WIDTH)[None, :]
    return tl.load(pointer + t * H + h, mask=(t < T) & (h < H), other=0.0).to(tl.float32)


@triton.jit
def store(pointer, start, T, H, tile, TILE: tl.constexpr, WIDTH: tl.constexpr):
    t, h = start + tl.arange(0, TILE)[:, None], tl.arange(0, WIDTH)[None, :]
    tl.store(pointer + t * H + h, tile.to(pointer.dtype.element_ty), mask=(t < T) & (h < H))


@triton.jit
def tile_of_scores(query, key, i, j, T_enc, scale, CAUSAL: tl.constexpr, TILE: tl.constexpr):
    scores = scale * tl.dot(query, tl.trans(key), input_precision="ieee")
    t, s = i + tl.arange(0, TILE)[:, None], j + tl.arange(0, TILE)[None, :]
    seen = s < T_enc
    if CAUSAL:
        seen = seen & (s <= t)
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def forward_kernel(
    query_ptr, key_ptr, value_ptr, out_ptr, logsumexp_ptr, T_dec, T_enc, H, H_v, scale,
    CAUSAL: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
):  # fmt: skip
    """One tile of queries, over all tiles of keys."""
    i, head = tl.program_id(0) * TILE, tl.program_id(1)
    query = load(query_ptr + head * T_dec * H, i, T_dec, H, TILE, WIDTH)
    maximum = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    out = tl.zeros((TILE, WIDTH_V), tl.float32)
    for j in range(0, T_enc, TILE):
        key = load(key_ptr + head * T_enc * H, j, T_enc, H, TILE, WIDTH)
        value = load(value_ptr + head * T_enc * H_v, j, T_enc, H_v, TILE, WIDTH_V)
        scores = tile_of_scores(query, key, i, j, T_enc, scale, CAUSAL, TILE)
        higher = tl.maximum(maximum, tl.max(scores, 1))
        rescale = tl.exp(maximum - higher)
        weights = tl.exp(scores - higher[:, None])
        total = total * rescale + tl.sum(weights, 1)
        out = out * rescale[:, None] + tl.dot(weights, value, input_precision="ieee")
        maximum = higher
    store(out_ptr + head * T_dec * H_v, i, T_dec, H_v, out / total[:, None], TILE, WIDTH_V)
    t = i + tl.arange(0, TILE)
    tl.store(logsumexp_ptr + head * T_dec + t, maximum + tl.log(total), mask=t < T_dec)


@triton.jit
def dscores_of(
    query, key, value, dout, logsumexp, delta, i, j, T_enc, scale,
    CAUSAL: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The weights of a tile, and the gradient of its scores."""
    scores = tile_of_scores(query, key, i, j, T_enc, scale, CAUSAL, TILE)
    weights = tl.exp(scores - logsumexp[:, None])
    dweights = tl.dot(dout, tl.trans(value), input_precision="ieee")
    return weights, weights * (dweights - delta[:, None])


@triton.jit
def dquery_kernel(
    query_ptr, key_ptr, value_ptr, dout_ptr, logsumexp_ptr, delta_ptr, dquery_ptr,
    T_dec, T_enc, H, H_v, scale,
    CAUSAL: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
):  # fmt: skip
    i, head = tl.program_id(0) * TILE, tl.program_id(1)
    query = load(query_ptr + head * T_dec * H, i, T_dec, H, TILE, WIDTH)
    dout = load(dout_ptr + head * T_dec * H_v, i, T_dec, H_v, TILE, WIDTH_V)
    t = i + tl.arange(0, TILE)
    logsumexp = tl.load(logsumexp_ptr + head * T_dec + t, mask=t < T_dec, other=0.0)
    delta = tl.load(delta_ptr + head * T_dec + t, mask=t < T_dec, other=0.0)
    dquery = tl.zeros((TILE, WIDTH), tl.float32)
    for j in range(0, T_enc, TILE):
        key = load(key_ptr + head * T_enc * H, j, T_enc, H, TILE, WIDTH)
        value = load(value_ptr + head * T_enc * H_v, j, T_enc, H_v, TILE, WIDTH_V)
        _, dscores = dscores_of(
            query, key, value, dout, logsumexp, delta, i, j, T_enc, scale, CAUSAL, TILE
        )
        dquery += scale * tl.dot(dscores, key, input_precision="ieee")
    store(dquery_ptr + head * T_dec * H, i, T_dec, H, dquery, TILE, WIDTH)


@triton.jit
def dkey_dvalue_kernel(
    query_ptr, key_ptr, value_ptr, dout_ptr, logsumexp_ptr, delta_ptr, dkey_ptr, dvalue_ptr,
    T_dec, T_enc, H, H_v, scale,
    CAUSAL: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
):  # fmt: skip
    """One tile of keys, over all tiles of queries."""
    j, head = tl.program_id(0) * TILE, tl.program_id(1)
    key = load(key_ptr + head * T_enc * H, j, T_enc, H, TILE, WIDTH)
    value = load(value_ptr + head * T_enc * H_v, j, T_enc, H_v, TILE, WIDTH_V)
    dkey = tl.zeros((TILE, WIDTH), tl.float32)
    dvalue = tl.zeros((TILE, WIDTH_V), tl.float32)
    for i in range(0, T_dec, TILE):
        query = load(query_ptr + head * T_dec * H, i, T_dec, H, TILE, WIDTH)
        dout = load(dout_ptr + head * T_dec * H_v, i, T_dec, H_v, TILE, WIDTH_V)
        t = i + tl.arange(0, TILE)
        logsumexp = tl.load(logsumexp_ptr + head * T_dec + t, mask=t < T_dec, other=float("inf"))
        delta = tl.load(delta_ptr + head * T_dec + t, mask=t < T_dec, other=0.0)
        weights, dscores = dscores_of(
            query, key, value, dout, logsumexp, delta, i, j, T_enc, scale, CAUSAL, TILE
        )
        dvalue += tl.dot(tl.trans(weights), dout, input_precision="ieee")
        dkey += scale * tl.dot(tl.trans(dscores), query, input_precision="ieee")
    store(dkey_ptr + head * T_enc * H, j, T_enc, H, dkey, TILE, WIDTH)
    store(dvalue_ptr + head * T_enc * H_v, j, T_enc, H_v, dvalue, TILE, WIDTH_V)


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, causal=False, scale=None):
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        *lead, T_dec, H = query.shape
        T_enc, H_v = value.shape[-2:]
        if key.shape != (*lead, T_enc, H) or value.shape != (*lead, T_enc, H_v):
            raise ValueError(f"{query.shape}, {key.shape}, {value.shape} do not go together")
        scale = H**-0.5 if scale is None else scale
        heads = query.numel() // (T_dec * H)
        out = query.new_empty(*lead, T_dec, H_v)
        logsumexp = torch.empty(*lead, T_dec, dtype=torch.float32, device=query.device)
        sizes = (T_dec, T_enc, H, H_v, scale)
        compiled = {
            "CAUSAL": causal,
            "TILE": TILE,
            "WIDTH": max(16, triton.next_power_of_2(H)),
            "WIDTH_V": max(16, triton.next_power_of_2(H_v)),
        }
        forward_kernel[(triton.cdiv(T_dec, TILE), heads)](
            query, key, value, out, logsumexp, *sizes, **compiled
        )
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.heads, ctx.sizes, ctx.compiled = heads, sizes, compiled
        return out

    @staticmethod
    def backward(ctx, dout):
        query, key, value, out, logsumexp = ctx.saved_tensors
        T_dec, T_enc = ctx.sizes[:2]
        dout = dout.contiguous()
        delta = (dout * out).sum(-1, dtype=torch.float32)
        inputs = (query, key, value, dout, logsumexp, delta)
        dquery, dkey, dvalue = (torch.empty_like(x) for x in (query, key, value))
        dquery_kernel[(triton.cdiv(T_dec, TILE), ctx.heads)](
            *inputs, dquery, *ctx.sizes, **ctx.compiled
        )
        dkey_dvalue_kernel[(triton.cdiv(T_enc, TILE), ctx.heads)](
            *inputs, dkey, dvalue, *ctx.sizes, **ctx.compiled
        )
        return dquery, dkey, dvalue, None, None


def flash_attention(query, key, value, causal=False, scale=None):
    """Attention of (…, T, H) tensors."""
    return FlashAttention.apply(query, key, value, causal, scale)
