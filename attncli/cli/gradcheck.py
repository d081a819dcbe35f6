"""``attn gradcheck``: prove the gradients of the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.reports import GradcheckReport


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise click.BadParameter(f"{value} is not a number above 0", ctx, param)
    return value


@options.command(
    "gradcheck",
    example="""\
attn gradcheck
attn gradcheck --layer time-attention --N 2 --T 3 --T-enc 4 --H 5
attn gradcheck --method central --json""",
)
@options.option(
    "--layer",
    type=click.Choice(options.LAYERS),
    group="Calculation",
    help="Check this layer alone.  [default: all five]",
)
@options.option(
    "--method",
    type=click.Choice(["complex", "central"]),
    default="complex",
    show_default=True,
    group="Calculation",
    help="complex: complex step, exact to rounding; central: central differences.",
)
@options.option(
    "--tol",
    type=float,
    callback=_positive,
    group="Calculation",
    help="Largest relative error that passes.  [default: 1e-12, or 1e-6 with central]",
)
@options.size_options
@options.seed_option
@options.report_options
@click.pass_context
def gradcheck(
    ctx: click.Context,
    layer: str | None,
    method: Any,
    tol: float | None,
    sizes: dict[str, int],
    seed: int | None,
    screen: Screen,
) -> None:
    """Prove the backward pass of every layer against derivatives of its forward.

    Every element of every input is checked in float64, under a random incoming gradient. Sizes
    are N=3, T=5, T-enc=7, H=4 unless given: all different, so that a swapped axis shows. Exits
    with 1 if any gradient is wrong.
    """
    from math import prod

    from attncli.checking.gradcheck import gradcheck as check
    from attncli.memory import require
    from attncli.operations import OPERATIONS
    from attncli.tensors import describe_shape
    from attncli.views.gradcheck import draw_gradcheck

    full = {
        "N": sizes.get("N", 3),
        "T_dec": sizes.get("T", 5),
        "T_enc": sizes.get("T_enc", sizes.get("T", 7)),
        "H": sizes.get("H", 4),
    }
    for axes in (("N", "T_dec", "T_enc"), ("N", "T_enc", "H"), ("N", "T_dec", "H")):
        shape = tuple(full[axis] for axis in axes)
        # The largest there is, held by every engine's forward and in complex numbers.
        what = f"a tensor {describe_shape(shape, axes)}"
        require(100 * prod(shape), what, None, hint="a gradient is checked as well on small sizes")
    with screen.timed("checking"), screen.progress("checking") as progress:
        report = check(
            [OPERATIONS[layer]] if layer else None,
            sizes=full,
            method=method,
            tolerance=tol,
            seed=seed or 0,
            progress=progress,
        )
    if screen.as_json:
        screen.show_json(_as_json(report, full))
    else:
        described = " ".join(f"{axis}={size}" for axis, size in full.items())
        screen.show(draw_gradcheck(report, described, screen.look))
    if not report.passed:
        ctx.exit(1)


def _as_json(report: GradcheckReport, sizes: dict[str, int]) -> dict[str, Any]:
    from attncli import __version__
    from attncli.cli.screen import jsonable_number

    return {
        "attn": __version__,
        "command": "gradcheck",
        "passed": report.passed,
        "method": report.method,
        "tolerance": report.tolerance,
        "seed": report.seed,
        "sizes": sizes,
        "checks": [
            {
                "layer": check.layer,
                "engine": check.engine,
                "input": check.input,
                "elements": check.elements,
                "absolute_error": jsonable_number(check.absolute_error),
                "relative_error": jsonable_number(check.relative_error),
                "worst": list(check.worst),
                "backward": jsonable_number(check.backward),
                "derivative": jsonable_number(check.derivative),
                "passed": check.passed,
            }
            for check in report.checks
        ],
    }
