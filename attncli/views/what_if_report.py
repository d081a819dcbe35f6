"""What changes with a number, on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attncli.problems.what_if import Effect, WhatIf
from attncli.translation import Sentence
from attncli.translation import translated as _
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.numbers import DEFAULT_PRECISION
from attncli.views.records import Column, draw_records
from attncli.views.report_json import report_as_json
from attncli.views.run_report import headline


def draw_what_if(found: WhatIf, look: Look) -> RenderableType:
    """Draw what was changed, what that changes, and how well the gradient knew."""
    return Group(*_parts(found, look))


def what_if_as_json(found: WhatIf) -> dict[str, Any]:
    """Give the object that ``--json`` prints."""
    before, after = found.loss
    return {
        **found.problem.options("trace"),
        "sizes": found.problem.sizes,
        "moved": report_as_json(found.moved),
        "effects": report_as_json(found.effects),
        "loss": report_as_json({"before": before, "after": after}),
        "slopes": report_as_json(found.slopes),
    }


def _parts(found: WhatIf, look: Look) -> Iterator[RenderableType]:
    problem, write = found.problem, _Writer(look)
    dout = _(Sentence("dout random, seed {seed}", seed=problem.seed))
    yield headline(problem, _("what if"), look, dout=dout)
    yield ""
    for one in found.moved:
        yield Text(f"{safe(one.name, look)}{write.index(one.index)}  ", "bold").append(
            write.arrow(one.before, one.after), "not bold"
        )
    yield ""
    columns = [
        Column(_("result"), [safe(one.name, look) for one in found.effects]),
        Column(_("changes"), [_(_changed(one)) for one in found.effects], right=True),
        Column(_("most at"), [write.index(x.index) if x.changed else "" for x in found.effects]),
        Column(
            _("there"),
            [write.arrow(x.before, x.after) if x.changed else "" for x in found.effects],
        ),
    ]
    yield draw_records(columns, look)
    yield ""
    more = " + dlogsumexp ⊙ logsumexp" if problem.dlogsumexp is not None else ""
    loss = look.fit(f"loss = Σ dout ⊙ {problem.operation.result}{more}")
    yield Text(f"{loss}  ", "bold").append(write.arrow(*found.loss), "not bold")
    for one in found.moved:
        name = safe(one.name, look) + write.index(one.index)
        change = write(one.after - one.before)
        product = f"{write(one.gradient)} {look.fit('·')} {change}"
        line = f"d{name} {look.fit('·')} {change} = {product} = {write(one.predicted)}"
        yield Padding(Text(line), (0, 0, 0, 2))
    yield ""
    columns = [
        Column(_("of the change"), [f"{100 * one.part:g} %" for one in found.slopes], right=True),
        Column(_("predicted"), [write(one.predicted) for one in found.slopes], right=True),
        Column(_("came"), [write(one.came) for one in found.slopes], right=True),
        Column(_("apart"), [_apart(one.predicted, one.came) for one in found.slopes], right=True),
    ]
    yield draw_records(columns, look)
    yield ""
    slope = _(
        "A gradient is the slope where the number is now: the smaller the change, the better it "
        "predicts what comes."
    )
    yield Text(slope, "dim")


def _changed(one: Effect) -> Sentence:
    return Sentence("{changed} of {size}", changed=one.changed, size=one.size)


def _apart(predicted: float, came: float) -> str:
    """How far the prediction is off, beside what came."""
    if came == predicted:
        return "0 %"
    return f"{100 * abs(predicted - came) / max(abs(came), abs(predicted)):.2g} %"


class _Writer:
    """Writes numbers as they are asked for."""

    def __init__(self, look: Look) -> None:
        self.look, self.digits = look, look.digits(DEFAULT_PRECISION)

    def __call__(self, value: float) -> str:
        """Write a number: with the digits that tell it, or all of them."""
        value += 0.0  # no minus zero
        return repr(value) if self.digits is None else f"{value:.{self.digits + 1}g}"

    def index(self, index: tuple[int, ...]) -> str:
        """Write where it is."""
        return f"[{', '.join(map(str, index))}]"

    def arrow(self, before: float, after: float) -> str:
        """Write what became of it."""
        return f"{self(before)} {self.look.arrow} {self(after)}"
