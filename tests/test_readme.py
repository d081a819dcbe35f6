"""The README tells the truth: its outputs are the real ones, and its commands all run."""

import re
import subprocess
import sys

from conftest import SAMPLES

ROOT = SAMPLES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def comparable(text):
    """Leave out what differs between machines: the last digits, and where the worst error is."""
    text = re.sub(r"\d\.\de-(1[0-9]|0[6-9])", "tiny", text)
    return [re.sub(r"\s+", " ", re.sub(r"\[[\d, ]+\]", "[]", line)) for line in text.splitlines()]


def test_outputs_in_the_readme_are_the_real_ones():
    """If not: ``python -m cogapp -r -I tests README.md`` writes them anew."""
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "-I", "tests", "README.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert comparable(done.stdout) == comparable(README)


def test_every_command_of_the_readme_is_run():
    """A console block that cog does not write could say anything."""
    written = re.sub(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", "", README, flags=re.DOTALL)
    assert "$ attn" not in written


def test_the_python_of_the_readme_runs():
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)
    assert names["weights"].shape == (5, 3, 7)
    assert names["dkey"].shape == (2, 8, 5, 4)


def test_there_is_one_line_to_set_up_and_one_to_test():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert "show-weights sample_inputs/" in lines[0]
    assert lines[1].endswith(".venv/bin/pytest")


def test_every_sample_has_its_origin():
    origins = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for sample in SAMPLES.iterdir():
        assert sample.name == "README.md" or f"`{sample.name}`" in origins
