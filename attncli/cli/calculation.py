"""What `forward` and `backward` share: posing the problem, and publishing what came out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from attncli.arrays import Array
from attncli.cli.output import Output
from attncli.cli.screen import Screen
from attncli.errors import AttnWarning
from attncli.files.contents import run_arrays
from attncli.operations import Pass
from attncli.problems.problem import Problem, random_problem
from attncli.problems.request import Request
from attncli.views.json_text import jsonable_number
from attncli.views.labels import safe
from attncli.views.numbers import format_error
from attncli.views.tensor_tables import draw_tensor

if TYPE_CHECKING:
    from attncli.reports import TensorComparison


def pose(request: Request, screen: Screen) -> Problem:
    """Draw the inputs at random, or read them where files are given."""
    if request.is_random:
        with screen.timed("drawing"):
            return random_problem(request)
    from attncli.problems.from_files import read_problem  # random tensors need no reader

    with screen.timed("reading"):
        problem = read_problem(request)
    if problem.unused:
        screen.detail(f"not used: {', '.join(problem.unused)}")
    return problem


def warn_of_idle_seed(problem: Problem, *, drawn: bool) -> None:
    """Say that a seed was given for nothing, where nothing was drawn."""
    if problem.request.seed is not None and not drawn:
        message = f"--seed has no effect: nothing is random in {problem.origin}"
        warnings.warn(message, AttnWarning, stacklevel=2)


def describe_engine(problem: Problem, done: Pass, screen: Screen) -> None:
    """Say who computed, if asked for, and that weights were not kept."""
    chosen = problem.request.execution.engine == "auto" and done.engine in ("direct", "tiled")
    why = f" ({problem.describe_choice()})" if chosen else ""
    screen.detail(f"engine: {done.engine}{why}, threads: {problem.request.execution.threads}")
    if done.engine == "tiled" and problem.request.execution.engine == "auto":
        screen.note(problem.describe_lost_weights())


def publish(
    command: str,
    problem: Problem,
    done: Pass,
    screen: Screen,
    output: Output,
    *,
    more: Mapping[str, Array] | None = None,
    full: bool = False,
    equal_nan: bool = False,
    written: bool = False,
) -> None:
    """Write the run file, and show the tensors or print them as JSON.

    Parameters
    ----------
    command : str
        The command that ran.
    problem : Problem
    done : Pass
        The forward that was run.
    screen : Screen
    output : Output
    more : mapping of str to ndarray, optional
        What came beside; then this alone is shown, and a file that holds but one tensor refused.
    full : bool, default False
        Show every number.
    equal_nan : bool, default False
        NaN agrees with NaN where the file brings results along.
    written : bool, default False
        The file is there already: the result was computed into it.
    """
    results = done.results
    given = {} if problem.dout is None else {"dout": problem.dout}
    tensors = {**problem.inputs, **problem.masks, **given, **results, **(more or {})}
    main = done.operation.result if more is None else None
    if not written:
        arrays = run_arrays(problem.options(command), tensors, problem.tokens)
        output.write(arrays, screen, main=main)
    if output.is_stdout:
        return
    agreements = problem.compare_claims(results, equal_nan=equal_nan) if problem.claims else ()
    if screen.as_json:
        screen.show_json(_as_json(command, problem, tensors, agreements, done.engine))
        return
    screen.show(
        _headline(command, problem, screen),
        *(_agreement(agreement, screen) for agreement in agreements),
        "",
        *(
            draw_tensor(
                name,
                tensors[name],
                problem.operation.axes(name, tensors[name].ndim),
                screen.look,
                tokens=problem.axis_tokens,
                precision=screen.precision,
                full=full,
            )
            for name in (tensors if more is None else more)
        ),
    )


def _headline(command: str, problem: Problem, screen: Screen) -> Text:
    parts = [safe(problem.origin, screen.look)]
    if command == "backward" and problem.dout is None and not problem.request.is_random:
        parts.append(f"dout random, seed {problem.seed}")
    parts.append(" ".join(f"{axis}={size}" for axis, size in problem.sizes.items()))
    parts += [f"{name} {value}" for name, value in problem.semantics.given().items()]
    text = Text(f"{problem.operation.name} {command}", "bold")
    return text.append("".join(screen.look.dot + part for part in parts), "not bold")


def _agreement(agreement: TensorComparison, screen: Screen) -> Text:
    """Say how far our result is from the one that the file brings along."""
    name, error = safe(agreement.name, screen.look), format_error(agreement.largest_difference)
    if agreement.passed:
        return Text(f"agrees with {name} in the file to {error}", "green")
    return Text(f"DIFFERS from {name} in the file by up to {error}", "bold red")


def _as_json(
    command: str,
    problem: Problem,
    tensors: Mapping[str, Array],
    agreements: Sequence[TensorComparison],
    engine: str,
) -> dict[str, Any]:
    described = {}
    for name, array in tensors.items():
        axes = problem.operation.axes(name, array.ndim)
        described[name] = {
            "shape": list(array.shape),
            "axes": list(axes) if axes else None,
            "dtype": str(array.dtype),
            "data": array,
        }
    tokens = {name: texts.tolist() for name, texts in problem.tokens.items()}
    result = {
        **problem.options(command),
        "engine": engine,
        "sizes": problem.sizes,
        "tensors": described,
    }
    if tokens:
        result["tokens"] = tokens
    if agreements:
        result["agreement"] = {
            one.name: {
                "agrees": one.passed,
                "largest_difference": jsonable_number(one.largest_difference),
            }
            for one in agreements
        }
    return result
