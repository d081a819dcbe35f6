"""A process of its own for work that must not touch ours: started, asked, and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Self


class Process:
    """A module run in a process of its own, which answers a JSON object with one, line by line.

    Leaving its context ends it, whatever it is doing.

    Parameters
    ----------
    module : str
        Run as ``python -m module``; reads its standard input, and writes its answers alone to its
        standard output.
    arguments : object
        What it is given on its command line.
    environment : mapping of str to str, optional
        What its environment has beside ours.

    Examples
    --------
    >>> with Process("attncli.benchmarks.worker", "products", 1) as process:
    ...     process.ask(cell={"N": 1, "T": 3, "H": 2, "dtype": "float64", "causal": False})
    {'both': False}
    """

    def __init__(
        self, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | dict(environment or {}),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; ``{"failed": why}`` where none comes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"failed": "its process died"}
        return answer

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
