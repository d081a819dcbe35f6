"""The named tensors and their random streams."""

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
