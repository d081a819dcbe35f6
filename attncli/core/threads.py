"""Running independent tasks on a few threads.

NumPy releases the interpreter lock inside its products and functions, so threads of Python are
enough to use several cores.  BLAS may start threads of its own inside each product; then the two
compete.  Who asks for ``threads > 1`` should therefore hold BLAS to one thread, by setting
``OPENBLAS_NUM_THREADS=1`` (``MKL_NUM_THREADS``, ``VECLIB_MAXIMUM_THREADS``) in the environment
before NumPy is first imported.  This package never alters that setting.
"""

from __future__ import annotations

import _thread
import contextvars
import math
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.core.buffers import empty
from attncli.memory import cores

_A_CORE = 8  # threads at most: more would only take turns, and a system has no end of them

Task = Callable[[], object]


def run(tasks: Iterable[Task], threads: int, task_done: Callable[[], None] = lambda: None) -> None:
    """Run every task once, on the calling thread and up to ``threads − 1`` others.

    After each, whoever ran it calls `task_done`.  Each thread takes the next task as soon as it
    is free.

    Raises
    ------
    BaseException
        What a task raised first, after all threads have stopped; further tasks are not started.

    Examples
    --------
    >>> done = []
    >>> run([lambda: done.append(1), lambda: done.append(2)], threads=2)
    >>> sorted(done)
    [1, 2]
    """
    queue = list(tasks)[::-1]
    if threads == 1 or len(queue) == 1:
        while queue:
            queue.pop()()
            task_done()
        return
    raised: list[BaseException] = []

    def work() -> None:
        while True:
            try:
                task = queue.pop()  # atomic, so no two threads get the same one
            except IndexError:
                return
            try:
                task()
                task_done()
            except BaseException as error:
                raised.append(error)
                queue.clear()

    context = contextvars.copy_context  # holds what np.errstate was told
    helpers: list[_Helper] = []
    try:
        for _ in range(min(threads, len(queue), _A_CORE * cores()) - 1):
            helper = _idle.pop() if _idle else _Helper()
            helper.start(partial(context().run, work))
            helpers.append(helper)
        work()
    finally:
        queue.clear()  # an interrupt that came between two tasks stops the others as well
        for helper in helpers:
            helper.wait()
            _idle.append(helper)
    if raised:
        raise raised[0]


class _Helper:
    """A thread that waits to be given work.

    It outlives the call that started it: a new thread often begins on the processor that its
    maker runs on, and stays there for as long as a small calculation takes.
    """

    def __init__(self) -> None:
        self._given, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._given.acquire()
        self._work: Task | None = None
        _thread.start_new_thread(self._live, ())

    def start(self, work: Task) -> None:
        """Let the thread begin with `work`, which must not raise."""
        self._done.acquire()
        self._work = work
        self._given.release()

    def wait(self) -> None:
        """Return when the thread is done with what it was given."""
        with self._done:
            pass

    def _live(self) -> None:
        while True:
            self._given.acquire()
            work, self._work = self._work, None
            assert work is not None
            work()
            del work  # what it refers to may be large
            self._done.release()


_idle: list[_Helper] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # no thread but the forking one goes along


class Scratch(threading.local):
    """A buffer for one tile, made once per thread and used again for every tile.

    Examples
    --------
    >>> scratch = Scratch((2, 3), np.dtype(float))
    >>> scratch((2, 2)).shape
    (2, 2)
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.buffer = empty((math.prod(shape),), dtype)
        self.views: dict[tuple[int, ...], Array] = {}

    def __call__(self, shape: tuple[int, ...]) -> Array:
        """Return a contiguous array of this shape, in the place of the one before it."""
        view = self.views.get(shape)
        if view is None:
            size = math.prod(shape)
            if size > self.buffer.size:
                self.buffer = empty((size,), self.buffer.dtype)
                self.views.clear()  # they would hold the smaller buffer
            view = self.views[shape] = self.buffer[:size].reshape(shape)
        return view
