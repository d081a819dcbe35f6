"""What becomes of a result when a number is another one, and what the gradient says of that."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from attncli.arrays import Array
from attncli.errors import ParameterError
from attncli.problems.problem import Problem, Run
from attncli.spelling import whole
from attncli.tensors import describe_range, describe_shape

_CHANGE = re.compile(r"\s*(\w+)\s*\[([^][]*)\]\s*([-+*]?=)\s*(\S+)\s*")
_BECOMES: Mapping[str, Callable[[float, float], float]] = {
    "=": lambda x, y: y,
    "+=": operator.add,
    "-=": operator.sub,
    "*=": operator.mul,
}
# The part of the change with which the slope is looked at a second time.
_PART = 0.1
# What is changed by less, beside the largest number, is rounded otherwise.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Change:
    """One number of an input that is to be another one.

    Attributes
    ----------
    name : str
    index : tuple of int
    sign : str
        ``=``, ``+=``, ``-=`` or ``*=``.
    value : float
    """

    name: str
    index: tuple[int, ...]
    sign: str
    value: float

    def __str__(self) -> str:
        """Write it as it is typed."""
        return f"{self.name}[{','.join(map(str, self.index))}]{self.sign}{self.value:g}"


def parse_change(text: str) -> Change:
    """Read a change as ``hs_dec[0,1,2]+=0.1``.

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> parse_change("hs_dec[0, 1, 2] *= 3")
    Change(name='hs_dec', index=(0, 1, 2), sign='*=', value=3.0)
    """
    found = _CHANGE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        name, inside, sign, number = found.groups()
        index, value = tuple(map(whole, inside.split(","))), float(number)
        if not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise ParameterError(
            f"--what-if {text}: expected a number of an input and what becomes of it, "
            "NAME[INDEX]+=NUMBER; also -=, *= and =",
            hint="--what-if 'hs_dec[0,0,0]+=0.1'",
        ) from None
    return Change(name, index, sign, value)


@dataclass(frozen=True)
class Moved:
    """A number that is another one.

    Attributes
    ----------
    name : str
    index : tuple of int
    before, after : float
    gradient : float
        Of the loss with respect to it, before.
    """

    name: str
    index: tuple[int, ...]
    before: float
    after: float
    gradient: float

    @property
    def predicted(self) -> float:
        """What the gradient says that the loss changes by."""
        return self.gradient * (self.after - self.before)


@dataclass(frozen=True)
class Effect:
    """What became of a result.

    Attributes
    ----------
    name : str
    changed, size : int
        How many of its numbers are others, and how many there are.
    index : tuple of int
        Where the change is largest.
    before, after : float
        The number there.
    """

    name: str
    changed: int
    size: int
    index: tuple[int, ...]
    before: float
    after: float


@dataclass(frozen=True)
class Slope:
    """How a part of the change was predicted.

    Attributes
    ----------
    part : float
        Of the whole change.
    predicted, came : float
        What the loss changes by, as the gradient says, and when it is computed again.
    """

    part: float
    predicted: float
    came: float


@dataclass(frozen=True)
class WhatIf:
    """What changes with some numbers of the inputs.

    Attributes
    ----------
    problem : Problem
        As it was given; everything is computed in float64.
    moved : tuple of Moved
    effects : tuple of Effect
        On each result.
    loss : (float, float)
        The sum of dout ⊙ the result, before and after.
    slopes : tuple of Slope
        For all of the change, and a part of it.
    """

    problem: Problem
    moved: tuple[Moved, ...]
    effects: tuple[Effect, ...]
    loss: tuple[float, float]
    slopes: tuple[Slope, ...]


def what_if(problem: Problem, changes: Sequence[Change]) -> WhatIf:
    """Run a problem as it is and with some numbers changed, in float64.

    Raises
    ------
    ParameterError
        If it has no such number.
    """
    layout = problem.layout
    execution = replace(problem.request.execution, weights=problem.operation.is_whole or None)
    exact = replace(
        problem,
        request=replace(problem.request, execution=execution),
        inputs={name: np.asarray(x, np.float64) for name, x in problem.inputs.items()},
        dout=np.asarray(problem.incoming(), np.float64),
    )
    inputs = {name: layout.to_given(name, x) for name, x in exact.inputs.items()}
    moved = {name: x.copy() for name, x in inputs.items()}
    for change in changes:
        array = _named(change, moved, problem)
        array[change.index] = _BECOMES[change.sign](array[change.index], change.value)

    def changed(part: float) -> Run:
        between = {name: x + part * (moved[name] - x) for name, x in inputs.items()}
        own = {name: layout.to_own(name, x) for name, x in between.items()}
        return replace(exact, inputs=own).forward()

    before, after = exact.forward().backward(), changed(1.0)
    told = tuple(
        Moved(
            name,
            index,
            float(inputs[name][index]),
            float(moved[name][index]),
            float(before.gradients[f"d{name}"][index]),
        )
        for name, index in dict.fromkeys((x.name, x.index) for x in changes)
    )
    predicted, first = sum(one.predicted for one in told), _loss(before)
    slopes = [Slope(1.0, predicted, _loss(after) - first)]
    slopes.append(Slope(_PART, _PART * predicted, _loss(changed(_PART)) - first))
    effects = tuple(_effect(name, before, after) for name in before.results)
    return WhatIf(problem, told, effects, (first, _loss(after)), tuple(slopes))


def _named(change: Change, inputs: Mapping[str, Array], problem: Problem) -> Array:
    """Find what a change is of, where it has that number."""
    if change.name not in inputs:
        near = get_close_matches(change.name, inputs, n=1, cutoff=0)
        likely = replace(change, name=near[0])
        raise ParameterError(
            f"--what-if {change}: {problem.origin} has no input {change.name}; "
            f"there is {', '.join(inputs)}",
            hint=f"--what-if '{replace(likely, index=_inside(likely, inputs[near[0]].shape))}'",
        )
    array = inputs[change.name]
    axes = problem.layout.axes(change.name, array.ndim) or ("",) * array.ndim
    inside = _inside(change, array.shape)
    if inside == change.index:
        return array
    says = f"{change.name} is {describe_shape(array.shape, axes)}, and takes {array.ndim} numbers"
    if len(change.index) == array.ndim:
        n = next(n for n, (a, b) in enumerate(zip(change.index, inside, strict=True)) if a != b)
        says = f"{change.name} has no {axes[n]} {change.index[n]}; {describe_range(array.shape[n])}"
    hint = f"--what-if '{replace(change, index=inside)}'"
    raise ParameterError(f"--what-if {change}: {says}", hint=hint)


def _inside(change: Change, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index nearest to the one that is meant, of those that there are."""
    index = (*change.index, *[0] * len(shape))[: len(shape)]
    return tuple(min(max(i, 0), size - 1) for i, size in zip(index, shape, strict=True))


def _loss(run: Run) -> float:
    """The number whose gradients backward gives: what dout and the results multiply and sum to."""
    problem, results = run.problem, run.results
    loss = float((problem.incoming() * results[problem.operation.result]).sum())
    rows = problem.dlogsumexp
    if rows is not None:
        lse = results["logsumexp"]
        loss += float(np.where(np.isfinite(lse), lse * rows, 0.0).sum())
    return loss


def _effect(name: str, before: Run, after: Run) -> Effect:
    old, new = before.results[name], after.results[name]
    with np.errstate(invalid="ignore"):  # −∞ stays −∞
        apart = np.abs(np.where(old == new, 0.0, new - old))
    largest = np.unravel_index(int(apart.argmax()), apart.shape)
    index = tuple(map(int, largest))
    finite = np.abs(old[np.isfinite(old)])
    changed = int((apart > _ROUNDING * finite.max(initial=0.0)).sum())
    return Effect(name, changed, old.size, index, float(old[index]), float(new[index]))
