"""Machines of which each has a network of its own, and what happens to runs of `attn` on them.

A script, run where it may make up networks: ``unshare -rmn python tests/network.py FOLDER``.
It prints in JSON what it saw; `tests/cluster/test_network.py` says what that should be.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from clusters import attn, ended, in_the_midst, scheduler, worker, write_input

MACHINES = {"boss": 2, "one": 3, "two": 4}
SHORT, LONG, H = 9_973, 60_013, 61
# A cable that is cut is noticed after half a minute; that is not what is to be seen here.
SOON = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}  # and no less can be asked for


def do(*words):
    """Run a command of the system's, and give what it prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def on(machine):
    """What runs a program on one of the machines."""
    return ["ip", "netns", "exec", machine]


def connect_all():
    """Make the machines, and one bridge for all of them, on which we are too."""
    do("mount", "-t", "tmpfs", "tmpfs", "/run")  # where their names are kept
    do("ip", "link", "add", "bridge", "type", "bridge")
    do("ip", "addr", "add", "10.77.0.1/24", "dev", "bridge")
    for link in ("lo", "bridge"):
        do("ip", "link", "set", link, "up")
    for name, number in MACHINES.items():
        do("ip", "netns", "add", name)
        do("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "eth0", "netns", name)
        do("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        do("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            do("ip", "-n", name, "link", "set", link, "up")


def sent():
    """How many bytes the workers have sent so far."""
    return sum(
        json.loads(do("ip", "-j", "-s", "link", "show", f"to-{name}"))[0]["stats64"]["rx"]["bytes"]
        for name in ("one", "two")
    )


def happen(folder):
    """Let it all happen; say what was seen."""
    seen = {}
    connect_all()
    for name in ("short", "long"):
        (folder / name).mkdir()
    write_input(folder / "short", SHORT, H)
    write_input(folder / "long", LONG, H)
    planning = attn(folder / "short", "--workers", 2, "--dry-run", "--json")
    plans = json.loads(planning.communicate()[0])["plans"]
    seen["planned"] = {plan["workers"]: plan["moved_bytes"] for plan in plans}[2]
    with ExitStack() as stack:
        boss = stack.enter_context(
            scheduler(folder, "--host", "10.77.0.2", before=on("boss"), **SOON)
        )
        for name in ("one", "two"):
            stack.enter_context(worker(boss.address, folder / name, before=on(name), **SOON))
        there = "--scheduler", boss.address, "-o"
        before = sent()
        seen["run"] = ended(attn(folder / "short", *there, "run.zarr"))
        seen["sent"] = sent() - before
        run = attn(folder / "short", *there, "out.zarr")
        in_the_midst(run, folder / "short")
        do("ip", "link", "set", "to-two", "down")
        seen["cut"] = ended(run)
        run = attn(folder / "long", *there, "out.zarr")
        in_the_midst(run, folder / "long")
        boss.kill()
        seen["scheduler"] = ended(run)
    seen["left"] = sorted(path.name for path in (folder / "long").iterdir())
    return seen


if __name__ == "__main__":
    print(json.dumps(happen(Path(sys.argv[1]))))
