"""Every mistake of the catalogue, made in a real-looking class, is diagnosed as itself."""

import sys
import types

import numpy as np
import pytest
from checking.book import BOOK, BOOK_MISTAKES, TRANSFORMER, TRANSFORMER_MISTAKES, changed

from attncli.checking.diagnosing.examination import check
from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.checking.diagnosing.mistakes.in_contract import CONTRACT
from attncli.checking.diagnosing.mistakes.in_parameters import PARAMETERS
from attncli.core.semantics import Semantics
from attncli.operations.steps import FORWARD, STEPS

CAUSAL = {"causal": "upper_left", "softcap": 2.0, "window": 2}

# Mistakes that give the same numbers in the class at hand, so that both are named.
TWINS = {
    "scale 1/H": {"scale applied twice"},
    "scale applied twice": {"scale 1/H"},
    "softmax over the hidden units": {"softmax over an axis of length 1"},
    # dscores sum to 0 over T, and so does what they make of an h that is the same for all.
    "last gradient all zero": {"dh multiplied by h instead of hs"},
}

# What is given beside out, which has a test of its own.
LOGSUMEXP = {mistake.name for mistake in CONTRACT if "log-sum-exp" in mistake.symptom}

# What is right by itself, but not what was claimed.
UNCLAIMED = {
    "causal order where none is meant": "j <= i",
    "causal order, aligned lower-right, where none is meant": "j <= i + T_enc - T_dec",
}


def load(source, name, monkeypatch):
    module = types.ModuleType("learner")
    monkeypatch.setitem(sys.modules, "learner", module)
    exec(compile(source, "learner.py", "exec"), module.__dict__)
    return getattr(module, name)


def diagnosed(report):
    return [tuple(m.name for m in diagnosis.mistakes) for diagnosis in report.diagnoses]


def test_the_catalogue_is_large_and_every_entry_is_tried():
    assert len(MISTAKES) > 100
    names = [mistake.name for mistake in MISTAKES]
    assert len(set(names)) == len(names)
    names = [name for name in names if name not in {m.name for m in PARAMETERS}]
    names = [name for name in names if name not in BESIDE_THEM]
    names = [name for name in names if name not in LOGSUMEXP]
    made = BOOK_MISTAKES.keys() | TRANSFORMER_MISTAKES.keys() | UNCLAIMED.keys()
    # What is made in backward alone is the same mistake as in forward, under another name.
    assert (
        set(names) - made
        == {
            f"{name}, in backward's own weights"
            for name in names
            if f"{name}, in backward's own weights" in names
        }
        - made
    )


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_every_entry_is_complete(mistake):
    assert mistake.meant != mistake.computed
    assert mistake.why.endswith(".")
    assert bool(mistake.example.steps) != bool(mistake.symptom)
    assert mistake.example.steps.keys() <= STEPS.keys()
    assert ("{value}" in mistake.computed) == bool(mistake.family)
    assert STEPS.keys() > FORWARD


@pytest.mark.parametrize("name", BOOK_MISTAKES)
def test_a_mistake_in_a_class_of_the_book_is_named(name, monkeypatch):
    layer, *changes = BOOK_MISTAKES[name]
    report = check(load(changed(BOOK, *changes), layer, monkeypatch))
    assert not report.passed
    best = diagnosed(report)[0]
    assert best == (name,) or best[0] in TWINS.get(name, ())
    assert (name,) in diagnosed(report)


@pytest.mark.parametrize("name", TRANSFORMER_MISTAKES)
def test_a_mistake_in_a_transformers_attention_is_named(name, monkeypatch):
    source = changed(TRANSFORMER, *TRANSFORMER_MISTAKES[name])
    report = check(load(source, "MultiHeadAttention", monkeypatch), **CAUSAL)
    assert not report.passed
    best = diagnosed(report)[0]
    assert best == (name,) or best[0] in TWINS.get(name, ())
    assert (name,) in diagnosed(report)


@pytest.mark.parametrize("name", UNCLAIMED)
def test_causal_order_that_was_not_claimed_is_named(name, monkeypatch):
    window = ("        seen = seen & (abs(j - i) <= WINDOW)\n", "")
    source = changed(TRANSFORMER, *window, "j <= i", UNCLAIMED[name])
    report = check(load(source, "MultiHeadAttention", monkeypatch), softcap=2.0)
    assert diagnosed(report)[0] == (name,)


@pytest.mark.parametrize(
    "layer", ["Softmax", "WeightSum", "AttentionWeight", "Attention", "TimeAttention"]
)
def test_the_books_own_classes_pass(layer, monkeypatch):
    report = check(load(BOOK, layer, monkeypatch))
    assert report.passed
    assert report.diagnoses == report.chain == ()


def test_a_right_transformers_attention_passes(monkeypatch):
    report = check(load(TRANSFORMER, "MultiHeadAttention", monkeypatch), **CAUSAL)
    assert [f for f in report.findings if f.status == "wrong"] == []


OPTIONAL = """
import numpy as np


class Attention:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, query, key, value, mask=None, causal=False, scale=None):
        if scale is None:
            scale = 1 / np.sqrt(query.shape[-1])
        s = query @ key.swapaxes(-1, -2) * scale
        if mask is not None:
            s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
        if causal:
            s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
        largest = s.max(axis=-1, keepdims=True)
        e = np.exp(s - np.where(np.isfinite(largest), largest, 0))
        total = e.sum(axis=-1, keepdims=True)
        a = e / np.where(total == 0, 1, total)
        self.cache = query, key, value, a, scale
        return a @ value

    def backward(self, dout):
        query, key, value, a, scale = self.cache
        da = dout @ value.swapaxes(-1, -2)
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True)) * scale
        return ds @ key, ds.swapaxes(-1, -2) @ query, a.swapaxes(-1, -2) @ dout
"""

# Mistakes in one branch, beside another that is right.
BESIDE = {
    "scale 1/H": ("scale = 1 / np.sqrt(query.shape[-1])", "scale = 1 / query.shape[-1]"),
    "scale missing": ("scale = 1 / np.sqrt(query.shape[-1])", "scale = 1"),
    "scale 1/√T": ("scale = 1 / np.sqrt(query.shape[-1])", "scale = 1 / np.sqrt(key.shape[-2])"),
    "scale 1/√heads": ("scale = 1 / np.sqrt(query.shape[-1])", "scale = 1 / np.sqrt(key.shape[1])"),
    "masked with 0 instead of −∞": ("np.where(mask, s, -np.inf)", "np.where(mask, s, 0)"),
    "scores multiplied by the mask": (
        "s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask",
        "s = s * mask",
    ),
    "masked with −1e9 instead of −∞": ("np.where(mask, s, -np.inf)", "np.where(mask, s, -1e9)"),
    "mask after the softmax": (
        "np.where(mask, s, -np.inf)",
        "s",
        "        self.cache =",
        "        if mask is not None and mask.dtype == bool:\n            a = a * mask\n"
        "        self.cache =",
    ),
}


EXTRAS = """
import numpy as np


def attend(query, key, value, sinks=None, alibi_slopes=None, kv_lengths=None, segments=None):
    s = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    i, j = np.arange(s.shape[-2])[:, None], np.arange(s.shape[-1])
    seen = np.ones(s.shape, bool)
    if alibi_slopes is not None:
        s = s - alibi_slopes[:, None, None] * abs(i - j)
    if kv_lengths is not None:
        seen &= j < kv_lengths[:, None, None, None]
    if segments is not None:
        seen &= segments[:, None] == segments
    s = np.where(seen, s, -np.inf)
    m = s.max(axis=-1, keepdims=True)
    if sinks is not None:
        m = np.maximum(m, sinks[:, None, None])
    e = np.exp(s - m)
    total = e.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[:, None, None] - m)
    return e / total @ value
"""

BESIDE_THEM = {
    "slopes ignored": ("if alibi_slopes is not None:", "if False:"),
    "sign of the linear bias reversed": ("s - alibi_slopes", "s + alibi_slopes"),
    "sinks ignored": ("if sinks is not None:", "if False:"),
    "lengths ignored": ("if kv_lengths is not None:", "if False:"),
    "segments ignored": ("if segments is not None:", "if False:"),
    "linear bias where none is meant": (
        "    m = s.max",
        "    s = s - 0.2 * abs(i - j)\n    m = s.max",
    ),
}


@pytest.mark.parametrize("name", BESIDE_THEM)
def test_a_mistake_with_the_arrays_beside_is_named(name, monkeypatch):
    assert check(load(EXTRAS, "attend", monkeypatch), layer="scaled-dot-product").passed
    source = changed(EXTRAS, *BESIDE_THEM[name])
    report = check(load(source, "attend", monkeypatch), layer="scaled-dot-product")
    assert not report.passed
    assert diagnosed(report)[0] == (name,)


@pytest.mark.parametrize("name", BESIDE)
def test_a_mistake_in_one_branch_is_named_beside_another_that_is_right(name, monkeypatch):
    assert check(load(OPTIONAL, "Attention", monkeypatch), layer="scaled-dot-product").passed
    source = changed(OPTIONAL, *BESIDE[name])
    report = check(load(source, "Attention", monkeypatch), layer="scaled-dot-product")
    assert not report.passed
    assert diagnosed(report)[0] == (name,)


def test_a_mistake_that_is_known_leaves_the_chain_out(monkeypatch):
    source = changed(BOOK, "s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / np.sqrt(H)")
    report = check(load(source, "TimeAttention", monkeypatch))
    assert report.chain == ()
    (diagnosis,) = report.diagnoses
    assert diagnosis.backward == "backward is the usual one, which does not fit this forward"


UNFILLED = {
    "gradient of the first step alone": (
        "            dhs_dec[:, t, :] = dh\n\n        return dhs_enc, dhs_dec",
        "            dhs_dec[:, t, :] = dh\n            return dhs_enc, dhs_dec",
    ),
    "last step left out of backward": (
        "for t in range(T):\n            layer = self.layers[t]",
        "for t in range(T - 1):\n            layer = self.layers[t]",
    ),
}


@pytest.mark.parametrize("name", UNFILLED)
@pytest.mark.parametrize("allocated", ["empty_like", "zeros_like"])
def test_steps_left_out_are_named_and_memory_not_filled_is_no_shared_state(
    name, allocated, monkeypatch
):
    source = changed(BOOK, *UNFILLED[name])
    source = source.replace("dhs_dec = np.empty_like", f"dhs_dec = np.{allocated}")
    report = check(load(source, "TimeAttention", monkeypatch))
    assert diagnosed(report) == [(name,)]
    wrong = [f for f in report.findings if f.status == "wrong" and f.part == "contract"]
    if allocated == "empty_like":
        (finding,) = wrong
        assert finding.detail.startswith("not every element is filled: dhs_dec (")
    else:
        assert wrong == []


REORDERED = """
import numpy as np
from attncli.layers import TimeAttention as Right


class TimeAttention(Right):
    def forward(self, hs_dec, hs_enc):
        return super().forward(hs_enc, hs_dec)

    def backward(self, dout):
        return super().backward(dout)[::-1]


class Unnamed(TimeAttention):
    pass


class Looking:
    def forward(self, key, query, value):
        s = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        self.cache = query, key, value, e / e.sum(axis=-1, keepdims=True)
        return self.cache[-1] @ value

    def backward(self, dout):
        query, key, value, a = self.cache
        da = dout @ value.swapaxes(-1, -2)
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True)) / np.sqrt(query.shape[-1])
        return ds.swapaxes(-1, -2) @ query, ds @ key, a.swapaxes(-1, -2) @ dout
"""


@pytest.mark.parametrize("name", ["TimeAttention", "Unnamed", "Looking"])
def test_inputs_in_an_order_of_their_own_are_known_by_their_names(name, monkeypatch):
    assert check(load(REORDERED, name, monkeypatch)).passed


def test_gradients_have_to_be_in_the_order_of_the_inputs(monkeypatch):
    source = REORDERED.replace("[::-1]", "")
    report = check(load(source, "TimeAttention", monkeypatch))
    assert not report.passed
    assert any("wrong order" in finding.detail for finding in report.findings)


PAIRS = [
    ("scale 1/√H", "softmax backward without Σ"),
    ("mean instead of sum over T", "score path missing from dhs"),
    ("softmax over the batch", "dhs of the scores multiplied by hs instead of h"),
    ("score path missing from dhs", "only the last step's gradient in dhs_dec"),
    ("softmax backward with the wrong sign", "gradients of the steps overwritten instead of added"),
    ("scale 1/√T", "weights tiled instead of repeated"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_mistakes_at_once_are_found_as_a_pair(pair, monkeypatch):
    changes = [part for name in pair for part in BOOK_MISTAKES[name][1:]]
    report = check(load(changed(BOOK, *changes), "TimeAttention", monkeypatch))
    assert set(diagnosed(report)[0]) == set(pair)


def test_two_mistakes_of_which_one_shows_only_beside_the_other(monkeypatch):
    changes = [
        part
        for name in ("causal diagonal aligned at the other corner", "a fully masked row gives NaN")
        for part in TRANSFORMER_MISTAKES[name]
    ]
    source = changed(TRANSFORMER, *changes).replace("mask=None", "")  # no mask would show it
    source = source.replace("value, )", "value)").replace("mask is not None", "False")
    report = check(load(source, "MultiHeadAttention", monkeypatch), **CAUSAL)
    assert set(diagnosed(report)[0]) == {
        "causal diagonal aligned at the other corner",
        "a fully masked row gives NaN",
    }


def test_an_unknown_mistake_is_not_given_a_name_but_a_place(monkeypatch):
    source = changed(BOOK, "dhr = dt * hs", "dhr = dt * np.sin(hs)")
    report = check(load(source, "TimeAttention", monkeypatch))
    assert report.diagnoses == ()
    assert report.first_difference == "dscores" or report.first_difference == "dquery"
    assert {link.name: link.status for link in report.chain}["dvalue"] == "right"


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (("s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) ** 3"), "scores"),
        (("c = np.sum(t, axis=1)", "c = np.sum(t**3, axis=1)"), "out"),
        (("dhs = dt * ar", "dhs = dt * ar**2"), "dvalue"),
        (("ds = self.softmax.backward(da)", "ds = self.softmax.backward(da) ** 3"), "dscores"),
        (("dhs = dt * hr", "dhs = dt * hr**3"), "dkey"),
    ],
)
def test_the_first_difference_along_the_calculation(change, first, monkeypatch):
    report = check(load(changed(BOOK, *change), "TimeAttention", monkeypatch))
    assert report.first_difference == first


def test_the_chain_is_the_reference(monkeypatch):
    """Its steps, unchanged, give what the layers and the core give."""
    from attncli.core import attention, attention_backward
    from attncli.operations import OPERATIONS
    from attncli.operations.steps import Calculation
    from attncli.tensors import random_tensor

    sizes = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 7}
    for name, operation in OPERATIONS.items():
        if operation.layer is None or operation.parameters:
            continue
        shapes = operation.shapes(sizes)
        if name == "softmax":
            shapes = {"scores": (2, 5)}
        inputs = [random_tensor(x, shapes[x]) for x in OPERATIONS[name].inputs]
        chain, layer = Calculation(name, inputs, Semantics()), operation.layer()
        out = layer.forward(*inputs)
        np.testing.assert_allclose(chain.forward()["out"], out, rtol=1e-13)
        dout = random_tensor("dout", out.shape)
        gradients = layer.backward(dout)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        for ours, theirs in zip(chain.backward(dout), gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, h, t, 4)) for h, t in ((6, 3), (2, 5), (2, 5)))
    mask = rng.random((2, 1, 3, 5)) < 0.7
    claims = Semantics(0.3, "lower_right", window=2, softcap=3.0)
    chain = Calculation("scaled-dot-product", [query, key, value], claims, mask)
    options = {"scale": 0.3, "causal": "lower_right", "softcap": 3.0, "window": 2, "mask": mask}
    mask[..., 0] = True
    out, cache = attention(query, key, value, **options)
    np.testing.assert_allclose(chain.forward()["out"], out, rtol=1e-12, atol=1e-14)
    dout = rng.normal(size=out.shape)
    for ours, theirs in zip(chain.backward(dout), attention_backward(dout, cache), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
