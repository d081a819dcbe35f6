"""What tokenizers do to words, undone: pieces readable, special tokens told apart."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Sequence

_PADDING = re.compile(
    r"[<[][|｜_▁]*(pad|padding|blank)(_token|<[0-9]+>)?[|｜_▁]*[]>]", re.IGNORECASE
)
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
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

    Knows WordPiece (``##ing``), SentencePiece (``▁the``), byte-level BPE (``Ġthe``, whose letters
    stand for bytes), words that end in ``</w>`` and pieces that end in ``@@``. A character whose
    bytes are spread over several tokens stands at the first of them; a dot in the others is where
    it goes on.

    Examples
    --------
    >>> readable(["[CLS]", "run", "##ning"]), readable(["▁the", "▁kit", "ten", "."])
    (['[CLS]', 'run', '-ning'], ['the', 'kit', '-ten', '.'])
    >>> readable(["The", "Ġcaf", "Ã©", "Ċ"]), readable(["a", "b"])
    (['The', 'caf', '-é', '\n'], ['a', 'b'])
    >>> readable(["Ġhi", "ĠðŁĺ", "Ģ", "!"]), readable(["low", "er</w>"]), readable(["lo@@", "w"])
    (['hi', '😀', '·', '!'], ['low', '-er'], ['lo', '-w'])
    """
    if are_bytes(tokens):
        return _joined(_characters(tokens, [_bytes_of(token) for token in tokens]), " ")
    if any(token.startswith("▁") for token in tokens):
        data = [bytes_of_piece(token) for token in tokens]
        return _joined(_characters(tokens, data), " ")
    for end, goes_on in (("</w>", False), ("@@", True)):
        if any(token.endswith(end) and token != end for token in tokens):
            ends = [token.endswith(end) != goes_on or is_special(token) for token in tokens]
            bare = [token.removesuffix(end) for token in tokens]
            return [
                one if before or is_special(one) else f"-{one}"
                for before, one in zip([True, *ends], bare, strict=False)
            ]
    return [
        f"-{token[2:]}" if token.startswith("##") and len(token) > 2 else token for token in tokens
    ]


def are_bytes(tokens: Sequence[str]) -> bool:
    """Whether letters stand for bytes: a space or line break does, or all make sense as such."""
    if any(token.startswith(("Ġ", "Ċ")) for token in tokens):
        return True
    data = [_bytes_of(token) for token in tokens]
    whole = b"".join(one or b"" for one in data)
    if None in data or whole.isascii():
        return False
    try:
        return len(whole.decode()) < len(whole)
    except UnicodeDecodeError:
        return False


def _characters(tokens: Sequence[str], data: Sequence[bytes | None]) -> list[str]:
    """Decode the bytes of tokens, each character at its first; what is no text stays as it is."""
    shown = list(tokens)
    place = 0
    while place < len(data):
        one = data[place]
        if one is None:
            place += 1
            continue
        decoder = codecs.getincrementaldecoder("utf-8")()
        texts: list[str] = []
        for more in data[place:]:
            if more is None:
                break
            try:
                begun = bool(decoder.getstate()[0])
                text = decoder.decode(more)
            except UnicodeDecodeError:
                break
            if begun and text:
                texts[-1 - _silent(texts)] += text[0]
                text = f"·{text[1:]}"
            texts.append(text or ("·" if begun else ""))
            if not decoder.getstate()[0]:  # whole characters until here
                shown[place : place + len(texts)] = texts
                break
        else:
            texts = []
        place += len(texts) if texts and not decoder.getstate()[0] else 1
    return shown


def _silent(texts: Sequence[str]) -> int:
    """How many at the end only go on with a character."""
    return next((n for n, text in enumerate(reversed(texts)) if text != "·"), 0)


def bytes_of_piece(token: str) -> bytes:
    """Give the bytes of a piece of SentencePiece, which has some by their number."""
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode("utf-8", "replace")


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


def _bytes_of(token: str) -> bytes | None:
    """Give the bytes of a token of byte-level BPE; None where a letter stands for none."""
    table = _byte_table()
    return bytes(table[one] for one in token) if all(one in table for one in token) else None


@functools.cache
def _byte_table() -> dict[str, int]:
    """What byte each letter of GPT-2's alphabet stands for: printable ones for themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): b for n, b in enumerate(others)}
