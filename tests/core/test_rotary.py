"""Rotary positions: the formula, the tables, the way back, and what is refused."""

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from crossing import crossed

import attncli
from attncli.core.rotary import STYLES
from attncli.errors import DtypeError, ParameterError, ShapeError

from .common import assert_near, by_name

rotary = attncli.rotary
RNG = np.random.default_rng(0)


def by_hand(x, positions, style, base=10000.0, width=None):
    """Pair by pair, feature by feature, with the functions of `math`."""
    width = width or x.shape[-1]
    out = np.array(x, float)
    positions = np.broadcast_to(
        positions if np.ndim(positions) < 2 else np.expand_dims(
            positions, tuple(range(1, x.ndim - 2))
        ), x.shape[:-1]
    )  # fmt: skip
    for at in np.ndindex(x.shape[:-1]):
        for i in range(width // 2):
            a, b = (i, i + width // 2) if style == "halves" else (2 * i, 2 * i + 1)
            angle = float(positions[at]) * base ** (-2 * i / width)
            cos, sin = math.cos(angle), math.sin(angle)
            out[at][a] = x[at][a] * cos - x[at][b] * sin
            out[at][b] = x[at][b] * cos + x[at][a] * sin
    return out


SHAPES = {
    "(T, H)": (5, 14),
    "(N, T, H)": (3, 5, 14),
    "heads": (3, 2, 5, 14),
    "(0, T, H)": (0, 5, 14),
}
POSITIONS = {
    "none": None,
    "integers": np.array([3, 0, 11, 7, 2]),
    "fractions": np.array([0.5, 1.25, -3.0, 700.1, 0.0]),
    "a list": [4, 3, 2, 1, 0],
}


@pytest.mark.parametrize(
    **crossed(style=STYLES, width=[None, 2, 6, 14], shape=SHAPES, positions=POSITIONS)
)
def test_it_is_the_formula(style, width, shape, positions):
    x = RNG.standard_normal(shape)
    own = x.copy()
    for base in (10000.0, 500, 1):
        got = rotary(x, positions, style=style, width=width, base=base)
        at = np.arange(5) if positions is None else positions
        assert_near(got, by_hand(x, at, style, base, width))
    np.testing.assert_array_equal(x, own)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", [(3, 5, 14), (3, 3, 5, 14), (3, 2, 7, 5, 14)])
def test_each_item_has_positions_of_its_own_and_the_heads_share_them(style, shape):
    """With as many heads as items as well, where NumPy would take one for the other."""
    x, positions = RNG.standard_normal(shape), RNG.integers(0, 100, (3, 5))
    got = rotary(x, positions, style=style)
    assert_near(got, by_hand(x, positions, style))
    for n in range(3):
        np.testing.assert_array_equal(got[n], rotary(x[n], positions[n], style=style))
    np.testing.assert_array_equal(rotary(x, positions[:1]), rotary(x, positions[0]))


@pytest.mark.parametrize("style", STYLES)
def test_scores_depend_on_the_distance_alone(style):
    query, key = RNG.standard_normal((2, 7, 6))
    scores = []
    for far in (0, 1000):
        at = np.arange(7) + far
        scores.append(rotary(query, at, style=style) @ rotary(key, at, style=style).T)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-11)


def test_interleaved_is_halves_of_reordered_features():
    """What turns the weights of one style of model into those of the other."""
    x = RNG.standard_normal((5, 14))
    order = np.r_[0:14:2, 1:14:2]
    np.testing.assert_array_equal(
        rotary(x, style="interleaved")[:, order], rotary(x[:, order], style="halves")
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_far_positions_are_as_exact_as_near_ones(dtype):
    x = RNG.standard_normal((2, 14)).astype(dtype)
    far = np.array([99_991, 131_071])
    assert_near(rotary(x, far), by_hand(x, far, "halves"), dtype)


# The way back


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", [None, 6])
@pytest.mark.parametrize("tables", ["none", "half", "full", "not of unit length"])
def test_inverse_is_the_backward(style, width, tables):
    """Element by element, of tables too that are no rotation."""
    x, dout = RNG.standard_normal((2, 3, 5, 14))
    options = {"style": style, "width": width}
    size = {"half": (width or 14) // 2}.get(tables, width or 14)
    if tables == "not of unit length":
        options |= dict(zip(("cos", "sin"), RNG.standard_normal((2, 5, size)), strict=True))
    elif tables != "none":
        angles = RNG.standard_normal((5, size))
        options |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    got = rotary(dout, inverse=True, **options)
    for index in np.ndindex(x.shape):
        # It is linear: its values at the unit vectors are its derivatives.
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        assert got[index] == pytest.approx((rotary(unit, **options) * dout).sum(), abs=1e-14)
    if tables == "none":
        above, below = x.copy(), x.copy()
        above[1, 2, 3] += 1
        below[1, 2, 3] -= 1
        moved = rotary(above, **options) - rotary(below, **options)
        derivative = (moved * dout).sum() / 2
        assert got[1, 2, 3] == pytest.approx(derivative, rel=1e-13)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", [None, 6])
def test_inverse_undoes_a_rotation(style, width):
    x, positions = RNG.standard_normal((3, 2, 5, 14)), RNG.random((3, 5)) * 1000
    options = {"style": style, "width": width, "base": 77.0}
    there = rotary(x, positions, **options)
    assert not np.allclose(there, x)
    np.testing.assert_allclose(rotary(there, positions, inverse=True, **options), x, atol=1e-14)


# Tables


def tables(style, positions, width, *, full):
    angles = np.asarray(positions)[..., None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    if full:
        angles = (
            np.concatenate([angles, angles], -1) if style == "halves" else np.repeat(angles, 2, -1)
        )
    return {"cos": np.cos(angles), "sin": np.sin(angles)}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("width", [14, 6])
def test_tables_in_every_form_are_the_same_rotation(style, full, width):
    x, positions = RNG.standard_normal((3, 2, 5, 14)), RNG.integers(0, 23, (3, 5))
    options = {"style": style, "width": width}
    expected = rotary(x, positions, **options)
    gathered = tables(style, positions, width, full=full)
    assert_near(rotary(x, **options, **gathered), expected)  # (N, T, half)
    four = {name: table[:, None] for name, table in gathered.items()}
    assert_near(rotary(x, **options, **four), expected)  # (N, 1, T, half)
    each = {name: np.repeat(table, 2, axis=1) for name, table in four.items()}
    assert_near(rotary(x, **options, **each), expected)  # (N, heads, T, half)
    steps = tables(style, np.arange(23), width, full=full)
    assert_near(rotary(x, positions, **options, **steps), expected)  # (steps, half), indexed
    one = {name: table[0] for name, table in gathered.items()}
    assert_near(rotary(x[0], **options, **one), expected[0])  # (T, half)
    row = rotary(x, positions[0], **options, **steps)
    assert_near(row, rotary(x, positions[0], **options))
    assert_near(rotary(x, **options, **one), row)


def test_a_table_of_items_is_never_one_of_heads():
    x, positions = RNG.standard_normal((3, 3, 5, 4)), RNG.integers(0, 9, (3, 5))
    got = rotary(x, **tables("halves", positions, 4, full=False))
    assert_near(got, by_hand(x, positions, "halves"))


def test_each_half_of_a_full_table_turns_its_own_features():
    x = RNG.standard_normal((5, 4))
    cos, sin = RNG.standard_normal((2, 5, 4))
    a, b = x[:, :2], x[:, 2:]
    expected = x * cos + np.concatenate([-b, a], axis=1) * sin  # as in transformers
    assert_near(rotary(x, cos=cos, sin=sin), expected)


@pytest.mark.filterwarnings("ignore")  # what onnx warns of is its business
@pytest.mark.parametrize(
    "name",
    [
        "",
        "_3d_input",
        "_interleaved",
        "_no_position_ids",
        "_no_position_ids_interleaved",
        "_no_position_ids_rotary_dim",
        "_with_interleaved_rotary_dim",
        "_with_rotary_dim",
    ],
)
def test_onnx_own_vectors(name):
    """In wheels up to 1.22; later ones carry none."""
    onnx = pytest.importorskip("onnx")
    folder = Path(onnx.__file__).parent / "backend/test/data/node" / f"test_rotary_embedding{name}"
    if not folder.exists():
        pytest.skip(f"onnx {onnx.__version__} carries no test vectors: onnx==1.22.0 does")
    (node,) = onnx.load(folder / "model.onnx").graph.node
    given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    arrays = {
        own: onnx.numpy_helper.to_array(onnx.load_tensor(folder / f"test_data_set_0/{which}.pb"))
        for own, which in [*((one, f"input_{i}") for i, one in enumerate(node.input)),
                           ("output", "output_0")]
    }  # fmt: skip
    x, expected = arrays["input"], arrays["output"]
    if heads := given.get("num_heads"):
        x, expected = (
            one.reshape(*one.shape[:2], heads, -1).swapaxes(1, 2) for one in (x, expected)
        )
    got = rotary(
        x,
        arrays.get("position_ids"),
        style="interleaved" if given.get("interleaved") else "halves",
        width=given.get("rotary_embedding_dim"),
        cos=arrays["cos_cache"],
        sin=arrays["sin_cache"],
    )
    assert got.dtype == expected.dtype
    assert_near(got, expected, "float32")


# Dtypes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "longdouble"])
@pytest.mark.parametrize("with_tables", [False, True])
def test_the_result_has_the_dtype_of_x(dtype, with_tables):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = RNG.standard_normal((3, 5, 14)).astype(dtype)
    more = tables("halves", np.arange(5), 14, full=False) if with_tables else {}
    got = rotary(x, **more)
    assert got.dtype == dtype
    name = "float64" if dtype == np.longdouble else dtype.name
    exact = by_hand(x.astype(np.float64), np.arange(5), "halves")
    assert_near(got.astype(np.float64), exact, name)


def test_half_precision_is_computed_in_float32_and_rounded_once():
    x = RNG.standard_normal((5, 14)).astype(np.float16)
    expected = rotary(x.astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(rotary(x), expected)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", ">f4"])
def test_integers_become_float64_and_byte_order_the_native_one(dtype):
    x = RNG.integers(0, 2, (5, 14)).astype(dtype)
    got = rotary(x)
    assert got.dtype == np.dtype("float32" if dtype == ">f4" else "float64")
    assert_near(got, by_hand(x, np.arange(5), "halves"), got.dtype.name)


def test_longdouble_is_more_than_float64():
    x = np.array([[np.longdouble(1) + np.finfo(np.longdouble).eps, 0]])
    assert rotary(x, [0])[0, 0] == x[0, 0]
    turned = rotary(np.array([[1, 0]], np.longdouble), [1])[0]
    assert abs((turned**2).sum() - 1) <= 4 * np.finfo(np.longdouble).eps


# What is refused

X = np.ones((3, 2, 5, 8))
SMALL = np.ones((5, 4))
REFUSED = {
    "one axis": ({"x": np.ones(4)}, ShapeError, "x is (4,), expected at least two axes: (…, T, H)"),
    "odd H": ({"x": np.ones((5, 7))}, ShapeError, "x is (5, 7): H is 7, expected an even number"),
    "too wide": ({"width": 10}, ShapeError, "x is (3, 2, 5, 8): H is 8, expected at least the "),
    "odd width": ({"width": 3}, ParameterError, "rotary width is 3, expected an even number"),
    "no width": ({"width": 0}, ParameterError, "rotary width is 0, expected an even number, 2 or"),
    "style": ({"style": "neox"}, ParameterError, "style is neox, expected halves or interleaved"),
    "base": ({"base": 0.5}, ParameterError, "rotary base is 0.5, expected a finite number, 1 or"),
    "base nan": ({"base": math.nan}, ParameterError, "rotary base is nan, expected a finite"),
    "base inf": ({"base": math.inf}, ParameterError, "rotary base is inf, expected a finite"),
    "complex": ({"x": np.ones((5, 8), complex)}, DtypeError, "x is complex128, expected real"),
    "text": ({"x": np.full((5, 8), "a")}, DtypeError, "x is str32, expected real numbers"),
    "complex positions": ({"positions": np.ones(5, complex)}, DtypeError, "positions is complex"),
    "boolean positions": ({"positions": np.ones(5, bool)}, DtypeError, "positions is bool"),
    "too few positions": (
        {"positions": np.arange(4)},
        ShapeError,
        "positions is (4,), x is (3, 2, 5, 8): expected (T,) = (5,) or (N, T) = (3, 5)",
    ),
    "positions of heads": ({"positions": np.ones((2, 5))}, ShapeError, "positions is (2, 5), x is"),
    "one position": ({"positions": 3}, ShapeError, "positions is (), x is (3, 2, 5, 8)"),
    "positions of no item": (
        {"x": SMALL, "positions": np.ones((1, 5))},
        ShapeError,
        "positions is (1, 5), x is (5, 4): expected (T,) = (5,)",
    ),
    "infinite": (
        {"positions": [0, 1, math.inf, 3, 4]},
        ParameterError,
        "positions hold NaN or inf",
    ),
    "nan": (
        {"positions": [0, 1, math.nan, 3, 4]},
        ParameterError,
        "positions hold NaN or infinity",
    ),
    "cos alone": ({"cos": SMALL}, ParameterError, "cos is given without sin"),
    "sin alone": ({"sin": SMALL}, ParameterError, "sin is given without cos"),
    "complex sin": ({"cos": SMALL, "sin": SMALL * 1j}, DtypeError, "sin is complex128"),
    "narrow table": (
        {"cos": SMALL[:, :3], "sin": SMALL[:, :3]},
        ShapeError,
        "cos is (5, 3), expected (…, T, half): 4 numbers a position for 8 features, or 8",
    ),
    "flat table": ({"cos": SMALL[0], "sin": SMALL[0]}, ShapeError, "cos is (4,), expected (…, T"),
    "long table": (
        {"cos": SMALL, "sin": np.ones((7, 4))},
        ShapeError,
        "sin is (7, 4), x is (3, 2, 5, 8): expected (T, …) or (N, T, …), with N and T of x",
    ),
    "table of heads": (
        {"cos": np.ones((2, 5, 4)), "sin": np.ones((2, 5, 4))},
        ShapeError,
        "cos is (2, 5, 4), x is (3, 2, 5, 8)",
    ),
    "table of items for none": (
        {"x": np.ones((5, 8)), "cos": np.ones((1, 5, 4)), "sin": np.ones((1, 5, 4))},
        ShapeError,
        "cos is (1, 5, 4), x is (5, 8): expected (T, …), with",
    ),
    "gathered and positions": (
        {"positions": np.arange(5), "cos": np.ones((3, 5, 4)), "sin": np.ones((3, 5, 4))},
        ShapeError,
        "cos is (3, 5, 4), expected (steps, half) where there are positions",
    ),
    "fractions of a table": (
        {"positions": np.arange(5.0), "cos": SMALL, "sin": SMALL},
        DtypeError,
        "positions is float64, expected whole numbers: the rows of cos",
    ),
    "past the table": (
        {"positions": np.arange(1, 6), "cos": SMALL, "sin": SMALL},
        ParameterError,
        "positions hold 5, expected 0 to 4: cos is (5, 4)",
    ),
    "before the table": (
        {"positions": [-1, 0, 1, 2, 3], "cos": SMALL, "sin": SMALL},
        ParameterError,
        "positions hold -1, expected 0 to 4: cos is (5, 4)",
    ),
}


@pytest.mark.parametrize(("given", "error", "message"), **by_name(REFUSED))
def test_what_is_refused(given, error, message):
    given = {"x": X, **given}
    with pytest.raises(error) as caught:
        rotary(given.pop("x"), given.pop("positions", None), **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_of_all_steps_is_told_how_its_rows_are_taken():
    table = np.ones((50, 4))
    with pytest.raises(ShapeError) as caught:
        rotary(X, cos=table, sin=table)
    assert caught.value.hint == "positions=np.arange(5) takes the first rows of tables of all steps"
    rotary(X, positions=np.arange(5), cos=table, sin=table)
