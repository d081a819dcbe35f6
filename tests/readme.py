"""Fills the README: every command in it is run, and its output put behind it.

``cog -r -I tests README.md`` writes the outputs anew, ``cog --check -I tests README.md`` compares.
"""

import contextlib
import os
import shlex
import tempfile
from pathlib import Path

from running import run_attn

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def _scratch():
    """A folder that sees the samples and takes the files that commands write."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "sample_inputs").symlink_to(ROOT / "sample_inputs")
        before = os.getcwd()
        os.chdir(scratch)
        try:
            yield
        finally:
            os.chdir(before)


def show(
    *commands: str, columns: int = 80, lines: int | None = None, last: int | None = None
) -> None:
    """Run commands, as on a terminal, and print them with what they answer.

    Of long answers only the first `lines`, or the `last` ones, are shown.
    """
    import cog  # there only while cog runs

    cog.outl("```console")
    with _scratch():
        for command in commands:
            cog.outl(f"$ {command}")
            result = run_attn(*shlex.split(command)[1:], columns=columns)
            text = (result.out + result.err).strip("\n").splitlines()
            if last is not None and len(text) > last:
                cog.outl("…")
                text = text[-last:]
            for line in text[:lines]:
                cog.outl(line.rstrip())
            if lines is not None and len(text) > lines:
                cog.outl("…")
            if command != commands[-1]:
                cog.outl()
    cog.outl("```")


def show_help(command: str) -> None:
    """Print the help of a command."""
    show(f"attn {command} --help" if command else "attn --help")
