"""Where somebody's code is: what a text names, and which files a folder holds."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Literal, NamedTuple

from attncli.errors import TargetError
from attncli.files.source import existing
from attncli.spelling import nearest

Note = Callable[[str], None]
Passed = list[tuple[str, str]]

_FORMS = "expected FILE.py, FILE.ipynb, a folder, FILE:NAME or MODULE:NAME"
_IN_FILE = re.compile(r"(.+?\.(?:py|ipynb))(?:::?(.*))?", re.DOTALL)
_IN_MODULE = re.compile(r"([^:]+)::?([^:]+)")
_TESTS = re.compile(r"tests?|test_.*\.py|.*_test\.py|conftest\.py")


class Source(NamedTuple):
    """Where somebody's code is.

    Attributes
    ----------
    kind : {"file", "notebook", "module"}
    place : str
        Its path, or its dotted name.
    name : str
        The one thing in it that is meant, dotted if it is in a class; empty for all.
    """

    kind: Literal["file", "notebook", "module"]
    place: str
    name: str = ""


def source_of(text: str) -> Source:
    """Part the place from the name; a drive letter's colon is no separator.

    Raises
    ------
    TargetError
        If it names no place, or one where there is nothing.

    Examples
    --------
    >>> source_of("package.module:Layer")
    Source(kind='module', place='package.module', name='Layer')
    """
    if in_file := _IN_FILE.fullmatch(text):
        place, name = existing(in_file[1]), in_file[2]
        kind: Literal["file", "notebook"] = "file" if place.endswith(".py") else "notebook"
        if not os.path.isfile(place):
            behind = f":{name}" if name else ""
            raise TargetError(f"{place}: no such file, {_FORMS}", hint=_near(place, behind))
        if name is None or _is_dotted(name):
            return Source(kind, place, name or "")
    in_module = _IN_MODULE.fullmatch(text)
    if in_module and all(map(_is_dotted, in_module.groups())):
        return Source("module", *in_module.groups())
    raise TargetError(f"{text!r} names no target: {_FORMS}", hint=_near(text))


def is_there(text: str) -> bool:
    """Whether there is a place that a text names, as far as that is seen without loading it."""
    if os.path.isdir(existing(text)):
        return True
    try:
        source = source_of(text)
    except TargetError:
        return False
    top = source.place.partition(".")[0]
    if source.kind != "module" or top in sys.modules:
        return True
    return os.path.exists(top) or os.path.exists(f"{top}.py") or find_spec(top) is not None


def compiles(text: str) -> bool:
    """Whether what a text names is likely to be compiled by JAX, which takes long."""
    source, written = source_of(text), ""
    if source.kind != "module":
        with contextlib.suppress(OSError), open(source.place, "rb") as file:
            written = file.read().decode("latin-1")
    return any(name in text or name in written for name in ("jax", "flax"))


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _near(path: str, behind: str = "") -> str | None:
    """A file that may be meant, as a question."""
    folder, file = os.path.split(path)
    try:
        there = [one for one in os.listdir(folder or ".") if one.endswith((".py", ".ipynb"))]
    except OSError:
        return None
    whole = [file + ending for ending in (".py", ".ipynb") if file + ending in there]
    near = whole[0] if whole else nearest(file, there)
    return None if near is None else f"is {os.path.join(folder, near)}{behind} meant?"


def files_in(folder: str, passed: Passed) -> Iterator[str]:
    """Give the Python files and notebooks below a folder, sorted.

    Parameters
    ----------
    folder : str
    passed : list of (str, str)
        Gets what is passed over, and why.
    """
    for place, folders, files in os.walk(folder):
        kept = []
        for name in sorted(folders + [file for file in files if file.endswith((".py", ".ipynb"))]):
            path = os.path.join(place, name)
            if name == "__pycache__":
                continue
            if why := _why_passed(path, name):
                passed.append((os.path.relpath(path, folder), why))
            else:
                kept.append(name)
        folders[:] = [name for name in kept if name in folders]
        yield from (os.path.join(place, name) for name in kept if name in files)


def _why_passed(path: str, name: str) -> str:
    if name.startswith("."):
        return "hidden"
    if _TESTS.fullmatch(name):
        return "tests"
    environment = os.path.exists(os.path.join(path, "pyvenv.cfg"))
    if environment or name in ("site-packages", "node_modules"):
        return "packages of others"
    return ""


def said_of(place: str, passed: Passed) -> str:
    """Say in a line what was passed over in a place, what for one reason together.

    Examples
    --------
    >>> said_of("mine.py", [("Config", "no forward"), ("f", "no arrays"), ("Timer", "no forward")])
    'mine.py: passed over Config, Timer (no forward), f (no arrays)'
    """
    reasons: dict[str, list[str]] = {}
    for name, why in passed:
        reasons.setdefault(why, []).append(name)
    parts = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
    return f"{place}: passed over {', '.join(parts)}"
