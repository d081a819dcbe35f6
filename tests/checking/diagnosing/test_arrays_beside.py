"""A target that takes sinks, slopes, lengths, segments or dropout is given them."""

import numpy as np
import pytest

from attncli.checking.diagnosing.examination import check


class Beside:
    """Attention with everything beside query, key and value, each of which can be wrong."""

    def __init__(self, wrong=""):
        self.params, self.grads, self.wrong = [], [], wrong

    def forward(
        self, query, key, value, s_aux=None, alibi_slopes=None, cache_seqlens=None,
        segment_ids=None, dropout_mask=None,
    ):  # fmt: skip
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
        T_dec, T_enc = scores.shape[-2:]
        if alibi_slopes is not None:
            sign = 1 if self.wrong == "alibi" else -1
            distance = np.abs(np.arange(T_dec)[:, None] - np.arange(T_enc))
            scores = scores + sign * alibi_slopes[:, None, None] * distance
        seen = np.ones((len(query), 1, T_dec, T_enc), bool)
        if cache_seqlens is not None:
            last = cache_seqlens[:1] if self.wrong == "kv lengths" else cache_seqlens
            seen &= np.arange(T_enc) < last[:, None, None, None]
        if segment_ids is not None:
            later = segment_ids[:, None] >= segment_ids
            seen &= later if self.wrong == "segments" else later & later.T
        scores = np.where(seen, scores, -np.inf)
        if s_aux is not None:
            sink = 0 * s_aux if self.wrong == "sinks" else s_aux
            sink = np.broadcast_to(sink[:, None, None], (*scores.shape[:-1], 1))
            scores = np.concatenate([scores, sink], axis=-1)
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = (exps / exps.sum(axis=-1, keepdims=True))[..., :T_enc]
        self.keep = 1.0
        if dropout_mask is not None:
            share = 0.5 if self.wrong == "keep" else 1.0
            self.keep = dropout_mask / share
        self.cache = query, key, value, weights
        return weights * self.keep @ value

    def backward(self, dout):
        query, key, value, weights = self.cache
        dweights = dout @ value.swapaxes(-1, -2) * self.keep
        dscores = weights * (dweights - (weights * dweights).sum(axis=-1, keepdims=True))
        dscores = dscores / np.sqrt(query.shape[-1])
        dvalue = (weights * self.keep).swapaxes(-1, -2) @ dout
        return dscores @ key, dscores.swapaxes(-1, -2) @ query, dvalue


CASES = ("sinks", "alibi", "kv lengths", "segments", "keep")


def test_what_is_right_passes_in_every_case():
    report = check(Beside(), layer="scaled-dot-product")
    assert report.passed
    assert {one.name for one in report.findings} >= set(CASES)


@pytest.mark.parametrize("wrong", CASES)
@pytest.mark.usefixtures("unnamed")
def test_what_is_wrong_with_one_alone_fails_there_alone(wrong):
    report = check(Beside(wrong), layer="scaled-dot-product")
    assert not report.passed
    known = {wrong, "lengths of keys"} if wrong == "kv lengths" else {wrong}
    assert {one.name for one in report.findings if one.status == "wrong"} == known
