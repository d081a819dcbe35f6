"""``attn forward``: run a layer and show its inputs, output and weights."""

import warnings
from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.errors import AttnWarning

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.files.reading import Reading


@options.command(
    "forward",
    "Run a layer on random tensors or your own.",
    example="""\
attn forward --N 3 --T 5 --H 4
attn forward sample_inputs/dates.npz -o run.npz
attn forward --hs-enc enc.npy --hs-dec dec.npy --json""",
)
@click.argument("file", required=False)
@options.layer_option
@options.dtype_option
@options.size_options
@options.seed_option
@options.part_options
@options.reading_options
@options.output_options
@options.full_option
@options.screen_options
def forward(
    file: str | None,
    layer: str | None,
    dtype: str | None,
    sizes: dict[str, int],
    seed: int | None,
    parts: dict[str, str],
    reading: "Reading",
    output: "Output",
    full: bool,
    screen: "Screen",
) -> None:
    """Run a layer forward, on random tensors or on those of FILE.

    FILE is an .npz, .npy or .safetensors file with the inputs of a layer (hs_enc and hs_dec; hs
    and h; …), a run file, or - for standard input. Shows the inputs, the output and the weights.
    """
    from attncli.cli.calculation import pose, publish

    output.check((file, *parts.values()), screen)
    with screen.timed("reading" if file or parts else "drawing"):
        problem = pose(file, parts, layer, sizes, seed or 0, dtype, reading)
    if problem.unused:
        screen.detail(f"not used: {', '.join(problem.unused)}")
    if seed is not None and not problem.is_random:
        message = f"--seed has no effect: nothing is random in {problem.origin}"
        warnings.warn(message, AttnWarning, stacklevel=1)
    with screen.timed("forward"):
        done = problem.forward()
    tensors = {**problem.inputs, **problem.masks, **done.results}
    publish("forward", problem, tensors, screen, output, main=done.operation.result, full=full)
