"""``attn forward``: run a layer and show its inputs, output and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attncli.cli import cluster_options, options
from attncli.cli.help_pages import command

if TYPE_CHECKING:
    from attncli.cli.cluster_options import Cluster
    from attncli.cli.output import Output
    from attncli.cli.screen import Screen
    from attncli.problems.request import Request


@command(
    "forward",
    example="""\
attn forward --N 3 --T 5 --H 4
attn forward sample_inputs/dates.npz -o run.npz
attn forward sample_inputs/minilm_qkv.npz --json""",
    first="--layer --dtype --causal --N --T --H --seed -o --json",
)
@options.calculation_options
@cluster_options.run_options
@options.output_options
@options.equal_nan_option
@options.tensor_screen_options
def forward(
    request: Request, cluster: Cluster, output: Output, equal_nan: bool, screen: Screen
) -> None:
    """Run a layer forward, on random tensors or on those of FILE.

    FILE is an .npz, .npy, .safetensors, .zarr, .json or .csv file with the inputs of a layer
    (hs_enc and hs_dec; query, key and value; hs and h; …), a run file, or - for standard input.
    Results that it brings along (output, weights, lse) are compared with ours: exits with 1 if one
    differs.
    """
    if cluster.is_meant(request.execution.engine):
        from attncli.cli import on_cluster

        on_cluster.run("forward", request, output, screen, cluster)
        return
    from attncli.cli.posing import leave, pose
    from attncli.views.run_report import draw_run, run_as_json

    output.check(request.files, screen)
    unseen = screen.quiet and not (output.is_wanted or screen.as_json)
    problem = pose(request, screen, unseen=unseen)
    with output.filling(*problem.described_result, screen) as place, screen.calculating("forward"):
        run = problem.forward(place)
    screen.detail(run.told)
    screen.note(run.lost)
    if output.is_wanted and place is None:
        output.write(run.arrays(), screen, main=problem.operation.result)
    agreements = run.compare_claims(equal_nan=equal_nan)
    if screen.as_json and not output.is_stdout:
        screen.show_json(run_as_json(run, agreements))
    elif not (output.is_stdout or screen.quiet):
        screen.show(draw_run(run, agreements, screen.look))
    leave(agreements, problem.operation, request, screen, said=not output.is_stdout)
