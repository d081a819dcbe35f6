"""In which sense code takes a mask: what it is given where a key takes part, and where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.arguments import beside


@dataclass(frozen=True)
class Sense:
    """What a mask is for code that takes it.

    Attributes
    ----------
    words : str
        What is said of it, empty where it is as it is here.
    of : callable
        Makes it of a boolean mask, True where a key takes part.
    turned : callable or None
        Makes of that mask numbers that let the hidden keys alone be seen, where they are factors of
        what is added to the scores: whoever asks whether they are 0 reads them otherwise.
    """

    words: str
    of: Callable[[Array], Any]
    turned: Callable[[Array], Any] | None = None


TAKES_PART = Sense("", np.asarray)
ADDED = Sense("it is added to the scores: -inf hides a key", lambda m: np.where(m, 0.0, -np.inf))
HIDES = Sense("True hides a key", np.logical_not)
TIMES = Sense(
    "1 hides a key: times a large negative number, it is added to the scores",
    lambda m: np.where(m, 0.0, 1.0),
    lambda m: m - 1.0,
)
LACKS = Sense(
    "0 hides a key: what it lacks of 1, times a large negative number, is added to the scores",
    lambda m: np.where(m, 1.0, 0.0),
    lambda m: 2.0 - m,
)


def senses_for(name: str, *, published: bool) -> tuple[Sense, ...]:
    """In which senses an argument of this name may be right, the likeliest first.

    Where True hides a key is a mistake elsewhere, but of padding both are usual.

    Examples
    --------
    >>> HIDES in senses_for("key_padding_mask", published=False)
    True
    >>> HIDES in senses_for("mask", published=False)
    False
    """
    if published:
        return (TAKES_PART, ADDED, HIDES, TIMES)
    beside_ours = (HIDES, TIMES) if beside(name) == "padding" else (TIMES,)
    return (LACKS, TAKES_PART, *beside_ours)
