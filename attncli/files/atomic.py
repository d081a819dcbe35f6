"""Writing files so that there is always the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from attncli.errors import FileError, NoFileError
from attncli.files import source
from attncli.files.source import refused

_END = ".tmp"


def check_output(
    path: str, *, force: bool = False, inputs: Iterable[str] = (), is_store: bool = False
) -> None:
    """Say before any work whether an output could be written.

    Parameters
    ----------
    path : str
        The file to be written.
    force : bool, default False
        Whether an existing file may be replaced.
    inputs : iterable of str
        The files that are read; the output must not be one of them, even with `force`.
    is_store : bool, default False
        Whether it is to be a zarr store, which is a folder and replaces such folders alone.

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
            if same_file(name, path) or _same_folder(name, path, is_store):
                what = f"{path}: is an input of this command, and would be overwritten"
                raise FileError(what, hint=f"is {source.free(path)} meant?")
        folder = Path(os.path.realpath(path)).parent
    except OSError as error:
        raise refused(f"{path}: cannot be written", error) from None
    if mode is not None:
        if is_store and not (
            stat.S_ISDIR(mode) and (source.is_store(path) or not os.listdir(path))
        ):
            raise FileError(f"{path}: is no zarr store, and only such are replaced")
        if stat.S_ISDIR(mode) and not is_store:
            raise FileError(f"{path}: is a folder, expected a file name")
        if not stat.S_ISREG(mode) and not is_store:
            if not stat.S_ISFIFO(mode) and not os.path.samefile(path, os.devnull):
                raise FileError(f"{path}: is a device, expected a file, a pipe or {os.devnull}")
            return  # it is written to, not replaced
        if not force:
            raise FileError(f"{path}: exists already", hint="--force replaces it")
    if not folder.is_dir():
        raise NoFileError(f"{path}: the folder {folder} does not exist", path)
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
        temporary = beside(target)
        # Not tempfile's: those are private (0600), while a new output follows the umask. To be
        # mapped, it has to be readable too.
        stream = os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")
        try:
            with stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                if mode is not None:
                    temporary.chmod(stat.S_IMODE(mode))
            put_in_place(temporary, target, path, force=force)
        finally:
            temporary.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refused(f"{path}: cannot be written", error) from None


def is_device(path: str) -> bool:
    """Tell whether a path is a pipe or a device, which is written to and not replaced."""
    return os.path.exists(path) and not os.path.isfile(path)


def beside(target: Path) -> Path:
    """Name a temporary file or folder beside the one whose place it is to take."""
    return target.with_name(f"{_beginning(target)}{os.urandom(6).hex()}{_END}")


def unfinished(target: Path) -> Iterator[Path]:
    """Find what `beside` named and nothing took away."""
    length = len(_beginning(target)) + 12 + len(_END)
    with os.scandir(target.parent) as there:
        for one in there:
            name = one.name
            if len(name) == length and name.startswith(_beginning(target)) and name.endswith(_END):
                yield Path(one.path)


def _beginning(target: Path) -> str:
    return f".{target.name[:200]}."


def put_in_place(temporary: Path, target: Path, path: str, *, force: bool) -> None:
    """Let what is complete and on the disk take its place; `path` is what messages call it.

    Raises
    ------
    FileError, OSError
        If there is something that must not be replaced, or what is written was made of a file that
        changed meanwhile.
    """
    source.require_unchanged()
    if temporary.is_dir() and force and source.is_store(str(target)):
        shutil.copymode(target, temporary)
        _exchange(temporary, target)
        shutil.rmtree(temporary, ignore_errors=True)  # the old one, by now
    elif force and not temporary.is_dir():
        temporary.replace(target)
    else:
        _rename_to_new(temporary, target, path)
    sync_folder(target.parent)


def _rename_to_new(temporary: Path, target: Path, path: str) -> None:
    """Rename unless the target has come into being meanwhile (a plain rename would replace it)."""
    exists = FileError(f"{path}: exists already", hint="--force replaces it")
    if temporary.is_dir():  # which replaces an empty folder alone
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise exists from None
            raise
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise exists from None
    except OSError:  # a file system without hard links
        temporary.replace(target)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places, at once where the system can."""
    with contextlib.suppress(AttributeError, TypeError, OSError):  # elsewhere than on Linux
        libc = ctypes.CDLL(None)
        here, at_once = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if not libc.renameat2(here, bytes(one), here, bytes(other), at_once):
            return
    between = beside(other)
    other.rename(between)
    try:
        one.rename(other)
    except OSError:
        between.rename(other)
        raise
    between.rename(one)


def sync_folder(folder: Path) -> None:
    """See that what a folder lists is on the disk."""
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


def same_file(name: str, path: str) -> bool:
    """Whether an input, ``-`` being standard input, is the file at `path`."""
    try:
        ours = os.stat(path)
        theirs = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISREG(ours.st_mode) and os.path.samestat(ours, theirs)


def _same_folder(name: str, path: str, is_store: bool) -> bool:
    """Whether an input lies in the folder at `path`, or this in an input that is one."""
    try:
        ours, theirs = Path(os.path.realpath(path)), Path(os.path.realpath(name))
    except ValueError:  # a NUL in the name
        return False
    if is_store and ours in (theirs, *theirs.parents):
        return ours.exists()
    return theirs.is_dir() and theirs in ours.parents and (is_store or ours.exists())
