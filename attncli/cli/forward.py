"""``attn forward``: run a layer and show its inputs, output and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attncli.cli import options

if TYPE_CHECKING:
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.problems.request import Request


@options.command(
    "forward",
    example="""\
attn forward --N 3 --T 5 --H 4
attn forward sample_inputs/dates.npz -o run.npz
attn forward sample_inputs/minilm_qkv.npz --causal
attn forward --hs-enc enc.npy --hs-dec dec.npy --json""",
)
@options.calculation_options
@options.output_options
@options.full_option
@options.equal_nan_option
@options.screen_options
def forward(
    request: Request,
    output: Output,
    full: bool,
    equal_nan: bool,
    screen: Screen,
) -> None:
    """Run a layer forward, on random tensors or on those of FILE.

    FILE is an .npz, .npy or .safetensors file with the inputs of a layer (hs_enc and hs_dec;
    query, key and value; hs and h; …), a run file, or - for standard input. Shows the inputs, the
    output and the weights; an output or weights in FILE are compared with ours.
    """
    from attncli.cli.calculation import describe_engine, pose, publish, warn_of_idle_seed

    output.check(request.files, screen)
    problem = pose(request, screen)
    warn_of_idle_seed(problem, drawn=request.is_random)
    result = problem.operation.result
    filling = output.filling(result, *problem.describe_result(), screen)
    with filling as place, screen.calculating("forward"):
        done = problem.forward(place)
    describe_engine(problem, done, screen)
    publish(
        "forward",
        problem,
        done,
        screen,
        output,
        full=full,
        equal_nan=equal_nan,
        written=place is not None,
    )
