"""``attn`` alone: one screen that says what there is, for whom."""

import shlex
from itertools import pairwise

import numpy as np
import pytest
from rich.cells import cell_len

from attncli.cli.start import ENGLISH, FRENCH, LOOKS
from attncli.demo import phrases
from attncli.demo.translator import STEPS, learn

ONE_SCREEN = 24  # lines


def commands(text):
    return [line.strip().partition("  ")[0] for line in text.splitlines() if line[:7] == "  attn "]


def test_it_is_one_screen_for_three_people(attn):
    result = attn(columns=80)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert len(lines) <= ONE_SCREEN
    assert max(map(len, lines)) <= 80
    who = [line for line, below in pairwise(lines) if below.startswith("  attn ")]
    assert [line for line in who if not line.startswith(" ")] == [
        "Learning attention", "Writing a layer or a kernel", "Looking at the weights of a model",
    ]  # fmt: skip


def test_every_command_on_it_runs(attn, folder, monkeypatch):
    monkeypatch.setattr("attncli.demo.translator.STEPS", 4)
    found = commands(attn().out)
    assert len(found) == 6
    for command in found:
        result = attn(*shlex.split(command)[1:])
        assert result.code == (1 if "wrong" in command else 0), (command, result.err)


def test_the_picture_is_what_the_demo_ends_with():
    *_, last = learn(0, STEPS)
    last.model.forward(phrases.SHOWN, phrases.translated(phrases.SHOWN))
    np.testing.assert_allclose(LOOKS, 100 * last.model.attention_weight[0], atol=2)
    assert [phrases.FRENCH.index(word) for word in FRENCH] == [
        *phrases.translated(phrases.SHOWN)[0]
    ]
    assert [phrases.ENGLISH.index(word) for word in ENGLISH] == [*phrases.SHOWN[0]]


def cells(text):
    """The picture: of each French word the places of the English ones that it looks at most."""
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    header = next(line for line in text.splitlines() if line.split()[:1] == ["the"])
    ends = [header.index(word) + len(word) for word in header.split()]
    return [[at for at, end in enumerate(ends) if lines[word][end - 1 : end] in tuple("█@")]
            for word in FRENCH]  # fmt: skip


@pytest.mark.parametrize("columns", [None, 40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_picture_is_drawn_everywhere(attn, columns, encoding):
    result = attn(columns=columns, encoding=encoding)
    assert cells(result.out) == [[0], [1], [2], [3], [4], [6], [5]]
    assert "\x1b" not in result.out
    if columns:
        shown = [line for line in result.out.splitlines() if "attn " not in line]
        assert max(map(len, shown)) <= columns


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_speaks_japanese_where_that_can_be_written(attn, monkeypatch, columns):
    english, ascii_only = attn(columns=columns).out, attn(columns=columns, encoding="ascii").out
    monkeypatch.setenv("ATTN_LANG", "ja")
    japanese = attn(columns=columns).out
    assert (commands(japanese), cells(japanese)) == (commands(english), cells(english))
    lines = japanese.splitlines()
    assert "アテンション" in lines[0]
    assert max(cell_len(line) for line in lines if "attn " not in line) <= columns
    assert not [line for line in lines if line.lstrip()[:1] in tuple("、。：）ーっ")]
    assert len(lines) <= ONE_SCREEN or columns < 80
    assert attn(columns=columns, encoding="ascii").out == ascii_only


def test_it_has_colours_on_a_terminal_unless_they_are_not_wanted(attn, monkeypatch):
    assert "\x1b[38;5;37m" in attn(columns=80, colors="truecolor").out
    assert "\x1b" not in attn(columns=None).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in attn(columns=80, colors="truecolor").out
