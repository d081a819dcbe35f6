"""The chosen weights of a file as pictures, each made when it is its turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from rich.text import Text

from attncli.arrays import Array
from attncli.views.labels import safe, shorten, told_apart
from attncli.views.legends import beyond
from attncli.views.look import Look
from attncli.views.picture import WeightMatrix
from attncli.views.pooling import stated
from attncli.views.scales import Scale, Shade, brightest
from attncli.weights.selection import Chosen, Selection, called
from attncli.weights.statistics import Statistics
from attncli.weights.tokens import readable

Watched = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""How a long step is watched: within ``progress(what)`` as `step`, ``step(done, total)`` says how
far it is."""

HOLES = "magenta: not finite"
"""What a picture says where some numbers have no shade."""

_LONGEST_LABEL = 16
# At the side, where a terminal is wide enough: <|startoftranscript|> is whole.
_LONGEST_AT_SIDE = 24
# More pictures than this are drawn small.
_MOST_LARGE = 12


@dataclass(frozen=True)
class Gallery:
    """What a selection of weights looks like.

    Attributes
    ----------
    selection : Selection
    look : Look
        Of the place they are shown in; piped, labels are in full.
    top : float or None
        The number of the last shade in all of them; without it each has its own largest.
    elsewhere : callable or None
        ``elsewhere(monotonic)`` gives the number of each matrix and its statistics, as they become
        known, where the matrices are not to be loaded here.
    """

    selection: Selection
    look: Look
    top: float | None = None
    elsewhere: Callable[[bool], Iterator[tuple[int, Statistics]]] | None = None

    def alike(self, progress: Watched | None = None) -> Gallery:
        """Give one scale to the frames of a training: what is grey at first and what is sharp."""
        if not self.selection.wanted.frames or self.selection.wanted.vmax is not None:
            return self
        top = 0.0
        with progress("reading frames") if progress else nullcontext(lambda *_: None) as step:
            for number, one in enumerate(self.selection.matrices):
                top = max(top, brightest(self.picture(one).weights))
                step(number + 1, len(self))
        return replace(self, top=top)

    @property
    def title(self) -> str:
        """Name the file, or both where it is a difference."""
        other = self.selection.wanted.diff
        minus = "" if other is None else f" {self.look.minus} {safe(other, self.look)}"
        return safe(self.selection.source.label, self.look) + minus

    @property
    def reading(self) -> str:
        """How the weights were found, and which of the frames are looked at."""
        reading, frames = self.selection.source.reading, self.selection.frames
        if frames is None:
            return reading
        number = self.selection.wanted.frame
        if number is not None:
            return f"{reading}, frame {number} of {len(frames)}: {frames.described(number)}"
        if self.selection.wanted.frames:
            ends = f"{frames.described(0)}, to {frames.described(len(frames) - 1)}"
            return f"{reading}, {len(frames)} frames: {ends}"
        last = frames.described(len(frames) - 1)
        return f"{reading}, the last of {len(frames)} frames: {last}; --frames shows all"

    @property
    def heading(self) -> Text:
        """Name the file and say how its weights were found: of several parts on a line each."""
        parts = self.selection.source.parts.values()
        several = len(parts) > 1 and self.selection.frames is None
        title = Text(self.title, "bold")
        if not several:
            return title.append(f"  {self.reading}", "not bold dim")
        longest = max(len(part.name) for part in parts)
        for part in parts:
            title.append(f"\n  {part.name:{longest}}  {part.reading}", "not bold dim")
        return title

    def __len__(self) -> int:
        """Return how many matrices there are."""
        return len(self.selection.matrices)

    @property
    def many(self) -> bool:
        """Whether there are so many that each is drawn small."""
        return len(self) > _MOST_LARGE

    def note(self, factors: Collection[tuple[int, int]], scales: Collection[Scale]) -> str:
        """Say of small ones what a cell stands for, and of numbers that have no shade how many."""
        counts = [sum(x.smaller for x in scales), sum(x.larger for x in scales)]
        holes = HOLES if any(scale.holes for scale in scales) else ""
        pool = self.selection.wanted.pool
        return "  ".join(filter(None, (stated(factors, pool), self.range, beyond(*counts), holes)))

    @property
    def range(self) -> str:
        """Say between which numbers the shades are, where that was given."""
        wanted = self.selection.wanted
        if wanted.vmin is None and wanted.vmax is None:
            return ""
        kind: Shade = "diverging" if wanted.diff is not None else wanted.shade or "linear"
        scale = Scale.of(np.zeros((1, 1)), kind, (wanted.vmin, wanted.vmax))
        top = f"{scale.top:g}" if scale.given else "the largest of each"
        return f"shaded from {scale.bottom:g} to {top}"

    @property
    def grid(self) -> list[tuple[int, int]]:
        """The row and column of each where all are small: those of a layer in a row, by head."""
        telling, every = self.selection.telling, self.selection.matrices
        if telling and telling[-1] == "step":  # one of each frame
            return [divmod(place, _MOST_LARGE) for place in range(len(every))]
        places = [place_in_grid(one, telling) for one in every]
        rows, columns = (
            {name: at for at, name in enumerate(dict.fromkeys(place[side] for place in places))}
            for side in (0, 1)
        )
        return [(rows[row], columns[column]) for row, column in places]

    def __iter__(self) -> Iterator[WeightMatrix]:
        """Load and label matrix after matrix, each called by what tells it from the others."""
        telling = self.selection.telling
        for one in self.selection.matrices:
            yield self.picture(replace(one, names={name: one.names[name] for name in telling}))

    def picture(self, one: Chosen) -> WeightMatrix:
        """Load a matrix and label the part of it that is wanted."""
        selection, wanted = self.selection, self.selection.wanted
        cut = selection.cut(one)
        weights = one.load(cut)
        if wanted.threshold is not None and not wanted.lists:
            weights = np.where(np.abs(weights) >= wanted.threshold, weights, weights.dtype.type(0))
        return WeightMatrix(
            one.heading if one.image is None else safe(one.heading, self.look),
            weights,
            self._labels(
                selection.tokens(one, "T_dec"),
                cut.rows,
                min(self.look.width // 3, _LONGEST_AT_SIDE),
            ),
            self._labels(selection.tokens(one, "T_enc"), cut.columns),
            "diverging" if wanted.diff is not None else wanted.shade or "linear",
            wanted.pool,
            cut.rows.tolist(),
            cut.columns.tolist(),
            (wanted.vmin, self.top if wanted.vmax is None else wanted.vmax),
        )

    def _labels(
        self, tokens: list[str] | None, positions: Array, longest: int = _LONGEST_LABEL
    ) -> list[str]:
        """Label the positions along an axis by their tokens, else by their numbers."""
        if tokens is None:
            return [str(position) for position in positions.tolist()]
        shown = tokens if self.selection.wanted.raw_tokens else readable(tokens)
        longest = 10**6 if self.look.plain else max(longest, _LONGEST_LABEL)
        labels = told_apart([safe(word, self.look) for word in shown])
        return [shorten(labels[place], longest, self.look) for place in positions.tolist()]


def place_in_grid(one: Chosen, telling: Sequence[str]) -> tuple[str, str]:
    """Where in the grid a matrix stands: its last name across, all others down."""
    names = [called(name, one.names[name]) for name in telling]
    return (" ".join(names[:-1]), names[-1]) if names else ("", "")
