"""Running commands as a user does, and small files to run them on."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from running import Result, run_attn

SAMPLES = Path(__file__).parent.parent / "sample_inputs"

Attn = Callable[..., Result]

# A failure in CI is one that anybody can repeat; at a desk, every run looks somewhere else.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


# What takes minutes, and is run by .ci/run alone.
SLOW = {
    "test_catalogue.py", "test_tolerances.py", "test_mistakes.py", "test_peer_combinations.py",
    "test_conventions_of_others.py", "test_kernels.py", "test_frameworks.py", "test_logsumexp.py",
    "test_float16_throughout.py", "test_laid_out.py",
}  # fmt: skip


# And what takes a quarter of an hour: there, one test in ``ATTN_ONE_IN``; all of them by hand.
LONG = {
    "test_catalogue.py", "test_tolerances.py", "test_mistakes.py", "test_kernels.py",
    "test_frameworks.py", "test_logsumexp.py", "test_float16_throughout.py", "test_laid_out.py",
}  # fmt: skip


def pytest_configure() -> None:
    """Let the programs that tests start be ended by signals, also where this one ignores them.

    What a shell starts in the background ignores SIGINT, what nohup starts SIGHUP, and so do their
    children; a handler is none of theirs any more.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, signal.SIGTERM)
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else _pass)


def _pass(number: int, frame: object) -> None:
    pass


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes minutes, and leave out of what takes longer what is not asked for."""
    one_in = int(os.environ.get("ATTN_ONE_IN", "1"))
    long = [item for item in items if item.path.name in LONG]
    left_out = {item.nodeid for number, item in enumerate(long) if number % one_in}
    items[:] = [item for item in items if item.nodeid not in left_out]
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Divide the whole suite over all cores; a file or a test of one's choice runs right here."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return None if whole else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let no test skip where all that tests can use is said to be installed.

    Networks and shells are another matter: whether there are any is up to the machine.
    """
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and not {"netns", "shell"} & {*item.keywords} and os.environ.get("ATTN_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr[2]}"
    return report


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the surroundings decide how output looks."""
    looks = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COLORTERM", "COLORFGBG", "ATTN_THEME")
    surroundings = ("CI", "SSH_CONNECTION", "SSH_TTY", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    for name in (*looks, *surroundings, "ATTN_BLAS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATTN_LANG", "en")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("attncli.files.source.opened", None)  # by a command that failed before
    # A bar shows that a step is long, which on a busy machine any may be.
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._APPEARS_AFTER", float("inf"))
    monkeypatch.setattr("attncli.cli.screen.ProgressBar._SAID_EVERY", float("inf"))


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
