"""Seven English words and the seven French ones that mean the same, not all in the same order.

A sentence is determiner, adjective, noun, verb, determiner, adjective, noun. French puts most
adjectives behind their noun, ``the white rabbit`` is ``le lapin blanc``; but ``petit``, ``grand``
and ``jeune`` stand before it. So whoever translates has to look back and forth.
"""

from __future__ import annotations

import numpy as np

from attncli.arrays import Array

_WORDS = (
    {"the": "le", "a": "un", "this": "ce", "my": "mon", "your": "ton", "every": "chaque",
     "our": "notre"},
    {"small": "petit", "big": "grand", "young": "jeune"},
    {"black": "noir", "white": "blanc", "red": "rouge", "green": "vert"},
    {"cat": "chat", "dog": "chien", "horse": "cheval", "rabbit": "lapin", "fox": "renard",
     "duck": "canard", "pig": "cochon", "wolf": "loup", "monkey": "singe", "goat": "bouc"},
    {"sees": "voit", "hears": "entend", "follows": "suit", "finds": "trouve",
     "catches": "attrape", "washes": "lave", "paints": "peint"},
)  # fmt: skip
ENGLISH = tuple(word for kind in _WORDS for word in kind)
FRENCH = (*(word for kind in _WORDS for word in kind.values()), "<s>")
"""A word and what it means have the same number; ``<s>`` is what stands before the first one."""
START = FRENCH.index("<s>")

_ENDS = np.cumsum([len(kind) for kind in _WORDS])
_DETERMINER, _ADJECTIVE, _NOUN, _VERB = (
    (0, _ENDS[0]), (_ENDS[0], _ENDS[2]), (_ENDS[2], _ENDS[3]), (_ENDS[3], _ENDS[4])
)  # fmt: skip
_PHRASE = (_DETERMINER, _ADJECTIVE, _NOUN)
_LOW, _HIGH = np.transpose([*_PHRASE, _VERB, *_PHRASE])
LENGTH = len(_LOW)
_ADJECTIVES = (1, 5)  # their places

# One sentence in so many is kept from whoever learns.
_KEPT_ONE_IN = 8


def read(sentence: str) -> Array:
    """Turn an English sentence into the numbers of its words, (1, 7)."""
    return np.array([[ENGLISH.index(word) for word in sentence.split()]])


SHOWN = read("the young fox follows my white rabbit")
"""The sentence that is watched; it is among those that are kept back."""


def draw(rng: np.random.Generator, count: int, *, unseen: bool = False) -> Array:
    """Draw English sentences (count, 7): to learn from, or of those that are kept back.

    Examples
    --------
    >>> " ".join(ENGLISH[word] for word in draw(np.random.default_rng(1), 1)[0])
    'my black wolf paints the big monkey'
    """
    found = np.empty((0, LENGTH), np.intp)
    while len(found) < count:
        some = rng.integers(_LOW, _HIGH, size=(count, LENGTH))
        kept_back = (some.sum(axis=1) - SHOWN.sum()) % _KEPT_ONE_IN == 0
        found = np.concatenate([found, some[kept_back == unseen]])
    return found[:count]


def sources(english: Array) -> Array:
    """Give for every French word the place of the English one that it means, (N, 7)."""
    places = np.tile(np.arange(LENGTH), (len(english), 1))
    for adjective in _ADJECTIVES:
        behind = english[:, adjective] >= _ENDS[1]
        places[behind, adjective] += 1
        places[behind, adjective + 1] -= 1
    return places


def translated(english: Array) -> Array:
    """Translate as it is right.

    Examples
    --------
    >>> " ".join(FRENCH[word] for word in translated(SHOWN)[0])
    'le jeune renard suit mon lapin blanc'
    """
    return np.take_along_axis(english, sources(english), axis=1)
