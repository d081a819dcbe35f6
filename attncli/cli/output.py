"""The file that ``-o`` names: checked before any work, written at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from attncli.arrays import Array
from attncli.cli.screen import Screen
from attncli.errors import FileError, ParameterError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Output:
    """Where results are to be written.

    Attributes
    ----------
    path : str or None
        ``-`` is standard output, None nowhere.
    force : bool
        Replace an existing file.
    """

    path: str | None
    force: bool

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to be written."""
        return self.path is not None

    @property
    def is_stdout(self) -> bool:
        """Whether the file takes the place of the tables on standard output."""
        return self.path == "-"

    def check(self, inputs: Iterable[str], screen: Screen) -> None:
        """Say before any work whether the output could be written.

        Raises
        ------
        FileError, ParameterError
        """
        if self.path is None:
            return
        if self.is_stdout:
            if screen.as_json:
                raise ParameterError("-o - and --json would both write to standard output")
            if sys.stdout.isatty():
                raise FileError("standard output is a terminal, and what -o writes is binary")
            return
        from attncli.files.writing import check_target

        check_target(self.path, force=self.force, inputs=tuple(inputs))

    @contextlib.contextmanager
    def filling(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], screen: Screen
    ) -> Iterator[Array | None]:
        """Offer a place in the file to compute a result into, if the file is to hold it alone.

        Yields
        ------
        ndarray or None
            Mapped into the file, which is complete once this is left; None if it is to be written
            in another way, or not at all.

        Raises
        ------
        FileError
        """
        if self.path is None or self.is_stdout:
            yield None
            return
        from attncli.files.writing import filling

        with filling(self.path, shape, dtype, force=self.force) as place:
            yield place
        if place is not None:
            self._say(name, screen)

    def write(
        self,
        arrays: Mapping[str, Array],
        screen: Screen,
        *,
        main: str | None = None,
        what: str = "the run",
    ) -> None:
        """Write arrays, and say so.

        Parameters
        ----------
        arrays : mapping of str to ndarray
        screen : Screen
        main : str, optional
            The array that goes into a file that holds but one; without it, such a file is refused.
        what : str, default "the run"
            What is written, for the note.

        Raises
        ------
        FileError
        """
        assert self.path is not None
        from attncli.files.writing import save, save_to_stream

        if self.is_stdout:
            save_to_stream(sys.stdout.buffer, arrays)
        else:
            self._say(save(self.path, arrays, force=self.force, main=main) or what, screen)

    def _say(self, what: str, screen: Screen) -> None:
        assert self.path is not None
        screen.note(f"wrote {what} to {click.format_filename(self.path)}")
