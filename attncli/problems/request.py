"""What the options of `forward` and `backward` ask for, before anything is read or drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from attncli.arrays import Array
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.files.reading import Reading
from attncli.operations.execution import Execution
from attncli.operations.layout import Words
from attncli.tensors import random_tensor


@dataclass(frozen=True)
class Request:
    """What to compute, and on what.

    Attributes
    ----------
    file : str or None
        The file to read; with `parts` empty too, everything is random.
    layer, dtype : str or None
        The operation's name and the dtype, where they were asked for.
    execution : Execution
    semantics : Semantics
    extras : Extras
        What options ask for, in short; `attncli.problems.beside.fitted` makes arrays of it.
    heads : dict of str to int
        ``heads`` and ``kv_heads``, as far as they were given.
    layout : dict of str to tuple of str
        The axes of the tensors in the files, as `parse_layout` reads them.
    rotary : dict of str to object
        ``rotary``, ``rotary_base`` and ``rotary_width``, as far as they were given.
    sizes : dict of str to int
        N, T, T_enc and H, as far as they were given.
    seed : int or None
        None where it was not given.
    parts : dict of str to str
        The files of single tensors, by the tensor's name.
    reading : Reading
        How files are read, and how much memory there is.
    draw : callable
        Draws the random tensor of a name, as `attncli.tensors.random_tensor` does; another one
        puts it elsewhere than into memory.
    """

    file: str | None
    layer: str | None
    dtype: str | None
    execution: Execution
    semantics: Semantics
    extras: Extras
    heads: dict[str, int]
    layout: dict[str, Words]
    rotary: dict[str, Any]
    sizes: dict[str, int]
    seed: int | None
    parts: dict[str, str]
    reading: Reading
    draw: Callable[..., Array] = field(default=random_tensor, compare=False, repr=False)

    @property
    def is_random(self) -> bool:
        """Whether the inputs are to be drawn."""
        return self.file is None and not self.parts

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read."""
        return (*([self.file] if self.file is not None else []), *self.parts.values())
