"""The one judgement of whether numbers agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attncli.checking.comparing.agreement import EXACT, TILE, Tolerance, errors, near, outside
from attncli.problems.pairing import compare

NUMBERS = arrays(np.float64, (2, 3), elements=st.floats(width=16) | st.sampled_from([0.0, -0.0]))


@given(NUMBERS, NUMBERS, st.booleans())
def test_the_cheap_answer_is_that_of_a_comparison(a, b, equal_nan):
    a[0] = b[0]
    found = near(a, b, Tolerance(0.25, 0.5, equal_nan=equal_nan))
    report = compare(a, b, rtol=0.25, atol=0.5, equal_nan=equal_nan)
    (tensor,) = report.tensors
    assert found.agrees == report.passed
    assert outside(a, b, Tolerance(0.25, 0.5, equal_nan=equal_nan)).sum() == tensor.outside
    assert found.absolute == tensor.largest_difference


@given(NUMBERS, NUMBERS, st.sampled_from([0.0, 0.01, 1.0]))
def test_an_array_agrees_where_no_error_is_beyond_the_relative_tolerance(a, b, share):
    tolerance = Tolerance(0.25, share=share, least=0.01, equal_nan=True)
    found, each = near(a, b, tolerance), errors(a, b, tolerance)
    assert found.relative == each.max()
    assert each[found.worst] == each.max()
    if abs(found.relative - 0.25) > 1e-9:  # the edge is rounded the one way or the other
        assert found.agrees == (each.max() <= 0.25)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_of_a_large_array_a_tile_at_a_time_is_looked_at(share, dtype):
    b = np.ones((3, TILE + 7), dtype)
    a = b.copy()
    tolerance = Tolerance(0.2, share=share)
    assert near(a, b, tolerance) == (True, 0.0, 0.0, 0, a.shape)
    b[0, 3], a[0, 3] = -8, -8
    a[2, TILE + 3] = 3
    found = near(a, b, tolerance)
    assert (found.agrees, found.absolute, found.worst) == (False, 2.0, (2, TILE + 3))
    assert found.relative == 2 / max(1, share * 8)
    a[1, 1] = np.inf
    found = near(a, b, tolerance)
    assert (found.agrees, found.absolute, found.relative) == (False, np.inf, np.inf)
    assert found.worst == (1, 1)


def test_a_large_array_differs_though_its_last_tile_does_not():
    b = np.ones(3 * TILE)
    a = b.copy()
    a[TILE // 2] = 2
    found = near(a, b, Tolerance(0.2))
    assert (found.agrees, found.worst) == (False, (TILE // 2,))
    tolerance = Tolerance(0.2, share=0.5)
    b[-1] = a[-1] = 4
    assert near(a, b, tolerance).relative == 1 / 2


@pytest.mark.parametrize(
    ("share", "least", "relative"),
    [(0.0, 0.0, 2.0), (0.25, 0.0, 1.0), (0.5, 0.0, 0.5), (1.0, 0.0, 0.25), (0.0, 1.5, 2 / 3)],
)
def test_small_elements_are_measured_by_a_share_of_the_largest(share, least, relative):
    b = np.array([0.5, -4.0, np.inf])
    a = np.array([1.5, -4.0, np.inf])
    tolerance = Tolerance(0.1, share=share, least=least)
    assert near(a, b, tolerance).relative == errors(a, b, tolerance).max() == relative
    # An element that is large by itself is measured against itself.
    if share < 1:
        assert near(np.array([0.5, -5.0, np.inf]), b, tolerance).relative == 1 / 4


def test_infinities_do_not_make_everything_else_small():
    b = np.array([np.inf, 1.0])
    assert not near(np.array([np.inf, 2.0]), b, Tolerance.of_largest(0.1)).agrees
    assert near(np.array([np.inf, 1.05]), b, Tolerance.of_largest(0.1)).agrees
    assert not near(np.array([-np.inf, 1.0]), b, Tolerance.of_largest(0.1)).agrees


def test_beside_zeros_alone_an_error_is_what_it_is():
    assert near(np.array([0.5, 0.0]), np.zeros(2), Tolerance.of_largest(0.1)).relative == 0.5


@pytest.mark.parametrize(
    ("a", "b"),
    [(True, True), (2**60 + 1, 2**60 + 1), (np.nan, np.nan), (-0.0, 0.0), (np.inf, np.inf)],
)
def test_the_same_numbers_are_the_same(a, b):
    for shape in ((), (2, 3)):
        assert near(np.full(shape, a), np.full(shape, b), EXACT).agrees


@pytest.mark.parametrize(
    ("a", "b"),
    [(True, False), (2**60 + 1, 2**60), (np.nan, 0.0), (5e-324, 0.0), (np.inf, -np.inf)],
)
def test_other_numbers_are_others_however_near(a, b):
    for shape in ((), (2, 3)):
        assert not near(np.full(shape, a), np.full(shape, b), EXACT).agrees
        assert outside(np.full(shape, a), np.full(shape, b), EXACT).all()
