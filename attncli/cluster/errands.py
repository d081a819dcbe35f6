"""Errands: work that is done far away, in a fresh process and beside the files that it needs.

What somebody's code does to its process, or how it ends it, nobody else has to bear.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from attncli.errors import AttnError, FileError
from attncli.files.atomic import replacing
from attncli.files.source import open_source
from attncli.processes import Channel, Process


class Errand(NamedTuple):
    """What is to be called, and where.

    Attributes
    ----------
    function : callable
        Of a module, with its arguments; what it gives can be pickled.
    folder : str
        Where it is called, if that and the files in it are there.
    files : mapping of str to bytes
        By their paths in the folder.  Where they are not there, as on a machine that shares no
        disk with ours, they are written into a folder that is taken away again.
    """

    function: Callable[[], Any]
    folder: str
    files: Mapping[str, bytes] = {}


def run_errand(errand: Errand) -> Any:
    """Call the function of an errand in a fresh process, which ends with this one.

    Raises
    ------
    AttnError
        As the function does; or if a file would lie outside of the folder, and is not there.
    RuntimeError
        If the function fails, with its traceback; or its process ends.
    """
    with contextlib.ExitStack() as stack:
        folder = errand.folder
        if not _is_there(folder, errand.files):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="attn-"))
            for path, content in errand.files.items():
                _put(folder, path, content)
        process = stack.enter_context(Process("attncli.cluster.errands"))
        process.channel.send({"folder": folder}, [pickle.dumps(errand.function)])
        try:
            answer, parts = process.channel.receive()
        except EOFError:
            raise RuntimeError("the process of an errand ended before it was done") from None
    if "failed" in answer:
        raise RuntimeError(answer["failed"])
    found = pickle.loads(parts[0])
    if "refused" in answer:
        raise found
    return found


def _is_there(folder: str, files: Mapping[str, bytes]) -> bool:
    if not os.path.isdir(folder):
        return False
    for path, content in files.items():
        try:
            with open_source(os.path.join(folder, path)).open() as stream:
                if stream.read() != content:
                    return False
        except FileError:
            return False
    return True


def _put(folder: str, path: str, content: bytes) -> None:
    place = os.path.normpath(os.path.join(folder, path))
    if not place.startswith(folder + os.sep):
        raise FileError(
            f"{path}: not there on the machine of a worker, and outside of the folder that travels",
            hint="go to its folder, and name it from there",
        )
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with replacing(place) as stream:
        stream.write(content)


def main(number: str) -> None:
    """Run one errand; be gone as soon as nobody waits for it."""
    channel = Channel.inherited(number)
    request, parts = channel.receive()
    threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
    answer: dict[str, Any] = {}
    found = b""
    try:
        os.chdir(request["folder"])
        found = pickle.dumps(pickle.loads(parts[0])())
    except AttnError as error:
        answer["refused"], found = True, pickle.dumps(error)
    except Exception:
        import traceback

        answer["failed"] = traceback.format_exc()
    channel.send(answer, [found])


def _end_with(channel: Channel) -> NoReturn:
    with contextlib.suppress(EOFError, ValueError):
        channel.receive()
    os._exit(1)
