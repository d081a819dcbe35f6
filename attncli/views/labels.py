"""Text from files on its way to the screen: harmless, aligned, still readable.

Tokens, array names and file names are data.  They may hold escape sequences, line breaks, text
that runs right to left, or characters that the output cannot encode.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from attncli.views.clusters import clusters, is_mark
from attncli.views.look import Look

# Control and format characters (bidi overrides, zero-width ones), surrogates, private and
# unassigned characters, line and paragraph separators.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Behind a word that runs right to left: terminals that turn such words around would else turn what
# follows with it, and numbers would stand under the wrong words. It takes no column.
_LEFT_TO_RIGHT = "\u200e"


def safe(text: str, look: Look | None = None) -> str:
    r"""Write text so that it stays on its line and does nothing to the terminal.

    Control characters become Python escapes, spaces at the ends are made visible, and what the
    output cannot encode is escaped too.

    Examples
    --------
    >>> safe("\x1b[31mred"), safe("a\nb"), safe("\u202eabc")
    ('\\x1b[31mred', 'a\\nb', '\\u202eabc')
    >>> safe(" the "), safe(""), safe("[/INST]"), safe("日本")
    ('␣the␣', "''", '[/INST]', '日本')
    """
    look = look or Look()
    if text == "":
        return "''"
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    space = "␣" if look.unicode else "_"
    if not inner:
        return space * len(text)
    text = space * before + inner + space * (len(text) - before - len(inner))
    escaped = "".join(map(_escape, text))
    if is_mark(escaped[0]):
        escaped = "\u25cc" + escaped  # or it would join what stands before it
    if not look.plain:
        escaped = upright(escaped)
    return escaped.encode(look.encoding, "backslashreplace").decode(look.encoding)


def upright(text: str) -> str:
    r"""Keep what follows on a terminal where it is, if the text runs right to left.

    Examples
    --------
    >>> upright("\u05d0"), upright("a")
    ('א\u200e', 'a')
    """
    turned = any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
    return text + _LEFT_TO_RIGHT if turned and not text.endswith(_LEFT_TO_RIGHT) else text


class Placed(str):
    """A word that is there more than once, with its position behind it, which is never cut off.

    Examples
    --------
    >>> cat = Placed("cat", 11)
    >>> cat, cat.word, shorten(cat, 6), shorten(cat, 5), shorten(cat, 4)
    ('cat[11]', 'cat', 'c…[11]', 'c[11]', '[11]')
    """

    word: str
    position: int

    def __new__(cls, word: str, position: int) -> Placed:
        """Write the word with its position."""
        label = super().__new__(cls, f"{word}[{position}]")
        label.word, label.position = word, position
        return label

    def cut(self, width: int, look: Look | None) -> str:
        """Cut it to a number of terminal columns."""
        behind = f"[{self.position}]"
        left = width - len(behind)
        short, first = shorten(self.word, left, look), clusters(self.word)[0]
        if left > 0 and cell_len(short.strip((look or Look()).ellipsis)):
            return Placed(short, self.position)
        if cell_len(first) <= left:
            return Placed(first, self.position)
        return behind if left >= 0 else shorten(str(self.position), width, look)


def told_apart(words: Sequence[str]) -> list[str]:
    """Give words that are there more than once their positions, which tell them apart.

    Examples
    --------
    >>> told_apart(["the", "cat", "saw", "the"])
    ['the[0]', 'cat', 'saw', 'the[3]']
    """
    counts = Counter(words)
    return [Placed(word, place) if counts[word] > 1 else word for place, word in enumerate(words)]


def shorten(text: str, width: int, look: Look | None = None) -> str:
    """Cut text to a number of terminal columns, with an ellipsis where something went.

    Examples
    --------
    >>> shorten("researchers", 6), shorten("日本語", 4), shorten("ok", 6)
    ('resea…', '日…', 'ok')
    """
    if cell_len(text) <= width:
        return text
    if isinstance(text, Placed):
        return text.cut(width, look)
    kept, left = "", width - 1
    for letter in clusters(text):
        left -= cell_len(letter)
        if left < 0:
            break
        kept += letter
    behind = _LEFT_TO_RIGHT if text.endswith(_LEFT_TO_RIGHT) else ""
    return kept.rstrip() + (look or Look()).ellipsis + behind


def _escape(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    return character.encode("unicode_escape").decode("ascii")
