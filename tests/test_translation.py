"""What learners read exists in every language that is spoken, and nothing there is left over."""

import ast
import pickle
import re
from functools import cache
from pathlib import Path

import pytest

import attncli
from attncli import translation
from attncli.checking.diagnosing.mistakes import KINDS, MISTAKES
from attncli.checking.exercises import _SAID
from attncli.errors import ParameterError
from attncli.translation import Sentence, entries, language, translated

PACKAGE = Path(attncli.__file__).parent
PO = (PACKAGE / "guide" / "ja" / "messages.po").read_text(encoding="utf-8")
JA = entries(PO)
# A formula is read the same everywhere; words have three letters that a number's name has not.
WORDS = re.compile(r"[A-Za-z]{3,}")
SAYING = {"_", "translated", "Sentence"}


@cache
def trees():
    return [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]


def literals(saying=None):
    """Give the texts in the code, or those that are the arguments of what translates."""
    for tree in trees():
        calls = [tree]
        if saying:
            named = {
                node: getattr(getattr(node, "func", None), "id", None) for node in ast.walk(tree)
            }
            calls = [node.args[0] for node, name in named.items() if name in saying and node.args]
        constants = (node for call in calls for node in ast.walk(call))
        yield from (
            node.value
            for node in constants
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )


def catalogue():
    """Give what the catalogue says in words."""
    yield from KINDS
    for mistake in MISTAKES:
        yield from (mistake.name, mistake.why, mistake.symptom)


def formulas():
    """Give what it says in mathematics, some of it in words."""
    return {text for mistake in MISTAKES for text in (mistake.meant, mistake.computed)}


def exercises():
    """Give what is said to who writes the layers, but for shapes alone."""
    for page in sorted((PACKAGE / "guide" / "exercise").iterdir()):
        for text in _SAID.findall(page.read_text(encoding="utf-8")):
            if not re.fullmatch(r"\([^()]*\)(, \([^()]*\))*", text):
                yield text


def said():
    return {
        text
        for text in (*literals(SAYING), *catalogue(), *exercises())
        if WORDS.search(translation._PLACE.sub("", text))
    }


def places(text):
    return sorted(translation._PLACE.findall(text))


@pytest.fixture
def speaking(monkeypatch):
    """Nothing of the surroundings says which language, and nothing stays said."""
    monkeypatch.setattr(translation, "_used", [])
    for name in ("ATTN_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def test_nothing_is_missing():
    assert not sorted(said() - set(JA))


def test_nothing_is_stale():
    assert not sorted(set(JA) - said() - formulas() - set(literals()))


def test_no_message_stands_twice():
    assert PO.count("\nmsgid ") + 1 == len(JA)


def test_places_are_the_same():
    assert [message for message in JA if places(JA[message]) != places(message) and message] == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, "en"),
        ({"ATTN_LANG": "ja"}, "ja"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja"}, "ja"),
        ({"LANG": "jam_JM"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "ja:en"}, "ja"),
        ({"LANG": "C", "LANGUAGE": "ja"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "ATTN_LANG": "en"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "ATTN_LANG": ""}, "ja"),
    ],
)
def test_the_environment_says_which_language(speaking, said, expected):
    for name, value in said.items():
        speaking(name, value)
    assert language() == expected


def test_a_language_that_nobody_speaks_here_is_blamed_by_its_name(speaking):
    speaking("ATTN_LANG", "xx")
    with pytest.raises(ParameterError, match="ATTN_LANG is 'xx', expected en or ja"):
        language()


def test_a_sentence_is_translated_with_what_stands_in_it(speaking):
    said = Sentence("{case} and {count} more", case="WRONG", count="{case}")
    assert said == "WRONG and {case} more"  # what is data is not filled in again
    speaking("ATTN_LANG", "ja")
    assert translated(said) == "誤り ほか {case} 件"
    assert translated(pickle.loads(pickle.dumps(said))) == translated(said)


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("utf-8", "誤り"), ("cp932", "誤り"), ("ascii", "WRONG"), ("latin-1", "WRONG")],
)
def test_a_stream_that_cannot_carry_it_is_spoken_to_in_english(speaking, encoding, word):
    speaking("ATTN_LANG", "ja")
    translation.speak(encoding)
    assert translated("WRONG") == word


def test_what_has_no_translation_stays(speaking):
    speaking("ATTN_LANG", "ja")
    assert translated("hs_enc") == "hs_enc"
    assert translated("") == ""
