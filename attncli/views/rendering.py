"""Renderables as lines of text, for whatever place they are printed to."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from rich.console import COLOR_SYSTEMS, Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from attncli.views.background import is_light
from attncli.views.look import Look

_WIDEST = 2000  # columns; what claims to be wider is filled no further
_PAGE = 100  # columns of a notebook's page
# Black, red, green, yellow, blue, magenta, cyan, white: each as far from a white page as from a
# black one, at 4.2 times their luminance or more, and dim is between the two.
_GREY = (122, 122, 122)
_TONES = [
    _GREY, (222, 59, 53), (20, 138, 40), (159, 113, 4), (45, 120, 225), (198, 57, 198),
    (12, 132, 151), _GREY,
]  # fmt: skip
_ON_ANY_PAGE = TerminalTheme(_GREY, _GREY, _TONES, _TONES)


def look_of(
    stream: TextIO, *, color: str = "auto", theme: str | None = None, ask: bool = False, **more: Any
) -> Look:
    """Find out what a stream can show; `color` is "auto", "always" or "never".

    `theme` and `ask` are those of `is_light`.
    """
    system = _color_system(stream, color)
    shown: dict[str, Any] = {
        "encoding": getattr(stream, "encoding", None) or "utf-8",
        "color": system is not None,
        "few_colors": system in ("standard", "windows"),
        "indexed": system == "256",
        "light": system is not None and is_light(theme, ask=ask),
        **more,
    }
    if not stream.isatty():
        return Look.piped(**shown)
    import shutil  # slow to load, and nothing that is piped needs it

    size = shutil.get_terminal_size()
    return Look.terminal(min(size.columns, _WIDEST), height=size.lines, **shown)


def _color_system(stream: TextIO, color: str) -> str | None:
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    if color == "never":
        return None
    if color == "auto" and (os.environ.get("NO_COLOR") or dumb or not stream.isatty()):
        return None
    found = Console(file=io.StringIO(), force_terminal=True, no_color=False).color_system
    if color == "always" and found != "truecolor":
        return "256"  # who asks for colour means one that shows shades
    return found


def lines(look: Look, *renderables: RenderableType) -> Iterator[str]:
    """Render line by line: a large table is never there as a whole.

    Nothing that is piped is cut at any width; no line has spaces at its end.
    """
    system = COLOR_SYSTEMS.get(look.color_system or "")
    for line in _split(look, *renderables):
        texts = (
            _on(look, style, text).render(text, color_system=system) if style else text
            for text, style, _ in line
        )
        yield "".join(texts).rstrip(" ")


def _on(look: Look, style: Style, text: str) -> Style:
    """Take a colour for labels that is read on a light background too; shades stay."""
    if not (look.light and style.color and style.color.name == "cyan") or "▀" in text:
        return style
    return style + Style(color="blue")


def html(draw: Callable[[Look], RenderableType]) -> str:
    """Give what is drawn as HTML that can stand on a page of any colour: on light and on dark.

    Text has the colour of the page, or one that is as far from white as from black.
    """
    look = Look(width=_PAGE, color=True)
    text = "\n".join(
        "".join(_span(text, style) for text, style, _ in line).rstrip(" ")
        for line in _split(look, draw(look))
    )
    return f'<pre style="line-height: normal; overflow-x: auto">{text}</pre>'


def _span(text: str, style: Style | None) -> str:
    from html import escape

    css = style.get_html_style(_ON_ANY_PAGE) if style else ""
    return f'<span style="{css}">{escape(text)}</span>' if css else escape(text)


def _split(look: Look, *renderables: RenderableType) -> Iterable[list[Segment]]:
    colors: Any = look.color_system
    console = Console(
        file=io.StringIO(),
        width=look.width,
        force_terminal=colors is not None,
        color_system=colors,
        no_color=colors is None,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    options = console.options
    if look.plain:
        options = options.update(no_wrap=True, overflow="ignore")
    segments = (
        segment for renderable in renderables for segment in console.render(renderable, options)
    )
    if look.plain:
        return Segment.split_lines(segments)
    return Segment.split_and_crop_lines(segments, look.width, pad=False, include_new_lines=False)
