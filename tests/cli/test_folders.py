"""A folder is every file in it that holds layers; a file every layer in it that can be judged."""

import csv
import json
import xml.etree.ElementTree as ET

import pytest

RIGHT = "from attncli.layers import WeightSum as Right\nclass WeightSum(Right):\n    pass\n"
WRONG = RIGHT.replace(
    "    pass\n",
    "    def backward(self, dc):\n"
    "        dhs, da = super().backward(dc)\n"
    "        return dhs, 2 * da\n",
)
AFFINE = "class Affine:\n  def forward(self, x): return x\n  def backward(self, d): return d\n"
ATTEND = "def attend(q, k, v): return v\n"


@pytest.fixture
def write(folder):
    def write(name, source):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(source)

    return write


def targets(result):
    return [(one["target"], one["passed"]) for one in result.json["targets"]]


def test_a_folder_is_all_files_in_it_that_hold_layers(attn, write):
    write("ch08/b.py", WRONG)
    write("ch08/a/layer.py", RIGHT)
    cell = {"cell_type": "code", "source": RIGHT}
    write("ch08/c.ipynb", json.dumps({"cells": [cell]}))
    write("ch08/train.py", "raise SystemExit('never run')\ndef train(model, data): pass\n")
    write("ch08/affine.py", AFFINE)
    write("ch08/test_layer.py", "raise SystemExit('never run')\n" + RIGHT)
    write("ch08/tests/layer.py", WRONG)
    write("ch08/.ipynb_checkpoints/c-checkpoint.ipynb", "{")
    write("ch08/env/pyvenv.cfg", "")
    write("ch08/env/lib.py", WRONG)
    write("ch08/notes.txt", "class WeightSum:")
    result = attn("check", "ch08", "--json")
    assert targets(result) == [
        ("ch08/affine.py", None),
        ("ch08/b.py:WeightSum", False),
        ("ch08/c.ipynb:WeightSum", True),
        ("ch08/a/layer.py:WeightSum", True),
        ("ch08/train.py", None),
    ]
    assert result.code == 1
    assert result.err == (
        "note: ch08: passed over .ipynb_checkpoints (hidden), env (packages of others), "
        "test_layer.py, tests (tests), train.py (defines no layer)\n"
        "note: ch08/affine.py: no layer that could be judged\n"
    )


WITHOUT = {
    "helper.py": "raise SystemExit('never run')\ndef load(path): pass\n",
    "affine.py": AFFINE,
}


@pytest.mark.parametrize("named", [["all"], ["all/helper.py", "all/affine.py", "all/mine.py"]])
def test_what_holds_no_layer_stands_in_every_report_as_skipped(attn, folder, write, named):
    write("all/mine.py", RIGHT)
    for name, source in WITHOUT.items():
        write(f"all/{name}", source if named == ["all"] else source.replace("raise", "#"))
    reports = [f"r{ending}" for ending in (".xml", ".json", ".csv", ".md")]
    result = attn("check", *named, *(x for report in reports for x in ("--report", report)))
    assert result.code == 0
    assert result.out.endswith("1 right, 2 skipped\n")
    suites = {one.get("name"): one for one in ET.parse("r.xml").getroot()}
    rows = list(csv.DictReader((folder / "r.csv").read_text().splitlines()))
    told = json.loads((folder / "r.json").read_text())
    assert told["passed"] is True
    for name in WITHOUT:
        case = suites[f"all/{name}"].find("testcase/skipped")
        assert "no layer" in case.get("message")
        (row,) = (row for row in rows if row["target"] == f"all/{name}")
        assert [row[x] for x in ("verdict", "layers", "points")] == ["skipped", "0", "0"]
        (one,) = (one for one in told["targets"] if one["target"] == f"all/{name}")
        assert (one["passed"], one["verdict"]) == (None, "skipped")
        assert f"| all/{name} | skipped | 0 of 0 |" in (folder / "r.md").read_text()
        assert f"#### all/{name}" not in (folder / "r.md").read_text()  # nothing is wrong with it


@pytest.mark.parametrize("ending", ["import os\nos._exit(0)\n", "import nothing_there\n", "def\n"])
def test_what_ends_or_cannot_be_imported_is_a_no_in_every_report(attn, folder, write, ending):
    write("all/mine.py", ending + RIGHT)
    write("all/other.py", RIGHT)
    reports = [f"r{ending}" for ending in (".xml", ".json", ".csv", ".md")]
    result = attn("check", "all", *(x for report in reports for x in ("--report", report)))
    assert result.code == 1
    suites = {one.get("name"): one for one in ET.parse("r.xml").getroot()}
    assert suites["all/mine.py"].find("testcase/failure") is not None
    assert json.loads((folder / "r.json").read_text())["targets"][0]["verdict"] == "wrong"
    assert "all/mine.py,wrong,1,0," in (folder / "r.csv").read_text()
    assert "| all/mine.py | wrong | 0 of 1 |" in (folder / "r.md").read_text()


@pytest.mark.parametrize("source", ["class WeightSum(\n", "1 / 0\n" + RIGHT])
def test_what_cannot_be_imported_is_a_no_and_the_others_are_judged(attn, write, source):
    write("all/bad.py", source)
    write("all/good.py", RIGHT)
    result = attn("check", "all", "--json")
    assert result.code == 1
    assert targets(result) == [("all/bad.py", False), ("all/good.py:WeightSum", True)]


@pytest.mark.parametrize(
    "source",
    [
        "class Mine:\n  def forwrad(self, x): pass\n",
        "class Mine:\n  def __init__(self):\n    def backward(d): pass\n",
        "class Attention: pass\n",
        "if True:\n  def f_forward(x): pass\n  def f_bckward(d, c): pass\n",
        ATTEND,
        "def f(:\n",
    ],
)
def test_what_may_be_meant_to_be_a_layer_is_looked_at(attn, write, source):
    write("all/mine.py", source)
    write("all/other.py", "def f(x): return x\n")
    result = attn("check", "all")
    assert "other.py (defines no layer)" in result.err
    assert "mine.py (defines no layer)" not in result.err


@pytest.mark.parametrize("source", ["def f(x): pass\n", AFFINE, "class Base:\n  x = 1\n"])
def test_a_folder_without_layers_was_not_meant(attn, write, source):
    write("all/mine.py", source)
    result = attn("check", "all")
    assert result.code == 2
    assert result.out == ""
    assert "error: " in result.err
    assert "no layer" in result.err


def test_a_folder_that_is_empty_leaves_the_others_to_be_judged(attn, write):
    write("mine.py", RIGHT)
    write("empty/notes.txt", "")
    result = attn("check", "empty", "mine.py", "--json")
    assert result.code == 2
    assert ("mine.py:WeightSum", True) in targets(result)
    assert "error: empty: no Python file and no notebook in it" in result.err


def test_what_has_no_backward_is_passed_over_by_gradcheck_of_a_whole_file(attn, write):
    write("mine.py", WRONG + ATTEND)
    result = attn("gradcheck", "mine.py", "--json")
    assert targets(result) == [("mine.py:WeightSum", False)]
    assert (
        result.err == "note: mine.py: passed over attend (has no backward that could be proved)\n"
    )
    assert attn("gradcheck", "mine.py:attend").code == 2
    assert attn("gradcheck", ".").code == 1


def test_what_is_not_what_all_are_meant_to_be_is_passed_over(attn, write):
    write("mine.py", RIGHT + "class Other:\n  def forward(self, x): return x\n"
          "  def backward(self, d): return d\n")  # fmt: skip
    result = attn("check", "mine.py", "--as", "weight-sum", "--json")
    assert (result.code, targets(result)) == (0, [("mine.py:WeightSum", True)])
    assert "passed over Other (forward takes x; weight-sum takes hs, a)" in result.err
    assert attn("check", "mine.py:Other", "--as", "weight-sum").code == 2


def test_gradcheck_without_a_target_is_of_no_folder(attn, write):
    write("attn/mine.py", WRONG)
    assert attn("gradcheck", "--layer", "weight-sum").code == 0


@pytest.mark.parametrize(
    ("made_of", "taken", "why"),
    [("", "stuff", "takes stuff, whose shape is not known"),
     ("table", "hs", "what table should be")],
)  # fmt: skip
def test_gradcheck_of_a_file_passes_over_what_it_knows_no_shapes_for(
    attn, write, made_of, taken, why
):
    helper = AFFINE.replace("Affine:", f"Helper:\n  def __init__(self, {made_of}): return None")
    write("mine.py", RIGHT + helper.replace("(self, x): return x", f"(self, {taken}): return 2.0"))
    result = attn("gradcheck", "mine.py")
    assert (result.code, "passed over Helper" in result.err, why in result.err) == (0, True, True)
    alone = attn("gradcheck", "mine.py:Helper")
    assert (alone.code, why in alone.err, "hint:  attn gradcheck" in alone.err) == (2, True, True)
