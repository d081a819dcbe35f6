"""``attn check``: somebody's layer against the reference."""

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options
from attncli.cli.targets import (
    examine,
    load,
    require_memory,
    show_examined,
    show_trace,
    target_limits,
)
from attncli.errors import ParameterError, TargetError

if TYPE_CHECKING:
    from attncli.checking.targets.target import Target
    from attncli.cli.screen import Screen
    from attncli.core.semantics import Semantics

_computed = partial(options.option, group="What is computed")


@options.command(
    "check",
    example="""\
attn check my_layer.py
attn check my_layer.py:TimeAttention
attn check my_layer.py:attend --as scaled-dot-product --causal --scale 1""",
)
@click.argument("target", required=False)
@_computed(
    "--as",
    "layer",
    type=click.Choice(options.LAYERS),
    help="The layer it is meant to be.  [default: what its name and arguments say]",
)
@options.semantics_options
@options.shapes_option(group="What is computed", help="Shape of an array for the constructor.")
@_computed(
    "--dtype",
    type=click.Choice(["float64", "float32", "float16", "bfloat16"]),
    default="float64",
    show_default=True,
    help="What it is meant to compute in; inputs are rounded to it first.",
)
@_computed(
    "--thorough",
    is_flag=True,
    help="Sizes up to T = 1,025, H = 257 and 40 heads as well.",
)
@_computed(
    "--convention",
    metavar="FILE",
    hidden=True,
    help="The former name of attn convention FILE.",
)
@options.rename_option
@target_limits
@options.screen_options
@click.pass_context
def check(
    ctx: click.Context,
    target: str | None,
    layer: str | None,
    semantics: "Semantics",
    shapes: dict[str, tuple[int, ...]],
    dtype: str,
    thorough: bool,
    convention: str | None,
    rename: dict[str, str],
    max_memory: int | None,
    time_limit: float,
    screen: "Screen",
) -> None:
    """Check a layer of your own against the reference, forward and backward.

    TARGET is file.py (every layer in it), file.py:Name or package.module:Name. It is run in
    situations meant to expose mistakes; where it differs, the numbers are held against a
    catalogue of known mistakes, and those that reproduce them are named. Exits with 1 if
    anything is wrong.
    """
    if (target is None) == (convention is None):
        raise ParameterError("expected either a TARGET or --convention FILE")
    if convention is not None:
        for option, given in (("--thorough", thorough), ("--dtype", dtype != "float64")):
            if given:
                raise ParameterError(f"{option} has a meaning with TARGET only")
        from attncli.cli.convention import run
        from attncli.files.reading import Reading

        found = run((convention,), semantics, Reading(max_memory, rename=rename), screen)
        ctx.exit(0 if found else 1)
    assert target is not None
    require_memory(shapes, max_memory)

    from attncli.checking.diagnosing.examination import check as against_reference
    from attncli.views.check_report import draw_check

    with screen.timed("checking"):
        targets = load(target, time_limit, max_memory)
        if layer is None and len(targets) > 1:
            targets = _known(targets, target, screen)
        examined = examine(
            targets,
            lambda one: against_reference(
                one,
                layer=layer,
                shapes=shapes,
                dtype=dtype,
                thorough=thorough,
                **semantics.given(),
            ),
        )

    def draw(report: Any) -> Any:
        show_trace(report.trace)
        return draw_check(report, screen.look)

    show_examined("check", examined, draw, screen)
    ctx.exit(0 if examined.passed else 1)


def _known(targets: "tuple[Target, ...]", text: str, screen: "Screen") -> "tuple[Target, ...]":
    """Leave out, with a note, what is no layer that attn knows."""
    from attncli.checking.diagnosing.examination import guess_layer
    from attncli.views.labels import safe

    known = []
    for target in targets:
        try:
            if target.fault is None:
                guess_layer(target)
            known.append(target)
        except TargetError:
            screen.note(f"skipped {safe(target.where)}: no layer that attn knows")
    if not known:
        names = ", ".join(target.name for target in targets)
        raise TargetError(
            f"{text}: none of its layers is one that attn knows ({names})",
            hint="name one, and say what it is: file.py:Name --as LAYER",
        )
    return tuple(known)
