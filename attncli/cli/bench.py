"""``attn bench``: measure our implementations, and others beside them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import cluster_options, options
from attncli.cli.help_pages import command
from attncli.cli.mending import NoSuchWordError
from attncli.errors import ContradictionError, ParameterError
from attncli.spelling import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attncli.cli.cluster_options import Cluster
    from attncli.cli.screen import Screen
    from attncli.cluster import Settings
    from attncli.reports import BenchReport, Cell

_what = partial(options.option, group="What to measure")
_how = partial(options.option, group="How")
_SPOILT = "workers on one machine would spoil each other's times"
_PEERS = ("torch", "jax", "onnxruntime")
_ENGINES = ("core", "direct-kept", "direct-again", "tiled-kept", "tiled-again", "loop")


def _parse_shapes(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[int, int, int], ...]:
    shapes = []
    for text in texts:
        try:
            N, T, H = map(whole, text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not N,T,H", ctx, param) from None
        if min(N, T, H) < 1:
            raise click.BadParameter(f"{text!r} has a size below 1", ctx, param)
        shapes.append((N, T, H))
    return tuple(shapes)


def _parse_names(
    known: tuple[str, ...],
) -> Any:
    def parse(ctx: click.Context, param: click.Parameter, text: str | None) -> list[str] | None:
        if text is None:
            return None
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise NoSuchWordError(name, known, ctx, param)
        return names

    return parse


@command(
    "bench",
    example="""\
attn bench --shapes 8,64,16 --dtype float32
attn bench --shapes 1,512,32 --dtype float32 --causal --engines core
attn bench --shapes 1,128,16 --dtype float32 --accuracy""",
    first="--shapes --all --dtype --engines --peers --causal --scaling --accuracy --profile "
    "--repeat --json",
)
@_what(
    "--shapes",
    metavar="N,T,H",
    multiple=True,
    callback=_parse_shapes,
    help="Sizes to measure at; repeatable.  [default: three small ones; --all: six]",
)
@_what(
    "--all",
    "every",
    is_flag=True,
    help="Six sizes, from 3,5,4 to 4,2048,128, in both dtypes, which takes minutes.",
)
@_what(
    "--dtype",
    type=options.OneOf(["float32", "float64"]),
    multiple=True,
    help="Repeatable.  [default: both; without --shapes float32]",
)
@_what(
    "--engines",
    metavar="NAMES",
    callback=_parse_names(_ENGINES),
    help="Ours: core, what it chooses from (direct-kept, direct-again, tiled-kept, tiled-again), "
    "and loop, the book's.  [default: core,loop]",
)
@_what(
    "--peers",
    metavar="NAMES",
    callback=_parse_names(_PEERS),
    help="Others, from torch, jax and onnxruntime.  [default: those that are installed]",
)
@_what("--causal", is_flag=True, help="Also under a causal mask.")
@_what(
    "--window",
    type=options.Window(),
    metavar="STEPS",
    help="Also with a window, as forward takes it; with --causal a causal one.",
)
@_what(
    "--segments",
    type=click.IntRange(min=2),
    metavar="COUNT",
    help="Also with T cut into so many equal segments that do not see each other.",
)
@_what("--scaling", is_flag=True, help="Double T and show how ours grows.")
@_what(
    "--accuracy",
    is_flag=True,
    help="Also the largest error of results and gradients against float64.",
)
@_what(
    "--profile",
    is_flag=True,
    help="Where the time of ours goes: products, softmax, masks, copies, overhead; on one thread.",
)
@_how(
    "--repeat",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Rounds; in each everybody has one turn.",
)
@_how("--threads", type=click.IntRange(min=1), help="For everybody alike.  [default: one a core]")
@options.blas_option
@options.max_memory_option
@cluster_options.grid_options
@options.report_options
def bench(
    shapes: tuple[tuple[int, int, int], ...],
    every: bool,
    dtype: tuple[str, ...],
    engines: list[str] | None,
    peers: list[str] | None,
    causal: bool,
    window: int | tuple[int, int] | None,
    segments: int | None,
    scaling: bool,
    accuracy: bool,
    profile: bool,
    repeat: int,
    threads: int | None,
    blas: str | None,
    max_memory: int | None,
    cluster: Cluster,
    screen: Screen,
) -> None:
    """Measure implementations of attention side by side, forward and with backward.

    Everybody runs in a process of its own, and they take turns, so that the noise of the machine
    falls on all alike. Ratios are to the fastest, and to the two matrix products alone, which do
    nothing between them; where keys are hidden, to the same with none hidden. Memory is the peak
    beside the inputs.
    """
    from attncli.benchmarks.measure import crossed, doubled
    from attncli.views.bench_report import bench_as_json, draw_bench, draw_profile, draw_scaling

    if profile:
        _refuse_beside_profile(engines, peers, threads, scaling=scaling, accuracy=accuracy)

    hidden: dict[str, Any] = {
        "causal": causal,
        "window": (window, window) if isinstance(window, int) else window,
        "segments": segments or 1,
    }
    if every and (shapes or scaling):
        other = "--shapes" if shapes else "--scaling"
        raise ContradictionError(f"--all is of six sizes, {other} of its own", "--all")
    if scaling:
        cells = doubled(shapes[:1], dtype, **hidden)
    else:
        cells = crossed(shapes, dtype, every=every, **hidden)
    work = partial(
        _measured,
        engines=engines,
        peers=peers,
        scaling=scaling,
        threads=threads,
        repeat=repeat,
        accuracy=accuracy,
        profile=profile,
        blas=blas,
        max_memory=max_memory,
    )
    if cluster.given.keys() & {"--workers", "--worker-memory"}:
        option = next(iter(cluster.given))
        raise ContradictionError(f"{option}: {_SPOILT}", option)
    where = cluster.settings_if_meant()
    if not screen.is_read:
        return
    if where is None:
        with screen.progress("measuring", piped=True) as progress:
            report, missing = work(cells, progress=progress)
    else:
        report, missing = _on_machines(work, cells, where, screen, scaling=scaling)
    if screen.as_json:
        screen.show_json(bench_as_json(report, missing))
    elif profile:
        screen.show(draw_profile(report, screen.look))
    else:
        draw = draw_scaling if scaling else draw_bench
        screen.show(draw(report, missing, screen.look))


def _refuse_beside_profile(
    engines: list[str] | None, peers: list[str] | None, threads: int | None, **flags: bool
) -> None:
    """Raise where something is asked for that says nothing about where the time goes."""
    if peers:
        raise ContradictionError("--profile looks into ours alone, not into --peers", "--peers")
    if "loop" in (engines or []):
        raise ParameterError("--profile looks into --engines of the core, and loop is none",
                             hint="--engines core")  # fmt: skip
    if threads not in (None, 1):
        raise ContradictionError("--profile is of one thread, not of --threads", "--threads")
    for name, asked in flags.items():
        if asked:
            raise ContradictionError(f"--profile and --{name} are two measurements", f"--{name}")


def _measured(
    cells: Sequence[Cell],
    *,
    engines: list[str] | None,
    peers: list[str] | None,
    scaling: bool,
    threads: int | None,
    repeat: int,
    accuracy: bool,
    profile: bool,
    blas: str | None,
    max_memory: int | None,
    progress: Any = lambda done, total: None,
) -> tuple[BenchReport, list[str]]:
    """Measure on this machine; give the peers beside that are not installed on it."""
    from attncli.benchmarks.contenders import PRODUCTS, is_installed
    from attncli.benchmarks.measure import look_into, measure, require_memory

    if profile:
        require_memory(cells, engines or ["core"], max_memory)
        report = look_into(cells, engines or ["core"], repeat=repeat, blas=blas, progress=progress)
        return report, []
    if scaling:
        contenders, missing = engines or ["core"], list[str]()
    else:
        wanted = _PEERS if peers is None else peers
        missing = [peer for peer in wanted if not is_installed(peer)]
        present = [peer for peer in wanted if peer not in missing]
        contenders = [*(engines or ["core", "loop"]), *present, PRODUCTS]
    require_memory(cells, contenders, max_memory, accuracy=accuracy)
    report = measure(
        cells,
        contenders,
        repeat=1 if scaling else repeat,
        threads=options.threads_for(threads),
        accuracy=accuracy,
        blas=blas,
        progress=progress,
    )
    return report, missing


def _on_machines(
    work: Callable[[Sequence[Cell]], tuple[BenchReport, list[str]]],
    cells: Sequence[Cell],
    where: Settings,
    screen: Screen,
    *,
    scaling: bool,
) -> tuple[BenchReport, list[str]]:
    """Measure one cell at a time on each machine that is for measuring."""
    from attncli import cluster
    from attncli.reports import BenchReport

    if where.address is None:
        raise ContradictionError(
            f"--engine dask here: {_SPOILT}; a --scheduler has workers with --resources bench=1, "
            "one a machine",
            "--engine",
        )
    # What is compared with each other is measured on one machine.
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.dtype if scaling else cell.unmasked, []).append(cell)
    found = dict[int, tuple[BenchReport, list[str]]]()
    with screen.progress("measuring", piped=True) as progress:
        for number, one in cluster.map(work, [*groups.values()], where, {"bench": 1}):
            found[number] = one
            progress(len(found), len(groups))
    reports, missing = zip(*(found[number] for number in range(len(groups))), strict=True)
    if len(threads := {report.threads for report in reports}) > 1:
        screen.note(
            f"note: machines of {min(threads)} to {max(threads)} cores, and as many threads; "
            f"--threads {min(threads)} is the same on each"
        )
    report = BenchReport(
        max(threads),
        reports[0].repeat,
        tuple(one for report in reports for one in report.measurements),
        {name: why for report in reports for name, why in report.failures.items()},
        "; ".join(dict.fromkeys(report.blas for report in reports if report.blas)),
        tuple(one for report in reports for one in report.profiles),
    )
    return report, sorted({name for names in missing for name in names})
