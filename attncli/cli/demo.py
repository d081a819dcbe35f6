"""``attn demo``: a model learns to translate, and where it looks is watched."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.files.formats import ending_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.demo.translator import Learned

_SECONDS = 8.0  # the whole of it at speed 1
_OFTEN = 0.1  # seconds between two frames
_KEEP_EVERY = 2  # steps
_PIPED = (0, 50, 75, 125)  # steps, and the last


@command(
    "demo",
    example="""\
attn demo
attn demo --seed 3 --speed 2
attn demo -o demo.npz && attn show-weights demo.npz --frames""",
    first="--seed --speed -o --force",
)
@options.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=0,
    show_default=True,
    group="How it learns",
    help="What is drawn at random: the same seed learns the same.",
)
@options.option(
    "--speed",
    type=click.FloatRange(min=0.001),
    metavar="FACTOR",
    group="How it learns",
    help="2 takes half the time, 0.5 twice as long; the machine may be slower.  [default: 1, which "
    "is 8 seconds; piped as fast as it can]",
)
@options.frames_output_options
@options.shaded_page_options
def demo(seed: int, speed: float | None, output: Output, screen: Screen) -> None:
    """Watch a model learn to translate, and where it looks: nothing to prepare.

    It learns from drawn sentences, in NumPy, with the book's attention between an encoder and a
    decoder. Each row is a French word that it writes, each column an English one that it reads. At
    first it looks at all alike; then at the word that it needs. Ctrl-C ends it at any time.
    """
    from attncli.demo.translator import STEPS, learn
    from attncli.views.lesson import Lesson, draw_next
    from attncli.views.watching import live_on

    output.check((), screen)
    if output.path is not None and not output.is_stdout:
        ending_of(output.path, (".npz",))
    lesson, stopped = Lesson(_KEEP_EVERY), False
    live = live_on(screen.look) if screen.draws_in_place and not output.is_stdout else None
    speed = speed or (1.0 if live else math.inf)
    due = 0.0
    with live or contextlib.nullcontext():
        try:
            for learned in _paced(learn(seed, STEPS), _SECONDS / speed / STEPS):
                lesson.add(learned)
                last = learned.step == STEPS
                if live and (last or time.monotonic() >= due):
                    screen = screen.anew()
                    live.update(lesson.drawn(screen.look), refresh=True)
                    due = time.monotonic() + _OFTEN
                elif not live and not output.is_stdout and (last or learned.step in _PIPED):
                    screen.show(lesson.drawn(screen.look))
        except KeyboardInterrupt:
            stopped = True
    if output.is_wanted and lesson.learned:
        output.write(lesson.recording.arrays(), screen, what="the frames")
    if not output.is_stdout:
        screen.show(*lesson.told(screen.look), draw_next(_next(output.path), screen.look))
    if stopped:
        raise KeyboardInterrupt


def _paced(steps: Iterator[Learned], seconds: float) -> Iterator[Learned]:
    """Give each step when it is its time, or as soon as it is there."""
    start = time.monotonic()
    for learned in steps:
        time.sleep(max(0.0, start + learned.step * seconds - time.monotonic()))
        yield learned


def _next(path: str | None) -> Iterator[tuple[str, str]]:
    """Give what one can do now, as commands that run."""
    if path is None:
        yield "attn demo -o demo.npz", "keep where it looked, to play it again"
    else:
        yield f"attn show-weights {shlex.quote(path)} --frames", "play it again"
    yield "attn guide training", "watch a training of your own"
    yield "attn exercise start", "write these layers yourself, one by one"
