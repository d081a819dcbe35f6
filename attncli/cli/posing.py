"""What `forward`, `backward` and `trace` share: posing the problem, and the verdict."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from attncli.cli.screen import Screen
from attncli.errors import AttnWarning
from attncli.problems.problem import Problem
from attncli.problems.request import Request

if TYPE_CHECKING:
    from attncli.operations import Operation
    from attncli.reports import TensorComparison


def pose(
    request: Request, screen: Screen, *, needs_dout: bool = False, unseen: bool = False
) -> Problem:
    """Draw the inputs at random, or read them where files are given.

    Of what is drawn no weights are kept if they are `unseen`: nobody asks for them.

    A seed that was given for nothing is said to be: there is something random as well where dout
    is needed, and the files have none.
    """
    if request.is_random:
        from attncli.problems.drawing import random_problem

        with screen.timed("drawing"):
            problem = random_problem(request, unseen=unseen)
    else:
        from attncli.problems.from_files import read_problem  # random tensors need no reader

        with screen.timed("reading"):
            problem = read_problem(request)
        if problem.unused:
            screen.detail(f"not used: {', '.join(problem.unused)}")
        if request.seed is not None and not (needs_dout and problem.dout is None):
            _warn(f"--seed has no effect: nothing is random in {problem.origin}")
    alone = not problem.operation.is_whole or request.execution.engine == "reference"
    source = click.get_current_context().get_parameter_source
    if alone and source("threads") is ParameterSource.COMMANDLINE:
        _warn(f"--threads has no effect: {problem.operation.name} is computed by one here")
    if alone and source("blas") is ParameterSource.COMMANDLINE:
        _warn(f"--blas has no effect: {problem.operation.name} is not computed by the core here")
    by_position = problem.semantics.orders or problem.extras.alibi is not None
    by_position |= problem.operation.rotation is not None
    if request.semantics.align is not None and not by_position:
        _warn("--causal-align has no effect: nothing here goes by a query's own position")
    return problem


def leave(
    agreements: Sequence[TensorComparison],
    operation: Operation,
    request: Request,
    screen: Screen,
    *,
    said: bool,
) -> None:
    """Exit with 1 if a result in the file differs from ours, saying what to ask next."""
    from attncli.views.run_report import describe_agreement

    differing = [one for one in agreements if not one.passed]
    if not differing:
        return
    for one in differing if not said else ():
        screen.note(describe_agreement(one))
    searched = operation.is_whole and not operation.one_step
    if searched and request.file not in (None, "-") and not request.parts:
        screen.hint(shlex.join(["attn", "convention", request.file, *_renamed(request)]))
    click.get_current_context().exit(1)


def _renamed(request: Request) -> Iterator[str]:
    for ours, theirs in request.reading.rename.items():
        yield from ("--rename", f"{ours}={theirs}")
    if request.reading.as_dtype is not None:
        yield from ("--as-dtype", request.reading.as_dtype)


def _warn(message: str) -> None:
    warnings.warn(message, AttnWarning, stacklevel=3)
