"""Memory that is allocated and never filled: np.empty holds whatever was there before."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from attncli.checking.comparing.agreement import EXACT, outside
from attncli.checking.comparing.places import count_along_axes, places
from attncli.checking.targets.target import real_array, same
from attncli.tensors import axes_of


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
    fillers = [filling(make) for make in makers]
    held = [(*place, which) for which, make in enumerate(makers) for place in _places_of(make)]
    try:
        for names, name, which in held:
            names[name] = fillers[which]
        yield
    finally:
        for names, name, which in held:
            names[name] = makers[which]


def _places_of(make: Any) -> list[tuple[dict[str, Any], str]]:
    """Every module's names for a function of NumPy's: ``from numpy import empty`` makes another."""
    return [
        (vars(module), name)
        for place, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and not place.startswith("numpy.")
        for name, value in list(vars(module).items())
        if value is make
    ]


def describe_unfilled(run: Callable[[], Sequence[Any] | None], names: Sequence[str]) -> str:
    """Say which of the results have elements that are never filled; empty where none has.

    Parameters
    ----------
    run : callable
        Gives the results, or None where there are none.
    names : sequence of str
        What the results are called.
    """
    found = []
    for value in (0.0, 0.0, 1.0):
        with fresh_memory(value):
            found.append(run())
    first, again, other = found
    if first is None or again is None or other is None or not same(first, again):
        return ""  # what is random says nothing
    parts = []
    for name, a, b in zip(names, map(real_array, first), map(real_array, other), strict=False):
        if a is None or b is None or a.shape != b.shape or same(a, b):
            continue
        differs = outside(a, b, EXACT)
        axes = axes_of(name.removeprefix("d"), a.ndim)
        where = ", ".join(places(count_along_axes(differs), axes))
        parts.append(f"{name} ({where or f'{int(differs.sum())} of {a.size} elements'})")
    if not parts:
        return ""
    return f"not every element is filled: {', '.join(parts)}; np.empty holds whatever was in memory"
