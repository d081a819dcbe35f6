"""``attn completion``: the script that lets a shell complete, and the line that installs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from attncli.cli.help_pages import command
from attncli.cli.shells import SHELLS, script

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALL = {
    "bash": "echo 'eval \"$(attn completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'autoload -Uz compinit && compinit; eval \"$(attn completion zsh)\"' >> ~/.zshrc",
    "fish": "attn completion fish > ~/.config/fish/completions/attn.fish",
}


@command(
    "completion",
    example="""\
attn completion
attn completion bash
attn completion fish > attn.fish""",
)
@click.argument(
    "shell", required=False, type=click.Choice(tuple(SHELLS)), metavar=f"[{'|'.join(SHELLS)}]"
)
def completion(shell: str | None) -> None:
    """Print the script that lets SHELL complete commands, options, choices and files.

    Also the numbers of layers and heads, and the names of arrays, inside a file. Without SHELL: the
    line for yours that installs it, once and for all.
    """
    if shell is None:
        for line in _lines():
            click.echo(line)
        return
    click.echo(script(shell), nl=False)
    if sys.stdout.isatty():
        from attncli.cli.streams import say

        say(_INSTALL[shell], "hint:  ", "cyan")


def _lines() -> Iterator[str]:
    """Give the line for each shell, one's own first."""
    own = os.path.basename(os.environ.get("SHELL", ""))
    for shell in sorted(SHELLS, key=own.__ne__):
        yield _INSTALL[shell]
