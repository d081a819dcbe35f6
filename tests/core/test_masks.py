"""Which keys a query sees, whole and tile by tile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.core import attention_weights
from attncli.core.visibility import Band, Masking

bounds = st.none() | st.integers(-12, 12)


@given(bounds, bounds, st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_tile_of_the_band_is_that_part_of_the_whole(low, high, T_dec, T_enc, data):
    offset = np.arange(T_enc) - np.arange(T_dec)[:, None]
    whole = (offset >= (-99 if low is None else low)) & (offset <= (99 if high is None else high))
    rows, keys = (
        slice(*sorted(data.draw(st.sets(st.integers(0, size), min_size=2, max_size=2))))
        for size in (T_dec, T_enc)
    )
    band, part = Band(low, high), whole[rows, keys]
    tile = band.seen(rows, keys)
    assert part.all() if tile is None else (tile == part).all()
    seen = np.flatnonzero(whole[rows].any(0))
    reach = band.keys(rows, T_enc)
    assert set(seen) <= set(range(reach.start, reach.stop))
    if len(seen):
        assert (reach.start, reach.stop) == (seen[0], seen[-1] + 1)
    seeing = rows.start + np.flatnonzero(part.any(1))
    those = band.rows(rows, keys)
    assert set(seeing) <= set(range(those.start, those.stop))
    if len(seeing):
        assert (those.start, those.stop) == (seeing[0], seeing[-1] + 1)


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


def test_a_masking_of_nothing_is_false():
    assert not Masking(None, None)
    assert Masking(np.ones((1, 1), bool), None)
    assert Masking(None, Band(None, 0))
