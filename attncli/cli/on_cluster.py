"""`forward` and `backward` on a cluster: what contradicts it, the plan, the run, what is shown."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from attncli.cli import options
from attncli.cli.cluster_options import Cluster
from attncli.cli.posing import pose
from attncli.cluster.plan import plan
from attncli.errors import ParameterError
from attncli.problems.drawing import unwritten
from attncli.views.plan_report import draw_plans, plans_as_json

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
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
        If options contradict each other, something is missing or does not fit.
    """
    _refuse(command, request, output, screen, cluster)
    execution = dataclasses.replace(request.execution, engine="dask")
    request = dataclasses.replace(request, execution=execution)
    if cluster.dry_run:
        _show_plans(command, request, screen, cluster)
        return
    Cluster.require_extra()
    output.check(request.files, screen)
    raise ParameterError("--engine dask shows its plan alone so far", hint="--dry-run")


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
    for name, instead in (("threads", "--workers"), ("equal_nan", None), ("full", None)):
        if source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            why = "results stay in the file" if instead is None else f"{instead} says how many"
            raise ParameterError(
                f"{option} has no meaning with --engine dask: {why}",
                hint=f"--workers {request.execution.threads}" if instead else "--engine auto",
            )
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
    own = settings.workers or (None if settings.address else options.cores())
    workers = sorted({*_FOR_WORKERS, *([own] if own else [])})
    plans = [planned(problem, command, cluster, count) for count in workers]
    if screen.as_json:
        screen.show_json(plans_as_json(problem, command, plans))
    else:
        screen.show(draw_plans(problem, command, plans, screen.look))
    _say_what_is_faster(problem, screen)


def planned(problem: Problem, command: str, cluster: Cluster, workers: int) -> Plan:
    """Plan a problem for so many workers.

    Raises
    ------
    ParameterError
        If it is not attention as a whole.
    """
    operation, extras = problem.operation, problem.extras
    if not operation.is_whole:
        raise ParameterError(
            f"{operation.name} has no dask engine: {operation.not_whole}",
            hint="--layer time-attention",
        )
    query, key, value = operation.to_core(problem.inputs)
    backward = command == "backward"
    mask = 0
    if problem.mask is not None:
        mask = problem.mask.itemsize * (1 + (backward and problem.mask.dtype.kind == "f"))
    return plan(
        (query.shape, key.shape, value.shape),
        problem.visibility,
        dtype=operation.result_dtype(problem.inputs).name,
        threads=workers,
        backward=backward,
        block=cluster.settings.block,
        beside=mask + (extras.keep is not None),
    )


def _say_what_is_faster(problem: Problem, screen: Screen) -> None:
    T_dec, T_enc = problem.sizes.get("T_dec", 1), problem.sizes["T_enc"]
    if T_dec * T_enc < _WORTH_IT:
        screen.note(
            f"note: {T_dec} queries by {T_enc} keys are done sooner in process: --engine auto"
        )
