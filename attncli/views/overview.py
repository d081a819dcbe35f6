"""Many heads at a glance: a grid of small heatmaps, and a sorted table of what they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.views.gallery import Gallery, Watched
from attncli.views.heads import SORTS, Head, draw_heads, draw_map, sort_heads
from attncli.views.legends import hole_key
from attncli.views.look import Look
from attncli.views.pooling import Pool, factor, pool, stated
from attncli.views.scales import Scale
from attncli.views.strips import Strips
from attncli.weights.selection import Chosen, called

# Of more heads than this a terminal shows the first ones of the table; of more than this, one
# cell for each instead of a picture.
_MOST_HEADS, _MOST_IN_GRID = 24, 400
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
    top : float, optional
        The number of the last shade of all; without it each has its own largest.
    widest : int
        No more columns than these are of use.
    """

    def __init__(
        self,
        places: Sequence[tuple[str, str]],
        look: Look,
        how: Pool = "max",
        top: float | None = None,
        widest: int = _WIDEST,
    ) -> None:
        self.look, self.how, self.top = look, how, top
        self.rows = list(dict.fromkeys(row for row, _ in places))
        self.columns = list(dict.fromkeys(column for _, column in places))
        self.at: dict[tuple[str, str], Thumbnail] = {}
        self.label_width = max(map(len, (*self.rows, self.columns[0].split(" ")[0])))
        room = max(_NARROWEST + 1, look.width - self.label_width - 1)
        fits = min(_WIDEST, max(_NARROWEST, room // len(self.columns) - 1))
        self.cell = min(fits, widest)
        self.per_block = max(1, (room + 1) // (self.cell + 1))
        self.half = look.color and look.unicode
        lines = -(-fits // 2)  # as tall as it is wide, a cell being twice as high
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
                texts = ["" if one is None else one.number[: self.cell] for one in numbers]
                if any(texts):
                    under = "".join(text.ljust(self.cell + 1) for text in texts)
                    yield Segment(indent + under.rstrip(), _DIM)
                    yield Segment.line()

    def _strips(self, row: str, column: str) -> Strips | None:
        one = self.at.get((row, column))
        if one is None:
            return None
        scale = Scale.of(one.weights, top=self.top)
        return Strips(one.weights, self.look, scale, half=self.half)


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
    grid = not look.plain and count <= _MOST_IN_GRID
    sort = wanted.sort or "entropy"
    by = sort if sort in SORTS else None
    selection.check_order(sort)
    noun = next((name for name in ("head", "item", "layer") if name in telling), "head")
    heads: list[Head] = []
    places = [place_in_grid(one, telling) for one in selection.matrices]
    overview = Overview(places, look, wanted.pool) if grid else None
    with progress("reading heads") as step:
        for number, one in enumerate(selection.matrices):
            cut = selection.cut(one)
            weights = one.load(cut)
            names = one.names if look.plain else {name: one.names[name] for name in telling}
            statistics = selection.statistics(one, cut, weights)
            heads.append(Head(names, statistics, selection.of_itself(one)))
            if overview is not None:
                value = heads[-1].value(by or "entropy")
                overview.add(places[number], weights, "" if isnan(value) else f"{value:.2f}")
            step(number + 1, count)
    ordered = sort_heads(heads, by)
    if sort == "name":
        ordered.sort(key=lambda head: [(isinstance(x, str), x) for x in head.names.values()])
    matrices = "1 matrix" if count == 1 else f"{count} matrices"
    more = f"{matrices}: --layer, --item, --head choose one, --full shows all"
    if not look.plain and len(ordered) > _MOST_HEADS and not wanted.full:
        left = len(ordered) - _MOST_HEADS
        ordered = ordered[:_MOST_HEADS]
        more = f"{left} more {noun}s not shown: --sort {sort} --full lists all; {more}"
    yield ""
    if overview is not None:
        what = "entropy in bits" if by in (None, "entropy") else SORTS[by].heading
        under = f"{overview.note}, shaded by its {noun}'s largest; under each: {what}"
        explained = Text(look.fit(under), "dim italic")
        if overview.holes:
            explained = Text.assemble(hole_key(look), "  ", explained)
        yield from (overview, explained, "")
    elif not look.plain:  # too many to be drawn one by one
        yield from (draw_map(heads, by or "entropy", look), "")
    order = "in the order of the file" if sort == "file" else f"sorted by {sort}"
    yield Text(f"{count} {noun if count == 1 else noun + 's'}, {order}", "bold")
    yield from (draw_heads(ordered, look, by), "", Text(more, "dim italic"))


def place_in_grid(one: Chosen, telling: Sequence[str]) -> tuple[str, str]:
    """Where in the grid a matrix stands: its last name across, all others down."""
    names = [called(name, one.names[name]) for name in telling]
    return (" ".join(names[:-1]), names[-1]) if names else ("", "")
