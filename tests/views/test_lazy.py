"""Large tensors become text piece by piece, and the pieces are the whole."""

import json

import numpy as np
import pytest

from attncli.views.json_text import json_pieces, jsonable
from attncli.views.matrix import Matrix
from attncli.views.numbers import Notation

LARGE = np.random.default_rng(0).random((300, 300)).astype(np.float32)


def every_float(dtype):
    """Floats of every size and sign, the odd ones among them."""
    bits = np.random.default_rng(1).integers(0, 256, (400, dtype().itemsize), np.uint8)
    ordinary = np.random.default_rng(2).normal(size=400) * 10.0 ** np.arange(-5, 5).repeat(40)
    odd = [0.0, -0.0, 1e-4, -1e-4, 9.9999e-5, 0.1, 1e9, 123456789.0, np.nan, np.inf, -np.inf]
    with np.errstate(over="ignore"):
        others = np.concatenate([ordinary, odd]).astype(dtype)
    return np.concatenate([bits.view(dtype).ravel(), others])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_longest_text_is_found_without_writing_all(dtype):
    values = every_float(dtype)
    for part in (*values[:, None], values, values[None], np.sort(values), values[:0]):
        notation = Notation(part, None)
        assert notation.longest(part) == max(map(len, notation.write(part)), default=0)


@pytest.mark.parametrize("array", [np.array([True, False]), np.arange(-12, 5).reshape(1, 17)])
def test_the_longest_of_integers_and_booleans(array):
    notation = Notation(array, None)
    assert notation.longest(array) == max(map(len, notation.write(array)))


@pytest.mark.parametrize(
    "array",
    [
        LARGE,
        LARGE.reshape(2, 150, 300),
        LARGE.ravel(),
        np.zeros((0, 4)),
        np.zeros((3, 0)),
        np.float64(1.5),
        np.where(LARGE > 0.999, np.nan, -np.inf),
        np.arange(40_000),
    ],
    ids=["2-D", "3-D", "1-D", "no rows", "no columns", "0-D", "nonfinite", "integers"],
)
def test_json_in_pieces_is_the_json_of_the_whole(array):
    array = np.asarray(array)
    value = {"a": array, "b": [1, None, "\x1b"], "c": {"d": array}}
    whole = {"a": jsonable(array), "b": [1, None, "\x1b"], "c": {"d": jsonable(array)}}
    assert "".join(json_pieces(value)) == json.dumps(whole)


def test_json_never_holds_a_bare_nan():
    with pytest.raises(ValueError, match="JSON"):
        list(json_pieces({"a": float("nan")}))


def test_a_matrix_measures_its_cells_where_nobody_has():
    matrix = Matrix("", ["a"], ["x"], [["1.25"]])
    assert matrix.column_width == 4
    assert Matrix("", ["a"], ["x"], [["1.25"]], longest_cell=9).column_width == 9
