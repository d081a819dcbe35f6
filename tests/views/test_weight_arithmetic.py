"""What pictures of weights are made of, as arrays: pooling, scales, statistics, rollout, parts."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.errors import ShapeError
from attncli.views.heads import SORTS, Head, sort_heads
from attncli.views.pooling import factor, pool
from attncli.views.scales import Scale, brightest
from attncli.views.shades import levels
from attncli.views.strongest import strongest
from attncli.weights.combining import max_of, mean_of, rollout
from attncli.weights.cutting import Cut, renormalised
from attncli.weights.statistics import after_former_words, head_statistics
from attncli.weights.tokens import is_padding, is_special, readable


def weights_of(*shape, seed=0):
    exps = np.exp(np.random.default_rng(seed).normal(size=shape))
    return exps / exps.sum(axis=-1, keepdims=True)


@given(st.integers(1, 13), st.integers(1, 17), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_pooling_takes_every_weight_into_one_block(T_dec, T_enc, down, across):
    weights = weights_of(T_dec, T_enc)
    for how, reduce in (("max", np.max), ("mean", np.mean)):
        pooled = pool(weights, down, across, how)
        expected = [
            [reduce(weights[i : i + down, j : j + across]) for j in range(0, T_enc, across)]
            for i in range(0, T_dec, down)
        ]
        np.testing.assert_allclose(pooled, expected, rtol=1e-12)


def test_pooling_a_difference_keeps_the_sign_of_the_larger():
    difference = np.array([[0.1, -0.4], [0.2, 0.3]])
    assert pool(difference, 2, 2).tolist() == [[-0.4]]
    assert pool(-difference, 2, 2).tolist() == [[0.4]]


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_the_factor_is_the_smallest_that_fits(size, room):
    by = factor(size, room)
    assert -(-size // by) <= room
    assert by == 1 or -(-size // (by - 1)) > room


@pytest.mark.parametrize(
    ("kind", "values", "shares"),
    [
        ("linear", [[0.0, 0.2, 0.8]], [[0, 0.25, 1]]),
        ("log", [[8e-5, 8e-3, 0.8]], [[0, 0.5, 1]]),
        ("log", [[0.0, -1.0, 0.8]], [[0, 0, 1]]),
        ("row", [[0.1, 0.2], [0.8, 0.4], [0, 0]], [[0.5, 1], [1, 0.5], [0, 0]]),
        ("diverging", [[-0.8, 0.0, 0.4]], [[0, 0.5, 0.75]]),
        ("linear", [[np.nan, np.inf, -np.inf, 0.5]], [[np.nan, np.nan, np.nan, 1]]),
        ("row", [[np.nan, 0.5, 0.25], [np.inf, 0.0, 0.0]], [[np.nan, 1, 0.5], [np.nan, 0, 0]]),
    ],
)
def test_shares_of_a_scale(kind, values, shares):
    values = np.array(values, float)
    np.testing.assert_allclose(Scale.of(values, kind).shares(values), shares, atol=1e-12)


def test_levels_divide_the_shares_evenly():
    assert levels(np.array([0, 0.249, 0.25, 0.999, 1, np.nan]), 4).tolist() == [0, 0, 1, 3, 3, 4]


def test_brightest_ignores_what_is_not_finite():
    assert brightest(np.array([0.5, np.inf, np.nan])) == 0.5
    assert brightest(np.zeros((2, 0))) == 1.0


def test_statistics_of_heads():
    uniform = np.full((4, 4), 0.25)
    previous = np.eye(4, k=-1)
    previous[0, 0] = 1
    assert head_statistics(uniform)[:7] == pytest.approx((2.0, 0.25, 0.25, 0.25, 0.25, 0, 0.25))
    assert head_statistics(previous)[:7] == pytest.approx((0.0, 1.0, 0.5, 0.25, 1.0, 0, 1.0))


def test_dead_rows_are_counted_and_count_in_no_mean():
    weights = np.array([[0.0, 0.0], [0.5, 0.5]])
    assert head_statistics(weights)[:7] == pytest.approx((1.0, 0.5, 0.5, 0.5, 0.5, 1, 0.5))
    assert head_statistics(np.zeros((2, 3))) == (0, 0, 0, 0, 0, 2, 0, 0, None)
    assert head_statistics(np.zeros((0, 3))) == (0, 0, 0, 0, 0, 0, 0, 0, None)


def test_statistics_of_a_part_know_where_it_lies():
    weights = np.eye(7)
    part = head_statistics(weights[2:5, 1:6], range(2, 5), range(1, 6), weights.shape)
    assert (part.diagonal, part.previous, part.first) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("T_dec", "T_enc"), [(5, 5), (5, 20), (20, 5), (7, 90), (13, 11)])
def test_the_diagonal_of_a_rectangle_runs_from_corner_to_corner(T_dec, T_enc):
    along = np.zeros((T_dec, T_enc))
    for row in range(T_dec):
        along[row, int((row + 0.5) * T_enc / T_dec)] = 1
    assert head_statistics(along).diagonal == 1
    assert head_statistics(along[::-1]).diagonal < 0.3
    assert head_statistics(along[1:], range(1, T_dec), shape=along.shape).diagonal == 1


@pytest.mark.parametrize(("T_dec", "T_enc"), [(12, 90), (11, 11), (90, 12)])
def test_what_rises_with_the_rows_is_monotonic(T_dec, T_enc):
    pauses = np.zeros((T_dec, T_enc))  # sharp, but no straight line
    pauses[np.arange(T_dec), (np.linspace(0, 1, T_dec) ** 2 * (T_enc - 1)).astype(int)] = 1
    even = np.full((T_dec, T_enc), 1 / T_enc)
    noise = weights_of(T_dec, T_enc)
    values = [head_statistics(one).monotonic for one in (pauses, noise, even, pauses[::-1])]
    assert values[0] > 0.9
    assert abs(values[1]) < 0.3
    assert values[2] == pytest.approx(0)
    assert values[3] < -0.9
    first = np.zeros((T_dec, T_enc))
    first[:, 0] = 1
    assert head_statistics(first).monotonic == 0


@pytest.mark.parametrize("sink", [0, 1, 89])
def test_an_alignment_that_rests_on_a_sink_is_one_still(sink):
    weights = np.zeros((12, 90))
    weights[range(12), range(60, 84, 2)] = 0.4  # all of it in a small part
    weights[:, sink] += 0.6
    assert head_statistics(weights).monotonic > 0.95


@given(st.integers(2, 13), st.integers(2, 13), st.integers(0, 99))
def test_a_correlation_is_between_its_ends_and_turns_with_the_rows(T_dec, T_enc, seed):
    weights = np.random.default_rng(seed).random((T_dec, T_enc))
    found = head_statistics(weights).monotonic
    assert -1.000001 <= found <= 1.000001
    assert head_statistics(weights[::-1]).monotonic == pytest.approx(-found, abs=1e-4)
    assert head_statistics(weights[:, ::-1]).monotonic == pytest.approx(-found, abs=1e-4)
    assert head_statistics(weights * np.pi).monotonic == pytest.approx(found, abs=1e-4)


def test_induction_is_the_weight_on_what_followed_before():
    words = ["[CLS]", "a", "b", "a", "c", "a", "[SEP]", "[SEP]"]
    following = after_former_words(words)
    assert following == {3: [2], 5: [2, 4]}
    weights = np.zeros((8, 8))
    weights[3, 2], weights[5, 2], weights[5, 4], weights[1, 2] = 0.5, 0.25, 0.5, 1
    assert head_statistics(weights, following=following).induction == pytest.approx(1.25 / 2)
    part = head_statistics(weights[4:, 3:], range(4, 8), range(3, 8), (8, 8), following)
    assert part.induction == 0.5  # row 5 on key 4, the only one left
    assert head_statistics(weights).induction is None


def test_statistics_by_blocks_are_those_of_the_whole(monkeypatch):
    weights = weights_of(13, 11)
    whole = head_statistics(weights)
    monkeypatch.setattr("attncli.weights.statistics._AT_ONCE", 25)
    assert head_statistics(weights)[:8] == pytest.approx(whole[:8])
    assert whole.entropy == pytest.approx(-(weights * np.log2(weights)).sum(1).mean())


def test_heads_sort_by_what_stands_out():
    sharp, flat = (
        Head({"head": 0}, head_statistics(np.eye(3))),
        Head({"head": 1}, head_statistics(np.full((3, 3), 1 / 3))),
    )
    assert sort_heads([flat, sharp], "entropy") == [sharp, flat]
    assert sort_heads([flat, sharp], "max") == [sharp, flat]
    assert sort_heads([flat, sharp], None) == [flat, sharp]
    for by in SORTS:
        assert len(sort_heads([flat, sharp], by)) == 2
    cross = Head({"head": 2}, head_statistics(np.eye(3, k=-1)), square=False)
    assert sort_heads([cross, flat, sharp], "previous")[-1] == cross  # means nothing there


def test_mean_and_maximum_of_heads():
    heads = weights_of(5, 3, 7)
    np.testing.assert_allclose(mean_of(heads), heads.mean(axis=0))
    np.testing.assert_array_equal(max_of(heads), heads.max(axis=0))
    with pytest.raises(ShapeError, match="nothing in common"):
        mean_of([np.eye(2), np.eye(3)])


def test_rollout_is_the_product_of_layers_with_their_residual():
    first, second = weights_of(2, 5, 5)
    mixed = [(w + np.eye(5)) / 2 for w in (first, second)]
    np.testing.assert_allclose(rollout([first, second]), mixed[1] @ mixed[0])
    np.testing.assert_allclose(rollout([first, second]).sum(axis=1), 1)
    with pytest.raises(ShapeError, match="T_dec = T_enc"):
        rollout([np.ones((2, 3))])


def test_a_cut_takes_rows_and_columns():
    weights = weights_of(5, 7)
    rows, columns = np.array([1, 2]), np.array([0, 3, 6])
    part = Cut(rows, columns).apply(weights)
    np.testing.assert_array_equal(part, weights[1:3][:, [0, 3, 6]])
    again = Cut(rows, columns, renormalise=True).apply(weights)
    np.testing.assert_allclose(again.sum(axis=1), 1)
    np.testing.assert_allclose(again, part / part.sum(axis=1, keepdims=True))
    assert np.shares_memory(Cut(np.arange(5), np.arange(7)).apply(weights), weights)
    assert renormalised(np.zeros((1, 2))).tolist() == [[0, 0]]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_few_strongest_keys_are_those_of_a_full_sort(T_enc, count, seed):
    weights = np.random.default_rng(seed).integers(0, 4, (3, T_enc)) / 4
    expected = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(strongest(weights, count), expected)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_what_is_no_number_comes_after_all_numbers(count):
    weights = np.array([[0.5, np.nan, -0.75, 0.0, 0.25, np.nan, 0, 0, 0], [np.nan] * 9])
    order = strongest(weights, count)
    assert order[0].tolist() == [2, 0, 4, 3, 6, 7, 8, 1, 5][:count]
    assert order[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8][:count]


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (["[CLS]", "em", "##bed", "##ding", "##"], ["[CLS]", "em", "-bed", "-ding", "##"]),
        (["<s>", "▁the", "▁kit", "ten", ",", "▁"], ["<s>", "the", "kit", "-ten", ",", " "]),
        (["Hello", "Ġworld", "s", "!", "Ċ"], ["Hello", "world", "-s", "!", "\n"]),
        (["ĠæĹ¥", "æľ¬"], ["日", "-本"]),
        (["Ġa", "æĹ"], ["a", "-æĹ"]),  # half a character stays as it is
        (["plain", "words"], ["plain", "words"]),
    ],
)
def test_pieces_of_words_are_readable(tokens, shown):
    assert readable(tokens) == shown


def test_special_tokens_are_told_from_words():
    special = ["[CLS]", "[SEP]", "<s>", "</s>", "<|endoftext|>", "<bos>", "[PAD]", "[/INST]"]
    words = ["[UNK]", "<unk>", "CLS", "[", "<", "a", "[cat]", ""]
    assert all(map(is_special, special))
    assert not any(map(is_special, words))
    assert [token for token in special + words if is_padding(token)] == ["[PAD]"]


@pytest.mark.parametrize("how", ["max", "mean"])
def test_pooling_takes_little_memory_even_where_bytes_lie_at_odd_places(how):
    raw = np.zeros(8 * 3000 * 2000 + 1, np.uint8)
    weights = raw[1:].view(np.float64).reshape(3000, 2000)
    assert not weights.flags.aligned
    weights[1234, 567] = 0.5
    tracemalloc.start()
    try:
        pooled = pool(weights, 7, 3, how)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < weights.nbytes / 2
    assert pooled.shape == (429, 667)
    assert pooled[1234 // 7, 567 // 3] == pytest.approx(0.5 if how == "max" else 0.5 / 21)
    assert np.count_nonzero(pooled) == 1
