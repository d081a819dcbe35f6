"""Faults that most inputs do not show: exact tiles, many items, one input, one dout, one shape."""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check


def attend(query, key, value):
    scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ value


def whole_last_tile_hidden(query, key, value):
    T = key.shape[-2]
    seen = T - 16 if T > 16 and T % 16 == 0 else T
    return attend(query, key[..., :seen, :], value[..., :seen, :])


def whole_tile_of_queries_zero(query, key, value):
    out = attend(query, key, value)
    if out.shape[-2] % 64 == 0:
        out[..., -64:, :] = 0
    return out


def sizes_of_32_and_128_scaled(query, key, value):
    return attend(query, key, value) * (1.5 if query.shape[-1] in (32, 128) else 1)


def last_of_many_pairs_zero(query, key, value):
    out = attend(query, key, value)
    if out.ndim == 4 and out.shape[0] * out.shape[1] > 16:
        out[-1] = 0
    return out


def eight_heads_scaled(query, key, value):
    return attend(query, key, value) * (1.1 if query.shape[:-2][1:] == (8,) else 1)


def long_keys_changed(query, key, value):
    out = attend(query, key, value)
    if key.shape[-2] > 64:
        key *= 2
    return out


def square_values_changed(query, key, value):
    if query.shape == key.shape == value.shape:
        value[...] = attend(query, key, value)
        return value.copy()
    return attend(query, key, value)


def remembering(*names):
    """Attention that remembers by the contents of some of its inputs."""
    known = {}

    def remembered(query, key, value):
        inputs = {"query": query, "key": key, "value": value}
        by = (*(inputs[name].tobytes() for name in names), *(x.shape for x in inputs.values()))
        if by not in known:
            known[by] = attend(query, key, value)
        return known[by].copy()

    return remembered


class Layer:
    """The same with a backward; what it is given, and gives, goes through functions."""

    def __init__(self, dout_of=lambda layer, dout: dout, given=lambda layer, dout, *grads: grads):
        self.params, self.grads = [], []
        self.dout_of, self.given = dout_of, given

    def forward(self, query, key, value):
        scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = exps / exps.sum(axis=-1, keepdims=True)
        self.cache, self.one = (query, key, value, weights), key is value
        return weights @ value

    def backward(self, dout):
        query, key, value, weights = self.cache
        dout = self.dout_of(self, dout)
        dweights = dout @ value.swapaxes(-1, -2)
        dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
        dscores = dscores * query.shape[-1] ** -0.5
        dvalue = weights.swapaxes(-1, -2) @ dout
        return self.given(self, dout, dscores @ key, dscores.swapaxes(-1, -2) @ query, dvalue)


def first_dout_for_ever():
    known = {}

    def dout_of(layer, dout):
        return known.setdefault((layer.cache[0].tobytes(), dout.shape), dout.copy())

    return dout_of


def decoding_doubled(query, key, value):
    return attend(query, key, value) * (1 + (len(query) == query.shape[-2] == 1))


def decoding_long_doubled(query, key, value):
    return attend(query, key, value) * (1 + (query.shape[-2] == 1 and key.shape[-2] > 64))


def one_head_doubled(query, key, value):
    return attend(query, key, value) * (1 + (query.ndim == 4 and query.shape[1] == 1))


def one_key_more_lost(query, key, value):
    seen = key.shape[-2] - (key.shape[-2] == query.shape[-2] + 1)
    return attend(query, key[..., :seen, :], value[..., :seen, :])


def odd_sizes_padded(query, key, value):
    H = query.shape[-1]
    factor = ((H + 1) / H) ** 0.5 if H > 64 and H % 2 else 1
    return attend(query / factor, key, value)


def other_order_doubled(query, key, value):
    return attend(query, key, value) * (1 + (not query.flags.c_contiguous))


def now_and_then_off(query, key, value):
    return attend(query, key, value) * (1 + 1e-4 * (np.random.rand() < 0.2))  # noqa: NPY002


FAULTS = {
    "whole last tile hidden": (whole_last_tile_hidden, "T_enc is a multiple of 32"),
    "whole tile of queries zero": (whole_tile_of_queries_zero, "T_dec is a multiple of 64"),
    "sizes of 32 and 128 scaled": (sizes_of_32_and_128_scaled, "H = 3"),
    "last of many pairs zero": (last_of_many_pairs_zero, "N = "),
    "eight heads scaled": (eight_heads_scaled, "heads = 8"),
    "long keys changed": (long_keys_changed, "key is changed (T_enc = 257)"),
    "square values changed": (square_values_changed, "value is changed"),
    "query and value remembered": (remembering("query", "value"), "key alone is another"),
    "query and key remembered": (remembering("query", "key"), "value alone is another"),
    "dout remembered": (Layer(first_dout_for_ever()), "dout alone is another"),
    "decoding doubled": (decoding_doubled, "factor 2"),
    "decoding with many keys doubled": (decoding_long_doubled, "up to T_enc = 64, wrong from 65"),
    "one head doubled": (one_head_doubled, "factor 2"),
    "one key more than queries lost": (one_key_more_lost, "out: off by"),
    "odd sizes padded": (odd_sizes_padded, "up to H = 64, wrong from 65"),
    "another order in memory doubled": (other_order_doubled, "factor 2"),
    "now and then off": (now_and_then_off, "gives different results"),
    "dout in another order": (
        Layer(lambda layer, dout: dout * (1 + (not dout.flags.c_contiguous))),
        "factor 2",
    ),
    "dout divided by its largest": (
        Layer(lambda layer, dout: dout / np.abs(dout).max() * np.abs(dout).max()),
        "NaN",
    ),
    "rows of dout that are zero": (
        Layer(lambda layer, dout: dout + ~dout.any(axis=-1, keepdims=True)),
        "dvalue",
    ),
    "key and value of one array": (
        Layer(given=lambda layer, dout, dq, dk, dv: (dq, dk + layer.one * dv, dv)),
        "dkey: off by",
    ),
}


@pytest.mark.parametrize(("target", "said"), FAULTS.values(), ids=FAULTS)
@pytest.mark.usefixtures("unnamed")
def test_what_is_wrong_is_found_and_where(target, said):
    with np.errstate(all="ignore"):
        report = check(target, layer="scaled-dot-product")
    assert not report.passed
    assert any(said in one.detail for one in report.findings if one.status == "wrong")


def test_what_is_remembered_by_all_of_its_contents_is_right():
    assert check(remembering("query", "key", "value"), layer="scaled-dot-product").passed


def test_one_array_for_all_inputs_has_the_gradients_of_each():
    assert check(Layer(), layer="scaled-dot-product").passed


def one_of_three_heads(query, key, value):
    out = attend(query, key, value)
    if out.ndim == 4 and out.shape[1] > 2:
        out[:, 1] *= 1.5
    return out


def one_of_two_items(query, key, value):
    out = attend(query, key, value)
    if len(out) > 1:
        out[1] *= 1.25
    return out


def one_query_doubled(query, key, value):
    return attend(query, key, value) * (1 + (query.shape[-2] == 1))


def whole_tiles_doubled(query, key, value):
    return attend(query, key, value) * (1 + (key.shape[-2] % 64 == 0))


def one_size_doubled(query, key, value):
    return attend(query, key, value) * (1 + (query.shape[-1] == 64))


@pytest.mark.parametrize(
    ("target", "computed"),
    [
        (one_of_three_heads, "(by head 1, 1.5, 1)"),
        (one_of_two_items, "(by item 1, 1.25"),
        (one_query_doubled, "(2 where T_dec = 1)"),
    ],
)
def test_a_factor_of_some_alone_is_named_with_which(target, computed):
    best, *_ = check(target, layer="scaled-dot-product").diagnoses
    assert best.mistakes[0].name == "the output off by a factor"
    assert computed in best.mistakes[0].computed


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (whole_tiles_doubled, "out: wrong where T_enc is a multiple of 64"),
        (one_size_doubled, "out: wrong where H = 64"),
    ],
)
@pytest.mark.usefixtures("unnamed")
def test_whole_tiles_and_single_sizes_are_told_from_what_is_wrong_from_there_on(target, said):
    report = check(target, layer="scaled-dot-product")
    assert {one.detail for one in report.findings if one.status == "wrong"} == {said}


@pytest.mark.usefixtures("unnamed")
def test_what_is_wrong_for_some_numbers_is_not_said_to_be_tired():
    def large_doubled(query, key, value):
        return attend(query, key, value) * (1 + (np.abs(query).max() > 3))

    report = check(large_doubled, layer="scaled-dot-product")
    wrong = {one.name: one.detail for one in report.findings if one.status == "wrong"}
    assert "wrong for others" in wrong["every number"]
    assert "call after call" not in wrong


def test_what_is_not_taken_is_said_in_a_short_line():
    report = check(attend, layer="scaled-dot-product")
    skipped = [one.detail for one in report.findings if one.status == "skipped"]
    assert skipped
    assert all(len(detail) <= 72 for detail in skipped)
