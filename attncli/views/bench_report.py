"""What measuring found, on the screen: one table for each cell, ratios before milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from attncli.memory import readable
from attncli.reports import BenchReport, Cell, Measurement
from attncli.version import __version__
from attncli.views.look import Look
from attncli.views.numbers import format_error
from attncli.views.records import Column, draw_records

_FLOOR = "products"


def draw_bench(report: BenchReport, missing: Sequence[str], look: Look) -> RenderableType:
    """Draw a table for each cell, and say what is not there."""
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads each"
    parts = ("", threads, f"medians of {report.repeat} interleaved rounds")
    heading = Text("bench", "bold").append(look.dot.join(parts), "not bold")
    tables = [
        part
        for cell in report.cells()
        for part in ("", _title(cell, look), draw_records(_columns(report, cell, look), look))
    ]
    notes = [Text(f"{name} failed: {why}", "yellow") for name, why in report.failures.items()]
    if missing:
        notes.append(Text(f"not installed: {', '.join(missing)}", "dim italic"))
    notes = [*_multiplied(report), *notes]
    return Group(heading, *tables, *([""] if notes else []), *notes)


def draw_profile(report: BenchReport, look: Look) -> RenderableType:
    """Draw where the time goes, a table for each cell and contender."""
    parts = ("", "1 thread", f"medians of {report.repeat} rounds", "processor time")
    heading = Text("bench, profile", "bold").append(look.dot.join(parts), "not bold")
    tables: list[RenderableType] = []
    for one in report.profiles:
        kept = "kept" if one.weights_kept else "computed again"
        how = f"  {one.contender}: {one.engine}, weights {kept}"
        tables += ["", _title(one.cell, look).append(how, "not bold")]
        shares = {part: one.shares(part) for part in one.parts}
        times = [_milliseconds(each["seconds"]) for each in one.parts.values()]
        columns = [
            Column("", list(one.parts)),
            Column("time", times, right=True),
            Column(
                f"{look.times}bare",
                [_number(one.of_bare(part), 2) for part in one.parts],
                right=True,
            ),
            Column("whole", [_number(one.whole_products(part)) for part in one.parts], right=True),
        ]
        for kind in shares["both"]:
            found = [f"{100 * shares[part][kind]:.1f} %" for part in one.parts]
            columns.append(Column(kind, found, right=True))
        tables.append(draw_records(columns, look))
    notes = [Text(f"{name} failed: {why}", "yellow") for name, why in report.failures.items()]
    bare = "bare: the products that it computes, alone; whole: as many of N · T · T · H"
    return Group(heading, *tables, "", *notes, Text(bare, "dim italic"), *_multiplied(report))


def draw_scaling(report: BenchReport, missing: Sequence[str], look: Look) -> RenderableType:
    """Draw how time and memory grow as T doubles."""
    ours = report.measurements
    before: list[Measurement | None] = [None, *ours[:-1]]
    grown = [
        _ratio(one.both, last.both) if last is not None else ""
        for one, last in zip(ours, before, strict=True)
    ]
    columns = [
        Column("T", [str(one.cell.T) for one in ours], right=True),
        Column("forward", [_milliseconds(one.forward) for one in ours], right=True),
        Column("with backward", [_milliseconds(one.both) for one in ours], right=True),
        Column("grown", grown, right=True),
        Column("GFLOP/s", [_number(one.gflops()) for one in ours], right=True),
        Column("memory", [_bytes(one.memory) for one in ours], right=True),
    ]
    parts = ("", _describe(ours[0].cell, with_T=False), f"threads {report.threads}")
    heading = Text("bench, scaling in T", "bold").append(look.dot.join(parts), "not bold")
    multiplied = _multiplied(report)
    return Group(
        heading, "", draw_records(columns, look), *([""] if multiplied else []), *multiplied
    )


def _multiplied(report: BenchReport) -> list[Text]:
    return [Text(f"blas: {report.blas}", "dim italic")] if report.blas else []


def _title(cell: Cell, look: Look) -> Text:
    return Text(_describe(cell), "bold")


def _describe(cell: Cell, *, with_T: bool = True) -> str:
    sizes = f"N={cell.N} " + (f"T={cell.T} " if with_T else "") + f"H={cell.H}"
    hidden = ["causal"] if cell.causal else []
    if cell.window is not None:
        hidden.append(f"window {cell.window[0]},{cell.window[1]}")
    if cell.segments > 1:
        hidden.append(f"{cell.segments} segments")
    return "  ".join([f"{sizes}  {cell.dtype}", *hidden])


def _columns(report: BenchReport, cell: Cell, look: Look) -> list[Column]:
    """Make the columns of one cell; the floor is no contender, and no ratio is taken to it."""
    measurements = report.of(cell)
    racing = [one for one in measurements if one.contender != _FLOOR]
    forward = min((one.forward for one in racing if one.forward), default=None)
    both = min((one.both for one in racing if one.both), default=None)
    floor = next((one.forward for one in measurements if one.contender == _FLOOR), None)
    styles = ["bold green" if one.forward == forward else "" for one in measurements]
    both_styles = ["bold green" if one.both == both else "" for one in measurements]
    columns = [
        Column("", [one.contender for one in measurements]),
        Column("forward", [_milliseconds(one.forward) for one in measurements], right=True),
        Column(
            f"{look.times}best",
            [_ratio(one.forward, forward) if one in racing else "" for one in measurements],
            right=True,
            styles=styles,
        ),
        Column(
            f"{look.times}products",
            [_ratio(one.forward, floor) for one in measurements],
            right=True,
        ),
        Column("GFLOP/s", [_number(one.gflops()) for one in measurements], right=True),
        Column("with backward", [_milliseconds(one.both) for one in measurements], right=True),
        Column(
            f"{look.times}best",
            [_ratio(one.both, both) for one in measurements],
            right=True,
            styles=both_styles,
        ),
        Column("memory", [_bytes(one.memory) for one in measurements], right=True),
    ]
    if floor is None:
        del columns[3]
    if cell.hides:
        shares = [report.shares(one) for one in measurements]
        for at, column in ((1, len(columns) - 1), (0, 3)):  # behind those of the fastest
            share = [_number(of_one[at], 3) for of_one in shares]
            columns.insert(column, Column(f"{look.times}full", share, right=True))
    if any(one.error is not None for one in measurements):
        errors = ["" if one.error is None else format_error(one.error) for one in measurements]
        columns.append(Column("error", errors, right=True))
    return columns


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    milliseconds = seconds * 1e3
    digits = 3 if milliseconds < 1 else 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def _ratio(value: float | None, base: float | None) -> str:
    return "" if value is None or not base else f"{value / base:.2f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _bytes(memory: int | None) -> str:
    return "" if memory is None else readable(max(0, memory))


def bench_as_json(report: BenchReport, missing: Sequence[str]) -> dict[str, Any]:
    """Give the object that ``--json`` prints."""
    return {
        "attn": __version__,
        "command": "bench",
        "threads": report.threads,
        "repeat": report.repeat,
        "not_installed": list(missing),
        "failures": report.failures,
        "blas": report.blas,
        "measurements": [
            {
                **one.cell._asdict(),
                "contender": one.contender,
                "forward_seconds": one.forward,
                "both_seconds": one.both,
                "gflops": one.gflops(),
                "memory_bytes": one.memory,
                "of_unmasked": dict(zip(("forward", "both"), report.shares(one), strict=True)),
                "error": one.error,
            }
            for one in report.measurements
        ],
        "profiles": [
            {
                **one.cell._asdict(),
                "contender": one.contender,
                "engine": one.engine,
                "weights_kept": one.weights_kept,
                **{
                    part: {
                        "seconds": each["seconds"],
                        "bare_seconds": each["bare_seconds"],
                        "of_bare": one.of_bare(part),
                        "whole_products": one.whole_products(part),
                        "shares": one.shares(part),
                    }
                    for part, each in one.parts.items()
                },
            }
            for one in report.profiles
        ],
    }
