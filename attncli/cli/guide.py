"""``attn guide``: the documentation, there offline and on a remote machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from attncli.cli import options
from attncli.cli.help_pages import command
from attncli.errors import ParameterError
from attncli.translation import Sentence, language

if TYPE_CHECKING:
    from attncli.cli.screen import Screen

# The topics in the order in which one reads them; each is a page attncli/guide/TOPIC.md, and those
# that learners begin with are there in each language.
TOPICS = {
    "getting-started": Sentence("From nothing to the first weights, gradients and checks."),
    "lesson": Sentence("Write the layers yourself, and work an example by hand."),
    "semantics": Sentence("The mathematics, and each place where libraries disagree."),
    "masks": Sentence("What each query sees: pictures of every convention."),
    "files": Sentence("What can be read and written, and which names are known."),
    "checking": Sentence("Your own code: check, gradcheck, compare, convention."),
    "catalogue": Sentence("The catalogue of mistakes that attn check knows."),
    "weights": Sentence("Looking at attention weights, from one head to a model."),
    "training": Sentence("Watching a model learn to look: attncli.watch."),
    "python": Sentence("The layers, the core and the checks in Python."),
    "performance": Sentence("Engines, weights kept or not, threads, measurements."),
    "cluster": Sentence("Many machines: when it pays, plans, schedulers, TLS."),
    "trust": Sentence("What is promised of hostile files, memory and writes."),
    "exit-codes": Sentence("What the exit codes mean, and what goes to which stream."),
    "json": Sentence("The JSON object that each command prints."),
}


# What has a schema: attncli/guide/schemas/NAME.json.
SCHEMAS = (
    "forward", "backward", "gradcheck", "check", "convention", "compare", "show-weights",
    "show-mask", "trace", "bench", "explain", "exercise", "error",
)  # fmt: skip


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [topic for topic in TOPICS if topic.startswith(incomplete)]


@command(
    "guide",
    example="""\
attn guide
attn guide semantics
attn guide json --schema forward""",
    first="--schema --color",
)
@click.argument("topic", required=False, shell_complete=_complete)
@options.under_output(
    "--schema",
    type=options.OneOf(SCHEMAS),
    metavar="COMMAND",
    help="Print the JSON Schema of what this command answers with under --json; of errors: error.",
)
@options.page_options
def guide(topic: str | None, schema: str | None, screen: Screen) -> None:
    """Show a page of the documentation; without TOPIC, which pages there are.

    On a terminal a page is laid out to its width; piped, it is Markdown. All examples in it have
    been run.
    """
    from importlib.resources import files

    from attncli.views.documents import draw_page, draw_topics

    if schema is not None:
        if topic not in (None, "json"):
            raise ParameterError("--schema goes with json alone", hint="attn guide json")
        text = (files("attncli") / "guide" / "schemas" / f"{schema}.json").read_text("utf-8")
        click.echo(text, nl=False)
        return
    if topic is None:
        screen.show(draw_topics(TOPICS, screen.look))
        return
    if topic not in TOPICS:
        raise _unknown(topic)
    folder = files("attncli") / "guide"
    page = folder / language() / f"{topic}.md"
    if not page.is_file():
        page = folder / f"{topic}.md"
    screen.show(draw_page(page.read_text("utf-8"), screen.look))


def _unknown(topic: str) -> ParameterError:
    """Say that there is no such topic, and name the nearest."""
    import difflib

    begun = [known for known in TOPICS if topic and known.startswith(topic)]
    near = begun or difflib.get_close_matches(topic, TOPICS, n=1)
    if not near:
        known = ", ".join(TOPICS)
        return ParameterError(f"no topic {topic}: there is {known}", hint="attn guide")
    return ParameterError(
        f"no topic {topic}: did you mean {near[0]}?", hint=f"attn guide {near[0]}"
    )
