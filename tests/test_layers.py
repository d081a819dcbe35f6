"""The book's layers, proven without their own code."""

import array_api_strict
import numpy as np
import pytest

from attncli.layers import Attention, AttentionWeight, Softmax, TimeAttention, WeightSum

N, T_ENC, T_DEC, H = 2, 7, 5, 3  # a prime for every axis: a swapped one cannot pass

SHAPES = {
    Softmax: [(N, T_DEC, T_ENC)],
    WeightSum: [(N, T_ENC, H), (N, T_ENC)],
    AttentionWeight: [(N, T_ENC, H), (N, H)],
    Attention: [(N, T_ENC, H), (N, H)],
    TimeAttention: [(N, T_ENC, H), (N, T_DEC, H)],
}
LAYERS = list(SHAPES)
# The largest error of a gradient or result of numbers of about 1, by dtype.
TOLERANCE = {np.float32: 2e-6, np.float64: 4e-15, np.longdouble: 4e-15}


def draw(layer, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in SHAPES[layer]]


def both(layer, inputs, mask=None, seed=1):
    """Run forward and backward; return the result, dout and the gradients."""
    instance = layer()
    out = instance.forward(*inputs, *([] if mask is None else [mask]))
    dout = np.random.default_rng(seed).normal(size=out.shape).astype(out.dtype)
    gradients = instance.backward(dout)
    return out, dout, gradients if isinstance(gradients, tuple) else (gradients,)


# The formulas of the design, evaluated in long double on whole arrays, with no layer's code.


def softmax(scores):
    scores = np.asarray(scores, np.longdouble)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def formula(layer, inputs, dout):
    """Return the result and the gradients."""
    arrays = [np.asarray(x, np.longdouble) for x in inputs]
    dout = np.asarray(dout, np.longdouble)
    if layer is Softmax:
        weights = softmax(arrays[0])
        return weights, (dscores_of(weights, dout),)
    if layer is WeightSum:
        hs, a = arrays
        out = np.einsum("nt,nth->nh", a, hs)
        return out, (np.einsum("nt,nh->nth", a, dout), np.einsum("nh,nth->nt", dout, hs))
    hs, queries = arrays
    single = layer is not TimeAttention
    queries = queries[:, None] if single else queries
    weights = softmax(np.einsum("nqh,nth->nqt", queries, hs))
    if layer is AttentionWeight:
        dweights, dvalue = dout[:, None], 0
        out = weights
    else:
        dout = dout[:, None] if single else dout
        out = np.einsum("nqt,nth->nqh", weights, hs)
        dvalue = np.einsum("nqt,nqh->nth", weights, dout)
        dweights = np.einsum("nqh,nth->nqt", dout, hs)
    dscores = dscores_of(weights, dweights)
    dkey = np.einsum("nqt,nqh->nth", dscores, queries)
    dquery = np.einsum("nqt,nth->nqh", dscores, hs)
    return (out[:, 0] if single else out), (
        dkey + dvalue,
        dquery[:, 0] if single else dquery,
    )


def dscores_of(weights, dweights):
    return weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_its_formula(layer, dtype):
    inputs = draw(layer, dtype=dtype)
    out, dout, gradients = both(layer, inputs)
    expected, expected_gradients = formula(layer, inputs, dout)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=0, atol=TOLERANCE[dtype])
    for got, want in zip(gradients, expected_gradients, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_is_the_complex_step_derivative(layer):
    inputs = draw(layer)
    _, dout, gradients = both(layer, inputs)
    step = 1e-150
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(inputs[which].shape):
            moved = [x.astype(complex) for x in inputs]
            moved[which][index] += 1j * step
            derivative = np.vdot(dout, layer().forward(*moved).imag) / step
            assert gradient[index] == pytest.approx(derivative, rel=1e-12, abs=1e-15)


def test_time_attention_worked_by_hand():
    """Scores ln 1, ln 3 and ln 1, ln 1: the weights are 1/4, 3/4 and 1/2, 1/2."""
    hs_enc = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    hs_dec = np.array([[[0.0, np.log(3)], [0.0, 0.0]]])
    layer = TimeAttention()
    out = layer.forward(hs_enc, hs_dec)
    np.testing.assert_allclose(np.array(layer.attention_weights), [[[1 / 4, 3 / 4]], [[1 / 2] * 2]])
    # hs_enc is the unit matrix, so out = weights.
    np.testing.assert_allclose(out, [[[1 / 4, 3 / 4], [1 / 2, 1 / 2]]])

    # dout = (1, 0) at the first step and (0, 2) at the second:
    #   dweights = dout · hs_encᵀ = dout
    #   dscores  = weights ⊙ (dweights − Σ weights ⊙ dweights)
    #            = (1/4·(1 − 1/4), 3/4·(0 − 1/4)) = (3/16, −3/16)
    #            = (1/2·(0 − 1),   1/2·(2 − 1))   = (−1/2,  1/2)
    #   dhs_dec  = dscores · hs_enc = dscores
    #   dhs_enc  = weightsᵀ · dout + dscoresᵀ · hs_dec
    #     row 0:  (1/4·1, 1/2·2) + (0,  3/16·ln 3) = (1/4, 1 + 3/16·ln 3)
    #     row 1:  (3/4·1, 1/2·2) + (0, −3/16·ln 3) = (3/4, 1 − 3/16·ln 3)
    dhs_enc, dhs_dec = layer.backward(np.array([[[1.0, 0.0], [0.0, 2.0]]]))
    np.testing.assert_allclose(dhs_dec, [[[3 / 16, -3 / 16], [-1 / 2, 1 / 2]]])
    path = 3 / 16 * np.log(3)
    np.testing.assert_allclose(dhs_enc, [[[1 / 4, 1 + path], [3 / 4, 1 - path]]])


def test_weight_sum_worked_by_hand():
    hs, a = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[0.5, 2.0]])
    layer = WeightSum()
    assert layer.forward(hs, a).tolist() == [[0.5 + 6.0, 1.0 + 8.0]]
    dhs, da = layer.backward(np.array([[1.0, -1.0]]))
    assert dhs.tolist() == [[[0.5, -0.5], [2.0, -2.0]]]
    assert da.tolist() == [[1.0 - 2.0, 3.0 - 4.0]]


MASKED = [AttentionWeight, Attention, TimeAttention]


@pytest.mark.parametrize(
    ("layer", "masked"), [(layer, False) for layer in LAYERS] + [(layer, True) for layer in MASKED]
)
def test_only_the_array_api_standard_is_used(layer, masked):
    inputs = draw(layer)
    shape = (N, T_DEC, T_ENC) if layer is TimeAttention else (N, T_ENC)
    mask = np.random.default_rng(3).random(shape) > 0.4 if masked else None
    out, dout, gradients = both(layer, inputs, mask)

    strict = layer()
    more = [] if mask is None else [array_api_strict.asarray(mask)]
    strict_out = strict.forward(*map(array_api_strict.asarray, inputs), *more)
    strict_gradients = strict.backward(array_api_strict.asarray(dout))
    if not isinstance(strict_gradients, tuple):
        strict_gradients = (strict_gradients,)
    assert strict_out.__array_namespace__() is array_api_strict
    np.testing.assert_array_equal(np.asarray(strict_out), out)
    for got, want in zip(strict_gradients, gradients, strict=True):
        np.testing.assert_array_equal(np.asarray(got), want)


def test_complex_arrays_of_the_standard_survive():
    """What a complex-step derivative needs: max and comparison exist for real numbers only."""
    inputs = [array_api_strict.asarray(x + 0j) for x in draw(TimeAttention)]
    out = TimeAttention().forward(*inputs)
    assert out.dtype == array_api_strict.complex128


@pytest.mark.parametrize("axis", ["N", "T_enc", "T_dec", "H"])
def test_sizes_of_one(axis):
    sizes = {"N": N, "T_enc": T_ENC, "T_dec": T_DEC, "H": H} | {axis: 1}
    rng = np.random.default_rng(5)
    inputs = [
        rng.normal(size=(sizes["N"], sizes["T_enc"], sizes["H"])),
        rng.normal(size=(sizes["N"], sizes["T_dec"], sizes["H"])),
    ]
    out, dout, gradients = both(TimeAttention, inputs)
    expected, expected_gradients = formula(TimeAttention, inputs, dout)
    np.testing.assert_allclose(out, expected, atol=1e-14)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-14)


def test_integer_states_give_float_results():
    hs_enc = np.arange(12).reshape(1, 4, 3)
    hs_dec = np.arange(6).reshape(1, 2, 3)
    out = TimeAttention().forward(hs_enc, hs_dec)
    assert out.dtype == np.float64
    assert not np.array_equal(out, np.trunc(out))


@pytest.mark.parametrize("size", [1e3, 1e30, 1e150])
def test_scores_of_any_size_are_finite(size):
    out, _, gradients = both(TimeAttention, [size * x for x in draw(TimeAttention)])
    assert np.isfinite(out).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@pytest.mark.parametrize("offset", [-5000, -800, -100, -1, 100, 800, 5000])
def test_softmax_is_the_same_wherever_the_scores_lie(offset, dtype):
    """Exactly: whole numbers lose nothing to an offset. All negative is no other case."""
    scores = np.random.default_rng(0).integers(-9, 10, (N, T_DEC, T_ENC))
    softmax_there = Softmax()
    weights = softmax_there.forward((scores + offset).astype(dtype))
    np.testing.assert_array_equal(weights, Softmax().forward(scores.astype(dtype)))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    dscores = softmax_there.backward(np.arange(T_ENC, dtype=dtype) + np.zeros_like(weights))
    assert (np.abs(dscores).max(axis=-1) > 0).all()


@pytest.mark.parametrize("size", [1, 1000])
def test_attention_is_its_formula_where_all_scores_are_negative(size):
    hs_enc, hs_dec = (np.abs(x) + 1 for x in draw(TimeAttention))
    inputs = [hs_enc, -size * hs_dec]
    layer = TimeAttention()
    out = layer.forward(*inputs)
    dout = np.random.default_rng(1).normal(size=out.shape)
    expected, expected_gradients = formula(TimeAttention, inputs, dout)
    np.testing.assert_allclose(out, expected, rtol=1e-9)
    np.testing.assert_allclose(np.sum(layer.attention_weights, axis=-1), 1)
    for got, want in zip(layer.backward(dout), expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


def test_softmax_takes_any_number_of_axes():
    scores = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    np.testing.assert_allclose(Softmax().forward(scores), softmax(scores), rtol=1e-14)
    np.testing.assert_allclose(Softmax().forward(scores[0, 0, 0]), softmax(scores[0, 0, 0]))


# Masks


@pytest.fixture
def mask():
    mask = np.random.default_rng(7).random((N, T_DEC, T_ENC)) > 0.4
    mask[:, :, 0] = True  # no row is empty, unless a test says so
    return mask


def test_mask_takes_keys_out(mask):
    """The same as removing the masked keys from the input of every step."""
    hs_enc, hs_dec = draw(TimeAttention)
    out, _, _ = both(TimeAttention, [hs_enc, hs_dec], mask)
    for n, t in np.ndindex(N, T_DEC):
        kept = hs_enc[n : n + 1, mask[n, t]]
        alone = Attention().forward(kept, hs_dec[n : n + 1, t])
        np.testing.assert_allclose(out[n, t], alone[0], atol=1e-14)


def test_float_mask_of_zero_and_minus_infinity_is_the_boolean_mask(mask):
    inputs = draw(TimeAttention)
    out, _, gradients = both(TimeAttention, inputs, mask)
    biased, _, biased_gradients = both(TimeAttention, inputs, np.where(mask, 0.0, -np.inf))
    np.testing.assert_array_equal(out, biased)
    for got, want in zip(biased_gradients, gradients, strict=True):
        np.testing.assert_array_equal(got, want)


def test_float_mask_is_added_to_the_scores():
    hs = np.array([[[1.0], [1.0]]])
    layer = AttentionWeight()
    np.testing.assert_allclose(
        layer.forward(hs, np.array([[2.0]]), np.log([[1.0, 3.0]])), [[0.25, 0.75]]
    )


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_fully_masked_row_gives_zero_everywhere(mask, kind):
    mask[1, 2] = False
    mask[:, :, 3] = False  # and one key that nobody sees
    inputs = draw(TimeAttention)
    given = mask if kind == "bool" else np.where(mask, 0.0, -np.inf)
    layer = TimeAttention()
    out = layer.forward(*inputs, given)
    dhs_enc, dhs_dec = layer.backward(np.ones_like(out))
    assert (out[1, 2] == 0).all()
    assert (np.array(layer.attention_weights)[2, 1] == 0).all()
    assert (dhs_dec[1, 2] == 0).all()
    assert (dhs_enc[:, 3] == 0).all()
    assert np.isfinite(dhs_enc).all()


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("layer", [AttentionWeight, Attention, TimeAttention])
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_what_is_masked_does_not_leak(mask, junk, layer, kind):
    mask[:, :, 3] = False
    given = mask if kind == "bool" else np.where(mask, 0.5, -np.inf)
    given = given if layer is TimeAttention else given[:, 0]
    hs_enc, query = draw(layer)
    clean, _, clean_gradients = both(layer, [hs_enc, query], given)
    dirty_enc = hs_enc.copy()
    dirty_enc[:, 3] = junk
    dirty, _, gradients = both(layer, [dirty_enc, query], given)
    np.testing.assert_array_equal(dirty, clean)
    for got, want in zip(gradients, clean_gradients, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("layer", MASKED)
def test_nan_in_a_float_mask_hides_nothing(mask, layer):
    bias = np.zeros((N, T_DEC, T_ENC))
    bias[1, :, 2] = np.nan
    out, _, gradients = both(layer, draw(layer), bias if layer is TimeAttention else bias[:, 0])
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[0]).all()
    assert all(np.isnan(gradient[1]).any() for gradient in gradients)


def test_mask_broadcasts():
    inputs = draw(TimeAttention)
    enc_mask = np.random.default_rng(1).random((N, 1, T_ENC)) > 0.3
    full = np.broadcast_to(enc_mask, (N, T_DEC, T_ENC))
    np.testing.assert_array_equal(
        TimeAttention().forward(*inputs, enc_mask), TimeAttention().forward(*inputs, full)
    )


# As a learner's script uses them


def test_a_script_for_the_books_classes_runs_unchanged():
    script = """
import numpy as np
from attncli.layers import TimeAttention

class AttentionDecoder:
    def __init__(self):
        self.attention = TimeAttention()
        layers = [self.attention]
        self.params, self.grads = [], []
        for layer in layers:
            self.params += layer.params
            self.grads += layer.grads

H, N, T = 4, 3, 5
ta = TimeAttention()
hs_enc = np.random.randn(N*T*H).reshape(N, T, H)
hs_dec = np.random.randn(N*T*H).reshape(N, T, H)
out = ta.forward(hs_enc, hs_dec)
dout = np.random.randn(N*T*H).reshape(N, T, H)
dhs_enc, dhs_dec = ta.backward(dout)

# the book's visualisation
attention_map = ta.attention_weights
attention_map = np.array(attention_map)
attention_map = attention_map.reshape(attention_map.shape[0], attention_map.shape[2], -1)
first = np.array(ta.attention_weights)[:, 0, :][::-1, ::-1]

decoder = AttentionDecoder()
"""
    names: dict = {}
    exec(compile(script, "learner.py", "exec"), names)
    assert names["first"].shape == (5, 5)
    assert len(names["ta"].layers) == 5
    assert names["ta"].layers[0].attention_weight.shape == (3, 5)
    assert (names["decoder"].params, names["decoder"].grads) == ([], [])
    assert names["dhs_enc"].shape == names["dhs_dec"].shape == (3, 5, 4)


def test_inputs_are_left_alone_and_steps_keep_their_own_cache():
    inputs = draw(TimeAttention)
    copies = [x.copy() for x in inputs]
    both(TimeAttention, inputs)
    for array, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_backward_before_forward_says_so():
    with pytest.raises(RuntimeError, match="call forward first"):
        TimeAttention().backward(np.zeros((1, 1, 1)))
