"""The semantics that lead from a file's inputs to its results, on the screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.checking.conventions.naming import place
from attncli.errors import AttnError
from attncli.reports import ConventionReading, ConventionReport
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import format_error

_LISTED = 4
_PLACES = 6


def draw_convention(report: ConventionReport, file: str, look: Look) -> RenderableType:
    """Draw what leads to the results, or what comes nearest."""
    return Group(*_lines(report, file, look))


def draw_verdict(line: str, report: ConventionReport | AttnError, look: Look) -> RenderableType:
    """Draw one line for one of several files: what was found, or why it could not be judged."""
    if isinstance(report, AttnError):
        return Text(f"{line}: ").append(look.fit(f"not judged: {safe(str(report), look)}"), "red")
    if report.passed:
        found = Text(f"{line}: ").append(look.fit(report.readings[0].described), "green")
        more = len(report.readings) - 1
        return found.append(f"  and {more} more" if more else "", "dim")
    found = Text(f"{line}: ").append("no reading", "bold red")
    if report.nearest is not None and report.nearest.holds_for > 0:
        found.append(look.fit(f"; {_partly(report.nearest)}"))
    return found


def _lines(report: ConventionReport, file: str, look: Look) -> Iterator[RenderableType]:
    for number, reading in enumerate(report.readings[: None if look.plain else _LISTED]):
        line = Text().append("or  " if number else "", "dim")
        line.append(look.fit(reading.described), "" if number else "bold green")
        yield line.append(f"  within {format_error(reading.distance)}", "dim")
        if reading.command is not None:
            yield Text(f"    attn forward {safe(file, look)} {reading.command}".rstrip(), "dim")
    if (more := len(report.readings) - _LISTED) > 0 and not look.plain:
        yield Text(f"and {more} more readings: --json lists all", "dim")
    if not report.passed:
        yield Text("no reading leads to the results", "bold red")
        if (nearest := report.nearest) is not None:
            if nearest.holds_for > 0:
                yield Text("the nearest: ").append(look.fit(_partly(nearest)))
            else:
                yield Text("the nearest: ").append(
                    look.fit(f"{nearest.described} holds for no row")
                )
            yield Text(f"off by {format_error(nearest.distance)} there", "dim")
    for note in report.notes:
        yield Text(look.fit(safe(note, look)))
    yield Text(f"{report.tried} combinations fitted, judged as {report.dtype}", "dim")


def _partly(reading: ConventionReading) -> str:
    """Say for which items, heads and rows a reading does not hold."""
    shape = (reading.shape[0], reading.shape[1], reading.shape[2])
    places = "; ".join(place(one, shape) for one in reading.fails[:_PLACES])
    if (more := len(reading.fails) - _PLACES) > 0:
        places += f"; and {more} more places"
    return (
        f"{reading.described} holds for all but {places} ({100 * reading.holds_for:.3g} % of rows)"
    )
