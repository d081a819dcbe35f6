"""``attn gradcheck``: prove the gradients of our layers, or of somebody's own."""

from __future__ import annotations

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
)
from attncli.errors import ParameterError

if TYPE_CHECKING:
    from attncli.checking.targets.given import Given
    from attncli.cli.cluster_options import Cluster
    from attncli.cli.screen import Screen
    from attncli.cli.targets import Batch
    from attncli.core.extras import Extras
    from attncli.core.semantics import Semantics
    from attncli.problems.setting import Setting
    from attncli.views.look import Look


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise click.BadParameter(f"{value} is not a number above 0", ctx, param)
    return value


@command(
    "gradcheck",
    example="""\
attn gradcheck
attn gradcheck --layer time-attention --N 2 --T 3 --T-enc 4 --H 5
attn gradcheck sample_inputs/exercise/wrong_1.py:Attention""",
    first="--layer --method --tol --causal --N --T --H --seed --arg --report --json",
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@options.under_calculation(
    "--layer",
    type=options.OneOf(options.LAYERS + options.WITH_WEIGHTS),
    metavar="LAYER",
    help="Check this layer alone.  [default: all without weights of their own]",
)
@options.under_calculation(
    "--method",
    type=options.OneOf(["auto", "complex", "central"]),
    default="auto",
    show_default=True,
    help="complex: complex step, exact to rounding; central: central differences; auto: complex "
    "where the code survives it.",
)
@options.under_calculation(
    "--tol",
    type=float,
    callback=_positive,
    help="Largest relative error that passes.  [default: 1e-12, or 1e-6 with central; for TARGET "
    "1e-9, or 1e-6, or 1e-3 in float32]",
)
@options.under_calculation(
    "--dtype",
    type=options.OneOf(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Of TARGET's inputs.",
)
@options.blas_option
@options.heads_options
@options.dropout_semantics_options
@options.extras_options
@options.rotary_options
@given_options
@options.size_options
@options.seed_option
@batch_options
@cluster_options.grid_options
@options.shaded_report_options
@click.pass_context
def gradcheck(
    ctx: click.Context,
    targets: tuple[str, ...],
    layer: str | None,
    method: Any,
    tol: float | None,
    dtype: str,
    blas: str | None,
    heads: dict[str, int],
    semantics: Semantics,
    extras: Extras,
    rotary: dict[str, Any],
    given: Given,
    sizes: dict[str, int],
    seed: int | None,
    batch: Batch,
    cluster: Cluster,
    screen: Screen,
) -> None:
    """Prove a backward pass against derivatives of its forward: of every layer, or of TARGET.

    TARGET is your own: FILE.py or FILE.ipynb (every layer in it), a folder (every file), FILE:NAME
    or MODULE:NAME, a class with forward and backward or a pair of functions NAME and
    NAME_backward; params and grads are checked too.

    Every element of every input is checked, under a random incoming gradient. Sizes are N=3,
    T=5, T-enc=7, H=4 unless given: all different, so that a swapped axis shows. Exits with 1 if
    any gradient is wrong.
    """
    ours = {
        "layer": layer,
        **heads,
        **semantics.given(),
        **extras.given(),
        **rotary,
    }
    if targets:
        for name, value in {**ours, "blas": blas}.items():
            if value is not None:
                option = f"--{name.replace('_', '-')}"
                whose = f"{targets[0]} is yours"
                raise ParameterError(f"{option} is for the layers of attn, and {whose}")
    elif given.shapes or given.arguments or given.device or dtype != "float64":
        raise ParameterError("--arg, --input, --device and --dtype have a meaning with TARGET only")

    where = cluster.settings_if_meant()
    from attncli.checking.targets.arguments import sizes_said
    from attncli.problems.beside import implied_sizes
    from attncli.problems.setting import Setting

    if "T" in sizes:
        sizes = {"T_enc": sizes["T"], "T_dec": sizes["T"], **sizes}
    found = implied_sizes(extras, {"N": 3, "T": 5, "T_enc": 7, "H": 4})
    found = {"T_dec": found["T"], **found, **sizes_said(given.arguments), **sizes}
    full = {axis: found[axis] for axis in ("N", "T_dec", "T_enc", "H")}
    largest = {
        " ".join(axes): tuple(full[axis] for axis in axes)
        for axes in (("N", "T_dec", "T_enc"), ("N", "T_enc", "H"), ("N", "T_dec", "H"))
    }
    require_memory({**largest, **given.shapes}, batch.max_memory)

    from attncli.cli.batch import go_through

    find = partial(load, batch=batch, screen=screen, given=given)
    if not targets:
        asked = bool(given.layout) or any(value is not None for value in ours.values())
        setting = Setting("gradcheck", given.layout, heads, rotary)
        which = layer, setting, semantics, extras, full, seed or 0
        find = partial(_own, which=which if asked else None)
    how = {"method": method, "tolerance": tol, "seed": seed or 0, "dtype": dtype}
    judge = partial(_prove, screen=screen, sizes=full, **how)
    described = " ".join(f"{axis}={size}" for axis, size in full.items())
    beside = ", ".join(name.replace("_", " ") for name in extras.given())
    described = ", ".join(filter(None, (described, semantics.described(), beside)))
    options_given = {**semantics.given(), **heads, **rotary, **_plain(extras)}
    examination = Examination(
        "gradcheck",
        find,
        judge,
        partial(_draw, described=described, look=screen.look),
        {"sizes": full, "options": options_given},
    )
    with screen.timed("checking"), streams.capped():
        texts, optional = listed(targets, screen)
        code = go_through(texts or ["attn"], examination, batch, screen, optional, where)
    if not targets and screen.verbose:
        from attncli.core import products

        screen.detail(f"blas: {products.told()}")
    ctx.exit(code)


# Of this module, so that they can be asked for elsewhere: of another machine, too.


def _prove(thing: Any, *, screen: Screen, **how: Any) -> Any:
    from attncli.checking.derivatives.proof import gradcheck as prove

    with screen.progress(f"checking {getattr(thing, 'name', 'attn')}") as progress:
        return prove(thing, progress=progress, **how)


def _draw(report: Any, *, described: str, look: Look) -> Any:
    from attncli.views.gradient_report import draw_gradients

    return draw_gradients(report, described, look)


def _own(text: str, *, which: tuple[Any, ...] | None) -> tuple[Any, ...]:
    """Give one of our operations, under the options that were given; None is all of them."""
    return (None if which is None else _target_of(*which),)


def _plain(extras: Extras) -> dict[str, Any]:
    """Give the arrays that options asked for as JSON has them."""
    import numpy as np

    return {
        name: [np.asarray(x).tolist() for x in given]
        if isinstance(given, tuple) and name == "segments"
        else given
        if isinstance(given, str)
        else np.asarray(given).tolist()
        for name, given in extras.given().items()
    }


def _target_of(
    layer: str | None,
    setting: Setting,
    semantics: Semantics,
    extras: Extras,
    sizes: dict[str, int],
    seed: int,
) -> Any:
    """Make a target of one of our operations, under the options that were given."""
    import numpy as np

    from attncli.checking.targets.operation_target import operation_target
    from attncli.operations import OPERATIONS
    from attncli.problems.beside import fitted
    from attncli.tensors import random_keep

    operation, layout = setting.applied(OPERATIONS[layer or "scaled-dot-product"])
    operation.require_options(semantics, extras)
    unwritten = {name: np.broadcast_to(0.0, shape) for name, shape in layout.shapes(sizes).items()}
    own = layout.read(unwritten)
    extras = fitted(extras, {"heads": 1, **operation.sizes(own)})
    if semantics.keep_prob is not None:
        keep = random_keep(operation.weights_shape(own), semantics.keep_prob, seed=seed)
        extras = extras._replace(keep=keep)
    return operation_target(operation, semantics, extras, layout)
