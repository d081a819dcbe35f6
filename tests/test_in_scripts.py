"""Checks in Python from wherever one writes: a script without a guard, -c, a pipe, a session."""

import code
import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import attncli
from attncli.errors import AttnWarning, CodeError, TargetError

LAYERS = """
from attncli.layers import Attention, TimeAttention

class Right(TimeAttention):
    pass

class Wrong(Attention):
    def backward(self, dout):
        dhs, dh = super().backward(dout)
        return -dhs, dh

class Raising(Attention):
    def forward(self, hs, h):
        raise ValueError("not yet")
"""
OTHER = """
class Other:
    def forward(self, one):
        return one
    def backward(self, dout):
        return dout
"""
SCRIPT = """
import attncli
print("begun")
class Mine(attncli.layers.Attention):
    pass
verdicts = [
    attncli.check("layers.py:Right"), attncli.gradcheck("layers.py:Right"),
    attncli.gradcheck("layers.py:Wrong"),
    attncli.check(Mine), attncli.gradcheck(Mine),
]
print(*map(bool, verdicts))
""".replace("import attncli", "import attncli.layers")
SAID = "begun\nTrue True False True True\n"


@pytest.fixture(autouse=True)
def layers(folder):
    (folder / "layers.py").write_text(LAYERS)
    return folder


def python(*arguments, **more):
    found = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **more
    )
    assert found.stderr == ""
    return found.stdout


def test_from_a_script_without_a_guard(layers):
    (layers / "script.py").write_text(SCRIPT)
    assert python("script.py") == SAID


def test_from_the_command_line_and_from_a_pipe():
    assert python("-c", SCRIPT) == SAID
    assert python("-", input=SCRIPT) == SAID


def test_from_a_session_that_has_no_file():
    """As in a notebook: the text of a cell is compiled, and nothing of it is in a file."""
    session, said = code.InteractiveInterpreter(), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert not session.runcode(compile(SCRIPT, "<cell 1>", "exec"))
    assert said.getvalue() == SAID


def test_a_file_is_a_report_of_reports():
    report = attncli.check("layers.py")
    assert not report
    assert [one.target for one in report.reports] == [
        "layers.py:Right", "layers.py:Wrong", "layers.py:Raising",
    ]  # fmt: skip
    assert [bool(one) for one in report.reports] == [True, False, False]
    assert report.diagnoses[0].mistakes[0].name == "sign of the first gradient reversed"
    assert repr(report).startswith("<CheckReports WRONG: 1 of 3, not layers.py:Wrong against")


@pytest.mark.parametrize("command", ["check", "gradcheck"])
def test_it_says_what_the_command_prints(attn, command):
    report = getattr(attncli, command)("layers.py")
    assert f"{report}\n" == attn(command, "layers.py").out
    assert (
        json.loads(json.dumps(report.to_dict()))["targets"]
        == (attn(command, "layers.py", "--json").json["targets"])
    )
    assert report._repr_html_().count("<pre") == 1


def test_a_file_of_right_layers_passes(layers):
    text = LAYERS.partition("class Wrong")[0] + "class Other(Attention):\n    pass\n"
    (layers / "right.py").write_text(text)
    assert attncli.check("right.py")
    assert attncli.gradcheck("right.py")
    attncli.assert_correct("right.py")
    attncli.assert_gradients("right.py")


@pytest.mark.parametrize("judge", [attncli.check, attncli.gradcheck])
def test_a_path_is_as_good_as_its_text(layers, judge):
    for text in ("layers.py", "."):
        assert [one.target for one in judge(Path(text)).reports] == [
            one.target for one in judge(text).reports
        ]


def test_what_is_no_layer_is_passed_over_with_a_warning(layers):
    (layers / "more.py").write_text(LAYERS + OTHER)
    with pytest.warns(AttnWarning, match="Other"):
        assert len(attncli.check("more.py").reports) == 3


def test_code_that_cannot_be_loaded_and_texts_that_name_nothing_raise(layers):
    (layers / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(CodeError, match="nothing_of_this_name"):
        attncli.check("broken.py")
    with pytest.raises(TargetError, match="no such file"):
        attncli.check("nowhere.py:Attention")


def test_a_folder_is_all_its_files(layers):
    (layers / "sub").mkdir()
    right = "from attncli.layers import Attention\nclass Mine(Attention):\n"
    right += "    def forward(self, hs, h):\n        return super().forward(hs, h)\n"
    for name in ("one", "two"):
        (layers / "sub" / f"{name}.py").write_text(right)
    (layers / "sub" / "broken.py").write_text("class Attention:\n    def forward(\n")
    report = attncli.check("sub")
    assert [bool(one) for one in report.reports] == [False, True, True]
    assert "SyntaxError" in report.reports[0].line
