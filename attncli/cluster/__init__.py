"""The same work on an existing engine, which runs it on other cores and machines.

Nothing of it is imported unless it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attncli.cluster.cluster_settings import Needs, Settings

if TYPE_CHECKING:
    from attncli.cluster.connecting import connect as connect
    from attncli.cluster.plan import Plan

__all__ = ["Needs", "Settings", "needs_of"]


def needs_of(plan: Plan, inputs: tuple[str, ...], output: str) -> Needs:
    """Return what a plan needs of every worker."""
    return Needs(plan.task_nbytes, plan.worker_nbytes, plan.block[0], inputs, output)
