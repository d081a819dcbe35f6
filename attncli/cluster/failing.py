"""What happens to a cluster while it runs, in words."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from typing import Any

from distributed import Client, KilledWorker
from distributed.comm import CommClosedError

from attncli.cluster.cluster_settings import Needs
from attncli.errors import AttnError, AttnWarning, ClusterError, MemoryLimitError
from attncli.files.source import refused
from attncli.memory import readable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOBODY = "no-workers"


class Watch:
    """What a scheduler says of its workers, as it comes.

    Parameters
    ----------
    client : Client
    within : float
        The seconds for which there may be no worker at all; then everything is given up.

    Attributes
    ----------
    workers : set of str
        The addresses of those that are there.
    lost : int
        How many went without having been asked to.
    over_memory : set of str
        Those that were ended because they took too much.
    nobody : bool
        Whether it was given up.
    """

    def __init__(self, client: Client, within: float) -> None:
        self._client, self._within = client, within
        self.lost, self.over_memory, self.nobody = 0, set[str](), False
        self.workers = set(client.nthreads())
        client.subscribe_topic("all", self._changed)
        client.subscribe_topic("worker-restart-memory", self._took_too_much)

    def _changed(self, event: tuple[float, Any]) -> None:
        _, what = event
        if what.get("action") == "add-worker":
            self.workers.add(what["worker"])
        elif what.get("action") == "remove-worker":
            self.workers.discard(what["worker"])
            self.lost += not what["expected"]
            if not self.workers:
                asyncio.get_running_loop().call_later(self._within, self._give_up)

    def _took_too_much(self, event: tuple[float, Any]) -> None:
        self.over_memory.add(event[1]["worker"])

    def _give_up(self) -> None:
        if not self.workers:
            self.nobody = True
            for future in self._client.futures.values():
                future.cancel(reason=_NOBODY)


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
        why = "no worker is left" if watch.nobody else "the scheduler is gone"
        raise ClusterError(why, hint="--resume" if resume else None) from None
    except MemoryError:
        raise MemoryLimitError(
            "a task needs more memory than a worker has", hint=needed.half
        ) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise refused(str(needed.output), OSError(os.strerror(error.errno))) from None
    if watch.lost:
        what = "1 worker" if watch.lost == 1 else f"{watch.lost} workers"
        warnings.warn(f"{what} lost, the work is done again", AttnWarning, stacklevel=2)


def _killed(error: KilledWorker, watch: Watch, needed: Needs) -> AttnError:
    times = error.allowed_failures + 1
    worker = error.last_worker
    if watch.over_memory:
        limit = f" ({readable(worker.memory_limit)})" if worker.memory_limit else ""
        return MemoryLimitError(
            f"a task needs more memory than a worker has{limit}", hint=needed.half
        )
    return ClusterError(
        f"{times} workers ended in the midst of the same task, the last {worker.address}: killed, "
        "or out of memory",
        hint=needed.half,
    )
