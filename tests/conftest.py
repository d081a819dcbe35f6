"""Running commands as a user does, and small files to run them on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Result, run_attn

SAMPLES = Path(__file__).parent.parent / "sample_inputs"


Attn = Callable[..., Result]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the surroundings decide how output looks."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def attn() -> Attn:
    """Run a command in this process: ``attn("forward", "--N", 3)``; see `running.run_attn`."""
    return run_attn


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
