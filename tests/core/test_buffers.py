"""Buffers: aligned, and used again once nobody has them any more."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from attncli.core import attention, attention_backward, buffers
from attncli.core.buffers import KEPT, LINE, empty, together

FLOAT = np.dtype(np.float64)

pytestmark = pytest.mark.skipif(not buffers._ALONE, reason="nobody here counts references")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(buffers, "_memories", [])


def test_arrays_begin_where_a_line_does_and_do_not_overlap():
    first, second = together([(100, 37), (3, 500)], FLOAT)
    assert first.ctypes.data % LINE == second.ctypes.data % LINE == 0
    assert not np.may_share_memory(first, second)


def test_memory_that_nobody_has_is_used_again():
    array = empty((500, 500), FLOAT)
    place = array.ctypes.data
    del array
    assert empty((400, 600), FLOAT).ctypes.data == place


@pytest.mark.parametrize(
    "hold", [lambda x: x[3:4], lambda x: x.T.reshape(-1, order="F"), np.asarray]
)
def test_memory_of_which_somebody_has_a_view_is_not(hold):
    array = empty((500, 500), FLOAT)
    view = hold(array)
    del array
    assert not np.may_share_memory(empty((500, 500), FLOAT), view)


def test_no_more_than_a_little_is_kept():
    arrays = [empty((1 << 20,), FLOAT) for _ in range(10)]
    assert len(arrays) * arrays[0].nbytes > KEPT
    assert sum(map(len, buffers._memories)) <= KEPT
    empty((KEPT,), FLOAT)
    assert sum(map(len, buffers._memories)) <= KEPT


def test_much_smaller_arrays_do_not_take_large_memory():
    empty((1000, 1000), FLOAT)
    empty((100, 100), FLOAT)
    assert len(buffers._memories) == 2


def test_results_are_not_overwritten_by_the_next_calculation():
    rng = np.random.default_rng(0)
    query, key, value, dout = (rng.normal(size=(2, 300, 64)) for _ in range(4))
    out, cache = attention(query, key, value)
    results = (out, cache.weights, *attention_backward(dout, cache))
    before = [x.copy() for x in results]
    for seed in range(5):
        _, cache = attention(query + seed, key, value)
        attention_backward(dout, cache)
    for x, y in zip(results, before, strict=True):
        assert (x == y).all()


def test_calculations_at_the_same_time_do_not_share_memory():
    rng = np.random.default_rng(0)
    problems = [[rng.normal(size=(2, 100, 32)) for _ in range(4)] for _ in range(4)]

    def calculate(problem):
        *operands, dout = problem
        out, cache = attention(*operands, threads=2)
        return out, *attention_backward(dout, cache)

    expected = [calculate(problem) for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            for found, right in zip(pool.map(calculate, problems), expected, strict=True):
                assert all((x == y).all() for x, y in zip(found, right, strict=True))
