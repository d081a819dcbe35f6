"""Notebooks: cells in order, without what only a notebook understands."""

import json

import pytest

from attncli.checking.targets.loading import load_targets
from attncli.checking.targets.notebooks import python_of
from attncli.errors import CodeError, TargetError

WEIGHT_SUM = """\
class WeightSum:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, hs, a):
        self.cache = hs, a
        return np.sum(hs * a[:, :, None], axis=1)

    def backward(self, dc):
        hs, a = self.cache
        return dc[:, None, :] * a[:, :, None], np.sum(dc[:, None, :] * hs, axis=2)
"""
UPLOAD = """\
%matplotlib inline
import numpy as np

try:
    from google.colab import files
    print('Google Colab. 上での実行です')
    files.upload()
    !mkdir common
    !mv *.py ./common
except:
    print('ローカル環境での実行です')
"""


def notebook(*cells, **more):
    """Cells of code, or of the kind that is given with them."""
    told = [
        {"cell_type": kind, "metadata": {}, "source": source, "outputs": [{"data": "ignored"}]}
        for kind, source in (cell if isinstance(cell, tuple) else ("code", cell) for cell in cells)
    ]
    return json.dumps({"cells": told, "metadata": {}, "nbformat": 4, **more})


@pytest.fixture
def write(folder):
    def write(text, name="mine.ipynb"):
        (folder / name).write_text(text, encoding="utf-8")
        return name

    return write


def names(text):
    return [target.name for target in load_targets(text)]


def test_the_cells_of_a_course_are_checked_as_they_are(attn, write):
    calls = "ws = WeightSum()\nws.forward(np.ones((3, 5, 4)), np.ones((3, 5))).shape\n"
    write(notebook(("markdown", "# 8.1\n"), UPLOAD, WEIGHT_SUM.splitlines(True), calls))
    result = attn("check", "mine.ipynb")
    assert result.code == 0
    assert result.out.startswith("mine.ipynb:WeightSum")
    assert result.err == "mine.ipynb prints: ローカル環境での実行です\n"
    assert attn("gradcheck", "mine.ipynb:WeightSum").code == 0


def test_what_is_wrong_in_a_notebook_is_named(attn, write):
    write(notebook("import numpy as np", WEIGHT_SUM.replace("np.sum(hs", "np.mean(hs")))
    result = attn("check", "mine.ipynb:WeightSum")
    assert result.code == 1
    assert "mean instead of sum over T" in result.out


def test_a_later_cell_replaces_what_an_earlier_one_defined(write):
    first = WEIGHT_SUM.replace("hs, a", "x, y")
    write(notebook("import numpy as np", first, WEIGHT_SUM))
    (target,) = load_targets("mine.ipynb")
    assert target.inputs == ("hs", "a")


@pytest.mark.parametrize("form", [1, 2])
def test_notebooks_of_format_3_have_sheets_and_input(write, form):
    cells = [
        {"cell_type": "code", "language": "python", "input": text.splitlines(True)}
        for text in ("import numpy as np\n", WEIGHT_SUM)
    ]
    sheets = [{"cells": cells}] if form == 1 else [{"cells": [cell]} for cell in cells]
    write(json.dumps({"worksheets": sheets, "metadata": {"name": ""}, "nbformat": 3}))
    assert names("mine.ipynb") == ["WeightSum"]


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("x = 1\n%matplotlib inline\n!ls\nnp.sum?\n?np\n%%", "x = 1\npass\npass\npass\npass\npass"),
        (
            "if x:\n    %cd ..\n    !pip install a \\\n       b\ny = 5",
            "if x:\n    pass\n    pass\n\ny = 5",
        ),
        ("files = !ls\nout, n = %sx ls\n", "files = []\nout, n = []\n"),
        ("%time out = f(x)\n", "out = f(x)\n"),
        ("s = '''\n!a\n%b\n'''\n!c", "s = '''\n!a\n%b\n'''\npass"),
        ("x = (a\n  % b\n)\n!c", "x = (a\n  % b\n)\npass"),
        ("x = a \\\n  % b\n!c", "x = a \\\n  % b\npass"),
        ("x = 'it''s ('  # why (?\n!c\n# really?", "x = 'it''s ('  # why (?\npass\n# really?"),
        ("x = 7 % 3\ny = x != 3\n%x", "x = 7 % 3\ny = x != 3\npass"),
        ("\n%%time\nx = 1\n!c", "\n\nx = 1\npass"),
        ("%%capture out\n%%timeit -n 1\nx = 1", "\n\nx = 1"),
    ],
)
def test_magics_shell_lines_and_questions_are_passed_over(cell, python):
    assert python_of(cell) == (python, "")


@pytest.mark.parametrize("magic", ["bash", "html", "writefile other.py", "javascript", "R"])
def test_cells_of_another_language_are_passed_over_and_that_is_said(write, magic):
    write(notebook("import numpy as np", f"%%{magic}\nx = <p>", WEIGHT_SUM))
    (target,) = load_targets("mine.ipynb", note=(said := []).append)
    assert target.name == "WeightSum"
    assert said == [f"mine.ipynb: passed over code cell 2 (%%{magic.split()[0]})"]


def test_what_a_notebook_has_beside_python_is_there(write):
    write(
        notebook(
            "import numpy as np\ndisplay(1)\nget_ipython().run_line_magic('a', 'b')", WEIGHT_SUM
        )
    )
    assert names("mine.ipynb") == ["WeightSum"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("x = 1\n1 / 0", "raises ZeroDivisionError: division by zero (code cell 2, line 2: 1 / 0)"),
        ("def f():\n  return nothing\nf()", "(code cell 2, line 2: return nothing)"),
        ("name = input('name? ')", "EOF when reading a line (code cell 2, line 1: name = input("),
        ("class WeightSum: pass\n1 / 0", "division by zero (code cell 2, line 2: 1 / 0)"),
    ],
)
def test_a_cell_that_raises_is_a_note_and_the_layers_are_judged(attn, write, cell, said):
    for cells in ([cell, ("raw", "!"), WEIGHT_SUM], [WEIGHT_SUM, cell.replace("class", "#")]):
        write(notebook("import numpy as np", *cells))
        for text in ("mine.ipynb", "mine.ipynb:WeightSum"):
            result = attn("check", text, "--json")
            (layer,) = result.json["targets"]
            assert (result.code, layer["passed"]) == (0, True)
            assert "note: mine.ipynb raises " in result.err
            assert said.replace("cell 2", "cell 2" if cells[0] == cell else "cell 3") in result.err


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("x = 1\ndef f(:\n", "raises SyntaxError: invalid syntax (mine.ipynb code cell 2, line 2)"),
        ("1 / 0\nclass Attention:\n  def forward(self): pass", "(code cell 2, line 1: 1 / 0)"),
        ("class Attention(Nothing):\n  def forward(self): pass", "'Nothing' is not defined"),
        ("@nothing\ndef attend(query, key, value): pass", "'nothing' is not defined"),
    ],
)
def test_a_cell_that_would_have_defined_a_layer_is_a_no(attn, write, cell, said):
    write(notebook("import numpy as np", cell, WEIGHT_SUM))
    result = attn("check", "mine.ipynb", "--json")
    layer, broken = result.json["targets"]
    assert (result.code, layer["passed"], broken["passed"]) == (1, True, False)
    assert said in broken["error"]
    named = attn("check", "mine.ipynb:WeightSum")
    assert named.code == 0
    assert said in named.err


def test_a_cell_for_colab_alone_is_passed_over(write):
    mount = "from google.colab import drive\ndrive.mount('/content/drive')"
    write(notebook(mount, "import numpy as np", WEIGHT_SUM))
    (target,) = load_targets("mine.ipynb", note=(said := []).append)
    assert target.fault is None
    assert said == ["mine.ipynb: passed over code cell 1 (for Google Colab)"]


def test_a_figure_waits_for_nobody(write):
    write(notebook("import os, numpy as np\nassert os.environ['MPLBACKEND'] == 'agg'", WEIGHT_SUM))
    assert names("mine.ipynb") == ["WeightSum"]


def test_a_name_that_a_cell_would_have_defined_is_not_there_since_it_raises(write):
    write(notebook(WEIGHT_SUM + "class Attention(Nothing): pass"))
    with pytest.raises(CodeError, match="name 'Nothing' is not defined"):
        load_targets("mine.ipynb:Attention")
    assert names("mine.ipynb:WeightSum") == ["WeightSum"]


def test_a_method_that_is_missing_is_found_in_its_cell(write):
    hidden = WEIGHT_SUM.replace("    def backward", "        def backward")
    hidden = hidden.replace("        hs, a = self.cache", "            hs, a = self.cache")
    hidden = hidden.replace("        return dc", "            return dc")
    write(notebook("import numpy as np\n\n\n", hidden))
    (target,) = load_targets("mine.ipynb")
    assert "backward is inside forward, indented one step too far" in str(target.fault)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no notebook: Expecting"),
        ("", "is no notebook"),
        ("[1]", "is no notebook: expected an object with cells"),
        ('{"cells": [{"cell_type": "code", "source": 3}]}', "is no notebook"),
        ('{"cells": 3}', "is no notebook"),
        ("\udcff", "is no notebook: 'utf-8' codec"),
        ("[" * 100_000, "is no notebook"),
        (notebook("x <- 1", metadata={"kernelspec": {"language": "R"}}), "is a notebook of r"),
    ],
)
def test_what_is_no_notebook_is_said_in_a_line(attn, folder, text, said):
    (folder / "mine.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    result = attn("check", "mine.ipynb", columns=200)
    assert result.code == 1
    assert said in result.out
    assert "Traceback" not in result.err
    with pytest.raises(CodeError) as error:
        load_targets("mine.ipynb")
    assert "\n" not in str(error.value)


def test_without_cells_there_is_no_layer(write):
    write(notebook(("markdown", "x")))
    with pytest.raises(TargetError, match="no layer found") as error:
        load_targets("mine.ipynb")
    assert not isinstance(error.value, CodeError)
