"""Many heads at a glance: a grid of small heatmaps, a line of numbers under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from attncli.arrays import Array
from attncli.views.look import Look
from attncli.views.pooling import Pool, factor, pool, stated
from attncli.views.scales import Scale
from attncli.views.strips import Strips

# A small heatmap is so many columns wide, at least and at most.
_NARROWEST, _WIDEST = 5, 16
_BOLD, _DIM, _LABEL = Style.parse("bold"), Style.parse("dim"), Style.parse("cyan")


@dataclass(frozen=True)
class Thumbnail:
    """A head made small.

    Attributes
    ----------
    weights : ndarray
        Pooled.
    number : str
        What stands under it.
    by : (int, int)
        How many weights, down and across, became one.
    """

    weights: Array
    number: str
    by: tuple[int, int]


class Overview:
    """The grid: a row of small heatmaps for each layer, a column for each head.

    Where they do not fit beside each other, the columns come in blocks.

    Parameters
    ----------
    places : sequence of (str, str)
        Where the heads stand: the layer (and item), the head.
    look : Look
    how : {"max", "mean"}
        How weights become one.
    """

    def __init__(self, places: Sequence[tuple[str, str]], look: Look, how: Pool = "max") -> None:
        self.look, self.how = look, how
        self.rows = list(dict.fromkeys(row for row, _ in places))
        self.columns = list(dict.fromkeys(column for _, column in places))
        self.at: dict[tuple[str, str], Thumbnail] = {}
        self.label_width = max(map(len, (*self.rows, self.columns[0].split(" ")[0])))
        room = max(_NARROWEST + 1, look.width - self.label_width - 1)
        self.cell = min(_WIDEST, max(_NARROWEST, room // len(self.columns) - 1))
        self.per_block = max(1, (room + 1) // (self.cell + 1))
        self.half = look.color and look.unicode
        lines = -(-self.cell // 2)  # as tall as it is wide, a cell being twice as high
        self.tall = lines * (2 if self.half else 1)

    def add(self, place: tuple[str, str], weights: Array, number: str) -> None:
        """Make a head small, with a number under it; what it was made of is not kept."""
        T_dec, T_enc = weights.shape
        by = factor(T_dec, self.tall), factor(T_enc, self.cell)
        self.at[place] = Thumbnail(pool(weights, *by, self.how).copy(), number, by)

    @property
    def holes(self) -> bool:
        """Whether some numbers are not finite."""
        return any(Scale.of(one.weights).holes for one in self.at.values())

    @property
    def note(self) -> str:
        """Say what a cell stands for."""
        factors = {one.by for one in self.at.values()}
        return stated(factors, self.how) or "1 cell = 1 weight"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of every line."""
        indent = " " * (self.label_width + 1)
        for first in range(0, len(self.columns), self.per_block):
            block = self.columns[first : first + self.per_block]
            # "head 5" over the first, and where there is room; else its number alone.
            short = [name if len(name) <= self.cell else name.split(" ")[-1] for name in block]
            heading = "".join(name[: self.cell].ljust(self.cell + 1) for name in short)
            what = block[0].split(" ")[0] if short[0] != block[0] else ""
            yield Segment(what.rjust(self.label_width) + " ", _DIM)
            yield Segment(heading.rstrip(), _BOLD)
            yield Segment.line()
            for row in self.rows:
                strips = {name: self._strips(row, name) for name in block}
                for line in range(
                    max(0 if part is None else part.height for part in strips.values())
                ):
                    label = row if line == 0 else ""
                    yield Segment(label.rjust(self.label_width) + " ", _LABEL)
                    for name in block:
                        part = strips[name]
                        if part is not None and line < part.height:
                            yield from part.line(line)
                            yield Segment(" " * (self.cell - part.width + 1))
                        else:
                            yield Segment(" " * (self.cell + 1))
                    yield Segment.line()
                numbers = [self.at.get((row, name)) for name in block]
                texts = ("" if one is None else one.number[: self.cell] for one in numbers)
                under = "".join(text.ljust(self.cell + 1) for text in texts)
                yield Segment(indent + under.rstrip(), _DIM)
                yield Segment.line()

    def _strips(self, row: str, column: str) -> Strips | None:
        one = self.at.get((row, column))
        if one is None:
            return None
        return Strips(one.weights, self.look, Scale.of(one.weights), half=self.half)
