"""Notebooks: the Python that is in their cells, without what only a notebook understands.

Lines keep their numbers.  Magics (``%matplotlib inline``), shell lines (``!pip install …``) and
questions (``np.sum?``) become ``pass``; a name that would get what they give, an empty list.
"""

from __future__ import annotations

import ast
import json
import os
import re
from typing import Any, NamedTuple

from attncli.errors import CodeError

# Cell magics whose body is Python that runs in the notebook itself.
_OF_PYTHON = ("time", "timeit", "capture", "prun", "memit", "mprun", "debug", "snakeviz")
_CELL_MAGIC = re.compile(r"\s*%%(\w+).*")
_ASSIGNED = re.compile(r"(\s*[\w.,\s]+?=)\s*[%!].*")
_TIMED = re.compile(r"(\s*)%time\s+(?=[\w(])")
_PASSED = re.compile(r"(\s*)(?:[%!?].*|[%\w.*]+(?:\(\))?\?{1,2}\s*)")
# A comment, a string or the beginning of a long one, a bracket.
_LEXEME = re.compile(
    r"#|'''|\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[(\[{]|[)\]}]",
)


class Cell(NamedTuple):
    """A code cell.

    Attributes
    ----------
    name : str
        ``code cell 2``, counted among the code cells.
    source : str
        Python.
    magic : str
        The cell magic for which all of it is passed over; mostly empty.
    """

    name: str
    source: str
    magic: str = ""


def cells_of(path: str) -> list[Cell]:
    """Read the code cells of a notebook, of format 3 or later.

    Raises
    ------
    CodeError
        If it is no notebook, or one of another language.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            book = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise CodeError(f"{path}: is no notebook: {error}") from None
    except OSError as error:
        raise CodeError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        sheets = book.get("worksheets", [book])
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        texts = [
            "".join(cell.get("source", cell.get("input", "")))
            for cell in cells
            if cell["cell_type"] == "code"
        ]
        language = _language(book.get("metadata", {}))
    except (AttributeError, KeyError, TypeError):
        raise CodeError(f"{path}: is no notebook: expected an object with cells") from None
    if language not in ("python", "ipython"):
        raise CodeError(f"{path}: is a notebook of {language}, expected Python")
    return [
        Cell(f"code cell {number}", *python_of(text)) for number, text in enumerate(texts, start=1)
    ]


def _language(metadata: Any) -> str:
    for place, name in (("kernelspec", "language"), ("language_info", "name")):
        if found := metadata.get(place, {}).get(name):
            return str(found).lower().rstrip("0123456789")
    return "python"


def file_of_cell(path: str, cell: Cell) -> str:
    """What stands for the file that a cell is in: tracebacks and warnings name it."""
    return f"{os.path.abspath(path)} {cell.name}"


def cell_of_file(file: str) -> str:
    """The other way round; empty for any other file.

    Examples
    --------
    >>> cell_of_file("/home/me/mine.ipynb code cell 2"), cell_of_file("/home/me/mine.py")
    ('code cell 2', '')
    """
    _, notebook, cell = file.rpartition(".ipynb code cell ")
    return f"code cell {cell}" if notebook else ""


def python_of(text: str) -> tuple[str, str]:
    r"""Give the Python in a cell, and the cell magic for which there is none.

    Examples
    --------
    >>> python_of("%matplotlib inline\nx = [1,\n% 2]")
    ('pass\nx = [1,\n% 2]', '')
    >>> python_of("%%bash\nls")
    ('', 'bash')
    """
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if magic := _CELL_MAGIC.fullmatch(lines[first]):
        if magic[1] not in _OF_PYTHON:
            return "", magic[1]
        lines[first] = ""
        return python_of("\n".join(lines))
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return "\n".join(_plain(lines)), ""
    return text, ""


def _plain(lines: list[str]) -> list[str]:
    """Lines of which each that begins a statement may be in the notebook's own language."""
    plain = []
    inside, passing = _Inside(), False
    for line in lines:
        if passing:
            text = ""
        elif inside.nothing:
            text = _statement(line)
        else:
            text = line
        passing = (passing or text != line) and line.rstrip().endswith("\\")
        inside.read(text)
        plain.append(text)
    return plain


def _statement(line: str) -> str:
    """A line that begins a statement, as Python."""
    if timed := _TIMED.match(line):
        return timed[1] + line[timed.end() :]
    if assigned := _ASSIGNED.fullmatch(line):
        return f"{assigned[1]} []"
    passed = _PASSED.fullmatch(line)
    return line if passed is None else f"{passed[1]}pass"


class _Inside:
    """What the lines read so far have left open: brackets, a long string, a statement."""

    def __init__(self) -> None:
        self._depth, self._quote, self._continued = 0, "", False

    @property
    def nothing(self) -> bool:
        return not (self._depth or self._quote or self._continued)

    def read(self, line: str) -> None:
        at = 0
        while at < len(line):
            if self._quote:
                end = re.compile(rf"(?:\\.|(?!{self._quote}).)*{self._quote}").match(line, at)
                if end is None:
                    break
                at, self._quote = end.end(), ""
                continue
            lexeme = _LEXEME.search(line, at)
            if lexeme is None or lexeme[0] == "#":
                break
            at = lexeme.end()
            if lexeme[0] in ("'''", '"""'):
                self._quote = lexeme[0]
            elif lexeme[0] in "([{":
                self._depth += 1
            elif lexeme[0] in ")]}":
                self._depth = max(0, self._depth - 1)
        self._continued = not self._quote and line.endswith("\\")
