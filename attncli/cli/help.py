"""``attn help``: the same as ``--help``."""

from __future__ import annotations

import click

from attncli.cli.help_pages import command


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    return [name for name in group.list_commands(ctx) if name.startswith(incomplete)]


@command(
    "help",
    example="""\
attn help
attn help forward
attn help help""",
)
@click.argument("command", required=False, shell_complete=_complete)
@click.pass_context
def help(ctx: click.Context, command: str | None) -> None:  # noqa: A001
    """Show what there is, or what COMMAND is for: the same as its --help."""
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    if command is None:
        click.echo(group.get_help(root))
        return
    name, found, _ = group.resolve_command(root, [command])
    assert found is not None
    click.echo(found.get_help(found.context_class(found, info_name=name, parent=root)))
