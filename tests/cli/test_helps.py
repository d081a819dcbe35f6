"""The help texts, word for word: recorded, so that a change of one is seen and meant."""

import os
from pathlib import Path

import pytest

from attncli.cli import main
from attncli.files.formats import ENDINGS

RECORDED = Path(__file__).parent / "helps"
ANEW = "RECORD_HELPS=1 python -m pytest tests/cli/test_helps.py"


@pytest.mark.parametrize("command", ["attn", *main.COMMANDS])
def test_help_is_the_recorded_one(attn, command):
    arguments = ["--help"] if command == "attn" else [command, "--help"]
    text = attn(*arguments, columns=80).out
    file = RECORDED / f"{command}.txt"
    if os.environ.get("RECORD_HELPS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"if this is meant: {ANEW}"


def test_nothing_is_recorded_of_commands_that_are_gone():
    assert {file.stem for file in RECORDED.iterdir()} == {"attn", *main.COMMANDS}


def test_who_reads_files_is_told_of_every_format(attn):
    text = attn("forward", "--help", columns=80).out.split("Options")[0].split("Calculation")[0]
    weights = attn("show-weights", "--help", columns=80).out.split("Which weights")[0]
    assert ".html" in weights  # which is of weights alone
    assert [ending for ending in ENDINGS if ending not in text] == [".html"]
