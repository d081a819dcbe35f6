"""What a backward is given beside dout: nothing, a cache, or inputs and results again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from attncli.checking.targets.arguments import meanings
from attncli.checking.targets.wire import array_or_none

# What people call the result where they give others beside it, and where backward takes it.
OUT = ("out", "output", "outputs", "c", "context", "result")
_RESULTS = (*OUT, "o", "y")
_WEIGHTS = ("p", "s", "a", "w", "probs", "weights", "attn", "softmax")
_CACHES = ("cache", "ctx", "saved", "memo", "tmp")
_DOUTS = ("d", "grad", "g", "upstream")
_REQUIRED = inspect.Parameter.empty
_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Back(NamedTuple):
    """How a backward is called.

    Attributes
    ----------
    inputs : tuple of int
        Which inputs of forward it is given again.
    call : callable
        Calls it with dout and these.
    """

    inputs: tuple[int, ...]
    call: Callable[..., Any]


def walk_back(backward: Any, inputs: Sequence[str], result: Any) -> Back:
    """Find out from the names of its arguments what a backward wants.

    Parameters
    ----------
    backward : callable
    inputs : sequence of str
        What the inputs of forward are called.
    result : object
        What forward gave.

    Raises
    ------
    TypeError
        If there is an argument that nothing says.

    Examples
    --------
    >>> def backward(x, y, dout): return dout * x + y
    >>> back = walk_back(backward, ["x"], 100)
    >>> back.inputs, back.call(2, 7)
    ((0,), 114)
    """
    names = _required(backward)
    if len(names) < 2:
        return Back((), backward)
    again = {name: found for name in names if (found := _input(name, inputs)) is not None}
    others = [name for name in names if name not in again]
    douts = [name for name in others if name.lower().startswith(_DOUTS)]
    dout = names[0] if names[0] in others else next(iter(douts), names[0])
    again.pop(dout, None)
    others = [name for name in names if name not in again and name != dout]
    by_order = len(names) == 1 + len(inputs)
    kept = _kept(others, result, by_order=by_order, alone=not again)
    if kept is None:
        again = dict(zip([name for name in names if name != dout], range(len(inputs)), strict=True))
        kept = {}
    needed = tuple(dict.fromkeys(again.values()))

    def call(gradient: Any, *given: Any) -> Any:
        values = {dout: gradient, **kept}
        values |= {name: given[needed.index(number)] for name, number in again.items()}
        return backward(*(values[name] for name in names))

    return Back(needed, call)


def _required(function: Any) -> list[str]:
    """The arguments that a function must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in _PLACED and p.default is _REQUIRED]


def _input(name: str, inputs: Sequence[str]) -> int | None:
    if name in inputs:
        return inputs.index(name)
    same = [i for i, one in enumerate(inputs) if meanings(name)[:1] == meanings(one)[:1] != ()]
    return same[0] if len(same) == 1 else None


def first(result: Any, axes: int = 0) -> Any:
    """What forward computed, where it gives weights, sums and the like beside.

    A list of arrays of so many axes is several; of arrays with fewer it is one, item by item.
    """
    return _parts(result, axes)[0]


def _parts(result: Any, axes: int = 0) -> tuple[Any, list[Any]]:
    """What forward computed, and what it gives beside."""
    if isinstance(result, Mapping) and result:
        known = next((name for name in OUT if name in result), next(iter(result)))
        return result[known], [value for name, value in result.items() if name != known]
    several = isinstance(result, tuple)
    if isinstance(result, list) and result:
        whole = axes and all(getattr(one, "ndim", 0) >= axes for one in result)
        several = bool(whole) or array_or_none(result) is None
    return (result[0], list(result[1:])) if several and result else (result, [])


def _kept(
    names: Sequence[str], result: Any, *, by_order: bool, alone: bool
) -> dict[str, Any] | None:
    """What arguments are given that are no inputs; None where all are inputs by their order."""
    kept = (
        {name: result[name] for name in names if name in result}
        if isinstance(result, Mapping)
        else {}
    )
    left = [name for name in names if name not in kept]
    out, beside = _parts(result)
    if alone and len(left) == 1 and beside:
        return {**kept, left[0]: beside[0] if len(beside) == 1 else tuple(beside)}
    for name in left:
        if name.lower() in _RESULTS:
            kept[name] = out
        elif beside:
            kept[name] = beside.pop(0)
        elif name.lower() in _WEIGHTS and alone:
            kept[name] = out
        elif name.lower() in _CACHES:
            raise TypeError(
                f"takes {name}, and forward gives {type(result).__name__}: expected (out, cache)"
            )
        elif by_order:
            return None
        else:
            raise TypeError(f"takes {name}, which is none of forward's arguments or results")
    return kept
