"""Watching a long calculation from outside, without the calculation knowing who watches."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Progress = Callable[[int, int], None]

_watcher: ContextVar[Progress | None] = ContextVar("attncli_watcher", default=None)


@contextlib.contextmanager
def watching(progress: Progress) -> Iterator[None]:
    """Have `progress` called, from any thread, with the steps that are done and that there are.

    Examples
    --------
    >>> seen = []
    >>> with watching(lambda done, total: seen.append((done, total))):
    ...     step = steps(2)
    ...     step(), step()
    (None, None)
    >>> steps(1)()  # nobody watches any more
    >>> seen
    [(1, 2), (2, 2)]
    """
    token = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(token)


def steps(total: int) -> Callable[[], None]:
    """Return what is to be called after each of `total` steps; free if nobody watches."""
    progress = _watcher.get()
    if progress is None:
        return _nothing
    done = itertools.count(1)  # atomic: several threads take from it

    def step() -> None:
        progress(next(done), total)

    return step


def strides(total: int) -> Callable[[int], None]:
    """Return what is to be called, by one thread, after so many of `total` steps as it is told.

    Examples
    --------
    >>> with watching(lambda done, total: print(done, total)):
    ...     stride = strides(5)
    ...     stride(2), stride(3)
    2 5
    5 5
    (None, None)
    """
    progress = _watcher.get()
    if progress is None:
        return _nothing
    done = 0

    def stride(number: int) -> None:
        nonlocal done
        done += number
        progress(done, total)

    return stride


def _nothing(number: int = 1) -> None:
    pass
