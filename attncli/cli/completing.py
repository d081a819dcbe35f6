"""What a shell is offered for an argument or the value of an option: by the parameter's name.

Choices, flags and commands are click's own matter.  Nothing here imports NumPy or rich.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

Items = Iterable["str | CompletionItem[str]"]

_READ = (".npz", ".npy", ".safetensors", ".json", ".csv", ".html", ".zarr")
_DRAWN = (".svg", ".png", ".md")
_CODE = (".py", ".ipynb")
_MOST_FILES = 5000  # of a folder
_MOST_BYTES = 1 << 20  # of a file of code
# What a shell takes as it stands. A name of an array that is anything else is not offered: a file
# may call it what it likes, and what is offered is run at the next return.
_PLAIN = re.compile(r"[\w./:@%+,=-]+")
# The intermediates of the book's attention and of the general one, whatever its options.
TRACED = (
    "query", "key", "value", "scores", "largest", "exps", "total", "weights", "out", "dout",
    "dvalue", "dweights", "rowsum", "dscores", "dquery", "dkey", "dhs_dec", "dhs_enc",
)  # fmt: skip
_DEFINED = re.compile(r"^(?:class|def)\s+([^\W_]\w*)", re.MULTILINE)


def attach(param: click.Parameter) -> None:
    """Let a parameter offer what its name says; unless it has choices or completes by itself."""
    offers = OFFERS.get(param.name or "")
    if (param.name or "").startswith("part_"):
        offers = files(_READ)
    if offers is not None and not isinstance(param.type, click.Choice):

        def shell_complete(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
            items = [
                CompletionItem(one) if isinstance(one, str) else one
                for one in offers(ctx, incomplete)
            ]
            return [
                one
                for one in items
                if one.value.startswith(incomplete)
                and (_PLAIN.fullmatch(one.value) or one.type != "plain")
            ]

        param.shell_complete = shell_complete  # type: ignore[method-assign]


def files(endings: tuple[str, ...]) -> Callable[[click.Context, str], Items]:
    """Offer the files with one of these endings, and folders."""

    def offer(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem[str]]:
        from attncli.files.source import existing

        folder, name = os.path.split(incomplete)
        for one in _entries(existing(os.path.expanduser(folder)) or "."):
            path = os.path.join(folder, one.name)
            if not one.name.isprintable() or (one.name.startswith(".") and not name):
                continue
            if one.name.lower().endswith(endings):
                yield CompletionItem(path, "file")
            elif _is_folder(one):
                yield CompletionItem(path, "dir")

    return offer


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            first = (one for one, _ in zip(found, range(_MOST_FILES), strict=False))
            return sorted(first, key=lambda one: one.name)
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _code(ctx: click.Context, incomplete: str) -> Items:
    """Offer files of code, and behind a colon what is defined in one."""
    place, colon, _ = incomplete.partition(":")
    if not colon or not place.endswith(_CODE):
        return files(_CODE)(ctx, incomplete)
    return (f"{place}:{name}" for name in dict.fromkeys(_DEFINED.findall(_text_of(place))))


def _text_of(path: str) -> str:
    from attncli.files.source import existing

    path = existing(os.path.expanduser(path))
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return ""
    return text.replace('"', "\n").replace("\\n", "\n") if path.endswith(".ipynb") else text


def _shapes(ctx: click.Context, *names: str) -> dict[str, tuple[int, ...]]:
    """Give the arrays of the file that was named before as one of these arguments."""
    from attncli.files.headers import shapes_at_a_glance
    from attncli.files.source import existing

    arguments = [one.name for one in ctx.command.params if isinstance(one, click.Argument)]
    # Where an option still lacks its value, click has not told which argument is which.
    unassigned = dict(zip(arguments, ctx.args, strict=False))
    for name in names:
        given = ctx.params.get(name) or unassigned.get(name)
        if given:
            path = given[0] if isinstance(given, tuple) else given
            return shapes_at_a_glance(existing(os.path.expanduser(path)))
    return {}


def _renamed(ctx: click.Context, incomplete: str) -> Items:
    """Offer our names, and behind the equals sign those of the file that are not ours."""
    from attncli.cli.options import PARTS

    ours, equals, _ = incomplete.partition("=")
    if not equals:
        return (f"{name}=" for name in (*PARTS, "output", "weights", "tokens"))
    there = _shapes(ctx, "file", "files", "a")
    return (f"{ours}={name}" for name in there if name not in PARTS)


def _mapped(ctx: click.Context, incomplete: str) -> Items:
    first, equals, _ = incomplete.partition("=")
    if not equals:
        return (f"{name}=" for name in _shapes(ctx, "a"))
    return (f"{first}={name}" for name in _shapes(ctx, "b"))


def _arrays(ctx: click.Context, incomplete: str) -> Items:
    before, comma, _ = incomplete.rpartition(",")
    return (f"{before}{comma}{name}" for name in (_shapes(ctx, "a") | _shapes(ctx, "b")))


def _only(ctx: click.Context, incomplete: str) -> Items:
    """Offer the arrays of files that are compared, or what a trace has."""
    if ctx.command.name != "trace":
        return _arrays(ctx, incomplete)
    before, comma, _ = incomplete.rpartition(",")
    return (f"{before}{comma}{name}" for name in TRACED)


def _exercises(ctx: click.Context, incomplete: str) -> Items:
    from importlib.resources import files as inside

    there = sorted(one.name for one in (inside("attncli") / "guide" / "exercise").iterdir())
    return (name.partition("_")[2].partition(".")[0] for name in there if "_" in name)


def _numbers(what: str) -> Callable[[click.Context, str], Items]:
    """Offer the numbers of the layers, heads or items that the file's weights have."""

    def offer(ctx: click.Context, incomplete: str) -> Items:
        before, comma, _ = incomplete.rpartition(",")
        return (f"{before}{comma}{number}" for number in _numbered(_shapes(ctx, "file"), what))

    return offer


def _numbered(shapes: dict[str, tuple[int, ...]], what: str) -> Iterable[int]:
    from attncli.weights.name_families import families_of

    families = [family for family in families_of(shapes) if family.rank > 0]
    if what == "layer":
        places = [(one, one.counts.index("layers")) for one in families if "layers" in one.counts]
        return sorted({numbers[at] for one, at in places for numbers in one.members})
    stored = [shapes[name] for family in families for name in family.members.values()]
    if what == "head":
        return range(min(256, max((shape[-3] for shape in stored if len(shape) > 3), default=0)))
    inputs = [shapes[name] for name in ("hs_enc", "query") if name in shapes]
    batches = [shape[-4] for shape in stored if len(shape) > 3]
    batches += [shape[0] for shape in stored or inputs if len(shape) == 3]
    return range(min(256, max(batches, default=0)))


OFFERS: dict[str, Callable[[click.Context, str], Items]] = {
    **dict.fromkeys(("file", "files", "a", "b", "inputs", "diff"), files((*_READ, *_DRAWN))),
    "convention": files(_READ),
    "targets": _code,
    "output": files((".npz", ".npy", ".safetensors", ".zarr")),
    "reports": files((".xml", ".json", ".csv", ".md")),
    "export": files((".svg", ".html", ".csv", ".md", ".json", ".png")),
    "over": files((".png", ".jpg", ".jpeg")),
    **dict.fromkeys(("tokens", "tokens_enc", "tokens_dec"), files((".txt", ".json"))),
    **dict.fromkeys(("tls_ca", "tls_cert", "tls_key"), files((".pem", ".crt", ".key"))),
    **dict.fromkeys(("scratch", "folder"), files(())),
    "rename": _renamed,
    "names": _mapped,
    "only": _only,
    "name": _exercises,
    "ignore": _arrays,
    "layer": _numbers("layer"),
    "head": _numbers("head"),
    "item": _numbers("item"),
}
"""Of each parameter by its name what is offered."""


def known_to_complete(param: Any) -> bool:
    """Tell whether anything is offered for a parameter beside what its type has."""
    return (param.name or "") in OFFERS or (param.name or "").startswith("part_")
