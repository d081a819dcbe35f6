"""The layers with weights of their own, held against formulas that use none of their code."""

import array_api_strict
import numpy as np
import pytest

from attncli.layers import (
    BahdanauAttention,
    LuongAttention,
    MultiHeadAttention,
    TimeAttention,
)

# A prime for every axis, but what the heads share: a swapped one cannot pass.
N, T_ENC, T_DEC, H, H_DEC, A = 2, 7, 5, 3, 11, 13
HEADS, D, D_V, H_OUT = 2, 34, 38, 23

INPUTS = {
    LuongAttention: [(N, T_ENC, H), (N, T_DEC, H_DEC)],
    BahdanauAttention: [(N, T_ENC, H), (N, T_DEC, H_DEC)],
    MultiHeadAttention: [(N, T_DEC, H), (N, T_ENC, 17), (N, T_ENC, 19)],
}
PARAMETERS = {
    LuongAttention: [(H_DEC, H)],
    BahdanauAttention: [(H, A), (H_DEC, A), (A,)],
    MultiHeadAttention: [(H, D), (17, D), (19, D_V), (D_V, H_OUT)],
}
LAYERS = list(INPUTS)
WEIGHTS = {
    LuongAttention: (N, T_DEC, T_ENC),
    BahdanauAttention: (N, T_DEC, T_ENC),
    MultiHeadAttention: (N, HEADS, T_DEC, T_ENC),
}
TOLERANCE = {np.float32: 5e-5, np.float64: 1e-13, np.longdouble: 1e-13}


def draw(layer, dtype=np.float64):
    rng = np.random.default_rng(0)
    return (
        [rng.normal(size=shape).astype(dtype) for shape in INPUTS[layer]],
        [(rng.normal(size=shape) / 2).astype(dtype) for shape in PARAMETERS[layer]],
    )


def made(layer, parameters):
    return layer(*parameters, *([HEADS] if layer is MultiHeadAttention else []))


def both(layer, inputs, parameters, **options):
    """Run forward and backward; return the instance, the result, dout and all gradients."""
    one = made(layer, parameters)
    out = one.forward(*inputs, **options)
    dout = np.random.default_rng(1).normal(size=out.shape).astype(out.dtype)
    return one, out, dout, [*one.backward(dout), *one.grads]


def split(x):
    """(N, T, D) to (N, T, heads, D / heads)."""
    return x.reshape(*x.shape[:2], HEADS, -1)


def formula(layer, inputs, parameters, mask=None):
    """Return the result and the weights: einsum on whole arrays."""
    if layer is LuongAttention:
        (hs_enc, hs_dec), (W,) = inputs, parameters
        scores = np.einsum("nqi,ij,nkj->nqk", hs_dec, W, hs_enc)
    elif layer is BahdanauAttention:
        (hs_enc, hs_dec), (W_enc, W_dec, v) = inputs, parameters
        enc, dec = np.einsum("nki,ia->nka", hs_enc, W_enc), np.einsum("nqi,ia->nqa", hs_dec, W_dec)
        scores = np.einsum("a,nqka->nqk", v, np.tanh(enc[:, None] + dec[:, :, None]))
    else:
        (query, key, value), (Wq, Wk, Wv, Wo) = inputs, parameters
        q, k, v = (split(x @ W) for x, W in ((query, Wq), (key, Wk), (value, Wv)))
        scores = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(np.asarray(D // HEADS, q.real.dtype))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    exps = np.exp(scores - scores.real.max(axis=-1, keepdims=True))
    weights = exps / exps.sum(axis=-1, keepdims=True)
    if layer is MultiHeadAttention:
        found = np.einsum("nhqk,nkhd->nqhd", weights, v)
        return found.reshape(*found.shape[:2], -1) @ Wo, weights
    return np.einsum("nqk,nkh->nqh", weights, hs_enc), weights


def derivatives(layer, inputs, parameters, dout, mask=None):
    """Return the gradient of every input and parameter, by the formula's complex step."""
    arrays = [*inputs, *parameters]
    found = []
    for which, array in enumerate(arrays):
        gradient = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = [x.astype(complex) if i == which else x for i, x in enumerate(arrays)]
            moved[which][index] += 1e-150j
            out, _ = formula(layer, moved[: len(inputs)], moved[len(inputs) :], mask)
            gradient[index] = np.vdot(dout, out.imag) / 1e-150
        found.append(gradient)
    return found


@pytest.fixture
def mask():
    mask = np.random.default_rng(7).random((N, 1, T_DEC, T_ENC)) > 0.4
    mask[..., 0] = True  # no row is empty, unless a test says so
    return mask


def of(layer, mask):
    """The mask in the axes that a layer takes it in."""
    return mask if layer is MultiHeadAttention else mask[:, 0]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_its_formula(layer, dtype):
    inputs, parameters = draw(layer, dtype)
    one, out, _, gradients = both(layer, inputs, parameters)
    wide = [[x.astype(np.longdouble) for x in arrays] for arrays in (inputs, parameters)]
    expected, weights = formula(layer, *wide)
    assert out.dtype == one.attention_weight.dtype == dtype
    assert one.attention_weight.shape == WEIGHTS[layer]
    np.testing.assert_allclose(out, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(one.attention_weight, weights, atol=TOLERANCE[dtype])
    assert [(x.shape, x.dtype) for x in gradients] == [
        (x.shape, dtype) for x in [*inputs, *parameters]
    ]


@pytest.mark.parametrize("masked", ["no mask", "boolean", "floating"])
@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_are_derivatives_of_the_formula(layer, masked, mask):
    inputs, parameters = draw(layer)
    given = {
        "no mask": None,
        "boolean": of(layer, mask),
        "floating": np.where(mask, np.random.default_rng(3).normal(size=mask.shape), -np.inf),
    }[masked]
    given = of(layer, given) if masked == "floating" else given
    options = {} if given is None else {"mask": given}
    _, out, dout, gradients = both(layer, inputs, parameters, **options)
    np.testing.assert_allclose(out, formula(layer, inputs, parameters, given)[0], atol=1e-13)
    expected = derivatives(layer, inputs, parameters, dout, given)
    for got, want in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_takes_complex_inputs_and_parameters(layer):
    """What a complex-step derivative needs: its own code survives it."""
    inputs, parameters = draw(layer)
    expected = made(layer, parameters).forward(*inputs)
    complex_ones = [[x + 0j for x in arrays] for arrays in (inputs, parameters)]
    out = made(layer, complex_ones[1]).forward(*complex_ones[0])
    assert out.dtype == complex
    np.testing.assert_allclose(out.real, expected, atol=1e-13)


def test_luong_with_the_unit_matrix_is_the_books_attention():
    rng = np.random.default_rng(0)
    hs_enc, hs_dec = rng.normal(size=(N, T_ENC, H)), rng.normal(size=(N, T_DEC, H))
    one, book = LuongAttention(np.eye(H)), TimeAttention()
    np.testing.assert_array_equal(one.forward(hs_enc, hs_dec), book.forward(hs_enc, hs_dec))


# Parameters: the arrays themselves


@pytest.mark.parametrize("layer", LAYERS)
def test_params_are_the_arrays_that_were_given_and_grads_are_written_in_place(layer):
    inputs, parameters = draw(layer)
    one = made(layer, parameters)
    params, grads = one.params, one.grads
    held = [*params, *grads]
    assert all(x is y for x, y in zip(params, parameters, strict=True))
    assert all((x == 0).all() for x in grads)
    out = one.forward(*inputs)
    one.backward(np.ones_like(out))
    first = [x.copy() for x in grads]
    assert all(x.any() for x in first)
    one.forward(*inputs)
    one.backward(np.ones_like(out))
    assert one.params is params
    assert one.grads is grads
    assert all(x is y for x, y in zip([*one.params, *one.grads], held, strict=True))
    for x, y in zip(grads, first, strict=True):  # written, not added to
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("layer", LAYERS)
def test_what_an_optimizer_writes_counts_at_the_next_forward(layer):
    inputs, parameters = draw(layer)
    one = made(layer, parameters)

    def loss():
        return (one.forward(*inputs) ** 2).sum()

    before = loss()
    one.backward(2 * one.forward(*inputs))
    for param, grad in zip(one.params, one.grads, strict=True):  # as the book's SGD does
        param -= 1e-6 * grad
    assert loss() < before


def test_whole_numbers_become_floating_parameters():
    one = LuongAttention(np.ones((2, 3), int))
    one.forward(np.ones((1, 4, 3)), np.full((1, 5, 2), 0.5))
    assert [x.dtype for x in (*one.params, *one.grads)] == [np.float64] * 2


@pytest.mark.parametrize("layer", LAYERS)
def test_inputs_and_dout_are_left_alone(layer, mask):
    inputs, parameters = draw(layer)
    mask = of(layer, mask)
    dout = np.ones_like(made(layer, parameters).forward(*inputs))
    kept = [x.copy() for x in (*inputs, *parameters, mask, dout)]
    one = made(layer, parameters)
    one.forward(*inputs, mask=mask)
    one.backward(dout)
    for array, copy in zip((*inputs, *parameters, mask, dout), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("layer", LAYERS)
def test_backward_before_forward_says_so(layer):
    with pytest.raises(RuntimeError, match="call forward first"):
        made(layer, draw(layer)[1]).backward(np.zeros((1, 1, 1)))


# The array API standard


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_only_the_array_api_standard_is_used(layer, masked, mask):
    inputs, parameters = draw(layer)
    options = {"mask": of(layer, mask)} if masked else {}
    if masked and layer is MultiHeadAttention:
        options["causal"] = True
    one, out, dout, gradients = both(layer, inputs, parameters, **options)

    as_strict = array_api_strict.asarray
    strict = made(layer, [as_strict(x) for x in parameters])
    strict_options = {x: y if y is True else as_strict(y) for x, y in options.items()}
    strict_out = strict.forward(*map(as_strict, inputs), **strict_options)
    strict_gradients = [*strict.backward(as_strict(dout)), *strict.grads]
    assert strict_out.__array_namespace__() is array_api_strict
    np.testing.assert_allclose(np.asarray(strict_out), out, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(strict.attention_weight), one.attention_weight)
    for got, want in zip(strict_gradients, gradients, strict=True):
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-13, atol=1e-14)


# Masks


@pytest.mark.parametrize("layer", LAYERS)
def test_floating_mask_of_zero_and_minus_infinity_is_the_boolean_mask(layer, mask):
    arrays, given = draw(layer), of(layer, mask)
    _, out, _, gradients = both(layer, *arrays, mask=given)
    _, added, _, added_gradients = both(layer, *arrays, mask=np.where(given, 0.0, -np.inf))
    np.testing.assert_array_equal(out, added)
    for got, want in zip(added_gradients, gradients, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", ["boolean", "floating"])
@pytest.mark.parametrize("layer", LAYERS)
def test_fully_masked_row_gives_zero_everywhere(layer, kind, mask):
    mask[1, 0, 2] = False
    mask[..., 3] = False  # and one key that nobody sees
    given = of(layer, mask if kind == "boolean" else np.where(mask, 0.0, -np.inf))
    inputs, parameters = draw(layer)
    one = made(layer, parameters)
    out = one.forward(*inputs, mask=given)
    gradients = [*one.backward(np.ones_like(out)), *one.grads]
    assert (out[1, 2] == 0).all()
    assert (one.attention_weight[1, ..., 2, :] == 0).all()
    dquery, *dkeys = gradients[:3] if layer is MultiHeadAttention else gradients[1::-1]
    assert (dquery[1, 2] == 0).all()
    assert all((dkey[:, 3] == 0).all() for dkey in dkeys)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["boolean", "floating"])
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_nobody_sees_does_not_leak(layer, junk, kind, mask):
    mask[..., 3] = False
    given = of(layer, mask if kind == "boolean" else np.where(mask, 0.5, -np.inf))
    inputs, parameters = draw(layer)
    _, clean, _, clean_gradients = both(layer, inputs, parameters, mask=given)
    for x in inputs[1:] if layer is MultiHeadAttention else inputs[:1]:
        x[:, 3] = junk
    _, dirty, _, gradients = both(layer, inputs, parameters, mask=given)
    np.testing.assert_array_equal(dirty, clean)
    for got, want in zip(gradients, clean_gradients, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("layer", LAYERS)
def test_what_one_step_does_not_see_reaches_the_others_alone(layer, mask):
    mask[:, :, :2, 3], mask[:, :, 2:, 3] = False, True
    inputs, parameters = draw(layer)
    for x in inputs[1:] if layer is MultiHeadAttention else inputs[:1]:
        x[:, 3] = np.nan
    _, out, _, gradients = both(layer, inputs, parameters, mask=of(layer, mask))
    assert np.isfinite(out[:, :2]).all()
    assert np.isnan(out[:, 2:]).all()
    dquery = gradients[0 if layer is MultiHeadAttention else 1]
    assert np.isfinite(dquery[:, :2]).all()
    assert np.isnan(dquery[:, 2:]).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_mask_broadcasts(layer):
    inputs, parameters = draw(layer)
    mask = np.random.default_rng(1).random((T_DEC, T_ENC)) > 0.3
    full = np.broadcast_to(mask, WEIGHTS[layer])
    np.testing.assert_array_equal(
        made(layer, parameters).forward(*inputs, mask=mask),
        made(layer, parameters).forward(*inputs, mask=full),
    )


# Several heads


def test_each_head_may_have_a_mask_of_its_own():
    inputs, parameters = draw(MultiHeadAttention)
    mask = np.random.default_rng(1).random((1, HEADS, T_DEC, T_ENC)) > 0.4
    mask[..., 0] = True
    one, out, _, _ = both(MultiHeadAttention, inputs, parameters, mask=mask)
    np.testing.assert_allclose(
        out, formula(MultiHeadAttention, inputs, parameters, mask)[0], atol=1e-13
    )
    np.testing.assert_array_equal(
        one.attention_weight == 0, ~np.broadcast_to(mask, WEIGHTS[MultiHeadAttention])
    )


@pytest.mark.parametrize("kind", ["none", "boolean", "floating"])
def test_causal_hides_later_keys_beside_any_mask(kind, mask):
    inputs, parameters = draw(MultiHeadAttention)
    added = np.random.default_rng(2).normal(size=(T_DEC, T_ENC))
    given = {"none": None, "boolean": mask, "floating": added}[kind]
    lower = np.tri(T_DEC, T_ENC, dtype=bool)
    whole = {
        "none": lower,
        "boolean": mask & lower,
        "floating": np.where(lower, added, -np.inf),
    }[kind]
    _, out, _, gradients = both(MultiHeadAttention, inputs, parameters, mask=given, causal=True)
    _, expected, _, wanted = both(MultiHeadAttention, inputs, parameters, mask=whole)
    np.testing.assert_array_equal(out, expected)
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_inputs_that_are_left_out_are_those_before():
    """Their gradients are then sums: what was used several times gets several."""
    rng = np.random.default_rng(5)
    x, memory = rng.normal(size=(N, T_DEC, H)), rng.normal(size=(N, T_ENC, H))
    parameters = [rng.normal(size=shape) for shape in [(H, D)] * 3 + [(D, H)]]

    def results(*inputs):
        one = made(MultiHeadAttention, parameters)
        out = one.forward(*inputs)
        gradients = one.backward(np.ones_like(out))
        return out, gradients, one.grads

    out, (dquery, dkey, dvalue), grads = results(x, memory, memory)
    crossed, (dx, dmemory), crossed_grads = results(x, memory)
    np.testing.assert_array_equal(crossed, out)
    np.testing.assert_array_equal(dx, dquery)
    np.testing.assert_allclose(dmemory, dkey + dvalue, rtol=1e-12, atol=1e-12)
    for got, want in zip(crossed_grads, grads, strict=True):
        np.testing.assert_array_equal(got, want)

    out, gradients, grads = results(x, x, x)
    alone, dx, alone_grads = results(x)
    np.testing.assert_array_equal(alone, out)
    np.testing.assert_allclose(dx, sum(gradients), rtol=1e-12, atol=1e-12)
    for got, want in zip(alone_grads, grads, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("heads", [0, -2, 3])
def test_heads_that_cannot_share_the_features_are_refused(heads):
    with pytest.raises(ValueError, match=rf"\(3, 34\).*cannot be split into {heads} heads"):
        MultiHeadAttention(*draw(MultiHeadAttention)[1], heads)


# Peers


def both_of_torch(torch, function, arrays, dout):
    """Return the result, and the gradient of each array, by torch's autograd."""
    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
    out = function(*leaves)
    out.backward(torch.tensor(dout))
    return out.detach().numpy(), [x.grad.numpy() for x in leaves]


@pytest.mark.parametrize("layer", [LuongAttention, BahdanauAttention])
def test_torchs_autograd_agrees(layer):
    torch = pytest.importorskip("torch")
    inputs, parameters = draw(layer)
    _, out, dout, gradients = both(layer, inputs, parameters)

    def luong(hs_enc, hs_dec, W):
        weights = torch.softmax(hs_dec @ W @ hs_enc.mT, dim=-1)
        return weights @ hs_enc

    def bahdanau(hs_enc, hs_dec, W_enc, W_dec, v):
        met = torch.tanh((hs_enc @ W_enc)[:, None] + (hs_dec @ W_dec)[:, :, None])
        return torch.softmax(met @ v, dim=-1) @ hs_enc

    function = luong if layer is LuongAttention else bahdanau
    theirs, wanted = both_of_torch(torch, function, [*inputs, *parameters], dout)
    np.testing.assert_allclose(out, theirs, rtol=1e-12, atol=1e-13)
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", ["cross", "self", "masked", "causal"])
def test_torchs_multihead_attention_agrees(case):
    """Its weights are transposed, lie in one array, and True in its mask is hidden."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    size = 22
    T_enc = T_DEC if case in ("self", "causal") else T_ENC
    query = rng.normal(size=(N, T_DEC, size))
    key = query if case == "self" else rng.normal(size=(N, T_enc, size))
    parameters = [rng.normal(size=(size, size)) / 2 for _ in range(4)]
    mask = rng.random((T_DEC, T_enc)) > 0.4
    mask[:, 0] = True

    one = MultiHeadAttention(*parameters, HEADS)
    options = {"masked": {"mask": mask}, "causal": {"causal": True}}.get(case, {})
    out = one.forward(*([query] if case == "self" else [query, key]), **options)
    dout = rng.normal(size=out.shape)
    gradients = one.backward(dout)

    theirs = torch.nn.MultiheadAttention(size, HEADS, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.tensor(np.concatenate([W.T for W in parameters[:3]])))
        theirs.out_proj.weight.copy_(torch.tensor(parameters[3].T))
    hidden = {"masked": ~mask, "causal": ~np.tri(T_DEC, dtype=bool)}.get(case)
    given = {} if hidden is None else {"attn_mask": torch.tensor(hidden)}
    q = torch.tensor(query, requires_grad=True)
    k = q if case == "self" else torch.tensor(key, requires_grad=True)
    expected, weights = theirs(q, k, k, average_attn_weights=False, **given)
    expected.backward(torch.tensor(dout))

    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(one.attention_weight, weights.detach().numpy(), atol=1e-13)
    wanted = [q.grad] if case == "self" else [q.grad, k.grad]
    given = [gradients] if case == "self" else gradients
    dW = theirs.in_proj_weight.grad.numpy().reshape(3, size, size)
    for got, want in zip(
        [*given, *one.grads],
        [*wanted, *(x.T for x in dW), theirs.out_proj.weight.grad.numpy().T],
        strict=True,
    ):
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-10, atol=1e-11)
