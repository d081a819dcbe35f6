"""What somebody meant by a word, or a name, that is not known.

Similarity has to be good: a wrong guess is worse than none.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

_LONGEST_NUMBER = 32  # characters, with some for blanks


def plain(word: str) -> str:
    """Give a word without what is easily written in another way: case, dashes, underscores.

    Examples
    --------
    >>> plain("--T_enc"), plain("TimeAttention"), plain("time-attention")
    ('tenc', 'timeattention', 'timeattention')
    """
    return "".join(letter for letter in word.lower() if letter.isalnum())


def whole(text: str) -> int:
    """Read a whole number of no more than 64 bits; what has more digits costs no time.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> whole("-3"), whole("9" * 5000)
    Traceback (most recent call last):
    ValueError: expected a whole number of 64 bits
    """
    number = int(text) if len(text) <= _LONGEST_NUMBER else None
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError("expected a whole number of 64 bits")
    return number


def apart(one: str, other: str) -> int:
    """Count the letters to be added, left out, changed, or swapped with their neighbours.

    Examples
    --------
    >>> apart("heds", "heads"), apart("scael", "scale"), apart("gpu", "output")
    (1, 1, 4)
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one):
        line = [i + 1]
        for j, b in enumerate(other):
            cost = min(last[j + 1] + 1, line[j] + 1, last[j] + (a != b))
            if i and j and a == other[j - 1] and b == one[i - 1]:
                cost = min(cost, before[j - 1] + 1)
            line.append(cost)
        before, last = last, line
    return last[-1]


def nearest(word: str, known: Iterable[str], *, slips: int | None = None) -> str | None:
    """Find what is meant: the same but for case and dashes, its beginning, or nearly the same.

    Parameters
    ----------
    word : str
    known : iterable of str
    slips : int, optional
        The most letters that may be wrong; default: one in three, and three at most.

    Returns
    -------
    str or None

    Examples
    --------
    >>> nearest("hs_encs", ["hs_enc", "hs_dec"]), nearest("layr1", ["layer0", "layer1"])
    ('hs_enc', 'layer1')
    >>> nearest("dotproduct", ["attention", "scaled-dot-product"])
    'scaled-dot-product'
    >>> nearest("show", ["show-mask", "shown"]), nearest("gpu", ["output", "input"])
    (None, None)
    """
    words = {one: plain(one) for one in known}
    meant = plain(word)
    if not meant:
        return None
    for one, spelled in words.items():
        if spelled == meant:
            return one
    begun = [one for one, spelled in words.items() if spelled.startswith(meant)]
    if len(begun) == 1 and len(meant) > 2:
        return begun[0]
    limit = min(3, len(meant) // 3) if slips is None else slips
    # Of short words one letter is much, but one left out or swapped is a slip of the hand.
    limit = max(limit, 1 if len(meant) > 2 and slips is None else 0)
    ranked = sorted((apart(meant, spelled), one) for one, spelled in words.items())
    if not begun and ranked and ranked[0][0] <= limit:
        return ranked[0][1]
    within = [one for one, spelled in words.items() if len(meant) > 3 and meant in spelled]
    if not begun and len(within) == 1:
        return within[0]
    longer = [
        one for one, spelled in words.items() if len(spelled) > 3 and meant.startswith(spelled)
    ]
    return max(longer, key=len, default=None)


# Words in the names that people give the tensors of attention.
_SAID = {
    "query": ("q", "query", "queries"),
    "key": ("k", "key", "keys"),
    "value": ("v", "value", "values"),
    "hs_enc": ("enc", "encoder", "source", "src", "memory", "annotations"),
    "hs_dec": ("dec", "decoder", "target", "tgt", "states"),
    "hs": ("hs", "enc", "encoder", "annotations"),
    "h": ("h", "dec", "decoder", "state"),
    "a": ("a", "alpha", "weights", "attention"),
    "output": ("out", "output", "o", "context", "result", "expected"),
    "weights": ("weights", "attention", "attn", "attentions", "alpha", "probs", "a"),
    "mask": ("mask", "bias"),
    "keep": ("keep", "dropout", "mask"),
}


def renames(missing: Iterable[str], there: Iterable[str], *, last: bool = True) -> str | None:
    """Find the arrays that may be the missing ones under other names, as options say it.

    Parameters
    ----------
    missing : iterable of str
        Our names.
    there : iterable of str
        The names of arrays that nothing else is known of.
    last : bool, default True
        Whether the only one left is taken for the only one missing, whatever its name.

    Returns
    -------
    str or None
        None unless all are found.

    Examples
    --------
    >>> renames(["hs_enc"], ["hs_encs"]), renames(["query", "key"], ["q_states", "k_states"])
    ('--rename hs_enc=hs_encs', '--rename query=q_states --rename key=k_states')
    >>> renames(["output"], ["y"]), renames(["output"], ["y", "z"])
    ('--rename output=y', None)
    """
    left, found = list(there), dict[str, str]()
    wanted = list(missing)
    for ours in wanted:
        said = _SAID.get(ours, ())
        theirs = nearest(ours, left) or next(
            (one for word in said for one in left if word in _words(one)), None
        )
        if theirs is None and last and len(wanted) == len(found) + 1 and len(left) == 1:
            theirs = left[0]
        if theirs is None:
            return None
        found[ours] = theirs
        left.remove(theirs)
    return shlex.join(x for pair in found.items() for x in ("--rename", "=".join(pair))) or None


def _words(name: str) -> list[str]:
    """Take a name apart: ``encoder_hiddenStates.0`` into encoder, hidden, states, 0."""
    apart = "".join(f" {c.lower()}" if c.isupper() else c if c.isalnum() else " " for c in name)
    return [name.lower(), *apart.split()]
