"""Running commands as a user does, and small files to run them on."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attncli.cli.main import run

SAMPLES = Path(__file__).parent.parent / "sample_inputs"


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON; a bare NaN in it is an error."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"bare {constant} in JSON")

        return json.loads(self.out, parse_constant=refuse)


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


Attn = Callable[..., Result]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the surroundings decide how output looks."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def attn(monkeypatch: pytest.MonkeyPatch) -> Attn:
    """Run a command in this process: ``attn("forward", "--N", 3)``.

    ``columns=80`` makes standard output a terminal of that width, ``colors="truecolor"`` one with
    colours, ``encoding="ascii"`` one that takes nothing else; ``stdin`` is bytes.
    """

    def call(
        *arguments: object,
        stdin: bytes = b"",
        columns: int | None = None,
        colors: str | None = None,
        encoding: str = "utf-8",
    ) -> Result:
        kind = io.TextIOWrapper if columns is None else Terminal
        out, err = (kind(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            if columns is not None:
                patch.setenv("COLUMNS", str(columns))
                patch.setenv("TERM", "xterm-256color" if colors else "dumb")
                patch.setenv("COLORTERM", colors or "")
            code = run([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
            for stream in (out, err):
                stream.flush()
        texts = [stream.buffer.getvalue().decode(encoding, "replace") for stream in (out, err)]
        return Result(code, *texts)

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def states() -> dict[str, np.ndarray]:
    """Encoder and decoder states in which every axis has a prime of its own."""
    rng = np.random.default_rng(11)
    return {"hs_enc": rng.normal(size=(2, 7, 5)), "hs_dec": rng.normal(size=(2, 3, 5))}
