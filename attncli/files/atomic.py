"""Writing files so that there is always the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from attncli.errors import FileError
from attncli.files.source import refused


def check_output(path: str, *, force: bool = False, inputs: Iterable[str] = ()) -> None:
    """Say before any work whether an output could be written.

    Parameters
    ----------
    path : str
        The file to be written.
    force : bool, default False
        Whether an existing file may be replaced.
    inputs : iterable of str
        The files that are read; the output must not be one of them, even with `force`.

    Raises
    ------
    FileError
        If it exists, is an input or a folder, or its folder is missing or read-only.
    """
    if path == "" or "\0" in path:
        raise FileError(f"{path!r} is not a file name")
    try:
        mode = _mode(path)
        for name in inputs:
            if _same_file(name, path):
                raise FileError(f"{path}: is an input of this command, and would be overwritten")
        folder = Path(os.path.realpath(path)).parent
    except OSError as error:
        raise refused(f"{path}: cannot be written", error) from None
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: is a folder, expected a file name")
        if not stat.S_ISREG(mode):
            return  # a pipe or a device is written to, not replaced
        if not force:
            raise FileError(f"{path}: exists already", hint="--force replaces it")
    if not folder.is_dir():
        raise FileError(f"{path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{path}: the folder {folder} cannot be written to")


@contextlib.contextmanager
def replacing(path: str, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place only once it is complete.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is
    renamed over the old one.  Whatever happens on the way, the old file stays as it was and the
    temporary one is removed.  An existing file keeps its mode, a new one follows the umask; a
    symbolic link stays and its target is replaced; a pipe or device is written directly.

    Parameters
    ----------
    path : str
        The file to be written.
    force : bool, default False
        Whether an existing file may be replaced.

    Yields
    ------
    binary file

    Raises
    ------
    FileError
        If it cannot be written, or exists and `force` is not set.
    """
    check_output(path, force=force)
    try:
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            with open(path, "wb", buffering=0) as device:
                yield device
            return
        target = Path(os.path.realpath(path))
        temporary, stream = _open_temporary(target)
        try:
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                if mode is not None:
                    temporary.chmod(stat.S_IMODE(mode))
            if force:
                temporary.replace(target)
            else:
                _rename_to_new(temporary, target, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refused(f"{path}: cannot be written", error) from None


def is_device(path: str) -> bool:
    """Tell whether a path is a pipe or a device, which is written to and not replaced."""
    return os.path.exists(path) and not os.path.isfile(path)


def _open_temporary(target: Path) -> tuple[Path, BinaryIO]:
    # Not tempfile's: those are private (0600), while a new output follows the umask.
    temporary = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    return temporary, os.fdopen(descriptor, "w+b")  # to be mapped, it has to be readable too


def _rename_to_new(temporary: Path, target: Path, path: str) -> None:
    """Rename unless the target has come into being meanwhile (a plain rename would replace it)."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileError(f"{path}: exists already", hint="--force replaces it") from None
    except OSError:  # a file system without hard links
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot; the file itself is synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(path: str) -> int | None:
    """The mode of a file, a link followed; None where there is none."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _same_file(name: str, path: str) -> bool:
    """Whether an input, ``-`` being standard input, is the file at `path`."""
    try:
        ours = os.stat(path)
        theirs = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, theirs)
