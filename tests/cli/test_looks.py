"""Every screen in every look, as files to be read: a change of one is seen and meant."""

import os
import re
import shlex
from pathlib import Path

import pytest
from conftest import SAMPLES
from rich.cells import cell_len

from attncli.cli import main

RECORDED = Path(__file__).parents[1] / "looks"
ANEW = "RECORD_LOOKS=1 python -m pytest tests/cli/test_looks.py"
SCREENS = {
    "attn": "",
    "forward": "forward --N 1 --T 3 --H 2 --precision 3",
    "backward": "backward sample_inputs/by_hand.npz --precision 3",
    "gradcheck": "gradcheck --layer softmax --N 1 --T 3",
    "show-weights": "show-weights sample_inputs/dates.npz",
    "show-mask": "show-mask --T 11 --window 3,0",
    "trace": "trace sample_inputs/by_hand.npz --only weights,dhs_enc --precision 3",
    "check": "check sample_inputs/exercise/wrong_1.py:Softmax",
    "convention": "convention sample_inputs/minilm_qkv.npz",
    "compare": "compare sample_inputs/by_hand.npz sample_inputs/by_hand.npz",
    "explain": "explain gradients-in-the-wrong-order",
    "exercise": "exercise",
    "guide": "guide exit-codes",
    "completion": "completion",
    "help": "help",
    "error": "forward --dtype fp16",
}
# Whose screens are numbers of this machine: test_bench.py and test_demo.py have their looks.
MEASURED = {"bench", "demo"}
LOOKS = {
    "40 columns": ({"columns": 40}, {}),
    "80 columns": ({"columns": 80}, {}),
    "200 columns": ({"columns": 200}, {}),
    "light": ({"columns": 80, "colors": "truecolor"}, {"ATTN_THEME": "light"}),
    "dark": ({"columns": 80, "colors": "truecolor"}, {"ATTN_THEME": "dark"}),
    "NO_COLOR": ({"columns": 80, "colors": "truecolor"}, {"NO_COLOR": "1"}),
    "ASCII": ({"columns": 80, "encoding": "ascii"}, {}),
    "Japanese": ({"columns": 80}, {"ATTN_LANG": "ja"}),
}


def look_of(attn, monkeypatch, command, look):
    streams, variables = LOOKS[look]
    with monkeypatch.context() as patch:
        patch.chdir(SAMPLES.parent)
        patch.setenv("LINES", "30")
        patch.setenv("ATTN_LANG", "en")
        patch.delenv("NO_COLOR", raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        result = attn(*shlex.split(command), **streams)
    # How large a rounding is, is up to the machine.
    lines = [
        re.sub(r" +", " ", re.sub(r"\b\d(\.\d+)?e-\d+", "~", line)) if "e-" in line else line
        for line in f"{result.out}{result.err}".replace("\x1b", "␛").splitlines()
    ]
    return "\n".join(line.rstrip() for line in lines)


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_is_the_recorded_one_in_every_look(attn, monkeypatch, screen):
    looks = {look: look_of(attn, monkeypatch, SCREENS[screen], look) for look in LOOKS}
    text = "\n".join(f"━━ {look}\n{said}\n" for look, said in looks.items())
    file = RECORDED / f"{screen}.txt"
    if os.environ.get("RECORD_LOOKS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"if this is meant: {ANEW}"


def test_a_screen_of_every_command_is_recorded_and_none_of_what_is_gone():
    assert {file.stem for file in RECORDED.iterdir()} == set(SCREENS)
    assert set(main.COMMANDS) - set(SCREENS) == MEASURED


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_of_a_recorded_screen_is_wider_than_it_is_told_or_coloured_without(screen):
    """But for command lines, which are copied as they stand."""
    for part in (RECORDED / f"{screen}.txt").read_text(encoding="utf-8").split("━━ ")[1:]:
        look, *lines = part.splitlines()
        coloured = any(re.search(r"␛\[[\d;]*[34]8;", line) for line in lines)
        assert not coloured or look in ("light", "dark")
        assert look != "ASCII" or part.isascii()
        for line in lines:
            plain = re.sub(r"␛\[[\d;]*m", "", line)
            width = LOOKS[look][0]["columns"]
            assert cell_len(plain) <= width or "attn " in plain or "error:" in plain, look
