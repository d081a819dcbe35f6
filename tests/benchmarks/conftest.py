"""Workers that return given figures, and a clock that only they move."""

import importlib.util
import time
from types import SimpleNamespace

import pytest

# The one seam: what starts a contender's process, and is asked for its figures.
WORKER = "attncli.benchmarks.measure.Worker"
FIRST_RUN = 0.03


class Machine:
    """What every contender's runs take, turn by turn.

    A turn is what one contender runs of one thing in a row.  What warms it is no turn: it takes
    100 s and no memory.  The first run of every turn takes 0.03 s more than the others.

    Attributes
    ----------
    seconds, memory : dict
        By contender and ``"forward"`` or ``"both"``: a number for each turn on a cell, or a
        function of the cell that gives them; 1 s and 1000 bytes where there is none.
    errors : dict
        By contender: the error against float64.
    failing : dict
        By contender and ``"cell"``, ``"forward"`` or ``"both"``: a function of the cell and the
        turn (0: the one that warms) that says whether it fails.
    cells : list of tuple
        Whom which cell was given to.
    turns : list of tuple
        Contender and what, in order; without what warms them.
    judged : list of str
        Who was asked for its error.
    """

    def __init__(self):
        self.seconds, self.memory, self.errors, self.failing = {}, {}, {}, {}
        self.cells, self.turns, self.judged = [], [], []
        self.now = 0.0
        self._cell, self._turn, self._last = {}, {}, None

    def answer(self, name, request):
        if "cell" in request:
            self._cell[name] = cell = SimpleNamespace(**request["cell"])
            self.cells.append((name, cell))
            self._last = None
            for what in ("forward", "both"):
                self._turn[name, what] = -1
            return self._failure(name, "cell") or {"both": name != "products"}
        if "blas" in request:
            return {"blas": "numpy"}
        if "error" in request:
            self.judged.append(name)
            return {"error": self.errors[name]}
        return self._run(name, request["run"])

    def _run(self, name, what):
        first = self._last != (name, what)
        if first:
            self._last = name, what
            self._turn[name, what] += 1
            if self._turn[name, what]:
                self.turns.append((name, what))
        seconds = self._given(self.seconds, name, what, (100.0, 1.0)) + first * FIRST_RUN
        self.now += seconds
        memory = self._given(self.memory, name, what, (0, 1000))
        return self._failure(name, what) or {"seconds": seconds, "memory": memory}

    def _given(self, figures, name, what, default):
        given = figures.get((name, what), [])
        given = given(self._cell[name]) if callable(given) else given
        turn = self._turn[name, what]
        return given[turn - 1] if 0 < turn <= len(given) else default[turn > 0]

    def _failure(self, name, what):
        failing = self.failing.get((name, what), lambda cell, turn: False)
        fails = failing(self._cell[name], self._turn.get((name, what), 0))
        return {"failed": "MemoryError: too large"} if fails else None


@pytest.fixture
def machine(monkeypatch):
    """A machine on which only runs take time, and where torch alone seems to be installed."""
    machine = Machine()

    class Worker:
        def __init__(self, name, threads, blas):
            self.name = name

        def ask(self, **request):
            return machine.answer(self.name, request)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    real = importlib.util.find_spec
    peers = {"torch": object(), "jax": None, "onnxruntime": None}

    def find_spec(name, *more):
        return peers[name] if name in peers else real(name, *more)

    monkeypatch.setattr(WORKER, Worker)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return machine
