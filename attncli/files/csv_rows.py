"""CSV as arrays: bare numbers, words at the top and at the left, and what ``attn`` exports."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.errors import DataError, FileError
from attncli.files.entries import Entry
from attncli.files.exported import COLUMNS, Matrix, arrays_of, unprotected
from attncli.files.source import Source
from attncli.files.texts import decoded, entries_of, words_array

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.I | re.A)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.I | re.A)
_SEPARATORS = ("\t", ";", ",")
_TRIED = 20  # lines


class Line(NamedTuple):
    """A line of the file: its number, from 1, and its fields."""

    number: int
    fields: list[str]


def list_entries(source: Source) -> dict[str, Entry]:
    """Describe the array of the file and the words beside it; all of them are read."""
    text = decoded(source)
    separator = _separator(text)
    lines = _lines(text, separator, source.label)
    if not lines:
        raise FileError(f"{source.label}: holds no numbers")
    if set(COLUMNS) <= set(lines[0].fields):
        return entries_of(_exported(lines, source.label))
    return entries_of(_table(lines, source))


def _separator(text: str) -> str | None:
    """Choose what makes most numbers of some lines; None: spaces."""
    lines = text.splitlines(keepends=True)
    sample = "".join(lines[:_TRIED] + lines[-1:])
    counts = {one: _numbers_by(one, sample) for one in _SEPARATORS}
    best = max(counts, key=lambda one: counts[one])
    if counts[best]:
        return best
    return next((one for one in counts if one in sample), None)


def _numbers_by(separator: str, sample: str) -> int:
    try:
        lines = list(csv.reader(io.StringIO(sample, newline=""), delimiter=separator))
    except csv.Error:  # said of the whole file, with its line
        return 0
    return sum(_is_like_number(one) for fields in lines if fields[1:] for one in fields)


def _lines(text: str, separator: str | None, label: str) -> list[Line]:
    """Take the file apart; what is empty has no fields."""
    if separator is None:
        return [Line(at, line.split()) for at, line in enumerate(text.splitlines(), 1)]
    spaced = text.count(separator) == text.count(f"{separator} ")
    stream = io.StringIO(text, newline="")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a label may be all of it
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=spaced)
    lines: list[Line] = []
    try:
        for fields in reader:
            blank = not any(one.strip() for one in fields)
            lines.append(Line(reader.line_num, [] if blank else fields))
    except csv.Error as error:
        raise FileError(f"{label}: line {reader.line_num}: no CSV: {error}") from None
    if separator != "," and not any("." in x and _is_number(x) for _, some in lines for x in some):
        lines = [Line(at, [_with_point(one) for one in fields]) for at, fields in lines]
    return lines


def _with_point(field: str) -> str:
    """Write a number with a decimal comma as others do."""
    return field.replace(",", ".") if _DECIMAL_COMMA.fullmatch(field.strip()) else field


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field.strip()) is not None


def _is_like_number(field: str) -> bool:
    return _is_number(field) or _DECIMAL_COMMA.fullmatch(field.strip()) is not None


class _Block(NamedTuple):
    """A table in the file: words of the columns, words of the rows, numbers."""

    header: list[str] | None
    labels: list[str] | None
    numbers: Array


def _table(lines: Sequence[Line], source: Source) -> dict[str, Array]:
    """Read one table, or several of one shape with an empty line or a comment between them."""
    parts = _parts(lines)
    if not parts:
        raise FileError(f"{source.label}: holds no numbers")
    if all(len(part) == 1 for part in parts):  # every line has an empty one behind it
        parts = [[line for part in parts for line in part]]
    blocks = [_block(part, source.label) for part in parts]
    shape = blocks[0].numbers.shape
    for part, block in zip(parts, blocks, strict=True):
        if block.numbers.shape != shape:
            raise DataError(
                f"{source.label}: line {part[0].number}: a table {block.numbers.shape} "
                f"behind one {shape}: expected all of one shape"
            )
    numbers = np.stack([block.numbers for block in blocks])
    found = {"": numbers if len(blocks) > 1 else numbers[0]}
    words = {
        name: every[0] if all(one == every[0] for one in every) else every
        for name, every in (
            ("tokens_dec", [block.labels for block in blocks]),
            ("tokens_enc", [block.header for block in blocks]),
        )
        if None not in every and every[0] != [str(place) for place in range(len(every[0] or ()))]
    }
    if len(words) == 1 and shape[0] == shape[1]:
        words = {"tokens": next(iter(words.values()))}
    for name, some in words.items():
        found[name] = words_array(list(some or ()), source.label, source.max_memory)
    return found


def _parts(lines: Sequence[Line]) -> list[list[Line]]:
    """Take lines apart where one is empty or a comment; trailing separators make no column."""
    full = [line for line in lines if line.fields]
    if full and all(len(line.fields) > 1 and not line.fields[-1].strip() for line in full):
        lines = [line._replace(fields=line.fields[:-1]) for line in lines]
        full = [line for line in lines if line.fields]
    width = len(full[-1].fields) if full else 0
    parts: list[list[Line]] = [[]]
    for line in lines:
        if not line.fields or _is_comment(line, width, first=not any(parts)):
            parts.append([])
        else:
            parts[-1].append(line)
    return [part for part in parts if part]


def _is_comment(line: Line, width: int, *, first: bool) -> bool:
    """Whether a line says something; one that begins with ``#`` may have words for the columns."""
    fields = line.fields
    if not fields[0].startswith("#"):
        return False
    if fields[0] == "#" and len(fields) == width and all(map(_is_number, fields[1:])):
        return False  # a row of the word #
    words = [one.lstrip("# ") for one in fields]
    says = any(" " in one.strip() for one in words)
    return not first or says or len(fields) not in (width, width - 1) or len(fields) < 2


def _block(lines: Sequence[Line], label: str) -> _Block:
    width = len(lines[-1].fields)
    header, rows = None, lines
    if len(lines) > 1 and _is_header(lines[0].fields, width):
        header, rows = list(lines[0].fields), lines[1:]
        header[0] = re.sub(r"^#\s*", "", header[0])
    for line in rows:
        if len(line.fields) != width:
            raise DataError(
                f"{label}: the rows differ in length: line {line.number} has "
                f"{len(line.fields)} fields, line {rows[-1].number} {width}"
            )
    corner = header is not None and (len(header) < width or header[0].strip().lower() in _CORNERS)
    labelled = width > 1 and (corner or _are_labels([line.fields[0] for line in rows]))
    if header is not None and len(header) not in (width, width - labelled):
        raise DataError(
            f"{label}: the rows differ in length: line {lines[0].number} has {len(header)} "
            f"words, the lines below {width} fields"
        )
    numbers = [
        [_number(one, line.number, place, label) for place, one in enumerate(line.fields)
         if place or not labelled]
        for line in rows
    ]  # fmt: skip
    labels = [line.fields[0] for line in rows] if labelled else None
    if header is not None and labelled and len(header) == width:
        header = header[1:]
    return _Block(header, labels, np.array(numbers, dtype=np.float64))


# What stands above words at the left.
_CORNERS = ("", "index", "row", "id", "token", "tokens", "word", "words", "step", "query")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?|[+-]?\d+e[+-]?\d+", re.I | re.A)


def _is_header(fields: Sequence[str], width: int) -> bool:
    """Whether a first line is words: there is some, and no weight."""
    if any(_DECIMAL.fullmatch(one.strip()) for one in fields):
        return False
    others = fields if len(fields) < width else fields[1:]
    if not fields[0].strip() and len(fields) == width > 1:
        return True
    return not all(map(_is_like_number, others)) or (width == 1 and not _is_like_number(fields[0]))


def _are_labels(fields: Sequence[str]) -> bool:
    """Whether a first column is words: there is some, and no weight."""
    return not all(map(_is_like_number, fields)) and not any(
        _DECIMAL.fullmatch(one.strip()) for one in fields
    )


def _number(field: str, line: int, place: int, label: str) -> float:
    try:
        return float(field if "_" not in field else "")  # 1_000 is a number to Python alone
    except ValueError:
        pass
    where = f"{label}: line {line}, column {place + 1}"
    if _DECIMAL_COMMA.fullmatch(field.strip()):
        raise DataError(
            f"{where}: {field.strip()} has a decimal comma, expected a point",
            hint="tr , . < FILE > NEW changes all, where commas separate nothing",
        )
    came = f"{field.strip()[:40]!r}" if field.strip() else "an empty field"
    raise DataError(f"{where}: {came}, expected a number")


def _exported(lines: Sequence[Line], label: str) -> dict[str, Array]:
    """Put together what an export has a line of for each weight."""
    head = lines[0].fields
    *names, _, _, _, _, _ = head
    if tuple(head[len(names) :]) != COLUMNS:
        raise FileError(f"{label}: line 1: expected the columns {', '.join(COLUMNS)} at the end")
    matrices: dict[tuple[str, ...], list[Line]] = {}
    for line in lines[1:]:
        if not line.fields:
            continue
        if len(line.fields) != len(head):
            raise DataError(
                f"{label}: the rows differ in length: line {line.number} has {len(line.fields)} "
                f"fields, line 1 {len(head)}"
            )
        matrices.setdefault(tuple(line.fields[: len(names)]), []).append(line)
    if not matrices:
        raise FileError(f"{label}: holds no numbers")
    return arrays_of(
        [
            _matrix(dict(zip(names, key, strict=True)), some, label)
            for key, some in matrices.items()
        ],
        label,
    )


def _matrix(names: dict[str, str], lines: Sequence[Line], label: str) -> Matrix:
    sides: list[dict[int, str]] = [{}, {}]
    cells: dict[tuple[int, int], float] = {}
    for number, fields in lines:
        dec, dec_label, enc, enc_label, weight = fields[len(names) :]
        if not (dec.isdecimal() and dec.isascii() and enc.isdecimal() and enc.isascii()):
            raise DataError(f"{label}: line {number}: {dec!r}, {enc!r} are no places of steps")
        place = int(dec[:18]), int(enc[:18])
        if place in cells:
            raise DataError(f"{label}: line {number}: the weight at {list(place)} a second time")
        cells[place] = _number(weight, number, len(names) + 4, label)
        for side, at, text in zip(sides, place, (dec_label, enc_label), strict=True):
            side[at] = text
    rows, columns = (sorted(side) for side in sides)
    if len(cells) != len(rows) * len(columns):
        raise DataError(
            f"{label}: line {lines[-1].number}: {len(cells)} weights of {len(rows)} × "
            f"{len(columns)} until here"
        )
    weights = np.array([[cells[row, column] for column in columns] for row in rows])
    words = [_words(side) for side in sides]
    return Matrix(_numbered(names), (words[0], words[1]), weights)


def _words(side: dict[int, str]) -> list[str] | None:
    """The words of an axis; of one that has only places for labels, these where they say more."""
    words = [unprotected(side[place]) for place in sorted(side)]
    return None if words == [str(place) for place in range(len(words))] else words


def _numbered(names: dict[str, str]) -> dict[str, Any]:
    return {
        name: int(text) if text.isdecimal() and len(text) < 18 else text or None
        for name, text in names.items()
    }
