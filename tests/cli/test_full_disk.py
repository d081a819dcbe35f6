"""A disk that is full, at any fill level: the old file stays, and nothing else is left.

The disk is a small file system in memory, mounted in a namespace of its own; where that is not
permitted, the tests skip.  BAD_INPUTS row 30.
"""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

KINDS = ["npz", "npy", "safetensors", "csv", "md", "json", "svg", "html", "png"]

# Writes each kind at every fill level, and prints what became of it.
FILLED = """
import io, json, os, resource, sys
from attncli.cli.main import run

# Such a file system fills by the page.
page, disk = resource.getpagesize(), "disk"

def write(path):
    if path.endswith((".npz", ".npy", ".safetensors")):
        command = ["forward", "--T", "30", "--H", "30", "-o", path]
    else:
        command = ["show-weights", "weights.npz", "--export", path]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    sys.stdout, sys.stderr = out, err
    try:
        code = run([*command, "--force", "-q"])
        err.flush()
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return code, err.buffer.getvalue().decode()

def fill(free):
    "Take all space and give some pages back; or, for None, take all files that there can be."
    if free is None:
        try:
            for number in range(100):
                open(f"{disk}/filler{number}", "wb").close()
        except OSError:
            return
    with open(f"{disk}/filler", "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(page)) == page:
                pass
        except OSError:
            pass
        filler.truncate(max(0, os.fstat(filler.fileno()).st_size // page - free) * page)

assert run(["forward", "--T", "30", "--T-enc", "31", "-o", "weights.npz", "-q"]) == 0
found = {}
for kind in sys.argv[1:]:
    became = found[kind] = []
    assert write(f"whole.{kind}") == (0, "")
    pages = -(-os.path.getsize(f"whole.{kind}") // page)
    for free in (None, 0, pages // 2, pages - 1, pages):
        for old in (b"what was there", None):
            path = f"{disk}/out.{kind}"
            if old is not None:
                with open(path, "wb") as file:
                    file.write(old)
            fill(free)
            code, err = write(path)
            held = open(path, "rb").read() if os.path.exists(path) else None
            new = open(f"whole.{kind}", "rb").read()
            state = "kept" if held == old else "whole" if held == new else "lost"
            left = [x for x in os.listdir(disk) if x != f"out.{kind}" and "filler" not in x]
            became.append((free != pages, code, err, state, left))
            for name in os.listdir(disk):
                os.unlink(f"{disk}/{name}")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    kinds = [kind for kind in KINDS if kind != "png" or importlib.util.find_spec("matplotlib")]
    done = on_a_small_disk(tmp_path_factory.mktemp("filled"), FILLED, *kinds)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_keeps_what_was_there(found, kind):
    if kind == "png":
        pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    for full, code, err, state, left in found[kind]:
        assert left == []
        if full:
            expected = f"error: disk/out.{kind}: cannot be written: no space left on device\n"
            assert (code, err, state) == (2, expected, "kept")
        else:
            assert (code, err, state) == (0, "", "whole")
    assert {full for full, *_ in found[kind]} == {True, False}


# Of a store each file takes a page, and each folder a place.
STORED = """
import os, sys
from attncli.cli.main import run
from attncli.files.contents import open_tensors

assert run(["forward", "--T", "3", "-o", "disk/out.zarr", "-q"]) == 0
for size in ("7", "300"):
    filler = [f"disk/filler{n}" for n in range(200)]
    if size == "7":
        try:
            for name in filler:
                open(name, "wb").close()
        except OSError:
            pass
    else:
        for name in filler:
            if os.path.exists(name):
                os.unlink(name)
    code = run(["forward", "--T", size, "--H", size, "-o", "disk/out.zarr", "--force", "-q"])
    held = open_tensors("disk/out.zarr").shape("out")[1]
    print(code, held, [x for x in os.listdir("disk") if "filler" not in x])
"""


def test_full_disk_keeps_a_store_that_was_there(tmp_path):
    done = on_a_small_disk(tmp_path, STORED, files=60)
    assert done.stdout == "2 3 ['out.zarr']\n" * 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: disk/out.zarr: no space left on device") for line in lines)


def on_a_small_disk(tmp_path, code, *arguments, files=9):
    """Run code beside a disk of 1 MB that takes so many files."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here, to mount a small file system with")
    (tmp_path / "disk").mkdir()
    mounting = f'mount -t tmpfs -o size=1m,nr_inodes={files} tmpfs disk && exec "$@"'
    mount = ["unshare", "-rm", "sh", "-c", mounting, "-"]
    if subprocess.run([*mount, "true"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    return subprocess.run(
        [*mount, sys.executable, "-c", code, *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
