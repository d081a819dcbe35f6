"""Commands on files that were mutated, cut and spliced, in a process with little memory."""

import subprocess
import sys

import pytest
from conftest import SAMPLES

# Runs in a process of its own, which may take 1 GB of address space above what it starts with.
RUNNER = """
import io, os, resource, sys
import numpy as np
from attncli.cli.main import run
from attncli.files.formats import save
from attncli.files.contents import open_tensors
import attncli.cli.calculation, attncli.cli.weight_report, attncli.cli.problem_files  # loaded once

seed, rounds, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.chdir(folder)
run(["forward", "by_hand.npz", "-o", "run.npz", "-q"])
run(["forward", "by_hand.npz", "-o", "run.safetensors", "-q"])
np.save("weights.npy", np.full((3, 4), 0.25))
np.savez_compressed("packed.npz", weights=np.full((2, 3, 3), 1 / 3), tokens=np.array(list("abc")))
names = ["run.npz", "run.safetensors", "weights.npy", "packed.npz", "by_hand.npz"]
seeds = [open(name, "rb").read() for name in names]
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 10**9, taken + 10**9))

rng = np.random.default_rng(seed)
commands = [["forward"], ["backward"], ["show-weights"], ["show-weights", "--top", "2"],
            ["forward", "--json"], ["forward", "-o", "out.npz", "--force"],
            ["trace"], ["compare", "by_hand.npz"], ["check", "--convention"]]
for number in range(rounds):
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(data) + 1))
        match rng.integers(4):
            case 0:
                data[place : place + 1] = bytes(rng.integers(0, 256, 1, dtype=np.uint8))
            case 1:
                del data[place : place + int(rng.integers(1, 80))]
            case 2:
                data[place:place] = bytes(rng.integers(0, 256, int(rng.integers(20)), np.uint8))
            case 3:
                other = seeds[rng.integers(len(seeds))]
                data[place:] = other[int(rng.integers(len(other))) :]
    with open("hostile.npz", "wb") as file:
        file.write(data)
    before = sorted((e.name, e.stat().st_mtime_ns) for e in os.scandir(".") if e.name != "out.npz")
    command = commands[number % len(commands)]
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    last = command[1:] == ["--convention"]  # takes the file as its value
    code = run([*command, "hostile.npz"] if last else [*command[:1], "hostile.npz", *command[1:]])
    sys.stderr.flush()
    err = sys.stderr.buffer.getvalue().decode()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    after = sorted((e.name, e.stat().st_mtime_ns) for e in os.scandir(".") if e.name != "out.npz")
    checks = command[0] in ("compare", "check")
    assert code in ((0, 1, 2) if checks else (0, 2)), (number, code, err)
    assert "Traceback" not in err, (number, err)
    assert len(err) < 4000, (number, len(err))
    assert (code == 2) == ("error: " in err), (number, code, err)
    assert before == after, number
print("done", rounds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("seed", range(2))
def test_no_file_makes_a_command_fail_badly(folder, seed):
    (folder / "by_hand.npz").write_bytes((SAMPLES / "by_hand.npz").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(seed), "600", str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done 600\n"), done.stderr[-3000:]
