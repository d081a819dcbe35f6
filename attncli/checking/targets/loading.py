"""Finding a target: a class or a pair of functions in somebody's file or module."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from attncli.checking.targets.target import Target
from attncli.checking.targets.their_code import running
from attncli.errors import TargetError

_FORMS = "expected file.py, file.py:Name or package.module:Name"


def load_targets(text: str) -> tuple[Target, ...]:
    """Find the targets that a text names.

    Parameters
    ----------
    text : str
        ``path/to/file.py`` is every class or pair of functions in it that looks like a layer,
        ``file.py:Name`` or ``package.module:Name`` is that one.

    Returns
    -------
    tuple of Target
        At least one.

    Raises
    ------
    TargetError
        If it cannot be loaded, or there is no such thing in it.
    """
    place, name = _split(text)
    module = _from_file(place) if place.endswith(".py") else _from_name(place, text)
    file = getattr(module, "__file__", None)
    if name:
        return (_named(module, name, place, file),)
    refused: list[TargetError] = []
    found = tuple(_layers_in(module, place, file, refused))
    if refused and not found:
        raise refused[0]
    if not found:
        raise TargetError(
            f"{place}: no layer found: expected a class with forward and backward, or functions "
            "NAME and NAME_backward",
            hint=_why_not(module),
        )
    return found


def target_of(thing: Any) -> Target:
    """Make a target of a class, an instance, a pair of functions, or a text as above.

    Raises
    ------
    TargetError
        If it is none of these.
    """
    if isinstance(thing, Target):
        return thing
    if isinstance(thing, str):
        targets = load_targets(thing)
        if len(targets) > 1:
            names = ", ".join(target.name for target in targets)
            raise TargetError(
                f"{thing} holds several layers: {names}", hint="name one: file.py:Name"
            )
        return targets[0]
    if isinstance(thing, tuple) and len(thing) == 2 and all(map(callable, thing)):
        return Target.from_functions(*thing, where=thing[0].__name__, file=_file_of(thing[0]))
    if _is_layer(thing):
        if inspect.isclass(thing):
            return Target.from_class(thing, where=thing.__qualname__, file=_file_of(thing))
        return Target.from_instance(
            thing, where=type(thing).__qualname__, file=_file_of(type(thing))
        )
    partner = getattr(
        sys.modules.get(getattr(thing, "__module__", "")),
        f"{getattr(thing, '__name__', '')}_backward",
        None,
    )
    if callable(thing) and callable(partner):
        return target_of((thing, partner))
    raise TargetError(
        f"{thing!r} is no layer: expected a class with forward and backward, or a pair of functions"
    )


def _split(text: str) -> tuple[str, str]:
    """Part the place from the name; a drive letter's colon is no separator."""
    place, colon, name = text.rpartition(":")
    if colon and (place.endswith(".py") or (name.isidentifier() and len(place) > 1)):
        return place, name
    if text.endswith(".py"):
        return text, ""
    if text.endswith(".ipynb"):
        raise TargetError(
            f"{text}: is a notebook, {_FORMS}",
            hint=f"jupyter nbconvert --to script {text}",
        )
    raise TargetError(f"{text!r} names no target: {_FORMS}")


@contextlib.contextmanager
def _importing(*folders: str, last: str | None = None) -> Iterator[None]:
    """Let folders be imported from first; afterwards last, for what is imported later."""
    path = sys.path[:]
    sys.path[:] = [*folders, *path, *([last] if last else [])]
    try:
        yield
    finally:
        sys.path[:] = [*path, *(folder for folder in sys.path if folder not in path)]


def _from_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        is_folder = os.path.isdir(path)
        raise TargetError(f"{path}: {'is a folder' if is_folder else 'no such file'}, {_FORMS}")
    stem = os.path.splitext(os.path.basename(path))[0]
    # The name of a module that is loaded already (numpy.py) must not be taken from it.
    name = stem if stem not in sys.modules and stem.isidentifier() else f"_attn_target_{stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = os.path.dirname(os.path.abspath(path))
    with running(path, path), _importing(folder, last=os.path.dirname(folder)):
        spec.loader.exec_module(module)
    return module


def _from_name(name: str, text: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{text!r} names no target: {_FORMS}")
    with _importing(os.getcwd()):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        origin = spec.origin if spec is not None else None
        with running(name, origin):
            return importlib.import_module(name)


def _named(module: ModuleType, name: str, place: str, file: str | None) -> Target:
    thing = getattr(module, name, None)
    where = f"{place}:{name}"
    if thing is None:
        raise TargetError(f"{place}: holds nothing named {name}", hint=_held(module))
    if inspect.isclass(thing):
        missing = [
            part for part in ("forward", "backward") if not callable(getattr(thing, part, None))
        ]
        if missing:
            raise TargetError(f"{where}: the class has no {' and no '.join(missing)}")
        return Target.from_class(thing, where=where, file=file)
    if _is_layer(thing):
        return Target.from_instance(thing, where=where, file=file)
    backward = getattr(module, f"{name}_backward", None)
    if callable(thing) and callable(backward):
        return Target.from_functions(thing, backward, where=where, file=file)
    if callable(thing):
        raise TargetError(f"{where}: the function has no partner named {name}_backward")
    raise TargetError(f"{where}: is {type(thing).__name__}, expected a class or a function")


def _layers_in(
    module: ModuleType, place: str, file: str | None, refused: list[TargetError]
) -> Iterator[Target]:
    """The layers that the module defines itself, in the order in which they stand there."""
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        where = f"{place}:{name}"
        backward = getattr(module, f"{name}_backward", None)
        try:
            if inspect.isclass(thing) and _is_layer(thing):
                yield Target.from_class(thing, where=where, file=file)
            elif inspect.isfunction(thing) and callable(backward):
                yield Target.from_functions(thing, backward, where=where, file=file)
        except TargetError as error:  # forward takes no array: it is something else
            refused.append(error)


def _is_layer(thing: Any) -> bool:
    return all(callable(getattr(thing, part, None)) for part in ("forward", "backward"))


def _held(module: ModuleType) -> str | None:
    names = [target.name for target in _layers_in(module, "", None, [])]
    return f"it holds {', '.join(names)}" if names else None


def _why_not(module: ModuleType) -> str | None:
    """Say of the classes that are there what they lack."""
    for name, thing in vars(module).items():
        if inspect.isclass(thing) and thing.__module__ == module.__name__:
            for has, lacks in (("forward", "backward"), ("backward", "forward")):
                if hasattr(thing, has) and not hasattr(thing, lacks):
                    return f"the class {name} has {has}, but no {lacks}"
    return None


def _file_of(thing: Any) -> str | None:
    try:
        return inspect.getsourcefile(thing)
    except TypeError:
        return None
