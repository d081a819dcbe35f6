"""Where the time goes, by a clock that moves only where it is told to."""

import ast
import sys

import numpy as np
import pytest

from attncli.benchmarks import contenders, profiling
from attncli.benchmarks.profiling import kind_of, kinds, profiled
from attncli.core import attention, products
from attncli.reports import Cell, Profile

CELL = Cell(1, 7, 3, "float64")
PRODUCT, EXPONENTIALS, HIDDEN = 700.0, 20.0, 3.0  # seconds


@pytest.fixture
def clock(monkeypatch):
    """A product takes 700 s, an exponential 20 s, to hide 3 s, and all else no time."""
    now = [0.0]

    def taking(seconds, function):
        def timed(*arguments, **options):
            now[0] += seconds
            return function(*arguments, **options)

        return timed

    monkeypatch.setattr(profiling, "_clock", lambda: now[0])
    monkeypatch.setattr(products, "matmul", taking(PRODUCT, np.matmul))
    monkeypatch.setattr(np, "copyto", taking(HIDDEN, np.copyto))
    for name in ("exp", "exp2"):
        monkeypatch.setattr(np, name, taking(EXPONENTIALS, getattr(np, name)))
    return now


def looked_into(name, cell=CELL, repeat=1):
    answer = profiled(name, contenders.tensors(cell), contenders.options_of(cell), repeat)
    return Profile(cell, name, **answer)


@pytest.mark.parametrize("way", contenders.WAYS)
@pytest.mark.usefixtures("clock")
def test_every_second_is_counted_where_it_went(way):
    """Weights that are kept take six products and one exponential; else it is one more of each."""
    causal = way.startswith("direct")  # tiles at the edge would be two, and each has its products
    found = looked_into(way, CELL._replace(causal=causal))
    again = way.endswith("again")
    for part, multiplied, exponentials in (
        ("forward", 2, 1), ("backward", 4 + again, again), ("both", 6 + again, 1 + again),
    ):  # fmt: skip
        each = found.parts[part]
        assert each["products"] == each["bare_seconds"] == multiplied * PRODUCT
        assert each["softmax"] == exponentials * EXPONENTIALS
        assert (each["masks"] > 0) == causal
        assert each["masks"] % HIDDEN == 0
        assert each["copies"] == each["overhead"] == 0
        assert each["seconds"] == each["products"] + each["softmax"] + each["masks"]
        assert round(found.whole_products(part)) == multiplied
        assert sum(found.shares(part).values()) == pytest.approx(1)
        assert found.of_bare(part) == each["seconds"] / (multiplied * PRODUCT)
    assert (found.engine, found.weights_kept) == (way.split("-")[0], not again)


@pytest.mark.usefixtures("clock")
def test_what_is_no_line_of_a_kind_is_overhead(clock, monkeypatch):
    def slow(*arguments, **options):
        clock[0] += 50
        return attention(*arguments, **options)

    monkeypatch.setattr(profiling, "attention", slow)
    found = looked_into("core")
    assert found.parts["forward"]["overhead"] == 50
    assert found.parts["backward"]["overhead"] == 0


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("weights = products.matmul(dout, value.swapaxes(-1, -2))", "products"),
        ("return products.matmul(first, np.where(finite, second, 0), out=out)", "products"),
        ("exp(weights, out=weights)", "softmax"),
        ("weights /= _sums(total, seen)", "softmax"),
        ("dscores *= weights", "softmax"),
        ("delta = products.vecdot(weights, dweights)[..., None]", "softmax"),
        ("total, shift = np.add.reduce(weights, axis=-1), 0", "softmax"),
        ("np.copyto(scores, 0, where=~seen)", "masks"),
        ("top[lowest & ~seen.any(axis=-1)] = 0", "masks"),
        ("scores += bias", "masks"),
        ("total += part", "copies"),
        ("query = query * scale", "copies"),
        ("out[row] = same_out[row]", "copies"),
        ("room = empty(weights.shape, weights.dtype)", "copies"),
        ("part = next_part(weights, seen=seen)", None),
        ("wide = key.shape[-2] > query.shape[-1]", None),
    ],
)
def test_what_a_statement_does(statement, kind):
    assert kind_of(ast.parse(f"def f():\n    {statement}").body[0].body[0]) == kind


def test_of_what_holds_others_the_head_alone_counts(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(
        "if np.isfinite(x).all():\n    y = 1\nfor x in y:\n    scores += (\n        bias\n    )\n"
        "def row_sums(x):\n    return x\n"
    )
    assert kinds(str(path)) == {1: "softmax", 4: "masks", 5: "masks", 6: "masks", 7: "softmax",
                                8: "softmax"}  # fmt: skip


def test_who_traces_goes_on_and_products_are_what_they_were(monkeypatch):
    def fail(*_arguments, **_options):
        raise MemoryError

    products.choose("numpy")
    before, multiply = lambda *_: None, products.matmul
    outside = sys.gettrace()
    sys.settrace(before)
    try:
        looked_into("core")
        assert (sys.gettrace(), products.matmul) == (before, multiply)
        with pytest.raises(MemoryError):
            profiling._by_line(fail, 1)
        assert sys.gettrace() is before
    finally:
        sys.settrace(outside)
    with pytest.raises(MemoryError):
        profiling._recorded(fail)
    assert products.matmul is multiply
