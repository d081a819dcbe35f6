"""``attn guide``: the documentation on a terminal and piped."""

import re

import click
import pytest
from conftest import SAMPLES
from rich.cells import cell_len

from attncli.cli.guide import TOPICS, guide

PAGES = SAMPLES.parent / "attncli" / "guide"

each_topic = pytest.mark.parametrize("topic", TOPICS)


@pytest.mark.parametrize("columns", [None, 40, 80])
def test_without_a_topic_all_are_listed(attn, columns):
    result = attn("guide", columns=columns)
    assert (result.code, result.err) == (0, "")
    listed = [line.split()[0] for line in result.out.splitlines() if line[:1].strip()]
    assert listed[: len(TOPICS)] == list(TOPICS)


@each_topic
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_page_fits_the_terminal(attn, topic, columns):
    result = attn("guide", topic, columns=columns)
    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= min(columns, 100)
    assert result.out.startswith((PAGES / f"{topic}.md").read_text("utf-8")[2:20].split("\n")[0])


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("topic", ["getting-started", "lesson"])
def test_what_learners_begin_with_speaks_japanese_and_nothing_is_cut(
    attn, monkeypatch, topic, columns
):
    monkeypatch.setenv("ATTN_LANG", "ja")
    page = (PAGES / "ja" / f"{topic}.md").read_text("utf-8")
    if columns == 40:  # where tables are lists
        page = re.sub(r"^\|.*\n(?=\|---)", "", page, flags=re.MULTILINE)
    out = attn("guide", topic, columns=columns).out
    assert max(map(cell_len, out.splitlines())) <= min(columns, 100)
    assert not [line for line in out.splitlines() if line.lstrip()[:1] in tuple("、。：）ーっ")]
    letters = [sorted(re.sub(r"[^\u3000-\uffef]", "", text)) for text in (page, out)]
    assert letters[0] == letters[1]


def test_in_japanese_every_topic_is_told_in_it_and_shown_as_far_as_it_is_there(attn, monkeypatch):
    english = attn("guide", "trust").out
    monkeypatch.setenv("ATTN_LANG", "ja")
    listed = [line.split(maxsplit=1) for line in attn("guide").out.splitlines()]
    assert [topic for topic, _ in listed[: len(TOPICS)]] == list(TOPICS)
    assert not [said for _, said in listed[: len(TOPICS)] if said.isascii()]
    assert attn("guide", "trust").out == english


@each_topic
def test_piped_a_page_is_its_markdown_without_the_marks_of_the_tests(attn, topic):
    out = attn("guide", topic).out
    expected, mark = list[str](), False
    for line in (PAGES / f"{topic}.md").read_text("utf-8").splitlines():
        mark = mark or line.startswith("<!--")
        if not mark:
            expected.append(line)
        mark = mark and not line.endswith("-->")
    assert out.rstrip("\n") == "\n".join(expected).rstrip("\n")
    assert "[[[" not in out


@each_topic
def test_an_ascii_terminal_shows_every_page(attn, topic):
    result = attn("guide", topic, columns=80, encoding="ascii")
    assert (result.code, result.err) == (0, "")
    assert not any(escape in result.out for escape in ("\\u", "\\x"))


def test_code_is_told_by_marks_where_there_are_no_colours_and_by_colour_else(attn):
    assert "`--causal-align`" in attn("guide", "semantics", columns=80).out
    colored = attn("guide", "semantics", columns=80, colors="truecolor").out
    assert "\x1b[36m--causal-align\x1b[0m" in colored
    assert "`" not in colored


def test_no_background_is_painted(attn):
    out = attn("guide", "files", columns=80, colors="truecolor").out
    assert "\x1b[" in out
    assert not any(code in out for code in (";40m", "[40m", ";48;"))


def test_a_table_is_a_list_of_terms_where_there_is_no_room_for_it(attn):
    wide = attn("guide", "exit-codes", columns=80).out.splitlines()
    narrow = attn("guide", "exit-codes", columns=40).out.splitlines()
    assert "70        a bug in `attn`, with its traceback" in wide
    assert narrow[narrow.index("70") + 1] == "  a bug in `attn`, with its traceback"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("semantic", "semantics"),
        ("exit", "exit-codes"),
        ("chekcing", "checking"),
        ("get", "getting-started"),
    ],
)
def test_a_near_topic_is_suggested(attn, asked, meant):
    result = attn("guide", asked)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"error: no topic {asked}: did you mean {meant}?",
        f"hint:  attn guide {meant}",
    ]


@pytest.mark.parametrize("asked", ["xyz", ""])
def test_of_a_topic_like_none_all_are_named(attn, asked):
    result = attn("guide", asked)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"error: no topic {asked}: there is {', '.join(TOPICS)}",
        "hint:  attn guide",
    ]


def test_topics_are_completed():
    (topic,) = guide.params[:1]
    found = topic.shell_complete(click.Context(guide), "c")
    assert [item.value for item in found] == ["checking", "catalogue", "cluster"]
