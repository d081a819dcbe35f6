"""What ``--export`` writes: a picture, a page or a sheet, by the ending of the file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

import click

from attncli.cli.screen import Screen
from attncli.cli.weight_options import Wanted
from attncli.errors import FileError, ParameterError
from attncli.files.atomic import check_output, replacing
from attncli.views.json_text import json_pieces
from attncli.views.labels import safe
from attncli.views.look import Look
from attncli.views.picture import WeightMatrix
from attncli.views.weights_report import json_weights, picture_of, several
from attncli.weights.choosing import Chosen
from attncli.weights.finding import WeightSource

ENDINGS = (".svg", ".html", ".csv", ".md", ".json", ".png")


def check_exports(wanted: Wanted, file: str) -> None:
    """Say before any work whether all of them could be written.

    Raises
    ------
    FileError
    """
    inputs = [file] if wanted.diff is None else [file, wanted.diff]
    targets = [os.path.realpath(path) for path in wanted.export]
    for path, target in zip(wanted.export, targets, strict=True):
        if targets.count(target) > 1:
            raise ParameterError(f"--export {path}: the same file is named twice")
        ending = PurePath(path).suffix.lower()
        if ending not in ENDINGS:
            found = f"the ending {ending}" if ending else "no ending"
            raise FileError(f"{path}: {found}, expected one of {', '.join(ENDINGS)}")
        check_output(path, force=wanted.force, inputs=inputs)


def export(source: WeightSource, chosen: Sequence[Chosen], wanted: Wanted, screen: Screen) -> None:
    """Write every file that is asked for, each whole or not at all.

    Raises
    ------
    FileError
    """
    for path in wanted.export:
        parts = _parts(PurePath(path).suffix.lower(), source, chosen, wanted, screen.precision)
        with replacing(path, force=wanted.force) as stream:
            for part in parts:
                stream.write(part if isinstance(part, bytes) else part.encode())
        screen.note(f"wrote {click.format_filename(path)}")


def _parts(
    ending: str,
    source: WeightSource,
    chosen: Sequence[Chosen],
    wanted: Wanted,
    precision: int | None,
) -> Iterable[str | bytes]:
    """Make the contents of a file; only what draws is imported."""
    look = Look.piped()  # labels in full
    title = safe(source.label, look)
    if wanted.diff is not None:
        title += f" − {safe(wanted.diff, look)}"
    reading, count = source.reading, len(chosen)

    telling = several(chosen)

    def pictures() -> Iterator[WeightMatrix]:
        for one in chosen:
            names = {name: one.names[name] for name in telling}
            yield picture_of(source, replace(one, names=names), wanted, look)

    across = _across(chosen)
    if ending == ".json":
        return itertools.chain(json_pieces(json_weights(source, chosen, wanted)), ["\n"])
    if ending == ".svg":
        from attncli.views.svg import draw_svg

        return [draw_svg(pictures(), count, title, reading, across)]
    if ending == ".html":
        from attncli.views.page import draw_page

        return [draw_page(pictures(), count, title, reading)]
    if ending == ".png":
        from attncli.views.plot import draw_png

        return [draw_png(pictures(), count, title, across)]
    from attncli.views.sheets import write_csv, write_markdown

    if ending == ".md":
        return write_markdown(pictures(), title, reading, precision)
    named = ((one.names, picture_of(source, one, wanted, look)) for one in chosen)
    return write_csv(named, precision)


def _across(chosen: Sequence[Chosen]) -> int:
    """How many matrices there are of everything but the last name: the heads of a layer."""
    if not chosen or not chosen[0].names:
        return 1
    *others, _ = chosen[0].names.items()
    return sum(all(one.names[name] == value for name, value in others) for one in chosen)
