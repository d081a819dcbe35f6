"""Killed, out of space, or written at the same time: there is the old file or the new one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attncli.files.contents import open_tensors
from attncli.files.writing import save

NEW = {name: [2.0] for name in "abc"}


@pytest.mark.parametrize(
    ("path", "how", "before"),
    [
        ("run.npz", "new", {}),
        ("run.npz", "replaced", {"a": [1.0]}),
        pytest.param(
            "run.zarr",
            "replaced",
            {"a": [1.0]},
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no folders change places"),
        ),
    ],
)
def test_killed_at_every_step_there_is_the_old_file_or_the_new_one(folder, path, how, before):
    script = str(Path(__file__).with_name("killed.py"))
    done = subprocess.run([sys.executable, script, path, how], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    held = [json.loads(line) for line in done.stdout.splitlines()]
    assert held[0] == before
    assert held[-1] == NEW
    assert all(one in (before, NEW) for one in held)
    assert held == sorted(held, key=NEW.__eq__)
    assert len(held) > 10


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
