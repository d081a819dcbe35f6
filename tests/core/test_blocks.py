"""The block primitives: any order and any split of the keys gives the same result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.core.blocks import finish, log, merge, partial, product, scores, sum_to

from . import reference
from .common import assert_near, tensors


@st.composite
def splits(draw):
    """Random query, key, value, seen, and the keys dealt out in pieces of any order."""
    T_enc = draw(st.integers(1, 13))
    order = draw(st.permutations(range(T_enc)))
    cuts = sorted(draw(st.sets(st.integers(1, max(T_enc - 1, 1)), max_size=5)))
    pieces = [piece for piece in np.split(np.array(order), cuts) if len(piece)]
    seed = draw(st.integers(0, 2**32))
    query, key, value = tensors(((2, 5, 3), (2, T_enc, 3), (2, T_enc, 7)), seed)
    seen = np.random.default_rng(seed).random((5, T_enc)) < draw(st.sampled_from([0.2, 1.0]))
    return query * draw(st.sampled_from([1.0, 100.0])), key, value, seen, pieces


@settings(deadline=None)
@given(splits(), st.data())
def test_any_split_merged_in_any_order_gives_the_whole(problem, data):
    query, key, value, seen, pieces = problem
    parts = [
        partial(scores(query, key[:, keys], seen=seen[:, keys]), value[:, keys], seen=seen[:, keys])
        for keys in pieces
    ]
    while len(parts) > 1:  # a random tree of merges
        one = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        other = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(merge(one, other))
    out, logsumexp = finish(parts[0])
    expected, _ = reference.attention(query, key, value, seen, scale=1)
    assert_near(out, expected, factor=10, scale=1)
    raw = np.where(seen, query @ key.swapaxes(-1, -2), -np.inf)
    assert_near(logsumexp, np.logaddexp.reduce(raw, axis=-1))


def test_without_a_reference_moderate_scores_give_the_same():
    query, key, value = tensors(((5, 3), (11, 3), (11, 7)))
    safe = finish(partial(scores(query, key), value))
    halves = [
        partial(scores(query, key[keys]) * np.log2(np.e), value[keys], shift=0.0, exp=np.exp2)
        for keys in (slice(0, 4), slice(4, 11))
    ]
    for actual, expected in zip(finish(merge(*halves)), safe, strict=True):
        assert_near(actual, expected)


@pytest.mark.parametrize("shifts", [(3.0, 3.0), (-2.0, -2.0), (3.0, -2.0), (0.0, 3.0)])
def test_any_reference_gives_the_same(shifts):
    query, key, value = tensors(((5, 3), (11, 3), (11, 7)))
    halves = [
        partial(scores(query, key[keys]), value[keys], shift=shift)
        for keys, shift in zip((slice(0, 4), slice(4, 11)), shifts, strict=True)
    ]
    for actual, expected in zip(
        finish(merge(*halves)), finish(partial(scores(query, key), value)), strict=True
    ):
        assert_near(actual, expected)


def test_merging_leaves_both_parts_as_they_were():
    query, key, value = tensors(((5, 3), (11, 3), (11, 7)))
    parts = [partial(scores(query, key[keys]), value[keys]) for keys in (slice(4), slice(4, 11))]
    copies = [[np.copy(x) for x in part] for part in parts]
    merge(*parts)
    for part, copy in zip(parts, copies, strict=True):
        for x, y in zip(part, copy, strict=True):
            np.testing.assert_array_equal(x, y)


def test_nothing_merged_with_something_is_something():
    query, key, value = tensors(((5, 3), (11, 3), (11, 7)))
    something = partial(scores(query, key), value)
    hidden = np.zeros((5, 11), bool)
    nothing = partial(scores(query, key, seen=hidden), value, seen=hidden)
    for pair in ((something, nothing), (nothing, something)):
        for actual, expected in zip(finish(merge(*pair)), finish(something), strict=True):
            assert_near(actual, expected)
    out, logsumexp = finish(merge(nothing, nothing))
    assert not out.any()
    assert (logsumexp == -np.inf).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_product_leaves_out_what_is_not_seen(bad):
    rng = np.random.default_rng(0)
    seen = rng.random((2, 5, 7)) < 0.5
    first = np.where(seen, rng.random((2, 5, 7)), 0)
    second = rng.standard_normal((2, 7, 3))
    clean = first @ second
    second[1, 4, 2] = bad
    result = product(first, second, seen)
    touched = np.zeros_like(clean, bool)
    touched[1, seen[1, :, 4], 2] = True
    assert not np.isfinite(result[touched]).any()
    assert_near(result[~touched], clean[~touched])


def test_log_of_an_empty_sum_is_minus_infinity():
    assert log(np.array([1.0, 0.0])).tolist() == [0.0, -np.inf]


def test_sum_to_undoes_a_broadcast():
    x = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    for shape in ((2, 3, 5), (3, 5), (1, 5), (2, 1, 5), (1, 1, 1), (5,)):
        back = sum_to(x, shape)
        assert back.shape == shape
        assert back.sum() == x.sum()
        assert (
            back.flat[0]
            == x[np.broadcast_to(np.arange(back.size).reshape(shape), x.shape) == 0].sum()
        )
