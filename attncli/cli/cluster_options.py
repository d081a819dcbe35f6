"""The options of a cluster: which one, what is started where there is none, what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from attncli.cli import options
from attncli.errors import ContradictionError, ParameterError
from attncli.files.source import free

if TYPE_CHECKING:
    from attncli.cluster import Settings

_EXTRA = ("distributed", "zarr")
_cluster = partial(options.option, group="On a cluster")


@dataclass(frozen=True)
class Cluster:
    """What the command line says of a cluster.

    Attributes
    ----------
    stated : dict of str to object
        Fields of `Settings`, as far as they were given.
    dry_run : bool
        Whether only the plan is asked for.
    engine : str or None
        Of commands that have no other engine than a cluster, where it was asked for.
    """

    stated: dict[str, Any]
    dry_run: bool = False
    engine: str | None = None

    @property
    def settings(self) -> Settings:
        """The same for who connects; loaded only where somebody does."""
        from attncli.cluster import Settings

        return Settings(**self.stated)

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, and their values."""
        named = {f"--{name.replace('_', '-')}": value for name, value in self.stated.items()}
        return {**named, **({"--dry-run": True} if self.dry_run else {})}

    def is_meant(self, engine: str | None) -> bool:
        """Tell whether the work is for a cluster: by the engine that was asked for, or a scheduler.

        Raises
        ------
        ParameterError
            If there are options for one, and it is not; or two that contradict each other.
        """
        if engine != "dask" and self.given:
            if engine not in (None, "auto") or "--scheduler" not in self.given:
                option, given = next(iter(self.given)), click.get_current_context().params
                keeps_none = not self.dry_run and given.get("output", "") is None
                self.require_extra(f"{option} is of --engine dask, which")
                raise ParameterError(
                    f"{option} has no meaning without --engine dask",
                    hint="--engine dask" + f" -o {free('out.zarr')}" * keeps_none,
                )
        elif engine != "dask":
            return False
        if not self.dry_run:
            for option in ("--workers", "--worker-memory"):
                if option in self.given and "--scheduler" in self.given:
                    raise ContradictionError(
                        f"{option} is of a cluster that is started here, --scheduler of one that "
                        "has its workers",
                        "--scheduler",
                        hint="--engine dask",
                    )
        return True

    def settings_if_meant(self) -> Settings | None:
        """Give the settings where many pieces of work are for a cluster.

        Raises
        ------
        ParameterError
            As `is_meant` and `require_extra` do.
        """
        if not self.is_meant(self.engine):
            return None
        source = click.get_current_context().get_parameter_source("jobs")
        if source is ParameterSource.COMMANDLINE:
            raise ContradictionError(
                "--jobs is how many are judged here at a time; with --engine dask every worker "
                "judges one",
                "--jobs",
            )
        self.require_extra()
        return self.settings

    @staticmethod
    def require_extra(what: str = "--engine dask") -> None:
        """Raise unless what a cluster needs is installed.

        Raises
        ------
        ParameterError
        """
        missing = [name for name in _EXTRA if find_spec(name) is None]
        if missing:
            raise ParameterError(
                f"{what} needs {' and '.join(missing)}",
                hint="pip install 'attncli[cluster]'",
            )


def _asked(*, dry_run: bool = False, engine: str | None = None, **values: Any) -> Cluster:
    return Cluster({name: x for name, x in values.items() if x is not None}, dry_run, engine)


_SIZE = options.Size()
_WHERE = (
    _cluster(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on the cluster of this scheduler: HOST:PORT, tcp://… or tls://…, or its file. "
        " [default: DASK_SCHEDULER_ADDRESS, else workers started here]",
    ),
    _cluster(
        "--workers",
        type=click.IntRange(min=1),
        help="Start so many processes here.  [default: one a core]",
    ),
    _cluster(
        "--worker-memory",
        type=_SIZE,
        metavar="SIZE",
        help="What each of these may take, as 2GB.  [default: what is free, divided]",
    ),
    _cluster("--tls-ca", metavar="FILE", help="Whom to trust behind tls://, as Dask has it."),
    _cluster("--tls-cert", metavar="FILE", help="Who we are, to the scheduler."),
    _cluster("--tls-key", metavar="FILE", help="The key to that."),
)

run_options = options.Bundle(
    "cluster",
    _asked,
    *_WHERE,
    _cluster(
        "--scratch",
        metavar="FOLDER",
        help="For what workers cannot hold, and random tensors.  [default: beside the output]",
    ),
    _cluster(
        "--block",
        type=click.IntRange(min=1),
        metavar="ROWS",
        help="Queries, and keys, that a task computes.  [default: 16384, or as fits]",
    ),
    _cluster("--resume", is_flag=True, default=None, help="Go on where a run was interrupted."),
    _cluster(
        "--dry-run",
        is_flag=True,
        help="Print the plan alone: tasks, bytes, memory, time.",
    ),
)
"""For one calculation, in blocks."""

grid_options = options.Bundle(
    "cluster",
    _asked,
    _cluster(
        "--engine",
        type=options.OneOf(["dask"]),
        help="Do it on a cluster, one piece of work at a time on each of its workers.",
    ),
    *_WHERE,
)
"""For many pieces of work that know nothing of each other."""
