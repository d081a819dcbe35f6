"""Fills README and guide: every command in them is run, and its output put behind it.

``python -m cogapp -r -I tests README.md attncli/guide/{,ja/}*.md`` writes the outputs anew,
``--check`` in place of ``-r`` says whether they are the real ones.
"""

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from running import run_attn

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
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


def show_keys(*commands: str, before: Sequence[str] = (), **kinds: str) -> None:
    """Run commands with ``--json`` and print the keys of what they answer, and of what kind.

    `kinds` says of a key what none of the commands shows; those `before` them prepare the folder.
    """
    import cog

    cog.outl("```text")
    with _scratch():
        for command in before:
            run_attn(*shlex.split(command)[1:])
        answers = [run_attn(*shlex.split(command)[1:], "--json").json for command in commands]
    for line in _describe(answers, kinds):
        cog.outl(line)
    cog.outl("```")


def _describe(
    objects: list[dict[str, Any]], kinds: dict[str, str], indent: str = ""
) -> Iterator[str]:
    """Give the keys that the objects have, one a line, with those of what is in them below."""
    for key in dict.fromkeys(key for one in objects for key in one):
        values = [one[key] for one in objects if key in one]
        yield f"{indent}{key:{24 - len(indent)}} {kinds.get(key) or _kind(values)}"
        inner = [value for value in values if isinstance(value, dict)]
        inner += [x for value in values if isinstance(value, list) for x in value]
        inner = [one for one in inner if isinstance(one, dict)]
        named = [x for one in inner for x in one.values()]
        if named and all(isinstance(x, dict) for x in named):
            yield f"{indent}  {'NAME':{22 - len(indent)}} object"
            yield from _describe(named, kinds, f"{indent}    ")
        else:
            yield from _describe(inner, kinds, f"{indent}  ")


def _kind(values: list[Any]) -> str:
    """Say what values are: "text", "number or null", "list of text", "nested list of number"."""
    lists = [value for value in values if isinstance(value, list)]
    kinds = dict.fromkeys(x for value in values if value not in lists for x in _leaves(value))
    if lists:
        word = "nested list" if any(isinstance(x, list) for one in lists for x in one) else "list"
        leaves = " or ".join(dict.fromkeys(_leaves(lists)))
        kinds[f"{word} of {leaves}" if leaves else word] = None
    return " or ".join(sorted(kinds, key="null".__eq__))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        names = {str: "text", dict: "object", bool: "boolean", int: "number", float: "number"}
        yield names.get(type(value), "null")


def show_catalogue(*mistakes: Any) -> None:
    """Print an item for each mistake: its name, what is computed where what is meant, and why."""
    import cog

    from attncli.checking.diagnosing.explaining import generally

    for mistake in mistakes:
        computed, meant, why = (
            generally(mistake, text) for text in (mistake.computed, mistake.meant, mistake.why)
        )
        cog.outl(f"- **{mistake.name}**: `{computed}` where `{meant}` is meant. {why}")


def show_libraries(libraries: Any) -> None:
    """Print a table of how each library reads causal order and windows."""
    import cog

    windows = {
        "beside": "`L` before and `R` after it, its own beside",
        "included": "`W` tokens, its own among them",
        None: "has none",
    }
    cog.outl("| name | own key of query t | a window is | there |")
    cog.outl("|---|---|---|---|")
    for name, library in libraries.items():
        own = "t" if library.align == "upper_left" else "t + T_enc − T_dec"
        cog.outl(f"| `{name}` | {own} | {windows[library.window]} | `{library.names}` |")
