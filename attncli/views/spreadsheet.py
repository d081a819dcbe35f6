"""Weights as CSV: one line a weight."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from attncli.views.gallery import Gallery
from attncli.views.numbers import format_array


def write(gallery: Gallery) -> Iterator[str]:
    """Write a line for each weight: layer, item and head, both steps and their labels, weight.

    In full precision unless asked otherwise. A label that a spreadsheet would take for a formula
    has an apostrophe before it.
    """
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    for count, one in enumerate(gallery.selection.matrices):
        picture = gallery.picture(one)
        if count == 0:
            sheet.writerow([*one.names, "dec", "dec_label", "enc", "enc_label", "weight"])
        columns = [
            (picture.column_number(place), no_formula(label))
            for place, label in enumerate(picture.columns)
        ]
        for row, label in enumerate(picture.rows):
            first = [*one.names.values(), picture.row_number(row), no_formula(label)]
            numbers = format_array(picture.weights[row], gallery.look.precision)
            sheet.writerows(
                [*first, *column, number] for column, number in zip(columns, numbers, strict=True)
            )
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()  # the headings, where there is no row


def no_formula(label: str) -> str:
    """Put an apostrophe before what spreadsheets would compute, as OWASP advises; they hide it.

    A token may be anything, `=HYPERLINK(…)` too; and `-ing` would be an error there.
    """
    return f"'{label}" if label.startswith(("=", "+", "-", "@")) else label
