"""``attn`` alone: what there is, for whom, and a picture of what it is about.

It answers at once: what is drawn was computed before, and a test holds it against a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import pairwise

import click

from attncli.translation import Sentence, breaks, columns
from attncli.translation import translated as _
from attncli.version import __version__

# What `attn demo` ends with: where each French word looks, in percent.
FRENCH = ["le", "jeune", "renard", "suit", "mon", "lapin", "blanc"]
ENGLISH = ["the", "young", "fox", "follows", "my", "white", "rabbit"]
LOOKS = (
    (97, 3, 0, 0, 0, 0, 0),
    (0, 96, 1, 0, 0, 0, 3),
    (0, 4, 94, 1, 0, 0, 0),
    (0, 0, 0, 98, 2, 0, 0),
    (0, 0, 0, 0, 100, 0, 0),
    (0, 0, 0, 0, 0, 0, 100),
    (0, 0, 1, 0, 0, 98, 1),
)

_PEOPLE = {
    Sentence("Learning attention"): (
        ("attn demo", Sentence("watch a model learn to look")),
        ("attn exercise start", Sentence("write the layers, one by one")),
    ),
    Sentence("Writing a layer or a kernel"): (
        ("attn check sample_inputs/exercise/wrong_1.py", Sentence("what is wrong in it")),
        ("attn convention sample_inputs/minilm_qkv.npz", Sentence("what a dump computes")),
    ),
    Sentence("Looking at the weights of a model"): (
        ("attn show-weights sample_inputs/dates.npz", Sentence("where each step looks")),
        ("attn show-weights sample_inputs/minilm_heads.npz", Sentence("all heads at a glance")),
    ),
}
_WIDEST, _NARROWEST = 80, 30  # columns
_SHADES, _ASCII_SHADES = " ░▒▓█", " .+%@"
# Of each shade, on a dark background and on a light one: of 256 colours, and of 16.
_TONES, _FEW_TONES = (None, 24, 31, 37, 37), (None, "blue", "blue", "cyan", "cyan")


def show_start() -> None:
    """Print the screen, as wide as the terminal is and as coloured."""
    for line in start_lines(_width()):
        click.echo(line)  # which leaves out colours where it is piped


def start_lines(width: int) -> Iterator[str]:
    """Give the screen line by line."""
    what = Sentence(
        "attn {version}: attention you can run, prove, look at, measure", version=__version__
    )
    yield from _wrapped(_(what), width)
    yield from _wrapped(_("Where each French word looks that a model writes (attn demo):"), width)
    yield from _picture(width)
    for who, commands in _PEOPLE.items():
        yield ""
        yield _style(_(who), bold=True)
        for command, what in commands:
            yield from _command(command, _(what), width)
    more = _("All run as they stand; put a file of yours in its place. More: attn help")
    yield from _wrapped(more, width)


def _picture(width: int) -> Iterator[str]:
    """Draw where each French word looks: French down, English across."""
    side = max(map(len, FRENCH)) + 2
    column = min(max(map(len, ENGLISH)) + 1, (width - side) // len(ENGLISH))
    yield " " * side + "".join(f"{word[: column - 1]:>{column}}" for word in ENGLISH)
    shades = _SHADES if _can_write(_SHADES) else _ASCII_SHADES
    tones = _TONES if _has_many_colors() else _FEW_TONES
    for word, looks in zip(FRENCH, LOOKS, strict=True):
        cells = []
        for percent in looks:
            level = min(percent * len(shades) // 100, len(shades) - 1)
            cell = f"{shades[level] * (column - 1):>{column}}"
            cells.append(_style(cell, fg=tones[level]) if level else cell)
        yield f"{word:>{side}}{''.join(cells)}".rstrip()


def _command(command: str, what: str, width: int) -> Iterator[str]:
    """Write a command with what it does beside it, or below where there is no room."""
    beside = max(len(one) for commands in _PEOPLE.values() for one, _what in commands)
    if 4 + beside + columns(what) <= width:
        yield f"  {_style(f'{command:{beside}}', fg='cyan')}  {what}"
    else:
        yield f"  {_style(command, fg='cyan')}"
        yield from _wrapped(what, width, "    ")


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[str]:
    begins = [0, *breaks(text, width - len(indent) - 1), len(text)]
    yield from (indent + text[begin:end].rstrip() for begin, end in pairwise(begins))


def _style(text: str, **style: str | int | bool | None) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    return text if plain else click.style(text, **style)  # type: ignore[arg-type]


def _has_many_colors() -> bool:
    return "256" in os.environ.get("TERM", "") or bool(os.environ.get("COLORTERM"))


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _width() -> int:
    """Give the columns of the terminal; what `shutil` asks too, which is slow to load."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        columns = int(told)
    else:
        try:
            columns = os.get_terminal_size(sys.stdout.fileno()).columns or _WIDEST
        except (OSError, ValueError):
            columns = _WIDEST
    return max(_NARROWEST, min(columns, _WIDEST))
