"""Weights as Markdown: a table for each matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from attncli.views.gallery import Gallery
from attncli.views.numbers import format_array
from attncli.views.picture import WEIGHT_PRECISION

# What would be markup in a cell of a table; a backslash before it takes its meaning away.
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~$&:"})
_MARKUP[ord("@")] = "@<!-- -->"  # which no backslash keeps from being an address
# What a reader makes a link of where it stands bare.
_LINK = re.compile(r"(?i)\b(www)\.")


def write(gallery: Gallery) -> Iterator[str]:
    """Write a table for each matrix, with two digits unless asked otherwise."""
    asked = gallery.look.precision
    digits = WEIGHT_PRECISION if asked is None else asked
    yield f"**{plain(gallery.title)}** {plain(gallery.reading)}\n\n"
    for picture in gallery:
        if picture.heading:
            yield f"### {plain(picture.heading)}\n\n"
        yield _line("", map(plain, picture.columns))
        yield "|---|" + "---:|" * len(picture.columns) + "\n"
        for row, label in enumerate(picture.rows):
            yield _line(f"**{plain(label)}**", format_array(picture.weights[row], digits))
        yield "\n"


def plain(text: str) -> str:
    r"""Take the meaning away from what would be Markdown.

    Examples
    --------
    >>> plain("[x]"), plain("a|b"), plain("www.x.org")
    ('\\[x\\]', 'a\\|b', 'www\\.x.org')
    """
    return _LINK.sub(r"\1\.", text.translate(_MARKUP))


def _line(first: str, others: Iterable[str]) -> str:
    return f"| {first} | " + " | ".join(others) + " |\n"
