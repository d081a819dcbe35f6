"""The trace of a problem: computed, chosen from, shown, written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.text import Text

from attncli.arrays import Array
from attncli.cli.output import Output
from attncli.cli.screen import Screen
from attncli.errors import AttnWarning, ParameterError
from attncli.files.contents import run_arrays
from attncli.operations.tracing import Intermediate, Place, StepTrace
from attncli.problems.problem import Problem
from attncli.tensors import describe_range, random_tensor
from attncli.views.labels import safe
from attncli.views.trace_steps import can_be_worked, draw_trace


def trace_problem(problem: Problem, place: Place) -> list[Intermediate]:
    """Compute every intermediate, forward and backward.

    Raises
    ------
    ParameterError
        If there is no such step, item or head, or the operation is a part of attention alone.
    """
    if problem.request.execution.engine != "auto":
        message = "--engine has no effect: a trace is computed by the formulas it shows"
        warnings.warn(message, AttnWarning, stacklevel=2)
    sizes = problem.sizes
    for name, number, axis in (
        ("step", place.step, "T_dec"),
        ("item", place.item, "N"),
        ("head", place.head, "heads"),
    ):
        count = sizes.get(axis, 1)
        if not 0 <= number < count:
            raise ParameterError(
                f"--{name} {number}: {problem.origin} has no such {name}; {describe_range(count)}"
            )
    step = StepTrace(
        problem.operation,
        problem.inputs,
        place,
        mask=problem.mask,
        padding=problem.masks.get("dec_mask"),
        semantics=problem.semantics,
    )
    forward = list(step.forward())
    return forward + step.backward(_dout(problem, step))


def _dout(problem: Problem, step: StepTrace) -> Array:
    """The file's dout, or the random one that ``attn backward`` draws."""
    out = np.broadcast_to(np.float32(0), step.out_shape)  # takes no memory
    shape = step.operation.results(out, None)["out"].shape
    if problem.dout is None:
        dtype = np.result_type(*problem.inputs.values())
        return random_tensor(
            "dout", shape, seed=problem.seed, dtype=dtype if dtype.kind == "f" else "float64"
        )
    problem.require_dout_of(shape)
    return problem.dout


def publish_trace(
    problem: Problem,
    place: Place,
    trace: Sequence[Intermediate],
    directions: Mapping[str, bool],
    only: Sequence[str],
    screen: Screen,
    output: Output,
    *,
    full: bool,
) -> None:
    """Write the trace file, and show what was chosen or print it as JSON.

    Raises
    ------
    ParameterError
        If `only` names something that is not in the trace.
    """
    known = [one.name for one in trace]
    for name in only:
        if name not in known:
            raise ParameterError(
                f"--only {name}: no such intermediate; there is {', '.join(known)}"
            )
    options = {**problem.options("trace"), **vars(place)}
    tokens = {
        axis: texts if texts.ndim == 1 else texts[place.item]
        for axis, texts in problem.axis_tokens.items()
    }
    arrays = {one.name: one.array for one in trace}
    labels = {"tokens_enc": tokens["T_enc"]} if "T_enc" in tokens else {}  # it is of one step
    output.write(run_arrays(options, arrays, labels), screen, what="the trace")
    if output.is_stdout:
        return
    shown = _chosen(trace, directions, only)
    if not shown:
        raise ParameterError(
            f"--only {','.join(only)}: nothing of it belongs to the direction that is shown"
        )
    if screen.as_json:
        steps = (_json(one) for one in shown)
        screen.show_json({**options, "sizes": problem.sizes, "trace": steps})
        return
    drawn = draw_trace(
        shown,
        screen.look,
        tokens=tokens,
        precision=screen.precision,
        full=full,
        worked=can_be_worked(trace),
    )
    screen.show(_headline(problem, place, tokens, screen), "", drawn)


def _chosen(
    trace: Sequence[Intermediate], directions: Mapping[str, bool], only: Sequence[str]
) -> list[Intermediate]:
    """Leave out what was not asked for; inputs belong to the way forward."""
    wanted = {name for name, given in directions.items() if given} or set(directions)
    return [
        one
        for one in trace
        if (one.name in only if only else True)
        and (one.direction if one.direction in directions else "forward") in wanted
    ]


def _headline(problem: Problem, place: Place, tokens: Mapping[str, Any], screen: Screen) -> Text:
    look, sizes = screen.look, problem.sizes
    where = [f"item {place.item}"] if "N" in sizes else []
    where += [f"head {place.head}"] if "heads" in sizes else []
    where += [f"step {place.step}"] if "T_dec" in sizes else []
    if "T_dec" in tokens and "T_dec" in sizes:
        where[-1] += f" {safe(tokens['T_dec'][place.step], look)}"
    parts = [safe(problem.origin, look), ", ".join(where)]
    if problem.dout is None and not problem.request.is_random:
        parts.append(f"dout random, seed {problem.seed}")
    parts.append(" ".join(f"{axis}={size}" for axis, size in sizes.items()))
    parts += [f"{name} {value}" for name, value in problem.semantics.given().items()]
    text = Text(f"{problem.operation.name} trace", "bold")
    return text.append("".join(look.dot + part for part in parts if part), "not bold")


def _json(one: Intermediate) -> dict[str, Any]:
    return {
        "name": one.name,
        "direction": one.direction,
        "formula": one.formula,
        "meaning": one.meaning,
        "from": list(one.made_of),
        "shape": list(one.array.shape),
        "axes": list(one.axes),
        "dtype": str(one.array.dtype),
        "data": one.array,
    }
