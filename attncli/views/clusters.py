"""Text as people see it: a letter with its accents is one thing, not several characters."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from rich.cells import cell_len

_JOINER = "\u200d"
_FIRST_FLAG, _LAST_FLAG = "\U0001f1e6", "\U0001f1ff"
_FIRST_TONE, _LAST_TONE = "\U0001f3fb", "\U0001f3ff"
_MARKS = frozenset({"Mn", "Me", "Mc"})


def is_mark(character: str) -> bool:
    """Tell whether a character joins the one before it: an accent, a vowel sign, a selector."""
    return unicodedata.category(character) in _MARKS


def clusters(text: str) -> list[str]:
    r"""Split text into what each stands in a place of its own on the screen.

    In short what Unicode's UAX #29 calls grapheme clusters: marks, variation selectors, skin tones
    and what takes no column belong to the character before them, so does what a zero-width joiner
    joins, and two regional indicators are one flag.

    Examples
    --------
    >>> [len(cluster) for cluster in clusters("cafe\u0301")], clusters("日本")
    ([1, 1, 1, 2], ['日', '本'])
    """
    starts: list[int] = []
    for at, character in enumerate(text):
        if not starts or not _joins(text[max(starts[-1], at - 2) : at], character):
            starts.append(at)
    return [text[begin:end] for begin, end in pairwise([*starts, len(text)])]


def _joins(before: str, character: str) -> bool:
    if character.isascii():
        return False
    if _FIRST_FLAG <= character <= _LAST_FLAG:
        return len(before) == 1 and _FIRST_FLAG <= before <= _LAST_FLAG
    return (
        before.endswith(_JOINER)
        or is_mark(character)
        or _FIRST_TONE <= character <= _LAST_TONE
        or cell_len(character) == 0
    )
