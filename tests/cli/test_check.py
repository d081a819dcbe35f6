"""``attn check``."""

import pytest
from conftest import SAMPLES

EXERCISE = SAMPLES / "exercise"


@pytest.fixture
def mine(folder):
    (folder / "right.py").write_text("from attncli.layers import Attention\n")
    (folder / "wrong.py").write_text(
        "from attncli.layers import Attention as Right\n"
        "print('loading')\n"
        "class Attention(Right):\n"
        "    def backward(self, dout):\n"
        "        dhs, dh = super().backward(dout)\n"
        "        return -dhs, -dh\n"
    )
    return folder


def test_a_right_layer(attn, mine):
    result = attn("check", "right.py:Attention", columns=80)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "right.py:Attention · against attention"
    assert "different prime sizes      ok       ok" in lines
    assert lines[-1].endswith("checks: all hold")


@pytest.mark.parametrize("columns", [None, 40, 80, 200])
def test_a_wrong_one_and_its_mistake(attn, mine, columns):
    result = attn("check", "wrong.py", columns=columns)
    assert (result.code, result.err) == (1, "wrong.py prints: loading\n")
    assert "likely mistake: sign of the gradients reversed" in " ".join(result.out.split())
    assert "checks fail" in result.out
    if columns:
        assert max(map(len, result.out.splitlines())) <= columns


def test_json_holds_the_whole_report(attn, mine):
    result = attn("check", "wrong.py", "--json")
    assert (result.code, result.json["passed"]) == (1, False)
    (target,) = result.json["targets"]
    assert target["diagnoses"][0]["mistakes"][0]["name"] == "sign of the gradients reversed"
    assert {"name", "part", "status", "detail"} == target["findings"][0].keys()


def test_what_all_layers_of_a_file_are_said_to_be_is_believed(attn, mine):
    text = (mine / "right.py").read_text()
    (mine / "two.py").write_text(text.replace("Attention", "Attention as Right")
        + "\nclass One(Right):\n    pass\nclass Two(Right):\n    def forward(self, x, y):\n"
        "        return super().forward(x, y)\n")  # fmt: skip
    result = attn("check", "two.py", "--as", "attention", "--json")
    assert (result.code, result.err) == (0, "")
    assert [one["target"] for one in result.json["targets"]] == ["two.py:One", "two.py:Two"]


def test_layers_of_other_kinds_are_skipped(attn, mine):
    affine = "class Affine:\n  def forward(self, x): return x\n  def backward(self, d): return d\n"
    (mine / "both.py").write_text((mine / "wrong.py").read_text() + affine)
    result = attn("check", "both.py")
    assert result.code == 1
    assert "both.py: passed over Affine (forward takes x: which layer is it?)" in result.err
    (mine / "other.py").write_text(affine + affine.replace("Affine", "Relu"))
    result = attn("check", "other.py")
    assert result.code == 2
    assert "other.py: no layer that could be judged" in result.err
    assert "passed over Affine, Relu (forward takes x: which layer is it?)" in result.err
    assert "hint:  attn check other.py --as softmax\n" in result.err


def test_the_others_are_checked_if_one_cannot_be_called(attn, mine):
    broken = "class Softmax:\n  def forward(self, x): return 1 / 0\n  def backward(self, d): pass\n"
    (mine / "both.py").write_text(broken + (mine / "wrong.py").read_text())
    result = attn("check", "both.py")
    assert result.code == 1
    assert "likely mistake: sign of the gradients reversed" in result.out
    assert "WRONG: forward raises ZeroDivisionError" in result.out


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_json_lists_what_could_not_be_called(attn, mine, command):
    broken = "class Softmax:\n  def forward(self, x): return 1 / 0\n  def backward(self, d): pass\n"
    right = "class Attention(Right): pass\n"
    (mine / "both.py").write_text(broken + (mine / "right.py").read_text().replace(
        "Attention", "Attention as Right") + right)  # fmt: skip
    result = attn(command, "both.py", "--json")
    assert (result.code, result.json["passed"]) == (1, False)
    first, second = result.json["targets"]
    assert (first["passed"], first["target"]) == (False, "both.py:Softmax")
    assert "forward raises ZeroDivisionError" in str(first)
    assert second["passed"] is True


def test_of_a_layer_whose_weights_fit_no_form_the_gradients_are_proved(attn, folder):
    (folder / "mine.py").write_text(
        "import numpy as np\n"
        "from attncli.layers import Attention as Right\n"
        "class Attention(Right):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.params, self.grads = [np.ones(1)], [np.zeros(1)]\n"
        "    def forward(self, hs, h):\n"
        "        return super().forward(hs, 2 * h)\n"
    )
    result = attn("check", "mine.py")
    assert result.code == 1
    assert "held against nothing, its gradients are proved: its weights fit no form" in result.out
    assert "dh: off by the factor 0.5" in result.out
    assert "1 of 4 checks fail" in result.out
    forced = attn("check", "mine.py", "--as", "attention")
    assert forced.code == 2
    assert "this layer has weights of its own (1 array in params)" in forced.err


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_what_the_code_prints_is_shown_once(attn, folder, command):
    (folder / "mine.py").write_text(
        "from attncli.layers import Attention as Right\n"
        "class Attention(Right):\n"
        "    def forward(self, hs, h):\n"
        "        print('shape', hs.ndim)\n"
        "        return super().forward(hs, h)\n"
    )
    result = attn(command, "mine.py", "--json")
    assert (result.code, result.json["passed"]) == (0, True)
    assert result.err.splitlines() == [
        "mine.py:Attention prints: shape 3",
        "note: the code prints; what its further calls print is not shown",
    ]


def test_ascii_terminals(attn, folder):
    result = attn("check", EXERCISE / "wrong_2.py:Attention", columns=80, encoding="ascii")
    assert result.code == 1
    assert "dhs = the path through the values + the path" in result.out
    assert "\\u" not in result.out


def test_semantics_say_what_it_claims_to_be(attn, mine):
    assert attn("check", "right.py:Attention", "--scale", 1).code == 0
    result = attn("check", "right.py:Attention", "--scale", 0.5, "--json")
    assert result.code == 1
    assert result.json["targets"][0]["claims"] == "scale 0.5"


RAISING = """
import numpy as np
from attncli.layers import WeightSum as Right


class WeightSum(Right):
    def backward(self, dout):
        raise ValueError("no [gradient]")


class Bent(WeightSum):
    def forward(self, hs, a):
        return np.sin(super().forward(hs, a))
"""


@pytest.mark.parametrize("columns", [None, 100])
def test_of_gradients_that_are_not_there_nothing_is_said(attn, folder, columns):
    (folder / "raising.py").write_text(RAISING)
    result = attn("check", "raising.py:WeightSum", columns=columns)
    said = "the gradients are not judged: backward raises ValueError: no [gradient]"
    assert said in " ".join(result.out.split())
    assert "no known mistake" not in result.out
    result = attn("check", "raising.py:Bent", "--as", "weight-sum", columns=columns)
    assert said in " ".join(result.out.split())
    assert "no known mistake reproduces forward's numbers" in result.out


DIVIDED_BY_H = """
import numpy as np


class Attention:
    def forward(self, query, key, value):
        s = query @ key.swapaxes(-1, -2) / query.shape[-1]
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        self.cache = query, key, value, e / e.sum(axis=-1, keepdims=True)
        return self.cache[-1] @ value

    def backward(self, dout):
        query, key, value, a = self.cache
        da = dout @ value.swapaxes(-1, -2)
        ds = a * (da - np.sum(a * da, axis=-1, keepdims=True)) / query.shape[-1]
        return ds @ key, ds.swapaxes(-1, -2) @ query, a.swapaxes(-1, -2) @ dout
"""


def test_mistakes_that_give_the_same_numbers_are_either_or(attn, folder):
    (folder / "mine.py").write_text(DIVIDED_BY_H)
    result = attn("check", "mine.py:Attention", columns=80)
    lines = result.out.splitlines()
    headings = [line for line in lines if line.startswith(("likely mistake:", "or:", "and:"))]
    assert headings == ["likely mistake: either scale 1/H", "or: scale applied twice"]
    assert "both give the same numbers in these cases" in result.out


def test_the_traceback_of_a_call_that_raises(attn, folder):
    (folder / "mine.py").write_text(
        "from attncli.layers import Attention as Right\n"
        "class Attention(Right):\n"
        "    def backward(self, dout):\n"
        "        hs, ar = self.cache\n"
    )
    result = attn("check", "mine.py")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("AttributeError")
    assert "attncli" not in result.err
    assert "does forward keep what backward needs" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["right.py", "--convention", "x.npz"],
        ["right.py"],  # imported there, not defined
        ["right.py:Attention", "--as", "nothing"],
        ["right.py:Attention", "--as", "softmax"],
        ["none.py"],
    ],
)
def test_what_makes_no_sense_is_refused(attn, mine, arguments):
    result = attn("check", *arguments)
    assert result.code == 2
    assert "error: " in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("file", "mistakes"),
    [
        ("wrong_1.py:TimeAttention", ["one Attention object shared by all steps"]),
        ("wrong_2.py:Attention", ["scale 1/H", "score path missing from dhs"]),
    ],
)
def test_the_wrong_solutions_of_the_exercise(attn, file, mistakes):
    result = attn("check", EXERCISE / file, "--json")
    best = result.json["targets"][0]["diagnoses"][0]["mistakes"]
    assert [mistake["name"] for mistake in best] == mistakes


def test_the_exercise_says_that_its_gaps_are_to_be_filled_in(attn):
    result = attn("check", EXERCISE / "attention.py:WeightSum")
    assert result.code == 1
    assert "forward returns a gap (...) that is still to be filled in" in result.out
    result = attn("check", EXERCISE / "attention.py:TimeAttention")
    assert result.code == 1
    assert "a gap (...) is still to be filled in" in result.out


def test_a_gap_in_backward_is_nothing_but_a_gap(attn, tmp_path):
    code = (EXERCISE / "attention.py").read_text().replace("exps = ...", "exps = np.exp(x)")
    code = code.replace("out = ...", "out = exps / exps.sum(axis=1, keepdims=True)")
    (tmp_path / "half.py").write_text(code)
    result = attn("check", tmp_path / "half.py:Softmax", "--json")
    wrong = [f for f in result.json["targets"][0]["findings"] if f["status"] == "wrong"]
    assert {f["detail"] for f in wrong} == {
        "dscores is a gap (...) that is still to be filled in, expected an array"
    }
    assert result.json["targets"][0]["diagnoses"] == []
    assert "no known mistake" not in attn("check", EXERCISE / "attention.py:Softmax").out


def test_a_gap_that_is_calculated_with_is_named_too(attn, folder):
    (folder / "mine.py").write_text(
        "from attncli.layers import Softmax as Right\n"
        "class Softmax(Right):\n"
        "    def backward(self, dout):\n"
        "        dx = ...\n"
        "        return dx * dout\n"
    )
    result = attn("check", "mine.py", "--json")
    wrong = [f for f in result.json["targets"][0]["findings"] if f["status"] == "wrong"]
    assert all("a gap (...) is still to be filled in" in f["detail"] for f in wrong)
    assert result.json["targets"][0]["diagnoses"] == []


def test_the_convention_of_a_file_under_its_former_name(attn, folder):
    result = attn("check", "--convention", SAMPLES / "minilm_qkv.npz")
    assert (result.code, result.err) == (0, "")
    assert result.out == attn("convention", SAMPLES / "minilm_qkv.npz").out
    assert "--convention" not in attn("check", "--help").out


def test_a_target_and_a_convention_at_once_are_refused(attn, mine):
    dump = SAMPLES / "minilm_qkv.npz"
    for target in ("right.py:Attention", "wrong.py", "none.py"):
        result = attn("check", target, "--convention", dump)
        assert (result.code, result.out) == (2, "")
        error, hint = result.err.splitlines()
        assert error == "error: expected either a TARGET or --convention FILE"
        assert hint.startswith("hint:  attn check ")


def test_without_a_target_it_is_said_what_one_is_and_a_command_that_runs(attn, folder):
    result = attn("check")
    assert (result.code, result.out) == (2, "")
    error, hint = result.err.splitlines()
    assert error.startswith("error: expected a TARGET: FILE.py, FILE.ipynb, a folder")
    assert attn(*hint.removeprefix("hint:  attn ").split()).code == 1


def test_thorough_tries_larger_sizes(attn, mine):
    assert "T_enc = 1025" not in attn("check", "right.py:Attention").out
    assert "T_enc = 1025 " in attn("check", "right.py:Attention", "--thorough").out
    refused = attn("check", "--convention", "x.npz", "--thorough")
    error = "error: --thorough has a meaning with TARGET only"
    assert (refused.code, refused.err.splitlines()[0]) == (2, error)


BOTH = """
import numpy as np

def attend(query, key, value, mask=None, is_causal=False):
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    seen = np.ones(scores.shape, bool)
    if is_causal:
        seen &= np.tril(seen)
    {with_mask}
        seen &= mask
    e = np.exp(scores) * seen
    return e / np.maximum(e.sum(-1, keepdims=True), 1e-300) @ value
"""


@pytest.mark.parametrize(
    ("with_mask", "verdict"),
    [
        ("if mask is not None:", "ok"),
        ("if mask is not None and not is_causal:", "WRONG"),
        # As that of torch refuses both at once.
        ("assert mask is None or not is_causal\n    if mask is not None:", "-"),
    ],
)
def test_a_mask_and_causal_order_hold_together(attn, mine, with_mask, verdict):
    (mine / "both.py").write_text(BOTH.format(with_mask=with_mask))
    out = attn("check", "both.py:attend", "--as", "scaled-dot-product").out
    (line,) = (line for line in out.splitlines() if line.startswith("boolean mask, causal  "))
    assert line.split()[-1] == verdict
