"""Headings over columns too narrow for them: slanted, downwards, or numbered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.text import Text

from attncli.views.clusters import clusters
from attncli.views.labels import Placed, upright
from attncli.views.look import Look

STYLE = "bold"

_LINES = 12
TICKS = 10
"""Of many columns every tenth is numbered."""


def narrow_headings(
    labels: Sequence[str], first: int, cell: int, indent: int, look: Look
) -> list[Text]:
    """Write the headings of columns of one or two terminal columns each.

    Slanted, beginning over their column and rising to the right, where cells are two wide and
    there is room at the right; else downwards, their ends on the last line, positions below them;
    numbered, downwards, where a character is wider than the cell.

    Parameters
    ----------
    labels : sequence of str
    first : int
        The number of the first one.
    cell, indent : int
        Columns of the terminal: a cell, and before the first one.
    look : Look
    """
    # A letter with its accents stands in one place: labels are lists of such letters from here.
    plain = [label.word if isinstance(label, Placed) else label for label in labels]
    short = [clusters(word) for word in plain]
    if cell == 2 and any(len(word) > 2 and not "".join(word).isdecimal() for word in short):
        slanted = [_shortened(label, look) for label in labels]
        if indent + _slanted_width(slanted) <= look.width:
            return _slanted(slanted, indent)
    if any(cell_len(letter) > cell for label in short for letter in label):
        return _downwards([list(str(first + place)) for place in range(len(short))], cell, indent)
    lines = _downwards([_shortened(word, look) for word in plain], cell, indent)
    # Of words that are there more than once the positions, on lines of their own.
    places = [list(str(x.position)) if isinstance(x, Placed) else [] for x in labels]
    return [*lines, *_downwards(places, cell, indent, "dim")]


def _downwards(
    labels: Sequence[list[str]], cell: int, indent: int, style: str = STYLE
) -> list[Text]:
    height = max(map(len, labels), default=0)
    padded = [[" "] * (height - len(label)) + label for label in labels]
    return [
        Text(
            " " * indent
            + "".join(upright(x[row]) + " " * (cell - cell_len(x[row])) for x in padded).rstrip(),
            style,
        )
        for row in range(height)
    ]


def _shortened(label: str, look: Look) -> list[str]:
    letters = clusters(label)
    if len(letters) > _LINES and isinstance(label, Placed):
        letters = clusters(label.cut(_LINES, look))
    return letters if len(letters) <= _LINES else [*letters[: _LINES - 1], look.ellipsis]


def _slanted_width(labels: Sequence[list[str]]) -> int:
    """How far the last characters reach to the right."""
    return max(2 * place + _reach(label) for place, label in enumerate(labels))


def _reach(label: list[str]) -> int:
    """The columns from a label's first letter to the end of its last, one line up for each."""
    return len(label) - 1 + cell_len("".join(label[-1:]))


def _slanted(labels: Sequence[list[str]], indent: int) -> list[Text]:
    height = max(map(len, labels))
    lines = []
    for up in range(height - 1, -1, -1):
        line, at = "", 0
        for place, label in enumerate(labels):
            if up < len(label):
                column = 2 * place + up
                line += " " * (column - at) + upright(label[up])
                at = column + cell_len(label[up])
        lines.append(Text(" " * indent + line, STYLE))
    return lines


def ticks(cells: int, cell: int, indent: int, number: Callable[[int], int]) -> Text:
    """Number every tenth column where its cell begins.

    Examples
    --------
    >>> ticks(25, 1, 2, lambda place: 8 * place).plain
    '  0         80        160'
    """
    line = ""
    for place in range(0, cells, TICKS):
        text = str(number(place))
        if place * cell >= len(line) and place * cell + len(text) <= cells * cell:
            line = line.ljust(place * cell) + text + " "
    return Text(" " * indent + line.rstrip(), "dim")
