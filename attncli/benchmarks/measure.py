"""Interleaved runs of contenders, each in its own process, and what their medians say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

import numpy as np

from attncli.benchmarks.contenders import OURS, PEERS, PRODUCTS
from attncli.memory import require
from attncli.processes import Process
from attncli.reports import BenchReport, Cell, Measurement, Profile

Progress = Callable[[int, int], None]

# The book's loop is left out where one run would take more than some 10 s: N · T² · H.
_BEARABLE_FOR_LOOP = 2e9
# The bare products are left out where the scores that lie between them would take more: bytes.
_BEARABLE_FOR_PRODUCTS = 4 << 30
# Seconds.  A turn begins with runs that do not count: until the threads that others left spinning
# have come to rest, and caches, clock and scheduler know the new one.  Then as many count as fit.
_SETTLING, _COUNTED, _MOST = 0.04, 0.02, 10

# Matrices of N · T · T numbers that one run holds at most; tiles alone are none that counts.
_MATRICES = {
    "direct-kept": 3, "direct-again": 3, "tiled-kept": 1, "loop": 4, "jax": 3, "onnxruntime": 2,
}  # fmt: skip
# Everybody's inputs and results: query, key, value and dout; out and three gradients.
_TENSORS = 8


# What is measured unless shapes are given: what takes seconds, and what takes minutes beside; the
# scaling mode doubles T from the first to the last.
_SHORT = ((3, 5, 4), (64, 29, 256), (8, 512, 64))
_LONG = ((1, 2048, 64), (1, 8192, 64), (4, 2048, 128))
_FIRST, _LAST_T = (1, 1024, 64), 65_536

Shapes = Sequence[tuple[int, int, int]]


def crossed(
    shapes: Shapes,
    dtypes: Sequence[str],
    *,
    every: bool = False,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    segments: int = 1,
) -> list[Cell]:
    """Make a cell of every (N, T, H) and dtype; and beside it what hides keys, if wanted.

    Without shapes these are some that take seconds, in float32, or all that there are.

    That is one under causal order, one with a window (causal too if that is wanted), and one of so
    many segments.

    Examples
    --------
    >>> crossed([(1, 8, 4)], ["float32"], segments=2)[1]
    Cell(N=1, T=8, H=4, dtype='float32', causal=False, window=None, segments=2)
    """
    hidden: list[dict[str, Any]] = [{}]
    if causal:
        hidden.append({"causal": True})
    if window is not None:
        hidden.append({"causal": causal, "window": window})
    if segments > 1:
        hidden.append({"segments": segments})
    return [
        Cell(*shape, dtype, **what)
        for shape in shapes or (_SHORT + _LONG if every else _SHORT)
        for dtype in dtypes or (("float32", "float64") if every or shapes else ("float32",))
        for what in hidden
    ]


def doubled(shapes: Shapes, dtypes: Sequence[str], **hidden: Any) -> list[Cell]:
    """Make cells in which T doubles, from the first shape on; all of them with what is hidden."""
    N, T, H = shapes[0] if shapes else _FIRST
    steps = [T]
    while steps[-1] * 2 <= _LAST_T:
        steps.append(steps[-1] * 2)
    return [Cell(N, step, H, dtype, **hidden) for dtype in dtypes or ("float32",) for step in steps]


class Worker(Process):
    """A contender in a process of its own."""

    def __init__(self, name: str, threads: int, multiplying: str | None = None) -> None:
        blas = str(threads if name in (PRODUCTS, "loop") else 1)
        environment = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), blas)
        environment["OMP_NUM_THREADS"] = str(threads)
        # After 2^20 cycles without work its threads sleep; left alone, they spin for 0.1 s.
        environment["OPENBLAS_THREAD_TIMEOUT"] = "20"
        if multiplying is not None:
            environment["ATTN_BLAS"] = multiplying
        super().__init__("attncli.benchmarks.worker", name, threads, environment=environment)


def measure(
    cells: Sequence[Cell],
    contenders: Sequence[str],
    *,
    repeat: int,
    threads: int,
    accuracy: bool = False,
    blas: str | None = None,
    progress: Progress = lambda done, total: None,
) -> BenchReport:
    """Measure contenders on cells, taking turns, so that noise falls on all alike.

    Parameters
    ----------
    cells : sequence of Cell
    contenders : sequence of str
        Names from `attncli.benchmarks.contenders`.
    repeat : int
        Rounds per cell.  In each, everybody has a turn of one run, or of up to ten short ones.
    threads : int
        For every contender alike.
    accuracy : bool, default False
        Also compare results with the same in float64.
    blas : str, optional
        Who multiplies for ours; as `attncli.core.products.choose` takes it.
    progress : callable, optional
        Called with the rounds that are done and that there are.
    """
    measurements: list[Measurement] = []
    failures: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    with ExitStack() as running:
        for name in contenders:
            workers[name] = running.enter_context(Worker(name, threads, blas))
        for number, cell in enumerate(cells):
            ready = _ready(workers, cell, failures)
            runs = [(name, "forward") for name in ready]
            runs += [(name, "both") for name, has_both in ready.items() if has_both]
            samples = _rounds(workers, runs, repeat, number, len(cells), progress)
            for name in ready:
                compared = accuracy and name not in ("loop", PRODUCTS)
                error = workers[name].ask(error=True).get("error") if compared else None
                forward, memory = _median(samples[name, "forward"])
                both, more = _median(samples.get((name, "both"), []))
                most = max((m for m in (memory, more) if m is not None), default=None)
                measurements.append(Measurement(cell, name, forward, both, most, error))
        ours = [worker for name, worker in workers.items() if name in OURS and name != "loop"]
        told = ours[0].ask(blas=True)["blas"] if ours else ""
    return BenchReport(threads, repeat, tuple(measurements), failures, told)


def look_into(
    cells: Sequence[Cell],
    contenders: Sequence[str],
    *,
    repeat: int,
    blas: str | None = None,
    progress: Progress = lambda done, total: None,
) -> BenchReport:
    """Say where the time of our contenders goes; the parameters are those of `measure`."""
    profiles: list[Profile] = []
    failures: dict[str, str] = {}
    told: list[str] = []
    for number, (name, cell) in enumerate(product(contenders, cells)):
        with Worker(name, 1, blas) as worker:
            answer = worker.ask(cell=cell._asdict())
            if "failed" not in answer:
                answer = worker.ask(profile=repeat)
            if "failed" in answer:
                failures[name] = answer["failed"]
            else:
                profiles.append(Profile(cell, name, **answer))
            told.append(worker.ask(blas=True)["blas"])
        progress(number + 1, len(contenders) * len(cells))
    return BenchReport(1, repeat, (), failures, "; ".join(dict.fromkeys(told)), tuple(profiles))


def takes_part(name: str, cell: Cell) -> bool:
    """Tell whether a contender can be measured on a cell, within bearable time and memory."""
    if name in ("loop", PRODUCTS) and cell.hides:
        return False
    if name in PEERS and (cell.window is not None or cell.segments > 1):
        return False  # with a mask of T × T alone, which hides no work
    if name == PRODUCTS:
        return cell.T**2 * np.dtype(cell.dtype).itemsize <= _BEARABLE_FOR_PRODUCTS
    return name != "loop" or cell.N * cell.T**2 * cell.H <= _BEARABLE_FOR_LOOP


def require_memory(
    cells: Sequence[Cell], contenders: Sequence[str], limit: int | None, *, accuracy: bool = False
) -> None:
    """Raise unless what every cell takes fits, before any of it is allocated.

    Raises
    ------
    MemoryLimitError
    """
    for cell in cells:
        measured = [name for name in contenders if takes_part(name, cell)]
        require(
            needed(cell, measured, accuracy=accuracy) if measured else 0,
            f"measuring {', '.join(measured)} at N={cell.N} T={cell.T} H={cell.H} in {cell.dtype}",
            limit,
            hint="smaller --shapes, or --engines and --peers that keep no T × T weights, need less",
        )


def needed(cell: Cell, contenders: Sequence[str], *, accuracy: bool = False) -> int:
    """Give the bytes for one cell: all hold their tensors at a time, one at a time computes.

    Examples
    --------
    >>> needed(Cell(1, 1000, 64, "float32"), ["core"])
    2560000
    >>> needed(Cell(1, 1000, 64, "float32"), ["core", "direct-kept"])
    16096000
    """
    tensor = cell.N * cell.T * cell.H
    matrix = cell.T**2
    itemsize = np.dtype(cell.dtype).itemsize
    held = len(contenders) * _TENSORS * tensor * itemsize
    working = max(cell.N * matrix * _MATRICES.get(name, 0) for name in contenders)
    if PRODUCTS in contenders:
        held += matrix * itemsize
    exact = _TENSORS * tensor * 8 if accuracy else 0
    drawing = 8 * tensor  # one float64 tensor at a time, before it is rounded
    return held + max(working * itemsize, exact, drawing)


def _ready(workers: dict[str, Worker], cell: Cell, failures: dict[str, str]) -> dict[str, bool]:
    """Make every contender ready, and run it once to warm it; tell which have a backward."""
    ready = {}
    for name, worker in workers.items():
        if not takes_part(name, cell):
            continue
        answer = worker.ask(cell=cell._asdict())
        if "failed" not in answer:
            for what in ("forward", "both") if answer["both"] else ("forward",):
                answer = {**answer, **worker.ask(run=what)}
        if "failed" in answer:
            failures[name] = answer["failed"]
            continue
        ready[name] = bool(answer["both"])
    return ready


def _rounds(
    workers: dict[str, Worker],
    runs: Sequence[tuple[str, str]],
    repeat: int,
    cell: int,
    cells: int,
    progress: Progress,
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    samples: dict[tuple[str, str], list[dict[str, Any]]] = {run: [] for run in runs}
    for round_ in range(repeat):
        first = round_ % len(runs) if runs else 0  # nobody always comes after the same one
        for run in (*runs[first:], *runs[:first]):
            name, what = run
            samples[run] += [a for a in _turn(workers[name], what) if "seconds" in a]
        progress(cell * repeat + round_ + 1, cells * repeat)
    return samples


def _turn(worker: Worker, what: str) -> list[dict[str, Any]]:
    start = time.perf_counter()
    answer = worker.ask(run=what)
    while "seconds" in answer and time.perf_counter() - start < _SETTLING:
        answer = worker.ask(run=what)
    count = min(_MOST, int(_COUNTED / answer.get("seconds", _COUNTED)))
    return [worker.ask(run=what) for _ in range(max(1, count))]


def _median(answers: Sequence[dict[str, Any]]) -> tuple[float | None, int | None]:
    if not answers:
        return None, None
    memory = [answer["memory"] for answer in answers if answer["memory"] is not None]
    return statistics.median(a["seconds"] for a in answers), max(memory, default=None)
