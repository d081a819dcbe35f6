"""The exercises: each is made of one source, can be solved, and what goes wrong is named."""

import re

import pytest
from conftest import SAMPLES

from attncli.checking.diagnosing.examination import check
from attncli.checking.exercises import EXERCISES, Lesson, State, gaps

BOOK = ["softmax", "weight_sum", "attention_weight", "attention", "time_attention"]


def made(exercise, text):
    """The class that a file defines."""
    scope = {}
    exec(text, scope)
    return scope[exercise.target]


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=str)
def test_gaps_are_where_the_solution_has_something(exercise):
    wanted, left = exercise.solution.splitlines(), exercise.gapped.splitlines()
    found = gaps(exercise.gapped)
    differ = [n for n, (a, b) in enumerate(zip(wanted, left, strict=True), 1) if a != b]
    assert differ == [gap.number for gap in found] != []
    assert gaps(exercise.solution) == ()
    assert "#:" not in exercise.solution + exercise.gapped
    for gap in found:
        (line,) = exercise.formulas(gap.part, (gap,))[:1]
        assert line in exercise.solution
    assert {gap.part for gap in found} <= exercise.hints.keys()


def test_the_sample_with_gaps_is_made_of_the_same_source():
    sample = (SAMPLES / "exercise" / "attention.py").read_text(encoding="utf-8")
    classes = [EXERCISES[name].gapped.partition("\n\n\nclass ") for name in BOOK]
    _, begins, rest = sample.partition("\n\n\nclass ")
    assert begins + rest == "".join(mark + body.rstrip() for _, mark, body in classes) + "\n"


TYPICAL = [
    ("softmax", "out * (dout - (", "(dout - (", "softmax backward without the factor weights"),
    ("softmax", "out * (dout -", "out * (dout +", "softmax backward with the wrong sign"),
    ("softmax", "np.exp(x)", "np.exp2(x)", "exp2 instead of exp"),
    ("softmax", "exps.sum(axis=1, keepdims=True)", "exps.sum()", "softmax over the whole array"),
    ("weight_sum", "np.sum(t, axis=1)", "np.sum(t, axis=2)", "output summed over H instead of T"),
    ("weight_sum", "np.sum(dar, axis=2)", "np.sum(dar, axis=1)", "da summed over T instead of H"),
    ("weight_sum", "dar = dt * hs", "dar = dt * ar", "da multiplied by the weights instead of hs"),
    ("attention_weight", "(t, axis=2)", "(t, axis=1)", "scores summed over T instead of H"),
    ("attention_weight", "(dhr, axis=1)", "(dhr, axis=2)", "dh summed over H instead of T"),
    ("attention_weight", "dhr = dt * hs", "dhr = dt * hr", "dh multiplied by h instead of hs"),
    ("attention", "dhs0 + dhs1", "dhs0", "score path missing from dhs"),
    ("time_attention", "_enc + dhs", "_enc + dhs / T", "gradients of the steps averaged"),
    ("scaled_dot_product", "1 / np.sqrt(query.shape[-1])", "1", "scale missing"),
    ("masks", "seen & mask", "seen & ~mask", "mask polarity reversed"),
    ("masks", "dtype=bool)", "k=-1, dtype=bool)", "causal order off by one: its own step hidden"),
    ("masks", "np.where(total == 0, 1, total)", "total", "a fully masked row gives NaN"),
    ("multi_head", "1 / np.sqrt(q.shape[-1])", "1", "scale missing"),
    ("tiled_softmax", "np.exp(largest - new)", "1", "online softmax not rescaled"),
    ("tiled_softmax", "= correction * out", "= out", "only the sum of an online softmax rescaled"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "right", "wrong", "mistake"), TYPICAL)
def test_typical_mistakes_are_named(name, right, wrong, mistake):
    exercise = EXERCISES[name]
    text = exercise.solution.replace(right, wrong, 1)
    assert text != exercise.solution
    report = check(made(exercise, text), layer=exercise.layer)
    assert not report.passed
    assert mistake in [one.name for found in report.diagnoses for one in found.mistakes]


OTHERS = {
    "softmax": """
import numpy as np
class Softmax:
    def forward(self, x):
        rows = [[np.exp(v - max(row)) for v in row] for row in x]
        self.out = np.array([[v / sum(row) for v in row] for row in rows])
        return self.out
    def backward(self, dout):
        jacobians = np.array([np.diag(row) - np.outer(row, row) for row in self.out])
        return np.einsum("nij,nj->ni", jacobians, dout)
""",
    "time_attention": """
import numpy as np
class TimeAttention:
    def forward(self, hs_enc, hs_dec):
        scores = np.einsum("nth,nsh->nst", hs_enc, hs_dec)
        exps = np.exp(scores - scores.max(-1, keepdims=True))
        a = exps / exps.sum(-1, keepdims=True)
        self.cache = hs_enc, hs_dec, a
        return a @ hs_enc
    def backward(self, dout):
        hs_enc, hs_dec, a = self.cache
        da = np.einsum("nsh,nth->nst", dout, hs_enc)
        ds = a * (da - (a * da).sum(-1, keepdims=True))
        first, second = (np.einsum("nst,nsh->nth", *pair) for pair in ((a, dout), (ds, hs_dec)))
        return first + second, ds @ hs_enc
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_right_code_of_another_kind_is_right(name):
    exercise = EXERCISES[name]
    assert check(made(exercise, OTHERS[name]), layer=exercise.layer).passed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("    c = ...", ["c = ..."]),
        ("    c=...# here", ["c=..."]),
        ("    out[:, t, :] = ...  # x = 1", ["out[:, t, :] = ..."]),
        ("    dhs, dh = ...", ["dhs, dh = ..."]),
        ("    c = a[...]", []),
        ("    c = a == ...", []),
        ("    # c = ...", []),
        ("    c = ...  and more", []),
    ],
)
def test_what_a_gap_is(line, found):
    assert [gap.line for gap in gaps(f"def backward(self):\n{line}\n")] == found


def test_progress_is_text_that_reads_back(tmp_path):
    one, other = EXERCISES["softmax"], EXERCISES["masks"]
    lesson = Lesson(str(tmp_path)).remember(other, State(False, {"forward": 4, "backward": 1}))
    lesson = lesson.remember(one, State(True))
    assert Lesson.read(str(tmp_path)) == lesson
    text = (tmp_path / "progress.txt").read_text(encoding="utf-8")
    assert text.splitlines()[1:] == [
        "softmax: right",
        "masks: open; hints: forward 4, backward 1",
    ]


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\x00", b"softmax: maybe\nnothing: right\n", b"softmax right\n" * 1000]
)
def test_progress_that_says_nothing_is_no_progress(tmp_path, text):
    (tmp_path / "progress.txt").write_bytes(text)
    assert Lesson.read(str(tmp_path)).states == {}


@pytest.mark.parametrize(
    "name", ["TimeAttention", "time-attention", "time_attention", "5", "5_time_attention.py"]
)
def test_an_exercise_is_found_by_any_of_its_names(name):
    assert Lesson("x").chosen(name) is EXERCISES["time_attention"]


def test_hints_do_not_give_the_formula_away():
    for exercise in EXERCISES.values():
        lines = {re.sub(r"\s", "", one) for one in exercise.formulas("forward", ())}
        first = [re.sub(r"\s", "", hints[0]) for hints in exercise.hints.values()]
        assert not [line for line in lines for hint in first if line in hint]
