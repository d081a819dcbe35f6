"""Comparing tensors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from attncli.checking.comparing.agreement import tiles
from attncli.checking.comparing.comparison import assert_close, compare_tensors
from attncli.checking.comparing.places import patterns
from attncli.errors import AttnError, ShapeError
from attncli.problems.pairing import compare
from attncli.reports import Element


@pytest.fixture
def pair():
    b = np.random.default_rng(3).normal(size=(2, 3, 5))
    return b.copy(), b


def only(report):
    (tensor,) = report.tensors
    return tensor


def test_every_figure_of_a_comparison_worked_by_hand():
    a, b = np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([[1.0, 2.5], [3.0, 4.0]])
    found = only(compare(a, b))
    assert (found.max_absolute, found.mean_absolute) == (0.5, 0.25)
    assert (found.max_relative, found.mean_relative) == (0.2, (0.2 + 0.125) / 4)
    assert found.worst_absolute.index == (0, 1)
    assert (found.worst_relative.a, found.worst_relative.b) == (2.0, 2.5)
    assert (found.elements, found.outside, found.passed) == (4, 2, False)
    assert found.histogram == ((None, 2), (-1, 2))
    # 0.5 lies 2^-52 · 2 apart from its neighbours around 2 and 4: so many steps.
    assert found.ulps[0] == (0.5, 0.0)
    assert found.ulps[-1][1] == pytest.approx(2**51 / 2, rel=1)


@pytest.mark.parametrize(
    ("dtype", "steps"), [("float16", 3), ("float32", 3), ("float64", 3), ("int64", 3)]
)
def test_distance_in_steps_of_the_dtype(dtype, steps):
    b = np.array([1, 100], dtype)
    a = b.copy()
    for _ in range(steps):
        a = a + 1 if dtype == "int64" else np.nextafter(a, np.array(np.inf, dtype))
    assert only(compare(a, b)).ulps[-1] == (1.0, steps)


def test_distance_across_zero_counts_both_sides():
    tiny = np.nextafter(np.float32(0), np.float32(1))
    assert only(compare(np.array([tiny]), np.array([-tiny]))).ulps[-1] == (1.0, 2.0)
    assert only(compare(np.array([-0.0]), np.array([0.0]))).ulps[-1] == (1.0, 0.0)


def test_distance_is_counted_in_steps_of_the_coarser_dtype():
    a, b = np.float16([1.001]), np.float64([1.001])
    found = only(compare(a, b))
    assert (found.ulp_dtype, found.ulps[-1][1]) == ("float16", 0.0)


@pytest.mark.parametrize(
    ("dtype", "tolerances"),
    [("f2", (1e-3, 1e-5)), ("f4", (1.3e-6, 1e-5)), ("f8", (1e-7, 1e-7)), ("i4", (0, 0))],
)
def test_default_tolerances_are_torchs(dtype, tolerances):
    found = only(compare(np.ones(2, dtype), np.ones(2, dtype)))
    assert (found.rtol, found.atol, found.torch_defaults) == (*tolerances, True)


def test_the_tolerances_named_do_pass_and_a_little_less_does_not(pair):
    a, b = pair
    a += 1e-3 * np.random.default_rng(0).normal(size=a.shape)
    found = only(compare(a, b))
    assert compare(a, b, atol=found.needed_atol).passed
    assert not compare(a, b, atol=0.98 * found.needed_atol).passed
    assert compare(a, b, rtol=found.needed_rtol).passed
    assert not compare(a, b, rtol=0.98 * found.needed_rtol).passed


def test_nan_fails_unless_both_have_it_and_it_is_allowed(pair):
    a, b = pair
    a[0, 1, 2] = b[0, 1, 2] = np.nan
    found = only(compare(a, b))
    assert (found.nan_both, found.outside, found.passed) == (1, 1, False)
    assert found.nonfinite[0].index == (0, 1, 2)
    assert compare(a, b, equal_nan=True).passed
    b[0, 1, 2] = 0.0
    found = only(compare(a, b, equal_nan=True))
    assert (found.nan_a, found.passed) == (1, False)


def test_infinities_are_equal_only_to_themselves(pair):
    a, b = pair
    a[0, 0, 0] = b[0, 0, 0] = np.inf
    assert compare(a, b).passed
    b[0, 0, 0] = -np.inf
    found = only(compare(a, b))
    assert (found.infinite, found.outside) == (1, 1)
    assert found.needed_atol == np.inf


def test_numbers_whose_difference_overflows_their_dtype():
    a = np.array([3e38, 1.0], np.float32)
    assert only(compare(a, -a)).max_absolute == pytest.approx(6e38)


@pytest.mark.parametrize("size", [1, 4, 7, 1000])
@pytest.mark.parametrize("shape", [(7, 3, 5), (105,), (1, 105), (3, 1, 1, 35)])
def test_the_size_of_the_tiles_changes_nothing(monkeypatch, size, shape):
    rng = np.random.default_rng(5)
    b = rng.normal(size=shape)
    a = b + 1e-6 * rng.normal(size=shape)
    a.flat[17], b.flat[40] = np.nan, np.inf
    whole = only(compare(a, b))
    monkeypatch.setattr(
        "attncli.checking.comparing.comparison.tiles", lambda shape: tiles(shape, size)
    )
    tiled = only(compare(a, b))
    assert tiled.worst_absolute == whole.worst_absolute
    assert tiled.outside == whole.outside
    assert tiled.histogram == whole.histogram
    assert tiled.places == whole.places
    assert str(tiled.nonfinite) == str(whole.nonfinite)  # NaN is not equal to itself
    assert tiled.mean_absolute == pytest.approx(whole.mean_absolute, rel=1e-12)


@given(array_shapes(min_dims=1, max_dims=4, max_side=6), st.integers(1, 40))
def test_tiles_cover_a_tensor_once(shape, size):
    seen = np.zeros(shape, int)
    for where in tiles(shape, size):
        seen[where] += 1
    assert (seen == 1).all()


@given(arrays(np.float32, 6), arrays(np.float32, 6))
def test_a_comparison_passes_exactly_when_numpy_says_so(a, b):
    with np.errstate(all="ignore"):
        expected = np.isclose(a.astype(float), b.astype(float), rtol=1e-5, atol=1e-6).all()
        near = np.isclose(a.astype(float), b.astype(float), rtol=1.01e-5, atol=1.01e-6).all()
        far = np.isclose(a.astype(float), b.astype(float), rtol=0.99e-5, atol=0.99e-6).all()
    if near == far:  # not on the edge, where float32 rounds the one way or the other
        assert compare(a, b, rtol=1e-5, atol=1e-6).passed == expected


def test_fortran_order_and_transposed_views_keep_their_indices(pair):
    a, b = (np.asfortranarray(x) for x in pair)
    a[1, 2, 3] += 1
    found = only(compare(a, b))
    assert found.worst_absolute.index == (1, 2, 3)
    assert "only at axis 0, index 1 of 2" in found.places


def test_numbers_without_axes():
    found = only(compare(np.float64(1.5), np.float64(1.0)))
    assert (found.worst_absolute.index, found.shapes) == ((), ((), ()))


def test_empty_tensors_agree():
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).passed


def test_large_whole_numbers_are_told_apart():
    a = np.array([2**62, 5])
    assert not compare(a + np.array([1, 0]), a).passed


def test_known_names_say_where_in_words():
    b = np.ones((4, 3, 5, 5))
    a = b.copy()
    a[:, 2] = 0
    assert only(compare({"weights": a}, {"weights": b})).places == ("only at head 2 of 3",)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: 2 * x, "off by the factor 2.0"),
        (lambda x: -x, "the sign is reversed"),
        (lambda x: 0 * x, "all zero"),
        (lambda x: x.swapaxes(1, 2), "transposed in axes 1 and 2"),
        (lambda x: np.broadcast_to(x.mean(1, keepdims=True), x.shape), "the same along axis 1"),
    ],
)
def test_patterns_are_named(change, name):
    x = np.random.default_rng(1).normal(size=(2, 3, 3))
    assert patterns(change(x), x) == (name,)


def test_unrelated_tensors_have_no_pattern():
    rng = np.random.default_rng(1)
    assert patterns(rng.normal(size=(3, 3)), rng.normal(size=(3, 3))) == ()


def test_shapes_that_differ_are_a_finding_not_an_error():
    report = compare(np.ones((2, 3)), np.ones((3, 2)))
    assert not report.passed
    assert only(report).problem == "shapes differ: (2, 3) and (3, 2)"


def test_sequences_of_arrays_are_compared_one_by_one():
    dhs, dh = np.ones((3, 7, 4)), np.ones((3, 4))
    assert_close((dhs, dh), [dhs, dh])
    with pytest.raises(AssertionError, match=r"^\[1\]: 12 of 12 elements outside"):
        assert_close((dhs, dh), (dhs, dh + 1))
    with pytest.raises(AssertionError, match=r"only in A: \[1\]"):
        assert_close((dhs, dh), (dhs,))


def test_a_list_of_arrays_beside_one_array_is_that_array_in_parts():
    assert_close([np.zeros(3), np.ones(3)], np.array([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize(
    ("a", "b"),
    [([[1, 2], [3]], [[1, 2], [3]]), ((np.zeros(3), np.zeros(2)), np.zeros((2, 3)))],
)
def test_a_sequence_that_is_no_tensor_is_refused_with_a_hint(a, b):
    with pytest.raises(ShapeError, match="array is a sequence of unequal lengths") as error:
        assert_close(a, b)
    assert "compared one by one" in error.value.hint


def test_mappings_are_compared_name_by_name():
    report = compare({"a": [1.0], "b": [2.0]}, {"b": [2.0], "c": [3.0]})
    assert (report.passed, report.only_a, report.only_b) == (False, ("a",), ("c",))


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        ({"a": [1.0]}, {"b": [1.0]}, {}),
        ({"a": [1.0]}, [1.0], {}),
        ([1.0], [1.0], {"rtol": -1.0}),
        ([1.0], [1.0], {"atol": float("nan")}),
        (["text"], ["text"], {}),
        ([1j], [1.0], {}),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, options):
    with pytest.raises(AttnError):
        compare(a, b, **options)


def test_whole_numbers_are_compared_and_shown_exactly():
    worst = only(compare(np.array([2**62 + 1]), np.array([2**62]))).worst_absolute
    assert (worst.a, worst.b) == (4611686018427387905, 4611686018427387904)
    assert isinstance(worst.a, int)


def test_a_tensor_that_one_side_alone_has_is_a_difference():
    x = np.ones(3)
    with pytest.raises(AssertionError, match=r"^only in B: dkey$"):
        assert_close({"out": x}, {"out": x, "dkey": x})
    with pytest.raises(AssertionError, match=r"^only in A: dkey, dquery$"):
        assert_close({"out": x, "dkey": x, "dquery": x}, {"out": x})


def test_assert_close_says_all_that_is_wrong():
    a = np.ones((2, 3))
    bad = a.copy()
    bad[1, 2] = np.nan
    with pytest.raises(AssertionError, match=r"(?s)out: 1 of 6.*at \[1, 2\]: nan.*dx: shapes"):
        assert_close({"out": bad, "dx": a}, {"out": a, "dx": a.T})
    assert_close(a, a)


def test_compare_tensors_counts_what_it_has_seen():
    seen = []
    x = np.zeros((3, 1 << 16))
    compare_tensors("x", x, x, progress=seen.append)
    assert sum(seen) == x.size


def test_bfloat16_of_ml_dtypes_is_compared_as_what_it_is():
    import ml_dtypes

    b = np.linspace(1, 2, 53, dtype=np.float32)
    found = only(compare(b.astype(ml_dtypes.bfloat16), b))
    assert (found.passed, found.dtypes, found.rtol) == (True, ("bfloat16", "float32"), 1.6e-2)
    assert_close(b.astype(ml_dtypes.bfloat16), b)
    assert not compare((b * 1.1).astype(ml_dtypes.bfloat16), b).passed


@pytest.mark.parametrize(
    ("a", "b"), [([np.nan] * 2, [np.nan] * 2), ([np.inf, 1], [np.inf, np.nan])]
)
def test_where_no_pair_is_finite_none_is_the_worst(a, b):
    found = only(compare(a, b, equal_nan=True))
    assert (found.worst_absolute, found.worst_relative) == (None, None)
    assert (found.max_absolute, found.mean_absolute) == (0.0, 0.0)


def test_the_worst_is_one_that_is_finite_in_both():
    found = only(compare([np.nan, 1.0, 2.0], [np.nan, 1.0, 2.0], equal_nan=True))
    assert found.worst_absolute == (Element((1,), 1.0, 1.0))


ROWS = np.array([[[0.5, 0.75, 0.6], [0.7, 0.95, 0.8]], [[0.55, 0.8, 0.65], [0.75, 1.0, 0.85]]])
WRONG = ("all zeros", "one constant", "the mean of all rows", "rows exchanged",
         "another item's result")  # fmt: skip


@pytest.mark.parametrize(
    ("tolerance", "blind"),
    [
        ({"atol": 1.1}, WRONG),
        ({"atol": 0.26}, WRONG[1:]),
        ({"atol": 0.21}, WRONG[2:]),
        ({"atol": 0.11}, ("the mean of all rows", "another item's result")),
        ({"atol": 0.06}, ("another item's result",)),
        ({"rtol": 0.11}, ("another item's result",)),
        ({"rtol": 0.01, "atol": 0.01}, ()),
        ({}, ()),
    ],
)
def test_what_nobody_would_call_right_and_agrees_at_a_tolerance_that_was_chosen(tolerance, blind):
    assert only(compare({"out": ROWS}, {"out": ROWS}, **tolerance)).blind == blind


def test_what_is_the_same_at_any_tolerance_is_not_its_blindness():
    constant = np.full((2, 3, 5), 0.5)
    assert only(compare({"out": constant}, {"out": constant}, atol=0.1)).blind == ()
    assert only(compare({"out": constant}, {"out": constant}, atol=0.6)).blind == ("all zeros",)
    heads = np.broadcast_to(np.eye(3, 5), (1, 2, 3, 5))
    assert only(compare({"out": heads}, {"out": heads}, atol=0.1)).blind == ()


def test_a_tolerance_is_blind_to_what_it_passes_everywhere_and_not_in_the_first_tile_alone():
    b = np.zeros((1, 2, 1 << 16, 1))
    b[0, 0, :, 0] = 0.25
    assert only(compare({"out": b}, {"out": b}, atol=0.3)).blind[:1] == ("all zeros",)
    b[0, 1, -1] = 7
    assert only(compare({"out": b}, {"out": b}, atol=0.3)).blind == ()
