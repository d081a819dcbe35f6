"""Processes of their own."""

import mmap
import os
import signal
import socket
import sys
import threading
import time
import types

import pytest

from attncli.processes import Channel, EndedError, Fork, ForkServer, Limits, serve_forks

HERE = "tests_of_processes"


def main(number):
    serve_forks(number, work)


def work(channel):
    """Do what a message says, as somebody's code might."""
    while True:
        try:
            message, parts = channel.receive()
        except EOFError:
            return
        if message == "exit":
            os._exit(3)
        elif message == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif message == "sleep":
            time.sleep(1000)
        elif message == "hang up":
            channel.close()
            time.sleep(1000)
        elif message == "babble":
            os.write(channel._socket.fileno(), b"\xff" * 100)
            time.sleep(1000)
        elif message == "modules":
            message = list(sys.modules)
        elif message == "print":
            os.write(1, b"x" * 100_000)
        elif message == "leave a child" and os.fork() == 0:
            time.sleep(1000)
        elif message == "leave a daemon":
            parts = [str(daemon()).encode()]
        elif message == "leave a daemon and end":
            channel.send("left", [str(daemon()).encode()])
            os._exit(0)
        elif message == "stop who started it":
            os.kill(os.getppid(), signal.SIGSTOP)
        elif message == "share memory":
            held = mmap.mmap(-1, 300_000_000)
            held.write(bytes(len(held)))
            time.sleep(1000)
        elif message == "start many":
            while True:
                if os.fork() == 0:
                    time.sleep(1000)
                time.sleep(0.01)
        channel.send({"said": message, "pid": os.getpid()}, parts)


def daemon():
    """Start one as they are started: in a session of its own, by a parent that has ended."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os.write(writing, str(os.getpid()).encode())
            time.sleep(1000)
        os._exit(0)
    return int(os.read(reading, 20))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("module")
    (folder / f"{HERE}.py").write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('theirs', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "main = module.main\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with ForkServer(HERE) as server:
            yield server


@pytest.fixture
def fork(server):
    forks = []

    def fork(seconds=20.0, **limits):
        forks.append(Fork(server, Limits(seconds, **limits)))
        return forks[-1]

    yield fork
    for one in forks:
        one.close()


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_messages_and_bytes_go_to_and_fro(fork):
    one, other = fork(), fork()
    large = bytes(range(256)) * 10_007
    answer, parts = one.ask("hello", [b"", large])
    assert (answer["said"], [bytes(part) for part in parts]) == ("hello", [b"", large])
    assert other.ask("hello")[0]["pid"] != answer["pid"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("exit", r"ends its process \(exit code 3\)"),
        ("crash", "ends its process by SIGSEGV"),
        ("hang up", "closes the channel"),
        ("babble", "writes into the channel"),
    ],
)
def test_why_no_answer_comes_is_said_now_and_ever_after(fork, message, why):
    one = fork()
    for request in (message, "hello"):
        with pytest.raises(EndedError, match=why):
            one.ask(request)


def test_what_takes_too_long_is_ended(fork):
    one = fork(seconds=0.2)
    pid = one.ask("hello")[0]["pid"]
    with pytest.raises(EndedError, match=r"does not end within 0.2 s"):
        one.ask("sleep")
    assert not is_alive(pid)


def test_what_it_started_is_ended_with_it(fork):
    one = fork()
    pid = one.ask("leave a child")[0]["pid"]
    assert is_alive(pid)
    one.close()
    assert_gone(pid)


def assert_gone(pid):
    until = time.monotonic() + 60  # the system takes its time to be rid of it
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(pid)


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="nobody adopts what others leave")


@on_linux
@pytest.mark.parametrize("message", ["leave a daemon", "leave a daemon and end"])
def test_a_daemon_that_it_leaves_is_ended_with_it_and_with_nothing_else(fork, message):
    one, other = fork(), fork()
    _, (pid,) = one.ask(message)
    _, (kept,) = other.ask("leave a daemon")
    one.end()
    assert_gone(int(pid))
    assert is_alive(int(kept))
    other.ask("hello")


def test_a_server_that_is_stopped_goes_on(fork):
    one = fork()
    one.ask("stop who started it")
    assert fork().ask("hello")[0]["said"] == "hello"
    one.close()


def test_an_interrupt_while_a_server_answers_mixes_up_no_answers(fork, server, monkeypatch):
    one = fork()
    receive = socket.socket.recv

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "recv", interrupted, raising=False)
    other = ForkServer(HERE)
    with pytest.raises(KeyboardInterrupt):
        other.command(b"e", 0)
    monkeypatch.setattr(socket.socket, "recv", receive)
    with pytest.raises(ChildProcessError):
        other.command(b"e", 0)
    other.__exit__()
    one.ask("hello")


@on_linux
@pytest.mark.parametrize(
    ("message", "limits", "why"),
    [
        ("share memory", {"memory": 100_000_000}, "takes too much memory"),
        ("start many", {"processes": 7}, "starts more than 7 processes"),
    ],
)
def test_what_it_takes_in_all_has_limits_too(fork, monkeypatch, message, limits, why):
    monkeypatch.setattr("attncli.processes._BESIDE", 50_000_000)
    with pytest.raises(EndedError, match=why):
        fork(60, **limits).ask(message)


@pytest.mark.parametrize(
    "error", [ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError]
)
def test_an_answer_that_cannot_be_read_ends_it(fork, error):
    def read(told, parts):
        raise error

    with pytest.raises(EndedError, match="writes into the channel"):
        fork().ask("hello", read=read)


def test_of_what_it_prints_the_first_8_kb_are_kept(fork):
    one = fork()
    one.ask("print")
    printed = one.printed.take()
    assert printed == "x" * 8_000 + "\n(92,000 more bytes are not shown)\n"
    assert one.printed.take() == ""
    one.ask("print")
    assert one.printed.take() == "\n(100,000 more bytes are not shown)\n"


def test_a_message_that_is_longer_than_allowed_is_refused():
    here, there = map(Channel, socket.socketpair())
    here.send("x", [b"12345"])
    with pytest.raises(ValueError, match="too long"):
        there.receive(most=4)
    here.close()
    there.close()


@pytest.mark.filterwarnings("ignore")  # JAX, where another test has loaded it, warns of forks
def test_a_server_that_is_a_copy_of_this_process_works_alike(monkeypatch):
    from attncli.checking.targets import serving

    with ForkServer(serving.__name__, copied=True) as server:
        fork = Fork(server, Limits())
        answer, _ = fork.ask({"do": "nothing"})
        assert "error" in answer
        assert os.getsid(server.process.pid) == server.process.pid  # Ctrl-C is not for it
        fork.close()


@pytest.mark.filterwarnings("ignore")  # as above
def test_a_copy_has_nothing_open_of_the_process_that_it_is_made_of():
    reading, writing = os.pipe()

    def look(channel):
        message, _ = channel.receive()
        try:
            os.fstat(message)
        except OSError:
            channel.send("closed")
        else:
            channel.send("open")

    with ForkServer(look) as server:
        fork = Fork(server, Limits())
        assert fork.ask(writing)[0] == "closed"
        fork.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.usefixtures("server")  # by which the module is found
def test_a_module_has_one_server_and_another_once_that_is_gone(monkeypatch):
    """A copy knows what this process knows by then; what comes after it begins anew."""
    monkeypatch.setitem(sys.modules, "known_here", types.ModuleType("known_here"))
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])

    def knows(server):
        fork = Fork(server, Limits())
        found = fork.ask("modules")[0]["said"]
        fork.close()
        return "known_here" in found

    one = ForkServer.running(HERE, copied=True)
    assert ForkServer.running(HERE, copied=True) is one
    assert knows(one)
    one.process.kill()
    with pytest.raises(ChildProcessError):
        one.command(b"f")
    other = ForkServer.running(HERE, copied=True)
    assert other is ForkServer.running(HERE) is not one
    assert not knows(other)
    with ForkServer(HERE) as alone:
        assert not knows(alone)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("killed", [False, True])
def test_a_fork_ends_with_its_server(killed):
    with ForkServer(HERE) as one:
        fork = Fork(one, Limits())
        pid = fork.ask("hello")[0]["pid"]
        if killed:
            one.process.kill()
            one.process.wait()
            with pytest.raises(EndedError, match="ends the process that started it"):
                fork.ask("hang up")
    fork.close()
    until = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(pid)
    fork.close()


def test_a_fork_may_be_let_go_in_the_midst_of_a_command(fork, monkeypatch):
    """As the garbage collector does with a target that nobody has any more."""
    left, kept = fork(), fork()
    pid = left.ask("hello")[0]["pid"]
    send = socket.send_fds

    def collect_and_send(*arguments):
        left.close()
        return send(*arguments)

    monkeypatch.setattr(socket, "send_fds", collect_and_send)
    command = threading.Thread(target=kept.end, args=("enough",), daemon=True)
    command.start()
    command.join(60)
    assert not command.is_alive()
    assert not is_alive(pid)
