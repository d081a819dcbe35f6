"""What an exception means to somebody who is writing a layer."""

import builtins
import difflib
import linecache
import os
from types import FrameType
from typing import Any

from attncli.checking.targets.notebooks import cell_of_file
from attncli.errors import shortened

AS_A_SCRIPT = "code that should run only as a script goes under: if __name__ == '__main__':"
_KEEP = "does forward keep what backward needs (self.cache = …)?"


def last_frame(error: BaseException, file: str | None) -> FrameType | None:
    """The innermost frame of their code: of their file, or of those beside it."""
    folder = os.path.dirname(os.path.realpath(file)) if file else None
    found, step = None, error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if folder and not name.startswith("<") and os.path.realpath(name).startswith(folder):
            found = step.tb_frame
        step = step.tb_next
    return found


def place(error: BaseException, frame: FrameType | None) -> str:
    """The line that raises, as the source has it; empty where it is not theirs."""
    step, number = error.__traceback__, 0
    while step is not None:
        number = step.tb_lineno if step.tb_frame is frame else number
        step = step.tb_next
    if frame is None or not number:
        return ""
    file = frame.f_code.co_filename
    line = ", ".join(filter(None, (cell_of_file(file), f"line {number}")))
    source = shortened(linecache.getline(file, number).strip(), 160)
    return f"{line}: {source}" if source else line


def meaning(error: BaseException, text: str, what: str, frame: FrameType | None) -> str | None:
    """Say what an exception means here, or None where it says it itself.

    Parameters
    ----------
    error : exception
    text : str
        Its message.
    what : str
        Which call it ended: "forward", "backward" or something else.
    frame : frame or None
        The innermost of theirs.
    """
    if "ellipsis" in text:
        return "a gap (...) is still to be filled in"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"its folder, the one above and the working directory are searched for {error.name}; "
            "PYTHONPATH adds others"
        )
    if isinstance(error, ImportError) and "relative import" in text:
        return "package.module:Name, from the folder that holds the package, allows them"
    if isinstance(error, SystemExit):
        return f"it exits, and a layer must not; {AS_A_SCRIPT}" if what in _CALLS else AS_A_SCRIPT
    if isinstance(error, EOFError) and "reading a line" in text:
        return "it asks for input (input()), and there is nobody to answer"
    if isinstance(error, RecursionError):
        return "it calls itself without end"
    if isinstance(error, NameError):
        return _no_such_name(error, what, frame)
    around = _around(frame)
    if isinstance(error, AttributeError) and error.name:
        return _no_such_attribute(error, what, around)
    if isinstance(error, TypeError):
        if "missing" in text and (found := _class_called(text, around)):
            return found
        if "is not callable" in text and (found := _layer_called(text, around)):
            return found
    if "NoneType" in text:
        return _KEEP if what == "backward" else "something is None: is there a return?"
    return None


_CALLS = ("forward", "backward")


def _around(frame: FrameType | None) -> dict[str, Any]:
    """What code can see from a frame, by how it is written there."""
    if frame is None:
        return {}
    seen = dict(frame.f_locals)
    held = getattr(seen.get("self"), "__dict__", {})
    return {**seen, **{f"self.{name}": value for name, value in held.items()}}


def _no_such_name(error: NameError, what: str, frame: FrameType | None) -> str | None:
    name = error.name or ""
    if not name or frame is None:
        return None
    here = {**frame.f_globals, **frame.f_locals}
    forward = getattr(type(frame.f_locals.get("self")), "forward", None)
    code = getattr(forward, "__code__", None)
    if frame.f_code.co_name == "backward" and code is not None and name in code.co_varnames:
        return f"{name} is a name of forward: forward must keep it (self.cache = …) for backward"
    letters = [other for other in here if sorted(other) == sorted(name)]
    alike = letters or difflib.get_close_matches(name, [*here, *vars(builtins)], 1, 0.6)
    return f"{name} is never assigned: is {alike[0]} meant?" if alike else None


def _no_such_attribute(error: AttributeError, what: str, around: dict[str, Any]) -> str | None:
    thing, name = error.obj, error.name or ""
    if thing is None:
        return _KEEP if what == "backward" else "it is None: is there a return?"
    if isinstance(thing, type):
        return _is_a_class(thing)
    alike = difflib.get_close_matches(name, dir(thing), 1, 0.7)
    if alike:
        return f"there is no {name}: is {alike[0]} meant?"
    if what == "backward" and thing is around.get("self"):
        return f"forward does not set self.{name}; {_KEEP}"
    return None


def _class_called(text: str, around: dict[str, Any]) -> str | None:
    """A method that misses an argument, since it was called by the class and not an instance."""
    for thing in around.values():
        if isinstance(thing, type) and text.startswith(f"{thing.__qualname__}."):
            return _is_a_class(thing)
    return None


def _layer_called(text: str, around: dict[str, Any]) -> str | None:
    """A layer that was called as if it were a function."""
    for name, thing in around.items():
        if text.startswith(f"'{type(thing).__name__}'") and hasattr(thing, "forward"):
            return f"{name} is a layer and no function: {name}.forward(…) is meant"
    return None


def _is_a_class(thing: type) -> str:
    name = thing.__name__
    return f"{name} is the class, not an instance of it: {name}() makes one"
