"""How a calculation is cut: what is seen once, what is hidden never, and at what cost."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.cluster.plan import CARRIED, MERGED, index_of, joints, plan
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import ParameterError

SIDES = ("upper_left", "lower_right")


@st.composite
def calculations(draw):
    """Draw shapes, what is seen of them, and how they are cut."""
    T_dec, T_enc = draw(st.integers(1, 13)), draw(st.integers(1, 17))
    N, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    heads = kv_heads * group
    shared = draw(st.booleans())
    key = (1 if shared else N, kv_heads, T_enc, 5)
    shapes = (N, heads, T_dec, 5), key, (N, kv_heads, T_enc, 7)
    side = draw(st.sampled_from(SIDES))
    semantics = Semantics(
        causal=draw(st.sampled_from([None, side])),
        align=side,
        window=draw(st.sampled_from([None, 0, (2, -1), (-1, 3)])),
    )
    kind = draw(st.sampled_from(["none", "lengths", "segments", "packed"]))
    extras = Extras()
    if kind == "lengths":
        lengths = draw(st.lists(st.integers(0, T_enc), min_size=N, max_size=N))
        extras = Extras(kv_lengths=np.array(lengths))
    elif kind == "segments":
        ids = st.integers(0, 2)
        extras = Extras(
            segments=(
                np.array(draw(st.lists(ids, min_size=T_dec, max_size=T_dec))),
                np.array(draw(st.lists(ids, min_size=T_enc, max_size=T_enc))),
            )
        )
    elif kind == "packed":
        cut = draw(st.integers(0, T_dec)), draw(st.integers(0, T_enc))
        extras = Extras(
            cu_seqlens=np.array([0, cut[0], T_dec]), cu_seqlens_k=np.array([0, cut[1], T_enc])
        )
    lead = (N, heads)
    visibility = Visibility.of(semantics, T_dec, T_enc, None, extras.placed(lead, T_dec, T_enc))
    block = draw(st.sampled_from([1, 2, 3, 5, 100]))
    return shapes, lead, visibility, plan(shapes, visibility, backward=True, block=block)


def seen_of(visibility, lead):
    """What each query sees by its step, at every place."""
    shape = (*lead, visibility.T_dec, visibility.T_enc)
    return np.broadcast_to(visibility.by_step.pattern(), shape)


@pytest.mark.parametrize("way", ["rows", "bands"])
@given(calculations())
def test_every_pair_that_is_seen_is_in_one_tile(way, drawn):
    _, lead, visibility, found = drawn
    seen = seen_of(visibility, lead)
    times = np.zeros(seen.shape, int)
    for group in getattr(found, way)():
        for tile in group:
            times[(*tile.box, tile.rows, tile.keys)] += 1
            assert seen[(*tile.box, tile.rows, tile.keys)].sum() == tile.area
    assert (times[seen] == 1).all()
    assert times.max() <= 1


@given(calculations())
def test_a_tile_in_which_nothing_is_seen_is_there_only_for_rows_without_any_other(drawn):
    found = drawn[-1]
    assert all(len(row) == 1 or all(tile.area for tile in row) for row in found.rows())
    places = len(found.boxes) * len(found.row_blocks)
    assert len({(repr(tile[0].box), tile[0].rows.start) for tile in found.rows()}) == places


@given(calculations())
def test_what_a_plan_says_of_itself_is_what_it_holds(drawn):
    shapes, _, _, found = drawn
    rows, bands = list(found.rows()), list(found.bands())
    assert found.tiles == sum(map(len, rows))
    assert found.area == sum(tile.area for row in rows for tile in row)
    merges = sum(joints(len(row), MERGED) for row in rows)
    carried = Counter(repr((tile.box, tile.rows)) for band in bands for tile in band)
    back = sum(len(band) + joints(len(band), found.summed) for band in bands)
    back += sum(-(-number // CARRIED) for number in carried.values())
    assert found.tasks == found.tiles + merges + back
    H, H_v, itemsize = *found.sizes, found.itemsize
    read = sum(
        (tile.rows.stop - tile.rows.start) * H + (tile.keys.stop - tile.keys.start) * (H + H_v)
        for row in rows
        for tile in row
    )
    forward = plan(shapes, found.visibility, block=found.block[0])
    assert forward.read == read * itemsize


def test_few_gradients_wait_to_be_summed_unless_that_makes_larger_blocks():
    few, many = (plan(((T, 64),) * 3, threads=64, backward=True) for T in (10**6, 10**7))
    assert (few.summed, few.block[0]) == (3, 16384)
    assert (many.summed, many.block[0]) == (5, 65536)


@given(calculations())
def test_a_band_holds_all_tiles_that_share_its_keys_or_values(drawn):
    shapes, lead, _, found = drawn
    for name in (1, 2):
        owners = {}
        for number, band in enumerate(found.bands()):
            for tile in band:
                place = repr((index_of(shapes[name], lead, tile.box), tile.keys))
                assert owners.setdefault(place, number) == number


@given(calculations())
def test_sinks_are_counted_with_the_first_keys_of_every_row(drawn):
    found = replace(drawn[-1], sinks=True)
    for row in found.rows():
        first, *others = row
        assert first.keys.start == 0
        assert all(tile.area for tile in others)
    assert sum(map(len, found.bands())) == found.tiles


def test_longest_rows_come_first():
    causal = Visibility.of(Semantics(causal="upper_left"), 11, 11)
    areas = [sum(tile.area for tile in row) for row in plan(((11, 5),) * 3, causal, block=3).rows()]
    assert areas == sorted(areas, reverse=True)


def test_leading_axes_are_cut_first():
    """Of themselves they are enough, so rows stay whole."""
    found = plan(((3, 17, 8192, 64),) * 3, threads=8)
    assert (found.block[0], found.tiles) == (16384, 51)


def test_few_queries_are_cut_by_keys():
    found = plan(((1, 64), (10**7, 64), (10**7, 64)), threads=8)
    (row,) = found.rows()
    assert len(row) == 611
    assert found.tasks == 611 + joints(611, MERGED)


@pytest.mark.parametrize("causal", [None, "lower_right"])
@pytest.mark.parametrize("window", [None, 4096])
@pytest.mark.parametrize("threads", [1, 64])
@pytest.mark.parametrize("T", [10**5, 10**6, 10**7, 10**8])
def test_there_are_never_too_many_tasks(T, threads, window, causal):
    visibility = Visibility.of(Semantics(causal=causal, window=window), T, T)
    found = plan(((T, 64),) * 3, visibility, threads=threads, backward=True)
    assert found.tiles <= 25_000
    assert found.tasks <= 60_000
    assert found.block[0] >= 4096


def test_many_pairs_are_gathered_so_that_there_are_never_too_many_tasks():
    query, shared = (64, 512, 2048, 64), (64, 64, 2048, 64)
    for key in (query, shared):
        found = plan((query, key, key), threads=8, backward=True)
        assert found.tasks <= 60_000
        assert found.area == 64 * 512 * 2048**2


def test_blocks_are_halved_for_threads_and_no_further_than_pays():
    sizes = [plan(((65536, 64),) * 3, threads=threads).block[0] for threads in (1, 4, 8, 64, 1000)]
    assert sizes == [16384, 16384, 8192, 4096, 4096]


def test_a_block_that_is_given_is_obeyed():
    assert plan(((10**6, 64),) * 3, threads=64, block=32768).tiles == 961


def test_blocks_are_multiples_of_what_is_stored_together():
    found = plan(((10**5, 64),) * 3, threads=64, chunk=1000)
    assert found.block[0] % 1000 == 0
    with pytest.raises(
        ParameterError, match="block is 1500, expected a multiple of the 1000 ste"
    ) as told:
        plan(((10**5, 64),) * 3, block=1500, chunk=1000)
    assert told.value.hint == "--block 2000"
    assert plan(((10**5, 64),) * 3, block=500, chunk=1000).block[0] == 500


def test_what_is_stored_in_one_piece_makes_no_block_of_that_size():
    assert plan(((10**6, 64),) * 3, threads=8, chunk=10**6).block[0] == 16384


def test_a_mask_for_every_pair_makes_blocks_smaller():
    whole = plan(((10**5, 64),) * 3, threads=2)
    masked = plan(((10**5, 64),) * 3, threads=2, beside=1)
    assert (whole.block[0], masked.block[0]) == (16384, 8192)
    assert masked.task_nbytes > masked.block[0] ** 2


def test_what_is_hidden_costs_nothing():
    T = 10**6
    whole, causal, window = (
        plan(((T, 64),) * 3, Visibility.of(semantics, T, T), threads=8, backward=True)
        for semantics in (Semantics(), Semantics(causal="upper_left"), Semantics(window=255))
    )
    assert causal.seconds == pytest.approx(whole.seconds / 2, rel=0.01)
    assert window.area == pytest.approx(T * 511, rel=0.01)


@pytest.mark.parametrize(
    ("T", "block", "threads", "hours", "K_and_V_read"),
    [(10**6, 32768, 8, 7.3 / 60, 16e9), (10**7, 65536, 64, 1.5, 0.78e12)],
)
def test_forward_costs_what_was_worked_out_on_paper(T, block, threads, hours, K_and_V_read):
    found = plan(((T, 64),) * 3, threads=threads, block=block)
    assert found.seconds / 3600 == pytest.approx(hours, rel=0.02)
    assert found.read == pytest.approx(K_and_V_read * 1.5, rel=0.02)  # and query


def test_joints_are_those_of_a_tree():
    assert [joints(n, 8) for n in (1, 2, 8, 9, 64, 65)] == [1, 1, 1, 3, 9, 12]
