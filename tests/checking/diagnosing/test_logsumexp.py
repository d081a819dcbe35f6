"""What a target gives for every row beside out: right log-sum-exps pass, wrong ones are named."""

import pytest

from attncli.checking.diagnosing.examination import check
from attncli.checking.diagnosing.mistakes.in_contract import CONTRACT

FORWARD = """
import numpy as np
from collections import namedtuple

def attention(query, key, value, causal=False, s_aux=None):
    unscaled = query @ np.swapaxes(key, -1, -2)
    T_dec, T_enc = unscaled.shape[-2:]
    s = unscaled / np.sqrt(query.shape[-1])
    seen = (np.arange(T_enc) <= np.arange(T_dec)[:, None]) | (not causal)

    def parts(s, sink=s_aux):
        if sink is not None:
            sink = np.broadcast_to(sink[:, None, None], (*s.shape[:-1], 1))
            s = np.concatenate([s, sink], axis=-1)
        m = s.max(axis=-1, keepdims=True)
        return s, m[..., 0], np.exp(s - m).sum(axis=-1)

    def lse(s, **more):
        _, m, total = parts(s, **more)
        return m + np.log(total)

    hidden = np.where(seen, s, -np.inf)
    whole, m, total = parts(hidden)
    p = np.exp(whole - m[..., None]) / total[..., None]
    out = p[..., :T_enc] @ value
    return {given}
"""
RIGHT = {
    "a pair": "out, m + np.log(total)",
    "float32": "out, (m + np.log(total)).astype(np.float32)",
    "an axis more": "out, (m + np.log(total))[..., None]",
    "by name": "{'softmax_lse': m + np.log(total), 'out': out}",
    "a named tuple": "namedtuple('Given', 'lse, out')(m + np.log(total), out)",
    "a list": "[out, m + np.log(total)]",
    "what online softmax keeps": "out, m, total",
    "weights, not rows": "out, p[..., :T_enc]",
}
WRONG = {
    "log-sum-exp returned in base 2": "out, (m + np.log(total)) / np.log(2)",
    "log-sum-exp returned in base 2 in part": "out, m + np.log2(total)",
    "log-sum-exp halved": "{'out': out, 'logsumexp': lse(hidden) / 2}",
    "sign of the log-sum-exp reversed": "out, -lse(hidden)",
    "log-sum-exp of scores that are not scaled": "out, lse(np.where(seen, unscaled, -np.inf))",
    "log-sum-exp of a mean": "out, lse(hidden) - np.log(T_enc)",
    "hidden keys take part in the log-sum-exp": "out, lse(s)",
    "log-sum-exp without the sink": "out, lse(hidden, sink=None)",
    "log-sum-exp without the maximum": "out, np.log(total)",
}


def judged(folder, given, **options):
    (folder / "mine.py").write_text(FORWARD.replace("{given}", given))
    return check("mine.py:attention", layer="scaled-dot-product", **options)


@pytest.mark.parametrize("how", RIGHT)
def test_right_log_sum_exps_pass_and_so_does_what_is_none(folder, how):
    report = judged(folder, RIGHT[how])
    assert report.passed, [one for one in report.findings if one.status == "wrong"]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_are_named_and_out_is_not_blamed(folder, name):
    report = judged(folder, WRONG[name])
    assert [one.mistakes[0].name for one in report.diagnoses] == [name]
    assert {one.part for one in report.findings if one.status == "wrong"} == {"contract"}


def test_every_mistake_of_the_kind_is_tried():
    assert WRONG.keys() == {one.name for one in CONTRACT if "log-sum-exp" in one.symptom}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("out, lse(hidden[..., :64])", "T_enc = 257"),
        ("{'out': out, 'lse': lse(hidden) + 1e-4}", "different prime sizes"),
        ("out, lse(hidden) + 0.1 * (s.max(axis=-1) < -100)", "large negative scores"),
    ],
)
def test_one_that_is_wrong_in_an_unknown_way_or_in_some_cases_alone_is_wrong(folder, given, where):
    report = judged(folder, given)
    wrong = {one.name: one.detail for one in report.findings if one.status == "wrong"}
    assert where in wrong["log-sum-exp"]


def test_other_numbers_for_every_row_are_said_to_be_no_log_sum_exp(folder):
    report = judged(folder, "out, s.mean(axis=-1)")
    (found,) = (one for one in report.findings if one.name == "log-sum-exp")
    assert (report.passed, found.status) == (True, "note")


def test_rounding_of_half_precision_is_no_fault(folder):
    given = "out.astype(query.dtype), (m + np.log(total)).astype(query.dtype)"
    assert judged(folder, given, dtype="float16").passed
    halved = given.replace("(m + np.log(total))", "(0.99 * (m + np.log(total)))")
    assert not judged(folder, f"dict(zip(('out', 'lse'), ({halved})))", dtype="float16").passed
