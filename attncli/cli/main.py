"""The group of commands, and the one place where errors become exit codes.

Nothing here or at the top of a command's module imports NumPy or rich: help and completion must
answer at once.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any, NoReturn

import click

from attncli import translation
from attncli.cli import streams
from attncli.cli.help_pages import HelpContext, version_option
from attncli.cli.streams import (
    prepare_streams,
    say,
    say_bug,
    say_end,
    say_error,
    silence_stdout,
)
from attncli.errors import AttnError, AttnWarning

# The module and name of each command, and what the list of commands says of it: so the list can
# be shown without importing any.
COMMANDS = {
    "forward": ("attncli.cli.forward:forward", "Run a layer on random tensors or your own."),
    "backward": ("attncli.cli.backward:backward", "Run it forward and backward: its gradients."),
    "gradcheck": ("attncli.cli.gradcheck:gradcheck", "Prove the gradients."),
    "show-weights": ("attncli.cli.show_weights:show_weights", "Look at attention weights."),
    "show-mask": ("attncli.cli.show_mask:show_mask", "See which keys each query sees."),
    "trace": ("attncli.cli.trace:trace", "See every step of the mathematics, with numbers."),
    "check": ("attncli.cli.check:check", "Check your layer, and name the mistake."),
    "convention": ("attncli.cli.convention:convention", "Find the semantics behind a dump."),
    "compare": ("attncli.cli.compare:compare", "Say how far tensors are apart, and where."),
    "bench": ("attncli.cli.bench:bench", "Measure ours, and others beside them."),
    "demo": ("attncli.cli.demo:demo", "Watch a model learn where to look."),
    "explain": ("attncli.cli.explain:explain", "Explain a mistake, with an example."),
    "exercise": ("attncli.cli.exercise:exercise", "Write the layers yourself, one by one."),
    "guide": ("attncli.cli.guide:guide", "Read the documentation."),
    "completion": ("attncli.cli.completion:completion", "Let your shell complete all this."),
    "help": ("attncli.cli.help:help", "Show what a command is for."),
}

_COMPLETE = "_ATTN_COMPLETE"  # the variable by which a shell asks, as click calls it
CHECK_SAID_NO = 1
USAGE_OR_INPUT = 2
BUG = 70  # EX_SOFTWARE
_YES = ("1", "true", "t", "yes", "y", "on")

INTERRUPTED = 128 + signal.SIGINT

_MOST_WARNINGS = 30
_said = set[str]()
"""The warnings of this run."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    context_class = HelpContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if _COMPLETE in os.environ:
            from attncli.cli.completing import attach

            for param in command.params:
                attach(param)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Offer the commands, without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=summary)
            for name, (_, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the nearest where there is none of that name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.NoSuchCommand(name, f"no command {name}", ctx=ctx)
        return super().resolve_command(ctx, args)


_HELP = """Attention you can run, prove, look at and measure.

\b
  attn demo                         watch a model learn to look
  attn forward --N 3 --T 5 --H 4    run it on random tensors
  attn forward --T 7 -o run.npz     and keep it
  attn gradcheck                    prove the gradients
  attn show-weights run.npz         look at the weights
"""

_EPILOG = """Exit codes: 0 done; 1 a check said no; 2 usage, bad input or I/O; 130 Ctrl-C;
70 a bug of ours.

\b
Every command has its own help: attn help forward
The documentation is in attn guide.
"""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    help=_HELP,
    epilog=_EPILOG,
    params=[version_option],
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ATTN"},
)
@click.pass_context
def attn(ctx: click.Context) -> None:
    """Show the start screen, if no command is given; the group's text is `_HELP`."""
    if ctx.invoked_subcommand is None:
        from attncli.cli.start import show_start

        show_start()


def main() -> NoReturn:
    """Run the command line and exit."""
    # Before NumPy is imported, when its BLAS reads them: parallel work is divided over (batch,
    # head, query block), and workers whose BLAS starts threads too get in each other's way.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    # Importing makes many objects that stay: looking for garbage among them is in vain.
    gc.set_threshold(100_000)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminate)
    streams.own_process = True
    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        if _COMPLETE in os.environ:  # leaving in order would take a quarter of the time
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(0)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    prepare_streams()
    _said.clear()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("always", AttnWarning)
        streams.as_json = _asks_for_json(arguments)
        with streams.heedless_stderr(), streams.objects_on_stderr():
            return _run(arguments)


def _asks_for_json(arguments: list[str]) -> bool:
    """Tell, of a command line that may be wrong, whether the answer is to be JSON."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    name = f"ATTN_{(arguments or [''])[0]}_JSON".upper().replace("-", "_")
    return "--json" in before or os.environ.get(name, "").lower() in _YES


def _run(arguments: list[str]) -> int:
    try:
        translation.speak(sys.stdout.encoding)
        if _COMPLETE in os.environ:  # a shell asks
            importlib.import_module("attncli.cli.shells")
        code = attn.main(arguments, prog_name="attn", standalone_mode=False, obj=arguments)
        reads: Any = sys.modules.get("attncli.files.source")
        if reads is not None:  # slow to load for nothing
            reads.require_unchanged()
            reads.opened = None
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        for line in (error.ctx.get_help() if error.ctx is not None else "").splitlines():
            say(line)
        return USAGE_OR_INPUT
    except (click.ClickException, AttnError) as error:
        from attncli.cli.mending import Mender

        say_error(*Mender(attn, arguments).said(error))
        return USAGE_OR_INPUT
    except (click.Abort, KeyboardInterrupt):
        say_end("interrupted", INTERRUPTED)
        return INTERRUPTED
    except SystemExit as stop:
        # Nothing here exits with 1 but click itself, when whoever read the output has seen enough.
        if stop.code == 1:
            silence_stdout()
            return 0
        if streams.as_json:
            say_end("ended by a signal", int(stop.code or 0))
        raise
    except BrokenPipeError:
        silence_stdout()
        return 0
    except MemoryError:
        say_error("not enough memory", "smaller sizes need less")
        return USAGE_OR_INPUT
    except OSError as error:
        if sys.stdout.closed or error.filename is not None or error.errno is None:
            return _report_bug()
        silence_stdout()
        say_error(f"standard output: cannot be written: {os.strerror(error.errno).lower()}", None)
        return USAGE_OR_INPUT
    except Exception:
        return _report_bug()
    return code if isinstance(code, int) else 0


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # An exception, so that a half-written temporary file is removed on the way out.
    raise SystemExit(128 + number)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    if issubclass(category, AttnWarning):
        if str(message) not in _said:  # what is read once for each output is as odd each time
            _said.add(str(message))
            if len(_said) <= _MOST_WARNINGS:
                say(str(message), "warning: ", "yellow")
            elif len(_said) == _MOST_WARNINGS + 1:
                say("there are more, which are not shown", "warning: ", "yellow")
    else:
        for text in warnings.formatwarning(message, category, filename, lineno, line).splitlines():
            say(text)


def _report_bug() -> int:
    import traceback

    say_bug(traceback.format_exc())
    return BUG
