"""Importing somebody's code into this process, which is there for it alone."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import linecache
import os
import sys
import tokenize
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from attncli.checking.targets.book_modules import StandIn
from attncli.checking.targets.meanings import AS_A_SCRIPT
from attncli.checking.targets.notebooks import cells_of, file_of_cell
from attncli.checking.targets.sources import Passed, Source
from attncli.checking.targets.their_code import running
from attncli.errors import CodeError, TargetError
from attncli.spelling import nearest

_OFTEN_MEANT = ("torch", "jax", "flax", "triton", "tensorflow", "transformers", "onnxruntime")


class Imported(NamedTuple):
    """Somebody's module.

    Attributes
    ----------
    module : module
    failed : list of (str, CodeError, str)
        The cells of a notebook that raise, what, and the text from there on, which never ran; the
        cells after them did.
    passed : list of (str, str)
        Those that were passed over, and why.
    stood_in : list of str
        The modules of the book that are not there, which `book_modules` stands in for.
    """

    module: ModuleType
    failed: list[tuple[str, CodeError, str]]
    passed: Passed
    stood_in: list[str]


def import_source(source: Source) -> Imported:
    """Import what a source is.

    Raises
    ------
    CodeError
        If it raises, or is no Python.
    """
    stand_in = StandIn(source.place)
    sys.meta_path.append(stand_in)
    if source.kind == "notebook":
        return Imported(*_notebook(source.place), stand_in.used)
    module = _file(source.place) if source.kind == "file" else _named(*source[1:])
    return Imported(module, [], [], stand_in.used)


def python_in(path: str) -> str:
    """The Python in a file or a notebook."""
    if path.endswith(".ipynb"):
        return "\n".join(cell.source for cell in cells_of(path))
    with tokenize.open(path) as file:
        return file.read()


@contextlib.contextmanager
def _importing(*folders: str, last: str | None = None) -> Iterator[None]:
    """Let folders be imported from first; afterwards last, for what is imported later."""
    path = sys.path[:]
    sys.path[:] = [*folders, *path, *([last] if last else [])]
    try:
        yield
    finally:
        sys.path[:] = [*path, *(folder for folder in sys.path if folder not in path)]


@contextlib.contextmanager
def _beside(path: str) -> Iterator[None]:
    """Let what lies beside a file, and in the folder above, be imported."""
    folder = os.path.dirname(os.path.abspath(path))
    with _importing(folder, last=os.path.dirname(folder)):
        yield


def _module_name(path: str) -> str:
    """The name of a file's module; numpy.py must not take the place of one that is loaded."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return stem if stem not in sys.modules and stem.isidentifier() else f"_attn_target_{stem}"


def _file(path: str) -> ModuleType:
    root, dotted = _in_package(path)
    if dotted and dotted.partition(".")[0] not in sys.modules:
        with running(path, path), _beside(path), _importing(root):
            return importlib.import_module(dotted)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with running(path, path), _beside(path):
            spec.loader.exec_module(module)
    except CodeError as error:
        if any(getattr(one, "__module__", None) == name for one in vars(module).values()):
            error.hint = error.hint or AS_A_SCRIPT  # it has defined something already
        raise
    return module


def _in_package(path: str) -> tuple[str, str]:
    """The root folder and the dotted name of a file that imports relatively, else empty."""
    try:
        tree = ast.parse(python_in(path))
    except (OSError, SyntaxError, ValueError, RecursionError):  # loading it says why
        return "", ""
    levels = max((x.level for x in ast.walk(tree) if isinstance(x, ast.ImportFrom)), default=0)
    folder, stem = os.path.split(os.path.splitext(os.path.abspath(path))[0])
    parts = [stem]
    while levels >= len(parts) or (levels and os.path.isfile(os.path.join(folder, "__init__.py"))):
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    return folder, ".".join(parts) if levels and all(map(str.isidentifier, parts)) else ""


def _notebook(path: str) -> tuple[ModuleType, list[tuple[str, CodeError, str]], Passed]:
    """Run its cells one after the other, as a notebook does."""
    module = ModuleType(_module_name(path))
    module.__file__ = path
    sys.modules[module.__name__] = module
    vars(module).update(display=print, get_ipython=_Shell)
    failed, passed = list[tuple[str, CodeError, str]](), Passed()
    cells = cells_of(path)
    _remember(path, "\n".join(cell.source for cell in cells))
    for cell in cells:
        if cell.magic:
            passed.append((cell.name, f"%%{cell.magic}"))
            continue
        file = file_of_cell(path, cell)
        _remember(file, cell.source)
        try:
            with running(path, path), _beside(path):
                exec(compile(cell.source, file, "exec", dont_inherit=True), vars(module))
        except CodeError as error:
            if "google.colab" in cell.source and isinstance(error.__cause__, ModuleNotFoundError):
                passed.append((cell.name, "for Google Colab"))
                continue
            cause = error.__cause__
            steps = traceback.walk_tb(cause.__traceback__ if cause is not None else None)
            line = next((at for frame, at in steps if frame.f_code.co_filename == file), 1)
            rest = cell.source.split("\n")[line - 1 :]
            failed.append((cell.name, error, "\n".join(rest)))
    return module, failed, passed


def _remember(file: str, source: str) -> None:
    """Let tracebacks and inspect see the source of what is no file of Python."""
    lines = source.splitlines(keepends=True)
    linecache.cache[file] = len(source), None, lines, file


class _Shell:
    """What stands for the notebook's own shell: whatever it is asked does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


def _named(name: str, what: str) -> ModuleType:
    with _importing(os.getcwd()):
        spec = None
        try:
            spec = importlib.util.find_spec(name)
            absent = spec is None
        except ModuleNotFoundError as error:
            absent = f"{name}.".startswith(f"{error.name}.")
        except Exception:  # of a package that it is in: importing it says why
            absent = False
        if absent:
            says = f"there is no module {name}, here or installed"
            top, dot, rest = name.partition(".")
            if top in _OFTEN_MEANT and importlib.util.find_spec(top) is None:
                raise TargetError(says, hint=f"pip install {top}")
            near = nearest(top, (*_OFTEN_MEANT, "numpy"), slips=1)
            meant = near and near != top and f"is {near}{dot}{rest}:{what} meant?"
            raise TargetError(says, hint=meant or None)
        with running(name, spec.origin if spec is not None else None):
            return importlib.import_module(name)
