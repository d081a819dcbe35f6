"""What learners meet says nothing in English where Japanese is spoken."""

import re
import shlex

import pytest

from attncli import translation
from attncli.checking.exercises import EXERCISES

WORD = r"(?<![\w/.=(@-])[A-Za-z][a-z']+(?![\w/(=\[])"
# Four words or more with a space between them; columns have two.
SENTENCE = re.compile(rf"{WORD}(?:[,;:]? {WORD}){{3,}}")
# The words that the demo translates, and commands with their arguments.
NAMES = re.compile(r"^ +the +you?.*|attn [a-z-]+ .*|^def .*", re.MULTILINE)
COMMANDS = [
    "attn",
    "attn check sample_inputs/exercise/wrong_1.py",
    "attn check sample_inputs/exercise/wrong_2.py",
    "attn explain",
    "attn explain scale-missing",
    "attn explain one-attention-object-shared-by-all-steps",
    "attn explain score-path-missing-from-dhs",
    "attn trace sample_inputs/by_hand.npz",
    "attn trace sample_inputs/by_hand.npz --what-if hs_dec[0,1,0]+=0.1",
    "attn exercise",
    "attn exercise start",
    "attn exercise check",
    "attn exercise hint",
]


def english(text):
    """Give what stands in English, but for names."""
    return SENTENCE.findall(NAMES.sub("", text))


def test_english_is_told_from_names_formulas_and_commands():
    assert english("誤り: no known mistake reproduces these numbers")
    assert not english("scores = scale · query · keyᵀ  (N, T_dec, H)  attn explain scale-missing")


@pytest.mark.parametrize("columns", [40, 80])
def test_nothing_is_in_english(attn, folder, monkeypatch, columns):
    monkeypatch.setenv("ATTN_LANG", "ja")
    monkeypatch.setattr(translation, "_used", [])  # what was spoken here is not spoken on
    for command in COMMANDS:
        result = attn(*shlex.split(command)[1:], columns=columns)
        assert result.code in (0, 1), (command, result.err)
        assert (english(result.out + result.err), command) == ([], command)
        assert re.search("[ぁ-んァ-ヶ一-龠]", result.out), command


def test_the_exercises_say_in_their_comments_what_they_say_in_english(attn, folder, monkeypatch):
    monkeypatch.setenv("ATTN_LANG", "ja")
    monkeypatch.setattr(translation, "_used", [])
    for exercise in EXERCISES.values():
        assert (english(_comments(exercise.solution)), exercise.name) == ([], exercise.name)
        compile(exercise.gapped, exercise.file_name, "exec")


def _comments(text):
    return "\n".join(line.partition("# ")[2] for line in text.splitlines())
