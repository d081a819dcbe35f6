"""Attention laid out on arrays in chunks is attention, whatever the options and the chunks."""

import doctest
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import attncli
from attncli import cluster
from attncli.errors import DtypeError, ParameterError, ShapeError

from ..core.drawn import drawn

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
zarr = pytest.importorskip("zarr")

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")

BESIDE = ("dmask", "dsinks", "dalibi")


def in_chunks(rng, array, at=slice(None, -1)):
    """Cut an array anywhere on some of its axes."""
    cuts = [(size,) for size in array.shape]
    for axis in range(array.ndim)[at]:
        edges = np.unique([0, *rng.integers(0, array.shape[axis] + 1, 2), array.shape[axis]])
        cuts[axis] = tuple(np.diff(edges).tolist())
    return da.from_array(array, chunks=tuple(cuts))


def everything(module, arrays, options):
    """Return all that forward and backward give, or lay out, by name."""
    out, cache = module.attention(arrays["query"], arrays["key"], arrays["value"], **options)
    gradients = module.attention_backward(arrays["dout"], cache, arrays.get("dlogsumexp"))
    found = {"out": out, "logsumexp": cache.logsumexp}
    found |= dict(zip(("dquery", "dkey", "dvalue"), gradients, strict=True))
    return found | {name: getattr(cache, name) for name in BESIDE}


def assert_same(found, wanted, tolerance=1e-12):
    assert [x is None for x in found.values()] == [x is None for x in wanted.values()]
    wanted = {name: x for name, x in wanted.items() if x is not None}
    laid_out = [found[name] for name in wanted]
    assert [x.dtype for x in laid_out] == [x.dtype for x in wanted.values()]
    assert [x.shape for x in laid_out] == [x.shape for x in wanted.values()]
    for numbers, (name, x) in zip(
        dask.compute(*laid_out, scheduler="threads"), wanted.items(), strict=True
    ):
        largest = np.abs(np.where(np.isfinite(x), x, 0)).max(initial=1)
        np.testing.assert_allclose(
            numbers, x, rtol=0, atol=50 * tolerance * largest, err_msg=name, strict=True
        )


@pytest.mark.parametrize("seed", range(40))
def test_any_options_in_any_chunks(seed):
    rng = np.random.default_rng(seed)
    _, arrays, options = drawn(seed)
    wanted = everything(attncli, arrays, options)
    arrays |= {name: in_chunks(rng, arrays[name]) for name in ("query", "key", "value", "dout")}
    for name in {"mask", "keep"} & options.keys():
        options[name] = in_chunks(rng, options[name], slice(None))
    assert_same(everything(cluster, arrays, options), wanted)


@pytest.mark.parametrize("block", [None, 1, 3, 100])
def test_arrays_without_chunks_are_cut_into_blocks(block):
    _, arrays, options = drawn(7)
    found = everything(cluster, arrays, options | {"block": block})
    assert_same(found, everything(attncli, arrays, options))


def test_zarr_arrays_are_read_a_few_whole_chunks_at_a_time():
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(2, 3, 11, 5)) for name in ("query", "key", "value", "dout")}
    stored = {name: zarr.array(x, chunks=(1, 1, 4, 5)) for name, x in arrays.items()}
    found = everything(cluster, stored, {"causal": "lower_right", "block": 6})
    assert found["out"].chunks[-2] == (8, 3)
    assert_same(found, everything(attncli, arrays, {"causal": "lower_right"}))


def test_leading_axes_may_be_missing_or_shared():
    rng = np.random.default_rng(0)
    shapes = {"query": (7, 3), "key": (1, 5, 3), "value": (2, 5, 4), "dout": (2, 7, 4)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    of_dask = {name: in_chunks(rng, x) for name, x in arrays.items()}
    assert_same(everything(cluster, of_dask, {}), everything(attncli, arrays, {}))


@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (2, 0, 4)])
def test_there_may_be_nothing_to_compute(shape):
    query, key = np.ones(shape), np.ones((*shape[:-2], 5, 4))
    arrays = {"query": query, "key": key, "value": key, "dout": query}
    assert_same(everything(cluster, arrays, {}), everything(attncli, arrays, {}))


def test_keys_that_nobody_sees_have_gradients_of_zero():
    x = np.random.default_rng(0).normal(size=(1, 8, 3))
    arrays = dict.fromkeys(("query", "key", "value", "dout"), x)
    options = {"kv_lengths": np.array([2]), "block": 2}
    gradient = everything(cluster, arrays, options)["dkey"].compute(scheduler="synchronous")
    assert gradient[:, :2].any()
    assert not gradient[:, 2:].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_other_dtypes_are_computed_in_and_cast_as_in_process(dtype):
    rng = np.random.default_rng(0)
    names = ("query", "key", "value")
    arrays = {name: (2 * rng.normal(size=(2, 7, 3))).astype(dtype) for name in names}
    arrays["dout"] = np.ones((2, 7, 3))
    wanted = everything(attncli, arrays, {})
    arrays |= {name: in_chunks(rng, arrays[name]) for name in names}
    tolerance = {"float16": 1e-4, "float32": 1e-7, "int64": 1e-13}[dtype]
    assert_same(everything(cluster, arrays, {}), wanted, tolerance)


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError

    x = da.ones((6, 2), chunks=(3, 2)).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    found = everything(cluster, dict.fromkeys(("query", "key", "value", "dout"), x), {})
    with pytest.raises(AssertionError):
        found["dkey"].compute(scheduler="synchronous")


def test_what_is_hidden_by_its_steps_is_no_task():
    x = da.ones((20, 2), chunks=(2, 2))
    _, cache = cluster.attention(x, x, x, causal="upper_left", window=2)
    assert sum(len(parts) for _, parts in cache.blocks()) == 10 + 9


def test_the_same_arrays_give_the_same_keys_and_bytes():
    rng = np.random.default_rng(0)
    x = in_chunks(rng, rng.normal(size=(2, 11, 3)))
    first, again = (
        everything(cluster, dict.fromkeys(("query", "key", "value", "dout"), x), {})["dkey"]
        for _ in range(2)
    )
    assert first.name == again.name
    assert (
        first.name
        != cluster.attention_backward(x, cluster.attention(x, x, x, scale=2.0)[1])[1].name
    )
    one, other = (first.compute(scheduler=how) for how in ("threads", "synchronous"))
    assert one.tobytes() == other.tobytes()


def test_what_does_not_fit_is_refused_at_once():
    x = da.ones((2, 6, 4), chunks=(1, 3, 4))
    with pytest.raises(ShapeError, match="H differs"):
        cluster.attention(x, x[..., :3], x)
    with pytest.raises(ParameterError, match="block is 0"):
        cluster.attention(x, x, x, block=0)
    with pytest.raises(ShapeError, match="how long its chunks are is not known") as caught:
        cluster.attention(x[0][x[0, :, 0] > 0], x, x)
    assert caught.value.hint == "array.compute_chunk_sizes()"
    _, cache = cluster.attention(x, x, x)
    with pytest.raises(ShapeError, match="dout is"):
        cluster.attention_backward(x[0], cache)
    with pytest.raises(DtypeError, match="dout is complex128"):
        cluster.attention_backward(x.astype(complex), cache)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "attncli.cluster.dask_arrays", raising=False)
    monkeypatch.delattr(cluster, "dask_arrays", raising=False)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'attncli\[cluster\]'"):
        cluster.attention  # noqa: B018


def test_what_the_guide_says_of_it_is_so():
    page = Path(attncli.__file__).parent / "guide" / "python.md"
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    (block,) = (block for block in blocks if "dask" in block)
    test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), 0)
    said = list[str]()
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
