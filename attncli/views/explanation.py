"""The catalogue of mistakes on the screen: all of them in lines, or one with its example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.operations import OPERATIONS
from attncli.reports import Explanation, Known, MistakeExample
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.look import Look
from attncli.views.prose import Prose
from attncli.views.tensor_tables import draw_tensor

_GAP = "  "


def draw_catalogue(known: Sequence[Known], look: Look) -> RenderableType:
    """List the mistakes by kind, each with what it computes as far as the width allows."""
    lines = list[RenderableType]()
    for kind, group in groupby(known, lambda one: one.kind):
        members = list(group)
        lines += ["", Text(f"{_(kind)} ({len(members)})", "bold")]
        lines += [_line(one, look) for one in members]
    many = Sentence(
        "{count} mistakes; attn explain NAME explains one, in letters and dashes too: {example}",
        count=len(known),
        example=f"attn explain {known[0].slug}",
    )
    return Group(*lines[1:], "", Text(_(many), "dim italic"))


def _line(one: Known, look: Look) -> Text:
    line = Text(_GAP).append(look.fit(_(one.name)))
    formula = look.fit(_(one.computed))
    width = cell_len(line.plain) + len(_GAP) + cell_len(formula)
    return line.append(_GAP + formula, "dim") if look.plain or width <= look.width else line


def draw_explanation(found: Explanation, look: Look) -> RenderableType:
    """Draw a mistake: formulas, why, what it looks like, the remedy and the example."""
    return Group(*_parts(found, look))


def _parts(found: Explanation, look: Look) -> Iterator[RenderableType]:
    heading = Text(look.fit(_(found.name)), "bold yellow")
    yield heading.append(f"{look.dot}{_(found.kind)}", "not bold dim")
    yield ""
    for label, text, style in (
        (_("meant"), found.meant, ""),
        (_("computed"), found.computed, ""),
        (_("write"), found.remedy, "cyan"),
    ):
        yield Padding(
            Text().append(f"{set_cell_size(label, 9)} ", "dim").append(look.fit(_(text)), style),
            (0, 2),
        )
    yield ""
    yield Padding(Prose(Text(look.fit(_(found.why)))), (0, 2))
    if found.shows:
        yield ""
        first, *looks = found.shows
        yield Text(_("what it looks like"), "bold")
        yield Padding(Prose(Text(look.fit(_(first)))), (0, 2))
        yield from (Padding(Prose(Text(look.fit(_(text)))), (0, 4)) for text in looks)
    if found.example is not None:
        yield ""
        yield from _example(found.example, look)


def _example(example: MistakeExample, look: Look) -> Iterator[RenderableType]:
    heading = Text(_("an example"), "bold").append(f"{look.dot}{example.layer}", "not bold dim")
    yield heading.append(f"{look.dot}{example.claims}" if example.claims else "", "not bold dim")
    yield ""
    axes = OPERATIONS[example.layer].axes
    for name, array in example.inputs.items():
        known = None if name == "mask" else axes(name, array.ndim)
        yield draw_tensor(name, array, known, look)
    for name, meant in example.meant.items():
        known = axes(name, meant.ndim)
        yield draw_tensor(_(Sentence("{name} meant", name=name)), meant, known, look)
        computed = example.computed[name]
        known = known if computed.ndim == meant.ndim else None
        yield draw_tensor(_(Sentence("{name} computed", name=name)), computed, known, look)
