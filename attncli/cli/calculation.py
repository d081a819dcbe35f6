"""What `forward` and `backward` share: posing the problem, and publishing what came out."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.text import Text

from attncli.arrays import Array
from attncli.cli.output import Output
from attncli.cli.problem import Problem, random_problem
from attncli.cli.screen import Screen, jsonable
from attncli.files.reading import Reading
from attncli.views.labels import safe
from attncli.views.tensors import draw_tensor


def pose(
    file: str | None,
    parts: Mapping[str, str],
    layer: str | None,
    sizes: Mapping[str, int],
    seed: int,
    dtype: str | None,
    reading: Reading,
) -> Problem:
    """Draw the inputs at random, or read them where files are given."""
    if file is None and not parts:
        return random_problem(layer, sizes, seed, dtype, reading)
    from attncli.cli.problem_files import read_problem  # random tensors need no reader

    return read_problem(file, parts, layer, sizes, seed, dtype, reading)


def publish(
    command: str,
    problem: Problem,
    tensors: Mapping[str, Array],
    screen: Screen,
    output: Output,
    *,
    shown: Iterable[str] | None = None,
    main: str | None = None,
    full: bool = False,
) -> None:
    """Write the run file, and show the tensors or print them as JSON.

    Parameters
    ----------
    command : str
        The command that ran.
    problem : Problem
    tensors : mapping of str to ndarray
        All there are, by name.
    screen : Screen
    output : Output
    shown : iterable of str, optional
        The tensors to show as tables; default: all.
    main : str, optional
        The tensor that goes into a file that holds but one; without it such a file is refused.
    full : bool, default False
        Show every number.
    """
    output.write(problem.options(command), tensors, problem.tokens, screen, main=main)
    if output.is_stdout:
        return
    if screen.as_json:
        screen.show_json(_as_json(command, problem, tensors))
        return
    screen.show(
        _headline(command, problem, tensors, screen),
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
            for name in (tensors if shown is None else shown)
        ),
    )


def _headline(command: str, problem: Problem, tensors: Mapping[str, Array], screen: Screen) -> Text:
    sizes = " ".join(f"{axis}={size}" for axis, size in problem.sizes.items())
    origin = safe(problem.origin, screen.look)
    if command == "backward" and problem.dout is None and not problem.is_random:
        origin += f"; dout random, seed {problem.seed}"
    text = Text(f"{problem.operation.name} {command}", "bold")
    return text.append(f"{screen.look.dot}{origin}{screen.look.dot}{sizes}", "not bold")


def _as_json(command: str, problem: Problem, tensors: Mapping[str, Array]) -> dict[str, Any]:
    described = {}
    for name, array in tensors.items():
        axes = problem.operation.axes(name, array.ndim)
        described[name] = {
            "shape": list(array.shape),
            "axes": list(axes) if axes else None,
            "dtype": str(array.dtype),
            "data": jsonable(np.asarray(array)),
        }
    tokens = {name: texts.tolist() for name, texts in problem.tokens.items()}
    return {**problem.options(command), "sizes": problem.sizes, "tensors": described} | (
        {"tokens": tokens} if tokens else {}
    )
