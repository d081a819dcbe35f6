"""``attn gradcheck TARGET``."""

import pytest

RIGHT = """
import numpy as np

class Square:
    def __init__(self):
        self.params, self.grads = [], []
    def forward(self, h):
        self.h = h
        return h ** 2
    def backward(self, dout):
        return 2 * self.h * dout
"""
WRONG = RIGHT.replace("return 2 *", "return 3 *").replace("Square", "Wrong")


@pytest.fixture
def mine(folder):
    (folder / "mine.py").write_text(RIGHT)
    (folder / "wrong.py").write_text("print('loading')\n" + RIGHT + WRONG)
    return folder


def test_a_right_layer(attn, mine):
    result = attn("gradcheck", "mine.py", columns=80)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == (
        "mine.py:Square · complex step · N=3 T_dec=5 T_enc=7 H=4 · float64 · seed 0"
    )
    assert "12 gradients right" in result.out


@pytest.mark.parametrize("columns", [None, 30, 80, 200])
def test_a_wrong_one_is_named_among_several(attn, mine, columns):
    result = attn("gradcheck", "wrong.py", columns=columns)
    assert (result.code, result.err) == (1, "wrong.py prints: loading\n")
    assert "dh: off by the factor 1.5" in result.out
    assert "1 of 1 gradient tensors wrong" in result.out


def test_the_errors_are_drawn_as_shades(attn, mine):
    result = attn("gradcheck", "wrong.py:Wrong", columns=80, colors="truecolor")
    assert "48;2;" in result.out
    assert "1e-09" in result.out
    large = attn("gradcheck", "wrong.py:Wrong", "--N", 90, "--H", 80, columns=40)
    assert large.code == 1
    assert "columns 0 to 31 of 80" in " ".join(large.out.split())
    assert max(map(len, large.out.splitlines())) <= 40


def test_json_holds_every_report(attn, mine):
    result = attn("gradcheck", "wrong.py", "--json")
    assert (result.code, result.json["passed"]) == (1, False)
    right, wrong = result.json["targets"]
    assert (right["passed"], wrong["passed"]) == (True, False)
    assert wrong["checks"][0]["patterns"] == ["off by the factor 1.5"]
    assert len(wrong["checks"][0]["errors"]) == 3


def test_options_reach_the_check(attn, mine):
    report = attn(
        "gradcheck", "mine.py:Square", "--method", "central", "--tol", "1e-3", "--seed", 3,
        "--dtype", "float32", "--N", 2, "--H", 9, "--json",
    ).json  # fmt: skip
    (target,) = report["targets"]
    assert (target["method"], target["tolerance"], target["seed"]) == ("central", 1e-3, 3)
    assert (target["dtype"], target["checks"][0]["elements"]) == ("float32", 18)


def test_their_traceback_is_shown_trimmed(attn, folder):
    (folder / "mine.py").write_text(RIGHT.replace("2 * self.h", "self.nothing"))
    result = attn("gradcheck", "mine.py")
    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "attncli" not in result.err
    assert "WRONG: backward raises AttributeError" in result.out


def test_constructor_arguments_that_cannot_be_guessed(attn, folder):
    (folder / "mine.py").write_text(RIGHT + RIGHT.replace("(self):", "(self, table):", 1))
    result = attn("gradcheck", "mine.py")
    assert result.code == 2
    assert "Square(table) cannot be called: nothing says what table should be" in result.err
    assert "hint:  attn gradcheck mine.py --arg table=4" in result.err
    assert attn("gradcheck", "mine.py", "--arg", "table=random:4,4").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["mine.py", "--layer", "softmax"],
        ["--dtype", "float32"],
        ["--input", "x=2"],
        ["mine.py", "--input", "x"],
        ["mine.py", "--input", "x=2,a"],
        ["mine.py", "--input", "x=0"],
        ["none.py"],
    ],
)
def test_what_makes_no_sense_is_refused(attn, mine, arguments):
    result = attn("gradcheck", *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")


STEEP = """
import numpy as np

class Sine:
    def forward(self, h):
        self.h = h
        return np.sin(90 * h)
    def backward(self, dout):
        return 90 * np.cos(90 * self.h) * dout
"""


def test_central_differences_bear_a_steep_layer(attn, folder):
    """Of sin(kh) they are off by (k · step)⁴ / 480: twice the step would not do."""
    (folder / "mine.py").write_text(STEEP)
    result = attn("gradcheck", "mine.py", "--method", "central", "--json")
    assert result.code == 0, result.out
    (check,) = result.json["targets"][0]["checks"]
    assert check["relative_error"] < 1e-6


TWICE = """
import numpy as np

class Twice:
    def forward(self, h):
        return 2 * h
    def backward(self, dout):
        return 2 * dout
"""


def test_differences_are_divided_by_the_step_as_it_is_after_rounding(attn, folder):
    """Doubling rounds nothing: whatever the difference is off by comes from the step."""
    (folder / "mine.py").write_text(TWICE)
    options = ("--method", "central", "--dtype", "float32", "--json")
    result = attn("gradcheck", "mine.py", *options)
    assert result.code == 0, result.out
    (check,) = result.json["targets"][0]["checks"]
    assert check["relative_error"] < 1e-12
