"""Finding a layer in somebody's file."""

import sys

import numpy as np
import pytest

from attncli.checking.targets.loading import load_targets, targets_of
from attncli.errors import CodeError, TargetError

LAYER = """
class Layer:
    def __init__(self):
        self.params, self.grads = [], []
    def forward(self, hs, h, mask=None):
        return h
    def backward(self, dout):
        return dout, dout
"""
SIZES = {"N": 3, "T_dec": 5, "T_enc": 7, "H": 4}


@pytest.fixture
def write(folder, monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def write(source, name="mine.py"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(source)
        return name

    return write


def names(text):
    return [target.name for target in load_targets(text)]


def notes(text):
    load_targets(text, note=(said := []).append)
    return said


def test_every_layer_in_a_file_in_its_order(write):
    more = LAYER.replace("Layer", "Other") + "def f(h): pass\ndef f_backward(dout, cache): pass\n"
    helpers = "import numpy as np\nfrom attncli.layers import Attention\nclass Helper: pass\n"
    assert names(write(helpers + LAYER + more)) == ["Layer", "Other", "f"]


def test_what_only_looks_like_a_layer_is_passed_over(write):
    other = "class Timer:\n  def forward(self): pass\n  def backward(self): pass\n"
    assert names(write(other + LAYER)) == ["Layer"]


def test_one_by_its_name_even_if_it_is_imported_there(write):
    write(LAYER + "from attncli.layers import Attention\n")
    assert names("mine.py:Layer") == ["Layer"]
    assert names("mine.py:Attention") == ["Attention"]


def test_a_module_of_the_working_directory(write):
    write("", "package/__init__.py")
    write(LAYER, "package/module.py")
    assert names("package.module:Layer") == ["Layer"]


def test_arguments_without_a_default_are_inputs_and_the_others_options(write):
    (target,) = load_targets(write(LAYER))
    assert (target.inputs, target.options) == (("hs", "h"), {"mask": None})
    assert target.shapes(SIZES) == {"hs": (3, 7, 4), "h": (3, 4)}


def test_its_folder_and_the_one_above_can_be_imported_from(write):
    write("VALUE = 1\n", "ch08/beside.py")
    write("", "common/__init__.py")
    write("VALUE = 2\n", "common/layers.py")
    write("import beside\nfrom common.layers import VALUE\n" + LAYER, "ch08/mine.py")
    assert names("ch08/mine.py") == ["Layer"]


def test_nothing_is_written_beside_it(write, folder):
    write("VALUE = 1\n", "beside.py")
    write("VALUE = 2\n", "later.py")
    body = "        import later\n        return h\n"
    (target,) = load_targets(
        write("import beside\n" + LAYER.replace("        return h\n", body, 1))
    )
    target.start(SIZES).forward(np.ones(1), np.ones(2))
    assert sorted(path.name for path in folder.iterdir()) == ["beside.py", "later.py", "mine.py"]


def test_a_file_may_be_called_like_a_module_that_is_loaded(write):
    assert names(write(LAYER, "numpy.py")) == ["Layer"]
    assert hasattr(sys.modules["numpy"], "array")


def test_what_it_prints_is_no_result(write, capsys):
    load_targets(write("print('hello')\n" + LAYER))
    assert capsys.readouterr() == ("", "mine.py prints: hello\n")


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("none.py", "", "none.py: no such file, expected FILE.py"),
        ("mine", "", "'mine' names no target"),
        ("none.ipynb", "", "none.ipynb: no such file"),
        ("mine.py:", "", "names no target"),
        ("mine.py:1", "", "names no target"),
        ("mine.py", "x = 1", "no layer found: expected a class with forward and backward"),
        ("mine.py:Nothing", LAYER, "holds nothing named Nothing"),
        ("mine.py:x", "x = 1", "is int, expected a class with forward"),
        ("mine.py", "import nothing_of_this_name", "raises ModuleNotFoundError"),
        ("mine.py", "def f(:", "raises SyntaxError"),
        ("mine.py", "import sys; sys.exit(3)", "raises SystemExit"),
        ("mine.py", "1 / 0", "raises ZeroDivisionError"),
        ("no.such.module:X", "", "no.such.module"),
    ],
)
def test_what_cannot_be_found_is_said(write, text, source, message):
    write(source)
    with pytest.raises(TargetError, match=message.replace("(", r"\(")):
        load_targets(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mien.py:Layer", "is mine.py:Layer meant?"),
        ("ch08/mine", "is ch08/mine.py meant?"),
        ("mine.py:Laier", "is mine.py:Layer meant?"),
        ("mine.py:Other", "is mine.py meant?"),
        ("mine", "is mine.py meant?"),
        ("mein:Layer", None),
        ("mine.inner:Layer", None),
        ("mine:Laier", "is mine:Layer meant?"),
    ],
)
def test_what_may_be_meant_instead_is_said(write, text, hint):
    write(LAYER)
    write(LAYER, "ch08/mine.py")
    with pytest.raises(TargetError) as error:
        load_targets(text)
    assert not isinstance(error.value, CodeError)
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Attention:\n  def forward(self, hs, h): return h\n", "Attention has no backward"),
        ("class Softmax: pass\n", "Softmax has no forward and no backward"),
        (LAYER.replace("def forward", "def forwrad"), "it has forwrad: is forward meant?"),
        (LAYER.replace("def backward", "def backwards"), "it has backwards: is backward meant?"),
        (
            LAYER.replace("    def backward", "        def backward").replace(
                "        return dout", "            return dout"
            ),
            "Layer has no backward; backward is inside forward, indented one step too far",
        ),
        ("class Mine:\n  def forward(self): pass\n  def backward(self, d): pass", "takes no array"),
        ("def f(q, k, v): return v\ndef f_bckward(d, c): pass", "f_bckward: is f_backward meant?"),
    ],
)
def test_what_a_layer_lacks_is_its_fault(write, source, said):
    (target,) = load_targets(write(source))
    assert said in str(target.fault)
    with pytest.raises(CodeError) as error:
        target.start(SIZES)
    assert error.value is target.fault


def test_functions_without_backward_are_targets_where_there_is_nothing_else(write):
    alone = "def attend(Q, K, V, mask=None): return V\ndef helper(x): return x\n"
    (target,) = load_targets(write(alone))
    assert (target.name, target.has_backward) == ("attend", False)
    combine = alone.replace("attend", "combine")
    assert names(write(combine)) == ["combine"]
    assert names(write(combine + LAYER)) == ["Layer"]


def test_the_traceback_is_of_their_file_alone(write):
    with pytest.raises(TargetError) as error:
        load_targets(write("def f():\n    return 1 / 0\nf()\n"))
    text = "\n".join(error.value.trace)
    assert "attncli" not in text
    assert "importlib" not in text
    assert text.count("mine.py") == 2
    assert text.endswith("ZeroDivisionError: division by zero")


def test_constructor_arguments_are_guessed_where_their_names_say_them(write):
    source = LAYER.replace("__init__(self)", "__init__(self, hidden_size, table, depth=2)")
    source = source.replace("[], []", "[table, hidden_size], []")
    (target,) = load_targets(write(source))
    with pytest.raises(TargetError, match="cannot be called: nothing says what table should be"):
        target.start(SIZES)
    params = target.start(SIZES, {"table": (4, 2)}).held("params")
    assert params[0].shape == (4, 2)
    assert params[1] == 4


def test_unknown_inputs_need_a_shape(write):
    (target,) = load_targets(write(LAYER.replace("hs, h", "grid, h")))
    with pytest.raises(TargetError, match="forward takes grid, whose shape is not known"):
        target.shapes(SIZES)
    assert target.shapes(SIZES, {"grid": (2, 2)})["grid"] == (2, 2)


def test_a_known_layer_knows_its_inputs_by_their_place(write):
    (target,) = load_targets(
        write(LAYER.replace("Layer", "MyTimeAttention").replace("hs, h,", "enc, dec,"))
    )
    assert target.shapes(SIZES) == {"enc": (3, 7, 4), "dec": (3, 5, 4)}


def test_in_python_a_class_an_instance_and_functions_are_targets_too():
    from attncli.core import attention, attention_backward
    from attncli.layers import Attention

    for thing in (Attention, Attention(), (attention, attention_backward)):
        assert targets_of(thing)[0].inputs[0] in ("hs", "query")
    with pytest.raises(TargetError, match="is no layer"):
        targets_of(3)


def test_what_is_private_is_checked_by_its_name_alone(write):
    private = LAYER.replace("Layer", "_Base")
    pair = "def _f(h): pass\ndef _f_backward(dout, cache): pass\n"
    public = "def f(h): pass\ndef f_backward(dout, cache): pass\n"
    write(private + LAYER + pair + public)
    assert names("mine.py") == ["Layer", "f"]
    assert names("mine.py:_Base") == ["_Base"]
    assert names("mine.py:_f") == ["_f"]
    write(private + pair, "base.py")
    with pytest.raises(TargetError, match="no layer found"):
        load_targets("base.py")


PAIR = "def {0}(h): return h, None\ndef {1}(dout, cache): return dout\n"


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("attend", "attend_backward"),
        ("attend_forward", "attend_backward"),
        ("attend_fwd", "attend_bwd"),
        ("forward_attend", "backward_attend"),
        ("attendForward", "attendBackward"),
    ],
)
def test_two_functions_are_one_target_by_any_of_their_names(write, forward, backward):
    write(PAIR.format(forward, backward) + "def attention_backward(dout, cache): return dout\n")
    assert names("mine.py") == [forward]
    for name in dict.fromkeys(("attend", forward, backward)):
        (target,) = load_targets(f"mine.py:{name}", note=(said := []).append)
        assert target.has_backward
        assert target.where == f"mine.py:{name}"
        if name != forward or name != "attend":
            assert said == [f"mine.py:{name}: {forward} goes with {backward}"]
        else:
            assert said == []


def test_forward_and_backward_may_be_all_that_they_are_called(write):
    assert names(write(PAIR.format("forward", "backward"))) == ["forward"]


def test_a_function_with_a_pair_of_its_name_beside_stands_alone(write):
    write("def attend(query, key, value): return value\n" + PAIR.format("attend_fwd", "attend_bwd"))
    assert names("mine.py") == ["attend", "attend_fwd"]
    assert [one.has_backward for one in load_targets("mine.py")] == [False, True]


def test_what_is_passed_over_is_said_with_why(write):
    write(
        LAYER
        + "class Config: pass\nclass Timer:\n  def forward(self): pass\n"
        + "  def backward(self): pass\ndef softmax(x): return x\ndef mix(q, k, v): return v\n"
        + "def tick_backward(d, c): return d\n"
    )
    assert notes("mine.py") == [
        "mine.py: passed over Config (no forward), Timer (forward takes no array), softmax "
        "(no backward, and no query, key and value), mix (no backward), tick_backward (no "
        "forward of its name)"
    ]
    assert notes("mine.py:Layer") == []


def test_what_is_named_may_be_anything_that_can_be_called(write):
    write(
        "from functools import partial\n"
        + LAYER
        + "made = Layer()\nhalf = partial(lambda q, k, v, scale: v, scale=0.5)\n"
        "class Outer:\n  Inner = Layer\n  @staticmethod\n  def attend(q, k, v): return v\n"
        "class Called:\n  def __call__(self, q, k, v): return v\ncalled = Called()\n"
        "class Learnt:\n  def forward(self, q, k, v): return v\nlearnt = Learnt()\n"
    )
    found = {
        name: (target.inputs, target.has_backward)
        for name in ("made", "half", "Outer.Inner", "Outer.attend", "called", "learnt")
        for target in load_targets(f"mine.py::{name}")
    }
    attends = ("q", "k", "v"), False
    assert found == {
        "made": (("hs", "h"), True),
        "half": attends,
        "Outer.Inner": (("hs", "h"), True),
        "Outer.attend": attends,
        "called": attends,
        "learnt": attends,
    }


def test_a_file_of_a_package_may_import_relatively(write):
    write("", "mine/__init__.py")
    write("from ..beside import VALUE\n", "mine/inner/other.py")
    write("VALUE = 1\n", "mine/beside.py")
    write(
        "from .other import VALUE\nfrom mine.beside import VALUE as same\n" + LAYER,
        "mine/inner/my.py",
    )
    assert names("mine/inner/my.py") == ["Layer"]


def test_modules_of_one_name_in_two_folders_do_not_mix(write):
    for number, folder in enumerate("ab"):
        write(f"NAME = 'Layer{number}'\n", f"{folder}/beside.py")
        write(
            "from beside import NAME\n" + LAYER + "globals()[NAME] = Layer\n", f"{folder}/mine.py"
        )
    for folder, name in (("a", "Layer0"), ("b", "Layer1"), ("a", "Layer0")):
        assert names(f"{folder}/mine.py:{name}") == ["Layer"]


def test_a_package_that_raises_is_at_fault_and_not_who_asks(write):
    write("1 / 0\n", "package/__init__.py")
    write(LAYER, "package/mine.py")
    with pytest.raises(CodeError, match="ZeroDivisionError"):
        load_targets("package.mine:Layer")
    write("import nothing_of_this_name\n", "package/__init__.py")
    with pytest.raises(CodeError, match="No module named 'nothing_of_this_name'"):
        load_targets("package.mine:Layer")


def test_what_raises_below_its_layers_is_told_where_a_script_belongs(write):
    for source, told in ((LAYER + "1 / 0\n", True), ("1 / 0\n" + LAYER, False)):
        write(source)
        with pytest.raises(CodeError, match="division by zero") as error:
            load_targets("mine.py")
        assert ("if __name__ == '__main__':" in (error.value.hint or "")) is told
