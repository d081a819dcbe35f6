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
from attncli.files.writing import save
from attncli.files.contents import open_tensors
import attncli.cli.posing, attncli.problems.from_files  # loaded once
import attncli.views.weights_report

seed, rounds, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.chdir(folder)
run(["forward", "by_hand.npz", "-o", "run.npz", "-q"])
run(["forward", "by_hand.npz", "-o", "run.safetensors", "-q"])
np.save("weights.npy", np.full((3, 4), 0.25))
np.savez_compressed("packed.npz", weights=np.full((2, 3, 3), 1 / 3), tokens=np.array(list("abc")))
run(["backward", "by_hand.npz", "-o", "back.safetensors", "-q"])
run(["trace", "by_hand.npz", "-o", "trace.npz", "-q"])
np.save("states.npy", np.asfortranarray(np.full((1, 2, 2), 0.5, ">f4")))
np.savez("states.npz", hs_enc=np.ones((1, 2, 2)), hs_dec=np.ones((1, 2, 2)))
np.savez("layers.npz", **{f"layer{n}": np.full((1, 2, 3, 3), 1 / 3, "f4") for n in range(2)})
for ending in ("json", "csv", "md", "html", "svg"):
    run(["show-weights", "packed.npz", "--item", "1", "-q", "--export", f"packed.{ending}"])
with open("posted.json", "w") as file:
    file.write('{"tokens": ["a", "b"], "attentions": [[[1, 0], [0.5, 0.5]]], "input_ids": [1, 2]}')
with open("table.csv", "w") as file:
    file.write(",a,b\\na,1.0,0.0\\nb,0.5,0.5\\n")
names = ["packed.json", "packed.csv", "packed.md", "packed.html", "packed.svg", "posted.json",
         "table.csv", "layers.npz", "run.npz", "run.safetensors", "weights.npy", "packed.npz",
         "by_hand.npz",
         "back.safetensors", "trace.npz", "states.npy"]
seeds = [open(name, "rb").read() for name in names]
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 10**9, taken + 10**9))

def state():
    "All that is there, but what the commands are to write."
    return sorted(
        (e.name, e.stat().st_mtime_ns) for e in os.scandir(".") if not e.name.startswith("out.")
    )

rng = np.random.default_rng(seed)
commands = [text.split() for text in (
    "forward @", "backward @", "show-weights @", "show-weights @ --top 2", "forward @ --json",
    "forward @ -o out.npz --force", "trace @", "compare @ by_hand.npz",
    "convention @ --rename query=hs_dec --rename key=hs_enc --rename value=hs_enc",
    "backward @ -o out.safetensors --force", "trace @ --json", "trace @ --backward --step 1",
    "compare run.npz @", "compare @ @", "compare @ run.safetensors --json",
    "compare run.npz run.safetensors --budget @", "compare @ trace.npz --map out=out",
    "forward @ --rename query=hs_dec --rename key=hs_enc --rename value=hs_enc",
    "backward @ --rename scores=weights --layer softmax", "show-weights @ --rename weights=dout",
    "backward @ --layer softmax --rename scores=dout", "forward @ --layer time-attention --causal",
    "forward --hs-enc @ --hs-dec states.npy", "backward --hs-enc states.npy --hs-dec @",
    "backward states.npz --dout @", "forward states.npz --mask @", "trace states.npz --dout @",
    "show-weights @ --json", "show-weights @ --diff weights.npy", "show-weights @ --rollout",
    "show-weights @ --as bfloat16 --allow-nonfinite --full",
    "show-weights @ --drop-pad --tokens-dec @", "show-weights layers.npz --tokens @",
    "show-weights @ -q --force --export out.csv --export out.svg --export out.html",
    "forward @ --engine reference", "forward @ --engine tiled --window 1",
)]
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
    before = state()
    command = commands[number % len(commands)]
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code = run(["hostile.npz" if text == "@" else text for text in command])
    sys.stderr.flush()
    err = sys.stderr.buffer.getvalue().decode()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    checks = command[0] in ("compare", "check")
    assert code in ((0, 1, 2) if checks else (0, 2)), (number, command, code, err)
    assert "Traceback" not in err, (number, err)
    assert len(err) < 4000, (number, len(err))
    said = '{"error": ' if "--json" in command else "error: "
    assert (code == 2) == (said in err), (number, code, err)
    assert before == state(), number
print("done", rounds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("seed", range(2))
def test_no_file_makes_a_command_fail_badly(folder, seed):
    (folder / "by_hand.npz").write_bytes((SAMPLES / "by_hand.npz").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(seed), "1000", str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done 1000\n"), done.stderr[-3000:]
