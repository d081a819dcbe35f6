"""What a known mistake is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attncli.operations.steps import FORWARD, Step
from attncli.reports import NamedMistake


@dataclass(frozen=True)
class Mistake(NamedMistake):
    """A known mistake; ``{scale}`` in what it says stands for the scale that is claimed.

    Attributes
    ----------
    steps : mapping of str to callable
        The steps of the chain that are replaced; empty where numbers cannot tell.
    beside : mapping of str to callable
        The steps of the same mistake where it is made in one branch alone, beside another that is
        right: in the default of an option, not where it is given; by a mask, not by causal order.
    symptom : str
        Of a mistake without steps: the finding of the suite that gives it away.
    """

    steps: Mapping[str, Step] = field(default_factory=dict)
    symptom: str = ""
    beside: Mapping[str, Step] = field(default_factory=dict)

    @property
    def readings(self) -> "tuple[Mistake, ...]":
        """The mistake made everywhere, and in one branch alone."""
        return (self, replace(self, steps=self.beside)) if self.beside else (self,)

    @property
    def in_forward(self) -> bool:
        """Whether forward is wrong."""
        return any(step in FORWARD for step in self.steps)

    @property
    def in_backward(self) -> bool:
        """Whether the backward pass has steps of its own that are wrong."""
        return any(step not in FORWARD for step in self.steps)
