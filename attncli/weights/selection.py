"""The matrices that are wanted of a file, and which part of each."""

from __future__ import annotations

import functools
import re
import shlex
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import AttnWarning, ParameterError
from attncli.weights.cutting import Cut
from attncli.weights.frames import Frames
from attncli.weights.padding import padding_by_words, padding_by_zeros
from attncli.weights.statistics import Statistics, after_former_words, head_statistics
from attncli.weights.tokens import is_special, readable
from attncli.weights.wanted import Span, Wanted, spelt
from attncli.weights.weight_source import WeightSource
from attncli.weights.words import Words, words_of

Load = Callable[[Cut], Array]

_AXES = ("T_dec", "T_enc")


class ImageRow(NamedTuple):
    """A row of keys that are the patches of an image.

    Attributes
    ----------
    word : str or None
        Of the row, as it is shown; None where it is not known.
    keys : list of int
        The positions of the patches.
    """

    word: str | None
    keys: list[int]


@dataclass(frozen=True)
class Chosen:
    """One matrix of weights, not yet loaded.

    Attributes
    ----------
    names : dict of str to int or str
        Frame and step, part, layer, item and head, as far as the file has them; or how they were
        combined.
    item : int
        Whose tokens label it.
    shape : tuple of int
        (T_dec, T_enc)
    load : callable
        ``load(cut)`` returns the part of it that is looked at.
    part : {"encoder", "decoder", "cross", ""}
        Whose it is, where the file says.
    words : mapping of str to Words
        Of ``T_dec`` and ``T_enc``, where its steps are put together to words.
    image : ImageRow or None
        Where it is one row of weights, as the image that its keys are.
    """

    names: dict[str, Any]
    item: int
    shape: tuple[int, int]
    load: Load
    part: str = ""
    words: Mapping[str, Words] = field(default_factory=dict)
    image: ImageRow | None = None

    @property
    def place(self) -> dict[str, Any]:
        """Its names but for the frame: where in the model it is."""
        return {name: x for name, x in self.names.items() if name not in ("frame", "step")}

    @property
    def heading(self) -> str:
        """Its names in one line."""
        names = "  ".join(called(name, number) for name, number in self.names.items())
        word = self.image.word if self.image is not None else None
        return names if word is None else f"{names}: {word}"


def called(name: str, value: Any) -> str:
    """Say a name with its number; a part is called by its name alone.

    Examples
    --------
    >>> called("head", 5), called("part", "cross")
    ('head 5', 'cross')
    """
    return str(value) if name == "part" else f"{name} {value}"


@dataclass(frozen=True)
class Selection:
    """The matrices of a file that are wanted, none of them loaded yet.

    Attributes
    ----------
    source : WeightSource
    wanted : Wanted
    matrices : list of Chosen
    frames : Frames or None
        All that the file has, where it was written in the course of a training.
    """

    source: WeightSource
    wanted: Wanted
    matrices: list[Chosen]
    frames: Frames | None = None

    @property
    def telling(self) -> list[str]:
        """The names that tell the matrices apart; all of them where there is but one matrix."""
        every = self.matrices
        names = list(every[0].names) if every else []
        telling = [x for x in names if len({one.names[x] for one in every}) > 1]
        return [x for x in names if x in telling or x == "row"] if telling else names

    def tokens(self, one: Chosen, axis: str) -> list[str] | None:
        """Give the tokens along an axis of a matrix, as the file has them; None if it has none."""
        if one.image is not None:  # its rows and columns are those of patches
            return None
        if axis in one.words:
            return one.words[axis].texts
        tokens = self.source.parts[one.part].tokens.get(axis)
        if tokens is None:
            return None
        row = tokens if tokens.ndim == 1 else tokens[one.item]
        size = one.shape[axis == "T_enc"]
        if self.source.parts[one.part].has_shorter_items:
            row = row[:size]  # behind those of an item that has fewer steps is nothing
        return row.tolist() if len(row) == size else None

    def shown(self, one: Chosen, axis: str) -> list[str] | None:
        """Give the words along an axis as they are shown: without the marks of tokenizers."""
        tokens = self.tokens(one, axis)
        return tokens if tokens is None or self.wanted.raw_tokens else readable(tokens)

    def of_itself(self, one: Chosen) -> bool:
        """Whether rows and keys are one sequence, as far as one knows."""
        words = [self.tokens(one, axis) for axis in _AXES]
        square = one.shape[0] == one.shape[1] and one.part != "cross"
        return square and (None in words or words[0] == words[1])

    def statistics(
        self, one: Chosen, cut: Cut, weights: Array, *, monotonic: bool = True
    ) -> Statistics:
        """Say in numbers what a part of a matrix does."""
        following = _following(self._sequence(one))
        return head_statistics(
            weights, cut.rows.tolist(), cut.columns.tolist(), one.shape, following,
            monotonic=monotonic,
        )  # fmt: skip

    def _sequence(self, one: Chosen) -> tuple[str, ...]:
        """Give the words that a matrix relates to each other; none where they are not known."""
        words = self.tokens(one, "T_dec") if self.of_itself(one) else None
        return () if words is None or self.tokens(one, "T_enc") is None else tuple(words)

    def check_order(self, sort: str) -> None:
        """Say where an order of heads would be one of noise.

        Raises
        ------
        ParameterError
            If what they are sorted by means nothing for any of the matrices.
        """
        every = self.matrices
        what = f"--sort {sort}: {self.source.label}"
        if sort in ("monotonic", "diagonal", "previous") and all(
            min(one.shape) < 2 for one in every
        ):
            raise ParameterError(
                f"{what}: one row or one key, of {every[0].shape}, has no direction",
                hint="--sort entropy",
            )
        if sort in ("previous", "induction") and not any(map(self.of_itself, every)):
            raise ParameterError(
                f"{what}: rows and keys are two sequences, of {every[0].shape} steps: "
                "no key is the one before a row",
                hint="--sort monotonic finds heads that follow the other sequence",
            )
        words = {self._sequence(one) for one in every} if sort == "induction" else set()
        if sort == "induction" and not any(words):
            raise ParameterError(
                f"{what} has no words, which say what comes again", hint="--tokens FILE gives them"
            )
        if sort == "induction" and not any(map(_following, words)):
            raise ParameterError(
                f"{what}: no word comes again with another one after its first occurrence",
                hint="--sort previous",
            )

    def cut(self, one: Chosen) -> Cut:
        """Find the rows and columns that the options leave of a matrix.

        Raises
        ------
        ParameterError
            If that is nothing, or the file has no tokens to go by.
        """
        if one.image is not None:
            return Cut.whole(one.shape)
        wanted, kept = self.wanted, []
        padding = self._padding(one) if wanted.drop_pad else {}
        for axis, size, span, words, option in (
            ("T_dec", one.shape[0], wanted.rows, wanted.row, "--row"),
            ("T_enc", one.shape[1], wanted.cols, wanted.col, "--col"),
        ):
            tokens = self.tokens(one, axis)
            keep = _within(span, size, f"{option}s")
            if words:
                keep &= _named(option, words, tokens, size)
            if axis in padding:
                keep &= ~padding[axis]
            if wanted.drop_special and tokens is not None:
                keep &= [not is_special(token) for token in tokens]
            elif wanted.drop_special and not any(self.tokens(one, other) for other in _AXES):
                raise ParameterError(
                    f"--drop-special: {self.source.label} has no words, of {one.shape} steps",
                    hint="--tokens FILE gives them",
                )
            if axis == "T_enc" and wanted.drop_sink:
                keep[0] = False
            if not keep.any() and size:
                raise ParameterError(f"nothing is left of {axis}: {_steps(size)}, all left out")
            kept.append(np.flatnonzero(keep))
        narrow = wanted.cols is not None or bool(wanted.col)
        return Cut(kept[0], kept[1], wanted.renormalise, narrow, *self._edges(one))

    def _padding(self, one: Chosen) -> dict[str, Array]:
        """Tell which steps are padding: by their words and masks, else by weights that are zero.

        Raises
        ------
        ParameterError
            If nothing says so.
        """
        found: dict[str, Array] = {}
        part = self.source.parts[one.part]
        for axis in _AXES:
            tokens = self.tokens(one, axis)
            starts = one.part == "decoder" or (one.part == "cross" and axis == "T_dec")
            known = None if tokens is None else padding_by_words(tokens, starts=starts)
            if axis in part.padding:
                mask = part.padding[axis][one.item]
                if axis in one.words:
                    mask = mask[one.words[axis].edges[:-1]]
                known = mask if known is None else known | mask
            if known is not None:
                found[axis] = known
        if found:
            return found
        zeros = None
        if self.wanted.diff is None:
            every = (np.arange(size) for size in one.shape)
            whole = Cut(next(every), next(every), False, False, *self._edges(one))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AttnWarning)  # they come when it is shown
                zeros = padding_by_zeros(one.load(whole), square=self.of_itself(one))
        if zeros is None:
            raise ParameterError(
                f"--drop-pad: {self.source.label} has no words, no attention_mask and no rows of "
                "zeros: nothing says what is padding",
                hint="--tokens FILE gives the words",
            )
        return dict(zip(_AXES, zeros, strict=True))

    def _edges(self, one: Chosen) -> list[Array | None]:
        return [one.words[axis].edges if axis in one.words else None for axis in _AXES]

    def with_words(self) -> Selection:
        """Put the pieces of words together, if that is wanted; say where there are none.

        Raises
        ------
        ParameterError
            If the file has no words.
        """
        if not self.wanted.merge_subwords or not self.matrices:
            return self
        merged, pieces = [], 0
        for one in self.matrices:
            words = {
                axis: _words_of(tuple(tokens))
                for axis in _AXES
                if (tokens := self.tokens(one, axis)) is not None
            }
            sizes = [
                len(words[axis].texts) if axis in words else size
                for axis, size in zip(_AXES, one.shape, strict=True)
            ]
            pieces += sum(one.shape) - sum(sizes)
            merged.append(replace(one, shape=(sizes[0], sizes[1]), words=words))
        if not any(one.words for one in merged):
            raise ParameterError(
                f"--merge-subwords: {self.source.label} has no words",
                hint="--tokens FILE gives them",
            )
        if not pieces:
            message = f"{self.source.label}: --merge-subwords finds no pieces of words to merge"
            warnings.warn(message, AttnWarning, stacklevel=3)
        return replace(self, matrices=merged)

    def with_named(self) -> Selection:
        """Leave out matrices that have not the rows and columns which options name, saying so.

        Raises
        ------
        ParameterError
            If none has.
        """
        if not (self.wanted.row or self.wanted.col) or len(self.matrices) < 2:
            return self
        kept, missing = [], None
        for one in self.matrices:
            try:
                self.cut(one)
            except ParameterError as error:
                missing = error
            else:
                kept.append(one)
        if missing is not None and not kept:
            raise missing
        if len(kept) < len(self.matrices):
            left_out = len(self.matrices) - len(kept)
            named = " or ".join(
                name for name in ("row", "column") if getattr(self.wanted, name[:3])
            )
            message = (
                f"{left_out} of {len(self.matrices)} matrices have no such {named} and are left out"
            )
            warnings.warn(message, AttnWarning, stacklevel=3)
        return replace(self, matrices=kept)

    def load_all(self) -> None:
        """Load every matrix and forget it: what cannot be is said before any is printed."""
        for one in self.matrices[1:]:
            one.load(self.cut(one))


@functools.lru_cache(maxsize=64)
def _words_of(tokens: tuple[str, ...]) -> Words:
    return words_of(tokens)


@functools.lru_cache(maxsize=64)
def _following(tokens: tuple[str, ...]) -> dict[int, list[int]]:
    # A part of a character is no word: as it is shown it would be that of any other.
    pairs = zip(tokens, readable(tokens), strict=True)
    return after_former_words([token if shown[:1] == "·" else shown for token, shown in pairs])


def _within(span: Span | None, size: int, option: str) -> Array:
    keep = np.full(size, span is None)
    if span is not None:
        keep[slice(*span)] = True
        if not keep.any():
            raise ParameterError(
                f"{option} {spelt(span)} leaves nothing: there are {size}, 0 to {size - 1}",
                hint=f"{option} 0:{size}",
            )
    return keep


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _named(option: str, wanted: Sequence[str], tokens: list[str] | None, size: int) -> Array:
    """Where a step has one of the words, as the file has it or as it is shown; or its number."""
    keep = np.zeros(size, bool)
    shown = readable(tokens) if tokens is not None else []
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(zip(tokens or [], shown, strict=True)):
        word, label = pair
        for name in {_alike(x) for x in (word, label, label.removeprefix("-"))}:
            places.setdefault(name, []).append(place)
    for text in wanted:
        found = places.get(_alike(text)) or places.get(_alike(readable([text])[0]), [])
        if not found and text.isdecimal() and len(text) < 19 and int(text) < size:
            found = [int(text)]
        if not found and (numbered := re.fullmatch(r"(.*)\[(\d{1,18})\]", text, re.DOTALL)):
            place = int(numbered[2])  # as a word is shown that is there several times
            found = [x for x in places.get(_alike(numbered[1]), []) if x == place]
        if not found:
            import difflib

            near = difflib.get_close_matches(text, shown, n=1)
            hint = f"{option} {shlex.quote(near[0])}" if near else None
            side = "decoder" if option == "--row" else "encoder"
            what = f"is no {side} token here" if tokens else f"is none of {_steps(size)}"
            raise ParameterError(f"{option} {text}: {what}", hint=hint)
        keep[found] = True
    return keep


def _alike(text: str) -> str:
    """Write alike what looks alike: an accent may be a character of its own, a space shown as ␣."""
    return unicodedata.normalize("NFC", text).replace(" ", "␣")
