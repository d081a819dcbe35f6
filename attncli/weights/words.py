"""Words out of the pieces that tokenizers make of them."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attncli.arrays import Array
from attncli.weights.tokens import BYTE, are_bytes, as_bytes, bytes_of_piece, is_special

# What stands for something else than text: <image>, <unk>, [INST] and the like.
_STANDS_FOR = re.compile(r"<[^<>\s]+>|\[[A-Z][A-Z_]*\d*\]")
_JOINER, _TONES = "\u200d", range(0x1F3FB, 0x1F400)  # parts of an emoji


@dataclass(frozen=True)
class Words:
    """Words, and the pieces that they are made of.

    Attributes
    ----------
    texts : list of str
        Without the marks of tokenizers.
    edges : ndarray of int
        The first piece of each word, and the one behind the last of all.
    """

    texts: list[str]
    edges: Array


def words_of(tokens: Sequence[str]) -> Words:
    """Put the pieces of words together.

    Knows WordPiece (``##ing``), SentencePiece (``▁the``, ``<0xE2>``), byte-level BPE (``Ġthe``),
    words that end in ``</w>``, pieces that end in ``@@``, and a space before a word. The bytes of a
    character are never parted, special tokens and punctuation never joined to a word.

    Examples
    --------
    >>> words_of(["[CLS]", "photo", "##copi", "##er", "."]).texts
    ['[CLS]', 'photocopier', '.']
    >>> words_of(["So", "Ġtoken", "ization", ",", "ĠðŁĺ", "Ģ"])
    Words(texts=['So', 'tokenization', ',', '😀'], edges=array([0, 1, 3, 4, 6]))
    >>> words_of(["▁Wunder", "bar", "</s>"]).texts, words_of(["low", "er</w>", "!</w>"]).texts
    (['Wunderbar', '</s>'], ['lower', '!'])
    """
    texts: list[str] = []
    starts: list[int] = []
    for start, text, joins in _characters(tokens):
        if joins and texts:
            texts[-1] += text
        else:
            texts.append(text)
            starts.append(start)
    shown = [text if text.isspace() else text.removeprefix(" ") for text in texts]
    return Words(shown, np.array([*starts, len(tokens)]))


def _characters(tokens: Sequence[str]) -> list[tuple[int, str, bool]]:
    """Give runs of pieces that hold whole characters: where each begins, its text, if it joins on.

    A space at the beginning of the text is the mark of a word.
    """
    plain = [token for token in tokens if not _alone(token)]
    if are_bytes(plain):
        return _by_beginnings(tokens, as_bytes)
    if any(token.startswith(("▁", " ")) for token in plain):
        return _by_beginnings(tokens, bytes_of_piece)
    joins = [token.startswith("##") and len(token) > 2 for token in tokens]
    if any(joins):
        bare = [token[2:] if joined else token for token, joined in zip(tokens, joins, strict=True)]
        return _joined(tokens, bare, joins)
    for end, goes_on in (("</w>", False), ("@@", True)):
        if any(token.endswith(end) and token != end for token in plain):
            joins = [False, *(token.endswith(end) == goes_on for token in tokens[:-1])]
            return _joined(tokens, [token.removesuffix(end) for token in tokens], joins)
    return [(place, token, False) for place, token in enumerate(tokens)]


def _joined(
    tokens: Sequence[str], bare: Sequence[str], joins: Sequence[bool]
) -> list[tuple[int, str, bool]]:
    """Join pieces as they are marked, but for special tokens."""
    special = [_alone(token) for token in tokens]
    return [
        (
            place,
            tokens[place] if special[place] else bare[place],
            joins[place] and not special[place] and place > 0 and not special[place - 1],
        )
        for place in range(len(tokens))
    ]


def _by_beginnings(
    tokens: Sequence[str], decoded: Callable[[str], bytes]
) -> list[tuple[int, str, bool]]:
    """Join what has no mark of a beginning, and what are bytes of one character."""
    found: list[tuple[int, str, bool]] = []
    word = ""  # that the next piece may continue
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    start, text, pending = 0, "", False
    for place, token in enumerate(tokens):
        data = None if _alone(token) else decoded(token)
        if data is None or (pending and not _continues(data)):
            if pending:  # a character that never ends
                text += decoder.decode(b"", final=True)
                found.append((start, text, _goes_on(word, text)))
                word = text
            decoder.reset()
            text, pending = "", False
        if data is None:
            found.append((place, token, False))
            word = ""
            continue
        if not pending:
            start, text = place, ""
        text += decoder.decode(data)
        pending = bool(decoder.getstate()[0])
        if not pending:
            joins = _goes_on(word, text)
            found.append((start, text, joins))
            word = word + text if joins else text
    if pending:
        text += decoder.decode(b"", final=True)
        found.append((start, text, _goes_on(word, text)))
    return found


def _continues(data: bytes) -> bool:
    """Whether bytes go on with a character that has begun."""
    return bool(data) and data[0] & 0xC0 == 0x80


def _goes_on(word: str, text: str) -> bool:
    """Whether a piece without a mark belongs to the word before it."""
    if not word or not text or text.startswith(" "):
        return False
    if word.isspace():  # a mark alone, whose word comes now
        return word == " "
    first = text[0]
    if word[-1] == _JOINER or first == _JOINER or ord(first) in _TONES:
        return True
    if unicodedata.category(first)[0] == "M":  # an accent, or how a sign is to be drawn
        return True
    return _is_letter(word[-1]) and any(map(_is_letter, text))  # neither is punctuation


def _alone(token: str) -> bool:
    """Whether a token is no piece of any word."""
    if is_special(token):
        return True
    return _STANDS_FOR.fullmatch(token) is not None and BYTE.fullmatch(token) is None


def _is_letter(character: str) -> bool:
    """Whether it is of a word: a letter, a number, or a mark on one."""
    return unicodedata.category(character)[0] in "LNM"
