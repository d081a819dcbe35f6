"""Naming the mistake: the catalogue's predictions held against the numbers observed."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from attncli.checking.comparing.agreement import Tolerance, near
from attncli.checking.comparing.rounding import HALF, beyond
from attncli.checking.derivatives.precision import EPSILON, coarser, precision_of
from attncli.checking.diagnosing.cases import Case, as_precise_as
from attncli.checking.diagnosing.families import ROUNDINGS, fit
from attncli.checking.diagnosing.mistakes import MISTAKES, Mistake
from attncli.checking.diagnosing.observing import Observation, predict
from attncli.core.semantics import Semantics
from attncli.operations.steps import QKV, Step, Steps
from attncli.reports import Diagnosis, NamedMistake
from attncli.translation import Sentence

_MOST = 3
_BACKWARD = {
    "consistent": "backward is the derivative of this forward",
    "usual": "backward is the usual one, which does not fit this forward",
    "formulas": "backward follows forward's formula, and is not its derivative",
}
_EXTREME = re.compile("large|negative").match
# Of the steps of half precision beside the largest element.
_HALF = 16.0


def diagnose(
    layer: str, observations: Sequence[Observation], failed: Iterable[str], claims: Semantics
) -> tuple[Diagnosis, ...]:
    """Name the mistakes that reproduce what was observed, best first.

    A mistake explains what was observed if a check against it, in place of the reference, would
    pass in every case, at the same tolerance, or at that of the precision that the code computes
    in.

    Parameters
    ----------
    layer : str
    observations : sequence of Observation
    failed : iterable of str
        The names of the findings on the contract that are wrong.
    claims : Semantics
    """
    usable = [o for o in observations if o.out is not None and not o.case.lenient]
    found = _explanations(layer, [o for o in usable if _telling(o)])
    if not found and _Search(layer, [o for o in usable if _telling(o)]).all_right:
        found = _explanations(layer, usable)  # it shows where others leave nothing to tell it by
    # The fewest mistakes first, then those that explain more, then the nearest.
    found.sort(
        key=lambda item: (
            len(item[0]),
            item[1] != "everything",
            _misses(layer, observations, item[0]),
            any(mistake.starts for mistake in item[0]),  # a number more to explain it by
            round(item[3], 12),
        )
    )
    diagnoses = [
        Diagnosis(tuple(_named(m, claims, layer) for m in mistakes), explains, how, far)
        for mistakes, explains, how, far in found[:_MOST]
    ]
    # What reproduces the numbers says more than that they are right to seven digits.
    failed = set(failed) - ({"float64 precision"} if found else set())
    diagnoses += [
        Diagnosis((_named(m, claims, layer),), "everything", "", 0.0, beside=True)
        for m in MISTAKES
        if m.symptom in failed
    ]
    return tuple(diagnoses)


def _telling(seen: Observation) -> bool:
    """Whether a mistake can be told by it: by numbers, or by a shape that is wrong."""
    return seen.case.probe or bool(seen.forward_fault)


def _explanations(layer: str, seen: list[Observation]) -> "list[_Found]":
    """Explain by one mistake, rounded or not, before two are thought of."""
    if not seen:
        return []
    exact = _Search(layer, seen)
    rounded = [_rounded(one) for one in seen]
    searches = [exact]
    if any(a.case is not b.case for a, b in zip(seen, rounded, strict=True)):
        searches.append(_Search(layer, rounded))
    if any(one.case.precision in HALF for one in seen):
        # Of scores of such sizes half precision leaves nothing to tell a mistake by.
        searches.append(_Search(layer, [o for o in rounded if not _EXTREME(o.case.name)]))
    for together in (False, True):
        for search in searches:
            found = list(search.run(together=together))
            if found:
                return found
    return []


def _rounded(seen: Observation) -> Observation:
    """The same, held to the precision that its own numbers show."""
    arrays = [seen.out, *(seen.gradients or [])]
    precision = coarser(*(precision_of(np.asarray(array)) for array in arrays))
    if precision not in HALF:
        same = precision == seen.case.precision
        return seen if same else replace(seen, case=as_precise_as(seen.case, precision))
    narrow = as_precise_as(seen.case, "float32")
    tolerance = Tolerance.of_largest(_HALF * EPSILON[precision], least=narrow.tolerance.least)
    return replace(seen, case=replace(narrow, tolerance=tolerance))


def _misses(layer: str, observations: Sequence[Observation], mistakes: tuple[Mistake, ...]) -> int:
    """Count the cases that raised, or gave another shape, where these mistakes would not."""
    steps = _steps_of(mistakes)
    return sum(
        predicted is not None and predicted[0].shape == o.dout.shape
        for o in observations
        if o.case.probe and o.forward_fault
        for predicted in (predict(layer, o.case, o.dout, steps),)
    )


def _where_finite(case: Case, observed: Any, predicted: Any) -> tuple[Any, Any]:
    """Leave out what overflows in both: where it does depends on the order of operations."""
    finite = np.isfinite(observed) & np.isfinite(predicted)
    both = not np.isfinite(observed).all() and not np.isfinite(predicted).all()
    if not (case.name.startswith("large") and both):
        return observed, predicted
    return np.where(finite, observed, 0.0), np.where(finite, predicted, 0.0)


def _steps_of(mistakes: tuple[Mistake, ...]) -> dict[str, Step]:
    return {name: step for mistake in mistakes for name, step in mistake.steps.items()}


def _pairs(candidates: list[Mistake]) -> Iterator[tuple[Mistake, Mistake]]:
    """Give every two mistakes that can be made together."""
    for first, second in combinations(candidates, 2):
        if not first.steps.keys() & second.steps.keys():
            yield first, second


_Explains = Literal["everything", "forward"]
_Compared = list[tuple[Any, Any, Any]]
"""What was observed, what is predicted, and how far off rounding may be."""
_Found = tuple[tuple[Mistake, ...], _Explains, str, float]


class _Search:
    """The search for steps that reproduce the observations."""

    def __init__(self, layer: str, seen: Sequence[Observation]) -> None:
        self.layer, self.seen = layer, seen
        self.mistakes = [mistake for mistake in MISTAKES if mistake.fits(layer)]
        self.forward_ok = self._forward_distance({}) is not None
        self.backward_seen = any(o.gradients is not None or o.misshapen is not None for o in seen)

    @property
    def all_right(self) -> bool:
        """Whether there is nothing to be explained."""
        return self.forward_ok and (
            not self.backward_seen or self._backward_distance({}, "formulas") is not None
        )

    def run(self, *, together: bool) -> Iterator[_Found]:
        """Explain by one mistake, or by two that are made together."""
        if not self.forward_ok:
            for mistakes in self._forwards(together):
                yield from self._with_backward(mistakes)
        elif not self.all_right:
            yield from self._backwards((), {}, together=together)

    def _backwards(
        self, base: tuple[Mistake, ...], steps: Steps, *, together: bool = False
    ) -> Iterator[_Found]:
        """Explain the gradients by one more mistake in backward alone, or else by two."""
        allowed = [m for m in self.mistakes if not (base and (m.alone or m.family))]
        candidates = [r for m in allowed for r in m.readings if r.in_backward and not r.in_forward]
        if together:
            for pair in _pairs(candidates):
                far = self._backward_distance(_steps_of(pair), "formulas")
                if far is not None:
                    yield pair, "everything", "", far
            return
        known = set[str]()
        members = (
            member
            for family in allowed
            if family.family and family.in_backward and not family.in_forward
            for member in fit(self.layer, self.seen, family, steps=steps)
        )
        for tried in (candidates, members):
            if known:
                return
            for mistake in tried:
                for how in ("formulas", "usual") if base else ("formulas",):
                    far = self._backward_distance({**steps, **mistake.steps}, how)
                    if far is not None and mistake.name not in known:
                        known.add(mistake.name)
                        yield (*base, mistake), "everything", "", far
                        break

    def _forwards(self, together: bool) -> list[tuple[Mistake, ...]]:
        """Give what explains forward: a mistake that is known, else one with a number, or two."""
        candidates = [r for m in self.mistakes for r in m.readings if r.in_forward]
        if together:
            return [
                pair
                for pair in _pairs(candidates)
                if self._forward_distance(_steps_of(pair)) is not None
            ]
        explaining: dict[str, Mistake] = {}
        for mistake in candidates:
            known = mistake.name in explaining
            if not known and self._forward_distance(mistake.steps) is not None:
                explaining[mistake.name] = mistake
        if not explaining:
            for family in (m for m in self.mistakes if m.family and m.in_forward):
                for member in fit(self.layer, self.seen, family):
                    if self._forward_distance(member.steps) is not None:
                        explaining[member.name] = member
                        break
        return [(mistake,) for mistake in explaining.values()]

    def _with_backward(self, mistakes: tuple[Mistake, ...]) -> Iterator[_Found]:
        """Explain the gradients that come with a wrong forward that is explained."""
        steps = _steps_of(mistakes)
        near = self._forward_distance(steps) or 0.0
        if not self.backward_seen:
            yield mistakes, "forward", "", near
            return
        for how in _BACKWARD:
            far = self._backward_distance(steps, how)
            if far is not None:
                own = any(mistake.in_backward for mistake in mistakes) and how != "consistent"
                yield mistakes, "everything", "" if own else _BACKWARD[how], max(far, near)
                return
        more = list(self._backwards(mistakes, steps)) if len(mistakes) == 1 else []
        if more:
            yield from more
        else:
            yield mistakes, "forward", "the gradients are not explained by it", near

    def _forward_distance(self, steps: Steps) -> float | None:
        def pairs(seen: Observation) -> _Compared | None:
            predicted = predict(self.layer, seen.case, seen.dout, steps)
            if predicted is None:
                return None
            far = seen.case.truth.rounding.results
            pairs = [(seen.out, predicted[0], far["out"])]
            if seen.weights is not None and predicted[1] is not None:
                pairs.append((seen.weights, predicted[1], far["weights"]))
            return pairs

        return self._farthest(pairs)

    def _backward_distance(self, steps: Steps, how: str) -> float | None:
        def pairs(seen: Observation) -> _Compared | None:
            given = seen.misshapen if seen.gradients is None else seen.gradients
            if given is None or not np.isfinite(seen.out).all():  # type: ignore[arg-type]
                return []
            predicted = predict(self.layer, seen.case, seen.dout, steps, backward=how)
            if predicted is None or predicted[2] is None:
                return None
            return list(zip(given, predicted[2], seen.case.truth.rounding.gradients, strict=True))

        return self._farthest(pairs)

    def _farthest(self, pairs: Callable[[Observation], _Compared | None]) -> float | None:
        """The largest distance of what was observed, or None where one is beyond the tolerance."""
        largest = 0.0
        for seen in self.seen:
            compared = pairs(seen)
            if compared is None:
                return None
            for observed, predicted, far in compared:
                if predicted.shape == observed.shape == far.shape:
                    observed, predicted = _where_finite(seen.case, observed, predicted)
                    observed = beyond(observed, predicted, ROUNDINGS * far)
                found = near(observed, predicted, seen.case.tolerance)
                if not found.agrees:
                    return None
                largest = max(largest, found.relative)
        return largest


def _named(mistake: Mistake, claims: Semantics, layer: str) -> NamedMistake:
    usual = "1/√H" if layer == QKV else "1"
    scale = usual if claims.scale is None else f"{claims.scale:g}"
    softcap = "cap · ln 2" if claims.softcap is None else f"{claims.softcap * np.log(2.0):.6g}"
    meant, computed = (
        Sentence(text, **{"scale": scale, "cap · ln 2": softcap})
        for text in (mistake.meant, mistake.computed)
    )
    return NamedMistake(
        mistake.name,
        meant.replace("1 · ", "") if scale == "1" else meant,
        computed,
        mistake.why,
    )
