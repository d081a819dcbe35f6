"""What tokenizers do to words, undone: pieces readable, special tokens told apart."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

_PADDING = re.compile(
    r"[<[][|｜_▁]*(pad|padding|blank)(_token|<[0-9]+>)?[|｜_▁]*[]>]", re.IGNORECASE
)
# Not [UNK] and <unk>: they stand for a real word.
_SPECIAL = re.compile(
    r"\[(CLS|SEP|MASK|BOS|EOS|PAD|/?INST|unused\d+)\]"
    r"|</?s>|<(bos|eos|sep|cls|mask|pad|sos|start_of_turn|end_of_turn)>|<\|.*\|>|<｜.*｜>"
)


def is_padding(token: str) -> bool:
    """Tell whether a token only fills up a sequence.

    Examples
    --------
    >>> is_padding("[PAD]"), is_padding("<pad>"), is_padding("[CLS]")
    (True, True, False)
    """
    return _PADDING.fullmatch(token) is not None


def is_special(token: str) -> bool:
    """Tell whether a token is the model's own and no piece of the text.

    Examples
    --------
    >>> is_special("[CLS]"), is_special("<|endoftext|>"), is_special("</s>"), is_special("[UNK]")
    (True, True, True, False)
    """
    return _SPECIAL.fullmatch(token) is not None


def readable(tokens: Sequence[str]) -> list[str]:
    r"""Show the pieces of words as people write them: words plain, what continues one as ``-ing``.

    Knows WordPiece (``##ing``), SentencePiece (``▁the``) and byte-level BPE (``Ġthe``, whose
    letters stand for bytes).

    Examples
    --------
    >>> readable(["[CLS]", "run", "##ning"]), readable(["▁the", "▁kit", "ten", "."])
    (['[CLS]', 'run', '-ning'], ['the', 'kit', '-ten', '.'])
    >>> readable(["The", "Ġcaf", "Ã©", "Ċ"]), readable(["a", "b"])
    (['The', 'caf', '-é', '\n'], ['a', 'b'])
    """
    if any(token.startswith("Ġ") for token in tokens):
        return _joined([_bytes_of(token) for token in tokens], " ")
    if any(token.startswith("▁") for token in tokens):
        return _joined([token.replace("▁", " ") for token in tokens], " ")
    return [
        f"-{token[2:]}" if token.startswith("##") and len(token) > 2 else token for token in tokens
    ]


def _joined(tokens: Sequence[str], space: str) -> list[str]:
    """Turn the mark of a word's beginning into one of its continuation."""
    shown = []
    inside = False  # a word, which the next piece may continue
    for token in tokens:
        begins = token.startswith(space)
        word = token[1:] if begins and len(token) > 1 else token
        continues = inside and not begins and word[:1].isalnum() and not is_special(word)
        shown.append(f"-{word}" if continues else word)
        inside = word[-1:].isalnum() and not is_special(word)
    return shown


def as_bytes(token: str) -> bytes:
    r"""Give the bytes that a token of byte-level BPE stands for; a letter of none has its own.

    Examples
    --------
    >>> as_bytes("ĠÃ©"), as_bytes("ðŁĺ")
    (b' \xc3\xa9', b'\xf0\x9f\x98')
    """
    table = _byte_table()
    return b"".join(
        bytes([table[letter]]) if letter in table else letter.encode("utf-8", "replace")
        for letter in token
    )


def _bytes_of(token: str) -> str:
    """Decode a token of byte-level BPE; one that holds part of a character stays as it is."""
    table = _byte_table()
    try:
        return bytes(table[character] for character in token).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return token


@functools.cache
def _byte_table() -> dict[str, int]:
    """What byte each letter of GPT-2's alphabet stands for: printable ones for themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): b for n, b in enumerate(others)}
