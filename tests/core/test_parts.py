"""Parts of the score matrix together are the whole, however it is cut and whatever the options."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli import attention, attention_backward
from attncli.core.extras import EXTRAS, Extras
from attncli.core.parts import (
    Part,
    Partial,
    Whole,
    backward_part,
    forward_part,
    merge_parts,
)
from attncli.core.semantics import Semantics
from attncli.errors import ParameterError, ShapeError

from .drawn import LARGE, drawn

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")

BESIDE = ("dmask", "dsinks", "dalibi")


def whole_of(arrays, options):
    """Return (the whole, the arrays of which each part gets its region)."""
    semantics = {n: x for n, x in options.items() if n in Semantics.__dataclass_fields__}
    extras = {n: x for n, x in options.items() if n in EXTRAS}
    whole = Whole.of(
        *(arrays[name] for name in ("query", "key", "value")),
        mask=options.get("mask"), extras=Extras(**extras), semantics=Semantics(**semantics),
    )  # fmt: skip
    given = {name: arrays[name] for name in ("query", "key", "value")}
    given |= {name: options[name] for name in ("mask", "keep") if name in options}
    if "segments" in options:
        ids = options["segments"]
        ids = ids if isinstance(ids, tuple) else (ids, ids)
        given |= dict(zip(("segments_dec", "segments_enc"), ids, strict=True))
    return whole, given


def cut(size, at):
    """Return the slices between some places of an axis."""
    edges = [0, *sorted({x for x in at if 0 < x < size}), size]
    return [slice(*ends) for ends in pairwise(edges)]


def hidden(operands):
    visibility = operands.visibility.by_step
    every = slice(0, visibility.T_dec), slice(0, visibility.T_enc)
    return visibility.says(*every) == "none"


def together(arrays, options, leads, rows, keys):
    """Return all that forward and backward give, put together from parts."""
    whole, given = whole_of(arrays, options)
    found = {
        "out": np.full(whole.shapes["out"], np.nan),
        "logsumexp": np.full(whole.shapes["logsumexp"], np.nan),
    }
    found |= {f"d{name}": np.zeros(whole.shapes[name]) for name in whole.shapes}
    rest = {"dout": arrays["dout"], "dlogsumexp": arrays["dlogsumexp"]}
    for lead in leads:
        for some in rows:
            parts = [Part(lead, some, one) for one in keys]
            regions = [whole.regions(part) for part in parts]
            calls = [
                whole.operands(part, {name: x[where[name]].copy() for name, x in given.items()})
                for part, where in zip(parts, regions, strict=True)
            ]
            needed = [at for at, call in enumerate(calls) if not at or not hidden(call)]
            regions, calls = ([x[at] for at in needed] for x in (regions, calls))
            where = regions[0]
            done = merge_parts(*map(forward_part, calls))
            found["out"][where["out"]], found["logsumexp"][where["logsumexp"]] = done[:2]
            own = {"dout": rest["dout"][where["out"]], "dlogsumexp": rest["dlogsumexp"]}
            if own["dlogsumexp"] is not None:
                own["dlogsumexp"] = own["dlogsumexp"][where["logsumexp"]]
            for where, operands in zip(regions, calls, strict=True):
                gradients = backward_part(own["dout"], *done[:2], operands, own["dlogsumexp"])
                for name, x in gradients._asdict().items():
                    if x is not None:
                        found[name][where[name[1:]]] += x
    return found


def at_once(arrays, options):
    out, cache = attention(arrays["query"], arrays["key"], arrays["value"], **options)
    gradients = attention_backward(arrays["dout"], cache, arrays["dlogsumexp"])
    found = {"out": out, "logsumexp": cache.logsumexp}
    found |= dict(zip(("dquery", "dkey", "dvalue"), gradients, strict=True))
    beside = {name: getattr(cache, name) for name in BESIDE}
    return found | {name: x for name, x in beside.items() if x is not None}


def assert_same(found, wanted, size=1.0):
    for name, x in wanted.items():
        largest = np.abs(np.where(np.isfinite(x), x, 0)).max(initial=1)
        np.testing.assert_allclose(
            found[name], x, rtol=0, atol=1e-12 * size * largest, err_msg=name, strict=True
        )


places = st.lists(st.integers(1, 12), max_size=4)
sizes = st.sampled_from([1.0, 1.0, 1e3, 1e8])


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), places, places, st.booleans(), st.booleans(), sizes)
def test_parts_together_are_the_whole(seed, row_cuts, key_cuts, each_item, each_head, size):
    _, arrays, options = drawn(seed)
    arrays["query"] = arrays["query"] * size
    N, heads, T_dec, _ = arrays["query"].shape
    shared, T_enc = arrays["key"].shape[1:3]
    by_item = cut(N, range(N) if each_item else ())
    by_head = cut(heads, range(heads) if each_head else range(0, heads, heads // shared))
    leads = [(n, h) for n in by_item for h in by_head]
    wanted = at_once(arrays, options)
    found = together(arrays, options, leads, cut(T_dec, row_cuts), cut(T_enc, key_cuts))
    logsumexp = wanted["logsumexp"]
    greatest = np.abs(np.where(np.isfinite(logsumexp), logsumexp, 0)).max(initial=1)
    assert_same(found, wanted, greatest)


@pytest.mark.parametrize("seed", range(1000, 1008))
def test_parts_may_have_several_tiles(seed):
    _, arrays, options = drawn(seed, LARGE)
    N, heads, T_dec, _ = arrays["query"].shape
    everywhere = [(slice(0, N), slice(0, heads))]
    cuts = cut(T_dec, [520]), cut(arrays["key"].shape[2], [7, 530])
    found = together(arrays, options, everywhere, *cuts)
    assert_same(found, at_once(arrays, options), 100)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), places, places)
def test_what_no_query_of_the_whole_sees_may_hold_nan_and_infinity(seed, row_cuts, key_cuts):
    _, arrays, options = drawn(seed)
    cache = attention(arrays["query"], arrays["key"], arrays["value"], **options, weights=True)[1]
    shared = arrays["key"].shape[1]
    seen = (cache.weights > 0).reshape(len(cache.weights), shared, -1, *cache.weights.shape[2:])
    seen = seen.any(axis=(2, 3))[..., None]
    arrays["key"], arrays["value"] = (
        np.where(seen, arrays["key"], 0),
        np.where(seen, 1, 0) * arrays["value"],
    )
    hidden = {
        "key": np.where(seen, arrays["key"], np.nan),
        "value": np.where(seen, arrays["value"], np.inf),
    }
    everywhere = [tuple(slice(0, size) for size in arrays["query"].shape[:2])]
    T_dec, T_enc = arrays["query"].shape[2], arrays["key"].shape[2]
    cuts = everywhere, cut(T_dec, row_cuts), cut(T_enc, key_cuts)
    wanted = at_once(arrays, options)
    assert_same(together(arrays | hidden, options, *cuts), wanted, 50)


@pytest.mark.parametrize("size", [0.01, 1.0, 1e3, 1e6])
def test_a_query_that_sees_nothing_may_stand_among_scores_of_any_size(size):
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((7, 3)) for name in ("query", "key", "value", "dout")}
    arrays |= {"query": arrays["query"] * size, "dlogsumexp": np.ones(7)}
    options = {"mask": np.arange(7)[:, None] % 3 > 0}
    found = together(arrays, options, [()], [slice(0, 2), slice(2, 7)], [slice(0, 3), slice(3, 7)])
    assert_same(found, at_once(arrays, options), max(1, size))


@pytest.mark.parametrize("fan", [2, 5])
@pytest.mark.parametrize("infinite", [1, 2, 5])
def test_scores_of_minus_infinity_weigh_nothing_unless_there_are_no_others(infinite, fan):
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((size, 2)) for size in (3, 5, 5))
    query[:, 0], key[:infinite, 0] = 1, -np.inf
    whole = Whole.of(query, key, value)
    partials = []
    for at in range(5):
        part = Part((), slice(0, 3), slice(at, at + 1))
        where = whole.regions(part)
        arrays = {"query": query, "key": key[where["key"]], "value": value[where["value"]]}
        partials.append(forward_part(whole.operands(part, arrays)))
    while len(partials) > fan:
        nodes = (partials[at : at + fan] for at in range(0, len(partials), fan))
        partials = [merge_parts(*some, more=True) for some in nodes]
    found = merge_parts(*partials)
    with np.errstate(invalid="ignore"):
        out, cache = attention(query, key, value)
    np.testing.assert_allclose(found.out, out, rtol=1e-12)
    np.testing.assert_allclose(found.logsumexp, cache.logsumexp, rtol=1e-12)


def test_what_a_part_gives_keeps_and_pickles_nothing_else():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 211, 13))
    whole, given = whole_of(
        {"query": x, "key": x, "value": x},
        {"mask": rng.standard_normal((211, 211)), "sinks": np.zeros(2), "alibi": np.ones(2)},
    )
    part = Part((slice(0, 1), slice(0, 2)), slice(7, 107), slice(0, 101))
    assert len(pickle.dumps((whole, part))) < 2000
    where = whole.regions(part)
    operands = whole.operands(part, {name: x[where[name]] for name, x in given.items()})
    partial = forward_part(operands)
    merged = merge_parts(partial, partial)
    gradients = backward_part(np.ones_like(partial.out), partial.out, partial.logsumexp, operands)
    for array in (*partial, *merged, *gradients):
        base = array
        while base.base is not None:
            base = base.base
        assert base.nbytes == array.nbytes
        assert len(pickle.dumps(array, 5)) < array.nbytes + 300


def test_where_in_memory_an_array_begins_makes_no_difference():
    def anywhere(x):
        return np.frombuffer(b"-" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)

    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((1, 13)), rng.standard_normal((11, 13))
    whole = Whole.of(query, key, key)
    found = []
    for place in (np.copy, anywhere):
        arrays = {"query": place(query), "key": place(key), "value": place(key)}
        operands = whole.operands(Part((), slice(0, 1), slice(0, 11)), arrays)
        partial = Partial(*map(place, forward_part(operands)))
        gradients = backward_part(place(query), partial.out, partial.logsumexp, operands)
        found.append([*partial, *gradients[:3]])
    assert [x.tobytes() for x in found[0]] == [x.tobytes() for x in found[1]]


def test_heads_of_which_some_share_a_key_head_and_some_do_not_are_refused():
    query, key = np.empty((1, 6, 5, 3)), np.empty((1, 2, 5, 3))
    whole = Whole.of(query, key, key)
    every = slice(0, 5)
    with pytest.raises(ParameterError, match="heads 2 to 4, expected some of one group of 3"):
        whole.regions(Part((slice(0, 1), slice(2, 4)), every, every))


def test_what_does_not_fit_is_refused_before_anything_is_read():
    query, key = np.empty((2, 5, 3)), np.empty((2, 7, 3))
    with pytest.raises(ShapeError, match="mask is"):
        Whole.of(query, key, key, mask=np.empty((5, 5)))
    with pytest.raises(ShapeError, match="keep is"):
        Whole.of(query, key, key, extras=Extras(keep=np.empty((5, 5), bool)))
    with pytest.raises(ParameterError, match="keep_prob"):
        Whole.of(query, key, key, semantics=Semantics(keep_prob=0.5))
