"""Which weights to show, and how: what ``attn show-weights`` can be asked for beside the file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from attncli.errors import ParameterError
from attncli.spelling import whole

if TYPE_CHECKING:
    from attncli.operations.layout import Words

PARTS = ("encoder", "decoder", "cross")
"""The kinds of attention that one model may have."""

Span = tuple[int | None, int | None]
"""The first step and the one behind the last; either may be left out or negative."""

Numbers = tuple["int | Span", ...]
"""Numbers of layers, items or heads, and spans of them."""

ORDERS = (
    "entropy", "peak", "max", "first", "diagonal", "previous", "monotonic", "induction", "dead",
    "name", "file",
)  # fmt: skip
"""What heads can be sorted by."""

DEFAULT_TOP = 3
"""How many keys a row has in a list on a terminal, where nothing says how many."""


def parse_span(text: str) -> Span:
    """Read a range of steps, A:B, or one step; either end may be left out or negative.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> parse_span("3:8"), parse_span(" -2: "), parse_span("4"), parse_span("-1")
    ((3, 8), (-2, None), (4, 5), (-1, None))
    """
    first, colon, last = text.partition(":")
    try:
        if not colon:
            return whole(text), whole(text) + 1 or None
        return (whole(first) if first.strip() else None), (whole(last) if last.strip() else None)
    except ValueError:
        raise ParameterError(f"{text!r} is not a range such as 3:8") from None


def spelt(span: Span) -> str:
    """Write a range as it is typed.

    Examples
    --------
    >>> spelt((3, 8)), spelt((None, -1))
    ('3:8', ':-1')
    """
    return ":".join("" if end is None else str(end) for end in span)


def parse_numbers(text: str) -> Numbers:
    """Read a set of layers, items or heads: numbers and ranges with commas between.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> parse_numbers("3,5"), parse_numbers("0:2, 7"), parse_numbers(":-1")
    ((3, 5), ((0, 2), 7), ((None, -1),))
    """
    try:
        return tuple(parse_span(one) if ":" in one else whole(one) for one in text.split(","))
    except (ParameterError, ValueError):
        raise ParameterError(f"{text!r} is not a number, nor a set such as 0:2,7") from None


def parse_grid(text: str) -> tuple[int, int]:
    """Read how many patches an image has, down and across.

    Raises
    ------
    ParameterError
        If it is no such pair.

    Examples
    --------
    >>> parse_grid("5x8"), parse_grid("14 × 14")
    ((5, 8), (14, 14))
    """
    found = re.fullmatch(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*", text)
    grid = (0, 0) if found is None else (int(found[1]), int(found[2]))
    if 0 in grid:
        raise ParameterError(f"{text!r} is not rows and columns of an image, such as 14x14")
    return grid


def as_numbers(given: Numbers | Iterable[int] | int | str | None) -> Numbers | None:
    """Take a set as callers in Python have it: a number, several, or the text of an option.

    Examples
    --------
    >>> as_numbers(3), as_numbers([3, 5]), as_numbers(range(2)), as_numbers("0:2,7")
    ((3,), (3, 5), (0, 1), ((0, 2), 7))
    """
    if given is None or isinstance(given, str):
        return None if given is None else parse_numbers(given)
    return tuple(given) if isinstance(given, Iterable) else (given,)


_AXES = {
    "n": "N", "batch": "N", "item": "N", "items": "N",
    "heads": "heads", "head": "heads",
    "layers": "layers", "layer": "layers",
    "frames": "frames", "frame": "frames",
    "steps": "steps", "step": "steps",
    "dec": "T_dec", "t_dec": "T_dec", "query": "T_dec", "queries": "T_dec",
    "enc": "T_enc", "t_enc": "T_enc", "key": "T_enc", "keys": "T_enc",
}  # fmt: skip


def parse_axes(text: str) -> tuple[str, ...]:
    """Read a list of axes, in any of their names.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> parse_axes("layers, heads, dec, enc")
    ('layers', 'heads', 'T_dec', 'T_enc')
    """
    axes = tuple(_AXES.get(name.strip().lower(), "") for name in text.split(","))
    if "" in axes or len(set(axes)) < len(axes) or "T_enc" not in axes:
        raise ParameterError(
            f"{text!r} is not a list such as N,heads,dec,enc or layers,heads,dec,enc"
        )
    return axes


@dataclass(frozen=True)
class Wanted:
    """Which weights to show, and how; each attribute is the option of its name.

    Raises
    ------
    ParameterError
        If two of them contradict each other.
    """

    part: str | None = None
    item: Numbers | None = None
    head: Numbers | None = None
    layer: Numbers | None = None
    frame: int | None = None
    frames: bool = False
    axes: tuple[str, ...] | None = None
    layout: Mapping[str, Words] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    mean: tuple[str, ...] = ()
    maximum: tuple[str, ...] = ()
    rollout: bool = False
    diff: str | None = None
    rows: Span | None = None
    cols: Span | None = None
    tokens: str | None = None
    tokens_enc: str | None = None
    tokens_dec: str | None = None
    row: tuple[str, ...] = ()
    col: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    over: str | None = None
    overlay: bool = False
    merge_subwords: bool = False
    drop_special: bool = False
    drop_pad: bool = False
    drop_sink: bool = False
    renormalise: bool = False
    view: Literal["table", "cells", "heatmap", "list"] | None = None
    top: int | None = None
    threshold: float | None = None
    pool: Literal["max", "mean"] = "max"
    shade: Literal["linear", "log", "row"] | None = None
    vmin: float | None = None
    vmax: float | None = None
    sort: str | None = None
    raw_tokens: bool = False
    full: bool = False
    browse: bool = False
    export: tuple[str, ...] = ()
    force: bool = False

    def __post_init__(self) -> None:
        twice = set(self.mean) & set(self.maximum)
        if twice:
            raise ParameterError(f"--mean and --max of {twice.pop()} contradict each other")
        if self.rollout and (self.mean or self.maximum):
            other = "--mean" if self.mean else "--max"
            raise ParameterError(f"--rollout goes through layers and heads: not with {other}")
        for axis, numbers in (("heads", self.head), ("layers", self.layer)):
            one = numbers[0] if numbers is not None and len(numbers) == 1 else None
            if isinstance(one, int) and axis in {*self.mean, *self.maximum}:
                how = "mean" if axis in self.mean else "max"
                raise ParameterError(
                    f"--{how} {axis} and --{axis[:-1]} {one} contradict each other"
                )
        if self.over is not None:
            if self.grid is None:
                raise ParameterError("--over lays a picture under --grid", hint="--grid 14x14")
            if not any(path.lower().endswith(".html") for path in self.export):
                raise ParameterError(
                    "--over lays a picture under the weights of a page, and none is written",
                    hint="--export page.html",
                )
        pictures = (("--grid", self.grid is not None), ("--overlay", self.overlay))
        for option in (name for name, given in pictures if given):
            for other, given in (
                ("--sort", self.sort), ("--view", self.view), ("--top", self.top),
                ("--threshold", self.threshold is not None), ("--frames", self.frames),
                ("--browse", self.browse), ("--overlay", self.overlay and option == "--grid"),
                ("--diff", self.diff and self.overlay), ("--shade", self.shade and self.overlay),
            ):  # fmt: skip
                if given:
                    raise ParameterError(f"{option} is a picture of its own: not with {other}")
        if self.merge_subwords and self.raw_tokens:
            raise ParameterError("--merge-subwords and --raw-tokens contradict each other")
        if self.top is not None and self.view not in (None, "list"):
            raise ParameterError(f"--top makes a list: not with --view {self.view}")
        if self.diff is not None and self.shade is not None:
            raise ParameterError("--diff has a scale of its own: not with --shade")
        self._check_range()
        if self.force and not self.export:
            raise ParameterError("--force has no meaning without --export")
        if self.sort is not None and (self.view is not None or self.lists):
            other = "--view" if self.view else "--top" if self.top else "--threshold"
            raise ParameterError(f"--sort gives an overview of heads: not with {other}")
        if self.frames and (self.frame is not None or self.browse):
            other = "--browse" if self.browse else f"--frame {self.frame}"
            raise ParameterError(f"--frames shows all of them: not with {other}")
        for name, span in (("row", self.rows), ("col", self.cols)):
            if getattr(self, name) and span:
                raise ParameterError(f"--{name} and --{name}s contradict each other")

    def _check_range(self) -> None:
        ends = {"--vmin": self.vmin, "--vmax": self.vmax}
        said = {option: f"{option} {end:g}" for option, end in ends.items() if end is not None}
        numbers = [end for end in ends.values() if end is not None]
        given = " ".join(said.values())
        if not numbers:
            return
        if self.shade == "row":
            raise ParameterError(f"{given}: --shade row gives every row a range of its own")
        if self.shade == "log" and min(numbers) <= 0:
            raise ParameterError(f"{given}: --shade log runs between numbers above 0")
        least = self.vmin if self.vmin is not None else -math.inf if self.diff else 0.0
        most = self.vmax if self.vmax is not None else math.inf
        if least >= most:
            least_said = said.get("--vmin", "--vmin 0, as it is unless given,")
            raise ParameterError(f"{least_said} is not below --vmax {most:g}")
        if self.diff is not None and not least < 0 < most:
            raise ParameterError(f"{given}: with --diff the middle shade is 0, between the two")

    @property
    def lists(self) -> bool:
        """Whether lists are asked for instead of pictures."""
        given = self.top is not None or self.threshold is not None
        return self.view == "list" or (self.view is None and given)
