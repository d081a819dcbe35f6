"""All options together, drawn: both engines, weights kept or not, against the formulas."""

import dataclasses

import numpy as np
import pytest

from attncli import attention, attention_backward, rotary
from attncli.core import blocks, compute
from attncli.core.extras import EXTRAS, Extras
from attncli.core.rotary import Rotation
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS, Execution, run

from . import formula
from .drawn import LARGE, drawn, pairs

pytestmark = pytest.mark.filterwarnings("ignore::attncli.errors.AttnWarning")

SMALL_CASES, LARGE_CASES = range(300), range(1000, 1012)
WAYS = [(engine, kept) for engine in ("direct", "tiled") for kept in (True, False)]


def _semantics(options):
    names = Semantics.__dataclass_fields__
    return Semantics(**{name: x for name, x in options.items() if name in names})


def _extras(options):
    return Extras(**{name: x for name, x in options.items() if name in EXTRAS})


def everything(arrays, options, engine, kept, tile=None, threads=1):
    """Return all that forward and backward give, by name."""
    out, cache = compute(
        arrays["query"], arrays["key"], arrays["value"],
        mask=options.get("mask"), extras=_extras(options),
        semantics=_semantics(options), engine=engine, weights=kept, tile=tile, threads=threads,
    )  # fmt: skip
    gradients = attention_backward(arrays["dout"], cache, arrays["dlogsumexp"])
    found = {"out": out, "weights": cache.weights, "logsumexp": cache.logsumexp}
    found |= dict(zip(("dquery", "dkey", "dvalue"), gradients, strict=True))
    found |= {"dmask": cache.dmask, "dalibi": cache.dalibi, "dsinks": cache.dsinks}
    return {name: x for name, x in found.items() if x is not None}


def assert_same(found, wanted, kept):
    expected = set(wanted) - (set() if kept else {"weights"})
    assert set(found) == expected
    for name, x in found.items():
        assert x.shape == wanted[name].shape
        largest = np.abs(np.where(np.isfinite(wanted[name]), wanted[name], 0)).max(initial=1)
        np.testing.assert_allclose(
            x, wanted[name], rtol=1e-9, atol=1e-11 * largest, err_msg=name, strict=True
        )


@pytest.mark.parametrize("seed", SMALL_CASES)
def test_any_options_together_give_what_the_formulas_give(seed):
    _, arrays, options = drawn(seed)
    wanted = formula.attention(**arrays, **options)
    for engine, kept in WAYS:
        tile = (3, 2) if engine == "tiled" else None
        assert_same(everything(arrays, options, engine, kept, tile), wanted, kept)


@pytest.mark.parametrize("seed", LARGE_CASES)
def test_any_options_together_cross_tiles(seed):
    _, arrays, options = drawn(seed, LARGE)
    wanted = formula.attention(**arrays, **options)
    for engine, kept in WAYS:
        tile = (128, 64) if engine == "tiled" else None
        assert_same(everything(arrays, options, engine, kept, tile, threads=2), wanted, kept)


def test_every_two_options_meet():
    met = [drawn(seed)[0] for seed in SMALL_CASES]
    assert [pair for pair in pairs() if not any(pair <= names for names in met)] == []


@pytest.mark.parametrize("seed", SMALL_CASES[:100])
def test_what_no_query_sees_may_hold_nan_and_infinity(seed):
    _, arrays, options = drawn(seed)
    seen = formula.attention(**arrays, **options)["weights"] > 0
    shared = arrays["key"].shape[1]
    seen = seen.reshape(len(seen), shared, -1, *seen.shape[2:]).any(axis=(2, 3))
    hidden = {
        name: np.where(seen[..., None], arrays[name], bad)
        for name, bad in (("key", np.nan), ("value", np.inf))
    }
    clean = {name: np.where(seen[..., None], arrays[name], 0) for name in hidden}
    for engine, kept in WAYS:
        tile = (3, 2) if engine == "tiled" else None
        wanted = everything(arrays | clean, options, engine, kept, tile)
        found = everything(arrays | hidden, options, engine, kept, tile)
        for name in wanted:
            assert np.isfinite(found[name]).all() or name == "logsumexp"
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SMALL_CASES[:150])
def test_the_loop_over_steps_gives_what_the_formulas_give(seed):
    _, arrays, options = drawn(seed)
    wanted = formula.attention(**arrays, **options)
    done = run(
        OPERATIONS["scaled-dot-product"],
        {name: arrays[name] for name in ("query", "key", "value")},
        options.get("mask"),
        extras=_extras(options),
        semantics=_semantics(options),
        execution=Execution(engine="reference"),
    )
    found = {**done.results, **done.backward(arrays["dout"], arrays["dlogsumexp"])}
    assert_same({**found, "logsumexp": done.logsumexp}, wanted, kept=True)


@pytest.mark.parametrize("options", [
    {"kv_lengths": np.array([5, 7])},
    {"kv_lengths": np.array([5, 7]), "causal": "lower_right"},
    {"cu_seqlens": np.array([0, 2, 5]), "cu_seqlens_k": np.array([0, 4, 7])},
])  # fmt: skip
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_rotary_positions_go_by_item_and_by_sequence(options, engine):
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, 3, T, 6)) for T in (5, 7, 7))
    operation = dataclasses.replace(OPERATIONS["scaled-dot-product"], rotation=Rotation("halves"))
    done = run(
        operation, {"query": query, "key": key, "value": value}, extras=_extras(options),
        semantics=_semantics(options), execution=Execution(engine=engine),
    )  # fmt: skip
    wanted = np.empty_like(done.results["out"])
    if "cu_seqlens" in options:
        cuts = [(slice(0, 2), slice(0, 4)), (slice(2, 5), slice(4, 7))]
        for rows, keys in cuts:
            one = rotary(query[:, :, rows]), rotary(key[:, :, keys]), value[:, :, keys]
            wanted[:, :, rows] = attention(*one)[0]
    else:
        for n, length in enumerate(options["kv_lengths"]):
            at = np.arange(5) + (length - 5 if "causal" in options else 0)
            keys = rotary(key[n])[:, :length], value[n][:, :length]
            wanted[n] = attention(rotary(query[n], at), *keys, causal=options.get("causal"))[0]
    np.testing.assert_allclose(done.results["out"], wanted, rtol=1e-12, atol=1e-13)


T = 1024
HIDING = {
    "causal order": ({"causal": "upper_left"}, T * (T + 64) / 2),
    "a causal window": ({"causal": "upper_left", "window": 63}, T * 3 * 64 / 2 + 64 * T / 2),
    "segments": ({"segments": np.arange(T) // 128}, T * 128),
    "segments out of order": ({"segments": np.arange(T)[::-1] // 128}, T * 128),
    "sequences": ({"cu_seqlens": np.arange(0, T + 1, 128)}, T * 128),
    "lengths": ({"kv_lengths": [128]}, T * 128),
    "lengths at the end": ({"kv_lengths": [128], "causal": "lower_right"}, 128 * (128 + 64) / 2),
}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("options", "most"), HIDING.values(), ids=HIDING)
def test_a_tile_that_nobody_sees_is_computed_neither_forward_nor_backward(
    options, most, kept, monkeypatch
):
    computed = []
    scores = blocks.scores

    def counted(query, key, **how):
        result = scores(query, key, **how)
        computed.append(result.shape[-2] * result.shape[-1])
        return result

    monkeypatch.setattr(blocks, "scores", counted)
    query = np.random.default_rng(0).standard_normal((1, T, 3))
    out, cache = compute(
        query, query, query, extras=_extras(options), semantics=_semantics(options),
        engine="tiled", weights=kept, tile=(64, 64),
    )  # fmt: skip
    assert 0 < sum(computed) <= most
    computed.clear()
    attention_backward(out, cache)
    assert sum(computed) <= (0 if kept else most)
