"""Weights as text for other programs: CSV, one line a weight, and Markdown tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attncli.views.numbers import format_array
from attncli.views.picture import WEIGHT_PRECISION, WeightMatrix

# What would be markup in a cell of a Markdown table; a backslash before it takes its meaning away.
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~$&:"})


def write_csv(
    pictures: Iterable[tuple[Mapping[str, Any], WeightMatrix]], precision: int | None = None
) -> Iterator[str]:
    """Write a line for each weight: layer, item and head, both steps and their labels, weight.

    In full precision unless asked otherwise. A label that a spreadsheet would take for a formula
    has an apostrophe before it.
    """
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    for count, (names, picture) in enumerate(pictures):
        if count == 0:
            sheet.writerow([*names, "dec", "dec_label", "enc", "enc_label", "weight"])
        columns = [
            (picture.column_number(place), _no_formula(label))
            for place, label in enumerate(picture.columns)
        ]
        for row, label in enumerate(picture.rows):
            first = [*names.values(), picture.row_number(row), _no_formula(label)]
            numbers = format_array(picture.weights[row], precision)
            sheet.writerows(
                [*first, *column, number] for column, number in zip(columns, numbers, strict=True)
            )
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()  # the headings, where there is no row


def write_markdown(
    pictures: Iterable[WeightMatrix], title: str, reading: str, precision: int | None = None
) -> Iterator[str]:
    r"""Write a table for each matrix, with two digits unless asked otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> picture = WeightMatrix("", np.array([[0.25, 0.75]]), ["a|b"], ["[x]", "y"])
    >>> print("".join(write_markdown([picture], "w.npz", "(1, 2)")), end="")
    **w.npz** (1, 2)
    <BLANKLINE>
    |  | \[x\] | y |
    |---|---:|---:|
    | **a\|b** | 0.25 | 0.75 |
    <BLANKLINE>
    """
    digits = WEIGHT_PRECISION if precision is None else precision
    yield f"**{plain(title)}** {plain(reading)}\n\n"
    for picture in pictures:
        if picture.heading:
            yield f"### {plain(picture.heading)}\n\n"
        yield _line("", map(plain, picture.columns))
        yield "|---|" + "---:|" * len(picture.columns) + "\n"
        for row, label in enumerate(picture.rows):
            yield _line(f"**{plain(label)}**", format_array(picture.weights[row], digits))
        yield "\n"


def _no_formula(label: str) -> str:
    """Put an apostrophe before what spreadsheets would compute, as OWASP advises; they hide it.

    A token may be anything, `=HYPERLINK(…)` too; and `-ing` would be an error there.
    """
    return f"'{label}" if label.startswith(("=", "+", "-", "@")) else label


def plain(text: str) -> str:
    """Take the meaning away from what would be Markdown."""
    return text.translate(_MARKUP)


def _line(first: str, others: Iterable[str]) -> str:
    return f"| {first} | " + " | ".join(others) + " |\n"
