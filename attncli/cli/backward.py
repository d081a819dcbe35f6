"""``attn backward``: run a layer forward and backward and show its gradients."""

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
    "backward",
    example="""\
attn backward --N 3 --T 5 --H 4
attn forward sample_inputs/dates.npz -o run.npz
attn backward run.npz --seed 1 -o gradients.npz""",
    first="--layer --dtype --causal --N --T --H --seed --dout -o --json",
)
@options.calculation_options
@cluster_options.run_options
@options.output_options
@options.equal_nan_option
@options.tensor_screen_options
def backward(
    request: Request, cluster: Cluster, output: Output, equal_nan: bool, screen: Screen
) -> None:
    """Run a layer forward, then backward, and show the gradients.

    FILE is as for attn forward. The incoming gradient dout is the file's, or random from the
    seed. The gradients are those of the number that dout and the output multiply and sum to.
    """
    if cluster.is_meant(request.execution.engine):
        from attncli.cli import on_cluster

        on_cluster.run("backward", request, output, screen, cluster)
        return
    from attncli.cli.posing import leave, pose
    from attncli.views.run_report import draw_run, run_as_json

    output.check(request.files, screen)
    unseen = screen.quiet and not (output.is_wanted or screen.as_json)
    problem = pose(request, screen, needs_dout=True, unseen=unseen)
    with screen.calculating("forward"):
        run = problem.forward()
    screen.detail(run.told)
    screen.note(run.lost)
    with screen.calculating("backward"):
        run = run.backward()
    if output.is_wanted:
        output.write(run.arrays(), screen)
    agreements = run.compare_claims(equal_nan=equal_nan)
    if screen.as_json and not output.is_stdout:
        screen.show_json(run_as_json(run, agreements))
    elif not (output.is_stdout or screen.quiet):
        screen.show(draw_run(run, agreements, screen.look))
    leave(agreements, problem.operation, request, screen, said=not output.is_stdout)
