"""How the calls of a target are made, and what they do beside giving results."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np

from attncli import errors
from attncli.arrays import Array
from attncli.checking.targets.frameworks.adapter import NUMPY, Adapter
from attncli.files.source import SAMPLES

Again = Literal["", "objects", "memory", "one"]

_OURS = os.path.dirname(os.path.abspath(errors.__file__)) + os.sep
_NOT_OURS = (SAMPLES + os.sep, os.path.join(_OURS, "checking") + os.sep)


class Facts(NamedTuple):
    """What a call did beside giving a result.

    Attributes
    ----------
    changed : tuple of int
        Which of the arrays that it was given hold other numbers now.
    overwritten : tuple of str
        Of which earlier calls ("forward", "backward") the results hold other numbers now.
    borrowed : bool
        Whether it let attncli compute; only looked at where that is asked for.
    alone : str
        Why a framework has no gradients of it; empty where there are, or a backward of its own.
    framework : str
        Whose arrays it takes; empty for NumPy's.
    """

    changed: tuple[int, ...] = ()
    overwritten: tuple[str, ...] = ()
    borrowed: bool = False
    alone: str = ""
    framework: str = ""


@dataclass
class Calls:
    """The calls of one target: under which circumstances the next is made, and the last ones.

    Attributes
    ----------
    seed : int or None
        What NumPy's old random numbers begin with at every call; None leaves them alone.
    memory : float or None
        What memory that nobody has written holds, where NumPy gives it; None leaves it alone.
    again : {"", "objects", "memory", "one"}
        Whether a call gets the very array objects of the one before under the same circumstance,
        with other contents, or new objects over the same memory; or one object for what is equal.
        Else everything is new.
    watched : bool
        Whether it is looked at who computes.
    adapter : Adapter or None
        Of the framework whose arrays it takes; None until a call of it has shown that.
    """

    seed: int | None = None
    memory: float | None = None
    again: Again = ""
    watched: bool = False
    adapter: Adapter | None = None
    _given: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    _results: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict, repr=False)

    @property
    def framework(self) -> str:
        """Whose arrays it takes, where they are not NumPy's."""
        adapter = self.adapter or NUMPY
        return adapter.name if adapter is not NUMPY else ""

    def circumstances(self) -> dict[str, Any]:
        """They by name."""
        return {name: getattr(self, name) for name in ("seed", "memory", "again", "watched")}

    def set(self, circumstances: Mapping[str, Any]) -> None:
        """Let the next calls be made under these."""
        for name in self.circumstances():
            setattr(self, name, circumstances[name])

    @contextlib.contextmanager
    def under(self, **circumstances: Any) -> Iterator[None]:
        """Let calls be made under these circumstances for now."""
        before = self.circumstances()
        self.set({**before, **circumstances})
        try:
            yield
        finally:
            self.set(before)

    def give(self, what: str, arrays: Sequence[Any], adapter: Adapter = NUMPY) -> list[Any]:
        """The arrays, made for this call by an adapter, as it gets them: mostly as they are."""
        given = list(arrays)
        if self.again == "one" and all(isinstance(array, np.ndarray) for array in given):
            return [next(x for x in given if _equal(x, array)) for array in given]
        for number, held in enumerate(self._given.get(what, ()) if self.again else ()):
            if number < len(given):
                same = self.again == "objects"
                given[number] = adapter.refill(held, given[number], same=same)
        if self.again:
            self._results.clear()  # they may be what was given, and is written into here
        self._given[what] = given if self.again else []
        return given

    @contextlib.contextmanager
    def circumstanced(self) -> Iterator[list[bool]]:
        """Make a call under the circumstances; what is given says whether attncli computed."""
        if self.seed is not None:
            np.random.seed(self.seed)  # noqa: NPY002 (it is their code that uses it)
        borrowed: list[bool] = []

        def look(frame: FrameType, event: str, argument: Any) -> None:
            file = frame.f_code.co_filename
            if file.startswith(_OURS) and not file.startswith(_NOT_OURS):
                borrowed.append(True)

        framework = (self.adapter or NUMPY).circumstances(self.seed, self.memory)
        with fresh_memory(self.memory), framework:
            if self.watched:
                sys.setprofile(look)
            try:
                yield borrowed
            finally:
                if self.watched:
                    sys.setprofile(None)

    def facts(
        self, what: str, arrays: Sequence[Array], given: Sequence[Array], result: Any,
        borrowed: bool, alone: str = "",
    ) -> Facts:  # fmt: skip
        """Say what a call did that was given copies of arrays; its results are looked at again."""
        changed = tuple(i for i, array in enumerate(arrays) if not _equal(array, given[i]))
        overwritten = tuple(
            name
            for name, kept in self._results.items()
            if not all(_equal(array, copy) for array, copy in kept)
        )
        for name in overwritten:  # said once
            self._results[name] = [(array, array.copy()) for array, _ in self._results[name]]
        values = result.values() if isinstance(result, dict) else result
        values = values if isinstance(values, (tuple, list, ValuesView)) else [values]
        found = [value for value in values if isinstance(value, np.ndarray)]
        small = [array for array in found if array.nbytes <= 2 * sum(x.nbytes for x in arrays)]
        self._results[what] = [(array, array.copy()) for array in small]
        return Facts(changed, overwritten, borrowed, alone, self.framework)


def _equal(a: Array, b: Array) -> bool:
    """Compare bytes: functions of NumPy's may be theirs by now."""
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@contextlib.contextmanager
def fresh_memory(value: float | None) -> Iterator[None]:
    """Let np.empty and np.empty_like give arrays that hold this value; None leaves them alone.

    Examples
    --------
    >>> with fresh_memory(2.0):
    ...     np.empty(3), np.empty_like([1])
    (array([2., 2., 2.]), array([2]))
    """
    if value is None:
        yield
        return

    def filling(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            array = make(*arguments, **options)
            if array.dtype.kind in "iufc":
                array[...] = value
            return array

        return made

    makers: tuple[Callable[..., Any], ...] = (np.empty, np.empty_like)
    fillers = {make: filling(make) for make in makers}
    held = _places_of(*makers)
    try:
        for names, name, make in held:
            names[name] = fillers[make]
        yield
    finally:
        for names, name, make in held:
            names[name] = make


def _places_of(*makers: Any) -> list[tuple[dict[str, Any], str, Any]]:
    """Every module's names for functions of NumPy's: ``from numpy import empty`` makes another."""
    known = {id(make) for make in makers}
    return [
        (vars(module), name, value)
        for place, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and not place.startswith("numpy.")
        for name, value in list(vars(module).items())
        if id(value) in known
    ]
