"""``attn show-mask``: what each query sees, and where two conventions differ."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.cli.weight_options import export_options
from attncli.errors import ParameterError
from attncli.files.formats import ending_of
from attncli.spelling import whole
from attncli.weights.wanted import Wanted

if TYPE_CHECKING:
    from attncli.cli.screen import Screen
    from attncli.core.extras import Extras
    from attncli.core.semantics import Semantics
    from attncli.files.reading import Reading
    from attncli.problems.visible import Asked, Scene

_compared = partial(options.option, group="Two readings")
_shown = partial(options.option, group="What to show")

# As `attncli.problems.libraries` has them, which needs NumPy.
LIBRARIES = ("torch", "jax", "onnx", "flash-attention", "flash-attention-2.0", "transformers")


# A file has more steps than these only as cells of several.
_MOST_DRAWN, _MOST = 240, {".csv": 1024}


@click.command("--against", add_help_option=False)
@options.order_options
@options.hiding_options
def _second(semantics: Semantics, extras: Extras) -> Asked:
    """Read the options of the other reading."""
    from attncli.problems.visible import Asked

    return Asked(semantics, extras)


def _parse_against(ctx: click.Context, param: click.Parameter, text: str | None) -> Asked | None:
    if text is None:
        return None
    try:
        with _second.make_context("--against", shlex.split(text)) as context:
            asked: Asked = _second.invoke(context)
    except ValueError as error:  # quotation marks
        raise click.BadParameter(str(error).lower(), ctx, param) from None
    except click.UsageError as error:
        raise click.BadParameter(error.format_message(), ctx, param) from None
    return asked


class Tile(click.ParamType["tuple[int, int]"]):
    """How many queries and keys a tile has: ``R,K``, or one number for both."""

    name = "tile"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Turn the text into two numbers."""
        try:
            sizes = [whole(size) for size in str(value).split(",")]
        except ValueError:
            sizes = []
        if len(sizes) not in (1, 2) or min(sizes) < 1:
            self.fail(
                f"{value!r} is not a number of queries and keys, as 128 or 128,64", param, ctx
            )
        return sizes[0], sizes[-1]


@command(
    "show-mask",
    example="""\
attn show-mask --T 8 --causal --window 3
attn show-mask --T 3 --T-enc 5 --causal --convention flash-attention
attn show-mask --T 8 --window 2 --against "--causal --window 2"
""",
    first="--T --T-enc --causal --window --against --convention --item --export --json",
)
@click.argument("file", required=False)
@options.steps_options
@options.order_options
@options.hiding_options
@options.heads_options
@options.layout_option
@_compared(
    "--against",
    metavar="OPTIONS",
    callback=_parse_against,
    help="The other reading: a text of the options above.",
)
@_compared(
    "--convention",
    "conventions",
    type=options.OneOf(LIBRARIES),
    multiple=True,
    help="What the options mean in this library; given twice, both beside each other.",
)
@_shown("--item", type=int, help="Show this item of the batch alone.")
@_shown("--head", type=int, help="Show this head alone.")
@_shown(
    "--tile",
    type=Tile(),
    default="512",
    show_default=True,
    metavar="ROWS,KEYS",
    help="Count the tiles of an engine of such tiles.",
)
@options.reading_options
@options.Bundle("wanted", Wanted, *export_options)
@options.mask_screen_options
def show_mask(
    file: str | None,
    sizes: dict[str, int],
    semantics: Semantics,
    extras: Extras,
    heads: dict[str, int],
    layout: dict[str, Any],
    against: Asked | None,
    conventions: tuple[str, ...],
    item: int | None,
    head: int | None,
    tile: tuple[int, int],
    reading: Reading,
    wanted: Wanted,
    screen: Screen,
) -> None:
    """Show what each query sees: rows are queries, columns keys.

    FILE holds masks, or the inputs of a layer with masks; or is a run file, whose options count.
    Without it, sizes and options say it all.

    For seeing what options and masks mean before anything is computed, how much of the scores that
    is, and which tiles an engine has to visit. With two readings, both beside each other, and a +
    wherever a pair is seen in one alone.
    """
    from attncli.problems.visible import Asked, scene_of
    from attncli.views.exports import check_exports
    from attncli.views.mask_report import draw_scene, scene_as_json

    asked = [Asked(semantics, extras, name) for name in conventions or ("",)]
    asked += [against] if against is not None else []
    if len(asked) > 2:
        raise ParameterError(
            f"{len(asked)} readings, expected one or two: --convention twice, or once beside "
            "--against"
        )
    check_exports(wanted, file)
    with screen.timed("reading"):
        told = {"heads": heads, "layout": layout}
        scene = scene_of(file, sizes, asked, reading, told).only(item=item, head=head)
    for path in wanted.export:
        _export(path, scene, wanted, tile, screen)
        screen.note(f"wrote {click.format_filename(path)}")
    if screen.as_json:
        screen.show_json(scene_as_json(scene, tile, screen.progress))
    elif not screen.quiet:
        for part in draw_scene(scene, screen.look, tile, screen.progress):
            screen.show(part)


def _export(path: str, scene: Scene, wanted: Wanted, tile: tuple[int, int], screen: Screen) -> None:
    """Write what is seen: as weights of 1 and 0, or as the object that ``--json`` prints."""
    from attncli.views.exports import export, save

    ending = ending_of(path)
    if ending == ".json":
        from attncli.views.json_text import object_pieces
        from attncli.views.mask_report import scene_as_json

        found = scene_as_json(scene, tile, screen.progress)
        save(path, object_pieces(found), force=wanted.force)
    else:
        from attncli.weights.masking import masks_as_weights

        drawn = masks_as_weights(scene, wanted, _MOST.get(ending, _MOST_DRAWN))
        export(path, drawn, None, light=screen.theme == "light")
