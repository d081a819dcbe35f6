"""The help texts, word for word: recorded, so that a change of one is seen and meant."""

import os
import re
import shlex
from pathlib import Path

import click
import pytest

from attncli.cli import main
from attncli.files.formats import ENDINGS

RECORDED = Path(__file__).parent / "helps"
ANEW = "RECORD_HELPS=1 python -m pytest tests/cli/test_helps.py"
TWO_SCREENS = 48  # lines of 80 columns
GROUP = click.Context(main.attn, info_name="attn")

each_command = pytest.mark.parametrize("command", main.COMMANDS)
PAGES = ["attn", *main.COMMANDS, *(f"{command} --help-all" for command in main.COMMANDS)]


def found(command):
    return main.attn.get_command(GROUP, command)


def help_of(attn, page, columns=80):
    command, *asked = page.split()
    asked = asked or ["--help"]
    return attn(*asked if command == "attn" else (command, *asked), columns=columns).out


@pytest.mark.parametrize("page", PAGES)
def test_help_is_the_recorded_one(attn, page):
    text = help_of(attn, page)
    file = RECORDED / f"{page.replace(' --', '-')}.txt"
    if os.environ.get("RECORD_HELPS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"if this is meant: {ANEW}"


def test_nothing_is_recorded_of_commands_that_are_gone():
    pages = {page.replace(" --", "-") for page in PAGES}
    assert {file.stem for file in RECORDED.iterdir()} == pages


def test_who_reads_files_is_told_of_every_format(attn):
    text = attn("forward", "--help", columns=80).out.split("Calculation")[0]
    weights = attn("show-weights", "--help", columns=80).out.split("Which weights")[0]
    assert ".html" in weights  # which is of weights alone
    assert [ending for ending in ENDINGS if ending not in text] == [".html"]


@pytest.mark.parametrize("command", ["attn", *main.COMMANDS])
def test_help_is_two_screens_at_most(attn, command):
    """What is explained first is said where the command is made: ``first``."""
    lines = help_of(attn, command).splitlines()
    assert len(lines) <= TWO_SCREENS
    assert max(map(len, lines)) <= 80


@each_command
@pytest.mark.parametrize("columns", [40, 200])
def test_help_fits_the_terminal(attn, command, columns):
    """But for the examples, which are copied as they stand."""
    before, _, rest = help_of(attn, command, columns).partition("Examples:\n")
    lines = [*before.splitlines(), *rest.partition("\n\n")[2].splitlines()]
    assert max(map(len, lines)) <= columns


@each_command
def test_every_option_is_explained_or_named_by_help_and_explained_by_the_whole(attn, command):
    page, whole = help_of(attn, command), help_of(attn, f"{command} --help-all")
    for option in found(command).options_of(GROUP):
        if option.hidden or not hasattr(option, "group"):
            continue
        assert re.search(rf"(?m)(^ |  | ){re.escape(option.opts[0])}\b", page), option
        assert re.search(rf"(?m)^ +{re.escape(option.opts[0])}\b", whole), option


@each_command
def test_what_help_explains_first_is_there(command):
    known = {name for option in found(command).options_of(GROUP) for name in option.opts}
    assert set(found(command).first) <= known


@each_command
def test_help_has_three_examples_that_run_when_copied(attn, folder, command, monkeypatch):
    """One after the other in an empty folder: the samples come along. What is no, is a verdict."""
    monkeypatch.setattr("attncli.benchmarks.contenders.is_installed", lambda peer: False)
    monkeypatch.setattr("attncli.demo.translator.STEPS", 4)  # the whole is in test_demo.py
    examples = found(command).examples
    assert len(examples) >= 3
    assert f"attn {command}" in examples[-1]
    for example in examples:
        assert f"  {example}\n" in help_of(attn, command)
        for one in example.partition(" > ")[0].split(" && "):
            _, *arguments = shlex.split(one)
            result = attn(*arguments)
            judges = arguments[0] in ("check", "gradcheck", "compare", "convention")
            assert result.code in ((0, 1) if judges else (0,)), (one, result.err)
            assert result.out
            assert "error:" not in result.err


@pytest.mark.parametrize("asked", [[], ["forward"], ["show-weights"], ["help"]])
def test_help_is_a_command_too(attn, asked):
    said = attn("help", *asked)
    assert (said.code, said.out) == (0, attn(*asked, "--help").out)
    assert attn(*asked, "-h").out == said.out


def test_help_on_a_command_that_is_not_there_names_the_nearest(attn):
    result = attn("help", "foward")
    assert (result.code, result.out) == (2, "")
    assert "forward" in result.err


@pytest.mark.parametrize("asked", [[], *([command] for command in main.COMMANDS)])
@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_said_everywhere(attn, asked, option):
    assert attn(*asked, option).out == attn("--version").out
