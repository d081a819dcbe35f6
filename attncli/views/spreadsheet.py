"""Weights as CSV: one line a weight."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from attncli.arrays import Array
from attncli.files.exported import COLUMNS, protected
from attncli.views.gallery import Gallery
from attncli.views.numbers import format_array
from attncli.weights.selection import Chosen, Selection


def write(gallery: Gallery) -> Iterator[str]:
    """Write a line for each weight: layer, item and head, both steps and their words, weight.

    In full precision unless asked otherwise, and with words as the file has them. One that a
    spreadsheet would take for a formula has an apostrophe before it.
    """
    selection = gallery.selection
    every = [({"part": one.part} if one.part else {}) | one.names for one in selection.matrices]
    names = list(dict.fromkeys(name for one in every for name in one))
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    if selection.matrices:
        sheet.writerow([*names, *COLUMNS])
    for one, called in zip(selection.matrices, every, strict=True):
        weights, cut = gallery.picture(one).weights, selection.cut(one)
        columns = list(_steps(selection, one, "T_enc", cut.columns))
        first = [called.get(name) for name in names]
        for row, step in enumerate(_steps(selection, one, "T_dec", cut.rows)):
            # As float64 writes them: whoever reads them has the same numbers.
            numbers = format_array(weights[row].astype(np.float64), gallery.look.precision)
            sheet.writerows(
                [*first, *step, *column, number]
                for column, number in zip(columns, numbers, strict=True)
            )
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()  # the headings, where there is no row


def _steps(selection: Selection, one: Chosen, axis: str, kept: Array) -> Iterator[tuple[int, str]]:
    """Give the steps along an axis, each with its word, or its place where it has none."""
    words = selection.tokens(one, axis)
    for place in kept.tolist():
        word = str(place) if words is None else words[place]
        # No text file holds half a character; and a bare CR would end a line.
        word = word.encode(errors="backslashreplace").decode().replace("\r", "\\r")
        yield place, protected(word)
