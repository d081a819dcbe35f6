"""The trace of a problem: every intermediate of one decoder step, and a choice from them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attncli.arrays import Array, Tokens
from attncli.errors import AttnWarning, ParameterError
from attncli.files.contents import run_arrays
from attncli.operations.layer_traces import trace_of
from attncli.operations.tracing import Intermediate, Place
from attncli.problems.problem import Problem
from attncli.tensors import describe_range


@dataclass(frozen=True)
class Traced:
    """What came of a problem in one decoder step.

    Attributes
    ----------
    problem : Problem
    place : Place
        Which step.
    steps : list of Intermediate
        Forward, then backward.
    """

    problem: Problem
    place: Place
    steps: list[Intermediate]

    @property
    def options(self) -> dict[str, Any]:
        """What its file says of it beside its tensors."""
        return {**self.problem.options("trace"), **vars(self.place)}

    @property
    def tokens(self) -> dict[str, Tokens]:
        """The tokens of its item, by the axis they label."""
        return {
            axis: texts if texts.ndim == 1 else texts[self.place.item]
            for axis, texts in self.problem.axis_tokens.items()
        }

    def arrays(self) -> dict[str, Array]:
        """Return what its file holds."""
        labels = {"tokens_enc": self.tokens["T_enc"]} if "T_enc" in self.tokens else {}
        return run_arrays(self.options, {one.name: one.array for one in self.steps}, labels)

    def chosen(self, directions: Mapping[str, bool], only: Sequence[str]) -> list[Intermediate]:
        """Leave out what was not asked for; inputs belong to the way forward.

        Raises
        ------
        ParameterError
            If `only` names something that is not there, or nothing is left.
        """
        known = [one.name for one in self.steps]
        for name in only:
            if name not in known:
                raise ParameterError(
                    f"--only {name}: no such intermediate; there is {', '.join(known)}"
                )
        wanted = {name for name, given in directions.items() if given} or set(directions)
        found = [
            one
            for one in self.steps
            if (not only or one.name in only)
            and (one.direction if one.direction in directions else "forward") in wanted
        ]
        if not found:
            raise ParameterError(
                f"--only {','.join(only)}: nothing of it belongs to the direction that is shown"
            )
        return found


def trace(problem: Problem, place: Place) -> Traced:
    """Compute every intermediate, forward and backward.

    Raises
    ------
    ParameterError
        If there is no such step, item or head, or the operation is a part of attention alone.
    """
    execution = problem.request.execution
    for option, idle in (
        ("--engine", execution.engine == "auto"),
        ("--weights", execution.weights is not True),
        ("--no-weights", execution.weights is not False),
    ):
        if not idle:
            message = f"{option} has no effect: a trace is computed by the formulas it shows"
            warnings.warn(message, AttnWarning, stacklevel=2)
    for name, number, axis in (
        ("step", place.step, "T_dec"),
        ("item", place.item, "N"),
        ("head", place.head, "heads"),
    ):
        count = problem.sizes.get(axis, 1)
        if not 0 <= number < count:
            raise ParameterError(
                f"--{name} {number}: {problem.origin} has no such {name}; {describe_range(count)}"
            )
    step = trace_of(problem.operation)(
        problem.operation,
        problem.inputs,
        place,
        mask=problem.mask,
        extras=problem.extras,
        padding=problem.masks.get("dec_mask"),
        semantics=problem.semantics,
    )
    forward = list(step.forward())
    layout, whole = problem.layout, problem.operation.is_whole
    dout = layout.to_own(problem.operation.result, problem.incoming())
    rows = problem.gradient_of_rows(problem.weights_shape[:-1] if whole else None)
    rows = rows if rows is None else layout.to_own("logsumexp", rows)
    return Traced(problem, place, forward + step.backward(dout, rows))
