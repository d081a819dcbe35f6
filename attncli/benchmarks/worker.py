"""One contender in a process of its own: nobody else's threads spin beside it.

Answers one request after the other: ``{"cell": …}`` makes the contender ready,
``{"run": "forward"}`` or ``"both"`` times one run, ``{"profile": 5}`` says in five rounds
where the time of ours goes, ``{"blas": true}`` tells who multiplied.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from attncli.benchmarks.contenders import Contender, make, options_of, tensors
from attncli.benchmarks.profiling import profiled
from attncli.core import attention, attention_backward, products
from attncli.memory import read_system
from attncli.processes import Channel
from attncli.reports import Cell


def main(number: str, name: str, threads: str) -> None:
    """Answer requests until there are no more."""
    channel = Channel.inherited(number)
    contender: Any = None
    cell: Any = None
    baseline: int | None = None
    while True:
        try:
            request, _ = channel.receive()
        except EOFError:
            return
        answer: dict[str, Any] = {}
        try:
            if "cell" in request:
                cell = Cell(**request["cell"])
                if cell.window is not None:  # JSON has lists alone
                    cell = cell._replace(window=tuple(cell.window))
                contender = make(name, cell, int(threads))
                baseline = _reset_peak()
                answer["both"] = contender.both is not None
            elif "blas" in request:
                answer["blas"] = products.told()
            elif "profile" in request:
                answer = profiled(name, tensors(cell), options_of(cell), request["profile"])
            elif "error" in request:
                answer["error"] = _error(contender, cell)
            else:
                answer = _timed(contender, request["run"], baseline)
        except Exception as error:  # the measuring process decides what it means
            answer["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
        channel.send(answer)


def _timed(contender: Contender, what: str, baseline: int | None) -> dict[str, Any]:
    run = getattr(contender, what)
    _reset_peak()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM")
    # To what there was before the first run: freed memory may stay with the process.
    memory = None if baseline is None or peak is None else peak - baseline
    return {"seconds": seconds, "memory": memory}


def _error(contender: Contender, cell: Cell) -> float:
    """Give the largest error against float64, relative to the largest number of each tensor.

    Of out, and of the gradients where there are any.
    """
    query, key, value, dout = (x.astype(np.float64) for x in tensors(cell))
    out, cache = attention(query, key, value, **options_of(cell))
    if contender.both is None:
        pairs = [(contender.forward(), out)]
    else:
        exact = (out, *attention_backward(dout, cache))
        pairs = list(zip(contender.both(), exact, strict=True))
    return max(
        float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())
        for ours, theirs in pairs
    )


def _reset_peak() -> int | None:
    """Make the peak of the resident memory what it is now; return it in bytes."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:  # not Linux
        return None
    return _memory("VmRSS")


def _memory(field: str) -> int | None:
    for line in read_system("/proc/self/status").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None
