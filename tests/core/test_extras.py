"""Sinks, slopes, segments, sequences, lengths and dropout: read, placed and refused."""

import numpy as np
import pytest

from attncli import attention, attention_backward, attention_weights
from attncli.core.extras import EXTRAS, standard_slopes
from attncli.errors import AttnWarning, DtypeError, ParameterError, ShapeError

N, HEADS, T_DEC, T_ENC, H = 2, 6, 5, 7, 3
ARRAYS = [np.ones((N, HEADS, T_DEC, H)), np.ones((N, 2, T_ENC, H)), np.ones((N, 2, T_ENC, H))]

REFUSED = {
    "too few sinks": ({"sinks": np.zeros(5)}, ShapeError, "sinks is (5,), expected one number"),
    "slopes that are asked for, not given": ({"alibi": True}, DtypeError, "alibi is bool"),
    "a sink of NaN": ({"sinks": np.full(6, np.nan)}, ParameterError, "sinks holds NaN"),
    "complex sinks": ({"sinks": np.zeros(6, complex)}, DtypeError, "sinks is complex128"),
    "infinite slopes": ({"alibi": np.full(6, -np.inf)}, ParameterError, "alibi holds"),
    "slopes by item alone": ({"alibi": np.zeros((2, 1, 1))}, ShapeError, "alibi is (2, 1, 1)"),
    "one array for two lengths": (
        {"segments": np.zeros(5, int)}, ParameterError, "T_dec differs from T_enc (5 and 7)"
    ),
    "ids of another length": (
        {"segments": (np.zeros(5, int), np.zeros(5, int))}, ShapeError, "segments_enc is (5,)"
    ),
    "ids of other items": (
        {"segments": (np.zeros((3, 5), int), np.zeros(7, int))}, ShapeError,
        "segments_dec is (3, 5), expected (T_dec = 5) or (N = 2, T_dec = 5)",
    ),
    "fractions as ids": (
        {"segments": (np.zeros(5), np.zeros(7, int))}, DtypeError, "segments_dec is float64"
    ),
    "three arrays of ids": ({"segments": (1, 2, 3)}, ParameterError, "segments holds 3 arrays"),
    "boundaries that fall": (
        {"cu_seqlens": [0, 3, 2, 5], "cu_seqlens_k": [0, 1, 2, 7]}, ParameterError, "never fall"
    ),
    "boundaries that begin late": (
        {"cu_seqlens": [1, 5], "cu_seqlens_k": [0, 7]}, ParameterError, "begin at 0"
    ),
    "boundaries that end early": (
        {"cu_seqlens": [0, 4], "cu_seqlens_k": [0, 7]}, ParameterError, "ends at 4"
    ),
    "keys cut as queries are": ({"cu_seqlens": [0, 5]}, ParameterError, "the number of keys, 7"),
    "boundaries of keys alone": ({"cu_seqlens_k": [0, 7]}, ParameterError, "without cu_seqlens"),
    "more sequences of keys": (
        {"cu_seqlens": [0, 5], "cu_seqlens_k": [0, 3, 7]}, ShapeError, "as many sequences"
    ),
    "no boundaries": ({"cu_seqlens": [0]}, ShapeError, "cu_seqlens is (1,)"),
    "fractions as boundaries": ({"cu_seqlens": [0.0, 5.0]}, DtypeError, "cu_seqlens is float64"),
    "lengths of other items": ({"kv_lengths": [1, 2, 3]}, ShapeError, "kv_lengths is (3,)"),
    "a length beyond the keys": ({"kv_lengths": [7, 8]}, ParameterError, "kv_lengths holds 8"),
    "a length below 0": ({"kv_lengths": [-1, 8]}, ParameterError, "kv_lengths holds -1"),
    "a length beyond its sequence": (
        {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 3, 7], "kv_lengths": [4, 3]},
        ParameterError, "kv_lengths holds 4",
    ),
    "lengths for other sequences": (
        {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 3, 7], "kv_lengths": [1, 2, 3]},
        ShapeError, "each of the 2 sequences",
    ),
    "a share as dropout": (
        {"keep": np.full((5, 7), 0.5)}, DtypeError, "keep is float64 with other values"
    ),
    "dropout of another shape": ({"keep": np.ones((7, 5))}, ShapeError, "keep is (7, 5)"),
    "no dropout to divide for": ({"keep_prob": 0.5}, ParameterError, "there is no keep"),
    "nothing that stays": (
        {"keep": np.ones((5, 7)), "keep_prob": 0.0}, ParameterError, "keep_prob is 0.0"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(options, error, words):
    with pytest.raises(error) as raised:
        attention(*ARRAYS, **options)
    assert words in str(raised.value)


def test_there_are_refusals_of_every_extra():
    refused = {name for options, *_ in REFUSED.values() for name in options}
    assert refused >= set(EXTRAS)


def test_without_a_heads_axis_there_is_one_sink_and_one_slope():
    query = np.ones((2, 5, 3))
    for sinks in (0.0, [0.0]):
        out, cache = attention(query, query, query, sinks=sinks, alibi=[0.0])
        np.testing.assert_allclose(
            out, np.full_like(out, 5 * np.exp(3**0.5)) / (5 * np.exp(3**0.5) + 1)
        )
        attention_backward(out, cache)
        assert cache.dsinks.shape == np.shape(sinks)
    with pytest.raises(ShapeError, match=r"sinks is \(2,\), expected .* \(1,\)"):
        attention(query, query, query, sinks=[0.0, 1.0])


@pytest.mark.parametrize("engine", ["direct", "tiled"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_query_that_sees_nothing_but_its_sink_gives_0_and_its_logsumexp_is_the_sink(engine, kept):
    query = np.ones((1, 2, 3, 5))
    sinks = np.array([2.0, -300.0])
    with pytest.warns(AttnWarning, match="6 of 6 queries see no key"):
        out, cache = attention(
            query, query, query, sinks=sinks, kv_lengths=0, engine=engine, weights=kept
        )
    assert not out.any()
    np.testing.assert_allclose(cache.logsumexp, np.broadcast_to(sinks[:, None], (1, 2, 3)))
    dlogsumexp = np.full((1, 2, 3), 7.0)
    assert not any(x.any() for x in attention_backward(out, cache, dlogsumexp))
    np.testing.assert_allclose(cache.dsinks, [21.0, 21.0])  # the sink is all of logsumexp


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_queries_that_see_nothing_are_counted_beside_a_sink_however_large(engine):
    query = np.random.default_rng(0).standard_normal((2, 3, 300, 7))
    options = {"kv_lengths": [0, 5], "causal": "lower_right", "engine": engine}
    for sink in (-1e9, 0.0, 1e9):  # the last swallows the sums of all the others
        with pytest.warns(AttnWarning, match="1785 of 1800 queries see no key"):
            _, cache = attention(query, query, query, sinks=np.full(3, sink), **options)
        assert np.count_nonzero(~cache.blind) == 15


@pytest.mark.filterwarnings("ignore:.*queries see no key")
def test_weights_alone_take_the_same_arrays():
    rng = np.random.default_rng(0)
    query = rng.standard_normal((2, 3, 5, 7))
    options = {
        "sinks": np.ones(3), "alibi": standard_slopes(3), "kv_lengths": [3, 5],
        "segments": np.arange(5) // 4,
    }  # fmt: skip
    _, cache = attention(query, query, query, **options, weights=True)
    np.testing.assert_array_equal(attention_weights(query, query, **options), cache.weights)
    packed = {"cu_seqlens": [0, 2, 5], "cu_seqlens_k": [0, 1, 5]}
    _, cache = attention(query, query, query, **packed, weights=True)
    np.testing.assert_array_equal(attention_weights(query, query, **packed), cache.weights)


def test_sides_may_be_written_with_a_hyphen():
    query = np.random.default_rng(0).standard_normal((5, 7))
    one, other = (
        attention(query[:3], query, query, causal=side)[0]
        for side in ("lower-right", "lower_right")
    )
    np.testing.assert_array_equal(one, other)


def test_a_sink_of_minus_infinity_is_none():
    query = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    out, cache = attention(query, query, query, sinks=np.full(3, -np.inf))
    np.testing.assert_allclose(out, attention(query, query, query)[0], rtol=1e-13)
    attention_backward(out, cache)
    assert not cache.dsinks.any()


@pytest.mark.parametrize("sink", [-1e30, -700.0, 700.0, 1e30])
@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_a_sink_of_any_size_overflows_nothing(sink, engine):
    query = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    out, cache = attention(query, query, query, sinks=sink, engine=engine)
    gradients = attention_backward(np.ones_like(out), cache)
    assert all(np.isfinite(x).all() for x in (out, *gradients, cache.dsinks, cache.logsumexp))
    without = attention(query, query, query)[0]
    np.testing.assert_allclose(out, without if sink < 0 else 0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", ["direct", "tiled"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_sink_far_above_all_scores_costs_them_no_precision(engine, kept):
    rng = np.random.default_rng(0)
    key, value = rng.normal(-95 / 7, 0.1, (73, 7)), rng.normal(3, 1, (73, 7))

    # So many that they are tried without a reference: exp(-95) has three digits in float32.
    def results(dtype):
        arrays = (x.astype(np.float32).astype(dtype) for x in (np.ones((71, 7)), key, value))
        out, cache = attention(*arrays, sinks=-20.0, scale=1.0, engine=engine, weights=kept)
        return out, *attention_backward(np.ones_like(out), cache), cache.dsinks

    for single, double in zip(results(np.float32), results(np.float64), strict=True):
        np.testing.assert_allclose(single, double, rtol=3e-5)


def test_a_gradient_of_logsumexp_where_nothing_is_seen_changes_nothing():
    query = np.ones((3, 5))
    with pytest.warns(AttnWarning, match="3 of 3 queries see no key"):
        out, cache = attention(query, query, query, kv_lengths=0)
    gradients = attention_backward(out, cache, np.full(3, np.nan))
    assert not any(x.any() for x in gradients)


def test_dlogsumexp_has_the_shape_of_logsumexp():
    query = np.ones((2, 3, 5))
    out, cache = attention(query, query, query)
    with pytest.raises(ShapeError, match=r"dlogsumexp is \(3,\), expected .* \(2, 3\)"):
        attention_backward(out, cache, np.ones(3))


def test_gradients_that_are_not_there_are_none_and_the_cache_is_said_in_a_line():
    query = np.ones((2, 3, 5), np.float32)
    out, cache = attention(query, query, query)
    attention_backward(out, cache)
    assert (cache.dmask, cache.dsinks, cache.dalibi) == (None, None, None)
    assert repr(cache) == "<Cache of (2, 3, 3) weights, float32, direct, kept>"


def test_the_papers_slopes_are_a_geometric_series_and_fill_up_between():
    np.testing.assert_allclose(standard_slopes(8), [2.0**-i for i in range(1, 9)])
    eight, sixteen = standard_slopes(8), standard_slopes(16)
    np.testing.assert_allclose(standard_slopes(11), [*eight, *sixteen[:6:2]])
    assert standard_slopes(1) == [2.0**-8]


@pytest.mark.filterwarnings("ignore:.*queries see no key")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_and_single_precision_take_every_extra(dtype):
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, 3, 11, 5)).astype(dtype) for _ in range(3))
    options = {
        "sinks": np.ones(3), "alibi": standard_slopes(3), "kv_lengths": [7, 11],
        "segments": np.arange(11) // 4, "keep": rng.random((11, 11)) < 0.9, "keep_prob": 0.9,
    }  # fmt: skip
    out, cache = attention(query, key, value, **options)
    exact, its = attention(*(x.astype(np.float64) for x in (query, key, value)), **options)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, exact, atol=2e-3 if dtype == np.float16 else 1e-6)
    for x, y in zip(attention_backward(out, cache), attention_backward(exact, its), strict=True):
        assert x.dtype == dtype
        np.testing.assert_allclose(x, y, atol=5e-3 if dtype == np.float16 else 2e-6)
