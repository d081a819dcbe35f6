"""What `forward` and `backward` share: posing the problem, and publishing what came out."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from attncli.cli.options import Output
from attncli.cli.problem import Problem, random_problem, read_problem
from attncli.cli.screen import Screen, jsonable
from attncli.errors import FileError, ParameterError
from attncli.files.contents import Reading, run_arrays
from attncli.files.formats import check_target, save, save_to_stream
from attncli.views.labels import safe
from attncli.views.tensors import draw_tensor


def check_output(
    output: Output, file: str | None, parts: Mapping[str, str], screen: Screen
) -> None:
    """Say before any work whether the output could be written.

    Raises
    ------
    FileError, ParameterError
    """
    if output.path == "-":
        if screen.as_json:
            raise ParameterError("-o - and --json would both write to standard output")
        if sys.stdout.isatty():
            raise FileError("standard output is a terminal, and a run file is binary")
    elif output.path is not None:
        inputs = [name for name in (file, *parts.values()) if name not in (None, "-")]
        check_target(output.path, force=output.force, inputs=tuple(map(str, inputs)))


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
    return read_problem(file, parts, layer, sizes, seed, dtype, reading)


def publish(
    command: str,
    problem: Problem,
    tensors: Mapping[str, NDArray[Any]],
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
    if output:
        _write(command, problem, tensors, output, main, screen)
    if output.path == "-":
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


def _headline(
    command: str, problem: Problem, tensors: Mapping[str, NDArray[Any]], screen: Screen
) -> Text:
    sizes = " ".join(f"{axis}={size}" for axis, size in problem.sizes.items())
    origin = safe(problem.origin, screen.look)
    if command == "backward" and problem.dout is None and "seed" not in origin:
        origin += f"; dout random, seed {problem.seed}"
    text = Text(f"{problem.operation.name} {command}", "bold")
    return text.append(f"{screen.look.dot}{origin}{screen.look.dot}{sizes}", "not bold")


def _as_json(command: str, problem: Problem, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
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


def _write(
    command: str,
    problem: Problem,
    tensors: Mapping[str, NDArray[Any]],
    output: Output,
    main: str | None,
    screen: Screen,
) -> None:
    assert output.path is not None
    arrays: Mapping[str, NDArray[Any]]
    if output.path.lower().endswith(".npy"):
        if main is None:
            raise FileError(
                f"{output.path}: an .npy file holds one array, and {command} gives several",
                hint="write an .npz file",
            )
        arrays = {main: tensors[main]}
    else:
        arrays = run_arrays(problem.options(command), tensors, problem.tokens)
    if output.path == "-":
        save_to_stream(sys.stdout.buffer, arrays)
        sys.stdout.buffer.flush()
    else:
        save(output.path, arrays, force=output.force)
        what = main if output.path.lower().endswith(".npy") else "the run"
        screen.note(f"wrote {what} to {click.format_filename(output.path)}")
