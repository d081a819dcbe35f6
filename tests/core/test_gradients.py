"""The gradients of every option, by both engines, against the complex step of the formula."""

import tracemalloc

import numpy as np
import pytest
from crossing import crossed

from attncli.core import attention_backward
from attncli.errors import DtypeError, ShapeError

from . import reference
from .common import ENGINES, OPTIONS, SHAPES, TOLERANCE, assert_near, by_name, compute, tensors

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")

NAMES = ("query", "key", "value")
_known = {}  # the reference is slow, and the same for all engines


def check(arrays, options, engine, key):
    """Compare all gradients of one problem with the reference."""
    out, cache = compute(**arrays, **options, **engine)
    dout = np.random.default_rng(7).standard_normal(out.shape)
    if key not in _known:
        _known[key] = reference.gradients(arrays, dout, **options)
    for name, gradient in zip(NAMES, attention_backward(dout, cache), strict=True):
        assert_near(gradient, _known[key][name], factor=5, scale=1)
    if cache.dmask is not None:
        assert_near(cache.dmask, _known[key]["mask"], factor=5, scale=1)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("option", list(OPTIONS))
def test_gradients_with_every_option(option, engine):
    arrays = dict(zip(NAMES, tensors(((2, 3, 5), (2, 7, 5), (2, 7, 3))), strict=True))
    check(arrays, OPTIONS[option], engine, option)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("shape", list(SHAPES))
def test_gradients_of_every_shape_are_summed_where_inputs_are_shared(shape, engine):
    small = [tuple(min(size, 6) for size in x) for x in SHAPES[shape]]
    arrays = dict(zip(NAMES, tensors(small), strict=True))
    check(arrays, {}, engine, shape)


MASKS = {
    "full": (2, 3, 5, 7),
    "(T_dec, T_enc)": (5, 7),
    "keys": (7,),
    "queries": (5, 1),
    "heads": (3, 1, 1),
    "N and keys": (2, 1, 1, 7),
    "scalar": (),
}


@pytest.mark.parametrize(
    **crossed(
        shape=list(MASKS),
        options={name: OPTIONS[name] for name in ("nothing", "all")},
        engine=ENGINES,
    )
)
def test_gradient_of_a_float_mask_is_summed_where_it_is_broadcast(shape, options, engine):
    rng = np.random.default_rng(3)
    arrays = dict(zip(NAMES, tensors(((2, 3, 5, 2), (2, 1, 7, 2), (2, 1, 7, 3))), strict=True))
    mask = rng.standard_normal(MASKS[shape])
    if shape == "full":
        mask[rng.random(mask.shape) < 0.3] = -np.inf
        mask[1, 2, 4] = -np.inf
    check({**arrays, "mask": mask}, options, engine, (shape, *options))


def test_a_boolean_mask_has_no_gradient():
    query, key, value = tensors(SHAPES["(N, T, H)"])
    out, cache = compute(query, key, value, mask=np.ones((5, 11), bool))
    attention_backward(out, cache)
    assert cache.dmask is None


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_backward_twice_gives_the_same_twice(engine):
    query, key, value = tensors(SHAPES["(N, T, H)"])
    out, cache = compute(query, key, value, mask=np.ones((5, 11)), **engine)
    first = (*attention_backward(out, cache), cache.dmask.copy())
    second = (*attention_backward(out, cache), cache.dmask)
    for one, other in zip(first, second, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("engine", **by_name(ENGINES))
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradients_of_lower_precision(dtype, engine):
    arrays = tensors(SHAPES["grouped heads"], dtype=dtype)
    out, cache = compute(*arrays, **engine)
    _, wide = compute(*(x.astype(float) for x in arrays), engine="direct")
    expected = attention_backward(out.astype(float), wide)
    for actual, right in zip(attention_backward(out, cache), expected, strict=True):
        assert actual.dtype == dtype
        assert_near(actual, right, dtype)


def test_wrong_gradients_would_be_noticed():
    query, key, value = tensors(((2, 3), (5, 3), (5, 3)))
    out, cache = compute(query, key, value)
    dquery, _, _ = attention_backward(out, cache)
    right = reference.gradients({"query": query, "key": key, "value": value}, out)["query"]
    assert_near(dquery, right)
    with pytest.raises(AssertionError):
        assert_near(dquery * (1 + 10 * TOLERANCE["float64"]), right)


def test_dout_of_another_shape_is_refused():
    query, key, value = tensors(SHAPES["(N, T, H)"])
    _, cache = compute(query, key, value)
    with pytest.raises(ShapeError, match=r"^dout is \(2, 5, 7\), expected .* out: \(2, 5, 3\)$"):
        attention_backward(query, cache)
    with pytest.raises(DtypeError):
        attention_backward(np.ones((2, 5, 3), complex), cache)


@pytest.mark.parametrize("engine", ["direct", "tiled"])
def test_gradients_of_what_is_shared_take_no_memory_for_each_who_shares_it(engine):
    arrays = tensors(((64, 1, 8), (1, 5000, 8), (1, 5000, 8)))
    out, cache = compute(*arrays, engine=engine)
    tracemalloc.start()
    attention_backward(out, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 5000 * 8 * 8 / 2


@pytest.mark.parametrize("engine", **by_name(ENGINES))
def test_softcap_where_only_value_or_the_mask_has_the_leading_axis(engine):
    query, key, value = tensors(((1, 2, 5, 7), (1, 2, 11, 7), (3, 2, 11, 2)))
    mask = np.random.default_rng(1).random((3, 2, 5, 11)) < 0.8
    arrays = {"query": query, "key": key, "value": value, "mask": mask}
    check(arrays, {"softcap": 1.3}, engine, "softcap beside a leading axis")
