"""Running a command in this process, with streams that are pipes or terminals; or in others."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from unittest import mock

from attncli.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and both streams.

    Under ``--json`` `err` is what standard error reads as without it, and `objects` what it is.
    """

    code: int
    out: str
    err: str
    objects: str = ""

    @property
    def json(self) -> Any:
        """Standard output as JSON; a bare NaN in it is an error."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"bare {constant} in JSON")

        return json.loads(self.out, parse_constant=refuse)


class Terminal(io.TextIOWrapper):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def run_attn(
    *arguments: object,
    stdin: bytes = b"",
    columns: int | None = None,
    colors: str | None = None,
    encoding: str = "utf-8",
) -> Result:
    """Run a command: ``run_attn("forward", "--N", 3)``.

    ``columns=80`` makes the streams a terminal of that width, ``colors="truecolor"`` one with
    colours, ``encoding="ascii"`` one that takes nothing else; ``stdin`` is bytes.
    """
    kind = io.TextIOWrapper if columns is None else Terminal
    out, err = (kind(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    surroundings = {}
    if columns is not None:
        term = "xterm-256color" if colors else "dumb"
        surroundings = {"COLUMNS": str(columns), "TERM": term, "COLORTERM": colors or ""}
    with (
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        mock.patch.dict(os.environ, surroundings),
    ):
        code = run([str(argument) for argument in arguments])
        for stream in (out, err):
            stream.flush()
    texts = [stream.buffer.getvalue().decode(encoding, "replace") for stream in (out, err)]
    if "--json" in arguments:
        return Result(code, texts[0], _read(texts[1]), texts[1])
    return Result(code, *texts)


# Loads what commands load, and is copied for each: what takes a process its time is to start.
COPIES = """
import json, os, runpy, sys, tempfile
import attncli.checking.derivatives.proof, attncli.checking.diagnosing.examination
import attncli.benchmarks.measure, attncli.cli.posing, attncli.problems.from_files
import attncli.views.weights_report

first, commands = json.load(sys.stdin)
for command in commands:
    files = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if child == 0:
        os.dup2(files[0].fileno(), 1)
        os.dup2(files[1].fileno(), 2)
        sys.argv = ["attn", *command]
        exec(first)
        runpy.run_module("attncli", run_name="__main__")
        raise AssertionError("it goes on")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in files:
        file.seek(0)
    print(json.dumps([code, *(file.read().decode() for file in files)]), flush=True)
"""


def run_copies(commands: Iterable[Iterable[object]], first: str = "") -> list[Result]:
    """Run commands each in a process of its own, in which some code is run `first`."""
    told = json.dumps([first, [[str(word) for word in command] for command in commands]])
    done = subprocess.run(
        [sys.executable, "-c", COPIES], input=told, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [Result(*json.loads(line)) for line in done.stdout.splitlines()]


def _read(lines: str) -> str:
    """Write the objects on standard error as they read without ``--json``; refuse anything else."""
    said = []
    for line in lines.splitlines():
        told = json.loads(line)
        if traceback := told.pop("traceback", ""):
            said.append(traceback.rstrip())
        for kind in ("warning", "note", "error", "hint"):
            for text in (told.get(kind) or "").splitlines():
                label = "" if kind == "note" or text == "interrupted" else f"{kind}: "
                said.append(f"{label:7}{text}" if kind == "hint" else f"{label}{text}")
    return "".join(f"{line}\n" for line in said)
