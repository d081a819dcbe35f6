"""What is said to learners, in their language: English as it stands in the code, or Japanese.

What is found is kept, and written to JSON, in English.  A screen asks for the translation of each
text it shows; a `Sentence` knows which of its words are data and stay.  The translations are a
``.po`` file in the guide, which is read as it is: a checkout needs no build step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from attncli.errors import ParameterError

if TYPE_CHECKING:
    from gettext import NullTranslations

_NATIVE = {"en": "English", "ja": "日本語"}
LANGUAGES = tuple(_NATIVE)

_FOLDER = Path(__file__).parent / "guide"
_ENTRY = re.compile(r'^(msgid|msgstr)((?:\s+"(?:[^"\\]|\\.)*")+)', re.MULTILINE)
_PLACE = re.compile(r"\{([^{}]+)\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# What a line is not broken in: a word, or a letter of Japanese with the marks that stay with it.
_UNBROKEN = re.compile(
    r"(\s*)([（「]*(?:[^\s\u3000-\uffef]+|[\u3000-\uffef])[、。：，）」ーっゃゅょッャュョ]*)"
)
_used: list[str] = []


def language() -> str:
    """Tell the language of this run: ``ATTN_LANG``, else that of the locale.

    Raises
    ------
    ParameterError
        If ``ATTN_LANG`` is no language that is spoken here.
    """
    if _used:
        return _used[-1]
    asked = os.environ.get("ATTN_LANG")
    if asked:
        if asked not in LANGUAGES:
            known = " or ".join(LANGUAGES)
            raise ParameterError(f"ATTN_LANG is {asked!r}, expected {known}", hint="ATTN_LANG=en")
        return asked
    # The first of these that says something, as for all programs with messages.
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    found = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if found and found not in ("C", "POSIX"):
        found = os.environ.get("LANGUAGE", "").split(":")[0] or found
    return "ja" if re.match(r"ja(?![a-z])", found) else "en"


def speak(encoding: str) -> None:
    """From here on speak what a stream of that encoding can carry.

    Raises
    ------
    ParameterError
        As `language`.
    """
    _used.clear()
    asked = language()
    try:
        _NATIVE[asked].encode(encoding)
    except UnicodeEncodeError:
        asked = "en"
    _used.append(asked)


class Sentence(str):
    """A text of which some words are data: English, and can still be translated.

    Parameters
    ----------
    template : str
        A literal with places in braces, or a sentence of which some are still to be filled.
    **values
        What stands in them; what is a text itself is translated with it.

    Examples
    --------
    >>> said = Sentence("{name} has {count} axes, not {wanted}", name="hs", count=2)
    >>> said
    'hs has 2 axes, not {wanted}'
    >>> Sentence(said, wanted=3)
    'hs has 2 axes, not 3'
    """

    template: str
    places: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Sentence:
        """Fill it in."""
        if isinstance(template, Sentence):
            values = {**template.places, **values}
            template = template.template
        made = super().__new__(cls, _filled(template, values))
        made.template, made.places = template, values
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.template, self.places)


def joined(texts: Iterable[str], between: str = ", ") -> str:
    """Put texts one behind the other, each of which is translated by itself.

    Examples
    --------
    >>> joined(["only at H 1", "all zero"])
    'only at H 1, all zero'
    """
    parts = list(texts)
    places = (f"{{{number}}}" for number in range(len(parts)))
    return Sentence(between.join(places), **{str(n): part for n, part in enumerate(parts)})


def _again(template: str, values: dict[str, Any]) -> Sentence:
    return Sentence(template, **values)


def _filled(template: str, values: dict[str, Any]) -> str:
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), template)


def translated(text: str) -> str:
    """Translate what is shown; what has no translation stays as it is.

    Examples
    --------
    >>> translated("no text of ours")
    'no text of ours'
    """
    if language() == "en" or not text:
        return text
    messages = _messages(language())
    if not isinstance(text, Sentence):
        return messages.gettext(text)
    values = {
        name: translated(value) if isinstance(value, str) else value
        for name, value in text.places.items()
    }
    return _filled(messages.gettext(text.template), values)


def breaks(text: str, width: int) -> list[int]:
    """Tell where lines of so many columns begin, behind the first, in any language.

    Examples
    --------
    >>> text = "`attn` は動かします。"
    >>> breaks(text, 12), text[9:]
    ([9], 'かします。')
    """
    found, used = list[int](), 0
    for part in _UNBROKEN.finditer(text):
        size = columns(part[0])
        if used and used + size > width:
            found.append(part.start(2))
            size, used = columns(part[2]), 0
        used = (used + size - 1) % width + 1  # what is longer than a line is cut
    return found


def columns(text: str) -> int:
    """Count the columns that a text takes, of which a full-width letter takes two.

    Examples
    --------
    >>> columns("重み w")
    6
    """
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


@cache
def _messages(this: str) -> NullTranslations:
    import gettext
    import io

    text = (_FOLDER / this / "messages.po").read_text(encoding="utf-8")
    return gettext.GNUTranslations(io.BytesIO(_compiled(entries(text))))


def entries(text: str) -> dict[str, str]:
    r"""Read a ``.po`` file: each message and its translation.

    Examples
    --------
    >>> entries('msgid "ok"\nmsgstr "正"\n"しい"\n')
    {'ok': '正しい'}
    """
    import ast

    found, message = dict[str, str](), ""
    for kind, strings in _ENTRY.findall(text):
        said = "".join(ast.literal_eval(one) for one in _STRING.findall(strings))
        if kind == "msgid":
            message = said
        elif said:
            found[message] = said
    return found


def _compiled(messages: dict[str, str]) -> bytes:
    """Write the binary form that `gettext` reads: sorted messages, two tables, all strings."""
    import struct

    pairs = sorted((key.encode(), value.encode()) for key, value in messages.items())
    header, table = 28, 8 * len(pairs)
    strings, tables = b"", (list[int](), list[int]())
    for which, side in enumerate(zip(*pairs, strict=True)):
        for one in side:
            tables[which].extend((len(one), header + 2 * table + len(strings)))
            strings += one + b"\0"
    numbers = tables[0] + tables[1]
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), header, header + table, 0, 0)
    return head + struct.pack(f"<{len(numbers)}I", *numbers) + strings
