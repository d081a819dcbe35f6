"""Dask: the engine that runs what is to be done on a cluster."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from dask.tokenize import normalize_token
from distributed import Client, as_completed

from attncli.arrays import Array
from attncli.cluster import tasks
from attncli.cluster.cluster_settings import Needs, Settings
from attncli.cluster.connecting import connect
from attncli.cluster.jobs import Job
from attncli.cluster.on_worker import at_work
from attncli.cluster.plan import CARRIED, MERGED, PARTS_A_THREAD, Plan, Tile
from attncli.cluster.tasks import Calculation, Place, Written, part_of
from attncli.core.progress import strides
from attncli.errors import ClusterError
from attncli.operations.running import warn_of_blind_rows, warn_of_overflow

Item = TypeVar("Item")
Key = tuple[Any, ...]

_TELL_EVERY = 2.0  # seconds
_WEIGHTS = 2, 5  # products that a tile takes, forward and backward
BANDS = 3  # in flight, or rows: what is pending of them is held by the workers


def each(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    settings: Settings,
    resources: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function with each item, and give what comes of it; see `attncli.cluster.map`."""
    with connect(settings) as client:
        _require(client, resources or {})
        futures = client.map(function, items, pure=False, resources=resources)
        numbers = {future.key: number for number, future in enumerate(futures)}
        for future, found in as_completed(futures, loop=client.loop, with_results=True):
            yield numbers[future.key], found


Told = Callable[[Plan, int, int], None]


def run(job: Job, settings: Settings, told: Told) -> None:
    """Compute a job, and write what comes of it; see `attncli.cluster.run`."""

    def needs(threads: int) -> Needs:
        cut = job.plan(threads)
        return Needs(cut.task_nbytes, cut.worker_nbytes, cut.block[0], job.files, job.path)

    # What is begun is taken away only when nobody writes to it any more.
    with ExitStack() as begun, connect(settings, needs) as client:
        cut = job.plan(sum(client.nthreads().values()))
        told(cut, len(client.nthreads()), 0)
        calculation, output = begun.enter_context(job.begun(cut, resume=settings.resume))

        def is_done(tile: Tile) -> bool:
            regions = calculation.whole.regions(part_of(tile))
            return settings.resume and all(
                calculation.results[name].is_written(regions[name.removeprefix("kept-")])
                for name in calculation.rows
            )

        compute(client, calculation, cut, is_done, told)
        for name in calculation.gradients:
            calculation.results[name].write_zeros()
        output.finish()


class Graph(dict[Key, tuple[Any, ...]]):
    """Tasks by their keys, which no two runs share: Dask need not look into them for a name."""


@normalize_token.register(Graph)  # type: ignore[untyped-decorator]
def _named(graph: Graph) -> str:
    return uuid.uuid4().hex


class Unit(NamedTuple):
    """What is submitted as a whole: a row, a band, or what is carried from bands to the next.

    Attributes
    ----------
    graph : dict
    tiles : dict of key to int
        Those of its tasks that compute tiles, and the pairs that are seen in each.
    last : key
        The task whose result says that it is done.
    done : callable
        Told that result.
    """

    graph: Graph
    tiles: dict[Key, int]
    last: Key
    done: Callable[[Written], None]


def compute(
    client: Client,
    calculation: Calculation,
    plan: Plan,
    is_done: Callable[[Tile], bool],
    told: Told,
) -> None:
    """Compute forward, and backward if that is planned, on a cluster."""
    run = _Run(client, calculation, plan, told)
    run.work(_forward(run, is_done), _WEIGHTS[0])
    warn_of_blind_rows(run.blind, math.prod(calculation.results["out"].shape[:-1]))
    if plan.backward:
        run.work(_Backward(run).units(), _WEIGHTS[1])
    for name, count in run.nonfinite.items():
        stored = calculation.results[name]
        warn_of_overflow(stored.region.name, count, math.prod(stored.shape), stored.dtype)


class _Run:
    """One calculation on a cluster: few units at a time, and what is told of them."""

    def __init__(self, client: Client, calculation: Calculation, plan: Plan, told: Told) -> None:
        self.client, self.calculation, self.plan, self.told = client, calculation, plan, told
        self.before = client.run_on_scheduler(at_work)[1]
        self.asked = time.monotonic()
        self.blind, self.nonfinite = 0, Counter[str]()
        self.token = uuid.uuid4().hex[:8]
        self.step = strides(plan.area * (_WEIGHTS[0] + plan.backward * _WEIGHTS[1]))
        # Sent once, and held by who needs it; it is sent again where that is lost.
        self.data = client.submit(_same, calculation, key=self.key("calculation"), pure=False)

    def key(self, what: str, *numbers: int) -> Key:
        return (f"{what}-{self.token}", *numbers)

    def tell(self) -> None:
        """Say who is at work, and what was moved, now and then."""
        if time.monotonic() > self.asked + _TELL_EVERY:
            workers, moved = self.client.run_on_scheduler(at_work)
            self.told(self.plan, workers, moved - self.before)
            self.asked = time.monotonic()

    def work(self, units: Iterator[Unit | None], weight: int) -> None:
        """Submit units while few are in flight; None says to wait for those that are."""
        least = PARTS_A_THREAD * self.plan.threads
        completed = as_completed(loop=self.client.loop)
        open_: dict[Key, Unit] = {}
        pending: dict[Key, int] = {}  # tiles
        more = True
        while more or open_:
            graph = Graph()
            keys: list[Key] = []
            while more and (len(open_) < BANDS or len(pending) < least):
                try:
                    unit = next(units)
                except StopIteration:
                    more = False
                    break
                if unit is None:
                    assert open_, "what is to be carried was contributed"
                    break
                graph.update(unit.graph)
                keys += [*unit.tiles, unit.last]
                pending |= unit.tiles
                open_[unit.last] = unit
            if keys:
                completed.update(self.client.get(graph, keys, sync=False))
            self.tell()
            for future in completed.next_batch() if open_ else ():
                if future.status != "finished":
                    future.result()  # raises
                if (area := pending.pop(future.key, None)) is not None:
                    self.step(area * weight)
                    del future  # what nobody else waits for is let go
                    continue
                written = future.result()
                self.blind += written.blind
                self.nonfinite.update(written.nonfinite)
                open_.pop(future.key).done(written)


def _same(calculation: Calculation) -> Calculation:
    return calculation


def _tree(
    graph: Graph, keys: list[Key], fan: int, joint: Callable[..., Any], key: Callable[..., Key]
) -> list[Key]:
    """Let `fan` come together at a time, until they are no more."""
    while len(keys) > fan:
        nodes = []
        for start in range(0, len(keys), fan):
            node = key(len(graph))
            graph[node] = (joint, keys[start : start + fan])
            nodes.append(node)
        keys = nodes
    return keys


def _forward(run: _Run, is_done: Callable[[Tile], bool]) -> Iterator[Unit]:
    """Go row by row; partial results come together in a tree, whose last task writes."""
    for number, tiles in enumerate(run.plan.rows()):
        if is_done(tiles[0]):
            run.step(sum(tile.area for tile in tiles) * _WEIGHTS[0])
            continue
        keys = {run.key("attend", number, i): tile for i, tile in enumerate(tiles)}
        graph = Graph(
            {key: (partial(tasks.attend, tile=tile), run.data) for key, tile in keys.items()}
        )
        few = _tree(graph, list(keys), MERGED, tasks.merge, partial(run.key, "merge", number))
        last = run.key("finish", number)
        graph[last] = (partial(tasks.finish, tile=tiles[0]), run.data, few)
        yield Unit(graph, {key: tile.area for key, tile in keys.items()}, last, _nothing_more)


def _nothing_more(written: Written) -> None:
    pass


class _Carried:
    """What bands contribute to one place of a gradient, added up in the order of the bands."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.left = tile, 0  # one of the tiles; how many are still to contribute
        self.waiting: list[int] = []
        self.before: int | None = None
        self.adding = False


class _Backward:
    """Band by band; what several bands contribute to is carried from one to the next."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.small: dict[str, Array] = {}
        self.ready: deque[Unit] = deque()
        calculation = run.calculation
        self.carried: dict[Place, _Carried] = {}
        for band in run.plan.bands():
            for tile in band:
                for place in self._places(tile):
                    self.carried.setdefault(place, _Carried(tile)).left += 1
        self.finished: dict[int, tuple[list[tuple[Tile, int]], Mapping[Place, Array]]] = {}
        self.next = 0
        for name in {"dsinks", "dalibi"} & calculation.results.keys():
            shape = calculation.results[name].shape
            self.small[name] = np.zeros(shape, calculation.whole.compute)

    def _places(self, tile: Tile) -> list[Place]:
        calculation = self.run.calculation
        part = part_of(tile)
        return [calculation.place(name, part) for name in calculation.carried]

    def units(self) -> Iterator[Unit | None]:
        run, number = self.run, 0
        for at, band in enumerate(run.plan.bands()):
            while self.ready:
                yield self.ready.popleft()
            numbered = [(tile, number + i) for i, tile in enumerate(band)]
            number += len(band)
            keys = {run.key("back", one): (tile, one) for tile, one in numbered}
            graph = Graph(
                {
                    key: (partial(tasks.walk_back, tile=tile, number=one), run.data)
                    for key, (tile, one) in keys.items()
                }
            )
            few = _tree(graph, list(keys), run.plan.summed, tasks.add, partial(run.key, "add", at))
            last = run.key("band", at)
            graph[last] = (tasks.finish_band, run.data, few)
            areas = {key: tile.area for key, (tile, _) in keys.items()}
            yield Unit(graph, areas, last, partial(self._done, at, numbered))
        while self.ready or any(one.left or one.adding for one in self.carried.values()):
            yield self.ready.popleft() if self.ready else None
        for name, gradient in self.small.items():
            stored = run.calculation.results[name]
            stored.write((), gradient)
            run.nonfinite[name] = stored.nonfinite(gradient)

    def _done(self, at: int, numbered: list[tuple[Tile, int]], written: Written) -> None:
        """Take note of a band that is done; what it contributed is added in its turn."""
        self.finished[at] = numbered, written.small
        while self.next in self.finished:
            numbered, small = self.finished.pop(self.next)
            self.next += 1
            for (name, where), gradient in small.items():
                self.small[name][tuple(slice(*one) for one in where)] += gradient
            for tile, number in numbered:
                for place in self._places(tile):
                    one = self.carried[place]
                    one.left -= 1
                    one.waiting.append(number)
                    self._add(place, one)

    def _add(self, place: Place, one: _Carried) -> None:
        """Have contributions added, if they are many or the last."""
        last = one.left == 0
        if one.adding or not one.waiting or not (last or len(one.waiting) >= CARRIED):
            return
        numbers, one.waiting, one.adding = one.waiting, [], True
        key = self.run.key("carry", numbers[-1], self.run.calculation.carried.index(place[0]))
        task = partial(
            tasks.carry, tile=one.tile, place=place, numbers=numbers, before=one.before, last=last
        )

        def done(written: Written) -> None:
            tasks.forget(self.run.calculation, place, numbers, one.before)
            one.before, one.adding = numbers[-1], False
            self._add(place, one)

        self.ready.append(Unit(Graph({key: (task, self.run.data)}), {}, key, done))


def _require(client: Client, resources: Mapping[str, float]) -> None:
    """Raise unless a worker says that it has what is asked for: else one would wait for ever."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    for name, amount in resources.items():
        if not any(worker["resources"].get(name, 0) >= amount for worker in workers):
            raise ClusterError(
                f"no worker has {name}={amount:g}, which says that it does nothing else meanwhile",
                hint=f"dask worker {client.scheduler.address} --resources {name}={amount:g}",
            )
