"""The errors a user can cause and mend.  This module imports nothing.

Each kind is also the built-in exception that a caller of the library would expect, so
``except ValueError`` works as it does with NumPy.
"""

from __future__ import annotations


class AttnError(Exception):
    """Something the user can cause and mend.

    Parameters
    ----------
    message : str
        What is wrong, where, what was expected and what came; one line.
    hint : str, optional
        What to do about it; one line.

    Examples
    --------
    >>> error = ShapeError("hs has 2 axes, expected 3: (N, T, H)", hint="add the batch axis")
    >>> str(error), error.hint
    ('hs has 2 axes, expected 3: (N, T, H)', 'add the batch axis')
    >>> isinstance(error, ValueError)
    True
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ShapeError(AttnError, ValueError):
    """Shapes that do not fit each other or the operation."""


class DtypeError(AttnError, TypeError):
    """Values of a kind the operation has no meaning for."""


class ParameterError(AttnError, ValueError):
    """A parameter outside its range, or two that contradict each other."""


class ContradictionError(ParameterError):
    """An option that has no meaning beside another.

    Parameters
    ----------
    message : str
    option : str
        The one to be left out.
    hint : str, optional
        What to say in its place.
    """

    def __init__(self, message: str, option: str = "", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.option = option


class DataError(AttnError, ValueError):
    """Numbers that cannot be computed with: NaN, Inf, or not what their name says."""


class NamelessError(DataError):
    """A file of one array without a name, where it has to be said which it is."""


class FileError(AttnError):
    """A file that cannot be read, is damaged, or cannot be written."""


class NoFileError(FileError):
    """A file that is not there.

    Parameters
    ----------
    message : str
    path : str
        What it was called.
    hint : str, optional
        What to say in its place.
    """

    def __init__(  # pickled without the path
        self, message: str, path: str = "", *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class MemoryLimitError(AttnError, MemoryError):
    """Arrays that would not fit the memory that is there."""


class ClusterError(AttnError):
    """A cluster that cannot be reached, does not suit, or gives up."""


class TargetError(AttnError):
    """Code of the user's own that cannot be loaded or called.

    Parameters
    ----------
    message, hint
        As `AttnError`.
    trace : tuple of str
        The traceback, of their code alone; empty where none of it was reached.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, trace: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.trace = trace


class CodeError(TargetError):
    """Code of the user's own that fails or lacks something: a check of it says no."""


class NoLayerError(TargetError):
    """Code of the user's own in which there is nothing that could be checked."""


class AttnWarning(UserWarning):
    """A result is returned, but deserves a second look."""


class ForeignFormatError(Exception):
    """A file turns out to be of a kind that is not read; `attncli.files.formats` says what it is.

    Attributes
    ----------
    kind : str
        "a pickle" …
    inside : bytes or None
        The beginning of what is pickled, where an archive has it.
    """

    def __init__(self, kind: str, inside: bytes | None = None) -> None:
        super().__init__(kind)
        self.kind, self.inside = kind, inside


def harmless(text: str) -> str:
    r"""Escape what could do something to a terminal.

    Examples
    --------
    >>> harmless("a\x1b[2J")
    'a\\x1b[2J'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shortened(text: str, longest: int) -> str:
    """Leave out the middle of a text of more characters.

    Examples
    --------
    >>> shortened("abcdefghij", 6)
    'abc … hij'
    """
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"
