"""Help of the commands: what most look for on one page, every option in full on another.

A command says which options come first; whatever else it has, and is given later, is named with
its group, so that a page stays a page.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from attncli.shown import fitting
from attncli.version import __version__

_LAST = "Help"
_END_OF_CLAUSE = re.compile(r"[.;\]] ")
_LONGEST_NAME, _LONGEST_DEFAULT = 28, 36  # characters
_NARROWEST = 30  # columns
_UNBOUNDED = 2**31  # a bound above this says no more than that there is one


class GroupedOption(click.Option):
    """An option that belongs under a heading of the help text."""

    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    @property
    def variable(self) -> str:
        """The end of the environment variable that has its default: that of its first long name."""
        name = next(x for x in self.opts if x.startswith("--"))[2:]
        if len(name) == 1 and name.islower():  # --h is not --H
            name = self.name or name
        return name.upper().replace("-", "_")

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Give what the environment has: by the option's name, not by what our code calls it."""
        found = click.Parameter.resolve_envvar_value(self, ctx)
        if found is None and ctx.auto_envvar_prefix is not None:
            found = os.environ.get(f"{ctx.auto_envvar_prefix}_{self.variable}") or None
        return found

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Read the value; whatever option it is of, a number is finite and fits 64 bits."""
        found = super().type_cast_value(ctx, value)
        for number in found if self.multiple else (found,):
            if isinstance(number, float) and not math.isfinite(number):
                raise click.BadParameter(f"{number} is not a finite number", ctx, self)
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise click.BadParameter(f"{number} does not fit 64 bits", ctx, self)
        return found

    def make_metavar(self, ctx: click.Context) -> str:
        """Name the value, without what its range is, which stands behind."""
        return super().make_metavar(ctx).replace(" RANGE", "")

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Give what stands in brackets: of a range the bounds that somebody may meet."""
        extra = super().get_help_extra(ctx)
        if getattr(self.type, "max", None) is not None and self.type.max > _UNBOUNDED:  # type: ignore[attr-defined]
            extra.pop("range", None)
        return extra


class _Formatter(click.HelpFormatter):
    """Help in the width there is, also where that is little."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import shutil  # slow to load, as is what else only help needs

        self.width = max(_NARROWEST, min(self.width, shutil.get_terminal_size().columns - 2))

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names beside what they mean, which is given half of the page."""
        super().write_dl(rows, min(col_max, self.width // 2), col_spacing)


class HelpContext(click.Context):
    """A context whose help fits the terminal."""

    formatter_class = _Formatter

    def get_help(self) -> str:
        """Give the page in what standard output takes; of ASCII click would make UTF-8."""
        return fitting(super().get_help(), sys.stdout)


class GroupedCommand(click.Command):
    """A command whose help has examples, and its options under headings.

    Parameters
    ----------
    examples : str
        One command a line.
    first : str
        The options that ``--help`` explains; those behind ``--help-all`` are only named by it.
    """

    context_class = HelpContext

    def __init__(self, *args: Any, examples: str, first: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples, self.first = examples.splitlines(), first.split()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Give the parameters: the command's own, and those that every command has."""
        return [*super().get_params(ctx), _help_all, version_option]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what it is for; on one page no more than the first two paragraphs."""
        import inspect

        paragraphs = inspect.cleandoc(self.help or "").split("\n\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join(paragraphs if _in_full(ctx) else paragraphs[:2]))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and the options in groups, as these first appear."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        in_full = _in_full(ctx)
        explained, named = dict[str, list[tuple[str, str]]](), dict[str, list[str]]()
        for option in self.options_of(ctx):
            group = getattr(option, "group", _LAST)
            record = option.get_help_record(ctx)
            if record is None:
                continue
            if in_full or not {*option.opts}.isdisjoint(self.first):
                explained.setdefault(group, []).append(record if in_full else _short(*record))
            elif group != _LAST:
                named.setdefault(group, []).append(option.opts[0])
        if in_full:
            for heading, records in explained.items():
                with formatter.section(heading):
                    formatter.write_dl(records)
            return
        formatter.write_paragraph()
        for heading, records in explained.items():
            formatter.write_heading(heading)
            with formatter.indentation():
                formatter.write_dl(records)
        width = max(map(len, named), default=0)
        if not named:
            return
        with formatter.section(f"More ({ctx.command_path} --help-all)"):
            for group, names in named.items():
                _write_beside(formatter, f"{group:{width}}", " ".join(names))

    def options_of(self, ctx: click.Context) -> Iterable[click.Option]:
        """Give its options."""
        return (one for one in self.get_params(ctx) if isinstance(one, click.Option))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        NumPy is imported here and not far below: Python's stack grows in pieces, and where one
        happens to end every call costs a system call; importing makes very many calls.
        """
        import numpy  # noqa: F401

        return super().invoke(ctx)


def command(
    name: str, *, example: str, first: str = ""
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command with grouped options and examples in its help.

    Parameters
    ----------
    name : str
    example : str
        One command a line, each of which runs in an empty folder behind those above it.
    first : str
        The options that ``--help`` explains.
    """
    return click.command(name, cls=GroupedCommand, examples=example, first=first)


def _short(name: str, text: str) -> tuple[str, str]:
    """Give an option with the first sentence on it, and with what holds where it is not given."""
    if len(name) > _LONGEST_NAME:  # its choices
        option, _, _ = name.partition(" [")
        name = f"{option} {option.lstrip('-').upper()}"
    said, _, extra = text.partition("  [")
    default = _END_OF_CLAUSE.split(extra)[0].rstrip("]")
    first = _END_OF_CLAUSE.split(said)[0].rstrip(".") + "."
    short = default.startswith("default: ") and len(default) < _LONGEST_DEFAULT
    return name, f"{first}  [{default}]" if short else first


def _write_beside(formatter: click.HelpFormatter, name: str, text: str) -> None:
    """Write a text beside its name, broken at spaces alone."""
    import textwrap

    first = f"{'':{formatter.current_indent}}{name}  "
    if len(first) > formatter.width // 2:
        formatter.write(f"{first.rstrip()}\n")
        first = " " * (formatter.current_indent + 2)
    wrapped = textwrap.wrap(
        text, formatter.width, initial_indent=first, subsequent_indent=" " * len(first),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    formatter.write("".join(f"{line}\n" for line in wrapped))


_IN_FULL = "attncli.help_all"


def _in_full(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_IN_FULL))


def _show_all(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_IN_FULL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"attn {__version__}")
        ctx.exit()


def _asks(*names: str, does: Callable[..., None], text: str) -> click.Option:
    """Make an option that shows something, and nothing else is done."""
    return click.Option(
        names, is_flag=True, is_eager=True, expose_value=False, callback=does, help=text,
        allow_from_autoenv=False,
    )  # fmt: skip


_help_all = _asks("--help-all", does=_show_all, text="Explain every option.")
version_option = _asks("-V", "--version", does=_show_version, text="Show the version and exit.")
