"""What a known mistake is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attncli.operations.steps import FORWARD, QKV, Calculation, Step
from attncli.reports import NamedMistake

LOOPED = ("time-attention",)
STEPPED = (*LOOPED, QKV)
WHOLE = ("attention", *STEPPED)
SCORED = ("attention-weight", *WHOLE)
"""Operations with a loop over the decoder steps, with decoder steps, of the whole of attention, and
with scores."""

Value = Callable[[Calculation], Any]
"""The number that somebody used, in a calculation of these sizes."""


def constant(number: Any) -> Value:
    """The same number in every calculation."""
    return lambda c: number


@dataclass(frozen=True)
class Mistake(NamedMistake):
    """A known mistake, or a family of them that differ in a number.

    In what it says ``{scale}`` stands for the scale that is claimed, ``{value}`` for the number.

    Attributes
    ----------
    steps : mapping of str to callable
        The steps of the chain that are replaced; empty where numbers cannot tell.
    remedy : str
        What to write instead, in code.
    variants : tuple of mapping of str to callable
        The steps of the same mistake where it is made in another way: in the default of an option
        and not where it is given; by a mask and not by causal order.
    symptom : str
        Of a mistake without steps: the finding of the suite that gives it away.
    family : callable or None
        The steps for a number that is to be found.
    starts : tuple of float
        Numbers near one of which the right one is looked for.
    choices : tuple
        Numbers of which one it must be.
    sized : tuple of (str, callable)
        The axis by whose sizes there are more choices, and what a size makes one.
    claim : str
        The option that says which number is meant.
    by_head : bool
        Whether each head may have its own.
    layers : tuple of str
        The operations in which it can be made; empty if in all.
    alone : bool
        Whether it is a mistake beside a right forward only.
    """

    steps: Mapping[str, Step] = field(default_factory=dict)
    remedy: str = ""
    variants: tuple[Mapping[str, Step], ...] = ()
    symptom: str = ""
    family: Callable[[Value], Mapping[str, Step]] | None = None
    starts: tuple[float, ...] = ()
    choices: tuple[Any, ...] = ()
    sized: tuple[str, Callable[[int], Any]] | None = None
    claim: str = ""
    by_head: bool = False
    layers: tuple[str, ...] = ()
    alone: bool = False

    def fits(self, layer: str) -> bool:
        """Whether it can be made in an operation."""
        return not self.layers or layer in self.layers

    @property
    def readings(self) -> "tuple[Mistake, ...]":
        """The mistake in every way in which it is made."""
        return tuple(replace(self, steps=steps) for steps in (self.steps, *self.variants) if steps)

    def with_value(self, value: Value) -> "Mistake":
        """The member of the family that uses this number."""
        assert self.family is not None
        return replace(self, steps=self.family(value), family=None)

    @property
    def example(self) -> "Mistake":
        """The mistake itself, or a member of the family."""
        if self.family is None:
            return self
        return self.with_value(constant((self.choices or self.starts)[0]))

    @property
    def in_forward(self) -> bool:
        """Whether forward is wrong."""
        return any(step in FORWARD for step in self.example.steps)

    @property
    def in_backward(self) -> bool:
        """Whether the backward pass has steps of its own that are wrong."""
        return any(step not in FORWARD for step in self.example.steps)
