"""Several heads in one picture: each has a colour, a cell the mixture of those that look there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from attncli.views.legends import beyond, number
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
# The 16 colours of old terminals do not mix.
_FEW_STYLES = [
    Style.parse(f"black on {name}")
    for name in (
        "yellow",
        "cyan",
        "green",
        "red",
        "bright_white",
        "magenta",
        "bright_blue",
        "white",
    )
]
# From such shares of the largest weight on a cell names its strongest head, and in a capital.
_NAMED, _STRONG = 0.1, 0.5
# What stands around the cells: the line of the file, headings, what is said of them.
_AROUND, _FEWEST_LINES = 8, 12
# No column of the table is narrower: a 0.00 and the gap.
_NARROWEST = 8


@dataclass(frozen=True)
class Overlaid:
    """Heads that are to be drawn over each other, not all of them loaded.

    Attributes
    ----------
    heading : str
        What they have in common.
    names : list of str
        What each is called, in the order of their letters.
    first : WeightMatrix
        One of them, whose labels are those of all.
    others : sequence of callable
        Each loads another one.
    """

    heading: str
    names: list[str]
    first: WeightMatrix
    others: Sequence[Callable[[], WeightMatrix]]

    def pooled(self, down: int, across: int) -> Mixture:
        """Load them one after the other, with blocks of weights as one."""
        how, scales, weights = self.first.pool, [], []
        for load in (lambda: self.first, *self.others):
            picture = load()
            scales.append(picture.scale)
            weights.append(pool(picture.weights, down, across, how))
        scale = Scale.of(np.array([one.top for one in scales]), "linear", self.first.ends)
        smaller, larger = sum(x.smaller for x in scales), sum(x.larger for x in scales)
        scale = replace(scale, smaller=smaller, larger=larger)
        return Mixture(self.names, np.stack(weights), scale, stated([(down, across)], how))


@dataclass(frozen=True)
class Mixture:
    """Heads over each other.

    Attributes
    ----------
    names : list of str
    weights : ndarray (heads, rows, columns)
    scale : Scale
        Of all of them.
    note : str
        What a cell stands for, where that is more than one weight.
    """

    names: list[str]
    weights: Array
    scale: Scale
    note: str = ""

    @property
    def letters(self) -> str:
        """What each is called in a cell."""
        return ascii_lowercase[: len(self.names)]

    @property
    def called(self) -> list[tuple[str, str]]:
        """The letter and the name of each."""
        return list(zip(self.letters, self.names, strict=True))

    @property
    def explained(self) -> str:
        """What a colour means."""
        told = beyond(self.scale.smaller, self.scale.larger)
        full = f"colours mix by weight, full at {number(self.scale.top)}"
        return f"{full}, {told}" if told else full

    @property
    def lettered(self) -> str:
        """What a letter in a cell means."""
        return f"a letter is the strongest, a capital from {number(self.scale.top * _STRONG)}"

    @property
    def notes(self) -> list[str]:
        """All that is to be said of a drawing."""
        return [self.explained, self.lettered, self.note]

    def hues(self, *, light: bool = False) -> Sequence[int]:
        """Give the colour of each head."""
        return (_LIGHT if light else _DARK)[: len(self.names)]

    @cached_property
    def shares(self) -> Array:
        """The share that each weight has of the scale; 0 for what is not finite."""
        flat = self.weights.reshape(-1, self.weights.shape[-1])
        shares: Array = np.nan_to_num(self.scale.shares(flat)).reshape(self.weights.shape)
        return shares

    def colors(self, *, light: bool = False) -> Array:
        """Mix the colours of the heads in each cell, by weight; as (rows, columns, 3) bytes.

        The mixture fades to the background as the strongest of them does.
        """
        hues, total = rgb(self.hues(light=light)).astype(np.float64), self.shares.sum(axis=0)
        mixed = np.einsum("hrc,hk->rck", self.shares, hues)
        mixed /= np.where(total > 0, total, 1)[..., None]
        nothing = rgb([_NOTHING_LIGHT if light else _NOTHING])[0]
        strength = self.shares.max(axis=0)[..., None]
        found: Array = (nothing + (mixed - nothing) * strength).round().astype(np.uint8)
        return found

    @cached_property
    def named(self) -> Array:
        """The letter of the strongest head in each cell: a capital where it is strong."""
        most = self.shares.max(axis=0)
        small = np.array(list(self.letters))[self.shares.argmax(axis=0)]
        return np.where(most >= _STRONG, np.char.upper(small), np.where(most >= _NAMED, small, " "))

    def says(self, row: int, column: int) -> str:
        """Give the weight of each head at a place, the strongest first."""
        order = np.argsort(-self.weights[:, row, column], kind="stable").tolist()
        return ", ".join(
            f"{self.names[head]} {number(self.weights[head, row, column])}" for head in order
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
        heading = _called(chosen[0], [name for name in chosen[0].names if name not in differ])
        names = [_called(one, differ) or "weights" for one in chosen]
        others = [functools.partial(gallery.picture, one) for one in chosen[1:]]
        found.append(Overlaid(heading, names, gallery.picture(chosen[0]), others))
    return found


def _called(one: Chosen, names: Sequence[str]) -> str:
    return "  ".join(called(name, one.names[name]) for name in names)


def draw(gallery: Gallery) -> Iterator[RenderableType]:
    """Draw a coloured table of the strongest head of each cell; too wide, of its letter alone."""
    look = gallery.look
    for one in overlays(gallery):
        if one.heading:
            yield Text(one.heading, "bold")
        rows, columns = one.first.weights.shape
        if look.plain or (rows <= MOST_LINES and columns * _NARROWEST <= look.width):
            mixture = one.pooled(1, 1)
            table = _table(one, mixture, look)
            if look.plain:
                yield from (Text(f"{letter} = {name}") for letter, name in mixture.called)
            if look.plain or table.width() <= look.width:
                yield table.draw(look)
                if not look.plain:
                    yield from _legend(mixture, 0, look, "a cell says the strongest")
                yield ""
                continue
        yield from _cells(one, look)
        yield ""


def _table(one: Overlaid, mixture: Mixture, look: Look) -> Matrix:
    strongest = mixture.weights.argmax(axis=0)
    values = np.take_along_axis(mixture.weights, strongest[None], axis=0)[0]
    letters = np.array(list(mixture.letters))
    notation = Notation(values, look.digits(WEIGHT_PRECISION))

    def texts(row: int) -> list[str]:
        own = np.where(values[row] == 0, " ", letters[strongest[row]]).tolist()
        written = notation.write(values[row])
        return [f"{letter} {text}" for letter, text in zip(own, written, strict=True)]

    return Matrix(
        "", one.first.rows, one.first.columns, Rows(len(values), texts),
        _styles(mixture, look) if look.color else None,
        longest_cell=notation.longest(values) + 2,
    )  # fmt: skip


def _cells(one: Overlaid, look: Look) -> Iterator[RenderableType]:
    rows, columns = one.first.weights.shape
    label_width = min(max(map(cell_len, one.first.rows), default=0), max(4, look.width // 3))
    room = max(1, (look.width - label_width - 1) // 2)
    # What is too tall to scroll through is made to fit one screen.
    screen = max(_FEWEST_LINES, look.height - len(one.names) - _AROUND)
    down = 1 if rows <= MOST_LINES else factor(rows, screen)
    across = factor(columns, room)
    mixture = one.pooled(down, across)
    headings = one.first.columns[::across]
    yield from narrow_headings(headings, one.first.column_number(0), 2, label_width + 1, look)
    yield _Mixed(mixture, one.first.rows[::down], label_width, look)
    note = "; ".join(filter(None, (mixture.lettered, mixture.note)))
    yield from _legend(mixture, label_width + 1, look, note)


def _legend(mixture: Mixture, indent: int, look: Look, note: str) -> Iterator[Text]:
    """Say whose each letter and colour is."""
    styles = [_style(hue) for hue in rgb(mixture.hues(light=look.light))]
    styles = _FEW_STYLES if look.few_colors else styles
    for (letter, name), style in zip(mixture.called, styles, strict=False):
        line = Text(" " * indent).append(f" {letter} ", style if look.color else "")
        yield line.append(f" {name}")
    explained = mixture.explained if look.color and not look.few_colors else ""
    yield Text(look.fit("; ".join(filter(None, (explained, note)))), "dim italic")


class _Mixed:
    """Cells, line by line."""

    def __init__(self, mixture: Mixture, labels: Sequence[str], width: int, look: Look) -> None:
        self.labels, self.width, self.look = labels, width, look
        self.letters = mixture.named
        self.styles = _styles(mixture, look) if look.color else []

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
                for letter, style in zip(letters, self.styles[row], strict=True):
                    yield Segment(f"{letter} ", style)
            yield Segment.line()


def _styles(mixture: Mixture, look: Look) -> list[list[Style]]:
    """Give the style of every cell; of few colours, which do not mix, that of the strongest."""
    if not look.few_colors:
        return [[_style(color) for color in row] for row in mixture.colors(light=look.light)]
    strongest = np.where(mixture.named == " ", -1, mixture.shares.argmax(axis=0))
    return [
        [_FEW_STYLES[head] if head >= 0 else Style.null() for head in row]
        for row in strongest.tolist()
    ]


def _style(color: Array) -> Style:
    return _styled(*color.tolist())


@functools.lru_cache(maxsize=4096)
def _styled(red: int, green: int, blue: int) -> Style:
    """Make the style of a background, and of what can be read on it."""
    background = Color.from_rgb(red, green, blue)
    text = Color.parse("#000000" if takes_black(background) else "#ffffff")
    return Style.from_color(text, background)
