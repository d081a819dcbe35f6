"""What happens to a cluster while it runs, in words."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from distributed import Client, KilledWorker
from distributed.comm import CommClosedError

from attncli.cluster.cluster_settings import Needs
from attncli.errors import AttnError, AttnWarning, ClusterError, MemoryLimitError
from attncli.files.source import refused
from attncli.memory import readable


class Watch:
    """What a scheduler says of its workers, as it comes.

    Parameters
    ----------
    client : Client
    within : float
        The seconds for which no worker need take a task; then everything is given up.

    Attributes
    ----------
    lost : int
        How many went without having been asked to.
    over_memory : bool
        Whether one was ended because it took too much, or all wait until they take less.
    nobody : bool
        Whether there was none any more.
    """

    def __init__(self, client: Client, within: float) -> None:
        self._client, self._within = client, within
        self.lost, self.over_memory, self.nobody = 0, False, False
        client.subscribe_topic("all", self._changed)
        client.subscribe_topic("worker-restart-memory", self._took_too_much)
        client.loop.add_callback(self._look_after)

    def _changed(self, event: tuple[float, Any]) -> None:
        _, what = event
        self.lost += what.get("action") == "remove-worker" and not what["expected"]

    def _took_too_much(self, event: tuple[float, Any]) -> None:
        self.over_memory = True

    async def _look_after(self) -> None:
        """Give everything up when it was seen three times that no worker takes a task."""
        idle = 0
        while idle < 3 and self._client.status != "closed":
            await asyncio.sleep(self._within / 3)
            with contextlib.suppress(OSError, AttributeError):  # it is being closed, or gone
                known = (await self._client.scheduler.identity(n_workers=-1))["workers"]
                idle = 0 if any(map(_takes_tasks, known.values())) else idle + 1
        if idle:
            self.nobody, self.over_memory = not known, bool(known)
            for future in self._client.futures.values():
                future.cancel(reason="no-workers")


def _takes_tasks(worker: dict[str, Any]) -> bool:
    """Whether it does, or is about one: when that is done there may be memory again."""
    about = worker["metrics"].get("task_counts", {})
    return worker["status"] != "paused" or bool(about.get("executing"))


@contextlib.contextmanager
def explained(watch: Watch, needed: Needs, *, resume: bool) -> Iterator[None]:
    """Say in our words why a run fails; what is a bug of ours stays as it is.

    Raises
    ------
    ClusterError, FileError, MemoryLimitError
    """
    try:
        yield
    except AttnError:
        raise
    except KilledWorker as error:
        raise _killed(error, watch, needed) from None
    except (asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError):
        if watch.over_memory:
            raise _too_little(needed) from None
        why = "no worker is left" if watch.nobody else "the scheduler is gone"
        raise ClusterError(why, hint="--resume" if resume else None) from None
    except MemoryError:
        raise _too_little(needed) from None
    except OSError as error:
        if error.errno is None:
            raise
        raise refused(error.filename or needed.output or "a worker", error) from None
    if watch.lost:
        what = "1 worker" if watch.lost == 1 else f"{watch.lost} workers"
        warnings.warn(f"{what} lost, the work is done again", AttnWarning, stacklevel=2)


def _killed(error: KilledWorker, watch: Watch, needed: Needs) -> AttnError:
    worker = error.last_worker
    if watch.over_memory:
        return _too_little(needed, worker.memory_limit)
    return ClusterError(
        f"{error.allowed_failures + 1} workers ended in the midst of the same task, the last "
        f"{worker.address}: killed, or out of memory",
        hint=needed.half,
    )


def _too_little(needed: Needs, limit: int | None = None) -> MemoryLimitError:
    there = f" ({readable(limit)})" if limit else ""
    return MemoryLimitError(f"a task needs more memory than a worker has{there}", hint=needed.half)
