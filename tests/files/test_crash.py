"""Killed, out of space, or written at the same time: there is the old file or the new one."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from attncli.files.contents import open_tensors
from attncli.files.writing import save

# Kills its own process at the n-th call of one of the steps that writing takes.
KILLED_AT = """
import os, signal, sys
import numpy as np
from attncli.files import atomic, npz
from attncli.files.writing import save

left = int(sys.argv[1])

def dying(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for name in ("open", "fdopen", "fsync", "link", "unlink", "close", "rename", "replace", "stat"):
    setattr(os, name, dying(getattr(os, name)))
atomic.Path.replace = dying(atomic.Path.replace)
atomic.Path.unlink = dying(atomic.Path.unlink)
atomic.Path.chmod = dying(atomic.Path.chmod)
np.lib.format.write_array = dying(np.lib.format.write_array)
save("run.npz", {name: np.full(1000, 2.0) for name in "abc"}, force=len(sys.argv) > 2)
"""
STEPS = 40  # more than there are: a step that is not reached is the end, and the file is new


def kill_at(step, *force):
    done = subprocess.run([sys.executable, "-c", KILLED_AT, str(step), *force])
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode == 0


@pytest.mark.parametrize("force", [False, True], ids=["new", "replaced"])
def test_killed_at_every_step(folder, force):
    finished = []
    for step in range(1, STEPS):
        if force:
            save("run.npz", {"a": np.full(10, 1.0)}, force=True)
        finished.append(kill_at(step, *(["force"] if force else [])))
        if (folder / "run.npz").exists():
            run = open_tensors("run.npz")
            values = {name: run.numbers(name) for name in run}
            old = set(values) == {"a"} and (values["a"] == 1.0).all()
            new = set(values) == set("abc") and all((x == 2.0).all() for x in values.values())
            assert new or (force and old)
        else:
            assert not force
        if finished[-1]:
            break
        if not force:
            (folder / "run.npz").unlink(missing_ok=True)
    assert len(finished) > 5
    assert finished[-1]
    assert {"a", "b", "c"} == set(open_tensors("run.npz"))


def test_a_killed_write_is_not_in_the_way_of_the_next(folder):
    for step in range(1, 12):
        kill_at(step)
    (folder / "run.npz").unlink(missing_ok=True)
    save("run.npz", {"a": np.zeros(2)})
    assert open_tensors("run.npz").numbers("a").tolist() == [0.0, 0.0]


@pytest.mark.parametrize("limit", [1, 100, 700, 5_000, 20_000])
def test_out_of_space_at_any_byte(folder, limit):
    """A limit on the size of files stops a write as a full disk does."""
    save("run.npz", {"a": np.full(10, 1.0)})
    before = (folder / "run.npz").read_bytes()
    limited = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from attncli.cli.main import run
sys.exit(run(["forward", "--T", "30", "--H", "30", "-o", "run.npz", "--force", "-q"]))
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True)
    assert done.returncode == 2
    # The first line: who measures coverage cannot write either, and says so behind it.
    assert done.stderr.splitlines()[0] == "error: run.npz: cannot be written: file too large"
    assert (folder / "run.npz").read_bytes() == before
    assert os.listdir(folder) == ["run.npz"]


def test_a_thousand_writes_at_the_same_time(folder):
    """Whoever reads in between sees one whole file; all but the winners of a race are told."""
    writer = """
import sys
import numpy as np
from attncli.files.writing import save
mine = float(sys.argv[1])
for _ in range(250):
    save("run.npz", {"a": np.full(500, mine), "b": np.full(500, mine)}, force=True)
"""
    writers = [subprocess.Popen([sys.executable, "-c", writer, str(n)]) for n in range(4)]
    seen = set()
    while any(process.poll() is None for process in writers):
        if (folder / "run.npz").exists():
            run = open_tensors("run.npz")
            values = np.concatenate([run.numbers("a"), run.numbers("b")])
            assert len(set(values.tolist())) == 1 or len(values) == 1000
            seen.add(float(values[0]))
    assert [process.returncode for process in writers] == [0] * 4
    assert len(seen) > 1
    assert os.listdir(folder) == ["run.npz"]


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="no mapped files that can fail so")
def test_an_input_cut_short_while_it_is_read_loses_nothing(folder):
    """The system ends whoever reads on; there is no error to be caught."""
    save("in.npy", {"a": np.full(1_000_000, 1.0)})
    save("run.npz", {"a": np.full(10, 1.0)})
    before = (folder / "run.npz").read_bytes()
    reader = """
import os
from attncli.files.atomic import replacing
from attncli.files.contents import open_tensors
array = open_tensors("in.npy").numbers("")
os.truncate("in.npy", 4096)
with replacing("run.npz", force=True) as stream:
    stream.write(array.tobytes())
"""
    done = subprocess.run([sys.executable, "-c", reader], capture_output=True)
    assert done.returncode == -signal.SIGBUS
    assert (folder / "run.npz").read_bytes() == before
