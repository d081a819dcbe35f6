"""`forward` and `backward` on a cluster: what contradicts it, the plan, the run, what is shown."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click
import numpy as np
from click.core import ParameterSource

import attncli.cluster
from attncli.cli.cluster_options import Cluster
from attncli.cli.posing import pose
from attncli.cluster.jobs import Job
from attncli.errors import ContradictionError, ParameterError
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.files.regions import Region, describe
from attncli.files.source import refused
from attncli.files.writing import filling
from attncli.memory import cores, readable
from attncli.problems.drawing import unwritten
from attncli.tensors import random_tensor
from attncli.views.cluster_report import described, draw_plans, draw_results, plans_as_json

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from attncli.arrays import Array
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.cluster import Settings
    from attncli.cluster.plan import Plan
    from attncli.problems.problem import Problem
    from attncli.problems.request import Request

# Up to so many pairs of a query and a key starting a cluster costs more than it saves.
_WORTH_IT = 1 << 30
# For how many workers a plan is shown, beside those there would be.
_FOR_WORKERS = (1, 8, 64)


def run(command: str, request: Request, output: Output, screen: Screen, cluster: Cluster) -> None:
    """Run what was asked for on a cluster, or show its plan.

    Raises
    ------
    AttnError
        If options contradict each other, something is missing or does not fit; or the cluster
        fails.
    """
    _refuse(command, request, output, screen, cluster)
    execution = dataclasses.replace(request.execution, engine="dask")
    request = dataclasses.replace(request, execution=execution)
    if cluster.dry_run:
        _show_plans(command, request, screen, cluster)
        return
    Cluster.require_extra()
    output.check(request.files, screen)
    with _scratch(output, cluster.settings) as scratch:
        regions: dict[str, Region] = {}
        draw = partial(_drawn, scratch, regions)
        problem = pose(dataclasses.replace(request, draw=draw), screen, needs_dout=True)
        regions.update(problem.regions)
        problem = dataclasses.replace(problem, regions=regions)
        _say_what_is_faster(problem, screen)
        assert output.path is not None
        job = Job(problem, command, output.path, output.force, cluster.settings.block)
        with screen.calculating(command) as progress:

            def told(plan: Plan, workers: int, moved: int) -> None:
                if not progress.beside:
                    screen.detail(described(plan))
                at_work = f"{workers} worker{'s' * (workers != 1)}"
                progress.beside = f"{at_work} · {readable(moved)} moved" if moved else at_work

            attncli.cluster.run(job, cluster.settings, told)
    screen.note(f"wrote the run to {click.format_filename(output.path)}")
    if not screen.quiet:
        screen.show(draw_results(problem, command, _results(problem, command, output), screen.look))


def _results(problem: Problem, command: str, output: Output) -> dict[str, Region]:
    """Say where the results lie that are shown."""
    assert output.path is not None
    operation = problem.operation
    names = [operation.result]
    if command == "backward":
        names = [f"d{name}" for name in (*operation.inputs, "mask", "sinks", "alibi")]
    written = open_tensors(output.path, Reading(allow_nonfinite=True))
    if list(written) == [""]:
        return {operation.result: describe(written, "")}
    return {name: describe(written, name) for name in names if name in written}


@contextlib.contextmanager
def _scratch(output: Output, settings: Settings) -> Iterator[str]:
    """Make room for what is drawn at random; nothing of it stays."""
    beside = settings.scratch or os.path.dirname(output.path or "") or "."
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".attn-drawn-", dir=beside)
    except OSError as error:
        raise refused(beside, error) from None
    with scratch as folder:
        yield folder


def _drawn(
    scratch: str,
    regions: dict[str, Region],
    name: str,
    shape: tuple[int, ...],
    *,
    seed: int,
    dtype: DTypeLike,
) -> Array:
    """Draw a random tensor into a file of its own, which workers read."""
    path = os.path.join(scratch, f"{name}.npy")
    with filling(path, shape, np.dtype(dtype)) as place:
        assert place is not None
        random_tensor(name, shape, seed=seed, dtype=place.dtype, out=place)
    file = open_tensors(path, Reading(allow_nonfinite=True))
    regions[name] = describe(file, "")
    return unwritten(name, shape, dtype=dtype)


def _refuse(
    command: str, request: Request, output: Output, screen: Screen, cluster: Cluster
) -> None:
    """Raise if something was asked for that a cluster cannot give."""
    source = click.get_current_context().get_parameter_source
    stem, ending = os.path.splitext(output.path or "")
    zarr = shlex.quote(f"{stem if stem not in ('', '-') else 'out'}.zarr")
    if request.execution.weights:
        raise ParameterError(
            "--weights: there is no one machine on a cluster to keep them", hint="--no-weights"
        )
    for name, why, instead in (
        ("threads", "--workers says how many", f"--workers {request.execution.threads}"),
        ("blas", "what ATTN_BLAS says to a worker holds for it", None),
        ("equal_nan", "results stay in the file", None),
        ("full", "results stay in the file", None),
    ):
        if source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            what = f"{option} has no meaning with --engine dask: {why}"
            raise ContradictionError(what, option, hint=instead)
    if cluster.dry_run:
        return
    if screen.as_json:
        raise ParameterError(
            "--json prints every number, and those of a cluster stay in the file",
            hint="--dry-run --json prints the plan",
        )
    if not output.is_wanted:
        raise ParameterError("--engine dask needs a file for the results", hint=f"-o {zarr}")
    if output.is_stdout:
        raise ParameterError(
            "-o - is a stream, and workers write to all places of a file", hint=f"-o {zarr}"
        )
    if ending != ".zarr" and not (ending == ".npy" and command == "forward"):
        what = "one array, and there are several" if ending == ".npy" else "no places"
        raise ParameterError(
            f"{output.path}: a file of this ending has {what} that workers could write to",
            hint=f"-o {zarr}",
        )


def _show_plans(command: str, request: Request, screen: Screen, cluster: Cluster) -> None:
    # Nothing of it is computed with, and so nothing is read of it, but for its header.
    reading = dataclasses.replace(request.reading, allow_nonfinite=True)
    request = dataclasses.replace(request, reading=reading, draw=unwritten)
    problem = pose(request, screen)
    settings = cluster.settings
    own = settings.workers or (None if settings.address else cores())
    workers = sorted({*_FOR_WORKERS, *([own] if own else [])})
    job = Job(problem, command, block=settings.block)
    plans = [job.plan(count) for count in workers]
    if screen.as_json:
        screen.show_json(plans_as_json(problem, command, plans))
    else:
        screen.show(draw_plans(problem, command, plans, screen.look))
    _say_what_is_faster(problem, screen)


def _say_what_is_faster(problem: Problem, screen: Screen) -> None:
    T_dec, T_enc = problem.sizes.get("T_dec", 1), problem.sizes["T_enc"]
    if T_dec * T_enc < _WORTH_IT:
        screen.note(
            f"note: {T_dec} queries by {T_enc} keys are done sooner in process: --engine auto"
        )
