"""What ``--export`` writes: an entry for each ending, and the module that makes it.

To add one, add an `Export` to the table, and its module with ``write(gallery)``, which gives the
file's contents piece by piece. Nothing here imports NumPy or rich at once: help texts are made
from the table too.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from attncli.files.formats import ending_of

if TYPE_CHECKING:
    from attncli.weights.selection import Selection
    from attncli.weights.wanted import Wanted


class Export(NamedTuple):
    """A kind of file that weights can be written as.

    Attributes
    ----------
    module : str
        What makes it.
    says : str
        What there is to say of it in the help.
    """

    module: str
    says: str = ""


EXPORTS = {
    ".svg": Export("attncli.views.svg"),
    ".html": Export("attncli.views.page", "a page to explore"),
    ".csv": Export("attncli.views.spreadsheet"),
    ".md": Export("attncli.views.markdown"),
    ".json": Export("attncli.views.weights_json"),
    ".png": Export("attncli.views.plot", "with the plot extra"),
}
# Those that show weights and do not hold them otherwise.
CARRIERS = (".svg", ".md", ".png")


def described_exports() -> str:
    """Name the endings in a sentence.

    Examples
    --------
    >>> described_exports()
    '.svg, .html (a page to explore), .csv, .md, .json or .png (with the plot extra)'
    """
    *others, last = (
        f"{ending} ({one.says})" if one.says else ending for ending, one in EXPORTS.items()
    )
    return f"{', '.join(others)} or {last}"


def check_exports(wanted: Wanted, file: str | None) -> None:
    """Say before any work whether all that are wanted could be written.

    Raises
    ------
    FileError
    """
    from attncli.files.writing import check_outputs

    named = (file, wanted.diff, wanted.over, wanted.tokens, wanted.tokens_enc, wanted.tokens_dec)
    inputs = [name for name in named if name is not None]
    check_outputs("--export", wanted.export, EXPORTS, force=wanted.force, inputs=inputs)
    if wanted.over is not None:
        from attncli.files.pictures import read_picture

        read_picture(wanted.over)


def export(path: str, selection: Selection, precision: int | None, *, light: bool = False) -> None:
    """Write a selection of weights to a file, whole or not at all.

    Shades are those for a light background where that is wanted.

    Raises
    ------
    FileError
    """
    from attncli.views.carried import with_weights
    from attncli.views.gallery import Gallery
    from attncli.views.look import Look

    module = import_module(EXPORTS[ending_of(path)].module)
    gallery = Gallery(selection, Look.piped(precision=precision, light=light))  # labels in full
    parts: Iterable[str | bytes] = module.write(gallery.alike())
    if ending_of(path) in CARRIERS:
        parts = with_weights(parts, gallery)
    save(path, parts, force=selection.wanted.force)


def save(path: str, parts: Iterable[str | bytes], *, force: bool) -> None:
    """Write a file piece by piece, whole or not at all.

    Raises
    ------
    FileError
    """
    from attncli.files.atomic import replacing

    with replacing(path, force=force) as stream:
        for part in parts:
            stream.write(part if isinstance(part, bytes) else part.encode())
