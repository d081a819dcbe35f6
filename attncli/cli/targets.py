"""What the commands on somebody's own code share: their options, and how one target is judged."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from attncli.cli import options, streams
from attncli.errors import (
    AttnError,
    CodeError,
    NoLayerError,
    ParameterError,
    TargetError,
    harmless,
)
from attncli.memory import cores, require
from attncli.processes import Limits
from attncli.views.report_files import REPORTS

if TYPE_CHECKING:
    from attncli.checking.targets.given import Given
    from attncli.checking.targets.target import Target
    from attncli.cli.screen import Screen
    from attncli.views.verdicts import Submission


class Batch(NamedTuple):
    """How targets are gone through.

    Attributes
    ----------
    time_limit : float
        Seconds to be loaded in, and for each call.
    max_memory : int or None
        Bytes that the process of each may take.
    jobs : int
        How many are judged at the same time.
    reports : tuple of str
        The files that the verdicts are written to.
    force : bool
        Whether these may be there already.
    """

    time_limit: float
    max_memory: int | None
    jobs: int
    reports: tuple[str, ...] = ()
    force: bool = False


def _batch(*, force: bool, reports: tuple[str, ...], jobs: int | None, **limits: Any) -> Batch:
    if force and not reports:
        raise ParameterError("--force has no meaning without --report")
    return Batch(jobs=jobs or cores(), reports=reports, force=force, **limits)


batch_options = options.Bundle(
    "batch",
    _batch,
    options.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        default=Limits().seconds,
        show_default=True,
        group="Limits",
        help="How long each TARGET may take to be loaded, and for each call; all calls together 30 "
        "times as long.",
    ),
    options.max_memory(
        group="Limits",
        help="Refuse what would need more, as 500MB or 2GiB; of TARGET, what its process may take. "
        " [default: what is free; of TARGET 1 GB]",
    ),
    options.option(
        "--jobs",
        type=click.IntRange(min=1),
        group="Limits",
        help="How many TARGETs are judged at the same time.  [default: the cores there are]",
    ),
    options.under_output(
        "--report",
        "reports",
        metavar="FILE",
        multiple=True,
        help=f"Write the verdicts to FILE ({', '.join(REPORTS)}): JUnit, what --json prints, "
        "grades, Markdown; repeatable.",
    ),
    options.under_output("--force", is_flag=True, help="Replace existing reports."),
)


def _value(text: str) -> Any:
    """Read a value as somebody would write it in Python, or as near to it as a shell comes."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    parts = text.split(",")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            numbers = tuple(map(kind, parts))
            return numbers if len(parts) > 1 else numbers[0]
    return text


def _arguments(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Read ``NAME=VALUE``, and apart from them the shapes of ``NAME=random:2,3``."""
    pairs = options.parse_pairs(ctx, param, texts)
    drawn = {name: text[len(_DRAWN) :] for name, text in pairs.items() if text.startswith(_DRAWN)}
    shapes = options.parse_shapes(ctx, param, tuple("=".join(pair) for pair in drawn.items()))
    return {x: _value(text) for x, text in pairs.items() if x not in drawn}, shapes


_DRAWN = "random:"


def _given(
    arguments: tuple[dict[str, Any], dict[str, tuple[int, ...]]],
    shapes: dict[str, tuple[int, ...]],
    layout: dict[str, tuple[str, ...]],
    device: str | None,
) -> Given:
    from attncli.checking.targets.given import Given

    values, drawn = arguments
    return Given(values, {**shapes, **drawn}, device, layout)


given_options = options.Bundle(
    "given",
    _given,
    options.option(
        "--arg",
        "arguments",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_arguments,
        group="What it is given",
        help="An argument of the constructor, or of forward: a number, true, false, none, a text, "
        "or random:4,4 for an array of that shape. Known names need none.",
    ),
    options.option(
        "--input",
        "shapes",
        metavar="NAME=2,3,4",
        multiple=True,
        callback=options.parse_shapes,
        group="What it is given",
        help="Shape of an input, or of an array for the constructor, that its name does not say.",
    ),
    options.layout_option,
    options.option(
        "--device",
        metavar="DEVICE",
        group="What it is given",
        help="Where code of torch or JAX is given its inputs: cuda, cuda:1, mps, xpu, gpu, cpu. "
        " [default: cpu]",
    ),
)


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


def load(text: str, batch: Batch, screen: Screen, given: Given | None = None) -> tuple[Target, ...]:
    """Find the targets that a text names; what fails when it is loaded is a broken one."""
    from attncli.checking.targets.loading import load_targets
    from attncli.checking.targets.target import Target

    limits = Limits(batch.time_limit, batch.max_memory or Limits().memory)
    try:
        return load_targets(
            text,
            limits,
            given=given,
            copied=alone(),
            note=lambda said: screen.note(f"note: {said}"),
        )
    except CodeError as error:
        return (Target.broken(text, text, None, error),)


def listed(texts: Sequence[str], screen: Screen) -> tuple[list[str], dict[str, str]]:
    """Put the files of a folder in its place.

    Give all texts, and those that need name no layer, since there are others: mostly with nothing,
    else with why they are not even loaded.
    """
    from attncli.checking.targets.loading import NO_LAYER, texts_of

    found, optional = list[str](), dict[str, str]()
    for text in texts:
        try:
            files, without = texts_of(text, lambda said: screen.note(f"note: {said}"))
        except TargetError:  # said where it is judged
            found.append(text)
            continue
        found += files + without
        if len(texts) > 1 or files != [text]:
            optional |= dict.fromkeys(files, "") | dict.fromkeys(without, NO_LAYER)
    return found, optional


def alone() -> bool:
    """Tell whether this process may be copied: it was started for this command, has one thread."""
    return streams.own_process and threading.active_count() == 1


class Examination(NamedTuple):
    """How a command judges.

    Attributes
    ----------
    command : str
    targets : callable
        Finds what a text names.
    judge : callable
        Gives the report on one of these.
    draw : callable
        Makes a report something to show.
    more : mapping of str to object
        What the JSON object has beside.
    """

    command: str
    targets: Callable[[str], Iterable[Any]]
    judge: Callable[[Any], Any]
    draw: Callable[[Any], Any]
    more: Mapping[str, Any] = {}


class Judged(NamedTuple):
    """What became of one TARGET, and how that is shown.

    Attributes
    ----------
    submission : Submission
    lines : list of str
        For standard output, in its colours.
    refused : list of (str, str or None)
        Why, with a hint, something could not be judged, though no code is at fault.
    bug : str
        The traceback, if we failed.
    """

    submission: Submission
    lines: list[str]
    refused: list[tuple[str, str | None]]
    bug: str = ""


def judge(
    text: str,
    examination: Examination,
    screen: Screen,
    *,
    aside: bool,
    optional: Mapping[str, str] = {},
) -> Judged:
    """Judge each target that a text names, though another may have failed.

    Parameters
    ----------
    text : str
    examination : Examination
    screen : Screen
        Nothing is shown on it: what would be is returned.
    aside : bool
        Whether what is said on standard error is kept too, to be shown later.
    optional : mapping of str to str
        As `listed` gives them.
    """
    from attncli.checking.targets.sources import said_of
    from attncli.views.check_report import draw_failed
    from attncli.views.rendering import lines
    from attncli.views.report_json import failed_as_json, report_as_json
    from attncli.views.verdicts import NOT_JUDGED, SKIPPED, Submission

    if why := optional.get(text):
        return Judged(Submission(text, (failed_as_json(text, why, verdict=SKIPPED),)), [], [])
    began = time.monotonic()
    others = list[tuple[str, str]]()
    told, shown, refused = list[dict[str, Any]](), list[str](), list[tuple[str, str | None]]()
    seconds = list[tuple[float, ...]]()

    def tell(what: dict[str, Any], *found: float) -> None:
        told.append(what)
        whole = time.monotonic() - began - sum(one for one, *_ in seconds)
        seconds.append((whole, *found))

    def show(draw: Callable[[], Any]) -> None:
        if not screen.as_json:
            shown.extend(lines(screen.look, *([""] if shown else []), draw()))

    def fail(where: str, error: AttnError | MemoryError) -> None:
        if isinstance(error, TargetError):
            show_trace(error.trace)
        hint = getattr(error, "hint", "smaller sizes need less")
        says = str(error) or "not enough memory"
        if isinstance(error, CodeError):
            tell(failed_as_json(where, says, hint))
            show(lambda: draw_failed(where, error, screen.look))
        else:
            tell(failed_as_json(where, says, hint, NOT_JUDGED))
            refused.append((says, hint))

    with contextlib.ExitStack() as stack:
        said = stack.enter_context(contextlib.redirect_stderr(io.StringIO())) if aside else None
        try:
            found = tuple(examination.targets(text))
            for target in found:
                try:
                    report = examination.judge(target)
                except NoLayerError as error:
                    if len(found) == 1 and text not in optional:
                        raise
                    why = str(error).removeprefix(f"{target.where}: ")
                    others.append((target.name, why))
                    hint = error.hint
                except (AttnError, MemoryError) as error:
                    fail(target.where, error)
                else:
                    findings = getattr(report, "findings", ())
                    tell(report_as_json(report), *(one.seconds for one in findings))
                    show(partial(examination.draw, report))
                finally:
                    getattr(target, "end", lambda: None)()
            if found and len(others) == len(found):
                hint = f"{said_of(text, others)}\n{hint}"
                raise NoLayerError(f"{text}: no layer that could be judged", hint=hint)
            if others:
                screen.note(f"note: {said_of(text, others)}")
        except (AttnError, MemoryError) as error:
            if text in optional and isinstance(error, NoLayerError):
                screen.note(f"note: {error}")
                tell(failed_as_json(text, str(error), error.hint, SKIPPED))
            else:
                fail(text, error)
    heard = "" if said is None else said.getvalue()
    return Judged(Submission(text, tuple(told), heard, tuple(seconds)), shown, refused)


def show_trace(trace: tuple[str, ...]) -> None:
    """Print the lines of a traceback; what could harm the terminal is escaped."""
    for line in trace:
        click.echo(harmless(line), err=True)
