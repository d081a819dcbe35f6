"""Which keys a query sees: whole, row by row, tile by tile, and of some queries alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.core import attention, attention_weights
from attncli.core.semantics import Semantics
from attncli.core.visibility import Band, Visibility, as_mask, read_mask
from attncli.errors import AttnWarning, DtypeError

bounds = st.none() | st.integers(-12, 12)


def some(data, size):
    """A slice of an axis, never empty."""
    return slice(*sorted(data.draw(st.sets(st.integers(0, size), min_size=2, max_size=2))))


@given(bounds, bounds, st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_tile_of_the_band_is_that_part_of_the_whole(low, high, T_dec, T_enc, data):
    offset = np.arange(T_enc) - np.arange(T_dec)[:, None]
    whole = (offset >= (-99 if low is None else low)) & (offset <= (99 if high is None else high))
    rows, keys = some(data, T_dec), some(data, T_enc)
    band, part = Band(low, high), whole[rows, keys]
    bias, tile = band.tile(rows, keys)
    assert bias is None
    assert part.all() if tile is None else (tile == part).all()
    assert band.says(rows, keys) == told(part)
    seen = np.flatnonzero(whole[rows].any(0))
    reach = band.keys(rows, slice(0, T_enc))
    assert set(seen) <= set(range(reach.start, reach.stop))
    if len(seen):
        assert (reach.start, reach.stop) == (seen[0], seen[-1] + 1)
    seeing = rows.start + np.flatnonzero(part.any(1))
    those = band.rows(rows, keys)
    assert set(seeing) <= set(range(those.start, those.stop))
    if len(seeing):
        assert (those.start, those.stop) == (seeing[0], seeing[-1] + 1)


def told(seen):
    return "all" if seen.all() else "some" if seen.any() else "none"


def expected(semantics, T_dec, T_enc, mask):
    """What is added and what is seen, element by element, as the definition reads."""
    bias, seen = np.zeros((2, T_dec, T_enc)), np.ones((2, T_dec, T_enc), bool)
    for n, query, key in np.ndindex(seen.shape):
        own = query + (T_enc - T_dec) * ("lower_right" in (semantics.causal, semantics.align))
        if semantics.causal and key > own:
            seen[n, query, key] = False
        before, after = sides(semantics.window)
        if own - key > before or key - own > after:
            seen[n, query, key] = False
    if mask is not None:
        full = np.broadcast_to(mask, seen.shape)
        seen &= full if full.dtype == bool else full != -np.inf
        bias = bias if full.dtype == bool else full
    return bias, seen


def sides(window):
    pair = window if isinstance(window, tuple) else (window, window)
    return [np.inf if side in (None, -1) else side for side in pair]


@st.composite
def cases(draw):
    T_dec, T_enc = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    causal = draw(st.sampled_from([None, "upper_left", "lower_right"]))
    side = st.integers(-1, 4)
    semantics = Semantics(
        causal=causal,
        align=draw(st.sampled_from([None, "upper_left", "lower_right"])) if not causal else None,
        window=draw(st.none() | side | st.tuples(side, side)),
    )
    mask = None
    if kind := draw(st.sampled_from(["", "bool", "float"])):
        shape = [draw(st.sampled_from([1, size])) for size in (2, T_dec, T_enc)]
        shape = shape[draw(st.integers(0, 2)) :]
        numbers = st.sampled_from([True, False] if kind == "bool" else [-np.inf, 0.0, 1.5])
        size = int(np.prod(shape))
        mask = np.reshape(draw(st.lists(numbers, min_size=size, max_size=size)), shape)
    return semantics, T_dec, T_enc, mask


def same(answer, bias, seen):
    got_bias, got_seen = answer
    assert seen.all() if got_seen is None else (got_seen == seen).all()
    assert np.array_equal(np.where(seen, 0 if got_bias is None else got_bias, 0), bias * seen)


@given(cases(), st.data())
@pytest.mark.filterwarnings("ignore:invalid value")  # −inf · False, above
def test_whole_row_tile_and_what_it_says_are_one_description(case, data):
    semantics, T_dec, T_enc, mask = case
    bias, seen = expected(*case)
    visibility = Visibility.of(*case)
    same(visibility.whole(), np.where(seen, bias, 0), seen)
    assert np.array_equal(np.broadcast_to(visibility.pattern(), seen.shape), seen)
    t = data.draw(st.integers(0, T_dec - 1))
    same(visibility.row(t), np.where(seen, bias, 0)[:, t], seen[:, t])
    rows, keys = some(data, T_dec), some(data, T_enc)
    same(visibility.tile(rows, keys), np.where(seen, bias, 0)[:, rows, keys], seen[:, rows, keys])
    assert visibility.says(rows, keys) == told(seen[:, rows, keys])
    reach = visibility.keys(rows)
    assert not np.delete(seen[:, rows], np.r_[reach], axis=-1).any()
    assert not np.delete(seen[:, :, keys], np.r_[visibility.rows(slice(0, T_dec), keys)], 1).any()
    assert bool(visibility) == (
        semantics.causal is not None or sides(semantics.window) != [np.inf] * 2 or mask is not None
    )
    assert visibility.adds == (mask is not None and mask.dtype != bool)


@given(cases(), st.data())
@pytest.mark.filterwarnings("ignore:invalid value")
def test_of_rows_means_the_same_where_these_queries_are_all_there_are(case, data):
    semantics, T_dec, T_enc, _ = case
    bias, seen = expected(*case)
    chosen = data.draw(
        st.just(some(data, T_dec))
        | st.just(slice(None, None, 2))
        | st.lists(st.integers(0, T_dec - 1), min_size=1).map(np.array)
    )
    part = Visibility.of(*case).of_rows(chosen)
    assert part.T_dec == seen[:, chosen].shape[1]
    same(part.whole(), np.where(seen, bias, 0)[:, chosen], seen[:, chosen])
    again = Visibility.of(semantics.of_scores(), part.T_dec, T_enc, part.as_mask())
    same(again.whole(), np.where(seen, bias, 0)[:, chosen], seen[:, chosen])


def test_an_index_is_a_place_on_the_leading_axes():
    mask = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7) % 4 > 0
    visibility = Visibility.of(Semantics(causal="upper_left"), 5, 7, mask)
    everywhere = np.broadcast_to(visibility.pattern(), mask.shape)
    assert np.array_equal(visibility.pattern((1, 2)), everywhere[1, 2])
    assert np.array_equal(visibility.row(4, (1, slice(0, 2)))[1], everywhere[1, :2, 4])
    shared = Visibility.of(Semantics(), 5, 7, mask[:, :1])
    assert np.array_equal(shared.pattern((1, 2)), mask[1, 0])


@pytest.mark.parametrize(
    ("causal", "T_dec", "T_enc", "window", "expected"),
    [
        ("upper_left", 3, 5, None, ["1....", "11...", "111.."]),
        ("lower_right", 3, 5, None, ["111..", "1111.", "11111"]),
        ("upper_left", 5, 3, None, ["1..", "11.", "111", "111", "111"]),
        ("lower_right", 5, 3, None, ["...", "...", "1..", "11.", "111"]),
        (None, 3, 5, 1, ["11...", "111..", ".111."]),
        ("upper_left", 3, 5, 1, ["1....", "11...", ".11.."]),
        ("lower_right", 3, 5, 1, [".11..", "..11.", "...11"]),
        (None, 3, 3, 0, ["1..", ".1.", "..1"]),
    ],
)
@pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")
def test_causal_and_window_as_pictures(causal, T_dec, T_enc, window, expected):
    weights = attention_weights(
        np.zeros((T_dec, 2)), np.zeros((T_enc, 2)), causal=causal, window=window
    )
    assert ["".join("1" if w else "." for w in row) for row in weights] == expected


def test_nothing_that_hides_or_adds_is_false():
    assert not Visibility.of(Semantics(scale=2.0, softcap=1.0), 3, 5)
    assert Visibility.of(Semantics(), 3, 5, np.ones((1, 1), bool))
    assert Visibility.of(Semantics(window=9), 3, 5)


def test_one_mask_out_of_bias_and_seen_keeps_the_dtype():
    bias, seen = np.ones((2, 3), np.float32), np.eye(2, 3, dtype=bool)
    assert as_mask(None, None) is None
    assert as_mask(None, seen) is seen
    assert as_mask(bias, None) is bias
    both = as_mask(bias, seen)
    assert both.dtype == np.float32
    assert np.array_equal(both, np.where(seen, 1, -np.inf))


# Reading a mask


@pytest.mark.parametrize("dtype", [int, np.uint8, np.int16, ">i4"])
def test_a_mask_of_integers_0_and_1_is_boolean_with_one_note(dtype):
    query, key, value = (
        np.random.default_rng(0).normal(size=(5, 7))[:, : 3 + at] for at in (0, 0, 2)
    )
    mask = np.tri(5, dtype=int).astype(dtype)
    with pytest.warns(AttnWarning, match="read as boolean: 1 takes part, 0 is hidden") as caught:
        out = attention(query, key, value, mask=mask)[0]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.array_equal(out, attention(query, key, value, mask=mask.astype(bool))[0])
    with pytest.warns(AttnWarning, match="read as boolean") as caught:
        weights = attention_weights(query, key, mask=mask)
    assert caught[0].filename == __file__
    assert np.array_equal(weights, attention_weights(query, key, mask=mask.astype(bool)))


@pytest.mark.parametrize(
    "mask", [np.array([0, 255]), np.array([0, -1]), np.array([1, 2], np.uint8)]
)
def test_a_mask_of_other_integers_is_refused(mask):
    with pytest.raises(DtypeError, match="with other values than 0 and 1, expected bool or 0/1"):
        read_mask("mask", mask)


@pytest.mark.parametrize("mask", [np.array([1j]), np.array(["1"]), np.array([None])])
def test_a_mask_that_is_no_number_is_refused(mask):
    with pytest.raises(DtypeError, match=r"^mask is \S+, expected bool or 0/1 .*, or floating$"):
        read_mask("mask", mask)


def test_only_mask_itself_may_be_floating():
    ones = np.array([[1.0, 0.0]])
    assert read_mask("mask", ones) is ones
    assert read_mask("enc_mask", ones).tolist() == [[True, False]]
    with pytest.raises(DtypeError, match=r"^enc_mask is float64 with other values"):
        read_mask("enc_mask", ones * 0.5)
