"""Threads: every task once, errors come out, the caller's settings go in."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from attncli.core.threads import Scratch, run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_every_task_runs_once(count, threads):
    done = []
    run([lambda at=at: done.append(at) for at in range(count)], threads)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_comes_out_and_no_further_task_starts(error, threads):
    done = []

    def fail():
        raise error

    def work():
        time.sleep(0.001)
        done.append(1)

    before = threading.active_count()
    with pytest.raises(error):
        run([fail, *[work] * 1000], threads)
    assert len(done) < 10
    assert threading.active_count() == before


def test_the_callers_errstate_holds_in_every_thread():
    barrier = threading.Barrier(2, timeout=60)

    def divide():
        barrier.wait()  # both threads are here, one task each
        np.ones(1) / np.zeros(1)

    with np.errstate(divide="ignore"):
        run([divide, divide], 2)


def test_each_thread_has_a_buffer_of_its_own():
    scratch, barrier, seen = Scratch((2, 3), np.dtype(float)), threading.Barrier(2, timeout=60), []

    def look():
        barrier.wait()
        seen.append(scratch((2, 3)))

    run([look, look], 2)
    assert not np.shares_memory(*seen)
    assert np.shares_memory(scratch((2, 3)), scratch((1, 2)))


def two_threads():
    """Which two threads ran two tasks."""
    barrier, seen = threading.Barrier(2, timeout=60), set()

    def note():
        barrier.wait()
        seen.add(threading.get_ident())

    run([note, note], 2)
    return seen


def test_threads_are_used_again():
    assert two_threads() == two_threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_makes_threads_of_its_own():
    script = """
import os, signal
from tests.core.test_threads import two_threads
two_threads()
child = os.fork()
if not child:  # with its parent's threads, which it does not have, it would wait for ever
    signal.alarm(10)
    os._exit(0 if len(two_threads()) == 2 else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, cwd=ROOT)
    assert done.returncode == 0
