"""What would not fit is said before any of it is there, and what is drawn never is as a whole.

BAD_INPUTS rows 23 and 24, and the last section: memory stays within the limit.
"""

import sys

import numpy as np
import pytest
from conftest import SAMPLES
from running import run_copies

from attncli.benchmarks import contenders

# Done first in each process, which may take so many bytes more than all that is loaded.
LIMITED = """
import resource
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {0}, taken + {0}))
"""

# Peers are measured too where they are installed, and need some bytes of their own.
PEERS = "".join(f", {peer}" for peer in contenders.PEERS if contenders.is_installed(peer))

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")


THEIRS, DUMPED = SAMPLES / "exercise" / "attention.py", SAMPLES / "minilm_qkv.npz"
REFUSED = {
    "bench shapes": (
        ["bench", "--shapes", "1,200000,64", "--engines", "direct-kept", "--dtype", "float32"],
        f"measuring direct-kept{PEERS} at N=1 T=200000 H=64 in float32 would take 48",
        "smaller --shapes",
    ),
    "bench shapes within a limit": (
        ["bench", "--shapes", "1,512,64", "--engines", "direct-kept", "--max-memory", "1MB"],
        f"measuring direct-kept{PEERS}, products at N=1 T=512 H=64 in float32 would take",
        "smaller --shapes",
    ),
    "bench scaling": (
        ["bench", "--scaling", "--shapes", "1000,1024,64"],
        "measuring core at N=1000 T=",
        "smaller --shapes",
    ),
    "gradcheck": (
        ["gradcheck", "--T", "100000"],
        "checking N T_dec T_enc (3, 100000, 100000) would take 3.0 TB, there is",
        "a gradient is checked as well on small sizes",
    ),
    "gradcheck of a target": (
        ["gradcheck", THEIRS, "--T", "100000"],
        "checking N T_dec T_enc (3, 100000, 100000) would take 3.0 TB, there is",
        "a gradient is checked as well on small sizes",
    ),
    "check of a target": (
        ["check", f"{THEIRS}:TimeAttention", "--input", "W=100000,100000"],
        "checking W (100000, 100000) would take 1.0 TB, there is",
        "a gradient is checked as well on small sizes",
    ),
    "convention": (
        ["convention", DUMPED, "--max-memory", "1KB"],
        f"{DUMPED}: query.npy would take 23.0 KB, there is 1.0 KB",
        None,
    ),
    "weights": (
        ["forward", "--T", "10000"],
        "weights (3, 10000, 10000) beside the 1.9 MB of the inputs would take 2.4 GB",
        "--no-weights",
    ),
    "random tensors that fit one by one": (
        ["backward", "--N", "10", "--T", "100", "--H", "100", "--max-memory", "1MB"],
        "random hs_enc (10, 100, 100) = (N, T_enc, H), hs_dec (10, 100, 100) = (N, T_dec, H) "
        "would take 1.6 MB, there is 1.0 MB",
        "smaller --N, --T or --H",
    ),
    "random tensors and weights that fit one by one": (
        ["trace", "--N", "1", "--T", "300", "--H", "100", "--max-memory", "1MB"],
        "weights (1, 300, 300) beside the 480.0 KB of the inputs would take 1.2 MB",
        "--no-weights",
    ),
}


@pytest.fixture(scope="module")
def refused():
    commands = [arguments for arguments, _, _ in REFUSED.values()]
    return dict(zip(REFUSED, run_copies(commands, LIMITED.format(60_000_000)), strict=True))


@linux
@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_said_and_never_allocated(refused, kind):
    _, message, hint = REFUSED[kind]
    done = refused[kind]
    assert (done.code, done.out) == (2, "")
    error, *hints = done.err.splitlines()
    assert error.startswith(f"error: {message}")
    assert ", there is " in error
    assert [f" {hint}" in line for line in hints] == ([True] if hint else [])


@linux
@pytest.mark.parametrize("option", ["--full", "--json"])
def test_a_large_head_is_drawn_within_little_memory(folder, option):
    """Made in one piece, the text alone takes 50 MB, and twice that on its way."""
    weights = np.random.default_rng(0).random((1500, 1500))
    np.save("head.npy", weights / weights.sum(axis=-1, keepdims=True))
    (done,) = run_copies([["show-weights", "head.npy", option]], LIMITED.format(100_000_000))
    said = ["head.npy: 2,250,000 numbers, about 54 MB of text; "] if option == "--full" else []
    lines = done.err.splitlines()
    assert (done.code, len(lines)) == (0, len(said))
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
    assert len(done.out) > 20_000_000
