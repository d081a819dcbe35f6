"""Calls one after the other: answers that were not computed from the inputs at hand.

Every call gets other numbers in arrays of the same shapes, and what it gives is copied at once.
What is remembered by all of its contents, or follows from sizes alone, is right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near
from attncli.checking.comparing.rounding import beyond, rounded_to
from attncli.checking.derivatives.trial import adds_up
from attncli.checking.diagnosing.cases import Case, Suite
from attncli.checking.targets.target import Layer, Target, as_gradients, real_array, same
from attncli.errors import TargetError
from attncli.reports import Finding
from attncli.tensors import random_tensor
from attncli.translation import Sentence

# More than the twenty after which nobody counts on being looked at.
_CALLS = 32
# A result may claim any number of elements: of more it is not looked into.
_MOST = 1 << 24
# So that the first call of one shape is not the only one that the code has ever seen.
_SEED = 101

_AT_HAND, _EVERY_CALL = UNCOMPUTED = ("of the inputs at hand", "call after call")
"""What fails where numbers tell nothing of a formula."""


@dataclass(frozen=True)
class _Call:
    """What a call gave, out and the gradients, and what it was about."""

    given: tuple[Array, ...]
    case: Case

    @cached_property
    def right(self) -> list[bool]:
        """Which of the arrays are right, beside rounding."""
        truth, rounding = self.case.truth, self.case.truth.rounding
        rights = (truth.results["out"], *truth.gradients)
        fars = (rounding.results["out"], *rounding.gradients)
        pairs = zip(self.given, rights, fars, strict=False)
        return [a.shape == b.shape and self._agrees(beyond(a, b, far), b) for a, b, far in pairs]

    def is_answer_to(self, earlier: "_Call") -> bool:
        """Whether something in it is what was right before, and is not right now."""
        pairs = zip(self.given, earlier.given, self.right, earlier.right, strict=False)
        return any(
            was_right and not right and a.shape == b.shape and self._agrees(a, b)
            for a, b, right, was_right in pairs
        )

    def _agrees(self, a: Array, b: Array) -> bool:
        return near(a, b, self.case.tolerance).agrees


def repeated(target: Target, case: Case, names: Sequence[str]) -> Iterator[Finding]:
    """Call a target again and again, and say what does not come from the inputs at hand.

    Parameters
    ----------
    target : Target
    case : Case
        One that it takes; its shapes are those of every call.
    names : sequence of str
        Its inputs, as we call them.
    """
    series = _Series(target, case, names)
    try:
        yield from series.findings()
    except TargetError:
        return  # reported already


def reused(target: Target, suite: Suite) -> Iterator[Finding]:
    """Use an instance for other sizes, and for two backwards after one forward.

    What an instance that is new gives, one that was used before has to give.
    """
    usual = suite.ordinary()
    try:
        layers = [target.start(usual.sizes) for _ in range(2)]
        first, other, again = (_Run.of(layer, usual) for layer in (*layers, layers[0]))
        if first.raised or not same(first.given, other.given):
            return  # reported already
        yield _finding("other sizes between", _between(target, suite))
        if target.has_backward and same(first.given, again.given):
            yield _twice_backward(layers[0], usual, first)
    except TargetError:
        return  # reported already


class _Run(NamedTuple):
    """What forward and backward gave, or what was raised."""

    given: list[Array]
    raised: str = ""

    @classmethod
    def of(cls, layer: Layer, case: Case) -> "_Run":
        """Run them; what they give is copied at once."""
        try:
            out = real_array(layer.forward(*case.inputs, **case.options))
            if out is None or out.size > _MOST:
                return cls([], "no array of any use")
            out = np.array(out)
            return cls([out, *_backward(layer, _dout(out))])
        except TargetError as error:
            return cls([], str(error))


def _dout(out: Array) -> Array:
    return random_tensor("dout", out.shape, dtype="float64").astype(out.dtype)


def _backward(layer: Layer, dout: Array) -> list[Array]:
    given = as_gradients(layer.backward(dout), 0)
    return [np.array(array) for array in map(real_array, given) if array is not None]


def _between(target: Target, suite: Suite) -> str:
    """Say which sizes an instance has wrong because it was called with others before."""
    usual = suite.usual
    used = target.start(usual)
    _Run.of(used, suite.ordinary())
    larger = ({axis: size + 1} for axis, size in usual.items())
    smaller = {axis: size - 1 for axis, size in usual.items()}
    for changed in (*larger, smaller, {}):
        case = suite.sized("", {**usual, **changed})
        new, again = (_Run.of(x, case) for x in (target.start(usual), used))
        if not new.raised and not same(new.given, again.given):
            sizes = ", ".join(f"{axis} = {case.sizes[axis]}" for axis in changed or usual)
            fault = again.raised or "others than one that is new"
            return Sentence(
                "an instance that has seen other sizes gives, for {sizes}: {fault}",
                sizes=sizes,
                fault=fault,
            )
    return ""


def _twice_backward(layer: Layer, case: Case, first: _Run) -> Finding:
    """Go back twice: what adds up is wrong; what is used up can be had once, which is said."""
    name = "backward twice"
    layer.forward(*case.inputs, **case.options)
    dout = _dout(first.given[0])
    before = _backward(layer, dout)
    try:
        again = _backward(layer, dout)
    except TargetError:
        return Finding(name, "contract", "note", "a second one after the same forward is refused")
    if adds_up(before, again):
        return Finding(name, "contract", "wrong", "the second adds to the gradients of the first")
    if same(before, again):
        return Finding(name, "contract", "ok", "")
    detail = "a second one after the same forward gives others: it uses up what forward kept"
    return Finding(name, "contract", "note", detail)


def _finding(name: str, fault: str) -> Finding:
    return Finding(name, "contract", "wrong" if fault else "ok", fault)


class _Series:
    def __init__(self, target: Target, case: Case, names: Sequence[str]) -> None:
        self.target, self.case, self.names = target, case, names
        self.overwritten: set[tuple[str, str]] = set()
        self.borrowed = False
        self.were_right: list[bool] = []

    def findings(self) -> Iterator[Finding]:
        layer = self.target.start(self.case.sizes)
        truth = self.case.truth
        before = _Call((truth.results["out"], *truth.gradients), self.case)  # it may have seen it
        fresh = [self._call(layer, self._drawn(seed)) for seed in range(_CALLS)]
        kept = self._kept(layer, before, fresh)
        yield _finding(_AT_HAND, kept)
        yield from self._ever(layer, kept)
        yield _finding("results left alone", self._left())
        with self.target.calls.under(watched=True):
            self._call(layer, self._drawn(0))
        if self.borrowed:
            detail = "attncli is what computed it: it is compared with itself"
            yield Finding("computed by itself", "contract", "note", detail)

    def _kept(self, layer: Layer, before: _Call, fresh: list[_Call]) -> str:
        """Say by what results of earlier inputs are found again."""
        earlier = "gives the result of earlier inputs"
        if any(self._before([before, *fresh], number) for number in range(1, _CALLS + 1)):
            return Sentence("{earlier}, of other numbers in the same shapes", earlier=earlier)
        for again, what in (("objects", "the same array objects"), ("memory", "the same memory")):
            with self.target.calls.under(again=again):
                calls = [self._call(layer, self._drawn(_SEED + seed)) for seed in range(3)]
            if any(self._before(calls, number) for number in (1, 2)):
                return Sentence(
                    "{earlier}: {what} with other numbers in it", earlier=earlier, what=what
                )
        base, other = self._drawn(2 * _SEED), self._drawn(3 * _SEED)
        for change, what in ((_nudged, "of which a part is the same"), (_turned, "in other order")):
            alike = [self._rounded(change(array)) for array in base]
            calls = [self._call(layer, inputs) for inputs in (base, alike)]
            if self._before(calls, 1):
                return Sentence("{earlier}: numbers {what}", earlier=earlier, what=what)
        for i, name in enumerate(self.names):
            alone = [*base[:i], other[i], *base[i + 1 :]]
            calls = [self._call(layer, inputs) for inputs in (base, alone)]
            if self._before(calls, 1):
                return Sentence("{earlier}: {name} alone is another", earlier=earlier, name=name)
        if self.target.has_backward and self._remembers_dout(layer, base):
            return Sentence("{earlier}: dout alone is another", earlier=earlier)
        return ""

    def _remembers_dout(self, layer: Layer, inputs: list[Array]) -> bool:
        """Tell whether what backward was given before is what it goes back from."""
        case = replace(self.case, inputs=inputs)
        layer.forward(*inputs, **case.options)
        given = as_gradients(layer.backward(-2 * case.dout), len(self.names))
        found = [_copied(a, b) for a, b in zip(given, case.truth.gradients, strict=False)]
        doubled = [-0.5 * array for array in found]
        rounding = case.truth.rounding.gradients
        for array, half, right, far in zip(
            found, doubled, case.truth.gradients, rounding, strict=False
        ):
            as_before, now = (beyond(x, right, far) for x in (array, half))
            agrees = [near(x, right, case.tolerance).agrees for x in (as_before, now)]
            if agrees == [True, False]:
                return True
        return False

    def _before(self, calls: list[_Call], number: int) -> bool:
        call = calls[number]
        return not all(call.right) and any(call.is_answer_to(earlier) for earlier in calls[:number])

    def _ever(self, layer: Layer, kept: str) -> Iterator[Finding]:
        """Say from which call on what was right is wrong, or that it is for some numbers."""
        wrong = [number for number, right in enumerate(self.were_right, 1) if not right]
        if kept or not wrong or wrong[0] <= 2:  # what the first call leaves behind has its own name
            yield _finding(_EVERY_CALL, "")
            return
        first, seeds = wrong[0], range(_CALLS)
        again = {seed: all(self._call(layer, self._drawn(seed)).right) for seed in seeds}
        if any(again.values()) and not any(again[n - 1] for n in wrong if n <= _CALLS):
            many = list(again.values()).count(False)
            fault = Sentence(
                "right for some numbers and wrong for others: for {many} of {count} inputs",
                many=many,
                count=_CALLS,
            )
            yield _finding("every number", fault)
        else:
            fault = Sentence(
                "right for {calls} calls, and not from call {first} on",
                calls=first - 1,
                first=first,
            )
            yield _finding(_EVERY_CALL, fault)

    def _left(self) -> str:
        said = {
            ("forward", "forward"): "forward writes into what an earlier forward returned",
            ("backward", "forward"): "backward writes into what forward returned",
            ("forward", "backward"): "forward writes into the gradients of the call before",
            ("backward", "backward"): "backward writes into the gradients of the call before",
        }
        return "; ".join(text for pair, text in said.items() if pair in self.overwritten)

    def _drawn(self, seed: int) -> list[Array]:
        return [
            self._rounded(random_tensor(name, array.shape, seed=_SEED + seed))
            for name, array in zip(self.names, self.case.inputs, strict=True)
        ]

    def _rounded(self, array: Array) -> Array:
        return rounded_to(array, self.case.precision).astype(self.case.inputs[0].dtype)

    def _call(self, layer: Layer, inputs: list[Array]) -> _Call:
        """Run forward and backward on other inputs."""
        case = replace(self.case, inputs=inputs)
        truth = case.truth
        self.borrowed = False
        found = [_copied(layer.forward(*inputs, **case.options), truth.results["out"])]
        self._note("forward", layer)
        if self.target.has_backward:
            result = as_gradients(layer.backward(case.dout), len(self.names))
            self._note("backward", layer)
            found += [_copied(a, b) for a, b in zip(result, truth.gradients, strict=False)]
        call = _Call(tuple(found), case)
        self.were_right.append(all(call.right))
        return call

    def _note(self, what: str, layer: Layer) -> None:
        facts = layer.facts
        self.overwritten |= {(what, earlier) for earlier in facts.overwritten}
        self.borrowed = self.borrowed or facts.borrowed


def _copied(value: Any, right: Array) -> Array:
    """A copy of what was given, if it is an array of the right shape."""
    array = real_array(value)
    return np.array(array if array is not None and array.shape == right.shape else np.nan)


def _nudged(array: Array) -> Array:
    """The same but for one number in the middle."""
    changed = array.copy()
    changed.reshape(-1)[changed.size // 2] += 1
    return changed


def _turned(array: Array) -> Array:
    """The same numbers in other rows: their sum, mean and largest are the same."""
    return array[..., ::-1].copy()
