"""What is said of a cluster, and what a run needs of it: plain data, nothing imported."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

ENVIRONMENT = "DASK_SCHEDULER_ADDRESS"


@dataclass(frozen=True)
class Settings:
    """Which cluster, and what is to be started where none is there.

    Attributes
    ----------
    scheduler : str or None
        An address, ``tcp://HOST:PORT`` and its like, or the scheduler's file; None is a cluster on
        this machine, unless the environment names a scheduler.
    workers : int or None
        The processes of a cluster on this machine; None is one a core.
    worker_memory : int or None
        The bytes that each of these may take; None divides what is free.
    scratch : str or None
        The folder where workers put what they cannot hold; None is beside the output.
    tls_ca, tls_cert, tls_key : str or None
        The files by which the scheduler is known, and by which it knows us; None leaves each to
        the configuration that Dask has.
    block : int or None
        The query rows, and keys, of a part; None leaves it to the plan.
    resume : bool
        Keep what an interrupted run has done, and go on from there.
    answer_within, workers_within : float
        The seconds that a scheduler is given to answer, and its workers to be there.

    Examples
    --------
    >>> Settings(workers=2).address, Settings(scheduler="tcp://here:8786").address
    (None, 'tcp://here:8786')
    """

    scheduler: str | None = None
    workers: int | None = None
    worker_memory: int | None = None
    scratch: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    block: int | None = None
    resume: bool = False
    answer_within: float = field(default=10.0, kw_only=True)
    workers_within: float = field(default=30.0, kw_only=True)

    @property
    def address(self) -> str | None:
        """The scheduler that is asked for, None for a cluster on this machine.

        What is said of workers to be started here is more than the environment.
        """
        if self.scheduler is not None:
            return self.scheduler
        local = self.workers is not None or self.worker_memory is not None
        return None if local else os.environ.get(ENVIRONMENT) or None


@dataclass(frozen=True)
class Needs:
    """What a run needs of every worker.

    Attributes
    ----------
    task : int
        The bytes that a task takes, of which a worker runs as many at once as it has threads.
    worker : int
        The bytes that a worker takes beside.
    block : int or None
        The rows of a part: half as many need half the memory.
    inputs : tuple of str
        Files that a worker has to see as they are seen here.
    output : str or None
        What is written, in whose folder a worker has to be able to write.
    """

    task: int = 0
    worker: int = 0
    block: int | None = None
    inputs: tuple[str, ...] = ()
    output: str | None = None

    @property
    def half(self) -> str | None:
        """The option that lets a task need less.

        Examples
        --------
        >>> Needs(block=8192).half
        '--block 4096'
        """
        return f"--block {self.block // 2}" if self.block and self.block > 1 else None

    def within(self, memory: int, tasks: int = 1) -> str | None:
        """Give the option with which so many tasks at once fit, if there is one.

        Examples
        --------
        >>> Needs(task=8000, worker=100, block=64).within(2100)
        '--block 16'
        """
        block = self.block or 1
        while block > 1 and self.worker + tasks * self.task * block // (self.block or 1) > memory:
            block //= 2
        return f"--block {block}" if block > 1 else None
