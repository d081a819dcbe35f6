"""The same work on an existing engine, which runs it on other cores and machines.

Nothing of it is imported unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attncli.cluster.cluster_settings import Needs, Settings

if TYPE_CHECKING:
    from attncli.cluster.dask_arrays import attention, attention_backward
    from attncli.cluster.jobs import Job
    from attncli.cluster.plan import Plan

__all__ = ["Needs", "Settings", "attention", "attention_backward", "map", "run"]

Item = TypeVar("Item")


def _nobody(plan: Plan, workers: int, moved: int) -> None:
    pass


def run(job: Job, settings: Settings, told: Callable[[Plan, int, int], None] = _nobody) -> None:
    """Compute a job on a cluster, and write what comes of it.

    `told` is called with the plan, how many workers there are, and how many bytes these have
    exchanged: before any work, and every few seconds.  Whoever is
    `attncli.core.progress.watching` is told how much is done, in products of a query and a key
    that it sees.

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

    run(job, settings, told)


def map(  # noqa: A001 (what it is called everywhere)
    function: Callable[[Item], Any],
    items: Sequence[Item],
    settings: Settings,
    resources: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call a function with each of some items that know nothing of each other, on all workers.

    Parameters
    ----------
    function : callable
        Of a module; it finds that module where the worker is.
    items : sequence
        What can be pickled.
    settings : Settings
    resources : mapping of str to float, optional
        What each call takes of what workers say that they have.

    Yields
    ------
    number : int
        Of the item, in the order in which they are done.
    result : object
    """
    from attncli.cluster.dask import each

    yield from each(function, items, settings, resources)


def __getattr__(name: str) -> Any:
    if name not in ("attention", "attention_backward"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from attncli.cluster import dask_arrays
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"attncli.cluster.{name} needs {error.name}: pip install 'attncli[cluster]'"
        ) from None
    return getattr(dask_arrays, name)
