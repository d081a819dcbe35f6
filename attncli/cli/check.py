"""``attn check``: somebody's layer against the reference."""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import cluster_options, options, streams
from attncli.cli.help_pages import command
from attncli.cli.targets import (
    Examination,
    batch_options,
    given_options,
    listed,
    load,
    require_memory,
    show_trace,
)
from attncli.errors import AttnError, ParameterError, TargetError

if TYPE_CHECKING:
    from attncli.checking.targets.given import Given
    from attncli.cli.cluster_options import Cluster
    from attncli.cli.screen import Screen
    from attncli.cli.targets import Batch
    from attncli.core.semantics import Semantics
    from attncli.views.look import Look

_computed = partial(options.option, group="What is computed")


@command(
    "check",
    example="""\
attn check sample_inputs/exercise/wrong_1.py
attn check sample_inputs/exercise/wrong_2.py:Attention --json
attn check attncli:attention --as scaled-dot-product""",
    first="--as --dtype --causal --scale --layout --arg --report --time-limit --json -q",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@_computed(
    "--as",
    "layer",
    type=options.OneOf(options.LAYERS + options.WITH_WEIGHTS),
    metavar="LAYER",
    help="The layer it is meant to be.  [default: what its name and arguments say]",
)
@options.semantics_options
@given_options
@_computed(
    "--dtype",
    type=options.OneOf(["float64", "float32", "float16", "bfloat16"]),
    help="What it is meant to compute in; inputs are rounded to it first.  [default: float64, or "
    "what code of torch or JAX takes]",
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
@batch_options
@cluster_options.grid_options
@options.screen_options
@click.pass_context
def check(
    ctx: click.Context,
    targets: tuple[str, ...],
    layer: str | None,
    semantics: "Semantics",
    given: "Given",
    dtype: str | None,
    thorough: bool,
    convention: str | None,
    rename: dict[str, str],
    batch: "Batch",
    cluster: "Cluster",
    screen: "Screen",
) -> None:
    """Check a layer of your own against the reference, forward and backward.

    TARGET is FILE.py or FILE.ipynb (every layer in it), a folder (every file), FILE:NAME or
    MODULE:NAME. It is run in situations meant to expose mistakes; where it differs, the numbers
    are held against a catalogue of known mistakes, and those that reproduce them are named. Exits
    with 1 if anything is wrong, with 2 if a TARGET is not there; the others are judged all the
    same.
    """
    if not targets and convention is None:
        raise ParameterError(
            "expected a TARGET: FILE.py, FILE.ipynb, a folder, FILE:NAME or MODULE:NAME",
            hint="attn check sample_inputs/exercise/wrong_1.py",
        )
    if targets and convention is not None:
        raise ParameterError("expected either a TARGET or --convention FILE")
    if convention is not None:
        said: dict[str, Any] = {"--thorough": thorough, "--dtype": dtype, "--report": batch.reports}
        said |= {"--arg": given.arguments, "--input": given.shapes, "--layout": given.layout}
        said |= {"--device": given.device}
        for option, value in said.items():
            if value:
                raise ParameterError(f"{option} has a meaning with TARGET only")
        from attncli.cli.convention import run
        from attncli.files.reading import Reading

        ctx.exit(run((convention,), semantics, Reading(batch.max_memory, rename=rename), screen))
    require_memory(given.shapes, batch.max_memory)
    where = cluster.settings_if_meant()

    from attncli.checking.diagnosing.examination import check as against_reference
    from attncli.cli.batch import go_through

    find = partial(_find, batch=batch, screen=screen, given=given, layer=layer)
    judge = partial(
        against_reference,
        layer=layer,
        dtype=dtype,
        thorough=thorough,
        **semantics.given(),
    )
    with screen.timed("checking"), streams.capped():
        texts, optional = listed(targets, screen)
        examination = Examination("check", find, judge, partial(_draw, look=screen.look))
        code = go_through(texts, examination, batch, screen, optional, where)
    ctx.exit(code)


def _draw(report: Any, *, look: "Look") -> Any:
    from attncli.views.check_report import draw_check

    show_trace(report.trace)
    return draw_check(report, look)


def _find(
    text: str, batch: "Batch", screen: "Screen", given: "Given", layer: str | None
) -> Sequence[Any]:
    """Load a target; one that is not there is told as what a near one can be judged."""
    try:
        return load(text, batch, screen, given)
    except TargetError as error:
        # A hint that names another target says all that this needs to be judged.
        if meant := re.fullmatch(r"is (.+) meant\?", error.hint or ""):
            from attncli.checking.diagnosing.examination import lacks

            with suppress(AttnError):
                near = load(meant[1], batch, screen, given)
                more = {lacks(one, layer) for one in near}
                for one in near:
                    one.end()
                error.hint = " ".join(filter(None, (error.hint, *more)))
        raise
