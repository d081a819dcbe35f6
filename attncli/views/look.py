"""What the place that is printed to can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attncli.shown import encodes, worded

UNLIMITED = 1_000_000
"""The width of text that is not shown on a terminal: nothing is ever cut or wrapped there."""

_NARROWEST = 20
_SHADES_AND_SIGNS = "░▒▓█▀→…−"


@dataclass(frozen=True)
class Look:
    """What the place that is printed to can show.

    Attributes
    ----------
    width : int
        Columns; `UNLIMITED` where output is piped.
    color : bool
        Whether cells can have colours.
    unicode : bool
        Whether block characters and arrows can be encoded.
    plain : bool
        Piped: full precision, everything in one column of text, no decoration.
    encoding : str
        Of the output; labels are escaped to fit it.
    height : int
        Lines of the terminal.
    few_colors : bool
        No more than the 16 of old terminals.
    indexed : bool
        No more than the 256 of a fixed table.
    precision : int or None
        The digits behind the point that were asked for.
    full : bool
        Every number was asked for, however many there are.
    light : bool
        The background is light: what is nothing is light too.
    """

    width: int = 80
    color: bool = False
    unicode: bool = True
    plain: bool = False
    encoding: str = "utf-8"
    height: int = 24
    few_colors: bool = False
    indexed: bool = False
    precision: int | None = None
    full: bool = False
    light: bool = False

    @classmethod
    def terminal(
        cls, width: int, *, height: int = 24, encoding: str = "utf-8", **more: Any
    ) -> Look:
        """Make the look of a terminal; a width of 0 is unknown and taken as 80.

        Examples
        --------
        >>> Look.terminal(0, color=True).width, Look.terminal(3, color=True).width
        (80, 20)
        """
        width = max(_NARROWEST, width) if width > 0 else 80
        unicode = encodes(_SHADES_AND_SIGNS, encoding)
        return cls(width, unicode=unicode, encoding=encoding, height=max(1, height), **more)

    @classmethod
    def piped(cls, *, encoding: str = "utf-8", **more: Any) -> Look:
        """Make the look of a pipe or a file."""
        unicode = encodes(_SHADES_AND_SIGNS, encoding)
        return cls(UNLIMITED, unicode=unicode, plain=True, encoding=encoding, **more)

    def digits(self, usual: int) -> int | None:
        """Give the digits behind the point: as asked, else as usual, or all where it is piped."""
        return usual if self.precision is None and not self.plain else self.precision

    @property
    def color_system(self) -> str | None:
        """The colours as rich calls them; None where there are none."""
        if not self.color:
            return None
        return "standard" if self.few_colors else "256" if self.indexed else "truecolor"

    @property
    def arrow(self) -> str:
        """An arrow to the right."""
        return "→" if self.unicode else "->"

    @property
    def ellipsis(self) -> str:
        """What stands where text was cut."""
        return "…" if self.unicode else "~"

    @property
    def dot(self) -> str:
        """What stands between the parts of a headline."""
        return " · " if self.unicode else " | "

    @property
    def times(self) -> str:
        """A multiplication sign."""
        return "×" if self.unicode else "x"

    @property
    def minus(self) -> str:
        """A minus sign."""
        return "−" if self.unicode else "-"

    def fit(self, text: str) -> str:
        """Write a formula or a sentence of ours in what can be encoded.

        Examples
        --------
        >>> Look(unicode=False, encoding="ascii").fit("weightsᵀ · dout ± −∞")
        'weights^T * dout +- -inf'
        """
        return (
            text if self.unicode and encodes(text, self.encoding) else worded(text, self.encoding)
        )
