"""What the tests of the core share: tolerances, shapes and options."""

import numpy as np

from attncli import core
from attncli.core.semantics import Semantics

# How far a result may be from the truth, relative to the largest element of the truth.
TOLERANCE = {
    "float16": 2e-3,
    "bfloat16": 2e-2,
    "float32": 3e-6,
    "float64": 1e-14,
    "longdouble": 1e-17,
}

# Every axis has another size, and every size but 1 is a prime (heads: 6 = 2 key heads · 3).
SHAPES = {
    "(T, H)": ((5, 7), (11, 7), (11, 3)),
    "(N, T, H)": ((2, 5, 7), (2, 11, 7), (2, 11, 3)),
    "one step": ((2, 1, 7), (2, 1, 7), (2, 1, 3)),
    "more queries than keys": ((2, 11, 7), (2, 5, 7), (2, 5, 3)),
    "heads": ((2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 13)),
    "grouped heads": ((5, 6, 7, 3), (5, 2, 11, 3), (5, 2, 11, 13)),
    "one key head for all": ((5, 6, 7, 3), (5, 1, 11, 3), (5, 1, 11, 13)),
    "grouped heads, keys for all N": ((5, 6, 7, 3), (2, 11, 3), (5, 2, 11, 13)),
    "keys for all N": ((2, 5, 7), (11, 7), (2, 11, 3)),
    "query for all N": ((5, 7), (2, 11, 7), (2, 11, 3)),
    "N only in value": ((5, 7), (11, 7), (2, 11, 3)),
    "three leading axes": ((2, 3, 5, 7, 11), (2, 3, 5, 13, 11), (2, 1, 5, 13, 3)),
}

OPTIONS = {
    "nothing": {},
    "scale": {"scale": -0.7},
    "softcap": {"softcap": 1.3},
    "upper left": {"causal": "upper_left"},
    "lower right": {"causal": "lower_right"},
    "window": {"window": 2},
    "window 0": {"window": 0},
    "window of two sides": {"window": (3, 1)},
    "window to the right alone": {"window": (-1, 2)},
    "window aligned lower right": {"window": (2, -1), "align": "lower_right"},
    "causal window": {"causal": "lower_right", "window": 1},
    "all": {"causal": "upper_left", "window": 3, "softcap": 2.0, "scale": 0.9},
}

# Both engines, the weights kept or computed again, with tiles that divide nothing, with one thread
# and with several.  Where it says pieces, whole pairs are computed a few at a time, though they
# are small: see conftest.
ENGINES = {
    f"{engine}, {kept}{how}": {"engine": engine, "weights": kept == "kept", **options}
    for kept in ("kept", "again")
    for engine, how, options in (
        ("direct", "", {}),
        ("direct", ", pieces", {}),
        ("direct", ", pieces, threads", {"threads": 3}),
        ("tiled", "", {}),
        ("tiled", ", small tiles", {"tile": (2, 3)}),
        ("tiled", ", threads", {"tile": (3, 2), "threads": 3}),
    )
}


def compute(
    query, key, value, *, scale=None, causal=None, align=None, window=None, softcap=None, **how
):
    """`attncli.core.compute`, its semantics one by one as `attncli.attention` takes them."""
    semantics = Semantics(scale, causal, align, window, softcap)
    return core.compute(query, key, value, semantics=semantics, stacklevel=3, **how)


def by_name(table):
    """Parametrise with the values of a table, shown by its names."""
    return {"argvalues": list(table.values()), "ids": list(table)}


def tensors(shapes, seed=0, dtype=np.float64):
    """Random query, key and value of these shapes."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_near(actual, expected, dtype="float64", factor=1, scale=1e-3):
    """Every element is as near as the tolerance, on the scale of the largest one, or `scale`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    wide = np.result_type(actual.dtype if actual.dtype.kind == "f" else np.float32, np.float64)
    difference = np.abs(actual.astype(wide)[finite] - expected.astype(wide)[finite])
    largest = np.abs(expected[finite]).max(initial=1e-300)
    assert difference.max(initial=0) <= factor * TOLERANCE[dtype] * max(largest, scale)


# Both questions asked of the core: which code runs, and whether the weights are kept.
WAYS = {
    "direct, weights kept": ("direct", True),
    "direct, weights again": ("direct", False),
    "tiled, weights kept": ("tiled", True),
    "tiled, weights again": ("tiled", False),
}


def run(query, key, value, *, way, tile=(2, 3), **options):
    """Return (out, cache) of the core in one of the `WAYS`: all that knows how to ask for one."""
    engine, weights = way
    tile = tile if engine == "tiled" else None
    return compute(query, key, value, engine=engine, weights=weights, tile=tile, **options)
