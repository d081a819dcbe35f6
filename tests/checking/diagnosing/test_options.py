"""Every option of forward is given, or it is said that it is not."""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check


def attention(taken, hidden=None, **more):
    """A function of query, key and value with these options; `hidden` hides with them."""

    def compute(q, k, v, options):
        s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) * options.get("gain", 1.0)
        lengths = next((options[x] for x in options if options[x] is not None), None)
        if hidden is not None and lengths is not None:
            s = np.where(hidden(np.arange(s.shape[-1]), np.asarray(lengths), s.ndim), -np.inf, s)
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True) @ v

    names = {"compute": compute}
    exec(f"def attend(q, k, v, {taken}): return compute(q, k, v, "
         "{x: y for x, y in locals().items() if x not in 'qkv'})", names)  # fmt: skip
    names["attend"].__module__ = __name__
    return names["attend"]


def behind(keys, lengths, axes):
    lengths = lengths[:, None] if lengths.ndim == 1 else lengths
    return keys >= lengths.reshape(len(lengths), *(1,) * (axes - 3), lengths.shape[1], 1)


def of_items(keys, lengths, axes):
    """Lengths of queries are none of ours: `lengths` is (N,)."""
    (items,) = lengths.shape
    return keys >= lengths.reshape(items, *(1,) * (axes - 1))


LENGTHS = ("valid_lens=None", "lengths", "src_lengths=None", "memory_sequence_length=None")


@pytest.mark.parametrize("hidden", [behind, of_items])
@pytest.mark.parametrize("taken", LENGTHS)
def test_keys_that_end_sooner_are_given_by_item_and_by_query(taken, hidden):
    report = check(attention(taken, hidden), layer="scaled-dot-product")
    assert report.passed, [one for one in report.findings if one.status == "wrong"]
    by_query = {f.status for f in report.findings if f.name == "lengths of keys by query"}
    assert by_query == {"ok" if hidden is behind else "skipped"}


WRONG = {
    "not at all": lambda keys, lengths, axes: np.zeros(1, bool),
    "one too many": lambda keys, lengths, axes: behind(keys, lengths + 1, axes),
    "by item alone": lambda keys, lengths, axes: behind(
        keys, lengths if lengths.ndim == 1 else lengths[:, :1], axes
    ),
    "one key of many": lambda keys, lengths, axes: behind(keys, lengths, axes) & (keys != 130),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.usefixtures("unnamed")
def test_lengths_that_are_used_wrongly_do_not_pass(wrong):
    report = check(attention("valid_lens=None", WRONG[wrong]), layer="scaled-dot-product")
    assert not report.passed
    assert {one.name.split(",")[0] for one in report.findings if one.status == "wrong"} <= {
        "kv lengths", "lengths of keys", "lengths of keys by query",
    }  # fmt: skip


def test_an_option_that_nothing_says_the_meaning_of_is_a_note_if_it_may_matter():
    report = check(attention("gain=1.0, upcast=True, glow=None"), layer="scaled-dot-product")
    assert report.passed
    notes = {one.name: one.detail for one in report.findings if one.status == "note"}
    assert "upcast" not in notes
    assert "--arg gain=2.0" in notes["gain"]
    assert "--arg glow=random:" in notes["glow"]


def masked(name, hide, scale=None):
    """Attention whose mask of this name is used by ``hide(scores, mask)``."""

    def compute(q, k, v, mask):
        s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) if scale is None else scale(q, k)
        if mask is not None:
            m = np.asarray(mask)
            m = m.reshape(len(q), *(1,) * (s.ndim - 2), -1) if "padding" in name else m
            s = hide(s, m)
        e = np.exp(s - np.maximum(s.max(-1, keepdims=True), -1e300))
        total = e.sum(-1, keepdims=True)
        return e / np.where(total == 0, 1, total) @ v

    names = {"compute": compute}
    exec(f"def attend(q, k, v, {name}): return compute(q, k, v, {name.partition('=')[0]})", names)
    names["attend"].__module__ = __name__
    return names["attend"]


def hides(s, m):
    return np.where(m, -np.inf, s)


def times(s, m):
    return s + m * -1e9


def lacks(s, m):
    return s + (1.0 - m) * -1e9


SENSES = {
    "True hides a key": ("key_padding_mask=None", hides),
    "1 hides a key": ("mask", times),
    "": ("mask=None", lambda s, m: np.where(m, s, -np.inf) if m.dtype == bool else s + m),
}


@pytest.mark.parametrize("sense", SENSES)
def test_the_sense_of_a_mask_is_found_and_said(sense):
    report = check(masked(*SENSES[sense]), layer="scaled-dot-product")
    assert report.passed, [one for one in report.findings if one.status == "wrong"]
    said = [one.detail for one in report.findings if one.name == "mask"]
    assert [sense in one for one in said] == [True] * bool(sense)


@pytest.mark.parametrize("sense", SENSES)
def test_whatever_the_sense_a_fault_is_named(sense):
    unscaled = masked(*SENSES[sense], scale=lambda q, k: q @ k.swapaxes(-1, -2))
    report = check(unscaled, layer="scaled-dot-product")
    assert report.diagnoses[0].mistakes[0].name == "scale missing"


@pytest.mark.parametrize(
    ("name", "hide"),
    [
        ("mask=None", hides),  # what asks whether it is 0 reads the mask the other way round
        ("mask=None", lambda s, m: hides(s, m) if m.dtype == bool else s + m),
        ("mask=None", lambda s, m: s + m[:1] * -1e9),
        ("key_padding_mask=None", lambda s, m: hides(s, m[:1])),
        ("key_padding_mask=None", lambda s, m: s),
    ],
)
@pytest.mark.usefixtures("unnamed")
def test_a_mask_that_is_read_otherwise_does_not_pass(name, hide):
    report = check(masked(name, hide), layer="scaled-dot-product")
    wrong = {one.name for one in report.findings if one.status == "wrong"}
    assert "boolean mask" in wrong


@pytest.mark.usefixtures("unnamed")
def test_what_a_mask_lacks_of_one_may_be_a_factor():
    report = check(masked("mask=None", lacks), layer="scaled-dot-product")
    # A row without keys keeps its weights, as wherever a finite number is added.
    assert [x.name for x in report.findings if x.status == "wrong"] == ["row with every key masked"]


def reference(q, k, v, options):
    """What packages test themselves with: everything that they take, in the plainest code."""
    s = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if options["reorder_ops"]:
        s = (q / np.sqrt(q.shape[-1])) @ k.swapaxes(-1, -2)
    e = np.exp(s - s.max(-1, keepdims=True))
    weights = e / e.sum(-1, keepdims=True)
    if options["query_padding_mask"] is not None:
        there = options["query_padding_mask"][: options.get("items")]
        weights = weights * there.reshape(len(there), *(1,) * (s.ndim - 3), -1, 1)
    if options["dropout_mask"] is not None:
        weights = weights * options["dropout_mask"] / (1 - options["dropout_p"])
    return weights @ v


PACKAGE = "query_padding_mask=None, dropout_p=0.0, dropout_mask=None, reorder_ops=False"


def package(**wrong):
    names = {"compute": lambda q, k, v, options: reference(q, k, v, {**options, **wrong})}
    exec(f"def attend(q, k, v, {PACKAGE}): return compute(q, k, v, "
         "{x: y for x, y in locals().items() if x not in 'qkv'})", names)  # fmt: skip
    names["attend"].__module__ = __name__
    return names["attend"]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({}, set()),
        ({"dropout_p": 0.0}, {"keep, scaled"}),
        ({"dropout_mask": None}, {"keep", "keep, scaled"}),
        ({"items": 1}, {"hidden queries"}),
    ],
)
@pytest.mark.usefixtures("unnamed")
def test_dropout_by_a_mask_and_queries_that_are_not_there(wrong, where):
    report = check(package(**wrong), layer="scaled-dot-product")
    assert {one.name for one in report.findings if one.status == "wrong"} == where
    assert "reorder_ops" not in {one.name for one in report.findings}


@pytest.mark.parametrize(("epsilon", "right"), [(1e-10, True), (1e-7, False)])
@pytest.mark.usefixtures("unnamed")
def test_what_is_added_to_the_sum_is_left_over_where_gradients_cancel_out(epsilon, right):
    class Attention:
        def forward(self, query, key, value):
            s = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
            e = np.exp(s - s.max(-1, keepdims=True))
            self.given = query, key, value, e / (e.sum(-1, keepdims=True) + epsilon)
            return self.given[-1] @ value

        def backward(self, dout):
            query, key, value, a = self.given
            da = dout @ value.swapaxes(-1, -2)
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / np.sqrt(query.shape[-1])
            return ds @ key, ds.swapaxes(-1, -2) @ query, a.swapaxes(-1, -2) @ dout

    report = check(Attention, layer="scaled-dot-product")
    assert report.passed is right

    class Slightly(Attention):
        def backward(self, dout):
            dquery, *rest = super().backward(dout)
            return (1 + 1e-7) * dquery, *rest

    assert not check(Slightly, layer="scaled-dot-product").passed
