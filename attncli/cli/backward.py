"""``attn backward``: run a layer forward and backward and show its gradients."""

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
    "backward",
    "Run a layer forward and backward: its gradients.",
    example="""\
attn backward --N 3 --T 5 --H 4
attn forward sample_inputs/dates.npz -o run.npz
attn backward run.npz --seed 1 -o gradients.npz""",
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
def backward(
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
    """Run a layer forward, then backward, and show the gradients.

    FILE is as for attn forward. The incoming gradient dout is the file's, or random from the
    seed. The gradients are those of the number that dout and the output multiply and sum to.
    """
    from attncli.cli.calculation import pose, publish

    output.check((file, *parts.values()), screen)
    with screen.timed("reading" if file or parts else "drawing"):
        problem = pose(file, parts, layer, sizes, seed or 0, dtype, reading)
    if problem.unused:
        screen.detail(f"not used: {', '.join(problem.unused)}")
    if seed is not None and not problem.is_random and problem.dout is not None:
        message = f"--seed has no effect: nothing is random in {problem.origin}"
        warnings.warn(message, AttnWarning, stacklevel=1)
    with screen.timed("forward"):
        done = problem.forward()
    dout = problem.gradient_in(done)
    with screen.timed("backward"):
        gradients = done.backward(dout)
    tensors = {**problem.inputs, **problem.masks, **done.results, "dout": dout, **gradients}
    shown = ("dout", *gradients)
    publish("backward", problem, tensors, screen, output, shown=shown, full=full)
