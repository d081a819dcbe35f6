"""A run on the screen and as JSON: what was computed, and every tensor of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.core.semantics import written
from attncli.problems.beside import described
from attncli.problems.problem import Problem, Run
from attncli.views.json_text import jsonable_number, tensor_as_json
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import format_error
from attncli.views.tensor_tables import draw_tensor

if TYPE_CHECKING:
    from attncli.reports import Budget, TensorComparison


def draw_run(run: Run, agreements: Sequence[TensorComparison], look: Look) -> RenderableType:
    """Draw all tensors after forward, the gradients after backward.

    The agreements say how far our results are from those that the file brings along.
    """
    problem = run.problem
    dout = f"dout random, seed {problem.seed}" if run.command == "backward" else ""
    heading = headline(problem, run.command, look, dout=dout)
    # Of no use to most; a run file and JSON have it always.
    asked = "logsumexp" in [claim.result for claim in problem.claims]
    shown = {
        name: array
        for name, array in (run.gradients or run.tensors).items()
        if name != "logsumexp" or asked
    }
    axes = {name: problem.layout.axes(name, array.ndim) for name, array in shown.items()}
    tensors = [
        draw_tensor(name, array, axes[name], look, tokens=problem.axis_tokens)
        for name, array in shown.items()
    ]
    return Group(heading, *(_agreement(one, look) for one in agreements), "", *tensors)


def headline(
    problem: Problem, command: str, look: Look, *, where: str = "", dout: str = ""
) -> Text:
    """Say what is computed, on what, under which options.

    `where` is a place in it, and `dout` says how dout came about; left out if it was given or
    everything is random.
    """
    given = problem.dout is not None or problem.request.is_random
    parts = [safe(problem.origin, look), where, "" if given else dout]
    parts.append(" ".join(f"{axis}={size}" for axis, size in problem.sizes.items()))
    options = {**problem.semantics.given(), **problem.rotary}
    parts += [f"{name.replace('_', ' ')} {written(value)}" for name, value in options.items()]
    parts += [said.replace("_", " ") for said in described(problem.extras)]
    text = Text(f"{problem.operation.name} {command}", "bold")
    return text.append("".join(look.dot + part for part in parts if part), "not bold")


def _agreement(agreement: TensorComparison, look: Look) -> Text:
    style = "green" if agreement.passed else "bold red"
    return Text(safe(describe_agreement(agreement), look), style)


def describe_agreement(agreement: TensorComparison) -> str:
    """Say how far our result is from the one that the file brings along."""
    name, error = agreement.name, format_error(agreement.largest_difference)
    budget = agreement.budget
    within = "" if budget is None else f", {_held(budget)}"
    if agreement.passed:
        return f"agrees with {name} in the file to {error}{within}"
    if agreement.problem is not None:
        return f"DIFFERS from {name} in the file: {agreement.problem}"
    where = agreement.places if budget is None else budget.places
    if budget is not None and budget.drift is not None:
        where = (budget.drift.described, *budget.drift.places)
    said = "".join(f"; {place}" for place in where)
    return f"DIFFERS from {name} in the file by up to {error}{within}{said}"


def _held(budget: Budget) -> str:
    """Say what a result was held against."""
    taken = ", which holds every number" if budget.assumed else ""
    less = "within" if budget.passed else "beyond"
    return f"{less} what rounding to {budget.dtype}{taken} explains"


def run_as_json(run: Run, agreements: Sequence[TensorComparison]) -> dict[str, Any]:
    """Give the object that ``--json`` prints."""
    problem = run.problem
    result = {
        **run.options,
        "engine": run.done.engine,
        "sizes": problem.sizes,
        "tensors": {
            name: tensor_as_json(array, problem.layout.axes(name, array.ndim))
            for name, array in run.tensors.items()
        },
    }
    if problem.tokens:
        result["tokens"] = {name: texts.tolist() for name, texts in problem.tokens.items()}
    if agreements:
        result["passed"] = all(one.passed for one in agreements)
        result["agreement"] = {
            one.name: {
                "agrees": one.passed,
                "largest_difference": jsonable_number(one.largest_difference),
            }
            for one in agreements
        }
    return result
