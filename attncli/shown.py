"""What every report has in common.  Nothing large is imported: `attncli` itself imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from attncli.errors import harmless


class Shown:
    """A report: true where nothing is wrong, and drawn by what stands above it.

    Attributes
    ----------
    views : callable
        Gives the module that draws reports; `attncli` hands it over.
    words : pair of str
        How it says yes and no.
    """

    views: ClassVar[Callable[[], Any]]
    words: ClassVar[tuple[str, str]] = ("ok", "WRONG")

    @property
    def passed(self) -> bool:
        """The verdict, which ``bool(report)`` is too."""
        raise NotImplementedError

    @property
    def line(self) -> str:
        """What was found, in a line."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        word = self.words[0] if self.passed else self.words[1]
        return f"<{type(self).__name__} {word}: {harmless(self.line)}>"

    def __str__(self) -> str:
        return str(Shown.views().as_text(self))

    def _repr_html_(self) -> str:
        return str(Shown.views().as_html(self))

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints of it."""
        found: dict[str, Any] = Shown.views().as_dict(self)
        return found


class Several(Shown):
    """Reports on several targets, which is one: it passes where each does.

    Attributes
    ----------
    reports : tuple of Shown
    """

    reports: tuple[Shown, ...]

    @property
    def passed(self) -> bool:
        """Whether there are any, and each passed."""
        return bool(self.reports) and all(one.passed for one in self.reports)

    @property
    def line(self) -> str:
        """How many of how many are right, and those that are not."""
        wrong = "; ".join(one.line for one in self.reports if not one)
        right = sum(map(bool, self.reports))
        return f"{right} of {len(self.reports)}{wrong and ', not '}{wrong}"


# The symbols of our formulas where they cannot be encoded.
_WORDS = {
    "ᵀ": "^T", "·": "*", "⊙": "*", "Σ": "sum", "−": "-", "∞": "inf", "±": "+-", "²": "^2", "×": "x",
    "√": "sqrt ", "≤": "<=", "≥": ">=", "…": "...", "½": "1/2", "→": "->", "–": "-",
    "γ": "gamma", "δ": "err ", "φ": "phi", "←": "<-", "↑": "up", "↓": "down",
}  # fmt: skip


def fitting(text: str, stream: Any) -> str:
    """Write a text of ours in what a stream can take.

    Examples
    --------
    >>> import io
    >>> fitting("T × T", io.TextIOWrapper(io.BytesIO(), "ascii"))
    'T x T'
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text if encodes(text, encoding) else worded(text, encoding)


def worded(text: str, encoding: str) -> str:
    """Write our symbols in words, and what is then left in escapes."""
    for symbol, words in _WORDS.items():
        text = text.replace(symbol, words)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def encodes(text: str, encoding: str) -> bool:
    """Tell whether an encoding has all of a text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
