"""What `forward`, `backward` and `trace` share: posing the problem, and saying who computed."""

from __future__ import annotations

import warnings

from attncli.cli.screen import Screen
from attncli.errors import AttnWarning
from attncli.problems.problem import Problem, Run, random_problem
from attncli.problems.request import Request


def pose(request: Request, screen: Screen, *, needs_dout: bool = False) -> Problem:
    """Draw the inputs at random, or read them where files are given.

    A seed that was given for nothing is said to be: there is something random as well where dout
    is needed, and the files have none.
    """
    if request.is_random:
        with screen.timed("drawing"):
            return random_problem(request)
    from attncli.problems.from_files import read_problem  # random tensors need no reader

    with screen.timed("reading"):
        problem = read_problem(request)
    if problem.unused:
        screen.detail(f"not used: {', '.join(problem.unused)}")
    if request.seed is not None and not (needs_dout and problem.dout is None):
        message = f"--seed has no effect: nothing is random in {problem.origin}"
        warnings.warn(message, AttnWarning, stacklevel=2)
    return problem


def describe_engine(run: Run, screen: Screen) -> None:
    """Say who computed and what became of the weights, if asked for; and that they are lost."""
    problem, done = run.problem, run.done
    execution, weights = problem.request.execution, ""
    chosen = execution.weights is None and done.engine in ("direct", "tiled")
    if done.engine in ("direct", "tiled"):
        weights = ", weights kept" if done.has_weights else ", weights computed again"
    why = f" ({problem.describe_choice()})" if chosen else ""
    screen.detail(f"engine: {done.engine}{weights}{why}, threads: {execution.threads}")
    if chosen and not done.has_weights:
        screen.note(problem.describe_lost_weights())
