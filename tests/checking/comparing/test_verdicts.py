"""What a comparison says, to exact values and at the very edge of its tolerances."""

import numpy as np
import pytest

import attncli
from attncli.checking.comparing.comparison import describe
from attncli.errors import ParameterError


def only(report):
    (tensor,) = report.tensors
    return tensor


def compared(a, b, **options):
    return only(attncli.compare(np.array(a), np.array(b), **options))


# Tolerances.

# dtype, |b|, the largest distance that passes there, the next one that does not.
EDGES = [
    ("float16", 1024.0, 1.0, 2.0),
    ("float16", 0.0, 0.99e-5, 1.01e-5),
    ("float32", 1000.0, 1.29e-3, 1.34e-3),
    ("float32", 0.0, 0.99e-5, 1.01e-5),
    ("float64", 1000.0, 0.99e-4, 1.01e-4),
    ("float64", 0.0, 0.99e-7, 1.01e-7),
    ("longdouble", 1000.0, 0.99e-4, 1.01e-4),
    ("longdouble", 0.0, 0.99e-7, 1.01e-7),
    ("int64", 1000, 0, 1),
    ("int8", 0, 0, 1),
    ("bool", 0, 0, 1),
]


@pytest.mark.parametrize(("dtype", "b", "inside", "outside"), EDGES)
def test_without_tolerances_each_dtype_has_its_own_to_the_edge(dtype, b, inside, outside):
    expected = np.array([b, b], dtype)
    near, far = (np.array([b, b + off], np.longdouble).astype(dtype) for off in (inside, outside))
    attncli.assert_close(near, expected)
    assert attncli.compare(near, expected).passed
    assert only(attncli.compare(far, expected)).outside == 1
    with pytest.raises(AssertionError, match=r"1 of 2 elements outside"):
        attncli.assert_close(far, expected)


def test_of_two_dtypes_the_wider_tolerance_counts():
    assert attncli.compare(np.float16([1025]), np.float64([1024])).passed
    assert attncli.compare(np.float64([1024]), np.float16([1025])).passed
    assert not attncli.compare(np.float32([1025]), np.float64([1024])).passed
    assert attncli.compare(np.float64([1000.001]), np.float32([1000])).passed
    assert attncli.compare(np.array([3]), np.float64([3 + 1e-8])).passed


@pytest.mark.parametrize(
    ("a", "b", "tolerances"),
    [
        (1.5, 1.0, {"atol": 0.5, "rtol": 0}),
        (-1.5, -1.0, {"atol": 0.5, "rtol": 0}),
        (1.25, 1.0, {"atol": 0, "rtol": 0.25}),
        (-5.0, -4.0, {"atol": 0, "rtol": 0.25}),
        (5.5, 4.0, {"atol": 0.5, "rtol": 0.25}),
        (2.0, 2.0, {"atol": 0, "rtol": 0}),
    ],
)
def test_exactly_at_the_tolerance_passes_and_the_next_number_does_not(a, b, tolerances):
    # An element far outside stands beside it, so that each is judged by itself.
    assert compared([a, 99.0], [b, 1.0], **tolerances).outside == 1
    assert attncli.compare([a], [b], **tolerances).passed
    beyond = np.nextafter(a, np.inf if a >= b and a > 0 else -np.inf)
    assert not attncli.compare([beyond], [b], **tolerances).passed
    assert compared([beyond, 99.0], [b, 1.0], **tolerances).outside == 2


def test_the_relative_tolerance_is_that_of_what_is_expected():
    assert attncli.compare([1.0], [2.0], rtol=0.5, atol=0).passed
    assert not attncli.compare([2.0], [1.0], rtol=0.5, atol=0).passed


# Statistics.


def test_zero_beside_zero_is_no_relative_error():
    found = compared([0.0, 1.5], [0.0, 1.0])
    assert (found.max_relative, found.mean_relative) == (0.5, 0.25)
    found = compared([0.0, 0.0], [0.0, -0.0])
    assert (found.max_relative, found.mean_relative, found.passed) == (0.0, 0.0, True)
    found = compared([0.0, 3.0, 1.5], [0.0, 0.0, 1.0])
    assert found.max_relative == np.inf
    assert found.worst_relative.index == (1,)


def test_means_and_histogram_are_of_the_elements_that_are_finite_in_both():
    nan, inf = np.nan, np.inf
    found = compared([nan, 1.5, 1.0, 2.0, inf, nan], [1.0, 1.0, 1.0, inf, inf, nan])
    assert found.elements == 6
    assert (found.mean_absolute, found.mean_relative) == (0.25, 0.25)
    assert (found.max_absolute, found.max_relative) == (0.5, 0.5)
    assert found.histogram == ((None, 1), (-1, 1))
    assert (found.nan_a, found.nan_b, found.nan_both, found.infinite) == (1, 0, 1, 1)
    assert found.outside == 4


def test_shares_by_distance_are_of_the_elements_that_are_finite_in_both():
    eps = np.finfo("f8").eps
    found = compared([np.nan, 1 + eps, np.inf, 1 + 3 * eps, np.nan], [1, 1, np.inf, 1, np.nan])
    assert found.ulps == ((0.5, 1.0), (0.9, 3.0), (0.99, 3.0), (1.0, 3.0))


def test_means_where_nothing_is_finite_and_where_there_is_nothing():
    for a, b in (([np.nan], [1.0]), ([], [])):
        found = compared(np.array(a, float), np.array(b, float))
        assert (found.mean_absolute, found.max_absolute, found.histogram) == (0.0, 0.0, ())


def test_means_are_over_all_elements_of_a_tensor_of_many_tiles():
    b = np.ones((3, 70_001))
    a = b.copy()
    a[:, ::7] += 0.5  # 10,001 of each row
    found = compared(a, b)
    assert found.mean_absolute == 0.5 * 30_003 / 210_003
    assert found.histogram == ((None, 180_000), (-1, 30_003))
    assert found.outside == 30_003


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_power_of_ten_begins_its_decade(dtype):
    powers = range(-30, 31)
    a = np.array([0, *(10.0**k for k in powers), *(9.9 * 10.0**k for k in powers)], dtype)
    found = compared(a, np.zeros_like(a))
    assert found.histogram == ((None, 1), *((k, 2) for k in powers))


def test_shares_of_the_elements_by_their_distance_in_steps():
    b = np.ones(10, np.float32)
    a = b + np.finfo("f4").eps * np.array([0, 1, 0, 1, 0, 3, 0, 1, 0, 1], "f4")
    assert compared(a, b).ulps == ((0.5, 0.0), (0.9, 1.0), (0.99, 3.0), (1.0, 3.0))


def test_of_equal_errors_the_first_is_the_worst():
    found = compared([[1.0, 1.5], [1.5, 1.5]], [[1.0, 1.0], [1.0, 1.0]])
    assert found.worst_absolute.index == found.worst_relative.index == (0, 1)


def test_the_first_five_that_are_not_finite_are_listed_in_order():
    a = np.zeros((2, 7))
    a[0, 2:4], a[1, :6] = np.nan, np.inf
    found = compared(a, np.zeros((2, 7)))
    assert [one.index for one in found.nonfinite] == [(0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert (found.nan_a, found.infinite, found.outside) == (2, 6, 8)


@pytest.mark.parametrize(
    ("a", "said"),
    [
        ([np.nan, 1, 2], "1 NaN in A; the first at [0]: nan, 0.0"),
        ([0, np.inf, -np.inf], "2 infinite; the first at [1]: inf, 1.0"),
        ([np.nan, 1, np.inf], "1 NaN in A, 1 infinite; the first at [0]: nan, 0.0"),
    ],
)
def test_of_what_is_not_finite_only_what_there_is_is_said(a, said):
    lines = describe(compared(np.array(a, float), [0.0, 1.0, 2.0]))
    assert [line for line in lines if "the first at" in line] == [f"  {said}"]


# What would pass.


@pytest.mark.parametrize(
    ("a", "b", "tolerances", "needed"),
    [
        (3.0, 2.0, {"rtol": 0, "atol": 0.5}, (1.0, 0.25)),
        (3.0, 2.0, {"rtol": 0.125, "atol": 0}, (0.75, 0.5)),
        (3.0, 2.0, {"rtol": 0.125, "atol": 0.25}, (0.75, 0.375)),
        (3.0, 0.0, {"rtol": 0.125, "atol": 0.25}, (3.0, np.inf)),
        (np.nan, 0.0, {"rtol": 0.125, "atol": 0.25}, (np.inf, np.inf)),
        (2.25, 2.0, {"rtol": 0.125, "atol": 0}, (0.0, 0.0)),
        (2.25, 2.0, {"rtol": 0, "atol": 0.5}, (0.0, 0.0)),
    ],
)
def test_the_smallest_tolerances_that_would_pass(a, b, tolerances, needed):
    for zeros in (0, 5):
        found = compared([0.0] * zeros + [a], [0.0] * zeros + [b], **tolerances)
        assert (found.needed_atol, found.needed_rtol) == needed


def test_the_tolerance_that_would_pass_is_that_of_the_worst_element_of_all():
    found = compared([3.0, 10.0, 8.5], [2.0, 8.0, 8.0], rtol=0, atol=0.25)
    assert (found.needed_atol, found.needed_rtol) == (2.0, 0.375)


# Where, and in which order.


def scattered(counts):
    """Ones, and a two wherever row r has an error: so many in each row, from the left."""
    a = np.ones((len(counts), 30))
    for row, count in enumerate(counts):
        a[row, :count] = 2
    return a


@pytest.mark.parametrize(
    ("counts", "where"),
    [
        ([0, 30, 30, 0], "only at axis 0, index 1, 2 of 4"),
        ([0, 30, 30, 30], "all but axis 0, index 0 of 4"),
        ([30, 0, 0, 0, 0], "only at axis 0, index 0 of 5"),
        ([30, 30, 30, 0, 0], "all but axis 0, index 3, 4 of 5"),
        ([27, 1, 1, 1], "90 % at axis 0, index 0 of 4"),
        ([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1], "only at axis 0, index 1, 3, 5, 7, 9, 11 and "
         "1 more of 14"),
        ([0, 0, 3, 3, 3, 0, 0], "only at axis 0, index 2 to 4 of 7"),
    ],
)  # fmt: skip
def test_where_errors_keep_to(counts, where):
    a = scattered(counts)
    assert compared(a, np.ones_like(a)).places[0] == where


def test_less_than_nine_tenths_is_no_place():
    a = scattered([26, 1, 1, 2])
    assert not any("%" in place for place in compared(a, np.ones_like(a)).places)


def test_places_come_axis_by_axis_and_then_the_pattern():
    b = np.eye(3)
    b[0, 1] = 5
    assert compared(b.T, b).places == (
        "all but axis 0, index 2 of 3",
        "all but axis 1, index 2 of 3",
        "transposed",
    )


@pytest.mark.parametrize("factor", [1.001, 1.01, 1.05, 0.95, 1.5, 0.5, -2.0, 1000.0])
def test_a_factor_is_named_however_near_to_one(factor):
    b = np.random.default_rng(1).normal(size=(3, 5))
    assert compared(factor * b, b).places == (f"off by the factor {factor}",)


def test_a_factor_that_does_not_fit_everywhere_is_none():
    b = np.arange(1.0, 16.0).reshape(3, 5)
    a = 1.05 * b
    a[1, 2] += 1e-4 * b.max()
    assert compared(a, b).places == ()


def test_tensors_come_in_the_order_of_the_candidate():
    names = ["weights", "out", "dkey", "a"]
    a = {name: np.ones(2) for name in (*names, "second", "first")}
    b = {name: np.ones(2) for name in ("z", *reversed(names), "y")}
    report = attncli.compare(a, b)
    assert [tensor.name for tensor in report.tensors] == names
    assert (report.only_a, report.only_b) == (("second", "first"), ("z", "y"))
    with pytest.raises(AssertionError) as error:
        attncli.assert_close({**a, "out": [2.0, 1.0], "a": [1.0, 3.0]}, b)
    lines = str(error.value).splitlines()
    heads = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert heads == ["out", "a", "only in A", "only in B"]


@pytest.mark.parametrize(
    ("a", "b"),
    [({"a": [1.0]}, [1.0]), ([1.0], {"a": [1.0]}), ({"array": [1.0]}, (np.ones(1),))],
)
def test_a_mapping_beside_an_array_is_said_to_be_that(a, b):
    with pytest.raises(ParameterError, match="one is a mapping of tensors and the other is none"):
        attncli.compare(a, b)


@pytest.mark.parametrize("factor", [1 - 1e-6, 1, 1 + 1e-6])
def test_what_is_off_by_a_little_is_not_off_by_a_factor(factor):
    b = np.random.default_rng(0).normal(size=(7, 5))
    a = b * factor + np.random.default_rng(1).choice([-3e-7, 3e-7], size=(7, 5))
    (tensor,) = attncli.compare(a, b).tensors
    assert tensor.outside
    assert not [place for place in tensor.places if "factor" in place]
    (tensor,) = attncli.compare(a * 1.001, b).tensors
    assert [place for place in tensor.places if "off by the factor 1.001" in place]
