"""The pages of the guide: Markdown as it reads on a terminal, or as it stands in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, Paragraph, TableElement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from attncli.translation import translated as _
from attncli.views.look import Look
from attncli.views.prose import Prose

# Lines longer than this are hard to read, however wide the terminal.
_WIDEST = 100
# Narrower than this, columns of prose side by side have a word a line.
_NARROW = 60
_UNDERLINES = {"h1": "=", "h2": "-"}
# The shades in examples, where they cannot be encoded.
_SHADES = str.maketrans("░▒▓█␣", ":+#@_")
# Nothing that hides on a light background: rich's own code is on black.
_THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "cyan",
        "markdown.h1": "bold",
        "markdown.h2": "bold",
        "markdown.h3": "bold italic",
        "markdown.item.bullet": "none",
        "markdown.table.header": "italic",
        "markdown.table.border": "none",
    },
    inherit=True,
)


def draw_page(text: str, look: Look) -> RenderableType:
    r"""Draw a page of the guide; piped, it is the Markdown itself.

    Comments, by which tests find the examples, are left out.

    Examples
    --------
    >>> draw_page("# Files\n<!-- seen by tests -->\n\n`a`\n", Look.piped()).plain
    '# Files\n\n`a`'
    """
    page = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL).strip("\n")
    if not look.unicode:
        page = re.sub("[·+░▒▓█]{2,}", lambda cells: cells[0].replace("·", "."), page)
        page = page.translate(_SHADES)
    page = look.fit(page)
    return Text(page) if look.plain else _Page(page, look)


def draw_topics(topics: Mapping[str, str], look: Look) -> RenderableType:
    """List the topics, one line each as far as the width allows."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for topic, summary in topics.items():
        table.add_row(Text(topic, "bold"), Prose(Text(look.fit(_(summary)))))
    return Group(table, "", Text(_("attn guide TOPIC shows one"), "dim italic"))


class _Page:
    """A page on a terminal: no wider than is read with ease, in colours for any background."""

    def __init__(self, page: str, look: Look) -> None:
        self.markdown, self.look = _Markdown(page, hyperlinks=False), look
        if not look.color:  # what is code is told by its marks alone
            for block in self.markdown.parsed:
                for token in block.children or ():
                    if token.type == "code_inline":
                        token.content = f"`{token.content}`"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bullet = "•" if self.look.unicode else "*"
        with console.use_theme(_THEME):
            options = options.update(width=min(self.look.width, _WIDEST))
            for text, style, control in console.render(self.markdown, options):
                yield Segment(text.replace("•", bullet), style, control)


class _Heading(Heading):
    """A heading at the left, as everything else."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text
        if self.tag in _UNDERLINES:
            yield _UNDERLINES[self.tag] * min(self.text.cell_len, options.max_width)


class _Paragraph(Paragraph):
    """A paragraph in any language."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Prose(self.text)


class _Code(CodeBlock):
    """Commands and what they answer, exactly so."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = Text(str(self.text).rstrip(), "markdown.code_block", overflow="fold")
        yield Padding(code, (0, 0, 0, 2 if options.max_width >= _NARROW else 0))


class _Table(TableElement):
    """A table; where there is no room for it, each row as a term and what is said of it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = self.header.row.cells if self.header and self.header.row else []
        rows = [
            [cell.content for cell in row.cells] for row in (self.body.rows if self.body else [])
        ]
        longest = max((row[0].cell_len for row in rows), default=0)
        if options.max_width < max(_NARROW, 2 * longest):
            for term, *said in rows:
                yield term
                for text in said:
                    yield Padding(Prose(text), (0, 0, 0, 2))
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        for cell in header:
            # What stands in the first column is looked up, and not broken.
            table.add_column(no_wrap=cell is header[0])
        table.add_row(*(Text(cell.content.plain, "markdown.table.header") for cell in header))
        for row in rows:
            table.add_row(row[0], *map(Prose, row[1:]))
        yield table


class _Markdown(Markdown):
    elements: ClassVar = {
        **Markdown.elements,
        "heading_open": _Heading,
        "paragraph_open": _Paragraph,
        "fence": _Code,
        "code_block": _Code,
        "table_open": _Table,
    }
