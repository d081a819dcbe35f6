"""What each query sees is counted exactly, tile by tile, and never there as a whole."""

import tracemalloc

import numpy as np
import pytest

from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.problems.surveying import alone, keys_of, survey

T_DEC, T_ENC = 23, 31


def visibility(extras=None, mask=None, lead=(), **options):
    placed = (extras or Extras()).placed(lead, T_DEC, T_ENC)
    return Visibility.of(Semantics(**options), T_DEC, T_ENC, mask, placed)


def of_every_kind():
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 3, T_DEC), rng.integers(0, 3, T_ENC)
    yield visibility()
    yield visibility(causal="upper_left")
    yield visibility(causal="lower_right", window=4)
    yield visibility(window=(2, 0), align="lower_right")
    yield visibility(mask=rng.random((T_DEC, T_ENC)) < 0.3)
    yield visibility(mask=np.where(rng.random((T_DEC, T_ENC)) < 0.3, -np.inf, 1.0), window=7)
    yield visibility(mask=np.zeros((1, T_ENC), bool))
    yield visibility(Extras(segments=ids))
    yield visibility(Extras(segments=ids), causal="upper_left")
    yield visibility(Extras(cu_seqlens=[0, 7, 7, 23], cu_seqlens_k=[0, 2, 13, 31]))


each_kind = pytest.mark.parametrize("one", list(of_every_kind()))


@each_kind
@pytest.mark.parametrize(("down", "across"), [(1, 1), (3, 2), (5, 7), (T_DEC, T_ENC), (40, 40)])
@pytest.mark.parametrize("tile", [(4, 6), (5, 5), (512, 512)])
def test_counts_and_cells_are_those_of_the_whole_pattern(one, down, across, tile):
    seen = one.pattern()
    found = survey(one, (), down, across, tile=tile)
    assert np.array_equal(found.counts, seen.sum(axis=1))
    assert found.seen == seen.sum()
    padded = np.zeros((-(-T_DEC // down) * down, -(-T_ENC // across) * across), bool)
    padded[:T_DEC, :T_ENC] = seen
    blocks = padded.reshape(len(padded) // down, down, -1, across)
    assert np.array_equal(found.cells, blocks.sum(axis=(1, 3)))


@each_kind
@pytest.mark.parametrize("tile", [(4, 6), (5, 5), (7, 1), (512, 512)])
def test_a_tile_is_visited_exactly_if_something_in_it_is_seen(one, tile):
    seen, (down, across) = one.pattern(), tile
    expected = [
        [bool(seen[at : at + down, to : to + across].any()) for to in range(0, T_ENC, across)]
        for at in range(0, T_DEC, down)
    ]
    assert survey(one, tile=tile).visited.tolist() == expected


@each_kind
def test_the_keys_of_every_query_are_those_of_the_pattern(one):
    again = np.zeros((T_DEC, T_ENC), bool)
    for row, runs in zip(again, keys_of(one), strict=True):
        for first, last in runs:
            assert not row[max(first - 1, 0) : last + 2].any()  # runs do not touch
            row[first : last + 1] = True
    assert np.array_equal(again, one.pattern())


@each_kind
@pytest.mark.parametrize("other", list(of_every_kind()))
def test_what_is_seen_in_one_reading_alone(one, other):
    expected = one.pattern() & ~other.pattern()
    counts, cells = alone(one, other)
    assert np.array_equal(counts, expected.sum(axis=1))
    assert np.array_equal(cells, expected)


def test_items_are_counted_each_by_itself():
    lengths = visibility(Extras(kv_lengths=[5, 31]), lead=(2, 3))
    assert lengths.lead == (2, 1)
    assert [survey(lengths, (item, 0)).seen for item in range(2)] == [T_DEC * 5, T_DEC * T_ENC]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"causal": "upper_left"}, 65_536 * 65_537 // 2),
        ({"causal": "upper_left", "window": 1023}, 65_536 * 1024 - 1023 * 1024 // 2),
    ],
)
def test_long_sequences_take_memory_of_a_few_tiles(options, expected):
    T = 65_536
    long = Visibility.of(Semantics(**options), T, T)
    tracemalloc.start()
    try:
        assert survey(long, (), 512, 512).seen == expected
        assert alone(long, Visibility((), T, T), (), 512, 512)[0].sum() == 0
        assert next(keys_of(long, rows=slice(T - 1, T)))[0][1] == T - 1
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 40e6


def test_a_difference_in_one_pair_far_from_all_others_is_found():
    T = 2003
    mask = np.ones((T, T), bool)
    mask[1999, 1201] = False
    counts, _ = alone(Visibility((), T, T), Visibility.of(Semantics(), T, T, mask))
    assert np.flatnonzero(counts).tolist() == [1999]
