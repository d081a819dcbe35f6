"""Loading somebody's code: what a text names runs in a process of its own.

What comes from there are numbers; what they are worth is decided here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets import arguments
from attncli.checking.targets.calling import Facts
from attncli.checking.targets.discovery import may_hold_layers, target_of_object
from attncli.checking.targets.given import Given, Sizes
from attncli.checking.targets.parameters import Weights
from attncli.checking.targets.sources import Note, Passed, compiles, files_in, said_of, source_of
from attncli.checking.targets.target import Layer, Target, all_having
from attncli.checking.targets.their_code import brief
from attncli.checking.targets.wire import decode, encode
from attncli.errors import (
    AttnWarning,
    CodeError,
    NoLayerError,
    TargetError,
    harmless,
    shortened,
)
from attncli.files.source import existing
from attncli.memory import readable
from attncli.processes import EndedError, Fork, ForkServer, Limits, Parts
from attncli.reports import FailedReport

NO_LAYER = "defines no layer"
# What takes longer to load is not loaded again to see its first calls.
_SOON = 3.0  # seconds
# All calls together may take so many times as long as one.
_TOGETHER = 30
# Texts from there, in characters: any, a message, a name; and what is shown of what is printed.
_LONGEST, _LONGEST_MESSAGE, _LONGEST_NAME, _SHOWN = 4096, 1000, 160, 3000
Report = TypeVar("Report")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=TargetError)
_SERVING = "attncli.checking.targets.serving"


def load_targets(
    text: str,
    limits: Limits | None = None,
    *,
    given: Given | None = None,
    copied: bool = False,
    note: Note = lambda said: None,
) -> tuple[Target, ...]:
    """Find the targets that a text names, each to be run in a process of its own.

    Parameters
    ----------
    text : str
        ``path/to/file.py`` is every class or pair of functions in it that looks like a layer, so
        is a notebook; ``file.py:Name`` or ``package.module:Name`` is that one.
    limits : Limits, optional
        How long loading it and every call may take, and how much memory.
    given : Given, optional
        What is said of every one of them.
    copied : bool
        Whether the processes may begin as copies of this one, as `ForkServer` says.
    note : callable
        Is told what should be said beside them, a line each.

    Returns
    -------
    tuple of Target
        At least one.  Those that are incomplete have a fault.

    Raises
    ------
    CodeError
        If its code fails when it is loaded.
    TargetError
        If there is no such thing.
    """
    if os.path.isdir(text):
        (file, *_), _ = texts_of(text, note)
        raise TargetError(f"{text}: is a folder, expected one of its files, as {file}")
    source_of(text)
    if not hasattr(os, "fork"):
        raise TargetError(
            f"{text}: code of yours runs in a process of its own, which needs a system with fork",
            hint="attncli.check(Name) in Python runs it in yours",
        )
    ForkServer.running(_SERVING, copied=copied)
    first = _Remote(text, limits or Limits(), given or Given())
    described = first.load()
    for said in first.notes:
        note(said)
    return tuple(
        _target(
            told, _Remote(text, first.limits, first.given, again=True) if number else first, number
        )
        for number, told in enumerate(described)
    )


def texts_of(text: str, note: Note) -> tuple[list[str], list[str]]:
    """Give the files in a folder that may hold layers, and those that define none.

    Any other text is one by itself.

    Raises
    ------
    NoLayerError
        If there are none.
    """
    folder = existing(text)
    if not os.path.isdir(folder):
        return [text], []
    passed = Passed()
    found, others = list[str](), list[str]()
    for file in files_in(folder, passed):
        (found if may_hold_layers(file) else others).append(file)
    passed += [(os.path.relpath(file, folder), NO_LAYER) for file in others]
    said = said_of(text, passed) if passed else None
    if not found:
        raise NoLayerError(f"{text}: no Python file and no notebook in it holds a layer", hint=said)
    if said:
        note(said)
    return found, others


def as_named(thing: Any) -> Any:
    """A path as the text that names it; anything else as it is."""
    return os.fspath(thing) if isinstance(thing, os.PathLike) else thing


def targets_of(thing: Any, given: Given | None = None) -> tuple[Target, ...]:
    """Make targets of a class, an instance, a function or a pair of them, or a text as above.

    Something may be said of them beside their names.  What is given as an object runs in this
    process; what a text names in one of its own, and what should be said beside it is a warning.

    Raises
    ------
    TargetError
        If it is none of these.
    """
    if not isinstance(thing, str):
        target = thing if isinstance(thing, Target) else target_of_object(thing)
        return tuple(all_having([target], given or Given()))
    texts, _ = texts_of(thing, _warn)
    if texts == [thing]:
        return load_targets(thing, given=given, note=_warn)
    found = list[Target]()
    for text in texts:
        try:
            found += load_targets(text, given=given, note=_warn)
        except CodeError as error:
            found.append(Target.broken(text, text, None, error))
        except NoLayerError:  # of a folder's files any may hold none
            continue
    if not found:
        raise NoLayerError(f"{thing}: none of its files holds a layer")
    return tuple(found)


def _warn(said: str) -> None:
    warnings.warn(said, AttnWarning, stacklevel=5)


def reports_on(
    text: str, targets: Sequence[Target], judge: Callable[[Target], Report]
) -> tuple[Report | FailedReport, ...]:
    """Judge each target of a text, though another may have failed, and end their processes.

    What cannot be judged is passed over with a warning.

    Raises
    ------
    NoLayerError
        If nothing can.
    """
    reports, passed = list[Report | FailedReport](), Passed()
    for target in targets:
        try:
            reports.append(judge(target))
        except NoLayerError as error:
            passed.append((target.name, str(error).removeprefix(f"{target.where}: ")))
        except TargetError as error:
            reports.append(FailedReport(target.where, error))
        finally:
            target.end()
    if not reports:
        raise NoLayerError(f"{text}: no layer that could be judged", hint=said_of(text, passed))
    if passed:
        _warn(said_of(text, passed))
    return tuple(reports)


class _Described(NamedTuple):
    """What is said there of a target."""

    name: str
    where: str
    file: str | None
    fault: TargetError | None
    takes: arguments.Parameters
    made_of: arguments.Parameters
    has_backward: bool
    frameworks: tuple[str, ...]

    @classmethod
    def read(cls, told: Any, given: Parts) -> Self:
        """Believe no more of it than has a meaning."""
        name, where = (shortened(str(told[x]), _LONGEST_NAME) for x in ("name", "where"))
        file, fault = told["file"], told["fault"]
        takes, made_of = (arguments.read(told[x], given) for x in ("takes", "made_of"))
        return cls(
            name, where, None if file is None else str(file),
            None if fault is None else _error(fault, where), takes, made_of,
            bool(told["has_backward"]), tuple(map(str, told["frameworks"])),
        )  # fmt: skip


def _target(told: _Described, remote: _Remote, number: int) -> Target:
    name, where, file = told.name, told.where, told.file
    remote.where = where
    if told.fault is not None:
        return Target.broken(name, where, file, told.fault)

    def start(sizes: Sizes, given: Given, seed: int) -> Layer:
        parts: list[Any] = []
        handle = remote.ask(
            "start", f"{where}: {name}()", parts, lambda answer: int(answer.value), target=number,
            sizes=dict(sizes), seed=seed, given=given.told(parts),
            circumstances=target.calls.circumstances(),
        )  # fmt: skip
        return _RemoteLayer(target, remote, handle)

    def renew() -> Target:
        if remote.seconds > _SOON:
            return target
        return _target(
            told,
            _Remote(
                remote.text,
                remote.limits,
                remote.given,
                silent=True,
                spent=remote.spent,
                scratch=remote.scratch,
            ),
            number,
        )

    target = Target.taking(
        name, where, file, told.takes, start, has_backward=told.has_backward, made_of=told.made_of
    )
    target = replace(
        target.having(remote.given), frameworks=told.frameworks, renew=renew, end=remote.end,
        revive=remote.revive,
    )  # fmt: skip
    return target


class _RemoteLayer(Layer):
    """An instance in another process."""

    def __init__(self, target: Target, remote: _Remote, handle: int) -> None:
        super().__init__(target, None)
        self._remote, self._handle = remote, handle

    def forward(self, *arrays: Array, **options: Any) -> Any:
        """Run forward there."""
        parts: list[Any] = []
        told = {name: encode(value, parts) for name, value in options.items()}
        return self._run("forward", arrays, parts, options=told)

    def backward(self, dout: Array) -> Any:
        """Run backward there."""
        return self._run("backward", (dout,), [])

    def _run(self, what: str, arrays: tuple[Array, ...], parts: list[Any], **more: Any) -> Any:
        def read(answer: _Answer) -> tuple[Facts, Any]:
            changed, overwritten, borrowed, alone, framework = answer.facts
            facts = Facts(
                tuple(number for number in map(int, changed) if 0 <= number < len(arrays)),
                tuple(map(str, overwritten)), bool(borrowed), str(alone), str(framework),
            )  # fmt: skip
            return facts, decode(answer.value, answer.parts)

        told = [encode(array, parts) for array in arrays]
        self.facts, result = self._remote.ask(
            "call", f"{self.target.where}: {what}", parts, read, layer=self._handle, method=what,
            arrays=told, circumstances=self.target.calls.circumstances(), **more,
        )  # fmt: skip
        return result

    def held(self, name: str) -> Any:
        """Give a copy of one of its attributes."""
        return self._look("held", name, _decoded, name=name)

    def weights(self) -> Weights:
        """Copies of its weights and their gradients."""
        return self._look("weights", "params", lambda answer: Weights(*_decoded(answer)))

    def assign(self, number: int, values: Array) -> None:
        """Write into one of the parameters there."""
        parts: list[Any] = []
        told = encode(np.asarray(values), parts)
        self._look("assign", "params", _nothing, parts, number=number, values=told)

    def logsumexp(self, rows: tuple[int, ...]) -> tuple[Any, bool]:
        """Give a copy of what forward there gave beside out."""

        def read(answer: _Answer) -> tuple[Any, bool]:
            array, named = _decoded(answer)
            return array, bool(named)

        return self._look("logsumexp", "forward", read, rows=rows)

    def names(self) -> tuple[str, ...]:
        """The names of its attributes."""
        return self._look("names", "its attributes", lambda answer: tuple(map(str, answer.value)))

    def identity(self, name: str) -> tuple[int, ...]:
        """Tell one list there from another."""
        return self._look("identity", name, lambda answer: tuple(map(int, answer.value)), name=name)

    def _look(
        self, do: str, what: str, read: Callable[[_Answer], _T], parts: Parts = (), **more: Any
    ) -> _T:
        where = f"{self.target.where}: {what}"
        return self._remote.ask(do, where, parts, read, layer=self._handle, **more)


class _Answer(NamedTuple):
    """What came from there."""

    value: Any
    facts: Any
    parts: Parts


def _decoded(answer: _Answer) -> Any:
    return decode(answer.value, answer.parts)


def _nothing(answer: _Answer) -> None:
    pass


class _Remote:
    """The process of a target, which begins when something is asked of it."""

    def __init__(
        self,
        text: str,
        limits: Limits,
        given: Given,
        *,
        again: bool = False,
        silent: bool = False,
        spent: list[float] | None = None,
        scratch: str = "",
    ) -> None:
        self.text, self.limits, self.given = text, limits, given
        self.spent = [] if spent is None else spent  # seconds, of whoever stands in for it too
        self.where = source_of(text).place
        self.notes: list[str] = []
        self.seconds = 0.0
        self.scratch = scratch  # a folder of it, and of whoever stands in for it
        self._fork: Fork | None = None
        self._loaded, self._silent = again, silent
        self._ended: CodeError | None = None
        self._clear: Callable[[], object] = lambda: None

    def load(self) -> list[_Described]:
        """Begin, and describe what there is."""
        try:
            fork = Fork(ForkServer.running(_SERVING), self.limits)
        except ChildProcessError:  # another target has ended what starts them
            fork = Fork(ForkServer.running(_SERVING), self.limits)
        self._fork = fork
        weakref.finalize(self, fork.close)
        if not self.scratch and compiles(self.text):
            with contextlib.suppress(OSError):
                self.scratch = tempfile.mkdtemp(prefix="attn-")
                self._clear = weakref.finalize(self, shutil.rmtree, self.scratch, True)
        parts: list[Any] = []
        request = {
            "given": self.given.told(parts),
            "text": self.text,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "path": [os.path.abspath(path) if path else os.getcwd() for path in sys.path],
            "memory": self.limits.memory,
            "scratch": self.scratch,
        }

        def read(answer: _Answer) -> tuple[float, list[str], list[_Described]]:
            told = answer.value
            targets = [_Described.read(one, answer.parts) for one in told["targets"]]
            return float(told["seconds"]), [str(note) for note in told["notes"]], targets

        what = f"{self.where}: loading it"
        self.seconds, self.notes, described = self._ask(fork, "load", what, parts, request, read)
        return described

    def end(self) -> None:
        """End it."""
        if self._fork is not None:
            self._fork.end("was ended")
        self._clear()

    def revive(self) -> None:
        """Begin anew with the next question, where it has ended by itself."""
        if self._ended is not None:
            self._fork = self._ended = None

    def ask(
        self, do: str, what: str, parts: Parts, read: Callable[[_Answer], _T], /, **request: Any
    ) -> _T:
        """Ask for something, and give what `read` makes of the answer.

        Raises
        ------
        TargetError
            What their code raised, or how its process ended, or that its answer has no meaning.
        """
        if self._ended is not None:
            raise self._ended
        if self._fork is None:
            self.load()
        assert self._fork is not None
        return self._ask(self._fork, do, what, parts, request, read)

    def _ask(
        self,
        fork: Fork,
        do: str,
        what: str,
        parts: Parts,
        request: dict[str, Any],
        read: Callable[[_Answer], _T],
    ) -> _T:
        def read_any(told: Any, given: Parts) -> _T | TargetError:
            told = _cut(told)
            if "error" in told:
                return _error(told["error"], what)
            return read(_Answer(told["value"], told.get("facts"), given))

        began = time.monotonic()
        try:
            if sum(self.spent) > (most := _TOGETHER * self.limits.seconds):
                fork.end(f"does not end: all calls together take more than {most:g} s")
            found: _T | TargetError = fork.ask({"do": do, **request}, parts, read_any)
        except EndedError as ended:
            hint = "--time-limit waits longer" if "does not end" in str(ended) else None
            self._ended = self._named(CodeError(f"{what} {ended}", hint=hint))
            raise self._ended from None
        finally:
            self.spent[:] = [sum(self.spent) + time.monotonic() - began]
            self._show(fork.printed.take(), loading=do == "load")
        if isinstance(found, TargetError):
            raise self._named(found)
        return found

    def _named(self, error: _E) -> _E:
        if re.search("MemoryError|too much memory", str(error)) and error.hint is None:
            limit = readable(self.limits.memory)
            error.hint = f"it may take {limit}: --max-memory allows more"
        return error

    def _show(self, text: str, *, loading: bool) -> None:
        """Show what is printed while it is loaded, and by the first call that prints."""
        seen, self._loaded = self._loaded and loading, self._loaded or loading
        if not text or self._silent or seen:
            return
        room, lines = _SHOWN, text.splitlines()
        for number, line in enumerate(lines):
            said = f"{self.where} prints: {shortened(harmless(line), _LONGEST_MESSAGE)}\n"
            if (room := room - len(said)) < 0:
                sys.stderr.write(f"({len(lines) - number:,} more lines are not shown)\n")
                break
            sys.stderr.write(said)
        if not loading:
            self._silent = True
            sys.stderr.write("note: the code prints; what its further calls print is not shown\n")


def _cut(told: Any) -> Any:
    """Cut texts that nobody reads to their end, wherever they are in an answer."""
    if isinstance(told, str):
        return shortened(told, _LONGEST)
    if isinstance(told, list):
        return [*map(_cut, told)]
    return {_cut(x): _cut(y) for x, y in told.items()} if isinstance(told, dict) else told


_KINDS = {kind.__name__: kind for kind in (TargetError, CodeError, NoLayerError)}


def _error(told: Any, what: str) -> TargetError:
    """The error that was raised there."""
    says = shortened(str(told["says"]), _LONGEST_MESSAGE)
    hint = told["hint"] and shortened(str(told["hint"]), _LONGEST_MESSAGE)
    says = f"{what} {says}" if says.startswith("raises ") else says
    return _KINDS.get(told["kind"], TargetError)(says, hint=hint, trace=tuple(brief(told["trace"])))
