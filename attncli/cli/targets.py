"""What the commands on somebody's own code share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from attncli.cli.streams import harmless
from attncli.errors import TargetError
from attncli.memory import require

if TYPE_CHECKING:
    from attncli.checking.targets.target import Target
    from attncli.cli.screen import Screen


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
    def failure(self) -> TargetError | None:
        """The first, if one could not be made or called."""
        return next((one[1] for one in self.outcomes if isinstance(one, tuple)), None)

    @property
    def passed(self) -> bool:
        """Whether every target could be called, and passed."""
        return self.failure is None and all(report.passed for report in self.reports)


def load(text: str) -> tuple[Target, ...]:
    """Find the targets that a text names."""
    from attncli.checking.targets.loading import load_targets

    with showing_their_traceback():
        return load_targets(text)


def examine(targets: Iterable[Any], examination: Callable[[Any], Any]) -> Examined:
    """Examine each target, though another may have failed."""
    outcomes = list[Any]()
    for target in targets:
        try:
            outcomes.append(examination(target))
        except TargetError as error:
            outcomes.append((target.where, error))
    return Examined(outcomes)


def show_examined(
    command: str, examined: Examined, draw: Callable[[Any], Any], screen: Screen, **more: Any
) -> None:
    """Show the reports, as JSON or one below the other; then fail if any target did."""
    if examined.reports and screen.as_json:
        from attncli.version import __version__
        from attncli.views.report_json import failed_as_json, report_as_json

        head = {"attn": __version__, "command": command, "passed": examined.passed}
        listed = [
            failed_as_json(*outcome) if isinstance(outcome, tuple) else report_as_json(outcome)
            for outcome in examined.outcomes
        ]
        screen.show_json({**head, **more, "targets": listed})
    else:
        for number, report in enumerate(examined.reports):
            screen.show(*([""] if number else []), draw(report))
    if examined.failure is not None:
        with showing_their_traceback():
            raise examined.failure


@contextlib.contextmanager
def showing_their_traceback() -> Iterator[None]:
    """Print the traceback of the user's own code before the error is reported."""
    try:
        yield
    except TargetError as error:
        show_trace(error.trace)
        raise


def show_trace(trace: tuple[str, ...]) -> None:
    """Print the lines of a traceback; what could harm the terminal is escaped."""
    for line in trace:
        click.echo(harmless(line), err=True)
