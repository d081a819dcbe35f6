"""What is seen of a model that learns to translate: a frame of it, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.arrays import Array
from attncli.demo import phrases
from attncli.demo.translator import Learned
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.look import Look
from attncli.views.watching import Display
from attncli.weights.recording import Kept, Recording

_MOST_FRAMES, _MOST_BYTES = 200, 1 << 24
_ASKED = 200  # sentences that it has never seen
_LINES_AROUND = 8
_PIPED = 80  # columns


class Lesson:
    """A model that learns, watched at one sentence.

    Parameters
    ----------
    every : int
        Each so many-th step is kept.
    """

    def __init__(self, every: int) -> None:
        french, english = said(phrases.translated(phrases.SHOWN)), said(phrases.SHOWN, english=True)
        self.recording = Recording(
            Kept(), (french.split(), english.split()),
            every=every, max_frames=_MOST_FRAMES, max_bytes=_MOST_BYTES,
        )  # fmt: skip
        self._display = Display(self.recording, "attn demo")
        self._display.top = 1.0  # what is grey at first is so beside what is sharp at the end
        self._losses = list[float]()
        self.learned: Learned | None = None

    def add(self, learned: Learned) -> None:
        """Take a step."""
        model = learned.model
        model.forward(phrases.SHOWN, phrases.translated(phrases.SHOWN))
        self.recording.add(model.attention_weight[0], learned.step, learned.loss)
        self._losses.append(learned.loss)
        self.learned = learned

    def drawn(self, look: Look) -> RenderableType:
        """Draw the step: what it is to translate, what it says, and where it looks."""
        assert self.learned is not None
        if look.plain:  # few frames, and each as on a terminal
            look = replace(look, plain=False, width=_PIPED)
        says = said(self.learned.model.translate(phrases.SHOWN))
        reads = said(phrases.SHOWN, english=True)
        lines = [
            _(Sentence("reads  {words}", words=reads)),
            _(Sentence("says   {words}", words=says)),
        ]
        words = (Text(look.fit(line), no_wrap=True, overflow="ellipsis") for line in lines)
        smaller = replace(look, height=max(1, look.height - _LINES_AROUND))
        return Group(*words, self._display.drawn(smaller))

    def told(self, look: Look) -> Iterator[str]:
        """Say what was seen, each number of it measured."""
        if self.learned is None:
            return
        step, loss, model = self.learned
        fell = {"steps": step, "first": f"{self._losses[0]:.2f}", "last": f"{loss:.4f}"}
        many = Sentence("{steps} steps: the loss fell from {first} to {last}.", **fell)
        one = Sentence("{steps} step: the loss fell from {first} to {last}.", **fell)
        yield look.fit(_(one if step == 1 else many))
        english = phrases.draw(np.random.default_rng(0), _ASKED, unseen=True)
        right = (model.translate(english) == phrases.translated(english)).all(axis=1).sum()
        well = "Of {count} sentences that it has never seen it translates {right} without a fault."
        yield _(Sentence(well, count=_ASKED, right=right))
        share = _on_source(model.attention_weight, english)
        yield _(
            Sentence(
                "{share} of what a French word looks at is the English word that it means; "
                "at the start it was {even}, all alike.",
                share=f"{share:.0%}", even=f"{1 / phrases.LENGTH:.0%}",
            )
        )  # fmt: skip
        model.translate(phrases.SHOWN)
        looks = model.attention_weight.argmax(axis=2)
        if (looks == phrases.sources(phrases.SHOWN)).all():
            yield _(
                'The diagonal crosses itself where French says "lapin blanc" for "white rabbit".'
            )


def said(words: Array, *, english: bool = False) -> str:
    """Give the first sentence as text.

    Examples
    --------
    >>> said(phrases.SHOWN, english=True)
    'the young fox follows my white rabbit'
    """
    vocabulary = phrases.ENGLISH if english else phrases.FRENCH
    return " ".join(vocabulary[word] for word in words[0])


def _on_source(weights: Array, english: Array) -> float:
    """How much of the weights is on the word that is meant."""
    places = phrases.sources(english)[:, :, None]
    return float(np.take_along_axis(weights, places, axis=2).mean())


def draw_next(commands: Iterable[tuple[str, str]], look: Look) -> RenderableType:
    """Name commands that come next, and what each is for."""
    rows = [(command, _(what)) for command, what in commands]
    width = max(len(command) for command, _ in rows)
    beside = width + 4 + max(cell_len(what) for command, what in rows) <= look.width
    parts = list[RenderableType]()
    for command, what in rows:
        if beside:
            parts.append(Text.assemble("  ", (f"{command:{width}}", "cyan"), f"  {what}"))
        else:
            parts += [Text(f"  {command}", "cyan"), Padding(Text(what), (0, 0, 0, 4))]
    return Group("", *parts)
