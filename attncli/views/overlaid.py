"""Several heads in one picture: each has a colour, a cell the mixture of those that look there."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from attncli.arrays import Array
from attncli.errors import ParameterError
from attncli.views.gallery import Gallery
from attncli.views.headings import narrow_headings
from attncli.views.labels import shorten
from attncli.views.lazy import Rows
from attncli.views.legends import number
from attncli.views.look import Look
from attncli.views.matrix import LABEL_STYLE, Matrix
from attncli.views.numbers import Notation
from attncli.views.picture import MOST_LINES, WEIGHT_PRECISION, WeightMatrix
from attncli.views.pooling import factor, pool, stated
from attncli.views.scales import Scale
from attncli.views.shades import takes_black
from attncli.weights.selection import Chosen, called

# The colours of Okabe and Ito, which colour-blind eyes tell apart as well, those that differ most
# first; and darker ones, for a light background.
_DARK = (0xE69F00, 0x56B4E9, 0x009E73, 0xD55E00, 0xF0E442, 0xCC79A7, 0x0072B2, 0xBBBBBB)
_LIGHT = (0xC05A00, 0x0072B2, 0x00785A, 0xA3195B, 0x6E5F00, 0x6A51A3, 0x00808E, 0x4D4D4D)
_NOTHING, _NOTHING_LIGHT = 0x0B0405, 0xFAFAFA
MOST = len(_DARK)
# From such shares of the largest weight on a cell names its strongest head, and in a capital.
_NAMED, _STRONG = 0.1, 0.5


@dataclass(frozen=True)
class Overlaid:
    """Heads that are drawn over each other.

    Attributes
    ----------
    heading : str
        What they have in common.
    names : list of str
        What each is called, in the order of their letters.
    pictures : list of WeightMatrix
    scale : Scale
        Of all of them.
    """

    heading: str
    names: list[str]
    pictures: list[WeightMatrix]
    scale: Scale

    @property
    def first(self) -> WeightMatrix:
        """One of them, whose labels are those of all."""
        return self.pictures[0]

    @property
    def letters(self) -> str:
        """What each is called in a cell."""
        return ascii_lowercase[: len(self.names)]

    @property
    def called(self) -> list[tuple[str, str]]:
        """The letter and the name of each."""
        return list(zip(self.letters, self.names, strict=True))

    def pooled(self, down: int, across: int) -> tuple[Array, str]:
        """Give the weights, (heads, rows, columns), and what a cell stands for."""
        how = self.first.pool
        weights = np.stack([pool(one.weights, down, across, how) for one in self.pictures])
        return weights, stated([(down, across)], how)

    def colors(self, weights: Array, *, light: bool = False) -> Array:
        """Mix the colours of the heads in each cell, by weight; as (rows, columns, 3) bytes.

        The mixture fades to the background as the strongest of them does.
        """
        shares = self.shares(weights)
        hues = rgb(self.hues(light=light)).astype(np.float64)
        total = shares.sum(axis=0)
        mixed = np.einsum("hrc,hk->rck", shares, hues) / np.where(total > 0, total, 1)[..., None]
        nothing = rgb([_NOTHING_LIGHT if light else _NOTHING])[0]
        strength = shares.max(axis=0)[..., None]
        found: Array = (nothing + (mixed - nothing) * strength).round().astype(np.uint8)
        return found

    @property
    def explained(self) -> str:
        """What a colour means."""
        return f"colours mix by weight, full at {number(self.scale.top)}"

    @property
    def lettered(self) -> str:
        """What a letter in a cell means."""
        return f"a letter is the strongest, a capital from {number(self.scale.top * _STRONG)}"

    def hues(self, *, light: bool = False) -> Sequence[int]:
        """Give the colour of each head."""
        return (_LIGHT if light else _DARK)[: len(self.names)]

    def shares(self, weights: Array) -> Array:
        """Give each weight its share of the scale; 0 for what is not finite."""
        flat = weights.reshape(-1, weights.shape[-1])
        shares: Array = np.nan_to_num(self.scale.shares(flat)).reshape(weights.shape)
        return shares

    def named(self, weights: Array) -> Array:
        """Give the letter of the strongest head in each cell: a capital where it is strong."""
        shares = self.shares(weights)
        most = shares.max(axis=0)
        small = np.array(list(self.letters))[shares.argmax(axis=0)]
        return np.where(most >= _STRONG, np.char.upper(small), np.where(most >= _NAMED, small, " "))

    def says(self, weights: Array, row: int, column: int) -> str:
        """Give the weight of each head at a place, the strongest first."""
        order = np.argsort(-weights[:, row, column], kind="stable").tolist()
        return ", ".join(
            f"{self.names[head]} {number(weights[head, row, column])}" for head in order
        )


def rgb(colors: Sequence[int]) -> Array:
    """Give colours as (…, 3) bytes."""
    return np.array([(c >> 16, c >> 8 & 255, c & 255) for c in colors], np.uint8)


def overlays(gallery: Gallery) -> list[Overlaid]:
    """Put the heads over each other, those of each part, item and frame that are of one size.

    Raises
    ------
    ParameterError
        If they are more than colours can tell apart.
    """
    selection = gallery.selection
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, one in enumerate(selection.matrices):
        common = (one.part, one.names.get("item"), one.names.get("frame"), one.shape)
        groups.setdefault(common, []).append(place)
    found = []
    for places in groups.values():
        if len(places) > MOST:
            raise ParameterError(
                f"--overlay: {len(places)} heads are more than the {MOST} that colours tell apart",
                hint="--layer 0 --head 0:4 chooses some",
            )
        chosen = [selection.matrices[place] for place in places]
        differ = [
            name for name in chosen[0].names if len({one.names[name] for one in chosen}) > 1
        ] or [*chosen[0].names][-1:]
        pictures = [gallery.picture(one) for one in chosen]
        heading = _called(chosen[0], [name for name in chosen[0].names if name not in differ])
        letters = [_called(one, differ) or "weights" for one in chosen]
        tops = np.array([one.scale.top for one in pictures])
        scale = Scale.of(tops, "linear", pictures[0].ends)
        found.append(Overlaid(heading, letters, pictures, scale))
    return found


def _called(one: Chosen, names: Sequence[str]) -> str:
    return "  ".join(called(name, one.names[name]) for name in names)


def draw(gallery: Gallery) -> Iterator[RenderableType]:
    """Draw a coloured table of the strongest head of each cell; too wide, of its letter alone."""
    look = gallery.look
    for one in overlays(gallery):
        if one.heading:
            yield Text(one.heading, "bold")
        table = _table(one, look)
        if look.plain:
            yield from (Text(f"{letter} = {name}") for letter, name in one.called)
            yield table.draw(look)
        elif table.width() <= look.width and len(table.row_labels) <= MOST_LINES:
            yield table.draw(look)
            yield from _legend(one, 0, look, "a cell says the strongest")
        else:
            yield from _cells(one, look)
        yield ""


def _table(one: Overlaid, look: Look) -> Matrix:
    weights, _ = one.pooled(1, 1)
    strongest = weights.argmax(axis=0)
    values = np.take_along_axis(weights, strongest[None], axis=0)[0]
    letters = np.array(list(one.letters))
    notation = Notation(values, look.digits(WEIGHT_PRECISION))

    def texts(row: int) -> list[str]:
        own = np.where(values[row] == 0, " ", letters[strongest[row]]).tolist()
        written = notation.write(values[row])
        return [f"{letter} {text}" for letter, text in zip(own, written, strict=True)]

    def styles(row: int) -> list[Style]:
        return [_style(color) for color in colors[row]]

    colors = one.colors(weights, light=look.light)
    return Matrix(
        "", one.first.rows, one.first.columns, Rows(len(values), texts),
        Rows(len(values), styles) if look.color else None,
        longest_cell=notation.longest(values) + 2,
    )  # fmt: skip


def _cells(one: Overlaid, look: Look) -> Iterator[RenderableType]:
    rows, columns = one.first.weights.shape
    label_width = min(max(map(cell_len, one.first.rows), default=0), max(4, look.width // 3))
    room = max(1, (look.width - label_width - 1) // 2)
    down, across = factor(rows, MOST_LINES), factor(columns, room)
    weights, note = one.pooled(down, across)
    labels = one.first.rows[::down]
    headings = one.first.columns[::across]
    yield from narrow_headings(headings, one.first.column_number(0), 2, label_width + 1, look)
    yield _Mixed(one, weights, labels, label_width, look)
    yield from _legend(one, label_width + 1, look, "; ".join(filter(None, (one.lettered, note))))


def _legend(one: Overlaid, indent: int, look: Look, note: str) -> Iterator[Text]:
    """Say whose each letter and colour is."""
    hues = rgb(one.hues(light=look.light))
    for (letter, name), hue in zip(one.called, hues, strict=True):
        line = Text(" " * indent).append(f" {letter} ", _style(hue) if look.color else "")
        yield line.append(f" {name}")
    explained = one.explained if look.color else ""
    yield Text(look.fit("; ".join(filter(None, (explained, note)))), "dim italic")


class _Mixed:
    """Cells, line by line."""

    def __init__(
        self, one: Overlaid, weights: Array, labels: Sequence[str], width: int, look: Look
    ) -> None:
        self.labels, self.width, self.look = labels, width, look
        self.letters = one.named(weights)
        self.colors = one.colors(weights, light=look.light)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the segments of every line."""
        label_style = Style.parse(LABEL_STYLE)
        for row, label in enumerate(self.labels):
            text = shorten(label, self.width, self.look)
            yield Segment(" " * (self.width - cell_len(text)))
            yield Segment(text, label_style)
            yield Segment(" ")
            letters = self.letters[row].tolist()
            if not self.look.color:
                yield Segment("".join(f"{letter} " for letter in letters))
            else:
                for letter, color in zip(letters, self.colors[row], strict=True):
                    yield Segment(f"{letter} ", _style(color))
            yield Segment.line()


def _style(color: Array) -> Style:
    return _styled(*color.tolist())


@functools.lru_cache(maxsize=4096)
def _styled(red: int, green: int, blue: int) -> Style:
    """Make the style of a background, and of what can be read on it."""
    background = Color.from_rgb(red, green, blue)
    text = Color.parse("#000000" if takes_black(background) else "#ffffff")
    return Style.from_color(text, background)
