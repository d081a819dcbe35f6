"""Processes of their own for work that must not touch ours: started, fed, limited, capped, ended.

Every one of them is at the other end of a socket by which messages go to and fro.  A `Process`
runs a module; a `ForkServer` runs one that is copied, once it has imported what it needs, for every
piece of work: a `Fork` begins in a few milliseconds, and knows nothing of what we have computed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, Self

from attncli.memory import read_system

_HEAD = struct.Struct(">II")  # the bytes of the JSON text, and of what follows it
_COMMAND = struct.Struct(">cI")
_ANSWER = struct.Struct(">q")
_CHUNK = 1 << 16
_LONGEST_TEXT = 1 << 24
_SHOWN = 8_000  # bytes of what is printed; the rest is dropped
_HUNG_UP = 120  # the exit code of a fork that can hear or be heard no more
_FILES = 1 << 16  # more than are open
_LEAVING = 0.5  # seconds that a process which hung up is given to end by itself
_TIDYING = 10.0  # and a server, to end what it started
_PATIENCE = 30.0  # seconds in which a server forks, or else is gone
_LOOKS = 0.25  # seconds after which is looked again at what a fork takes
_BESIDE = 1 << 30  # bytes that Python and what code loads take beside its own

# What comes of reading a message that nobody sent who knows what is expected.
_NONSENSE = ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError

Parts = Sequence[bytes | bytearray | memoryview]


class Limits(NamedTuple):
    """How much somebody's code may take.

    Attributes
    ----------
    seconds : float
        For being loaded, and for every call.
    memory : int
        Bytes, beside what Python and NumPy take.
    processes : int
        How many it may have at a time.
    """

    seconds: float = 20.0
    memory: int = 1_000_000_000
    processes: int = 500


class Channel:
    """Messages over a socket: a JSON object each, and bytes behind it.

    Parameters
    ----------
    connection : socket
    aside : Printed, optional
        What is read meanwhile, so that nobody waits for us to read it.
    look : callable, optional
        Is called from time to time while nothing comes; what it raises ends the waiting.

    Examples
    --------
    >>> here, there = map(Channel, socket.socketpair())
    >>> here.send({"say": "hello"}, [b"more"])
    >>> there.receive()
    ({'say': 'hello'}, [bytearray(b'more')])
    >>> here.close(), there.close()
    (None, None)
    """

    def __init__(
        self,
        connection: socket.socket,
        aside: Printed | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._socket, self._aside, self._look = connection, aside, look
        self._selector: selectors.BaseSelector | None = None
        connection.setblocking(aside is None)

    @classmethod
    def inherited(cls, number: str) -> Self:
        """The channel of a process that was started with this number as its first argument."""
        return cls(socket.socket(fileno=int(number)))

    def send(self, message: Any, parts: Parts = (), deadline: float | None = None) -> None:
        """Send a message.

        Raises
        ------
        EOFError
            If nobody is at the other end any more.
        TimeoutError
        """
        sizes = [len(part) for part in parts]
        text = json.dumps([message, sizes]).encode()
        left = memoryview(b"".join([_HEAD.pack(len(text), sum(sizes)), text, *parts]))
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                self._wait(selectors.EVENT_WRITE, deadline)
            except OSError as error:
                raise EOFError from error

    def receive(
        self, deadline: float | None = None, most: int = 1 << 31
    ) -> tuple[Any, list[bytearray]]:
        """Wait for a message, with no more than so many bytes behind it.

        Raises
        ------
        EOFError, TimeoutError
        ValueError
            If what comes is no message.
        """
        size, more = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if size > _LONGEST_TEXT or more > most:
            raise ValueError("too long")
        message, sizes = json.loads(self._read(size, deadline))
        if sum(sizes) != more or min(sizes, default=0) < 0:
            raise ValueError("sizes that are not there")
        return message, [self._read(size, deadline) for size in sizes]

    def _read(self, count: int, deadline: float | None) -> bytearray:
        found, done = bytearray(count), 0
        while done < count:
            try:
                got = self._socket.recv_into(memoryview(found)[done:])
            except BlockingIOError:
                self._wait(selectors.EVENT_READ, deadline)
                continue
            except OSError as error:
                raise EOFError from error
            if not got:
                raise EOFError
            done += got
        return found

    def _wait(self, event: int, deadline: float | None) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._socket, event)
            if self._aside is not None:
                self._selector.register(self._aside, selectors.EVENT_READ)
        self._selector.modify(self._socket, event)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            ready = [key.fileobj for key, _ in self._selector.select(min(left or _LOOKS, _LOOKS))]
            if not ready:
                self._look()
            if self._aside in ready and self._aside is not None and not self._aside.read():
                self._selector.unregister(self._aside)
            if self._socket in ready:
                return

    def close(self) -> None:
        """Hang up."""
        if self._selector is not None:
            self._selector.close()
        self._socket.close()


class Process:
    """A module run in a process of its own, whose ``main`` is called with a channel's number.

    Leaving its context ends it, whatever it is doing.

    Parameters
    ----------
    module : str
        Its ``main(number, *arguments)`` answers by ``Channel.inherited(number)``.
    arguments : object
        What it is given beside, as texts.
    environment : mapping of str to str, optional
        What its environment has beside ours.

    Examples
    --------
    >>> with Process("attncli.benchmarks.worker", "products", 1) as process:
    ...     process.ask(cell={"N": 1, "T": 3, "H": 2, "dtype": "float64", "causal": False})
    {'both': False}
    """

    def __init__(
        self, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self._socket, theirs = socket.socketpair()
        # It finds modules where we do, and not in whatever folder it is started in.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; "
            "main(*sys.argv[1:])"
        )
        with theirs:
            self.process: Any = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), *map(str, arguments)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | dict(environment or {}),
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
        self.channel = Channel(self._socket)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; ``{"failed": why}`` where none comes."""
        try:
            self.channel.send(request)
            answer: dict[str, Any] = self.channel.receive()[0]
        except EOFError:
            answer = {"failed": "its process died"}
        return answer

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.channel.close()


class Printed:
    """What a process prints, read as it comes; beyond 8 KB it is counted and dropped."""

    def __init__(self, number: int) -> None:
        self._number, self._kept = number, bytearray()
        self._room, self._dropped = _SHOWN, 0
        os.set_blocking(number, False)

    def fileno(self) -> int:
        """The number of its file."""
        return self._number

    def read(self) -> bool:
        """Read what is there; say whether there can be more."""
        with contextlib.suppress(BlockingIOError):
            while some := os.read(self._number, _CHUNK):
                kept = some[: self._room]
                self._kept += kept
                self._room -= len(kept)
                self._dropped += len(some) - len(kept)
            return False
        return True

    def take(self) -> str:
        """What was printed since this was asked last."""
        self.read()
        text = self._kept.decode("utf-8", "backslashreplace")
        text += f"\n({self._dropped:,} more bytes are not shown)\n" if self._dropped else ""
        self._kept, self._dropped = bytearray(), 0
        return text

    def close(self) -> None:
        """Read no more."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


class EndedError(Exception):
    """A process gives no answer any more; the message says why."""


class Fork:
    """A copy of a fork server, at work by itself; what it answers and prints is read here.

    Parameters
    ----------
    server : ForkServer
    limits : Limits
        Seen to here are how long an answer may take, and what it takes with all that it starts.
    """

    def __init__(self, server: ForkServer, limits: Limits) -> None:
        self._server, self._limits = server, limits
        reading, writing = os.pipe()
        self.printed = Printed(reading)
        ours, theirs = socket.socketpair()
        self._ended: EndedError | None = None
        with theirs:
            try:
                self._pid = server.command(b"f", files=[theirs.fileno(), writing])
            finally:
                os.close(writing)
        look = partial(_require_within, limits, self._pid)
        self._channel = Channel(ours, aside=self.printed, look=look)

    def ask(
        self,
        message: Any,
        parts: Parts = (),
        read: Callable[[Any, list[bytearray]], Any] = lambda told, given: (told, given),
    ) -> Any:
        """Send a message, wait for the answer, and give what `read` makes of it.

        Raises
        ------
        EndedError
            If there is none, now or before, or none that can be read: then it is ended.
        """
        if self._ended is not None:
            raise self._ended
        deadline = time.monotonic() + self._limits.seconds
        try:
            self._channel.send(message, parts, deadline)
            return read(*self._channel.receive(deadline, 2 * self._limits.memory))
        except TimeoutError:
            self.end(f"does not end within {self._limits.seconds:g} s")
        except EOFError:
            self.end()
        except EndedError as ended:
            self.end(str(ended))
        except (
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            ArithmeticError,
            RecursionError,
        ):
            self.end("writes into the channel that its results come by")
        assert self._ended is not None
        raise self._ended

    def end(self, why: str = "") -> None:
        """End it and everything that it started."""
        if self._ended is not None:
            return
        try:
            status = self._server.command(b"w" if not why else b"e", self._pid)
            why = why or _how_it_ended(status)
        except ChildProcessError:
            why = "ends the process that started it"
            _kill(self._pid, os.killpg)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)  # it may be ours by now
        self._ended = EndedError(why)
        self.printed.read()
        self._channel.close()

    def close(self) -> None:
        """End it, and let go of what it printed; the garbage collector may call this anywhere."""
        if self._ended is None:
            self._ended = EndedError("was ended")
            self._server.let_go(self._pid)
            self._channel.close()
        self.printed.close()


def _require_within(limits: Limits, pid: int) -> None:
    """Raise if a fork takes too much, all counted that it started: each has limits by itself."""
    family = {pid, *_descendants(pid)}
    if len(family) > limits.processes:
        raise EndedError(f"starts more than {limits.processes} processes")
    if sum(map(_memory, family)) > _BESIDE + limits.memory:
        raise EndedError("takes too much memory, with all that it started")


class ForkServer(Process):
    """A process that is copied for every piece of work; its module calls `serve_forks`.

    Parameters
    ----------
    work : str or callable
        A module, as of `Process`; or what a copy of this process, made at once, does with the
        channel of each of its forks.
    copied : bool
        Whether it is itself a copy of this process, which takes no time to begin: for one that has
        no other thread, and has computed nothing that should not be known there.
    """

    _lock = threading.Lock()
    gone = False

    def __init__(self, work: str | Callable[[Channel], None], *, copied: bool = False) -> None:
        self._let_go: list[int] = []
        if isinstance(work, str) and not copied:
            super().__init__(work)
            return
        main = partial(serve_forks, work=work) if callable(work) else import_module(work).main
        self._socket, theirs = socket.socketpair()
        with theirs:
            pid = os.fork()
            if pid == 0:
                self._socket.close()
                _leave(main, theirs)
        self.process = _Copy(pid)
        self.channel = Channel(self._socket)

    def __exit__(self, *error: object) -> None:
        """Hang up, by which it ends its forks and itself."""
        self.channel.close()
        self._wake()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_TIDYING)
        super().__exit__(*error)

    def _wake(self) -> None:
        """Let it go on, should code that it runs have stopped it."""
        _kill(self.process.pid, os.kill, signal.SIGCONT)

    def command(self, what: bytes, pid: int = 0, files: Sequence[int] = ()) -> int:
        """Let it fork (``f``), end a fork (``e``), or wait for one that is about to end (``w``)."""
        with self._lock:
            answer = self._command(what, pid, files)
        self._end_those_let_go()
        return answer

    def let_go(self, pid: int) -> None:
        """End a fork: now, or when the command is done in whose midst this is called."""
        self._let_go.append(pid)
        self._end_those_let_go()

    def _end_those_let_go(self) -> None:
        if self._let_go and self._lock.acquire(blocking=False):
            try:
                while self._let_go:
                    with contextlib.suppress(ChildProcessError):
                        self._command(b"e", self._let_go.pop())
            finally:
                self._lock.release()

    def _command(self, what: bytes, pid: int, files: Sequence[int] = ()) -> int:
        # Until it answers: an interrupt would leave that to be taken for the next answer.
        before, self.gone = self.gone, True
        if before:
            raise ChildProcessError
        answer = b""
        with contextlib.suppress(OSError):
            self._wake()
            self._socket.settimeout(_PATIENCE)
            socket.send_fds(self._socket, [_COMMAND.pack(what, pid)], list(files))
            answer = self._socket.recv(_ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < _ANSWER.size:
            raise ChildProcessError
        self.gone = False
        return int(_ANSWER.unpack(answer)[0])

    @staticmethod
    def running(module: str, *, copied: bool = False) -> ForkServer:
        """The one that runs a module for this process, until this one ends."""
        key = module, os.getpid()
        if key not in _servers:
            if copied:  # what their code makes of a server that it ends comes to us
                adopt()
                atexit.register(end_children)
            atexit.register(_end_server, *key)
        elif not _servers[key].gone:
            return _servers[key]
        else:
            _servers.pop(key).__exit__()
            copied = False  # by now this process may know what should not be known
        _servers[key] = ForkServer(module, copied=copied)
        return _servers[key]


_servers: dict[tuple[str, int], ForkServer] = {}


def _end_server(module: str, pid: int) -> None:
    if os.getpid() == pid:  # and not in a copy of who started it
        _servers.pop((module, pid)).__exit__()


class _Copy:
    """A copy of this process, to be ended like one that was started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = _LEAVING) -> None:
        with contextlib.suppress(ChildProcessError):
            _wait(self.pid, seconds)


def _leave(main: Callable[[str], None], connection: socket.socket) -> NoReturn:
    """Be a copy of the process that forked, with nothing in common from here on."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        # Nothing else that is open here is for what will run there: least of all who asks us.
        number = connection.detach()
        os.closerange(3, number)
        os.closerange(number + 1, _FILES)
        main(str(number))
    finally:
        os._exit(0)


def serve_forks(number: str, work: Callable[[Channel], None]) -> None:
    """Fork for every piece of work that is asked for, until who asks is gone."""
    connection = socket.socket(fileno=int(number))
    forks: set[int] = set()
    adopt()
    while True:
        command, files, _, _ = socket.recv_fds(connection, _COMMAND.size, 2)
        if len(command) < _COMMAND.size:
            break
        what, pid = _COMMAND.unpack(command)
        if what == b"f":
            answer = os.fork()
            if answer == 0:
                connection.close()
                _begin(files, work)
            forks.add(answer)
        else:
            answer = _end(pid, wait=what == b"w")
            forks.discard(pid)
            end_children(forks)
        for file in files:
            os.close(file)
        connection.sendall(_ANSWER.pack(answer))
    for pid in forks:
        _end(pid, wait=False)
    end_children()


def adopt() -> None:
    """Be the parent of what is started below this process, once its own has ended.

    Where the system knows no such thing, what left its group is not found again.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_SET_CHILD_SUBREAPER = 36


def end_children(but: Collection[int] = ()) -> None:
    """End all children of this process but some, and those that become its own thereby."""
    until = time.monotonic() + _TIDYING
    while (left := _children(os.getpid()) - {*but}) and time.monotonic() < until:
        for pid in left:
            _kill(pid, os.kill)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children(pid: int) -> set[int]:
    """The children of a process, where the system tells."""
    found = set[int]()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.update(map(int, read_system(f"/proc/{pid}/task/{thread}/children").split()))
    return found


def _descendants(pid: int) -> set[int]:
    found, new = set[int](), {pid}
    while new := set().union(*map(_children, new)) - found:
        found |= new
    return found


def _memory(pid: int) -> int:
    """What a process takes that is its own, and its part of what it shares with others."""
    lines = map(str.split, read_system(f"/proc/{pid}/smaps_rollup").splitlines())
    return 1024 * sum(int(line[1]) for line in lines if line[0] in ("Pss_Anon:", "Pss_Shmem:"))


def _begin(files: list[int], work: Callable[[Channel], None]) -> NoReturn:
    """Be the fork: a group of its own, so that what it starts can be ended with it."""
    status = 1
    try:
        os.setsid()
        adopt()
        channel, printed = files
        for output in (1, 2):
            os.dup2(printed, output)
        os.close(printed)
        sys.stdout, sys.stderr = (
            open(output, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115 (stay)
            for output in (1, 2)
        )
        with contextlib.suppress(EOFError):
            work(Channel(socket.socket(fileno=channel)))
        status = _HUNG_UP
    except BaseException as error:  # a bug of ours, or what they left of the process is of no use
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(status)  # nothing of the server's is tidied up here


def _end(pid: int, *, wait: bool) -> int:
    """End a fork and all that it started; give the status it ended with by itself, else -1."""
    done, status = _wait(pid, _LEAVING if wait else 0)
    _kill(pid, os.killpg)
    if not done:
        _kill(pid, os.kill)  # should it have no group yet
        os.waitpid(pid, 0)
        return -1
    return status


def _kill(pid: int, how: Callable[[int, int], None], number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, number)


def _wait(pid: int, seconds: float) -> tuple[int, int]:
    until = time.monotonic() + seconds
    found = os.waitpid(pid, os.WNOHANG)
    while not found[0] and time.monotonic() < until:
        time.sleep(0.002)
        found = os.waitpid(pid, os.WNOHANG)
    return found


def _how_it_ended(status: int) -> str:
    if status == -1 or os.waitstatus_to_exitcode(status) == _HUNG_UP:
        return "closes the channel that its results come by"
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status)).name
        why = " (out of memory?)" if number == "SIGKILL" else ""
        return f"ends its process by {number}{why}"
    return f"ends its process (exit code {os.waitstatus_to_exitcode(status)})"
