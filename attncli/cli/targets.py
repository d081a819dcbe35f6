"""What the commands on somebody's own code share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from attncli.cli import options, streams
from attncli.errors import CodeError, TargetError, harmless
from attncli.memory import require
from attncli.processes import Limits

if TYPE_CHECKING:
    from attncli.checking.targets.given import Given
    from attncli.checking.targets.target import Target
    from attncli.cli.screen import Screen


def target_limits(function: Any) -> Any:
    """Declare how much the process of a TARGET may take."""
    memory = options.max_memory(
        group="Limits",
        help="Refuse what would need more, as 500MB or 2GiB; of TARGET, what its process may take. "
        " [default: what is free; of TARGET 1 GB]",
    )
    seconds = options.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=Limits().seconds,
        show_default=True,
        group="Limits",
        help="How long TARGET may take to be loaded, and for each call.",
    )
    return seconds(memory(function))


def require_memory(shapes: Mapping[str, tuple[int, ...]], max_memory: int | None) -> None:
    """Raise if arrays of these shapes are too large to be checked.

    Raises
    ------
    MemoryLimitError
    """
    for name, shape in shapes.items():
        # Held several times by forward and backward, ours and theirs, and in complex numbers.
        hint = "a gradient is checked as well on small sizes"
        require(100 * prod(shape), f"checking {name} {shape}", max_memory, hint=hint)


class Examined(NamedTuple):
    """What became of some targets, one after the other.

    Attributes
    ----------
    outcomes : list of (CheckReport, GradcheckReport, or pair of str and TargetError)
        A pair where one could not be made or called: how it was named, and why.
    """

    outcomes: list[Any]

    @property
    def reports(self) -> list[Any]:
        """Those that there are."""
        return [outcome for outcome in self.outcomes if not isinstance(outcome, tuple)]

    @property
    def refused(self) -> TargetError | None:
        """Why one could not be examined at all, where that is no fault of its code."""
        errors = [outcome[1] for outcome in self.outcomes if isinstance(outcome, tuple)]
        return next((error for error in errors if not isinstance(error, CodeError)), None)

    @property
    def passed(self) -> bool:
        """Whether every target could be called, and passed."""
        return len(self.reports) == len(self.outcomes) and all(one.passed for one in self.reports)


def load(
    text: str, seconds: float, memory: int | None, given: Given | None = None
) -> tuple[Target, ...]:
    """Find the targets that a text names; what fails when it is loaded is a broken one."""
    from attncli.checking.targets.loading import load_targets
    from attncli.checking.targets.target import Target

    limits = Limits(seconds, memory or Limits().memory)
    try:
        alone = streams.own_process and threading.active_count() == 1
        return load_targets(text, limits, given=given, copied=alone)
    except CodeError as error:
        return (Target.broken(text, text, None, error),)


def examine(targets: Iterable[Any], examination: Callable[[Any], Any]) -> Examined:
    """Examine each target, though another may have failed."""
    outcomes = list[Any]()
    for target in targets:
        try:
            outcomes.append(examination(target))
        except TargetError as error:
            outcomes.append((target.where, error))
        finally:
            getattr(target, "end", lambda: None)()
    return Examined(outcomes)


def show_examined(
    command: str, examined: Examined, draw: Callable[[Any], Any], screen: Screen, **more: Any
) -> None:
    """Show the reports, as JSON or one below the other; then fail if any target did."""
    if screen.as_json and (examined.reports or examined.refused is None):
        from attncli.version import __version__
        from attncli.views.report_json import failed_as_json, report_as_json

        head = {"attn": __version__, "command": command, "passed": examined.passed}
        listed = [
            failed_as_json(*outcome) if isinstance(outcome, tuple) else report_as_json(outcome)
            for outcome in examined.outcomes
        ]
        screen.show_json({**head, **more, "targets": listed})
    else:
        from attncli.views.check_report import draw_failed

        for number, outcome in enumerate(examined.outcomes):
            if isinstance(outcome, tuple):
                where, error = outcome
                show_trace(error.trace)
                if not isinstance(error, CodeError):
                    continue
                drawn = draw_failed(where, error, screen.look)
            else:
                drawn = draw(outcome)
            screen.show(*([""] if number else []), drawn)
    if examined.refused is not None:
        raise examined.refused


def show_trace(trace: tuple[str, ...]) -> None:
    """Print the lines of a traceback; what could harm the terminal is escaped."""
    for line in trace:
        click.echo(harmless(line), err=True)
