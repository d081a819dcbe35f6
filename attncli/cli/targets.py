"""What the commands on somebody's own code share."""

import contextlib
from collections.abc import Iterator, Mapping
from math import prod

import click

from attncli.errors import TargetError
from attncli.memory import require


def require_memory(shapes: Mapping[str, tuple[int, ...]], max_memory: int | None) -> None:
    """Raise if arrays of these shapes are too large to be checked.

    Raises
    ------
    MemoryLimitError
    """
    for name, shape in shapes.items():
        # Held several times by forward and backward, ours and theirs, and in complex numbers.
        hint = "a gradient is checked as well on small sizes"
        require(100 * prod(shape), f"checking {name} {shape}", max_memory, hint=hint)


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
