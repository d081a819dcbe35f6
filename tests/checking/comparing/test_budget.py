"""How exact a calculation can be expected to be: per head and row, in any precision."""

import ml_dtypes
import numpy as np
import pytest
from crossing import crossed

from attncli.checking.comparing.budget import PRECISIONS, Budgets, allowances
from attncli.checking.comparing.drift import Throughout
from attncli.core import attention, attention_backward
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.errors import DataError, MemoryLimitError
from attncli.operations import OPERATIONS
from attncli.operations.layout import Layout
from attncli.problems.setting import with_rotary

QKV = OPERATIONS["scaled-dot-product"]
HALVES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
DTYPES = {**HALVES, "float32": np.float32, "float64": np.float64}
NAMES = ("out", "dquery", "dkey", "dvalue")


def drawn(T_dec=5, T_enc=7, H=8, H_v=3, heads=4, kv_heads=2, dtype="float64", size=1.0):
    rng = np.random.default_rng(7)
    shapes = {
        "query": (2, heads, T_dec, H),
        "key": (2, kv_heads, T_enc, H),
        "value": (2, kv_heads, T_enc, H_v),
        "dout": (2, heads, T_dec, H_v),
    }
    inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    inputs["query"] *= size
    return {name: x.astype(DTYPES[dtype]).astype("f8") for name, x in inputs.items()}


def judge(inputs, dtype, results, semantics=None, **more):
    """Whether each result keeps within its budget."""
    budgets = Budgets(QKV, inputs, semantics or Semantics(), **more)
    found = {name: budgets.judge(name, x, x, dtype) for name, x in results.items()}
    return {name: budget.passed for name, budget in found.items()}


@pytest.mark.parametrize(
    "semantics",
    [
        Semantics(),
        Semantics(0.3, "upper_left", window=2, softcap=5.0),
        Semantics(causal="lower_right"),
    ],
    ids=["plain", "all", "lower_right"],
)
@pytest.mark.parametrize(
    "extra", ["none", "mask", "floating mask", "sinks", "lengths", "keep", "dlogsumexp", "both"]
)
def test_the_exact_result_is_the_cores(semantics, extra):
    inputs, rng = drawn(), np.random.default_rng(1)
    mask, extras, rows = None, Extras(), None
    if extra in ("dlogsumexp", "both"):
        rows = inputs["dlogsumexp"] = rng.normal(size=(2, 4, 5))
    if "mask" in extra:
        mask = rng.random((2, 1, 5, 7)) < 0.5
        mask[..., 0] = True
        mask = np.where(mask, 0.5, -np.inf) if "floating" in extra else mask
    elif extra in ("sinks", "both"):
        extras = Extras(sinks=rng.normal(size=4), alibi=rng.random(4))
    elif extra == "lengths":
        extras = Extras(kv_lengths=np.array([6, 7]))
    elif extra == "keep":
        extras = Extras(keep=rng.random((2, 4, 5, 7)) < 0.7)
        semantics = semantics.overridden(Semantics(keep_prob=0.7))
    query, key, value = (inputs[x] for x in ("query", "key", "value"))
    out, cache = attention(query, key, value, mask=mask, **semantics.given(), **extras.given())
    found = allowances(QKV, inputs, "float32", semantics, mask=mask, extras=extras)
    gradients = attention_backward(inputs["dout"], cache, rows)
    exact = dict(zip(NAMES, (out, *gradients), strict=True), logsumexp=cache.logsumexp)
    if extras.sinks is not None:
        exact |= {"dsinks": cache.dsinks, "dalibi": cache.dalibi}
    for name, right in exact.items():
        np.testing.assert_allclose(found[name].exact, right, rtol=1e-11, atol=1e-13)
        assert np.isfinite(found[name].allowed).all()


def test_the_budget_of_the_books_layers():
    from attncli.layers import TimeAttention

    rng = np.random.default_rng(2)
    given = {x: rng.normal(size=(2, t, 4)) for x, t in (("hs_enc", 5), ("hs_dec", 3), ("dout", 3))}
    layer = TimeAttention()
    out = layer.forward(given["hs_enc"], given["hs_dec"])
    dhs_enc, dhs_dec = layer.backward(given["dout"])
    found = allowances(OPERATIONS["time-attention"], given, "float32")
    for name, value in (("out", out), ("dhs_enc", dhs_enc), ("dhs_dec", dhs_dec)):
        np.testing.assert_allclose(found[name].exact, value, rtol=1e-12, atol=1e-14)
    budgets = Budgets(OPERATIONS["time-attention"], given)
    assert budgets.judge("dquery", out, out, "float64") is None


def test_heads_beside_each_other_have_a_budget_each():
    inputs = drawn(kv_heads=4, dtype="float16")
    packed = {x: a.swapaxes(1, 2).reshape(*a.shape[:1], a.shape[2], -1) for x, a in inputs.items()}
    apart = allowances(QKV, inputs, "float16")["out"]
    layout = Layout.of(QKV, {}, {"heads": 4})
    beside = Budgets(QKV, layout.read(packed), layout=layout).allowance("out", "float16")
    for one, other in ((apart.exact, beside.exact), (apart.allowed, beside.allowed)):
        np.testing.assert_array_equal(one.swapaxes(1, 2).reshape(2, 5, 12), other)


def test_turned_by_position_the_exact_result_is_too():
    from attncli.core.rotary import rotary

    inputs = drawn()
    query, key = (rotary(inputs[x], np.arange(inputs[x].shape[-2])) for x in ("query", "key"))
    turned = allowances(QKV, {**inputs, "query": query, "key": key}, "float16")["out"]
    found = allowances(with_rotary(QKV, {"rotary": "halves"}), inputs, "float16")["out"]
    np.testing.assert_allclose(found.exact, turned.exact, rtol=1e-12)


def in_half(dtype, rounded):
    """Attention as kernels compute it: float32 inside, `rounded` before it is multiplied."""

    def store(x):
        return x.astype(HALVES[dtype]).astype(np.float32)

    def compute(inputs, *, scale=1.0, drop=None):
        query, key, value, dout = (inputs[x].astype(np.float32) for x in
                                   ("query", "key", "value", "dout"))  # fmt: skip
        g = query.shape[1] // key.shape[1]
        key, value = key.repeat(g, axis=1), value.repeat(g, axis=1)
        scale = np.float32(scale * query.shape[-1] ** -0.5)
        if "query" in rounded:
            query, factor = store(query * scale), np.float32(1)
        else:
            factor = scale
        scores = query @ key.swapaxes(-1, -2) * factor
        if "scores" in rounded:
            scores = store(scores)
        if drop is not None:
            scores[..., drop] = -np.inf
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        total = exps.sum(axis=-1, keepdims=True)
        if "exps" in rounded:
            weights, out = exps / total, store(exps) @ value / total
        else:
            weights = exps / total
            weights = store(weights) if "weights" in rounded else weights
            out = weights @ value
        out = store(out)
        dweights = dout @ value.swapaxes(-1, -2)
        rowsum = dout * out if "delta" in rounded else weights * dweights
        dscores = weights * (dweights - rowsum.sum(axis=-1, keepdims=True))
        if "dscores" in rounded:
            dscores = store(dscores)
        back = 1 if "query" not in rounded else scale
        grouped = (2, -1, g, key.shape[2])
        dkey = (dscores * factor).swapaxes(-1, -2) @ query
        dvalue = weights.swapaxes(-1, -2) @ dout
        dquery = dscores * factor @ key * back
        dkey, dvalue = (x.reshape(*grouped, x.shape[-1]).sum(axis=2) for x in (dkey, dvalue))
        gradients = (store(x) for x in (dquery, dkey, dvalue))
        return dict(zip(NAMES, (out, *gradients), strict=True))

    return compute


WAYS = {
    "float32 inside": [],
    "weights stored": ["weights"],
    "as flash-attention": ["exps", "delta", "dscores"],
    "query scaled first": ["query", "weights"],
    "scores stored": ["scores", "weights", "dscores"],
    "all stored": ["query", "scores", "exps", "delta", "dscores"],
}
SIZES = {
    "small": {},
    "one query": {"T_dec": 1, "T_enc": 17},
    "one value": {"T_dec": 17, "T_enc": 41, "H_v": 1},
    "long": {"T_dec": 23, "T_enc": 211, "H": 64, "H_v": 31},
}


@pytest.mark.parametrize(
    **crossed(dtype=list(HALVES), way=list(WAYS), sizes=list(SIZES), size=[0.1, 1, 10])
)
def test_whatever_is_stored_in_half_precision_on_the_way_is_within(dtype, way, sizes, size):
    inputs = drawn(**SIZES[sizes], dtype=dtype, size=size)
    results = in_half(dtype, WAYS[way])(inputs)
    assert judge(inputs, dtype, results) == dict.fromkeys(NAMES, True)


ALIKE = {
    "keys": lambda x: {**x, "key": x["key"][:, :, :1] + 0 * x["key"]},
    "keys, nearly": lambda x: {**x, "key": x["key"] / 1024},
    "queries": lambda x: {**x, "query": x["query"][:, :, :1] + 0 * x["query"]},
    "values": lambda x: {**x, "value": 1 + 0 * x["value"], "dout": 1 + 0 * x["dout"]},
    "values, nearly": lambda x: {**x, "value": 32 + x["value"]},
}


@pytest.mark.parametrize("sizes", [(3, 1009, 16, 8), (37, 43, 32, 31)], ids=str)
@pytest.mark.parametrize("alike", ALIKE)
@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_rounded_alike_throughout_is_within_too(dtype, alike, sizes):
    inputs = ALIKE[alike](drawn(*sizes, heads=2, dtype=dtype))
    inputs = {name: x.astype(HALVES[dtype]).astype("f8") for name, x in inputs.items()}
    budgets = Budgets(QKV, inputs)
    for way in WAYS:
        for name, x in in_half(dtype, WAYS[way])(inputs).items():
            found = budgets.judge(name, x, x, dtype)
            assert found.passed, (way, name, found)


@pytest.mark.parametrize("size", [0.1, 1, 3], ids="scores of {}".format)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", HALVES)
def test_a_dropped_key_is_not(dtype, way, size):
    inputs = drawn(T_dec=23, T_enc=29, H=16, H_v=11, dtype=dtype, size=size)
    results = in_half(dtype, WAYS[way])(inputs, drop=13)
    assert judge(inputs, dtype, results) == dict.fromkeys(NAMES, False)


@pytest.mark.parametrize("dtype", HALVES)
def test_nor_is_a_scale_that_is_off_by_twenty_roundings(dtype):
    inputs = drawn(T_dec=23, T_enc=29, H=16, H_v=11, dtype=dtype)
    off = 1 + 40 * PRECISIONS[dtype].unit
    results = in_half(dtype, ["weights"])(inputs, scale=off)
    assert judge(inputs, dtype, results) == dict.fromkeys(NAMES, False)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_a_budget_belongs_to_its_head(dtype, name):
    inputs = drawn(kv_heads=4, dtype=dtype)
    inputs["value"][:, 2] /= 64
    inputs["dout"][:, 2] /= 64
    right = in_half(dtype, ["weights"])(inputs)
    assert judge(inputs, dtype, right) == dict.fromkeys(NAMES, True)
    wrong = right[name].copy()
    wrong[1, 2] = 0
    assert judge(inputs, dtype, {name: wrong}) == {name: False}
    found = Budgets(QKV, inputs).judge(name, wrong, right[name], dtype)
    assert found.outside > wrong[1, 2].size // 2
    assert found.worst.index[:2] == (1, 2)
    head = "key head" if name in ("dkey", "dvalue") else "head"
    assert found.places[:2] == ("only at item 1 of 2", f"only at {head} 2 of 4")


@pytest.mark.parametrize("dtype", HALVES)
def test_a_budget_belongs_to_its_row(dtype):
    inputs = drawn(T_dec=6, T_enc=7, heads=1, kv_heads=1, H=7, dtype=dtype)
    inputs["key"][:] = 16 * np.eye(7)
    inputs["query"][:] = inputs["key"][:, :, :6]  # query t looks at key t
    inputs["value"][:, :, 2] /= 4096
    out = in_half(dtype, ["weights"])(inputs)["out"]
    assert judge(inputs, dtype, {"out": out})["out"]
    out[0, 0, 2] = out[0, 0, 2, ::-1]
    found = Budgets(QKV, inputs).judge("out", out, out, dtype)
    assert (found.passed, found.worst.index[:3]) == (False, (0, 0, 2))
    assert "only at decoder step 2 of 6" in found.places


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 7.0])
def test_where_the_plain_formula_overflows_there_is_a_budget_all_the_same(wrong):
    inputs = {name: 300 * x for name, x in drawn(dtype="float16").items()}
    inputs["value"] /= 300
    scores = inputs["query"][:, :2] @ inputs["key"].swapaxes(-1, -2)
    assert np.abs(scores).max() > np.finfo(np.float16).max
    right = in_half("float16", ["weights"])(inputs)["out"]
    assert judge(inputs, "float16", {"out": right})["out"]
    right[1, 3, 4, 2] = wrong
    assert not judge(inputs, "float16", {"out": right})["out"]


def test_where_the_exact_result_is_not_finite_there_is_none_and_that_is_said():
    inputs = {name: 1e200 * x for name, x in drawn().items()}
    with pytest.raises(DataError, match="out: the exact result is not finite, and so there is no"):
        allowances(QKV, inputs, "float32")


def test_a_row_that_sees_nothing_is_zero_and_its_logsumexp_minus_infinity():
    inputs = drawn()
    mask = np.ones((5, 7), bool)
    mask[3] = False
    budgets = Budgets(QKV, inputs, Semantics(), mask=mask)
    out, logsumexp = (budgets.allowance(x, "float16").exact.copy() for x in ("out", "logsumexp"))
    assert np.isneginf(logsumexp[..., 3]).all()
    assert budgets.judge("out", out, out, "float16").passed
    assert budgets.judge("lse", logsumexp, logsumexp, "float16").passed
    out[0, 0, 3, 0], logsumexp[0, 0, 3] = 1e-7, -1e30
    assert not budgets.judge("output", out, out, "float16").passed
    assert not budgets.judge("logsumexp", logsumexp, logsumexp, "float16").passed


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_beside_the_inputs_have_a_budget(dtype):
    inputs, rng = drawn(T_dec=211, T_enc=223, heads=2, dtype=dtype), np.random.default_rng(2)
    inputs["dlogsumexp"] = rng.normal(size=(2, 2, 211)).astype(dtype).astype("f8")
    extras = Extras(sinks=np.array([0.5, 3.0]), alibi=np.array([0.25, 0.5]))
    own = {name: x.astype(dtype) for name, x in inputs.items()}
    dout, rows = own.pop("dout"), own.pop("dlogsumexp")
    _, cache = attention(*own.values(), **extras.given())
    found = dict(zip(NAMES[1:], attention_backward(dout, cache, rows), strict=True))
    found |= {"dsinks": cache.dsinks, "dalibi": cache.dalibi}
    passed = judge(inputs, dtype, found, extras=extras)
    assert passed == dict.fromkeys(found, True)

    ignoring = dict(zip(NAMES[1:], attention_backward(dout, cache), strict=True))
    ignoring |= {"dsinks": cache.dsinks, "dalibi": cache.dalibi}
    assert judge(inputs, dtype, ignoring, extras=extras) == {
        name: name == "dvalue" for name in ignoring
    }
    # Off in one head alone, by more than adding up 47,053 terms one after the other may be.
    much = {"float16": 0.03, "float32": 5e-3, "float64": 1e-11}[dtype]
    for name in ("dsinks", "dalibi"):
        off = found[name] * np.array([1, 1 + much], found[name].dtype)
        assert not judge(inputs, dtype, {name: off}, extras=extras)[name]


def test_a_sink_makes_no_key_less_exact():
    """The largest score's gradient is off by as little as the others, though no row sums to 0."""
    inputs, extras = drawn(dtype="float32"), Extras(sinks=np.full(4, 2.0))
    own = {name: x.astype("f4") for name, x in inputs.items()}
    dout = own.pop("dout")
    _, cache = attention(*own.values(), **extras.given())
    found = dict(zip(NAMES[1:], attention_backward(dout, cache), strict=True))
    assert judge(inputs, "float32", found, extras=extras) == dict.fromkeys(found, True)
    for name in ("dquery", "dkey"):
        off = found[name] * np.float32(1 + 3e-4)
        assert not judge(inputs, "float32", {name: off}, extras=extras)[name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_may_be_added_up_one_after_the_other(dtype):
    inputs = drawn(T_dec=3, T_enc=1031, H=67, H_v=2, heads=2, dtype=dtype)
    inputs["value"] += 3  # nothing cancels
    own = {name: x.astype(dtype) for name, x in inputs.items()}
    query, key, value = own["query"], own["key"], own["value"]
    scores = np.zeros((2, 2, 3, 1031), dtype)
    for h in range(67):
        scores += query[..., :, None, h] * key[..., None, :, h]
    exps = np.exp(scores * np.asarray(67**-0.5, dtype))
    total, out = np.zeros((2, 2, 3, 1), dtype), np.zeros((2, 2, 3, 2), dtype)
    for t in range(1031):
        total += exps[..., t : t + 1]
        out += exps[..., t : t + 1] * value[..., t : t + 1, :]
    out /= total
    assert judge(inputs, dtype, {"out": out})["out"]
    assert not judge(inputs, dtype, {"out": out * (1 + 300 * np.finfo(dtype).eps)})["out"]


@pytest.mark.parametrize("size", [1, 30], ids="scores of {}".format)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backward_may_compute_weights_again_from_a_logsumexp(dtype, size):
    inputs = drawn(T_dec=41, T_enc=43, H=31, kv_heads=4, dtype=dtype, size=size)
    query, key, value, dout = (x.astype(dtype) for x in inputs.values())
    root = np.asarray(31**-0.25, dtype)  # both are scaled by it, once they meet it is there twice
    scores = (query * root) @ (key * root).swapaxes(-1, -2)
    largest = scores.max(axis=-1, keepdims=True)
    total = np.exp(scores - largest).sum(axis=-1, keepdims=True)
    out = np.exp(scores - largest) @ value / total
    scores = sum(query[..., :, None, h] * key[..., None, :, h] for h in range(31))
    weights = np.exp(scores / np.asarray(np.sqrt(31), dtype) - (np.log(total) + largest))
    change = dout @ value.swapaxes(-1, -2) - (dout * out).sum(axis=-1, keepdims=True)
    dquery = weights * change @ key / np.asarray(np.sqrt(31), dtype)
    dvalue = weights.swapaxes(-1, -2) @ dout
    results = {"out": out, "dquery": dquery, "dvalue": dvalue}
    assert judge(inputs, dtype, results) == dict.fromkeys(results, True)
    far = 1 + 2000 * (1 + size) * np.finfo(dtype).eps
    wrong = {name: x * far for name, x in results.items()}
    assert judge(inputs, dtype, wrong) == dict.fromkeys(results, False)


def test_where_the_scale_was_fitted_parts_that_differ_from_each_other_are_wrong_too():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(2, 2, 32, 8))
    known = Throughout(exact, 0 * exact, has_rows=True)
    for _ in range(8):
        known.add(exact * (1 + 1e-3 * rng.normal(size=exact.shape)))
    known.plain(exact)
    both = exact * 1.0035
    apart = both.copy()
    apart[:, 0] = exact[:, 0] * 0.9965
    assert known.judge(apart, 2**-8) is None
    assert known.judge(both, 2**-8, fitted=True) is None
    wrong = known.judge(apart, 2**-8, fitted=True)
    assert wrong is not None
    assert wrong.rows.any(axis=(0, 2)).tolist() == [False, True]


def test_numbers_saved_wider_are_taken_for_what_holds_them_all():
    from attncli.checking.comparing.comparison import compare_tensors

    for dtype in HALVES:
        inputs = drawn(T_dec=11, T_enc=13, dtype=dtype)
        budgets = Budgets(QKV, inputs)
        out = in_half(dtype, ["weights"])(inputs)["out"]
        pair = {"out": (out, out)}
        compared = [compare_tensors("out", out, out)]
        (found,) = budgets.judge_all(compared, pair)
        assert (found.budget.dtype, found.budget.assumed, found.passed) == (dtype, True, True)
        (found,) = budgets.judge_all(compared, pair, dtype)
        assert (found.budget.dtype, found.budget.assumed) == (dtype, False)
        third = np.full(3, 1 / 3, np.float32)  # which holds in no half precision, and is no result
        beside = [*compared, compare_tensors("third", third, third)]
        found, other = budgets.judge_all(beside, pair | {"third": (third, third)})
        assert (found.budget.dtype, found.budget.assumed, other.budget) == (dtype, True, None)
        off = np.nextafter(out, np.float32(9))
        (found,) = budgets.judge_all(compared, {"out": (off, out)})
        assert (found.budget.dtype, found.budget.assumed, found.passed) == ("float32", False, False)


def test_an_exact_result_that_would_not_fit_is_refused_beforehand():
    with pytest.raises(MemoryLimitError, match="the exact result's weights"):
        allowances(QKV, drawn(), "float16", max_memory=1000)
