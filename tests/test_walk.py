"""The way of one array through the house: ``hs_enc`` from its file to the screen.

``python tests/test_walk.py`` prints it.
"""

import dataclasses
import sys
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np

import attncli

HOUSE = Path(attncli.__file__).parent
FILE = Path(__file__).parent.parent / "sample_inputs" / "dates.npz"
LIMITS = {"files": 15, "changes": 24, "returns": 8}
DEPTH = 3


class Step(NamedTuple):
    """A function of the house that is called with the array, or with something that holds it."""

    file: str
    function: str


class Array:
    """The one array that is followed: told by its numbers once, and then by its memory."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self.memory: list[Any] = []

    def __contains__(self, thing: np.ndarray) -> bool:
        if thing.size != self.numbers.size:  # a part of it, a corner to be drawn, is not it
            return False
        owner: Any = thing
        while isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        if any(owner is known for known in self.memory):
            return True
        if thing.shape == self.numbers.shape and np.array_equal(thing, self.numbers):
            self.memory.append(owner)
            return True
        return False

    def is_held_by(self, thing: Any, depth: int = DEPTH) -> bool:
        """Whether a thing is the array or a view of all of it, or holds one at a small depth."""
        if isinstance(thing, np.ndarray):
            return thing in self
        return depth > 0 and any(self.is_held_by(part, depth - 1) for part in _parts(thing))


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, list | tuple):
        yield from thing
    elif isinstance(thing, partial):
        yield from (*thing.args, *thing.keywords.values())
    elif isinstance(thing, MethodType):
        yield thing.__self__
    elif isinstance(thing, FunctionType):
        for cell in thing.__closure__ or ():
            if cell != type(cell)():
                yield cell.cell_contents
    elif dataclasses.is_dataclass(thing):
        yield from (getattr(thing, field.name, None) for field in dataclasses.fields(thing))
    elif type(thing).__module__.startswith("attncli"):
        yield from getattr(thing, "__dict__", {}).values()


def walk(file: Path, name: str) -> list[Step]:
    """Run ``attn forward`` on a file, and list the calls that are handed one of its arrays."""
    from running import run_attn

    steps: list[Step] = []
    with np.load(file) as arrays:
        array = Array(arrays[name])

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not _is_ours(code):
            return
        given = [frame.f_locals[name] for name in code.co_varnames if name in frame.f_locals]
        if given and _is_attribute(given[0], code.co_name):
            return
        if any(map(array.is_held_by, given)):
            path = Path(code.co_filename).relative_to(HOUSE).as_posix()
            steps.append(Step(path, code.co_qualname))

    run_attn("forward", file)  # what is imported on the way is imported
    sys.setprofile(watch)
    try:
        result = run_attn("forward", file)
    finally:
        sys.setprofile(None)
    assert (result.code, result.err) == (0, "")
    return steps


def _is_ours(code: CodeType) -> bool:
    """Whether it is a function of the house with a name of its own: no lambda, no generator."""
    return code.co_filename.startswith(f"{HOUSE}/") and "<" not in code.co_name


def _is_attribute(owner: Any, name: str) -> bool:
    """Whether it is a property: what is looked up there is handed to nobody."""
    return isinstance(getattr(type(owner), name, None), property | cached_property)


def measured(steps: list[Step]) -> dict[str, int]:
    """Count files, functions, changes of file, and returns to a file that was left."""
    seen, changes, returns = {steps[0].file}, 0, 0
    for before, step in pairwise(steps):
        changes += step.file != before.file
        returns += step.file != before.file and step.file in seen
        seen.add(step.file)
    return {
        "files": len(seen),
        "functions": len(set(steps)),
        "changes": changes,
        "returns": returns,
    }


def test_an_array_goes_down_once_and_comes_up_once():
    steps = walk(FILE, "hs_enc")
    assert steps[0].file.startswith("files/")
    assert steps[-1].file.startswith("views/")
    found = measured(steps)
    assert {name: found[name] for name in LIMITS if found[name] > LIMITS[name]} == {}, steps


if __name__ == "__main__":
    found = walk(FILE, "hs_enc")
    last = ""
    for step in found:
        print(f"{step.file if step.file != last else '':34}{step.function}")
        last = step.file
    print(measured(found))
