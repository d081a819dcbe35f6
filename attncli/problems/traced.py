"""The trace of a problem: every intermediate of its decoder steps, and a choice from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attncli.arrays import Array, Tokens
from attncli.errors import AttnWarning, ParameterError
from attncli.files.contents import run_arrays
from attncli.memory import require
from attncli.operations.layer_traces import trace_of
from attncli.operations.tracing import Intermediate, Place, added_up
from attncli.problems.problem import Problem
from attncli.spelling import nearest
from attncli.tensors import describe_range


@dataclass(frozen=True)
class Traced:
    """What came of a problem in one decoder step, or in all of them.

    Attributes
    ----------
    problem : Problem
    place : Place
        Which step; with `whole` the first.
    whole : bool
        Whether all of the steps are put together.
    steps : list of Intermediate
        Forward, then backward.
    """

    problem: Problem
    place: Place
    whole: bool
    steps: list[Intermediate]

    @property
    def options(self) -> dict[str, Any]:
        """What its file says of it beside its tensors."""
        where = {**vars(self.place), "step": None if self.whole else self.place.step}
        return {**self.problem.options("trace"), **where}

    @property
    def tokens(self) -> dict[str, Tokens]:
        """The tokens of its item, by the axis they label."""
        return {
            axis: texts if texts.ndim == 1 else texts[self.place.item]
            for axis, texts in self.problem.axis_tokens.items()
        }

    def arrays(self) -> dict[str, Array]:
        """Return what its file holds."""
        axes = {"T_enc": "tokens_enc", **({"T_dec": "tokens_dec"} if self.whole else {})}
        labels = {name: self.tokens[axis] for axis, name in axes.items() if axis in self.tokens}
        return run_arrays(self.options, {one.name: one.array for one in self.steps}, labels)

    def chosen(self, directions: Mapping[str, bool], only: Sequence[str]) -> list[Intermediate]:
        """Leave out what was not asked for; inputs belong to the way forward.

        Raises
        ------
        ParameterError
            If `only` names something that is not there, or nothing is left.
        """
        known = [one.name for one in self.steps]
        wanted_names = set[str]()
        for name in only:
            found_names = [x.name for x in self.steps if name in (x.name, x.book)]
            if not found_names:
                near = nearest(name, known)
                hint = near and f"--only {','.join(near if x == name else x for x in only)}"
                there = f"no such intermediate; there is {', '.join(known)}"
                raise ParameterError(f"--only {name}: {there}", hint=hint)
            wanted_names |= {name} if name in found_names else set(found_names)
        wanted = {name for name, given in directions.items() if given} or set(directions)
        found = [
            one
            for one in self.steps
            if (not only or one.name in wanted_names)
            and (one.direction if one.direction in directions else "forward") in wanted
        ]
        if not found:
            raise ParameterError(
                f"--only {','.join(only)}: nothing of it belongs to the direction that is shown"
            )
        return found


def trace(
    problem: Problem,
    step: int | None = None,
    item: int = 0,
    head: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Traced:
    """Compute every intermediate, forward and backward.

    Parameters
    ----------
    problem : Problem
    step : int or None
        The decoder step; None puts all of them together.
    item, head : int
    progress : callable
        Is told how many of how many steps are done.

    Raises
    ------
    ParameterError
        If there is no such step, item or head, or the operation is a part of attention alone.
    """
    whole = step is None and "T_dec" in problem.sizes
    place = Place(step or 0, item, head)
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
                f"--{name} {number}: {problem.origin} has no such {name}; {describe_range(count)}",
                hint=f"--{name} {min(max(number, 0), count - 1)}" if count else None,
            )
    layout, attends = problem.layout, problem.operation.is_whole
    dout = layout.to_own(problem.operation.result, problem.incoming())
    rows = problem.gradient_of_rows(problem.weights_shape[:-1] if attends else None)
    rows = rows if rows is None else layout.to_own("logsumexp", rows)

    def of_step(place: Place) -> list[Intermediate]:
        step = trace_of(problem.operation)(
            problem.operation,
            problem.inputs,
            place,
            mask=problem.mask,
            extras=problem.extras,
            padding=problem.masks.get("dec_mask"),
            semantics=problem.semantics,
        )
        return list(step.forward()) + step.backward(dout, rows)

    if not whole:
        return Traced(problem, place, whole, of_step(place))
    count = problem.sizes["T_dec"]
    first = of_step(place)
    need = 2 * count * sum(one.array.nbytes for one in first if not one.shared)
    limit = problem.request.reading.max_memory
    require(need, f"tracing {count} decoder steps", limit, hint="--step 0 traces one")

    def steps() -> Iterator[list[Intermediate]]:
        yield first
        for t in range(1, count):
            progress(t, count)
            yield of_step(replace(place, step=t))

    return Traced(problem, place, whole, added_up(steps()))
