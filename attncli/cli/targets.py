"""What the commands on somebody's own code share."""

import contextlib
from collections.abc import Iterator

import click

from attncli.errors import TargetError


def parse_inputs(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=2,3,4`` as a shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            shape = tuple(int(size) for size in text.split(",") if size.strip())
        except ValueError:
            shape = ()
        if not (name and equals and shape and min(shape) > 0):
            raise click.BadParameter(f"{pair!r} is not NAME=2,3,4", ctx, param)
        shapes[name] = shape
    return shapes


@contextlib.contextmanager
def showing_their_traceback() -> Iterator[None]:
    """Print the traceback of the user's own code before the error is reported."""
    try:
        yield
    except TargetError as error:
        show_trace(error.trace)
        raise


def show_trace(trace: tuple[str, ...]) -> None:
    """Print the lines of a traceback; what could harm the terminal is escaped."""
    for line in trace:
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        click.echo(text, err=True)
