"""``attn compare``: how far two files' tensors are apart."""

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options
from attncli.cli.help_pages import command

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.core.extras import Extras
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading

_what = partial(options.option, group="What to compare")


@command(
    "compare",
    example="""\
attn forward sample_inputs/minilm_qkv.npz -o run.npz
attn compare run.npz sample_inputs/minilm_qkv.npz --only weights
attn compare run.npz sample_inputs/minilm_qkv.npz --map out=output""",
    first="--only --ignore --map --rtol --atol --equal-nan --budget --json",
)
@click.argument("a")
@click.argument("b")
@_what("--only", multiple=True, metavar="NAME", help="This tensor; repeatable.")
@_what(
    "--ignore",
    multiple=True,
    metavar="NAME",
    help="Not this one, though it is in one of the files alone; repeatable.",
)
@_what(
    "--map",
    "names",
    multiple=True,
    metavar="A=B",
    callback=options.parse_pairs,
    help="A tensor of A and the name it has in B; repeatable.",
)
@options.under_tolerance(
    "--rtol",
    type=click.FloatRange(min=0),
    help="Relative to |b|.  [default: torch's assert_close for the dtypes]",
)
@options.under_tolerance("--atol", type=click.FloatRange(min=0), help="Absolute.")
@options.equal_nan_option
@options.under_tolerance(
    "--budget",
    "inputs",
    metavar="INPUTS",
    help="Instead of tolerances: in every row A may be twice as far from the exact result, which "
    "is computed from the tensors in this file, as the plain formula in A's own dtype is.",
)
@options.dropout_semantics_options
@options.extras_options
@options.heads_options
@options.layout_option
@options.rotary_options
@options.reading_options
@options.screen_options
@click.pass_context
def compare(
    ctx: click.Context,
    a: str,
    b: str,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    names: dict[str, str],
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    inputs: str | None,
    semantics: "Semantics",
    extras: "Extras",
    heads: dict[str, int],
    layout: dict[str, Any],
    rotary: dict[str, Any],
    reading: "Reading",
    screen: "Screen",
) -> None:
    """Compare the tensors of two files: A, the candidate, and B, what is expected.

    Tensors of the same name are compared: shapes, errors, where they are largest, what pattern
    they have, and the tolerance that would pass. Large files are read piece by piece. Exits with
    1 if a tensor is outside the tolerance, or is in one of the files alone: --only and --ignore
    say what is to be compared.
    """
    from attncli.problems.pairing import Selected, compare_files
    from attncli.views.comparison_report import draw_comparison
    from attncli.views.report_json import headed

    with screen.timed("comparing"), screen.progress("comparing") as progress:
        report = compare_files(
            a,
            b,
            Selected(only, ignore, names),
            inputs,
            semantics,
            {"extras": extras, "heads": heads, "layout": layout, "rotary": rotary},
            reading,
            progress,
            statistics=screen.is_read,
            rtol=rtol,
            atol=atol,
            equal_nan=equal_nan,
        )
    if screen.as_json:
        screen.show_json(headed("compare", report, a=a, b=b))
    elif not screen.quiet:
        screen.show(draw_comparison(report, screen.look, verbose=screen.verbose))
    if not report.passed:
        ctx.exit(1)
