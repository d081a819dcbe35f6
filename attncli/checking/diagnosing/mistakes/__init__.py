"""The catalogue of known mistakes: each is a small variation of the reference.

To add one, add a `Mistake` to the module it belongs to: what it is called, what is meant, what is
computed instead, why that is wrong, and the steps of the chain that differ
(`attncli.operations.steps`).
A test then asks for a class that makes it.
"""

from attncli.checking.diagnosing.mistakes.in_backward import BACKWARD
from attncli.checking.diagnosing.mistakes.in_contract import CONTRACT
from attncli.checking.diagnosing.mistakes.in_masking import MASKING
from attncli.checking.diagnosing.mistakes.in_scores import SCORES
from attncli.checking.diagnosing.mistakes.in_summing import SUMMING
from attncli.checking.diagnosing.mistakes.in_weights import WEIGHTS
from attncli.checking.diagnosing.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (*SCORES, *MASKING, *WEIGHTS, *SUMMING, *BACKWARD, *CONTRACT)
"""Every known mistake, in the order of the calculation."""

__all__ = ["MISTAKES", "Mistake"]
