"""What is rare, crossed: engine, kept weights, tiles, band, mask, and scores of every size.

Everything is held against the formulas in long double, evaluated on whole arrays.
"""

import numpy as np
import pytest
from crossing import crossed

from attncli import attention, attention_backward, attention_weights

from . import reference
from .common import WAYS, assert_near, by_name, run

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")

N, T_DEC, T_ENC, H, H_V = 2, 11, 7, 3, 5

BANDS = {
    "no band": {},
    "upper left": {"causal": "upper_left"},
    "lower right": {"causal": "lower_right"},  # the first four queries see nothing
    "window": {"window": 2},  # the last two queries see nothing
    "causal window": {"causal": "lower_right", "window": 1},
    "window of two sides": {"window": (1, 3), "align": "lower_right"},
}
TILES = [(2, 3), (5, 4), (1, 1), (11, 2)]


def exact(query, key, value, dout, mask=None, scale=1.0, softcap=None, **band):
    """Return out, weights, logsumexp, dquery, dkey, dvalue and the gradient of the scores."""
    query, key, value, dout = (np.asarray(x, np.longdouble) for x in (query, key, value, dout))
    scale = np.longdouble(scale)
    shape = (*dout.shape[:-1], key.shape[-2])
    seen = reference.visible(mask, band.get("causal"), band.get("window"), shape, band.get("align"))
    scores = scale * query @ key.swapaxes(-1, -2)
    slope = np.longdouble(1)
    if softcap is not None:
        capped = np.tanh(scores / softcap)
        scores, slope = softcap * capped, 1 - capped**2
    if mask is not None and mask.dtype != bool:
        scores = scores + np.where(seen, mask, 0)
    scores = np.where(seen, scores, -np.inf)
    blind = ~seen.any(axis=-1, keepdims=True)
    top = np.where(blind, 0, scores.max(axis=-1, keepdims=True))
    exps = np.exp(scores - top)
    total = exps.sum(axis=-1, keepdims=True)
    weights = exps / np.where(blind, 1, total)
    logsumexp = np.where(blind, -np.inf, top + np.log(np.where(blind, 1, total)))[..., 0]
    dweights = dout @ value.swapaxes(-1, -2)
    dbias = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
    dscores = dbias * slope
    return {
        "out": weights @ value,
        "weights": weights,
        "logsumexp": logsumexp,
        "dquery": scale * dscores @ key,
        "dkey": scale * dscores.swapaxes(-1, -2) @ query,
        "dvalue": weights.swapaxes(-1, -2) @ dout,
        "dmask": dbias,
    }


def operands(offset=0.0, size=1.0, dtype=np.float64, shape=(T_DEC, T_ENC)):
    """Integers, so that scores of scale 1 are exact in every dtype; `offset` is added to each."""
    rng = np.random.default_rng(0)
    query, key = (np.rint(3 * rng.standard_normal((N, T, H))) for T in shape)
    query = np.concatenate([size * query, np.ones((N, shape[0], 1))], axis=-1)
    key = np.concatenate([key, np.full((N, shape[1], 1), offset)], axis=-1)
    value, dout = (rng.standard_normal((N, T, H_V)) for T in shape[::-1])
    return [x.astype(dtype) for x in (query, key, value, dout)]


def assert_exact(arrays, way, *, factor=30.0, tile=(2, 3), **options):
    """Everything that forward and backward give is as near the truth as its dtype allows."""
    *inputs, dout = arrays
    out, cache = run(*inputs, way=way, tile=tile, scale=1.0, **options)
    given = dict(zip(("dquery", "dkey", "dvalue"), attention_backward(dout, cache), strict=True))
    given |= {"out": out, "logsumexp": cache.logsumexp}
    if way[1]:
        given["weights"] = cache.weights
    else:
        assert cache.weights is None
    if cache.dmask is not None:
        given["dmask"] = cache.dmask
    truth = exact(*inputs, dout, **options)
    # What gradients of the scores, of about 1, are multiplied by before they are added up.
    summed = {"dquery": np.abs(inputs[1]).max(), "dkey": np.abs(inputs[0]).max()}
    eps = np.finfo(dout.dtype).eps
    for name, array in given.items():
        assert array.dtype == dout.dtype, name
        expected = truth[name]
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(array[~finite], expected[~finite], err_msg=name)
        wide = np.abs(array[finite].astype(np.longdouble) - expected[finite])
        # In units of the dtype's rounding of the largest number that is added up.
        largest = np.abs(expected[finite]).max(initial=0)
        unit = eps * max(np.longdouble(1), largest, summed.get(name, 1))
        assert wide.max(initial=0) <= factor * unit, name


def test_the_formulas_here_are_those_of_the_design():
    *inputs, dout = operands()
    mask = np.where(np.arange(T_ENC) == 3, -np.inf, np.linspace(-1, 1, T_DEC)[:, None])
    mask = np.broadcast_to(mask, (N, T_DEC, T_ENC)).copy()
    arrays = dict(zip(("query", "key", "value"), inputs, strict=True))
    options = {"scale": 0.2, "softcap": 1.5, "causal": "lower_right"}
    truth = exact(*inputs, dout, mask=mask, **options)
    known = reference.gradients({**arrays, "mask": mask}, dout, **options)
    for name, gradient in known.items():
        assert_near(truth[f"d{name}"].astype(float), gradient, factor=5, scale=1)
    assert_near(truth["out"].astype(float), reference.attention(**arrays, mask=mask, **options)[0])


def some(kind):
    """A mask by its kind; each hides all keys of a few queries, and none of most."""
    rng = np.random.default_rng(1)
    seen = rng.random((N, T_DEC, T_ENC)) < 0.7
    seen[0, 5] = seen[1, 4:7] = False
    return {
        "no mask": None,
        "boolean": seen,
        "float": np.where(seen, np.rint(4 * rng.standard_normal(seen.shape)), -np.inf),
    }[kind]


SCORES = {
    "moderate": {},
    "large": {"size": 1000.0},
    "all far below zero": {"offset": -5000.0},
    "all far above zero": {"offset": 5000.0},
    "just below what can be summed": {"offset": -735.0},
}


@pytest.mark.parametrize(
    **crossed(scores=SCORES, band=BANDS, mask=["no mask", "boolean", "float"], way=WAYS)
)
def test_scores_of_any_size_under_any_band_and_mask(way, band, mask, scores):
    arrays = operands(**scores)
    given = some(mask)
    options = band if given is None else {**band, "mask": given}
    for tile in TILES if way[0] == "tiled" else TILES[:1]:
        assert_exact(arrays, way, tile=tile, **options)


@pytest.mark.parametrize(**crossed(way=WAYS, band=BANDS, threads=[1, 3]))
def test_rows_whose_scores_are_of_different_sizes(way, band, threads):
    """Moderate, large, all far below and all far above zero, next to each other."""
    query, key, value, dout = operands(offset=1.0)
    query[:, ::4, :-1] *= 500
    query[:, 1::4, -1] = -5000
    query[:, 2::4, -1] = 5000
    assert_exact((query, key, value, dout), way, threads=threads, **band)


@pytest.mark.parametrize(
    **crossed(
        way=WAYS,
        softcap=[2.0, 900.0],
        mask=["no mask", "float"],
        band=["no band", "lower right"],
    )
)
def test_softcap_under_any_band_and_mask(way, softcap, mask, band):
    given = some(mask)
    options = {} if given is None else {"mask": given}
    assert_exact(operands(size=20.0), way, softcap=softcap, **options, **BANDS[band])


# 25 thousand weights: so many that direct code tries scores without a reference too.
MANY = (61, 53)
WIDEST = {np.float32: 100, np.float64: 740, np.longdouble: 11_300}


@pytest.mark.parametrize("way", **by_name(WAYS))
@pytest.mark.parametrize("dtype", WIDEST, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_an_offset_of_all_scores_costs_no_precision(way, dtype, many):
    """As far as exponentials without a reference lose digits, and beyond."""
    widest = WIDEST[dtype]
    if np.finfo(dtype).eps == np.finfo(np.float64).eps:
        widest = WIDEST[np.float64]  # where a long double is no longer
    for offset in widest * np.linspace(-1.1, 1.1, 3 if many else 23):
        arrays = operands(np.rint(offset), dtype=dtype, shape=MANY if many else (T_DEC, T_ENC))
        # Scores of this size are themselves rounded once they are in units of log 2.
        assert_exact(arrays, way, tile=(17, 19), factor=60 + 2 * abs(offset))


@pytest.mark.parametrize(
    **crossed(
        way=WAYS,
        band=BANDS,
        mask=["no mask", "boolean", "float"],
        size={"moderate": 0.5, "large": 1000.0},
    )
)
def test_many_scores_under_any_band_and_mask(way, band, mask, size):
    rng = np.random.default_rng(2)
    seen = rng.random((N, *MANY)) < 0.7
    seen[0, 5] = seen[1, 30:50] = False
    options = {
        "no mask": {},
        "boolean": {"mask": seen},
        "float": {"mask": np.where(seen, np.rint(4 * rng.standard_normal(seen.shape)), -np.inf)},
    }[mask]
    arrays = operands(size=size, shape=MANY)
    assert_exact(arrays, way, tile=(17, 19), factor=100, threads=2, **band, **options)


@pytest.mark.parametrize("way", **by_name(WAYS))
def test_long_doubles_are_long(way):
    """Scores some 20 apart: a constant rounded to float64 on the way would show."""
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("a long double is no longer here")
    assert_exact(operands(dtype=np.longdouble), way)
    assert_exact(operands(dtype=np.longdouble, shape=MANY), way, tile=(17, 19))


# NaN and infinity, hidden and seen


@pytest.mark.parametrize("way", **by_name(WAYS))
@pytest.mark.parametrize("size", [1.0, 1000.0], ids=["moderate", "large"])
def test_nan_in_a_float_mask_is_seen_and_hides_nothing(way, size):
    query, key, value, dout = operands(size=size)
    mask = np.zeros((T_DEC, T_ENC))
    clean = run(query, key, value, way=way, scale=1.0, mask=mask)[0]
    mask[3, 2] = np.nan
    out, cache = run(query, key, value, way=way, scale=1.0, mask=mask)
    assert np.isnan(out[:, 3]).all()
    assert np.isnan(cache.logsumexp[:, 3]).all()
    assert_near(np.delete(out, 3, axis=1), np.delete(clean, 3, axis=1))
    assert np.isnan(attention_backward(dout, cache)[0][:, 3]).all()


def test_nan_in_a_float_mask_reaches_the_weights():
    query, key, _, _ = operands()
    mask = np.zeros(T_ENC)
    mask[2] = np.nan
    assert np.isnan(attention_weights(query, key, mask=mask)).all()


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize(
    **crossed(
        way=WAYS,
        bad=BAD,
        size={"moderate": 1.0, "large": 1000.0},
        mask=["boolean", "float"],
        band=BANDS,
    )
)
def test_what_no_query_sees_may_hold_anything_in_silence(way, bad, size, mask, band):
    """Neither a number nor a warning of NumPy's; every warning is an error here."""
    query, key, value, dout = operands(size=size)
    hidden = np.arange(T_ENC) == 4
    given = {"boolean": ~hidden, "float": np.where(hidden, -np.inf, 0.5)}[mask]
    options = {"way": way, "scale": 1.0, "mask": given, **band}
    out, cache = run(query, key, value, **options)
    clean = (out, cache.logsumexp, *attention_backward(dout, cache))
    key[:, 4], value[:, 4] = bad, bad
    out, cache = run(query, key, value, **options)
    for ours, theirs in zip(
        (out, cache.logsumexp, *attention_backward(dout, cache)), clean, strict=True
    ):
        assert_near(ours, theirs)


@pytest.mark.parametrize(
    **crossed(
        way=WAYS,
        bad=BAD,
        size={"moderate": 1.0, "large": 1000.0},
        band=[{"causal": "upper_left"}, {"window": 1}],
    )
)
def test_what_a_band_hides_from_a_query_does_not_reach_it(way, bad, size, band):
    query, key, value, dout = operands(size=size)
    out, cache = run(query, key, value, way=way, scale=1.0, **band)
    dquery = attention_backward(dout, cache)[0]
    key[:, 5], value[:, 5] = bad, bad
    spoilt, cache = run(query, key, value, way=way, scale=1.0, **band)
    dspoilt = attention_backward(dout, cache)[0]
    apart = slice(0, 4)  # of these, neither band shows key 5
    assert_near(spoilt[:, apart], out[:, apart])
    assert_near(dspoilt[:, apart], dquery[:, apart])
    assert not np.isfinite(spoilt[:, 5]).any()


@pytest.mark.parametrize(**crossed(way=WAYS, bad=BAD, size={"moderate": 1.0, "large": 1000.0}))
def test_a_query_that_sees_nothing_may_hold_anything(way, bad, size):
    query, key, value, dout = operands(size=size)
    options = {"way": way, "scale": 1.0, "mask": np.arange(T_DEC)[:, None] != 4}
    out, cache = run(query, key, value, **options)
    clean = (out, *attention_backward(dout, cache))
    query[:, 4], dout[:, 4] = bad, bad
    out, cache = run(query, key, value, **options)
    for ours, theirs in zip((out, *attention_backward(dout, cache)), clean, strict=True):
        assert_near(ours, theirs)
    assert not out[:, 4].any()
    assert (cache.logsumexp[:, 4] == -np.inf).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("lowest", [-1e300, np.finfo(float).min])
def test_a_float_mask_below_the_dtypes_least_number_hides_in_silence(dtype, lowest):
    arrays = [x.astype(dtype) for x in operands()[:3]]
    hidden = np.arange(T_ENC) == 2
    out, cache = attention(*arrays, mask=np.where(hidden, lowest, 0.0))
    expected, _ = attention(*arrays, mask=~hidden)
    assert not cache.weights[..., 2].any()
    np.testing.assert_array_equal(out, expected)


# Nothing at all, and where the engines meet


@pytest.mark.parametrize(
    **crossed(
        way=WAYS,
        empty=[((0,), 5), ((2,), 0), ((0, 3), 5), ((2, 0), 5), ((2, 6), 0)],
        options={
            "nothing": {},
            "causal": {"causal": "upper_left"},
            "float mask": {"mask": np.ones(7)},
        },
    )
)
def test_an_empty_batch_has_an_empty_logsumexp_and_empty_weights(way, empty, options):
    lead, T_dec = empty
    shapes = (*lead, T_dec, 3), (*lead, 7, 3), (*lead, 7, 2)
    out, cache = run(*map(np.ones, shapes), way=way, **options)
    assert out.shape == (*lead, T_dec, 2)
    assert cache.logsumexp.shape == (*lead, T_dec)
    if way[1]:
        assert cache.weights.shape == (*lead, T_dec, 7)
    assert [x.shape for x in attention_backward(out, cache)] == list(shapes)


def test_an_empty_batch_of_grouped_heads():
    shapes = (0, 6, 5, 3), (0, 2, 7, 3), (0, 2, 7, 11)
    out, cache = attention(*map(np.ones, shapes))
    assert (out.shape, cache.logsumexp.shape) == ((0, 6, 5, 11), (0, 6, 5))
    assert cache.weights.shape == (0, 6, 5, 7)


@pytest.mark.parametrize(
    ("nbytes", "pair", "hidden", "kept"),
    [
        (16 << 20, 16 << 20, False, True),  # one pair
        (64 << 20, 16 << 20, False, True),
        (17 << 20, 17 << 20, False, False),
        (68 << 20, 4 << 20, False, False),
        (64 << 20, 1 << 13, False, True),  # small pairs
        (8 << 20, 8 << 20, True, True),  # under causal order
        (9 << 20, 9 << 20, True, False),
        (16 << 20, 4 << 20, True, True),
        (20 << 20, 4 << 20, True, False),
    ],
)
def test_weights_are_kept_up_to_64_MiB_and_16_MiB_a_pair_or_16_and_8(nbytes, pair, hidden, kept):
    query, key = np.ones((nbytes // pair, pair >> 13, 1)), np.ones((nbytes // pair, 1024, 1))
    causal = "lower_right" if hidden else None
    assert (attention(query, key, key, causal=causal)[1].weights is not None) is kept
