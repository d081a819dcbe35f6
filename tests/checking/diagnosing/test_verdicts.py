"""What a check lets pass and what not, and which name it gives first."""

import itertools
import sys
import types

import numpy as np
import pytest
from checking.book import BOOK, TRANSFORMER, changed

import attncli
from attncli import layers


def load(source, name, monkeypatch):
    module = types.ModuleType("learner")
    monkeypatch.setitem(sys.modules, "learner", module)
    exec(compile(source, "learner.py", "exec"), module.__dict__)
    return getattr(module, name)


def diagnosed(report):
    return [tuple(m.name for m in diagnosis.mistakes) for diagnosis in report.diagnoses]


def wrong(report):
    return {(f.name, f.part) for f in report.findings if f.status == "wrong"}


def off_by(error, where=lambda hs: True, part="forward"):
    """Make a weight sum that is off by this share, in the cases that `where` says."""

    class WeightSum(layers.WeightSum):
        def forward(self, hs, a):
            self.factor = hs.dtype.type(1 + error if where(hs) else 1)
            return super().forward(hs, a) * (self.factor if part == "forward" else 1)

        def backward(self, dout):
            dhs, da = super().backward(dout)
            factor = self.factor if part == "backward" else 1
            return dhs * factor, da * factor

    return WeightSum


# Tolerances.


@pytest.mark.parametrize("part", ["forward", "backward"])
@pytest.mark.parametrize(
    ("where", "tolerance", "case"),
    [
        (lambda hs: hs.dtype == "f8", 1e-9, "different prime sizes"),
        (lambda hs: hs.dtype == "f8" and np.abs(hs).max() > 20, 1e-9, "large values"),
        (lambda hs: hs.dtype == "f4", 1e-6, "float32"),
    ],
    ids=["float64", "large", "float32"],
)
@pytest.mark.usefixtures("unnamed")
def test_numbers_may_be_off_by_the_tolerance_of_the_case_and_no_more(where, tolerance, case, part):
    assert attncli.check(off_by(0.9 * tolerance, where, part)).passed
    rounding = 4 * tolerance if case == "float32" else 0  # of the largest element, here
    report = attncli.check(off_by(1.1 * tolerance + rounding, where, part))
    assert not report.passed
    assert (case, part) in wrong(report)


@pytest.mark.parametrize(
    ("large", "case"), [(False, "different prime sizes"), (True, "large values")]
)
@pytest.mark.usefixtures("unnamed")
def test_code_that_takes_float32_alone_has_that_tolerance_in_every_case(large, case):
    def where(hs):
        assert hs.dtype == "f4"
        return (np.abs(hs).max() > 20) == large

    assert attncli.check(off_by(0.9e-6, where)).passed
    report = attncli.check(off_by(5e-6, where))
    assert (case, "forward") in wrong(report)


@pytest.mark.parametrize(("error", "named"), [(9e-6, True), (1.1e-5, False), (2e-9, True)])
@pytest.mark.usefixtures("unnamed")
def test_what_is_right_to_seven_digits_is_told_from_what_is_wrong(error, named):
    report = attncli.check(off_by(error, lambda hs: hs.dtype == "f8"))
    assert not report.passed
    assert (("float64 precision", "contract") in wrong(report)) == named


@pytest.mark.usefixtures("unnamed")
def test_what_is_taken_and_answered_in_another_shape_is_wrong_and_not_skipped():
    class Layer:
        def __init__(self):
            self.params, self.grads = [], []

        def forward(self, query, key, value):
            out, self.cache = attncli.attention(query, key, value)
            return out[..., : key.shape[-1]]

        def backward(self, dout):
            return attncli.attention_backward(dout, self.cache)

    assert wrong(attncli.check(Layer)) == {("values wider than keys", "forward")}


def test_where_nothing_comes_out_an_unknown_mistake_is_in_out():
    class TimeAttention(layers.TimeAttention):
        def forward(self, hs_enc, hs_dec):
            return super().forward(hs_enc, hs_dec) + 0.125 * np.tanh(hs_enc)

    report = attncli.check(TimeAttention)
    assert ("different prime sizes", "forward") in wrong(report)
    assert diagnosed(report) == []
    assert {link.name: link.status for link in report.chain}["out"] == "wrong"


def test_a_gradient_may_be_a_list_of_numbers():
    class Softmax(layers.Softmax):
        def backward(self, dout):
            return super().backward(dout).tolist()

    assert attncli.check(Softmax).passed
    assert attncli.gradcheck(Softmax).passed


def test_a_function_is_checked_with_the_one_named_after_it(monkeypatch):
    source = "from attncli import attention as ours, attention_backward as ours_backward\n"
    source += "def mine(query, key, value):\n    return ours(query, key, value)\n"
    source += "def mine_backward(dout, cache):\n    return ours_backward(dout, cache)\n"
    mine = load(source, "mine", monkeypatch)
    monkeypatch.setattr(mine, "__module__", "learner")
    assert attncli.check(mine).passed
    assert attncli.gradcheck(mine).passed


def test_backward_may_use_the_memory_of_what_forward_gave():
    class Attention(layers.Attention):
        def forward(self, hs, h):
            self.out = super().forward(hs, h)
            return self.out

        def backward(self, dout):
            self.out[...] = 7
            return super().backward(dout)

    report = attncli.check(Attention)
    assert ("different prime sizes", "forward") not in wrong(report)


def test_gradients_of_what_has_overflowed_say_nothing(monkeypatch):
    no_maximum = ("        x = x - x.max(axis=1, keepdims=True)\n", "")
    repaired = ("return dhs_enc, dhs_dec", "return np.nan_to_num(dhs_enc), np.nan_to_num(dhs_dec)")
    report = attncli.check(
        load(changed(BOOK, *no_maximum, *repaired), "TimeAttention", monkeypatch)
    )
    assert diagnosed(report) == [("maximum not subtracted",)]
    assert report.diagnoses[0].explains == "everything"


@pytest.mark.parametrize("name", ["Attention", "Mine"])
def test_three_inputs_of_any_names_are_query_key_and_value(name):
    class Layer:
        def __init__(self):
            self.params, self.grads = [], []

        def forward(self, x, y, z):
            out, self.cache = attncli.attention(x, y, z)
            return out

        def backward(self, dout):
            return attncli.attention_backward(dout, self.cache)

    Layer.__name__ = name
    report = attncli.check(Layer)
    assert (report.layer, report.passed) == ("scaled-dot-product", True)


def test_what_takes_float64_is_not_judged_by_float32_instead():
    class Attention(layers.Attention):
        def forward(self, hs, h):
            out = super().forward(hs, h)
            return out if hs.dtype == "f4" else None

    report = attncli.check(Attention)
    assert not report.passed
    assert ("different prime sizes", "forward") in wrong(report)
    assert "float64 inputs" not in {finding.name for finding in report.findings}


@pytest.mark.parametrize("beside", [False, True])
def test_another_fault_does_not_hide_where_an_unknown_mistake_begins(beside):
    class Attention(layers.Attention):
        def backward(self, dout):
            dhs, dh = super().backward(dout)
            if beside:
                dout *= 2
            return dhs, dh + 0.125 * np.tanh(dh)

    report = attncli.check(Attention)
    assert (("dout unchanged", "contract") in wrong(report)) is beside
    assert len(diagnosed(report)) == beside
    assert {link.name: link.status for link in report.chain}["dquery"] == "wrong"
    assert report.first_difference == "dscores"


def test_code_that_computes_in_float32_is_said_to():
    class WeightSum(layers.WeightSum):
        def forward(self, hs, a):
            return super().forward(hs.astype("f4"), a.astype("f4"))

    report = attncli.check(WeightSum)
    assert not report.passed
    assert [names for names in diagnosed(report) if "float32" in names[0]]


@pytest.mark.parametrize("epsilon", ["1e-6", "1e-7", "1e-8"])
def test_a_mistake_that_is_known_is_not_taken_for_float32_as_well(epsilon, monkeypatch):
    source = changed(
        BOOK,
        "self.out = x / x.sum(axis=1, keepdims=True)",
        f"self.out = x / (x.sum(axis=1, keepdims=True) + {epsilon})",
    )
    report = attncli.check(load(source, "TimeAttention", monkeypatch))
    assert diagnosed(report) == [("a number added to the softmax's denominator",)]
    assert report.diagnoses[0].mistakes[0].computed.endswith(f"+ {float(epsilon):.6g})")


# The arguments, and what beside the numbers is to hold.


ALIASES = {"query": "q", "key": "k", "value": "v"}


@pytest.mark.parametrize("aliased", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(ALIASES)), ids=", ".join)
def test_arguments_may_come_in_any_order(order, aliased, monkeypatch):
    given = [ALIASES[name] for name in order] if aliased else order
    source = f"""
import numpy as np

class Looking:
    sign = 1

    def forward(self, {", ".join(given)}):
        {", ".join(order)} = {", ".join(given)}
        s = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        self.cache = query, key, value, e / e.sum(axis=-1, keepdims=True)
        return self.cache[-1] @ value

    def backward(self, dout):
        query, key, value, a = self.cache
        da = dout @ value.swapaxes(-1, -2)
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True)) / np.sqrt(query.shape[-1])
        dquery, dkey = ds @ key, ds.swapaxes(-1, -2) @ query
        dvalue = a.swapaxes(-1, -2) @ dout
        return {", ".join(f"self.sign * d{name}" for name in order)}
"""
    looking = load(source, "Looking", monkeypatch)
    report = attncli.check(looking)
    assert (report.layer, report.passed) == ("scaled-dot-product", True)
    turned = attncli.check(type("Looking", (looking,), {"sign": -1}))
    assert diagnosed(turned)[0] == ("sign of the gradients reversed",)


def test_a_dout_that_is_changed_in_place_is_said():
    class Softmax(layers.Softmax):
        def backward(self, dout):
            right = super().backward(dout)
            dout[...] = right
            return dout

    assert wrong(attncli.check(Softmax)) == {("dout unchanged", "contract")}


def test_what_is_random_is_said_to_be_that_and_not_that_it_is_not_filled():
    class WeightSum(layers.WeightSum):
        def forward(self, hs, a):
            self.kept = np.random.default_rng().random(hs.shape) < 0.5
            return super().forward(hs * self.kept, a)

        def backward(self, dout):
            dhs, da = super().backward(dout)
            return dhs * self.kept, da

    found = wrong(attncli.check(WeightSum))
    assert ("deterministic", "contract") in found
    assert ("every element filled", "contract") not in found


def test_arrays_of_texts_objects_times_and_records_are_left_alone():
    class WeightSum(layers.WeightSum):
        def forward(self, hs, a):
            held, factor = np.empty(1, object), 1.0
            if held[0] is not None:
                factor = float(held[0])
            np.empty(2, "U5"), np.empty(2, "M8[s]"), np.empty(2, [("x", float), ("name", "U3")])
            return factor * super().forward(hs, a)

    assert attncli.check(WeightSum).passed


# Which name is given, and which first.


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)])
def test_weights_kept_as_one_array_of_either_order_hide_no_mistake(axes, monkeypatch):
    kept = "        return out\n\n    def backward(self, dout):\n        N, T, H = dout.shape"
    source = changed(
        BOOK,
        "s = np.sum(t, axis=2)",
        "s = np.sum(t, axis=2) / H",
        kept,
        "        self.attention_weights = "
        f"np.array(self.attention_weights).transpose({axes})\n" + kept,
    )
    report = attncli.check(load(source, "TimeAttention", monkeypatch))
    assert diagnosed(report)[0] == ("scale 1/H",)


def test_what_explains_the_gradients_too_comes_before_what_explains_forward_alone(monkeypatch):
    # The sum of all hs may come of a wrong softmax, but not the gradients that go with it.
    source = changed(BOOK, "        self.attention_weight = a\n", "", "t = hs * ar", "t = hs")
    source = changed(source, "dhs = dt * ar", "dhs = dt + 0 * ar")
    report = attncli.check(load(source, "Attention", monkeypatch))
    assert diagnosed(report)[0] == ("weights forgotten: plain sum of hs",)
    explained = [diagnosis.explains for diagnosis in report.diagnoses]
    assert explained == ["everything", "forward", "forward"]


def test_one_mistake_comes_before_two(monkeypatch):
    source = changed(BOOK, "        self.attention_weight = a\n", "", "t = hs * ar", "t = hs")
    source = changed(
        source, "dhs = dt * ar", "dhs = dt + 0 * ar", "dhs = dhs0 + dhs1", "dhs = dhs0"
    )
    report = attncli.check(load(source, "Attention", monkeypatch))
    assert [len(names) for names in diagnosed(report)] == [1, 1, 2]
    assert report.diagnoses[-1].explains == "everything"
    assert diagnosed(report)[-1] == (
        "weights forgotten: plain sum of hs",
        "score path missing from dhs",
    )


CAUSAL = {"causal": "upper_left", "softcap": 2.0, "window": 2}


def chain(report):
    return {link.name: link.status for link in report.chain}


def test_a_wrong_dvalue_is_not_blamed_on_dkey_where_the_two_are_one_gradient(monkeypatch):
    source = changed(BOOK, "dhs = dt * ar", "dhs = dt * ar**2")
    found = chain(attncli.check(load(source, "TimeAttention", monkeypatch)))
    assert (found["dvalue"], found["dkey"], found["dquery"]) == ("wrong", "not visible", "right")
    source = changed(BOOK, "dhs = dt * hr", "dhs = dt * hr**3")
    found = chain(attncli.check(load(source, "TimeAttention", monkeypatch)))
    assert (found["dvalue"], found["dkey"]) == ("right", "wrong")


@pytest.mark.parametrize(
    ("old", "new", "spoilt"),
    [
        ("dv = np.matmul(a.swapaxes(-1, -2), dout)",
         "dv = np.matmul(a.swapaxes(-1, -2) ** 2, dout)", "dvalue"),
        ("dk = np.matmul(ds.swapaxes(-1, -2), query)",
         "dk = np.matmul(ds.swapaxes(-1, -2), query**3)", "dkey"),
    ],
)  # fmt: skip
def test_of_query_key_and_value_each_gradient_is_seen_by_itself(old, new, spoilt, monkeypatch):
    source = changed(TRANSFORMER, old, new)
    report = attncli.check(load(source, "MultiHeadAttention", monkeypatch), **CAUSAL)
    found = chain(report)
    assert report.first_difference == spoilt
    assert [name for name, status in found.items() if status == "wrong"] == [spoilt]
    assert found["dkey"] != "not visible"
