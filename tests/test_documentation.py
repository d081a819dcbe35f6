"""README and guide tell the truth: their outputs are the real ones, and their examples run."""

import doctest
import re
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from conftest import SAMPLES
from markdown_it import MarkdownIt

from attncli.cli import main
from attncli.cli.guide import TOPICS

ROOT = SAMPLES.parent
GUIDE = ROOT / "attncli" / "guide"
README = ROOT / "README.md"
PAGES = {README.name: README} | {
    str(page.relative_to(GUIDE)): page for page in sorted(GUIDE.rglob("*.md"))
}
TRANSLATED = [name for name in PAGES if "/" in name]

GROUP = click.Context(main.attn, **main.attn.context_settings)

each_page = pytest.mark.parametrize("name", PAGES)


def text_of(name):
    return PAGES[name].read_text(encoding="utf-8")


def blocks(text, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def comparable(text):
    """Leave out what differs between machines: the last digits, and where the worst error is."""
    text = re.sub(r"\d\.\de-(1[0-9]|0[6-9])", "tiny", text)
    return [re.sub(r"\s+", " ", re.sub(r"\[[\d, ]+\]", "[]", line)) for line in text.splitlines()]


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    """All pages with the outputs that their commands give now."""
    folder = tmp_path_factory.mktemp("pages")
    for name, page in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(page, folder / name)
    subprocess.run(
        [sys.executable, "-m", "cogapp", "-r", "-I", ROOT / "tests", *PAGES],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    return folder


@each_page
def test_outputs_are_the_real_ones(rewritten, name):
    """If not: ``python -m cogapp -r -I tests README.md attncli/guide/{,ja/}*.md`` writes
    them anew.."""
    now = (rewritten / name).read_text(encoding="utf-8")
    assert comparable(now) == comparable(text_of(name))


@each_page
def test_every_command_with_an_answer_is_run(name):
    """A console block that cog does not write could say anything."""
    written = re.sub(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", "", text_of(name), flags=re.DOTALL)
    assert "```console" not in written
    assert "$ attn" not in written


@each_page
def test_commands_that_are_only_named_are_commands_and_have_these_options(name):
    text = text_of(name)
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    named = [part for line in lines for part in re.split(r" && | \| | > ", line)]
    named += re.findall(r"`(attn [a-z][^`]*)`", text)
    for command in named:
        if command.startswith("attn "):
            _, name, *arguments = shlex.split(command)
            found = main.attn.get_command(GROUP, name)
            assert found is not None, command
            context = click.Context(found, parent=GROUP, info_name=name)
            found.make_parser(context).parse_args(arguments)


@each_page
def test_every_option_that_is_named_exists(name):
    commands = [main.attn, *(main.attn.get_command(GROUP, command) for command in main.COMMANDS)]
    known = {
        option
        for command in commands
        for parameter in command.get_params(GROUP)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    ours = re.sub(r"\bdask (scheduler|worker) .*", "", text_of(name))
    assert set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", ours)) <= known


@each_page
def test_the_python_in_it_runs(name, folder):
    """The blocks of a page are one session, which may write files."""
    (folder / "sample_inputs").symlink_to(SAMPLES)
    session = "\n".join(blocks(text_of(name), "python"))
    assert all(block.startswith(">>> ") for block in blocks(text_of(name), "python"))
    test = doctest.DocTestParser().get_doctest(session, {}, name, str(PAGES[name]), 0)
    said = list[str]()
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_the_guide_has_python_that_is_run():
    assert len(blocks(text_of("python.md"), "python")) > 5


def test_every_page_has_a_topic_and_every_topic_a_page():
    assert {f"{topic}.md" for topic in TOPICS} == {page.name for page in GUIDE.glob("*.md")}


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_page_in_another_language_goes_with_the_english_one(name):
    """It has the same headings, tables, paragraphs and lists, and the same code in them."""
    shapes = [list(shape(text_of(one))) for one in (name, name.partition("/")[2])]
    assert shapes[0] == shapes[1]


def shape(text):
    """Give what stands in a page but for its prose, and the code in that."""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "inline":
            inner = (one for one in token.children if one.type == "code_inline")
            yield sorted(one.content for one in inner)
        else:
            yield token.type, token.tag, token.info, "" if token.nesting else token.content


def test_what_learners_begin_with_is_in_japanese():
    assert TRANSLATED == ["ja/getting-started.md", "ja/lesson.md"]


@each_page
def test_a_page_begins_with_its_title(name):
    assert re.match(r"# \w.*\n\n", text_of(name))


def test_the_readme_is_a_page():
    assert len(text_of("README.md").splitlines()) <= 250


def test_there_is_one_line_to_set_up_and_one_to_test():
    lines = [
        line for line in text_of("README.md").splitlines() if line.startswith("python3 -m venv")
    ]
    assert len(lines) == 2
    assert "show-weights sample_inputs/" in lines[0]
    assert lines[1].endswith(".venv/bin/pytest")


def test_every_sample_has_its_origin():
    origins = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for sample in SAMPLES.iterdir():
        assert sample.name == "README.md" or f"`{sample.name}`" in origins
