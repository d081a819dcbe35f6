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


class RemembersDout:
    """The first dout of a query is the one it goes back from, for ever."""

    def __init__(self):
        self.params, self.grads, self.known = [], [], {}

    def forward(self, query, key, value):
        scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = exps / exps.sum(axis=-1, keepdims=True)
        self.cache = query, key, value, weights
        return weights @ value

    def backward(self, dout):
        query, key, value, weights = self.cache
        dout = self.known.setdefault((query.tobytes(), dout.shape), dout.copy())
        dweights = dout @ value.swapaxes(-1, -2)
        dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
        dscores = dscores * query.shape[-1] ** -0.5
        dvalue = weights.swapaxes(-1, -2) @ dout
        return dscores @ key, dscores.swapaxes(-1, -2) @ query, dvalue


FAULTS = {
    "whole last tile hidden": (whole_last_tile_hidden, "T_enc = 6"),
    "whole tile of queries zero": (whole_tile_of_queries_zero, "T_dec = 6"),
    "sizes of 32 and 128 scaled": (sizes_of_32_and_128_scaled, "H = 3"),
    "last of many pairs zero": (last_of_many_pairs_zero, "N = "),
    "eight heads scaled": (eight_heads_scaled, "heads = 7"),
    "long keys changed": (long_keys_changed, "key is changed (T_enc = 257)"),
    "square values changed": (square_values_changed, "value is changed"),
    "query and value remembered": (remembering("query", "value"), "key alone is another"),
    "query and key remembered": (remembering("query", "key"), "value alone is another"),
    "dout remembered": (RemembersDout(), "dout alone is another"),
}


@pytest.mark.parametrize(("target", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_found_and_where(target, said):
    report = check(target, layer="scaled-dot-product")
    assert not report.passed
    assert any(said in one.detail for one in report.findings if one.status == "wrong")


def test_what_is_remembered_by_all_of_its_contents_is_right():
    assert check(remembering("query", "key", "value"), layer="scaled-dot-product").passed
