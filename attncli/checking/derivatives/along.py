"""Gradients at sizes that cross tiles, along one random direction of each input and parameter.

With D the derivative of Σ dout ⊙ forward(x + h d) by h at 0, backward's gradient g has to fulfil
⟨g, d⟩ = D: two evaluations for each input, where element by element would take two for each number.
Where d is standard normal ⟨g, d⟩ has the size ‖g‖, which is what an error is measured against.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.derivatives.boundaries import (
    HEADED,
    LARGE,
    SECONDS,
    Sizes,
    boundary,
    within,
    work,
)
from attncli.checking.derivatives.precision import EPSILON, coarser
from attncli.checking.derivatives.trial import Trial
from attncli.errors import TargetError
from attncli.reports import gradient_name
from attncli.translation import Sentence

HEADS = 2
"""How many there are where there are any, so that mixing them up shows."""

_HEAD_COUNTS = (1, 3, 8, 13)
_TOLERANCE = 1e-6
_SMALLEST = 1e-3
# So many times as much as one number is rounded by, sums over all of out may be off.
_ROUNDINGS = 64.0
# Below float64, so many times as much as the derivatives at two steps are apart may be wrong.
_NOISE_FACTOR = 16.0


class Slope(NamedTuple):
    """A derivative along a direction: as backward gives it, and as it is.

    Attributes
    ----------
    name : str
        Of the gradient.
    backward, derivative : float
    passed : bool
    """

    name: str
    backward: float
    derivative: float
    passed: bool


def slopes_along(trial: Trial, precision: str, tolerance: float = 0.0) -> Iterator[Slope]:
    """Hold every gradient of a trial against the derivative along a random direction.

    What they may be apart is the `tolerance`, or what differences of such numbers are off by.
    """
    rng = np.random.RandomState(trial.seed % 2**32)
    inputs, layer = trial.moving(precision), trial.fresh()
    dout = trial.dout.astype(np.float64)
    size_of_terms = float(np.linalg.norm(dout * trial.out))

    def move_input(number: int, values: Array) -> None:
        inputs[number][...] = values

    names = [*trial.target.inputs, *trial.parameter_names]
    moves = [
        partial(move, number)
        for move, arrays in ((move_input, inputs), (layer.assign, trial.parameters))
        for number in range(len(arrays))
    ]
    starts = [*(array.copy() for array in inputs), *trial.parameters]
    gradients = [*trial.gradients, *trial.parameter_gradients]
    held = [*inputs, *trial.layer.parameters]
    every = zip(names, starts, gradients, moves, held, strict=False)
    for name, start, gradient, move, array in every:
        if gradient is None or gradient.shape != start.shape or start.dtype.name not in EPSILON:
            continue
        if not array.flags.writeable:
            continue
        direction = rng.standard_normal(start.shape)
        epsilon = EPSILON[coarser(precision, start.dtype.name)]
        step = epsilon ** (1 / 3)

        def derivative(h: float, start: Any = start, d: Any = direction, move: Any = move) -> float:
            totals = []
            for sign in (1, -1):
                move(start + sign * h * d)
                out = np.asarray(trial.forward(layer, inputs), np.float64)
                totals.append(float(np.vdot(dout, out)))
            return (totals[0] - totals[1]) / (2 * h)

        right = derivative(step)
        size = max(float(np.linalg.norm(gradient)), abs(right), _SMALLEST)
        allowed = max(
            max(_TOLERANCE, tolerance) * size, _ROUNDINGS * epsilon / step * size_of_terms
        )
        if epsilon > EPSILON["float64"]:
            allowed = max(allowed, _NOISE_FACTOR * abs(right - derivative(2 * step)))
        move(start)
        backward = float(np.vdot(gradient.astype(np.float64), direction))
        yield Slope(gradient_name(name), backward, right, abs(backward - right) <= allowed)


def prove_large(
    make: Callable[[Sizes], Trial], precision: str, usual: Sizes, tolerance: float
) -> tuple[list[str], list[str]]:
    """Prove gradients at sizes that cross tiles; give what is wrong, and what should be known.

    Parameters
    ----------
    make : callable
        Makes a trial of some sizes.
    precision : str
    usual : mapping of str to int
        The sizes at which they are right.
    tolerance : float
        How far off, relative to themselves, they may be.
    """
    problems, notes = dict[str, str](), list[str]()
    pace = np.inf  # seconds of a call for each product to add up, where there is least beside
    shapes = make(usual).shapes
    tried = [({**usual, **changed}, usual) for changed in LARGE]
    headed = {**usual, "heads": usual.get("heads", HEADS)}
    if _takes_heads(make, headed):
        tried += [({**headed, **changed}, headed) for changed in ({}, *HEADED)]
    for asked, least in tried:
        sizes = within(asked, SECONDS / pace if np.isfinite(pace) else np.inf, least)
        try:
            began = time.monotonic()
            trial = make(sizes)
            if trial.shapes == shapes:  # nothing has another size for it
                continue
            slopes = list(slopes_along(trial, precision, tolerance))
        except TargetError as error:  # it may be made for sizes of its own
            if "kv_heads" not in sizes:
                notes.append(
                    Sentence("not proved at {said}: {error}", said=_said(sizes, usual), error=error)
                )
            continue
        calls = 2 * (1 + len(slopes))
        pace = min(pace, (time.monotonic() - began) / calls / work(sizes))
        if sizes != asked:
            notes.append(
                Sentence(
                    "{asked} would take more than {limit} s: proved at {sizes} instead",
                    asked=_said(asked, usual),
                    limit=f"{SECONDS:g}",
                    sizes=_said(sizes, usual),
                )
            )
        for problem in trial.problems:
            problems.setdefault(
                problem.split()[0],
                Sentence("at {sizes}: {problem}", sizes=_said(sizes, usual), problem=problem),
            )
        for wrong in slopes:
            if not wrong.passed and wrong.name not in problems:
                found = boundary(
                    partial(_is_wrong, make, precision, tolerance, wrong.name), sizes, least
                )
                what = Sentence(
                    "{name} is wrong at {sizes}", name=wrong.name, sizes=_said(sizes, usual)
                )
                if found:
                    what = Sentence("{what}: {since}", what=wrong.name, since=found.said)
                problems[wrong.name] = _against(what, wrong)
    return list(problems.values()), notes


def prove_head_counts(
    make: Callable[[Sizes], Trial], precision: str, usual: Sizes, tolerance: float
) -> tuple[list[str], list[str]]:
    """Prove gradients of a layer whose constructor is told how many heads there are, for several.

    What is wrong, and what should be known, as `prove_large` gives it.
    """
    problems, notes = dict[str, str](), list[str]()
    for heads in _HEAD_COUNTS:
        try:
            slopes = list(
                slopes_along(make({**usual, "heads": heads, "H": 2 * heads}), precision, tolerance)
            )
        except TargetError as error:  # it may be made for a number of its own
            notes.append(
                Sentence("not proved with heads = {heads}: {error}", heads=heads, error=error)
            )
            continue
        for wrong in slopes:
            if not wrong.passed and wrong.name not in problems:
                what = Sentence(
                    "{name} is wrong with heads = {heads}", name=wrong.name, heads=heads
                )
                problems[wrong.name] = _against(what, wrong)
    return list(problems.values()), notes


def _against(what: Sentence, wrong: Slope) -> Sentence:
    return Sentence(
        "{what}; along a random direction it is {backward}, and the derivative {derivative}",
        what=what, backward=f"{wrong.backward:.6g}", derivative=f"{wrong.derivative:.6g}",
    )  # fmt: skip


def _takes_heads(make: Callable[[Sizes], Trial], sizes: Sizes) -> bool:
    """Whether it takes query, key and value of several heads, and gives what has their shapes."""
    try:
        trial = make(sizes)
    except TargetError:
        return False
    query = next(iter(trial.inputs))
    return query.ndim == 4 and trial.out.ndim == 4 and not trial.problems


def _is_wrong(
    make: Callable[[Sizes], Trial], precision: str, tolerance: float, name: str, sizes: Sizes
) -> bool:
    try:
        slopes = slopes_along(make(sizes), precision, tolerance)
        return any(s.name == name and not s.passed for s in slopes)
    except TargetError:  # a number of heads may have to divide it
        return False


def _said(sizes: Sizes, usual: Sizes) -> str:
    larger = [f"{axis} = {size}" for axis, size in sizes.items() if size > usual.get(axis, 0)]
    return ", ".join(larger)
