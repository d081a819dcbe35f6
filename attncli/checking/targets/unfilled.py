"""Memory that is allocated and never filled: np.empty holds whatever was there before."""

from collections.abc import Callable, Sequence
from typing import Any

from attncli.checking.comparing.agreement import EXACT, outside
from attncli.checking.comparing.places import count_along_axes, places
from attncli.checking.targets.calling import Calls
from attncli.checking.targets.target import real_array, same
from attncli.tensors import axes_of


def describe_unfilled(
    calls: Calls, run: Callable[[], Sequence[Any] | None], names: Sequence[str]
) -> str:
    """Say which of the results have elements that are never filled; empty where none has.

    Parameters
    ----------
    calls : Calls
        Of the target.
    run : callable
        Gives the results, or None where there are none.
    names : sequence of str
        What the results are called.
    """
    found = []
    for value in (0.0, 1.0, 0.0):
        with calls.under(memory=value):
            found.append(run())
    first, other, again = found
    if first is None or again is None or other is None or not same(first, again):
        return ""  # what is random, or another after some calls, says nothing
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
