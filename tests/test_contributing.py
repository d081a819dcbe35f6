"""The recipes of CONTRIBUTING.md name the files that the newest of each kind touches."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from attncli.checking.diagnosing.mistakes import MISTAKES
from attncli.cli.main import COMMANDS
from attncli.core.engines import ENGINES
from attncli.core.semantics import Semantics
from attncli.files.formats import FORMATS
from attncli.views.exports import EXPORTS
from attncli.views.report_files import REPORTS
from attncli.views.ways import WAYS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _last(things):
    return list(things)[-1]


def _module(text):
    return text.split(":")[0].rpartition(".")[2]


_COMMAND = _module(_last(COMMANDS.values())[0])
_OPTION = _last(fields(Semantics)).name
_FORMAT = _module(_last(FORMATS).module)
_MISTAKE = _last(MISTAKES).name
_VIEW = _module(_last(WAYS.values()).module)
_EXPORT = _module(_last(EXPORTS.values()).module)
_REPORT = _module(_last(REPORTS.values()))
_ENGINE = _last(ENGINES)

NEWEST = {
    "A command": (_COMMAND, rf"\bcli\.{_COMMAND}\b"),
    "An option that changes scores": (_OPTION, rf"\b{_OPTION}\b"),
    "A file format": (_FORMAT, rf"\b{_FORMAT}\b"),
    "A mistake": ("", re.escape(_MISTAKE)),
    "A view of weights": (_VIEW, rf"\bviews\.{_VIEW}\b"),
    "An export of weights": (_EXPORT, rf"\bviews\.{_EXPORT}\b"),
    "A report on targets": (_REPORT, rf"\bviews\.{_REPORT}\b"),
    "An engine": (_ENGINE, rf"[\"']{_ENGINE}[\"'-]|\bcore\.{_ENGINE}\b|import .*\b{_ENGINE}\b"),
}
"""Of each kind the name of the newest, and what a file that knows of it holds."""


def recipes(text):
    """Give the files and folders that each recipe names."""
    parts = re.split(r"^### (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        kind: re.findall(r"`((?:attncli|tests)/[^`]*)`", recipe)
        for kind, recipe in zip(parts[::2], parts[1::2], strict=True)
    }


def unnamed(named, found):
    """Give what a recipe neither names nor has the folder of."""
    return [one for one in found if one not in named and not one.startswith(_folders(named))]


def _folders(named):
    return tuple(one for one in named if one.endswith("/"))


def _knowing(pattern):
    own = Path(__file__)
    for folder in ("attncli", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != own and re.search(pattern, path.read_text(encoding="utf-8")):
                yield path.relative_to(ROOT).as_posix()


def test_there_is_a_recipe_for_every_kind():
    assert set(recipes(TEXT)) == set(NEWEST)


@pytest.mark.parametrize("kind", NEWEST)
def test_every_file_that_a_recipe_names_is_there(kind):
    name = NEWEST[kind][0]
    for named in recipes(TEXT)[kind]:
        assert (ROOT / named.replace("NAME", name)).exists(), named


@pytest.mark.parametrize("kind", NEWEST)
def test_the_newest_touches_no_other_file(kind):
    name, pattern = NEWEST[kind]
    named = [one.replace("NAME", name) for one in recipes(TEXT)[kind]]
    found = list(_knowing(pattern))
    assert found
    assert unnamed(named, found) == []


def test_a_file_that_no_recipe_names_is_found():
    named = recipes("### A thing\n- `attncli/a.py` and `tests/`\n")["A thing"]
    assert unnamed(named, ["attncli/a.py", "tests/test_a.py", "attncli/b.py"]) == ["attncli/b.py"]
