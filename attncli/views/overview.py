"""Many heads at a glance: a grid of small heatmaps, a line of numbers under each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    row, column : str
        Where it stands: the layer (and item), the head.
    weights : ndarray
        Pooled to at most `FINEST` rows and columns.
    number : str
        What stands under it.
    by : (int, int)
        How many weights, down and across, became one.
    pool : {"max", "mean"}
        How.
    """

    row: str
    column: str
    weights: Array
    number: str
    by: tuple[int, int]
    pool: Pool


FINEST = 2 * _WIDEST


def thumbnail(row: str, column: str, weights: Array, number: str, how: Pool = "max") -> Thumbnail:
    """Make a head small; what it was made of need not be kept."""
    down, across = (factor(size, FINEST) for size in weights.shape)
    small = pool(weights, down, across, how).copy()
    return Thumbnail(row, column, small, number, (down, across), how)


class Overview:
    """The grid: a row of small heatmaps for each layer, a column for each head.

    Where they do not fit beside each other, the columns come in blocks.
    """

    def __init__(self, thumbnails: Sequence[Thumbnail], look: Look) -> None:
        self.look = look
        self.rows = list(dict.fromkeys(one.row for one in thumbnails))
        self.columns = list(dict.fromkeys(one.column for one in thumbnails))
        self.at: Mapping[tuple[str, str], Thumbnail] = {
            (one.row, one.column): one for one in thumbnails
        }
        self.label_width = max(map(len, (*self.rows, self.columns[0].split(" ")[0])))
        room = max(_NARROWEST + 1, look.width - self.label_width - 1)
        self.cell = min(_WIDEST, max(_NARROWEST, room // len(self.columns) - 1))
        self.per_block = max(1, (room + 1) // (self.cell + 1))
        self.half = look.color and look.unicode
        self.tall = self._lines() * (2 if self.half else 1)

    @property
    def note(self) -> str:
        """Say what a cell stands for."""
        every = self.at.values()
        factors = set()
        for one in every:
            down, across = self._factors(one)
            factors.add((one.by[0] * down, one.by[1] * across))
        return stated(factors, next(iter(every)).pool) or "1 cell = 1 weight"

    def _factors(self, one: Thumbnail) -> tuple[int, int]:
        T_dec, T_enc = one.weights.shape
        return factor(T_dec, self.tall), factor(T_enc, self.cell)

    def _lines(self) -> int:
        """The lines of one heatmap: as tall as it is wide, a cell being twice as high."""
        return -(-self.cell // 2)

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
                            yield Segment(" " * (self.cell - part.levels.shape[1] * part.cell + 1))
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
        small = pool(one.weights, *self._factors(one), one.pool)
        scale = Scale.of(small)
        return Strips(scale.shares(small), self.look, scale, half=self.half)
