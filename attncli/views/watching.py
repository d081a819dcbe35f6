"""``attncli.watch``: the weights of a training, kept in a file and drawn as they come."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
import threading
import time
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from attncli.arrays import Array
from attncli.errors import AttnError, ParameterError
from attncli.files.atomic import check_output
from attncli.files.formats import ending_of
from attncli.files.writing import save
from attncli.views.film import caption, draw_frame
from attncli.views.gallery import Gallery
from attncli.views.labels import safe, shorten
from attncli.views.look import Look
from attncli.views.rendering import lines, look_of
from attncli.views.scales import brightest
from attncli.views.showing import Picture, current_cell
from attncli.weights.at_hand import in_python
from attncli.weights.cutting import Cut
from attncli.weights.recording import Kept, Recording
from attncli.weights.selection import Chosen, Selection
from attncli.weights.wanted import Wanted

_OFTEN = 0.1  # seconds
# Drawing takes no more than this share of the time.
_SHARE = 1 / 100
_MOST_MATRICES = 24
# What the axes before the last two are, by how many there are.
_LEADING: tuple[tuple[str, ...], ...] = (
    (), ("item",), ("item", "head"), ("layer", "item", "head")
)  # fmt: skip


def watch(
    path: str | os.PathLike[str],
    tokens: Any = None,
    *,
    every: int = 1,
    layer: int | None = None,
    head: int | None = None,
    item: int | None = None,
    axes: str | None = None,
    max_frames: int = 200,
    max_bytes: int = 1 << 28,
    live: bool | None = None,
    force: bool = False,
) -> Watch:
    """Watch the attention weights of a training: keep frames of them, and draw them as they come.

    Used in a ``with`` statement around the loop; each step says what its weights are with
    ``update``. However it ends, by Ctrl-C too, a file is then written that ``attn show-weights``
    reads: ``--frames`` plays it, ``--frame I`` shows one. It holds ``weights`` (frames, …),
    ``steps``, ``loss`` and the tokens.

    Parameters
    ----------
    path : str or path
        An ``.npz`` file.
    tokens : sequence of str or int, or a pair of them
        As `attncli.show` takes them.
    every : int, default 1
        Keep each so many-th update; and the last one, whichever it is.
    layer, head, item : int, optional
        Keep these alone.
    axes : str, optional
        The axes of the weights, as ``"heads,dec,enc"``, where their number implies others.
    max_frames, max_bytes : int
        When there would be more, every other frame is dropped, and from then on only half as many
        are kept: they stay evenly spaced, the first and the last among them.
    live : bool, optional
        Draw them on a terminal; left out, where standard output is one, and not in a notebook. No
        more than ten times a second, and less where that would take a hundredth of the time.
    force : bool, default False
        Replace an existing file.

    Returns
    -------
    Watch

    Raises
    ------
    AttnError
        If an option has no meaning; on entering, if the file could not be written.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/run.npz"
    >>> with watch(path, tokens=["a", "cat"], every=2) as w:
    ...     for step in range(4):
    ...         weights = np.full((2, 2), 0.5)
    ...         w.update(weights, step=step, loss=1 / (1 + step))
    >>> sorted(np.load(path)), np.load(path)["steps"].tolist()
    (['loss', 'steps', 'tokens', 'weights'], [0, 2, 3])
    """
    recording = Recording(
        Kept(layer, item, head, axes), tokens,
        every=every, max_frames=max_frames, max_bytes=max_bytes,
    )  # fmt: skip
    return Watch(os.fspath(path), recording, live, force)


class Watch:
    """Frames of a training as they come: what `watch` returns.

    Parameters
    ----------
    path : str
    recording : Recording
    live : bool or None
    force : bool
    """

    def __init__(self, path: str, recording: Recording, live: bool | None, force: bool) -> None:
        self.path, self.recording, self.live, self.force = path, recording, live, force
        self._lock = threading.Lock()
        self._target: str | None = None
        self._display: Display | None = None

    def __enter__(self) -> Watch:
        with in_python():
            ending_of(self.path, (".npz",))
            check_output(self.path, force=self.force)
        self._target = os.path.abspath(self.path)  # whatever becomes of the working directory
        kind = self._where()
        self._display = None if kind is None else kind(self.recording, self.path)
        return self

    def _where(self) -> type[Display] | None:
        if current_cell() is not None:
            return _Notebook if self.live else None
        can = sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        if self.live is False or (self.live is None and not can):
            return None
        return _Terminal if can else _Pipe

    def update(self, weights: Any, *, step: float | None = None, loss: Any = None) -> None:
        """Say what the weights are after a step.

        Parameters
        ----------
        weights : array, or sequence of arrays
            As `attncli.show` takes them; of one shape at every step. They are copied where they
            are kept, and may be written into later.
        step : int or float, optional
            Its number; left out, that of the update, from 0.
        loss : number, optional
            A tensor of one number is taken too.

        Raises
        ------
        AttnError
            If these are no weights, or of another shape than before.
        """
        with self._lock:
            if self._target is None:
                raise ParameterError(
                    "attncli.watch: update is for within its with statement",
                    hint="with attncli.watch(path) as w: … w.update(weights)",
                )
            self.recording.add(weights, step, loss)
            if self._display is not None:
                self._display.update()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            target, self._target = self._target, None
            try:
                if self._display is not None:
                    self._display.close()
            finally:
                self._write(target, error)

    def _write(self, target: str | None, error: BaseException | None) -> None:
        if target is None or not self.recording.updates:
            return
        try:
            with in_python():
                save(target, self.recording.arrays(), force=self.force)
        except AttnError as failed:
            if error is None:
                raise
            error.add_note(f"attncli.watch: {failed}")  # what happened first is what is raised
            return
        if self._display is not None:
            self._display.say(
                f"{len(self.recording.moments)} frames in {self.path}: "
                f"attn show-weights {self.path} --frames"
            )


class Display:
    """Where the weights are drawn: the last ones, and not more often than is worth it."""

    def __init__(self, recording: Recording, name: str) -> None:
        self.recording, self.name = recording, name
        self.top, self.more, self._due = 0.0, 0, 0.0

    def update(self) -> None:
        """Draw what there is, if it is time."""
        start = time.perf_counter()
        if start < self._due:
            return
        first = self._due == 0.0  # what is loaded for it is loaded once
        self._try_to_show()
        end = time.perf_counter()
        pause = _OFTEN if first else max(_OFTEN, (end - start) / _SHARE)
        self._due = max(self._due, end + pause)

    def close(self) -> None:
        """Draw the last ones, and leave them."""
        if self.recording.updates:
            self._try_to_show()

    def _try_to_show(self) -> None:
        try:
            with np.errstate(all="ignore"):
                self.show()
        except OSError:  # a terminal that is gone is no reason to end a training
            self._due = math.inf

    def show(self) -> None:
        """Draw the weights of the last update."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Say something at the end."""

    def drawn(self, look: Look) -> RenderableType:
        """Draw the weights of the last update, under the step and the loss so far."""
        selection, moments = self.selection(), self.recording.moments
        gallery = Gallery(selection, look, self.top)
        line = Text(shorten(safe(self.name, look), look.width // 2, look), no_wrap=True)
        frame = moments[-1].frame
        line.append("  item 0  " if frame.ndim > 2 and frame.shape[-4:][0] > 1 else "  ")
        caption(line, moments[-1].step, [moment.loss for moment in moments], look)
        drawn = draw_frame(gallery, selection.matrices)
        if not self.more:
            return Group(line, drawn)
        return Group(line, drawn, Text(f"{self.more} more: layer= and head= choose", "dim italic"))

    def selection(self) -> Selection:
        """Give the weights of the last update, of a batch those of its first item."""
        moment, source = self.recording.moments[-1], self.recording.source
        assert source is not None
        frame, matrices = moment.frame, []
        sizes = dict(zip(_LEADING[frame.ndim - 2], frame.shape, strict=False))
        wanted = [1 if name == "item" else size for name, size in sizes.items()]
        self.more = max(0, math.prod(wanted) - _MOST_MATRICES)
        for index in itertools.islice(np.ndindex(*wanted), _MOST_MATRICES):
            named = {name: at for name, at in zip(sizes, index, strict=True) if sizes[name] > 1}
            load = functools.partial(_cut, frame[index])
            matrices.append(Chosen(named, 0, (frame.shape[-2], frame.shape[-1]), load))
            self.top = max(self.top, brightest(frame[index]))
        loss = "" if math.isnan(moment.loss) else f", loss {moment.loss:.4g}"
        (part,) = source.parts.values()
        read = replace(part, reading=f"step {moment.step:g}{loss}")
        source = replace(source, label=self.name, parts={part.name: read})
        return Selection(source, Wanted(), matrices)


def _cut(weights: Array, cut: Cut) -> Array:
    return cut.apply(weights)


def live_on(look: Look) -> Live:
    """Give what draws in place on standard output, a terminal that shows so much."""
    console = Console(
        file=sys.stdout,
        force_terminal=True,
        color_system=look.color_system,  # type: ignore[arg-type]
        no_color=not look.color,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    return Live(console=console, auto_refresh=False, vertical_overflow="crop")


class _Terminal(Display):
    """In a terminal, in place, under what the training prints."""

    def __init__(self, recording: Recording, name: str) -> None:
        super().__init__(recording, name)
        self.stream = sys.stdout
        self.live = live_on(look_of(sys.stdout))
        self.live.start()

    def show(self) -> None:
        look = look_of(self.stream)
        self.live.update(self.drawn(replace(look, height=look.height - 3)), refresh=True)

    def close(self) -> None:
        try:
            super().close()
        finally:
            with contextlib.suppress(OSError):
                self.live.stop()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            for line in lines(look_of(self.stream), Text(text)):
                print(line, file=self.stream)


class _Pipe(Display):
    """Where nothing can be drawn in place: the last ones, at the end."""

    def update(self) -> None:
        pass

    def show(self) -> None:
        look = look_of(sys.stdout)
        for line in lines(look, self.drawn(look)):
            print(line)


class _Notebook(Display):
    """In a notebook, in place under the cell."""

    handle: Any = None

    def show(self) -> None:
        shown = Picture(self.selection(), top=self.top).as_mime()
        if self.handle is None:
            display = import_module("IPython.display").display
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)
