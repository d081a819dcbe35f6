"""An input that is changed in place between forward and backward is an error; nothing else is."""

import copy
import pickle

import numpy as np
import pytest

from attncli.core import attention, attention_backward, attention_weights
from attncli.errors import DataError

SMALL, LARGE = (2, 5, 3), (2, 211, 47)  # the large are told by sums


def negate(array):
    array *= -1


def scale(array):
    array *= 1 + 1e-6


def one_number(array):
    array[-1, -2, -1] += 1e-3


def turn(array):
    array[...] = array[:, ::-1].copy()


def swap(array):
    array[...] = array[::-1].copy()


def change_places(array):
    array[:, [0, 1]] = array[:, [1, 0]]


def inputs(shape, dtype, **more):
    query, key, value = np.random.default_rng(3).normal(size=(3, *shape)).astype(dtype)
    return {"query": query, "key": key, "value": value, **more}


@pytest.mark.parametrize("change", [negate, scale, one_number, turn, swap, change_places])
@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_change_is_named(change, name, shape, dtype):
    given = inputs(shape, dtype)
    out, cache = attention(**given)
    change(given[name])
    with pytest.raises(DataError, match=f"^{name} was changed in place since forward"):
        attention_backward(out, cache)


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_of_one_array_for_key_and_value_the_key_is_named(engine):
    query, hs = inputs(LARGE, "float32")["query"], inputs(LARGE, "float32")["key"]
    out, cache = attention(query, hs, hs, engine=engine)
    hs[0, 100, 7] = 0
    with pytest.raises(DataError, match=r"^key was"):
        attention_backward(out, cache)


def test_what_stands_beside_is_watched_too():
    T = LARGE[1]
    mask = np.where(np.eye(T) > 0, -np.inf, 0.25)  # every sum of a column is infinite
    for name, array, index, other in [
        ("mask", mask, (3, 4), -0.25),
        ("mask", np.tri(T, dtype=bool), (9, 9), False),
        ("mask", np.tri(T, dtype=bool), slice(None), np.tri(T, dtype=bool)[::-1]),
        ("keep", np.tri(T, dtype=bool), (9, 9), False),
        ("sinks", np.ones(2), 1, 2.0),
        ("alibi", np.ones(2), 1, 0.5),
    ]:
        given = inputs((3, *LARGE), "float64", **{name: array})
        given |= {"keep_prob": 0.7} if name == "keep" else {}
        out, cache = attention(**given)
        array[index] = other
        with pytest.raises(DataError, match=f"^{name} was"):
            attention_backward(out, cache)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_what_was_copied_may_change(shape):
    given = inputs(shape, "float64")
    given = {name: (10 * array).astype(int) for name, array in given.items()}
    out, cache = attention(**given)
    expected = attention_backward(out, cache)
    for array in given.values():
        array[...] = 0
    for found, right in zip(attention_backward(out, cache), expected, strict=True):
        assert np.array_equal(found, right)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_cache_watch_their_own_arrays(shape, copied):
    given = inputs(shape, "float32")
    for name, array in given.items():
        given[name] = array.swapaxes(0, 1).copy().swapaxes(0, 1)
    out, cache = attention(**given)
    other = copied(cache)
    given["query"] *= 2
    attention_backward(out, other)
    with pytest.raises(DataError, match=r"^query was"):
        attention_backward(out, cache)
    other.operands.key[...] += 1
    with pytest.raises(DataError, match=r"^key was"):
        attention_backward(out, other)


def test_results_may_change_and_nan_is_no_change():
    given = inputs(LARGE, "float32")
    given["value"][0, 0, 0] = np.nan
    out, cache = attention(**given)
    dout = np.ones_like(out)
    out *= 0
    attention_backward(dout, cache)


@pytest.mark.parametrize("numbers", [np.eye(211, 47), np.arange(211 * 47).reshape(211, 47) % 5])
def test_whole_numbers_in_another_order_are_noticed(numbers):
    query = np.stack([numbers, numbers]).astype("float32")
    out, cache = attention(query, query, query)
    change_places(query)
    with pytest.raises(DataError, match=r"^query was"):
        attention_backward(out, cache)


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_weights_that_are_kept_cannot_be_written_to(engine):
    _, cache = attention(**inputs(SMALL, "float64"), engine=engine, weights=True)
    with pytest.raises(ValueError, match="read-only"):
        cache.weights[...] = 0
    weights = attention_weights(*list(inputs(SMALL, "float64").values())[:2])
    weights[...] = 0  # these are nobody else's


def test_a_copy_watches_no_more_than_its_cache_did():
    given = {name: array.tolist() for name, array in inputs(SMALL, "float64").items()}
    _, cache = attention(**given, weights=True)
    assert (
        pickle.loads(pickle.dumps(cache)).weights.flags.writeable == cache.weights.flags.writeable
    )
