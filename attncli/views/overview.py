"""Many heads at a glance: a grid of small heatmaps, and a sorted table of what they do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.views.gallery import Gallery, Watched, place_in_grid
from attncli.views.heads import SORTS, Head, draw_heads, draw_map, sort_heads
from attncli.views.legends import beyond, hole_key
from attncli.views.look import Look
from attncli.views.picture import SCREENS, WeightMatrix
from attncli.views.pooling import Pool, factor, stated
from attncli.views.scales import Scale
from attncli.views.strips import Strips
from attncli.weights.selection import Chosen, Selection, called
from attncli.weights.statistics import Statistics

# Of more heads than this a terminal shows the first ones of the table, and fewer where there is
# little room; of more than this, one cell for each instead of a picture.
_MOST_HEADS, _MOST_IN_GRID, _FEWEST_HEADS = 24, 400, 5
# A small heatmap is so many columns wide, at least and at most.
_NARROWEST, _WIDEST = 5, 16
# What stands in an overview beside the pictures and the heads: blank lines, headings.
_AROUND = 6
_LONGEST_NOTE = "1 cell = the maximum of up to 99 × 99 weights"
_BOLD, _DIM, _LABEL = Style.parse("bold"), Style.parse("dim"), Style.parse("cyan")


@dataclass(frozen=True)
class Thumbnail:
    """A head made small.

    Attributes
    ----------
    weights : ndarray
        Pooled.
    scale : Scale
    number : str
        What stands under it.
    by : (int, int)
        How many weights, down and across, became one.
    """

    weights: Array
    scale: Scale
    number: str
    by: tuple[int, int]


class Overview:
    """The grid: a row of small heatmaps for each layer, a column for each head.

    Where they do not fit beside each other, the columns come in blocks; where they would be too
    tall, they are lower, and in the end there is no room for them.

    Parameters
    ----------
    places : sequence of (str, str)
        Where the heads stand: the layer (and item), the head.
    look : Look
    widest : int
        No more columns than these are of use.
    lines : int, optional
        No more lines than these.
    """

    def __init__(
        self,
        places: Sequence[tuple[str, str]],
        look: Look,
        *,
        widest: int = _WIDEST,
        lines: int | None = None,
    ) -> None:
        self.look = look
        self.rows = list(dict.fromkeys(row for row, _ in places))
        self.columns = list(dict.fromkeys(column for _, column in places))
        self.at: dict[tuple[str, str], Thumbnail] = {}
        self.label_width = max(map(len, (*self.rows, self.columns[0].split(" ")[0])))
        room = max(_NARROWEST + 1, look.width - self.label_width - 1)
        fits = min(_WIDEST, max(_NARROWEST, room // len(self.columns) - 1))
        self.half = look.color and look.unicode
        for cell in range(fits, _NARROWEST - 1, -1):
            self._lay_out(min(cell, widest), -(-cell // 2), room)
            if lines is None or self.height <= lines:
                break
        while lines is not None and self.height > lines and self.lines > 1:
            self._lay_out(self.cell, self.lines - 1, room)
        self.fits = lines is None or self.height <= lines

    def _lay_out(self, cell: int, lines: int, room: int) -> None:
        # As tall as it is wide where there is room, a cell being twice as high.
        self.cell, self.lines = cell, lines
        self.per_block = max(1, (room + 1) // (cell + 1))
        self.tall = lines * (2 if self.half else 1)

    @property
    def height(self) -> int:
        """How many lines there are, each picture with a number under it."""
        blocks = -(-len(self.columns) // self.per_block)
        return blocks * (1 + len(self.rows) * (self.lines + 1))

    def add(self, place: tuple[str, str], picture: WeightMatrix, number: str) -> None:
        """Make a head small, with a number under it; what it was made of is not kept."""
        T_dec, T_enc = picture.weights.shape
        by = factor(T_dec, self.tall), factor(T_enc, self.cell)
        weights, scale, _ = picture.pooled(*by)
        self.at[place] = Thumbnail(weights.copy(), scale, number, by)

    def on_one_scale(self) -> Scale:
        """Give all of them the scale of the brightest, unless they were given one."""
        scale = max((one.scale for one in self.at.values()), key=lambda scale: scale.top)
        for place, one in self.at.items():
            self.at[place] = replace(one, scale=replace(one.scale, top=scale.top))
        return scale

    @property
    def holes(self) -> bool:
        """Whether some numbers are not finite."""
        return any(one.scale.holes for one in self.at.values())

    @property
    def beyond(self) -> tuple[int, int]:
        """How many numbers are smaller and how many larger than the shades that were given."""
        scales = [one.scale for one in self.at.values()]
        return sum(scale.smaller for scale in scales), sum(scale.larger for scale in scales)

    def note(self, how: Pool) -> str:
        """Say what a cell stands for."""
        factors = {one.by for one in self.at.values()}
        return stated(factors, how) or "1 cell = 1 weight"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of every line."""
        indent = " " * (self.label_width + 1)
        for first in range(0, len(self.columns), self.per_block):
            block = self.columns[first : first + self.per_block]
            # "head 10" over all where there is room; else their numbers alone, and "head" before.
            narrow = max(map(len, block)) > self.cell
            short = [name.split(" ")[-1] if narrow else name for name in block]
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
                texts = ["" if one is None else one.number[: self.cell] for one in numbers]
                if any(texts):
                    under = "".join(text.ljust(self.cell + 1) for text in texts)
                    yield Segment(indent + under.rstrip(), _DIM)
                    yield Segment.line()

    def _strips(self, row: str, column: str) -> Strips | None:
        one = self.at.get((row, column))
        if one is None:
            return None
        return Strips(one.weights, self.look, one.scale, half=self.half)


def draw(gallery: Gallery, progress: Watched) -> Iterator[RenderableType]:
    """Draw all heads small, and a table of what they do.

    Parameters
    ----------
    gallery : Gallery
    progress : callable
        ``progress(what)`` is a context in which a long step is watched; see `Watched`.
    """
    look, selection, wanted = gallery.look, gallery.selection, gallery.selection.wanted
    telling, count = selection.telling, len(gallery)
    sort = wanted.sort or "entropy"
    by = sort if sort in SORTS else None
    selection.check_order(sort)
    noun = next((name for name in ("head", "item", "layer") if name in telling), "head")
    what = "entropy in bits" if by in (None, "entropy") else SORTS[by or ""].heading
    matrices = "1 matrix" if count == 1 else f"{count} matrices"
    part = "--part, " if "part" in telling else ""
    more = f"{matrices}: {part}--layer, --item, --head choose one, --full shows all"
    left = f"{count - _FEWEST_HEADS} more {noun}s not shown: --sort {sort} --full lists all; {more}"

    # What there is room for: the pictures first, but for some of the heads in the table.
    lines = SCREENS * look.height - _AROUND
    lines -= sum(_height(x, look) for x in (*gallery.heading.plain.splitlines(), left))
    said = _height(f"{_LONGEST_NOTE}, shaded by its {noun}'s largest; under each: {what}", look)
    places = [place_in_grid(one, telling) for one in selection.matrices]
    overview = Overview(places, look, lines=lines - said - min(count, _FEWEST_HEADS))
    grid = not look.plain and count <= _MOST_IN_GRID and overview.fits
    grid &= gallery.elsewhere is None
    rising = sort == "monotonic"  # which costs as much as all the others
    found: dict[int, Statistics] = {}
    with progress("reading heads") as step:
        for number, statistics in gallery.elsewhere(rising) if gallery.elsewhere else ():
            found[number] = statistics
            step(len(found), count)
        for number, one in enumerate(() if gallery.elsewhere else selection.matrices):
            cut = selection.cut(one)
            picture = gallery.picture(one)
            found[number] = selection.statistics(one, cut, picture.weights, monotonic=rising)
            if grid:
                value = _head(gallery, one, found[number]).value(by or "entropy")
                overview.add(places[number], picture, "" if isnan(value) else f"{value:.2f}")
            step(number + 1, count)
    heads = [_head(gallery, one, found[n]) for n, one in enumerate(selection.matrices)]
    ordered = sort_heads(heads, None if sort == "file" else sort)
    yield ""
    if grid:
        explained = _explained(gallery, overview, noun, what)
        lines -= overview.height + _height(explained.plain, look)
        yield from (overview, explained, "")
    elif not look.plain:  # too many to be drawn one by one
        drawn = draw_map(heads, places, by or "entropy", look, lines - _FEWEST_HEADS)
        lines -= sum(_height(line.plain, look) for line in drawn)
        yield from drawn
        yield ""
    most = min(_MOST_HEADS, max(_FEWEST_HEADS, lines))
    if not look.plain and count > most and not wanted.full:
        ordered = ordered[:most]
        more = left.replace(str(count - _FEWEST_HEADS), str(count - most), 1)
        more = more.replace(f"1 more {noun}s", f"1 more {noun}") if count - most == 1 else more
    of = _common(selection)
    order = "in the order of the file" if sort == "file" else f"sorted by {sort}"
    yield Text(f"{count} {noun if count == 1 else noun + 's'}{of}, {order}", "bold")
    yield from (draw_heads(ordered, look, by), "", Text(more, "dim italic"))


def _head(gallery: Gallery, one: Chosen, statistics: Statistics) -> Head:
    names, selection = one.names, gallery.selection
    if not gallery.look.plain:
        names = {name: names[name] for name in selection.telling}
    return Head(names, statistics, selection.of_itself(one))


def _height(text: str, look: Look) -> int:
    """How many lines a text takes."""
    return len(textwrap.wrap(text, look.width))


def _common(selection: Selection) -> str:
    """Say which layer all are of, and whatever else does not tell them apart."""
    names = {
        name: value
        for name, value in selection.matrices[0].names.items()
        if name not in selection.telling and (name != "item" or selection.source.shape[0] > 1)
    }
    return "".join(f" of {called(name, value)}" for name, value in names.items())


def _explained(gallery: Gallery, overview: Overview, noun: str, what: str) -> Text:
    """Say what the cells of the pictures are, their shades, and the number under each."""
    look, wanted = gallery.look, gallery.selection.wanted
    shades = gallery.range or f"shaded by its {noun}'s largest"
    if told := beyond(*overview.beyond):
        shades += f", {told}"
    text = f"{overview.note(wanted.pool)}, {shades}; under each: {what}"
    explained = Text(look.fit(text), "dim italic")
    return Text.assemble(hole_key(look), "  ", explained) if overview.holes else explained
