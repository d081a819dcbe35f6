"""``attncli.show``: pictures of weights in a program, a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rich.console import Group

from attncli.views.gallery import Gallery
from attncli.views.look import Look
from attncli.views.rendering import html, lines, look_of
from attncli.views.svg import write
from attncli.views.weights_report import draw_selection
from attncli.weights.at_hand import fitting_tokens, hold_weights, in_python
from attncli.weights.choosing import select_weights
from attncli.weights.oddities import counted
from attncli.weights.selection import Selection
from attncli.weights.wanted import Wanted, as_numbers, parse_axes, parse_grid

_LABEL = "attncli.show"
_OPTIONS = frozenset(Wanted.__dataclass_fields__) - {
    "axes", "layout", "heads", "diff", "browse", "export", "force", "over"
}  # fmt: skip


def show(
    weights: Any,
    tokens: Any = None,
    *,
    layer: int | Iterable[int] | str | None = None,
    head: int | Iterable[int] | str | None = None,
    item: int | Iterable[int] | str | None = None,
    axes: str | None = None,
    precision: int | None = None,
    **options: Any,
) -> Picture:
    """Show attention weights: what ``attn show-weights`` prints, or a drawing in a notebook.

    Parameters
    ----------
    weights : array, sequence of arrays, mapping of arrays, str or path
        (T_dec, T_enc), (N, T_dec, T_enc), (N, heads, T_dec, T_enc) or a stack of layers of these:
        NumPy's, torch's on any device, JAX's. A sequence is one such array a layer; or the
        ``attention_weights`` of the book, (N, T_enc) for each decoder step; or of such sequences,
        one a step of ``generate()``. A mapping is read as a file with arrays of these names is, a
        path as that file, and what a model of transformers returns by its attentions.
    tokens : sequence of str or int, or a pair of them
        One a step, of both axes or of the one that is so long; as a pair, those of the decoder and
        of the encoder. Each can be a list for every item of the batch.
    layer, head, item : int, iterable of int, or str, optional
        Show these alone; ``"0:4,7"`` as on the command line.
    axes : str, optional
        The axes of an array, as ``"heads,dec,enc"``, where their number implies others.
    precision : int, optional
        Digits behind the point.
    **options
        The others of ``attn show-weights``: ``mean``, ``maximum``, ``rollout``, ``frame``,
        ``frames``, ``rows``, ``cols``, ``row``, ``col``, ``merge_subwords``,
        ``drop_special``, ``drop_pad``, ``drop_sink``, ``renormalise``, ``view``, ``top``,
        ``threshold``, ``pool``, ``shade``, ``vmin``, ``vmax``, ``sort``, ``overlay``, ``grid``,
        ``raw_tokens``, ``full``.

    Returns
    -------
    Picture
        It has been shown already; a notebook shows it again where it ends another cell. It is
        drawn from the arrays as they are at the time.

    Raises
    ------
    AttnError
        If these are no weights, or there is no such part of them.

    Examples
    --------
    >>> picture = show([[0.25, 0.75], [1.0, 0.0]], tokens=(["un", "chat"], ["a", "cat"]))
    attncli.show  weights (2, 2) = (T_dec, T_enc)
    <BLANKLINE>
             a   cat  sum
      un  0.25  0.75  1.0
    chat   1.0   0.0  1.0
    <BLANKLINE>
    """
    for name in options:
        if name not in _OPTIONS:
            raise TypeError(f"show() got an unexpected keyword argument {name!r}")
        if name in ("mean", "maximum", "row", "col") and isinstance(options[name], str):
            options[name] = (options[name],)
    with in_python(), fitting_tokens():
        if isinstance(options.get("grid"), str):
            options["grid"] = parse_grid(options["grid"])
        wanted = Wanted(
            layer=as_numbers(layer), head=as_numbers(head), item=as_numbers(item),
            axes=None if axes is None else parse_axes(axes), **options,
        )  # fmt: skip
        selection = select_weights(hold_weights(weights, tokens, _LABEL, axes), wanted)
    picture = Picture(selection, precision, current_cell())
    if picture.cell is None:
        for line in picture.lines(look_of(sys.stdout, precision=precision, full=wanted.full)):
            print(line)
    else:
        picture.display()
    return picture


@dataclass(frozen=True)
class Picture:
    """Weights as a picture: text to print, HTML in a notebook.

    Attributes
    ----------
    selection : Selection
    precision : int or None
    cell : int or None
        The cell of a notebook that has shown it.
    top : float or None
        The number of the last shade, where it is not the largest one here.
    """

    selection: Selection
    precision: int | None = None
    cell: int | None = None
    top: float | None = None

    def lines(self, look: Look) -> Iterator[str]:
        """Draw it for a place that can show so much, line by line."""
        with counted():
            for part in draw_selection(Gallery(self.selection, look), _unwatched):
                yield from lines(look, part)

    def __str__(self) -> str:
        """Draw it as standard output is, without colours."""
        look = look_of(sys.stdout, color="never", precision=self.precision)
        return "\n".join(self.lines(look)).rstrip("\n")

    def __repr__(self) -> str:
        """Say in a line what it shows."""
        count = len(self.selection.matrices)
        pictures = "1 picture" if count == 1 else f"{count} pictures"
        return f"<{pictures}: {self.selection.source.reading}>"

    def _repr_html_(self) -> str:
        with counted():
            return self._html()

    def _html(self) -> str:
        wanted = self.selection.wanted
        if wanted.lists or wanted.full or wanted.sort or wanted.view == "table":  # no drawing
            return html(
                lambda look: Group(*draw_selection(Gallery(self.selection, look), _unwatched))
            )
        gallery = Gallery(self.selection, Look.piped(precision=self.precision), self.top)
        return "".join(write(gallery.alike()))

    def as_mime(self) -> dict[str, str]:
        """Give it as a notebook takes it."""
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def display(self) -> None:
        """Show it in the notebook that this runs in."""
        import_module("IPython.display").display(self.as_mime(), raw=True)

    def _ipython_display_(self) -> None:
        if self.cell != current_cell():  # which has shown it
            self.display()


def _unwatched(what: str) -> Any:
    return nullcontext(lambda done, total: None)


def current_cell() -> int | None:
    """The number of the cell that is run, in a notebook; IPython in a terminal is none."""
    module = sys.modules.get("IPython")
    shell: Any = module.get_ipython() if module is not None else None
    return shell.execution_count if hasattr(shell, "kernel") else None
