"""The same work on an existing engine, which runs it on other cores and machines.

Nothing of it is imported unless it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attncli.cluster.cluster_settings import Needs, Settings

if TYPE_CHECKING:
    from attncli.cluster.jobs import Job

__all__ = ["Needs", "Settings", "run"]


def run(job: Job, settings: Settings) -> None:
    """Compute a job on a cluster, and write what comes of it.

    Whoever is `attncli.core.progress.watching` is told how many of the pairs of a query and a key
    are done, forward and backward together.

    Raises
    ------
    AttnError
        If the cluster cannot be reached, does not suit or fails; or the files.

    Warns
    -----
    AttnWarning
        If queries see no key, or numbers are not finite.
    """
    from attncli.cluster.dask import run

    run(job, settings)
