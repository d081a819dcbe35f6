"""The named tensors and their random streams."""

from zlib import crc32

import numpy as np
import pytest

from attncli.errors import ParameterError
from attncli.tensors import axes_of, random_tensor, splitmix64

GOLDEN = [[1.2501886745449156, 1.162722683744505], [-0.1321699395775795, -1.8253756184130907]]


def test_the_stream_is_the_same_on_every_machine():
    """These bits never change: a published seed must stay reproducible."""
    drawn = random_tensor("hs_enc", (2, 2), seed=0)
    assert drawn.tolist() == GOLDEN


def test_the_generator_is_splitmix64():
    """The first words of the reference implementation for the seed 1234567."""
    assert splitmix64(1234567, 5).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_are_nearly_standard_normal():
    drawn = random_tensor("hs_enc", (100_000,))
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs((drawn**4).mean() - 2.9) < 0.1  # 3 less 6/5 twelfths
    assert np.abs(drawn).max() < 6
    assert len(np.unique(drawn)) == drawn.size


def splitmix64_at(start, place):
    """The word at a place of a stream, in whole numbers of Python: as the paper has it."""
    word = (start + (place + 1) * 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def twelve_at(name, seed, count, place):
    """The twelve uniform integers that make one number of a tensor of `count`."""
    start = splitmix64_at(splitmix64_at(seed, 0) ^ crc32(name.encode()), 0)
    words = [splitmix64_at(start, word * count + place) for word in range(6)]
    return [half for word in words for half in divmod(word, 2**32)]


MANY = (2, 3, 399_989)  # 2.3 times 2^20: what is drawn at a time, twice and a part
PLACES = [0, 7, 2**20 - 1, 2**20, 2**20 + 7, 2**21 - 1, 2**21, 2**21 + 7, 2 * 3 * 399_989 - 1]


def test_a_number_is_where_it_belongs_in_the_stream_however_many_there_are():
    drawn = random_tensor("hs_enc", MANY, seed=3).ravel()
    for place in PLACES:
        total = sum(twelve_at("hs_enc", 3, drawn.size, place))
        assert drawn[place] == (total + 6) / 2**32 - 6


def test_many_random_numbers_do_not_repeat_themselves():
    drawn = random_tensor("query", MANY).ravel()
    first, second, rest = np.split(drawn, [2**20, 2**21])
    # Of some 2^34 numbers there are, a million meet a million a few times by chance.
    assert np.isin(second, first).mean() < 1e-3
    assert np.isin(rest, drawn[: 2**21]).mean() < 1e-3


def test_many_random_weights_are_weights_and_do_not_repeat_themselves():
    weights = random_tensor("a", (3, 399_989), seed=3)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    total = [sum(twelve_at("a", 3, weights.size, place)) for place in (2**20 - 1, 2**20)]
    row = weights[2]  # both lie in it
    assert row[2**20 - 2 * 399_989] / row[2**20 - 1 - 2 * 399_989] == pytest.approx(
        total[1] / total[0], rel=1e-14
    )


def test_every_name_has_its_own_stream():
    assert not np.array_equal(random_tensor("hs_enc", (3, 5)), random_tensor("hs_dec", (3, 5)))


def test_a_seed_changes_the_numbers_and_a_dtype_only_rounds_them():
    wide = random_tensor("h", (3, 5), seed=1)
    assert not np.array_equal(wide, random_tensor("h", (3, 5), seed=2))
    np.testing.assert_array_equal(
        random_tensor("h", (3, 5), seed=1, dtype="float32"), wide.astype(np.float32)
    )


def test_random_weights_are_weights():
    weights = random_tensor("a", (5, 7))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights > 0).all()


def test_negative_seed_is_refused():
    with pytest.raises(ParameterError, match="seed is -1"):
        random_tensor("h", (1,), seed=-1)


@pytest.mark.parametrize(
    ("name", "ndim", "axes"),
    [
        ("dhs_dec", 3, ("N", "T_dec", "H")),
        ("da", 2, ("N", "T_enc")),
        ("dh", 2, ("N", "H")),
        ("dscores", 2, ("T_dec", "T_enc")),
        ("mask", 4, ("N", "heads", "T_dec", "T_enc")),
        ("dec_mask", 2, ("N", "T_dec")),
        ("h", 3, None),
        ("unheard_of", 2, None),
    ],
)
def test_axes_by_name(name, ndim, axes):
    assert axes_of(name, ndim) == axes
