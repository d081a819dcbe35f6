"""Reaching a scheduler, or starting one here, and holding what is there against what is needed.

All that can go wrong is said before any work: as bare Dask does it, a port that says nothing is
waited for without end, and so is a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from ipaddress import ip_address
from multiprocessing import resource_tracker
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dask.config
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security
from distributed.comm import CommClosedError
from distributed.comm import connect as comm_connect
from distributed.comm.core import FatalCommClosedError
from distributed.utils import LoopRunner

from attncli.cluster.cluster_settings import Needs, Settings
from attncli.cluster.failing import Watch, explained
from attncli.cluster.on_worker import SILENT, report, silence, stamp, versions
from attncli.errors import AttnWarning, ClusterError, FileError, MemoryLimitError
from attncli.files.source import refused
from attncli.memory import available_memory, readable

PORT = 8786
_FORMS = "tcp://HOST:PORT, tls://, ws:// or wss://, or the scheduler's file"
_ENCRYPTED = {"tcp": False, "ws": False, "tls": True, "wss": True}
_DIGITS = {"attncli": 9, "numpy": 2, "zarr": 2, "python": 2, "distributed": 9, "dask": 9}
_PATIENCE = 10  # seconds
_FOR_US = 1_000_000_000  # bytes of the machine that workers leave to everything else
_CONFIGURATION = {
    "distributed.worker.preload": ["attncli.cluster.on_worker"],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": 0.6,
    "distributed.worker.memory.spill": 0.7,
    "distributed.worker.memory.pause": 0.8,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.comm.timeouts.tcp": "30s",
    # Watching themselves costs each process one or two parts of a core in a hundred.
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.tick.cycle": "5s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 32 << 20,
}


class Address(NamedTuple):
    """Where a scheduler listens.

    Attributes
    ----------
    scheme, host : str
    port : int
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parsed(text: str, *, encrypted: bool = False) -> Address:
    """Read the address of a scheduler, or the file that it wrote it into.

    Raises
    ------
    ClusterError, FileError

    Examples
    --------
    >>> str(parsed("node7")), str(parsed("tls://[::1]:9000"))
    ('tcp://node7:8786', 'tls://[::1]:9000')
    """
    if "://" not in text and (os.path.exists(text) or "/" in text or text.endswith(".json")):
        return parsed(_in_file(text), encrypted=encrypted)
    whole = text if "://" in text else f"{'tls' if encrypted else 'tcp'}://{text}"
    try:
        found = urlsplit(whole)
        address = Address(found.scheme, found.hostname or "", found.port or PORT)
    except ValueError:
        address = Address("", "", 0)
    if address.scheme not in _ENCRYPTED or not address.host or found.path.strip("/"):
        raise ClusterError(f"--scheduler {text}: no address, expected {_FORMS}")
    if encrypted and not _ENCRYPTED[address.scheme]:
        secure = str(address._replace(scheme="tls"))
        raise ClusterError(f"{text} has no use for --tls-ca", hint=f"--scheduler {secure}")
    return address


def _in_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)["address"]
    except OSError as error:
        raise refused(f"--scheduler {path}", error) from None
    except (ValueError, LookupError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str) or "://" not in found:
        raise FileError(
            f"--scheduler {path}: is not the file of a scheduler",
            hint=f"dask scheduler --scheduler-file {path}",
        )
    return found


@contextlib.contextmanager
def connect(
    settings: Settings, needs: Callable[[int], Needs] = lambda threads: Needs()
) -> Iterator[Client]:
    """Be the client of a cluster that is there or started here, ready for what is needed.

    Parameters
    ----------
    settings : Settings
    needs : callable
        Told how many tasks can run at once, what a run needs of every worker.

    Yields
    ------
    Client

    Raises
    ------
    ClusterError, FileError, MemoryLimitError
        If it cannot be reached, does not suit, or fails on the way.
    """
    text = settings.address
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silent())
        stack.enter_context(dask.config.set(_CONFIGURATION))
        runner = stack.enter_context(_loop())
        if text is None:
            needed, cluster = stack.enter_context(_started(settings, needs, runner.loop))
            client = stack.enter_context(_client(cluster, settings, runner.loop))
        else:
            security = _security(settings)
            address = parsed(text, encrypted=settings.tls_ca is not None)
            _probe(address, security, settings, runner)
            client = stack.enter_context(_client(str(address), settings, runner.loop, security))
            _wait_for_a_worker(client, address, settings)
            threads = sum(client.nthreads().values())
            needed = needs(threads)
            _suits(client, needed)
        watch = Watch(client, settings.workers_within)
        with explained(watch, needed, resume=settings.resume):
            yield client


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    before = silence()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # what is left in cycles complains when it is taken away
        for logger, level in before.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _loop() -> Iterator[LoopRunner]:
    """Run the loop in which everything of Dask's happens.

    Its thread is one that no Ctrl-C reaches, nor the end of a terminal, and so are the processes
    that it starts, from the first moment on: we end them.
    """
    runner = LoopRunner()
    unheard = [signal.SIGINT, signal.SIGHUP]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, unheard)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, unheard)  # that let Ctrl-C through again
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner
    finally:
        runner.stop()


@contextlib.contextmanager
def _client(where: Any, settings: Settings, loop: Any, security: Any = None) -> Iterator[Client]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions is said below what matters
        client = Client(
            where, loop=loop, security=security, set_as_default=False,
            timeout=settings.answer_within, name="attn",
        )  # fmt: skip
    try:
        yield client
    finally:
        with contextlib.suppress(TimeoutError):
            client.close()


@contextlib.contextmanager
def _started(
    settings: Settings, needs: Callable[[int], Needs], loop: Any
) -> Iterator[tuple[Needs, LocalCluster]]:
    """Start a scheduler, and processes of one thread each, that only this machine can reach."""
    workers, memory, needed = divided(settings, needs)
    beside = settings.scratch or (
        _folder(needed.output) if needed.output else tempfile.gettempdir()
    )
    with contextlib.ExitStack() as stack:
        for name in dask.config.get("distributed.nanny.pre-spawn-environ"):
            stack.callback(_restore, name, os.environ.get(name))  # the workers' is set in ours
        # Who refuses here is gone, and does not have to be tried for half a minute.
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": "5s"}))
        try:
            scratch = stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix=".attn-scratch-", dir=beside, ignore_cleanup_errors=True
                )
            )
        except OSError as error:
            raise refused(f"--scratch {beside}", error) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cluster = LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1",
                dashboard_address="127.0.0.1:0", memory_limit=memory or "auto",
                local_directory=scratch, silence_logs=SILENT, loop=loop, asynchronous=True,
            )  # fmt: skip
        begun = _begin(loop, cluster)
        try:
            begun.result()
            yield needed, cluster
        except BaseException:
            # What is about to start can be ended only once it has; who interrupts twice has left.
            with contextlib.suppress(Exception):
                begun.result(_PATIENCE)
            for nanny in cluster.workers.values():  # nobody waits for what they are about
                nanny.auto_restart = False
                if nanny.process is not None and nanny.process.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(nanny.process.pid, signal.SIGKILL)
            raise
        finally:
            cluster.close()


def _begin(loop: Any, work: Awaitable[Any]) -> Future[Any]:
    """Let something be done in the loop."""

    async def done() -> Any:
        return await work

    return asyncio.run_coroutine_threadsafe(done(), loop.asyncio_loop)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def divided(settings: Settings, needs: Callable[[int], Needs]) -> tuple[int, int | None, Needs]:
    """Say how many workers there are to be, and how much memory each has."""
    free = available_memory()
    usable = None if free is None else max(free - _FOR_US, free // 2)
    workers = settings.workers or CPU_COUNT
    while True:
        needed = needs(workers)
        least = needed.worker + needed.task
        memory = settings.worker_memory or (None if usable is None else usable // workers)
        if memory is None or memory >= least:
            break
        if settings.worker_memory is not None:
            raise MemoryLimitError(
                f"--worker-memory {readable(memory)}: a worker needs {readable(least)}",
                hint=needed.within(memory) or f"--worker-memory {-(-least // 10**6)}MB",
            )
        fit = (usable or 0) // least
        if settings.workers is not None or not fit:
            there = f"{readable(usable or 0)} for {workers}"
            raise MemoryLimitError(
                f"a worker needs {readable(least)}, there is {there}",
                hint=f"--workers {fit}" if fit else needed.within(usable or 0),
            )
        workers = min(workers - 1, fit)
    return workers, memory, needed


def _security(settings: Settings) -> Security:
    files = {
        "tls_ca_file": settings.tls_ca,
        "tls_client_cert": settings.tls_cert,
        "tls_client_key": settings.tls_key,
    }
    given = {name: path for name, path in files.items() if path is not None}
    for path in given.values():
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise refused(path, error) from None
    return Security(**given)


def _probe(address: Address, security: Security, settings: Settings, runner: LoopRunner) -> None:
    """Find out who listens before a client does, which would wait for as long as nothing is said.

    Raises
    ------
    ClusterError
        If it is no scheduler, or says nothing in time.
    """
    try:
        context = security.get_connection_args("client")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise ClusterError(f"--tls-ca, --tls-cert, --tls-key: {reason.lower()}") from None
    if _ENCRYPTED[address.scheme] and context["ssl_context"] is None:
        raise ClusterError(
            f"{address} asks for certificates",
            hint="--tls-ca CA.pem --tls-cert CERTIFICATE.pem --tls-key KEY.pem",
        )
    asked = _begin(runner.loop, _identity(address, context, settings.answer_within))
    found, local = asked.result()
    if found["type"] != "Scheduler":
        raise ClusterError(
            f"{address} is a Dask {found['type'].lower()}, not a scheduler",
            hint=f"--scheduler {found['scheduler']}" if "scheduler" in found else None,
        )
    if not local and not _ENCRYPTED[address.scheme]:
        warnings.warn(
            f"{address} is neither encrypted nor asks who one is: whoever reaches it can run "
            "what they like there, and see what is computed",
            AttnWarning,
            stacklevel=4,
        )


async def _identity(
    address: Address, context: dict[str, Any], seconds: float
) -> tuple[dict[str, Any], bool]:
    """Ask who it is; say whether only this machine can."""
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            connection = await asyncio.to_thread(
                socket.create_connection, (address.host, address.port), seconds
            )
    except TimeoutError:
        raise _nobody(address, f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise _nobody(address, error.strerror.lower() if error.strerror else str(error)) from None
    with connection:
        local = ip_address(connection.getpeername()[0].split("%")[0]).is_loopback
    comm: Any = None
    try:
        async with asyncio.timeout_at(deadline):
            comm = await comm_connect(str(address), timeout=seconds, **context)
            await comm.write({"op": "identity", "reply": True})
            found: dict[str, Any] = await comm.read()
            found["type"]
    except Exception as error:
        raise _no_scheduler(address, error) from None
    finally:
        if comm is not None:
            comm.abort()
    return found, local


def _nobody(address: Address, why: str) -> ClusterError:
    here = address.host in ("localhost", "127.0.0.1", "::1")
    return ClusterError(
        f"no scheduler at {address} ({why})",
        hint=f"dask scheduler --port {address.port}" if here else None,
    )


def _no_scheduler(address: Address, error: Exception) -> ClusterError:
    """Say what it is that answers, as far as what it says tells."""
    cause, secure = error.__cause__, _ENCRYPTED[address.scheme]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ClusterError(
            f"{address} is not known to --tls-ca ({cause.verify_message})",
            hint="--tls-ca CA.pem, with which its own certificate is signed",
        )
    no_tls = isinstance(error, FatalCommClosedError) and isinstance(cause, ssl.SSLError)
    if secure and isinstance(error, CommClosedError) and not no_tls:  # it hung up, seeing us
        return ClusterError(
            f"{address} does not know us by --tls-cert",
            hint="--tls-cert CERTIFICATE.pem, signed with what it has as its --tls-ca-file",
        )
    asides, other = [], address
    if isinstance(error, TimeoutError):
        asides.append("nothing was said in time")
    if no_tls:
        other = address._replace(scheme={"tls": "tcp", "wss": "ws"}[address.scheme])
        asides.append("and has no TLS")
    elif isinstance(cause, ConnectionResetError):
        other = address._replace(scheme="tls")
        asides.append("it may ask for TLS")
    elif address.port != PORT:
        other = address._replace(port=PORT)
        asides.append("the dashboard's port?")
    aside = f" ({'; '.join(asides)})" if asides else ""
    return ClusterError(
        f"{address} answers, but is not a Dask scheduler{aside}",
        hint=f"--scheduler {other}" if other != address else None,
    )


def _wait_for_a_worker(client: Client, address: Address, settings: Settings) -> None:
    try:
        client.wait_for_workers(1, settings.workers_within)
    except TimeoutError:
        raise ClusterError(
            f"{address} has no worker after {settings.workers_within:g} s",
            hint=f"dask worker {address} --nthreads 1 starts one",
        ) from None


def _suits(client: Client, needed: Needs) -> None:
    """Ask the scheduler and every worker what they have, and hold it against what is needed.

    Raises
    ------
    ClusterError, FileError, MemoryLimitError
    """
    with contextlib.ExitStack() as stack:
        marker = None
        if needed.output is not None:
            folder = _folder(needed.output)
            try:
                mark = stack.enter_context(tempfile.NamedTemporaryFile(prefix=".attn-", dir=folder))
            except OSError as error:
                raise refused(f"{needed.output}: cannot be written", error) from None
            marker = mark.name
        inputs = tuple(map(os.path.abspath, needed.inputs))
        scheduler = client.scheduler.address
        about: Any
        try:
            about = {"versions": client.run_on_scheduler(versions)}
        except Exception as error:
            about = error
        found = client.run(report, inputs, marker, on_error="return")
    files = (*inputs, needed.output or "")
    _alike({scheduler: about} | found, zarr=any(".zarr" in path for path in files))
    _see({path: stamp(path) for path in inputs}, needed.output, found)
    _have_room(needed, found)
    own = [at for at, one in found.items() if one["cores"] > 1 and "1" not in one["blas"]]
    if own:
        warnings.warn(
            f"BLAS starts threads of its own on {_several(own)}, in each other's way: start "
            "workers with OMP_NUM_THREADS=1",
            AttnWarning,
            stacklevel=2,
        )


def _alike(found: dict[str, Any], *, zarr: bool) -> None:
    """Hold versions against ours: of what results hang on exactly, of the rest with a warning."""
    # Of an exception that crosses a scheduler its text is left.
    without = [at for at, one in found.items() if "No module named" in str(one)]
    ours = versions()
    install = f"pip install 'attncli[cluster]=={ours['attncli']}'"
    if without:
        raise ClusterError(
            f"attncli is not installed on {_several(without)}", hint=f"{install} there"
        )
    for error in found.values():
        if isinstance(error, BaseException):
            raise error
    differing: dict[str, list[str]] = {}
    for name, digits in _DIGITS.items():
        there: dict[str, list[str]] = {}
        for at, one in found.items():
            if one["versions"][name].split(".")[:digits] != ours[name].split(".")[:digits]:
                there.setdefault(one["versions"][name], []).append(at)
        differing[name] = [f"{version} on {_several(at)}" for version, at in there.items()]
    tables = {
        name: f"{name} {ours[name]} here, {', '.join(there)}"
        for name, there in differing.items()
        if there
    }
    needed = {"attncli", "numpy"} | ({"zarr"} if zarr else set())
    wrong = [name for name in sorted(needed) if name in tables]
    if wrong:
        others = "".join(f" {name}=={ours[name]}" for name in wrong if name != "attncli")
        raise ClusterError(
            f"versions differ: {'; '.join(tables[name] for name in wrong)}",
            hint=f"{install}{others} there",
        )
    if other := [tables[name] for name in sorted(tables) if name != "zarr"]:
        warnings.warn(f"versions differ: {'; '.join(other)}", AttnWarning, stacklevel=3)


def _see(stamps: dict[str, tuple[int, int]], output: str | None, found: dict[str, Any]) -> None:
    """Hold what workers see of files against what is seen here."""
    shared = "put it into a folder that every machine sees"
    for path, ours in stamps.items():
        missing = {at: one["inputs"][path] for at, one in found.items()}
        for at, theirs in missing.items():
            if isinstance(theirs, str):
                raise FileError(f"{path}: cannot be read on {at} ({theirs})", hint=shared)
            if theirs != ours:
                raise FileError(f"{path}: is another file on {at}", hint=shared)
    for at, one in found.items():
        if one["writing"] is not None:
            raise FileError(f"{output}: cannot be written on {at} ({one['writing']})", hint=shared)


def _have_room(needed: Needs, found: dict[str, Any]) -> None:
    """Hold the memory of each worker, and of what runs on one machine, against what is needed."""
    machines: dict[str, list[str]] = {}
    for at, one in found.items():
        least = needed.worker + needed.task * one["threads"]
        if one["limit"] and one["limit"] < least:
            raise MemoryLimitError(
                f"{at} has {readable(one['limit'])} of memory, {_tasks(one['threads'])} "
                f"{readable(least)}",
                hint=needed.within(one["limit"], one["threads"]),
            )
        machines.setdefault(one["machine"], []).append(at)
    for machine, workers in machines.items():
        threads = sum(found[at]["threads"] for at in workers)
        free = min((found[at]["free"] for at in workers if found[at]["free"]), default=None)
        if free is not None and free < needed.task * threads:
            raise MemoryLimitError(
                f"{machine} has {readable(free)} of memory free, {_tasks(threads)} "
                f"{readable(needed.task * threads)}",
                hint=needed.within(needed.worker + free, threads),
            )


def _tasks(count: int) -> str:
    return "a task needs" if count == 1 else f"its {count} tasks at once need"


def _several(addresses: list[str]) -> str:
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return f"{addresses[0]}{more}"


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
