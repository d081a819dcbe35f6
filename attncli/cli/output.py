"""The file that ``-o`` names: checked before any work, written at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from attncli.arrays import Array, Tokens
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
        from attncli.files.formats import check_target

        check_target(self.path, force=self.force, inputs=tuple(inputs))

    @contextlib.contextmanager
    def filling(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], screen: Screen
    ) -> Iterator[Array | None]:
        """Offer a place in the file to compute a result into, if the file is to hold it alone.

        Yields
        ------
        ndarray or None
            Mapped into an .npy file, which is complete once this is left; None if it is to be
            written in another way, or not at all.

        Raises
        ------
        FileError
        """
        path = self.path
        if path is None or not path.lower().endswith(".npy") or 0 in shape or _is_device(path):
            yield None
            return
        from attncli.files.formats import filling

        with filling(path, shape, dtype, force=self.force) as place:
            yield place
        self._say(name, screen)

    def write(
        self,
        options: Mapping[str, Any],
        tensors: Mapping[str, Array],
        tokens: Mapping[str, Tokens],
        screen: Screen,
        *,
        main: str | None = None,
        what: str = "the run",
    ) -> None:
        """Write the run file or trace file, if there is to be one.

        Parameters
        ----------
        options : mapping
            What the file says of the run.
        tensors, tokens : mapping of str to ndarray
        screen : Screen
            Where to say that it was written.
        main : str, optional
            The tensor that goes into a file that holds but one; without it, such a file is refused.
        what : str, default "the run"
            What is written, for the note.

        Raises
        ------
        FileError
        """
        if self.path is None:
            return
        from attncli.files.contents import run_arrays
        from attncli.files.formats import save, save_to_stream

        arrays = run_arrays(options, tensors, tokens)
        if self.is_stdout:
            save_to_stream(sys.stdout.buffer, arrays)
            return
        if self.path.lower().endswith(".npy"):
            if main is None:
                raise FileError(
                    f"{self.path}: an .npy file holds one array, and there are several results",
                    hint="write an .npz file",
                )
            arrays, what = {main: tensors[main]}, main
        save(self.path, arrays, force=self.force)
        self._say(what, screen)

    def _say(self, what: str, screen: Screen) -> None:
        assert self.path is not None
        screen.note(f"wrote {what} to {click.format_filename(self.path)}")


def _is_device(path: str) -> bool:
    """Whether a pipe or a device is written to, which cannot be mapped."""
    return os.path.exists(path) and not os.path.isfile(path)
