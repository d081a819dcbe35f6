"""One cache in several threads: each has right gradients, and finds its own beside them."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from attncli.core import attention, attention_backward

BESIDE = ("dmask", "dsinks", "dalibi")


@pytest.fixture(autouse=True)
def _hasty():
    """Let threads be interrupted wherever they are."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def calculated(engine, kept, **more):
    rng = np.random.default_rng(7)
    query, key, value = rng.normal(size=(3, 2, 3, 67, 5))
    options = {
        "mask": rng.normal(size=(67, 67)), "sinks": rng.normal(size=3), "alibi": rng.normal(size=3),
    }  # fmt: skip
    out, cache = attention(query, key, value, **{**options, **more}, engine=engine, weights=kept)
    return cache, rng.normal(size=(2, *out.shape))


def gradients(cache, dout):
    found = attention_backward(dout, cache)
    return [*found, *(getattr(cache, name) for name in BESIDE)]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_each_thread_gets_the_gradients_of_its_own_dout(engine, kept):
    cache, douts = calculated(engine, kept)
    expected = [gradients(cache, dout) for dout in douts]
    both = Barrier(2, timeout=60)

    def work(number):
        both.wait()
        return [gradients(cache, douts[number]) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        for found, right in zip(pool.map(work, range(2)), expected, strict=True):
            for one in found:
                assert all(np.allclose(x, y) for x, y in zip(one, right, strict=True))


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_weights_that_are_looked_at_meanwhile_change_no_gradient(engine):
    for _ in range(20):
        cache, (dout, _) = calculated(engine, True, mask=None, sinks=None, alibi=None)
        expected = attention_backward(dout, copy.deepcopy(cache))
        both = Barrier(2, timeout=60)

        def look(cache=cache, both=both):
            both.wait()
            return cache.weights.sum(axis=-1)

        def walk(cache=cache, both=both, dout=dout):
            both.wait()
            return attention_backward(dout, cache)

        with ThreadPoolExecutor(2) as pool:
            sums, found = pool.submit(look), pool.submit(walk)
            assert np.allclose(sums.result(), 1)
            assert all(np.allclose(x, y) for x, y in zip(found.result(), expected, strict=True))


def test_who_computed_nothing_finds_what_was_computed_last():
    cache, douts = calculated("direct", True)
    assert [getattr(cache, name) for name in BESIDE] == [None] * 3
    for dout in douts:
        with ThreadPoolExecutor(1) as pool:
            expected = pool.submit(gradients, cache, dout).result()[3:]
        found = [getattr(cache, name) for name in BESIDE]
        assert all(np.array_equal(x, y) for x, y in zip(found, expected, strict=True))


def test_a_cache_may_be_copied_and_written():
    cache, (dout, _) = calculated("tiled", False)
    expected = gradients(cache, dout)
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        found = gradients(twin, dout)
        assert all(np.array_equal(x, y) for x, y in zip(found, expected, strict=True))


def test_an_error_lets_the_next_one_in():
    cache, (dout, _) = calculated("direct", True)
    with pytest.raises(ValueError, match="dout is"):
        attention_backward(dout[..., :1], cache)
    attention_backward(dout, cache)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_one_array_in_every_place_and_views_that_overlap_are_as_good_as_copies(engine, kept):
    rng = np.random.default_rng(5)
    one, memory = rng.normal(size=(2, 5, 7)), rng.normal(size=200)
    query, key, value = (
        np.lib.stride_tricks.as_strided(memory[at:], (2, 5, 7), (400, step, 8), writeable=False)
        for at, step in ((0, 56), (3, 24), (1, 16))
    )
    one.flags.writeable = False
    before = one.tobytes(), memory.tobytes()
    for given in ((one, one, one, one), (query, key, value, query)):
        found, expected = (
            [out := attention(*arrays[:3], engine=engine, weights=kept), *gradients(out[1], dout)]
            for arrays, dout in ((given, given[3]), ([x.copy() for x in given], given[3].copy()))
        )
        assert np.allclose(found[0][0], expected[0][0])
        assert all(np.allclose(x, y) for x, y in zip(found[1:4], expected[1:4], strict=True))
    assert (one.tobytes(), memory.tobytes()) == before
