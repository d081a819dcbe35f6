"""``attn demo``: a model learns before one's eyes."""

import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

from attncli.demo.translator import STEPS

ATTN = [sys.executable, "-m", "attncli"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A whole run, piped, and the file it keeps."""
    from running import run_attn

    path = tmp_path_factory.mktemp("demo") / "demo.npz"
    return run_attn("demo", "-o", path), path


def weights_of(text):
    """The numbers of each frame that is shown."""
    rows = [re.findall(r"\d\.\d\d", line) for line in text.splitlines()]
    rows = [list(map(float, row[:7])) for row in rows if len(row) == 8]
    return np.array(rows).reshape(-1, 7, 7)


def test_piped_it_is_a_few_frames_from_grey_to_sharp(kept):
    result, _ = kept
    assert (result.code, result.err) == (0, f"wrote the frames to {kept[1]}\n")
    frames = weights_of(result.out)
    assert 3 <= len(frames) <= 8
    assert np.ptp(frames[0]) < 0.1
    sharp = frames[-1].argmax(axis=1).tolist()
    assert sharp == [0, 1, 2, 3, 4, 6, 5]
    assert frames[-1].max(axis=1).min() > 0.8
    losses = [float(loss) for loss in re.findall(r"step \d+  loss ([\d.]+)", result.out)]
    assert losses == sorted(losses, reverse=True)
    assert "\x1b" not in result.out


def test_it_ends_with_what_was_seen(kept):
    said = kept[0].out
    assert re.search(rf"{STEPS} steps: the loss fell from 3\.\d+ to 0\.0\d+\.", said)
    assert re.search(r"Of 200 sentences that it has never seen it translates (19\d|200) ", said)
    assert "The diagonal crosses itself" in said


def test_the_three_commands_at_the_end_run(attn, kept, monkeypatch):
    result, path = kept
    monkeypatch.chdir(path.parent)
    commands = re.findall(r"^  (attn .*?)(?:  |$)", result.out, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert attn(*shlex.split(command)[1:]).code == 0


def test_what_it_keeps_is_played(attn, kept):
    shown = attn("show-weights", kept[1], "--frames", columns=80)
    assert shown.code == 0
    assert "step 0" in shown.out
    assert f"step {STEPS}" in shown.out
    found = attn("show-weights", kept[1], "--json").json
    (matrix,) = found["matrices"]
    assert matrix["tokens_dec"][-2:] == ["lapin", "blanc"]


@pytest.fixture
def short(monkeypatch):
    """What is shown of a few steps is shown of many."""
    monkeypatch.setattr("attncli.demo.translator.STEPS", 4)


@pytest.mark.usefixtures("short")
def test_the_same_seed_shows_the_same(attn):
    first, again, other = (attn("demo", "--seed", seed).out for seed in (0, 0, 5))
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "demo.csv"], "the ending .csv"),
        (["--speed", "0"], "0"),
        (["--speed", "1e-300"], "1e-300"),
        (["--seed", "-1"], "-1"),
        (["--force"], "--force has no meaning without -o"),
    ],
)
def test_what_cannot_be_is_refused_before_it_begins(attn, folder, arguments, says):
    result = attn("demo", *arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_interrupted_it_says_what_was_seen_and_keeps_what_it_has(attn, folder):
    process = subprocess.Popen(
        [*ATTN, "demo", "--speed", "0.01", "-o", "demo.npz"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()  # the first frame is shown
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "wrote the frames to demo.npz\n\ninterrupted\n")
    assert re.search(r"^\d+ steps?: the loss fell from", out, flags=re.MULTILINE)
    assert os.listdir(folder) == ["demo.npz"]
    assert attn("show-weights", "demo.npz", "--frames").code == 0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("speed", "frames"), [("1", 5), ("40", 3)])
def test_on_a_terminal_it_is_drawn_in_place(attn, monkeypatch, speed, frames):
    """Ten frames a second at most, by a clock that is moved on by nothing but waiting."""
    now = [0.0]
    monkeypatch.setattr("attncli.cli.demo.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "attncli.cli.demo.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    result = attn("demo", "--speed", speed, columns=80, colors="truecolor")
    assert result.code == 0
    assert now[0] == pytest.approx(8 / float(speed))
    assert "\x1b[?25l" in result.out
    assert len({*re.findall(r"step \d+", result.out)}) == frames
    assert result.out.rstrip().endswith("one by one")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_fits_a_terminal_that_cannot_draw_in_place(attn, columns):
    result = attn("demo", columns=columns)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= columns
