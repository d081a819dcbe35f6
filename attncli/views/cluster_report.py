"""A run on a cluster: what it costs for how many workers, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.cluster.plan import OVERHEAD, RATES, Plan
from attncli.files.regions import Region, read
from attncli.memory import readable
from attncli.problems.problem import Problem
from attncli.views.look import Look
from attncli.views.records import Column, draw_records
from attncli.views.run_report import headline
from attncli.views.tensor_tables import corner_of, draw_corner, title

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def draw_plans(problem: Problem, command: str, plans: Sequence[Plan], look: Look) -> RenderableType:
    """Draw the plans of a problem: one line for each number of workers."""
    told = [_told(plan) for plan in plans]

    def column(heading: str, key: str, write: Any = "{:,}".format) -> Column:
        return Column(heading, [write(one[key]) for one in told], right=True)

    workers = [f"{n:,} worker{'s' * (n != 1)}" for n in (plan.threads for plan in plans)]
    columns = [
        Column("", workers),
        column("block", "block"),
        column("tiles", "tiles"),
        column("tasks", "tasks"),
        column("read", "read_bytes", readable),
        column("moved", "moved_bytes", readable),
        column("memory", "worker_bytes", readable),
        column("time", "seconds", duration),
    ]
    forward, backward = (f"{rate / 1e9:.0f}" for rate in RATES)
    rates = f"{forward} GFLOP/s forward"
    rates += f" and {backward} backward" if command == "backward" else ""
    dtype = problem.operation.result_dtype(problem.inputs)
    note = (
        f"block: queries, and keys, of a tile; memory: of each worker; moved: at worst. Written, "
        f"as {dtype}: {readable(plans[0].written)}. Time from {rates} a worker, as measured on "
        f"one core in float32, over {OVERHEAD:g} for reading and moving."
    )
    return Group(
        headline(problem, command, look), "", draw_records(columns, look), "",
        Text(look.fit(note), "dim italic"),
    )  # fmt: skip


def plans_as_json(problem: Problem, command: str, plans: Sequence[Plan]) -> dict[str, Any]:
    """Give the object that ``--dry-run --json`` prints."""
    return {
        **problem.options(command),
        "engine": "dask",
        "sizes": problem.sizes,
        "plans": [_told(plan) for plan in plans],
    }


def _told(plan: Plan) -> dict[str, Any]:
    return {
        "workers": plan.threads,
        "block": plan.block[0],
        "tiles": plan.tiles,
        "tasks": plan.tasks,
        "read_bytes": plan.read,
        "moved_bytes": plan.moved,
        "written_bytes": plan.written,
        "worker_bytes": plan.worker_nbytes + plan.task_nbytes,
        "seconds": plan.seconds,
    }


def described(plan: Plan) -> str:
    """Say in a line what is about to be done."""
    return (
        f"engine: dask, {plan.threads} workers, blocks of {plan.block[0]}, {plan.tiles} tiles, "
        f"{plan.tasks} tasks, {readable(plan.read)} to read, {readable(plan.moved)} to move, "
        f"about {duration(plan.seconds)}"
    )


def draw_results(
    problem: Problem, command: str, results: Mapping[str, Region], look: Look
) -> RenderableType:
    """Draw where a run came to: what was read, and of what was written a corner."""
    layout = problem.layout
    drawn: list[RenderableType] = [headline(problem, command, look), ""]
    for name, array in problem.inputs.items():
        given = problem.regions.get(name, array)
        drawn.append(title(name, given, layout.axes(name, len(given.shape)), look))
    drawn.append("")
    for name, region in results.items():
        corner = read(region, corner_of(region.shape))
        drawn.append(title(name, region, layout.axes(name, len(region.shape)), look))
        drawn += [draw_corner(corner, region.shape, look, f"; all are in {region.label}"), ""]
    return Group(*drawn)


def duration(seconds: float) -> str:
    """Write how long something takes, to two digits.

    Examples
    --------
    >>> duration(55.2), duration(435.0), duration(97 * 3600.0)
    ('55 s', '7.2 min', '4.0 d')
    """
    for size, unit in _UNITS:
        if seconds >= size or unit == "s":
            break
    count = seconds / size
    return f"{count:.0f} {unit}" if count >= 9.95 else f"{count:.1f} {unit}"
