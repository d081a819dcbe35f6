"""The catalogue of known mistakes: each is a small variation of the reference.

To add one, add a `Mistake` to the module it belongs to: what it is called, what is meant, what is
computed instead, why that is wrong, the steps of the chain that differ
(`attncli.operations.steps`), or a family of steps for a number that is to be found, and the remedy
in code.  Tests then ask for a class that makes it, and that it is named before every other.
"""

from collections.abc import Mapping
from itertools import chain

from attncli.checking.diagnosing.mistakes.in_backward import BACKWARD
from attncli.checking.diagnosing.mistakes.in_contract import CONTRACT
from attncli.checking.diagnosing.mistakes.in_masking import MASKING
from attncli.checking.diagnosing.mistakes.in_parameters import PARAMETERS
from attncli.checking.diagnosing.mistakes.in_scores import SCORES
from attncli.checking.diagnosing.mistakes.in_summing import SUMMING
from attncli.checking.diagnosing.mistakes.in_weights import WEIGHTS
from attncli.checking.diagnosing.mistakes.mistake import Mistake

KINDS: Mapping[str, tuple[Mistake, ...]] = {
    "Scores": SCORES,
    "Masks, causal order, window": MASKING,
    "Softmax and weights": WEIGHTS,
    "The weighted sum": SUMMING,
    "Backward": BACKWARD,
    "Layers with weights of their own": PARAMETERS,
    "What numbers cannot tell": CONTRACT,
}
"""The known mistakes, in the order of the calculation."""

MISTAKES: tuple[Mistake, ...] = tuple(chain.from_iterable(KINDS.values()))
"""Every known mistake."""

__all__ = ["KINDS", "MISTAKES", "Mistake"]
