"""Numbers as text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.views.numbers import format_array, format_error


@pytest.mark.parametrize(
    ("values", "precision", "texts"),
    [
        ([1.0, -0.25], 4, ["1.0000", "-0.2500"]),
        ([0.0, 0.0], 2, ["0.00", "0.00"]),
        ([-0.0, -0.00001, 1.0], 2, ["0.00", "0.00", "1.00"]),
        ([1e-7, 2e-7], 2, ["1.00e-07", "2.00e-07"]),
        ([1e7, 1.0], 1, ["1.0e+07", "1.0e+00"]),
        ([np.nan, np.inf, 1.0], 2, ["nan", "inf", "1.00"]),
        ([0.5], 0, ["0"]),
    ],
)
def test_one_notation_for_all(values, precision, texts):
    assert format_array(np.array(values), precision) == texts


def test_integers_and_booleans_are_as_they_are():
    assert format_array(np.array([[1, -2]]), 4) == ["1", "-2"]
    assert format_array(np.array([True, False]), 4) == ["True", "False"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=100, derandomize=True, deadline=None)
@given(value=st.floats(width=16, allow_nan=False))
def test_full_precision_reads_back_to_the_same_number(dtype, value):
    number = dtype(value)
    (text,) = format_array(np.array([number]), None)
    assert dtype(text) == number


def test_errors_show_their_magnitude():
    assert [format_error(x) for x in (0.0, 1.234e-15, 0.5)] == ["0", "1.2e-15", "5.0e-01"]


@pytest.mark.parametrize(
    ("largest", "precision", "text"),
    [
        (1e-3, 2, "0.00"),
        (9.99e-4, 2, "9.99e-04"),
        (1e-3, 4, "0.0010"),
        (9.99e-4, 4, "9.9900e-04"),
        (1e-5, 6, "0.000010"),  # six digits show it
        (9.99e-6, 6, "9.990000e-06"),
        (99_999.0, 1, "99999.0"),
        (1e5, 1, "1.0e+05"),
        (-99_999.0, 0, "-99999"),
        (-1e5, 0, "-1e+05"),
    ],
)
def test_numbers_are_written_with_an_exponent_where_fixed_they_would_say_little(
    largest, precision, text
):
    texts = format_array(np.array([largest, 0.0, largest / 1e3]), precision)
    assert texts[0] == text
    assert len({"e" in one for one in texts}) == 1  # all alike
