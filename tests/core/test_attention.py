"""The results of `attention`, whichever engine computes them."""

import warnings

import numpy as np
import pytest
from crossing import crossed
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.core import attention, attention_backward, attention_weights, buffers
from attncli.errors import AttnWarning, ParameterError

from . import reference
from .common import ENGINES, OPTIONS, SHAPES, TOLERANCE, assert_near, by_name, compute, tensors
from .conftest import in_pieces

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")


def masks(shapes, seed=1):
    """Boolean and float masks in the ways they broadcast, each with rows that see nothing."""
    rng = np.random.default_rng(seed)
    query, key, _ = shapes
    T_dec, T_enc = query[-2], key[-2]
    full = rng.random((*query[:-2], T_dec, T_enc)) < 0.6
    full[..., 0, :] = False
    return {
        "full": full,
        "(T_dec, T_enc)": full[(0,) * (len(query) - 2)],
        "keys": rng.random(T_enc) < 0.6,
        "queries": rng.random((T_dec, 1)) < 0.6,
        "float": rng.standard_normal((T_dec, T_enc)),
        "float with -inf": np.where(full, rng.standard_normal(full.shape), -np.inf),
        "float per leading axis": rng.standard_normal((*query[:-2], 1, 1)),
        "scalar": np.array(0.5),
    }


@pytest.mark.parametrize(**crossed(shapes=SHAPES, options=OPTIONS, engine=ENGINES))
def test_out_is_the_formula(shapes, options, engine):
    query, key, value = tensors(shapes)
    out, _ = compute(query, key, value, **options, **engine)
    expected, _ = reference.attention(query, key, value, **options)
    assert_near(out, expected)


@pytest.mark.parametrize(
    **crossed(
        shape=["(N, T, H)", "heads", "grouped heads"],
        kind=masks(SHAPES["heads"]).keys(),
        options={name: OPTIONS[name] for name in ("nothing", "all")},
        engine=ENGINES,
    )
)
def test_out_with_a_mask_is_the_formula(shape, kind, options, engine):
    query, key, value = tensors(SHAPES[shape])
    mask = masks(SHAPES[shape])[kind]
    out, cache = compute(query, key, value, mask=mask, **options, **engine)
    expected, weights = reference.attention(query, key, value, mask, **options)
    assert_near(out, expected)
    if cache.weights is not None:
        assert_near(cache.weights, weights)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_logsumexp_is_the_log_of_the_sum_of_exponentials(engine):
    query, key, value = tensors(SHAPES["grouped heads"])
    _, cache = compute(query, key, value, **engine)
    keys = np.repeat(key, 3, axis=1)
    scores = query @ keys.swapaxes(-1, -2) / 3**0.5
    assert_near(cache.logsumexp, np.log(np.exp(scores).sum(-1)))


def test_weights_alone_are_those_of_the_whole():
    query, key, value = tensors(SHAPES["grouped heads"])
    options = {"causal": "lower_right", "softcap": 1.5}
    weights = attention_weights(query, key, **options)
    assert weights.shape == (5, 6, 7, 11)
    assert_near(weights, reference.attention(query, key, value, **options)[1])


def test_small_calculations_keep_their_weights_and_large_ones_do_not():
    x = np.ones((1, 8, 4), np.float32)
    assert attention(x, x, x)[1].weights.shape == (1, 8, 8)
    x = np.ones((4096, 2), np.float32)
    assert attention(x, x, x)[1].weights is None


# --- rows that see nothing, and what is hidden


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_fully_masked_row_gives_zero_weights_output_and_gradients(engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    mask = np.ones((2, 5, 11), bool)
    mask[0, 3] = mask[1, 0] = mask[1, 4] = False
    hidden = np.array([(0, 3), (1, 0), (1, 4)]).T
    with pytest.warns(AttnWarning, match=r"^3 of 10 queries see no key") as caught:
        out, cache = compute(query, key, value, mask=mask, **engine)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not out[*hidden].any()
    assert (cache.logsumexp[*hidden] == -np.inf).all()
    if cache.weights is not None:
        assert not cache.weights[*hidden].any()
    dquery, dkey, dvalue = attention_backward(np.ones_like(out), cache)
    assert not dquery[*hidden].any()
    assert all(np.isfinite(x).all() for x in (dquery, dkey, dvalue))


def test_warning_names_the_line_that_called_attention():
    x = np.ones((2, 3, 4))
    for call in (attention, lambda *a, **k: attention_weights(*a[:2], **k)):
        with pytest.warns(AttnWarning) as caught:
            call(x, x, x, mask=np.zeros((3, 3), bool))
        assert caught[0].filename == __file__


HIDDEN = {
    "boolean": {"mask": np.arange(11) != 4},
    "float": {"mask": np.where(np.arange(11) != 4, 0.0, -np.inf)},
    "float, softcap": {"mask": np.where(np.arange(11) != 4, 0.0, -np.inf), "softcap": 2.0},
}


@pytest.mark.parametrize(**crossed(bad=[np.nan, np.inf, -np.inf], options=HIDDEN, engine=ENGINES))
def test_nothing_leaks_from_a_hidden_key(bad, options, engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    out, cache = compute(query, key, value, **options, **engine)
    gradients = attention_backward(out, cache)
    key[:, 4], value[:, 4] = bad, bad
    same, cache = compute(query, key, value, **options, **engine)
    assert_near(same, out)
    for actual, expected in zip(attention_backward(same, cache), gradients, strict=True):
        assert_near(actual, expected)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_leaks_from_the_future(bad, engine):
    query, key, value = tensors(((2, 11, 7), (2, 11, 7), (2, 11, 3)))
    out, cache = compute(query, key, value, causal="upper_left", **engine)
    dout = np.ones_like(out)
    gradients = attention_backward(dout, cache)
    key[:, 6], value[:, 6] = bad, bad
    partly, cache = compute(query, key, value, causal="upper_left", **engine)
    assert_near(partly[:, :6], out[:, :6])
    assert not np.isfinite(partly[:, 6:]).any()
    dquery, _, _ = attention_backward(dout, cache)
    assert_near(dquery[:, :6], gradients[0][:, :6])


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_nothing_leaks_from_a_query_that_sees_nothing(engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    options = {"mask": np.arange(5)[:, None] != 2, **engine}
    out, cache = compute(query, key, value, **options)
    dout = np.ones_like(out)
    gradients = attention_backward(dout, cache)
    query[:, 2], dout[:, 2] = np.nan, np.nan
    same, cache = compute(query, key, value, **options)
    assert_near(same, out)
    for actual, expected in zip(attention_backward(dout, cache), gradients, strict=True):
        assert_near(actual, expected)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_nan_that_is_seen_reaches_its_row_and_no_other(engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    expected, _ = compute(query, key, value, **engine)
    query[1, 3] = np.nan
    out, _ = compute(query, key, value, **engine)
    assert np.isnan(out[1, 3]).all()
    out[1, 3] = expected[1, 3]
    assert_near(out, expected)


# --- size of the numbers


@pytest.mark.parametrize(
    **crossed(size=[1e1, 1e3, 1e6, 1e15], dtype=["float32", "float64"], engine=ENGINES)
)
def test_huge_scores_stay_finite(size, dtype, engine):
    query, key, value = tensors(SHAPES["(N, T, H)"], dtype=dtype)
    query = np.rint(query * 4) * query.dtype.type(size)  # products are exact, so are the gaps
    key = np.rint(key * 4)
    out, cache = compute(query, key, value, scale=1, **engine)
    expected, _ = reference.attention(
        *(x.astype(np.longdouble) for x in (query, key, value)), scale=1
    )
    assert_near(out, expected, dtype, factor=10)
    assert all(np.isfinite(x).all() for x in attention_backward(out, cache))


@pytest.mark.parametrize(
    **crossed(offset=[-1e4, -80.0, 80.0, 1e4], dtype=["float32", "float64"], engine=ENGINES)
)
def test_an_offset_of_all_scores_changes_nothing(offset, dtype, engine):
    query, key, value = tensors(SHAPES["(N, T, H)"], dtype=dtype)
    expected, _ = compute(query, key, value, **engine)
    out, cache = compute(query, key, value, mask=np.full((5, 1), offset, dtype), **engine)
    assert_near(out, expected, dtype, factor=abs(offset) / 5)
    assert all(np.isfinite(x).all() for x in attention_backward(out, cache))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize(**crossed(masked=[False, True], T_enc=[3, 11], engine=ENGINES))
def test_scores_that_all_overflow_give_nan_and_not_nothing(masked, T_enc, engine):
    query, key = np.full((5, 2), -1e200), np.full((T_enc, 2), 1e200)
    options = {}
    if masked:
        options["mask"] = np.arange(T_enc) != 1
    out, cache = compute(query, key, np.ones((T_enc, 2)), **options, **engine)
    assert np.isnan(out).all()
    assert np.isnan(cache.logsumexp).all()
    assert np.isnan(attention_backward(out, cache)[0]).all()


@pytest.mark.parametrize("engine", ["direct", "tiled"])
@pytest.mark.parametrize("T_enc", [10, 300])
def test_values_near_the_largest_number_do_not_overflow(T_enc, engine):
    query, key = tensors(((8, 60, 16), (8, T_enc, 16)))
    out, cache = compute(query, key, np.full((8, T_enc, 8), 1.7e308), engine=engine)
    np.testing.assert_allclose(out, 1.7e308)
    np.testing.assert_allclose(compute(query, key, key)[1].logsumexp, cache.logsumexp)


def test_what_cannot_be_summed_is_warned_of():
    query, key, value = tensors(((8, 64, 16), (8, 64, 16), (8, 64, 64)))
    value[0, :2, 0] = np.inf, -np.inf
    with pytest.warns(RuntimeWarning, match="invalid"):
        compute(query, key, value)


def test_a_query_that_sees_nothing_is_no_reason_to_compute_the_others_again():
    query, key, value = tensors(((8, 64, 16), (8, 64, 16), (8, 64, 16)))
    mask = np.ones((64, 64), bool)
    mask[-3:] = False
    for engine in ({"engine": "direct"}, {"engine": "tiled", "tile": (40, 40)}):
        with pytest.warns(AttnWarning, match="24 of 512"):
            _, cache = compute(query, key, value, mask=mask, **engine)
        assert not cache.shift.any()


def test_padding_of_kept_tiles_holds_nothing_left_over(monkeypatch):
    monkeypatch.setattr(buffers, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    arrays = tensors(((2, 7, 3), (2, 11, 3), (2, 11, 3)))
    cache = compute(*arrays, weights=True, tile=(4, 4))[1]
    assert np.isfinite(cache.kept).all()


def test_out_has_memory_of_its_own():
    query, key, value = tensors(((5, 7), (11, 7), (11, 7)))
    with pytest.raises(ParameterError, match="out shares memory with key, expected memory of its"):
        compute(query, key, value, out=key[:5])
    mask = np.ones((5, 11))
    with pytest.raises(ParameterError, match="out shares memory with mask"):
        compute(query, key, value, mask=mask, out=mask[:, :7])


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_values_of_any_size_keep_their_precision(size, engine):
    query, key, value = tensors(SHAPES["(N, T, H)"], dtype="float32")
    query *= 9  # scores of some 20
    expected, _ = compute(query, key, value, **engine)
    out, _ = compute(query, key, value * np.float32(size), **engine)
    assert_near(out / np.float32(size), expected, "float32")


# --- dtypes and layouts


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "longdouble"])
def test_every_float_dtype_is_kept_and_right(dtype, engine):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    query, key, value = tensors(SHAPES["(N, T, H)"], dtype=kind)
    out, cache = compute(query, key, value, **engine)
    expected, _ = reference.attention(*(x.astype(np.longdouble) for x in (query, key, value)))
    assert out.dtype == kind
    assert_near(out, expected, dtype)
    assert all(x.dtype == kind for x in attention_backward(out, cache))
    assert cache.logsumexp.dtype == (np.float32 if dtype.endswith("float16") else kind)


def test_integers_are_computed_in_float64():
    rng = np.random.default_rng(0)
    query, key, value = (rng.integers(-3, 4, shape) for shape in SHAPES["(N, T, H)"])
    out, cache = attention(query, key, value)
    assert out.dtype == np.float64
    assert_near(out, reference.attention(*(x.astype(float) for x in (query, key, value)))[0])
    assert all(x.dtype == np.float64 for x in attention_backward(out, cache))


def test_mixed_dtypes_meet_in_the_wider_one():
    query, key, value = tensors(SHAPES["(N, T, H)"])
    out, _ = attention(query.astype("f2"), key.astype("f4"), value)
    assert out.dtype == np.float64
    assert attention(query.astype("f2"), key.astype("f4"), value.astype("f2"))[0].dtype == "f4"


def test_lists_are_welcome():
    assert attention([[1, 0]], [[1, 0], [0, 1]], [[1.0], [1.0]])[0] == [[1.0]]


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "heads after steps": lambda x: x.swapaxes(-2, -3).copy().swapaxes(-2, -3),
    "every other element": lambda x: np.repeat(np.repeat(x, 2, -1), 2, -2)[..., ::2, ::2],
    "backwards": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "one array for all N": lambda x: np.broadcast_to(x[:1], x.shape),
    "one row for all steps": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "unaligned": lambda x: np.frombuffer(b"-" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("layout", **by_name(LAYOUTS))
def test_the_layout_in_memory_changes_nothing(layout, engine):
    arrays = [layout(x) for x in tensors(SHAPES["(N, T, H)"])]
    copies = [np.array(x, float, order="C") for x in arrays]
    for x in arrays:
        x.flags.writeable = False
    out, cache = compute(*arrays, **engine)
    expected, plain = compute(*copies, **engine)
    assert out.dtype == expected.dtype
    assert out.dtype.isnative
    assert_near(out, expected)
    gradients = attention_backward(layout(out), cache)
    expected = attention_backward(layout(out).astype(float), plain)
    for actual, right in zip(gradients, expected, strict=True):
        assert_near(actual, right)
    for x, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_writing_into_out_does_not_change_the_gradients(engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    out, cache = compute(query, key, value, **engine)
    dout = out.copy()
    expected = attention_backward(dout, cache)
    out[:] = 1e9
    for actual, right in zip(attention_backward(dout, cache), expected, strict=True):
        np.testing.assert_array_equal(actual, right)


@pytest.mark.parametrize(
    **crossed(
        sizes=[((0,), 5, 3), ((2,), 0, 3), ((2,), 5, 0), ((2, 0), 5, 3)],
        options=OPTIONS,
        engine=ENGINES,
    )
)
def test_empty_axes_give_empty_results(sizes, options, engine):
    lead, T_dec, H_v = sizes
    shapes = (*lead, T_dec, 7), (*lead, 11, 7), (*lead, 11, H_v)
    out, cache = compute(*map(np.ones, shapes), **options, **engine)
    assert out.shape == (*lead, T_dec, H_v)
    gradients = attention_backward(out, cache)
    assert [x.shape for x in gradients] == list(shapes)
    assert not any(x.any() for x in gradients)


# --- laws


@st.composite
def problems(draw):
    size = st.integers(1, 9)
    heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    N, T_dec, T_enc, H, H_v = (draw(size) for _ in range(5))
    shapes = (N, heads * groups, T_dec, H), (N, heads, T_enc, H), (N, heads, T_enc, H_v)
    options = {
        "causal": draw(st.sampled_from([None, "upper_left", "lower_right"])),
        "window": draw(st.none() | st.integers(0, 9)),
        "softcap": draw(st.none() | st.floats(0.5, 50)),
    }
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["none", "boolean", "float"]))
    if kind != "none":
        shape = [draw(st.sampled_from([1, n])) for n in (N, heads * groups, T_dec, T_enc)]
        options["mask"] = rng.random(shape) < 0.7
        if kind == "float":
            options["mask"] = np.where(options["mask"], rng.standard_normal(shape), -np.inf)
    size = draw(st.sampled_from([0.1, 1.0, 30.0]))
    query, key, value = (rng.standard_normal(shape) for shape in shapes)
    return (query * size, key, value), options, rng.standard_normal((*shapes[0][:3], H_v))


@pytest.mark.parametrize("engine", [{"engine": "direct"}, {"tile": (1, 2)}], ids=str)
def test_queries_beyond_the_reach_of_the_window_see_nothing(engine):
    query, key, value = tensors(((5, 7), (3, 7), (3, 2)))
    out, cache = compute(query, key, value, window=0, **engine)
    assert_near(out, np.concatenate([value, np.zeros((2, 2))]))
    assert all(np.isfinite(x).all() for x in attention_backward(out, cache))


@settings(deadline=None)
@given(
    problem=problems(),
    tile=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    threads=st.integers(1, 4),
    piece=st.integers(1, 2000),
)
def test_engine_tile_size_and_threads_change_nothing(problem, tile, threads, piece):
    arrays, options, dout = problem
    results = []
    tiles = {"tile": tile, "threads": threads}

    def run(**engine):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AttnWarning)
            out, cache = compute(*arrays, **options, **engine)
        results.append((out, *attention_backward(dout, cache), cache.logsumexp, cache.dmask))

    run(engine="direct")
    for weights in (True, False):
        run(weights=weights, **tiles)
        run(engine="tiled", weights=weights)
        with pytest.MonkeyPatch.context() as patch:
            in_pieces(patch, piece)
            run(engine="direct", weights=weights, threads=threads)
    for direct, *others in zip(*results, strict=True):
        for other in others:
            if direct is None:
                assert other is None
            else:
                assert_near(other, direct, factor=100, scale=1)


@settings(deadline=None)
@given(problem=problems())
def test_rows_of_weights_sum_to_one_or_see_nothing(problem):
    (query, key, _), options, _ = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)
        sums = attention_weights(query, key, **options).sum(-1)
    assert (np.isclose(sums, 1, rtol=0, atol=10 * TOLERANCE["float64"]) | (sums == 0)).all()


@pytest.mark.parametrize("scale", [1.0, 1e3, -1e3])
@pytest.mark.parametrize("far", [0.0, 5.0, 15.0, 40.0, 1e4])
def test_queries_whose_scores_lie_far_apart_do_not_disturb_each_other(far, scale):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    query[:, 0] *= 1e-3
    query[:, 1] -= far * key[:, :1].mean(axis=1) / scale
    out, _ = compute(query, key, value, scale=scale, engine="direct")
    for row in range(query.shape[1]):
        alone, _ = compute(query[:, row : row + 1], key, value, scale=scale, engine="direct")
        assert_near(out[:, row : row + 1], alone)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.1, 1, 2, 4, 8, 16, 64, 1024])  # from small scores to large
def test_few_scores_of_any_size_keep_their_precision(scale, dtype):
    query, key = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(dtype)
    out, cache = attention(query, key, key, scale=scale)
    exact = attention(*(x.astype(np.longdouble) for x in (query, key, key)), scale=scale)
    factor = max(4, scale)
    assert_near(cache.weights, exact[1].weights, dtype, factor)
    assert_near(cache.logsumexp, exact[1].logsumexp, dtype, factor)
    for ours, theirs in zip(
        attention_backward(out, cache), attention_backward(*exact), strict=True
    ):
        assert_near(ours, theirs, dtype, factor)
