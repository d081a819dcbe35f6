"""The number that somebody used, found from what came out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near
from attncli.checking.comparing.formulas import Reading, said
from attncli.checking.comparing.rounding import beyond
from attncli.checking.diagnosing.cases import Case
from attncli.checking.diagnosing.mistakes.mistake import Mistake, Value, constant
from attncli.checking.diagnosing.observing import Observation, predict
from attncli.core.semantics import Semantics
from attncli.operations.steps import Calculation, Steps
from attncli.translation import Sentence

ROUNDINGS = 8.0
"""What is wrong is rounded otherwise than what is right: by so many times as much at most."""
# How often a number is improved, from how many of the nearest starts, and by which complex step.
_ROUNDS, _HALVED, _TRIED, _STEP = 40, 10, 3, 1e-30
# Of what comes out, this share must change with the number, or it cannot be found there.
_INFLUENCE = 1e-9

Number: TypeAlias = Any
_Key: TypeAlias = tuple[Any, ...]


def fit(
    layer: str, seen: Sequence[Observation], family: Mistake, *, steps: Steps | None = None
) -> Iterator[Mistake]:
    """Find the members of a family that may reproduce what was observed, each size for itself.

    Parameters
    ----------
    layer : str
    seen : sequence of Observation
    family : Mistake
        With a `family` of steps.
    steps : mapping of str to callable, optional
        What is known to be replaced beside.

    Yields
    ------
    Mistake
    """
    if family.choices:
        for choice in _choices(family, seen):
            yield _member(family, constant(choice), _plainly(choice))
        return
    pairs = [(one, row) for one in seen if (row := _observed(one, family.in_backward)) is not None]
    for axis in (0, -3, -4) if family.by_head else (0,):
        numbers: dict[_Key, Number] = {}
        for one, observed in pairs:
            key = _key(one.case.inputs, one.case.claims)
            if key in numbers:
                continue
            number, told = _Fit(layer, one, observed, family, steps or {}, axis=axis).number()
            if number is not None:
                numbers[key] = number
            elif told:  # whatever the number, it is not this
                numbers.clear()
                break
        if numbers:
            first = next(iter(numbers.values()))

            def value(
                c: Calculation, numbers: dict[_Key, Number] = numbers, first: Number = first
            ) -> Number:
                return numbers.get(_key(c.given, c.semantics), first)

            yield _member(family, value, _said(family, numbers, pairs, axis))


def _choices(family: Mistake, seen: Sequence[Observation]) -> tuple[Any, ...]:
    """What it may be: what is usual, and what the sizes at hand make likely."""
    if family.sized is None:
        return family.choices
    axis, choice = family.sized
    sizes = sorted({one.case.sizes[axis] for one in seen if axis in one.case.sizes})
    return tuple(dict.fromkeys([*family.choices, *map(choice, sizes)]))


def _member(family: Mistake, value: Value, said: str) -> Mistake:
    return replace(
        family.with_value(value),
        computed=Sentence(family.computed, value=said),
        why=Sentence(family.why, value=said),
    )


def _said(
    family: Mistake, numbers: dict[_Key, Number], pairs: list[tuple[Observation, Array]], axis: int
) -> str:
    """Say the numbers that were found, by a formula where there is one."""
    sizes = {_key(one.case.inputs, one.case.claims): _sizes(one.case) for one, _ in pairs}
    relative = max(one.case.tolerance.relative for one, _ in pairs)
    rtol = min(max(1e-6, 10 * relative), 1e-2)
    by_head = [np.ravel(number) for number in numbers.values()]
    if any(number.size > 1 for number in by_head):
        heads = axis == -3 and any(one.case.inputs[0].ndim > 3 for one, _ in pairs)
        longest = max(by_head, key=len)
        return f"by {'head' if heads else 'item'} " + ", ".join(f"{x:.6g}" for x in longest)
    single = {key: float(np.ravel(number)[0]) for key, number in numbers.items()}
    if where := _where(single, sizes):
        return where
    readings = []
    for key, number in single.items():
        given = getattr(key[-1], family.claim) if family.claim else None
        readings.append(Reading(number, sizes[key], given))
    return said(*readings, rtol=rtol)


def _where(numbers: dict[_Key, float], sizes: dict[_Key, dict[str, int]]) -> str:
    """Say of a factor that is 1 but for some sizes for which."""
    odd = {key for key, number in numbers.items() if abs(number - 1) > 1e-6}
    factors = {round(numbers[key], 6) for key in odd}
    if len(factors) != 1 or len(odd) == len(numbers):
        return ""
    for axis in ("T_dec", "T_enc", "N", "heads", "H", "H_v"):
        theirs = {sizes[key].get(axis) for key in odd}
        others = {sizes[key].get(axis) for key in numbers.keys() - odd}
        if len(theirs) == 1 and None not in theirs and not theirs & others:
            return f"{factors.pop():g} where {axis} = {theirs.pop()}"
    return ""


def _plainly(choice: Any) -> str:
    return f"{choice:g}" if isinstance(choice, float) else str(choice)


def _key(inputs: Sequence[Array], claims: Semantics) -> _Key:
    return (*(array.shape for array in inputs), claims)


def _sizes(case: Case) -> dict[str, int]:
    shapes = [array.shape for array in case.inputs]
    sizes = {name: size for name, size in case.sizes.items() if name in ("N", "H")}
    if len(shapes) == 3 and len(shapes[0]) > 1:
        sizes |= {"H": shapes[0][-1], "H_v": shapes[2][-1]}
        sizes |= {"T_dec": shapes[0][-2], "T_enc": shapes[1][-2]}
        if len(shapes[0]) > 3:
            sizes |= {"heads": shapes[0][-3], "kv_heads": shapes[1][-3]}
    elif len(shapes) == 2 and len(shapes[0]) == 3:
        sizes["T_enc"] = shapes[0][1]
    return sizes


def _observed(seen: Observation, backward: bool) -> Array | None:
    """What is to be reproduced, in one row."""
    arrays = seen.gradients if backward else None if seen.out is None else [seen.out]
    return None if arrays is None else _in_a_row(arrays)


def _in_a_row(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(array) for array in arrays])


class _Fit:
    """The search for one number, or one for each head, in one situation."""

    def __init__(
        self,
        layer: str,
        seen: Observation,
        observed: Array,
        family: Mistake,
        steps: Steps,
        *,
        axis: int,
    ) -> None:
        self.layer, self.seen, self.family, self.steps = layer, seen, family, steps
        self.observed = observed.astype(np.float64)
        self.finite = np.isfinite(self.observed)
        query = seen.case.inputs[0]
        self.heads = query.shape[axis] if axis and query.ndim >= -axis else 0
        self.behind = (1,) * (-1 - axis)

    def number(self) -> tuple[Number | None, bool]:
        """The number, None where none reproduces what was observed; whether it matters here."""
        told = False
        starts = sorted(self.family.starts, key=lambda start: self._off(self._spread(start)))
        for start in starts[:_TRIED]:
            number, influence = self._improved(self._spread(start))
            told = told or influence
            if influence and self._agrees(number):
                return number, True
        return None, told

    def _spread(self, number: float) -> Number:
        return np.full((self.heads, *self.behind), number) if self.heads else number

    def _improved(self, number: Number) -> tuple[Number, bool]:
        """Newton's steps on the sum of squares, halved as long as one leads away."""
        off, influence = self._off(number), False
        for _ in range(_ROUNDS):
            step, influence = self._newton(number)
            if not influence or not np.isfinite(step).all():
                return number, influence
            for _ in range(_HALVED):
                moved = number + step
                now = self._off(moved)
                if now < off:
                    break
                step = step / 2
            else:
                break
            number, off = moved, now
        return number, influence

    def _newton(self, number: Number) -> tuple[Number, bool]:
        if self.heads:
            steps = [self._slope(number, head) for head in range(self.heads)]
            found = np.array([step for step, _ in steps]).reshape(-1, *self.behind)
            return found, all(influence for _, influence in steps)
        return self._slope(number, None)

    def _slope(self, number: Number, head: int | None) -> tuple[float, bool]:
        moved = np.asarray(number, complex).copy()
        moved[() if head is None else (head, *(0 for _ in self.behind))] += _STEP * 1j
        result = self._predicted(moved if self.heads else moved[()])
        if result is None:
            return 0.0, False
        slope, rest = result.imag / _STEP, self.observed - result.real
        usable = self.finite & np.isfinite(slope) & np.isfinite(rest)
        slope, rest = slope[usable], rest[usable]
        size = float(np.abs(self.observed[usable]).max(initial=0.0))
        length = float(np.linalg.norm(slope))
        if not np.isfinite(length) or length <= _INFLUENCE * max(size, 1e-3):
            return 0.0, False
        return float(slope / length @ (rest / length)), True

    def _predicted(self, number: Number) -> Array | None:
        family = self.family
        assert family.family is not None
        steps = {**self.steps, **family.family(lambda c: number)}
        how = "formulas" if family.in_backward else ""
        with np.errstate(all="ignore"):
            found = predict(self.layer, self.seen.case, self.seen.dout, steps, backward=how)
        if found is None or (how and found[2] is None):
            return None
        row = _in_a_row(found[2] if how and found[2] is not None else [found[0]])
        return row if row.shape == self.observed.shape else None

    def _off(self, number: Number) -> float:
        result = self._predicted(number)
        if result is None:
            return np.inf
        rest = (self.observed - result.real)[self.finite]
        off = float(rest @ rest)
        return off if np.isfinite(off) else np.inf

    def _agrees(self, number: Number) -> bool:
        result = self._predicted(number)
        if result is None:
            return False
        truth, observed = self.seen.case.truth.rounding, self.observed
        far = _in_a_row(truth.gradients if self.family.in_backward else [truth.results["out"]])
        if far.shape == observed.shape:
            observed = beyond(observed, result.real, ROUNDINGS * far)
        return near(observed, result.real, self.seen.case.tolerance).agrees
