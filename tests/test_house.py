"""How the house is built: who imports whom, and what files are called.

Imports inside functions and under ``TYPE_CHECKING`` count, and so does the name of a module that
stands in a table and is imported when it is needed.
"""

import ast
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attncli

PACKAGE = Path(attncli.__file__).parent
SMALL = 40  # lines


def _name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree, known):
    """Give the modules that a module's code names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            members = (f"{node.module}.{one.name}" for one in node.names)
            yield from (member if member in known else node.module for member in members)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (text for text in node.value.split(":")[:1] if text in known)


@cache
def imports():
    known = set(FILES)
    return {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8")), known)) - {name}
        for name, path in FILES.items()
    }


def circle(graph):
    """Give the modules of a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def importers(graph):
    return {name: [other for other, found in graph.items() if name in found] for name in graph}


def test_no_file_is_in_a_circle():
    assert circle(imports()) == []


def test_every_file_is_called_after_what_lives_in_it():
    """So no two have the same name, whatever folder they are in."""
    names = Counter(path.stem for path in FILES.values() if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_small_file_is_there_for_a_single_other_one():
    """A few lines that one module needs are a function of that module."""
    graph = imports()
    small = {
        name: others[0]
        for name, others in importers(graph).items()
        if len(others) == 1
        and FILES[name].stem != "__init__"
        and len(FILES[name].read_text(encoding="utf-8").splitlines()) < SMALL
        and f"{name}:" not in FILES["attncli.cli.main"].read_text(encoding="utf-8")  # a command
    }
    assert small == {}


def test_every_file_is_needed():
    """By another one, or by who runs ``python -m attncli``."""
    run = {"attncli.__main__"}
    alone = {name for name, others in importers(imports()).items() if not others}
    assert {name for name in alone if FILES[name].stem != "__init__"} - run == set()


def test_the_walk_finds_imports_wherever_they_are():
    known = {"attncli.a", "attncli.b", "attncli.b.c", "attncli.d", "attncli.e"}
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "import attncli.a\n"
        "if TYPE_CHECKING:\n"
        "    from attncli.b import c\n"
        "def function():\n"
        "    from attncli.d import thing\n"
        "TABLE = {'x': 'attncli.e:thing'}\n"
    )
    assert set(imported(tree, known)) == {"attncli.a", "attncli.b.c", "attncli.d", "attncli.e"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


MULTIPLY = {
    "matmul", "vecdot", "matvec", "vecmat", "dot", "vdot", "inner", "einsum", "einsum_path",
    "tensordot", "multi_dot",
}  # fmt: skip


def multiplied(tree):
    """Give the lines on which matrices are multiplied by anybody but `products`."""
    for node in ast.walk(tree):
        by_sign = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult)
        by_name = isinstance(node, ast.Attribute) and node.attr in MULTIPLY
        imported = isinstance(node, ast.alias) and node.name in MULTIPLY
        if by_sign or imported or (by_name and ast.unparse(node.value) != "products"):
            yield node.lineno


def test_one_file_of_the_core_multiplies_matrices():
    """Who does it is chosen there alone; MKL is one of them."""
    trees = {
        path.name: ast.parse(path.read_text(encoding="utf-8"))
        for path in (PACKAGE / "core").glob("*.py")
    }
    found = {name for name, tree in trees.items() if any(multiplied(tree))}
    assert found == {"products.py", "mkl.py"}


def test_products_are_found_however_they_are_written():
    lines = (
        "a @ b", "a @= b", "np.matmul(a, b)", "a.dot(b)", "from numpy import einsum as e",
        "np.linalg.multi_dot(c)", "products.matmul(a, b)", "a * b",
    )  # fmt: skip
    assert sorted(multiplied(ast.parse("\n".join(lines)))) == [1, 2, 3, 4, 5, 6]
