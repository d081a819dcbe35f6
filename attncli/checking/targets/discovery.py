"""Finding targets: classes and functions in somebody's file or module, and what they lack."""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from attncli.checking.targets.target import Target, known_inputs, layer_named
from attncli.checking.targets.their_code import running
from attncli.errors import CodeError, TargetError

_METHODS = ("forward", "backward")
# How alike a name must be for the other one to be meant.
_ALIKE = 0.75
_FORMS = "expected file.py, file.py:Name or package.module:Name"


def discover(text: str) -> tuple[Target, ...]:
    """Find the targets that a text names; their code is loaded into this process.

    Parameters
    ----------
    text : str
        ``path/to/file.py`` is every class or pair of functions in it that looks like a layer,
        ``file.py:Name`` or ``package.module:Name`` is that one.

    Returns
    -------
    tuple of Target
        At least one; what is incomplete has a fault.

    Raises
    ------
    CodeError
        If loading it fails.
    TargetError
        If there is no such thing.
    """
    place, name = split(text)
    module = _from_file(place) if place.endswith(".py") else _from_name(place, text)
    file = getattr(module, "__file__", None)
    if name:
        return (_named(module, name, place, file),)
    found = tuple(_layers_in(module, place, file))
    if not found:
        raise TargetError(
            f"{place}: no layer found: expected a class with forward and backward, or functions "
            "NAME and NAME_backward"
        )
    return found


def target_of_object(thing: Any) -> Target:
    """Make a target of a class, an instance, or a function or a pair of them.

    Raises
    ------
    TargetError
        If it is none of these.
    """
    if isinstance(thing, tuple) and len(thing) == 2 and all(map(callable, thing)):
        return Target.from_functions(*thing, where=thing[0].__name__, file=_file_of(thing[0]))
    if inspect.isclass(thing) and _means_to_be_a_layer(thing):
        return _of_class(thing, thing.__qualname__, _file_of(thing))
    if not inspect.isclass(thing) and all(map(callable, _methods(thing))):
        where = type(thing).__qualname__
        return Target.from_instance(thing, where=where, file=_file_of(type(thing)))
    module = sys.modules.get(getattr(thing, "__module__", ""))
    if inspect.isroutine(thing) and module is not None:
        return _of_function(thing, module, thing.__name__, _file_of(thing))
    raise TargetError(
        f"{thing!r} is no layer: expected a class with forward and backward, or a pair of functions"
    )


def split(text: str) -> tuple[str, str]:
    """Part the place from the name; a drive letter's colon is no separator.

    Raises
    ------
    TargetError
        If it names no place, or one where there is nothing.
    """
    place, colon, name = text.rpartition(":")
    if not (colon and (place.endswith(".py") or (name.isidentifier() and len(place) > 1))):
        place, name = (text, "") if text.endswith(".py") else ("", "")
    if place.endswith(".py") and not os.path.isfile(place):
        what = "is a folder" if os.path.isdir(place) else "no such file"
        raise TargetError(f"{place}: {what}, {_FORMS}")
    if place:
        return place, name
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
        return _of_class(thing, where, file)
    if all(map(callable, _methods(thing))):
        return Target.from_instance(thing, where=where, file=file)
    if callable(thing):
        return _of_function(thing, module, where, file)
    raise TargetError(f"{where}: is {type(thing).__name__}, expected a class or a function")


def _layers_in(module: ModuleType, place: str, file: str | None) -> Iterator[Target]:
    """The layers that the module defines itself, in the order in which they stand there."""
    own = {
        name: thing
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", None) == module.__name__ and not name.startswith("_")
    }
    found: list[Target] = []
    refused: list[Target] = []
    for name, thing in own.items():
        where = f"{place}:{name}"
        if inspect.isclass(thing) and _means_to_be_a_layer(thing):
            target = _of_class(thing, where, file)
            # Where forward takes no array it is something else, if there is anything beside.
            (refused if target.fault is not None and not target.inputs else found).append(target)
        elif inspect.isfunction(thing) and _partner(name, vars(module)):
            found.append(_of_function(thing, module, where, file))
    incomplete = [target for target in refused if "forward takes" not in str(target.fault)]
    found = sorted([*found, *incomplete], key=lambda target: list(own).index(target.name))
    if not found:
        # Functions without a partner are helpers, as long as there is anything else.
        found = [
            _of_function(thing, module, f"{place}:{name}", file)
            for name, thing in own.items()
            if inspect.isfunction(thing) and known_inputs(thing)
        ]
    yield from found or refused


def _of_class(layer: type[Any], where: str, file: str | None) -> Target:
    """The target of a class; what it lacks is its fault."""
    lacking = [name for name in _METHODS if not callable(_method(layer, name))]
    try:
        if lacking and (lacking != ["backward"] or not known_inputs(_method(layer, "forward"))):
            raise CodeError(f"{where}: {_what_is_there_instead(layer, lacking)}")
        return Target.from_class(layer, where=where, file=file)
    except TargetError as error:
        return Target.broken(layer.__name__, where, file, error)


def _of_function(function: Any, module: ModuleType, where: str, file: str | None) -> Target:
    """The target of a function and its partner; alone, its forward can be judged."""
    name = function.__name__
    partner = _partner(name, vars(module))
    backward = getattr(module, partner, None)
    if partner and not partner.endswith("_backward"):
        meant = f"{name.removesuffix('_forward')}_backward"
        error = CodeError(f"{where}: there is {partner}: is {meant} meant?")
        return Target.broken(name, where, file, error)
    return Target.from_functions(function, backward, where=where, file=file)


def _partner(name: str, names: Iterable[str]) -> str:
    """The name of a function's backward, however it is spelt; empty where there is none."""
    stem = name.removesuffix("_forward")
    meant = f"{stem}_backward"
    alike = [
        other
        for other in names
        if other.startswith(f"{stem}_") and _alike(other.removeprefix(f"{stem}_"), "backward")
    ]
    return meant if meant in alike else next(iter(alike), "")


def _method(thing: Any, name: str) -> Any:
    """A method by its name; ``__call__`` of their own is a forward."""
    found = getattr(thing, name, None)
    if found is None and name == "forward" and inspect.isclass(thing):
        found = next(
            (vars(one)["__call__"] for one in thing.mro() if "__call__" in vars(one)), None
        )
    return found


def _methods(thing: Any) -> list[Any]:
    return [_method(thing, name) for name in _METHODS]


def _means_to_be_a_layer(thing: type[Any]) -> bool:
    named = layer_named(thing.__name__)
    if named is not None and named.replace("-", "") == thing.__name__.lower().replace("_", ""):
        return True
    has = [
        name for name in _METHODS if callable(getattr(thing, name, None)) or _hidden(thing, name)
    ]
    return bool(has) and (
        has != ["forward"] or known_inputs(_method(thing, "forward")) or _meant(thing) != {}
    )


def _meant(thing: type[Any]) -> dict[str, str]:
    """What is there in place of each method that is not: a name spelt almost like it."""
    names = [name for name in vars(thing) if callable(getattr(thing, name, None))]
    meant = {}
    for method in _METHODS:
        if not callable(getattr(thing, method, None)):
            for there in difflib.get_close_matches(method, set(names) - set(_METHODS), 1, _ALIKE):
                meant[method] = there
    return meant


def _hidden(thing: type[Any], method: str) -> str:
    """In which of its other methods a method is defined: it is indented too far."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return ""
    functions = [one for one in ast.iter_child_nodes(tree) if isinstance(one, ast.FunctionDef)]
    for outer in functions:
        inner = [one for one in ast.walk(outer) if isinstance(one, ast.FunctionDef)]
        if outer.name != method and method in [one.name for one in inner]:
            return outer.name
    return ""


def _alike(name: str, meant: str) -> bool:
    return difflib.SequenceMatcher(None, name, meant).ratio() >= _ALIKE


def _what_is_there_instead(layer: type[Any], lacking: list[str]) -> str:
    name = layer.__name__
    hidden = {method: _hidden(layer, method) for method in lacking}
    parts = [f"{name} has no {' and no '.join(lacking)}"]
    for inside in dict.fromkeys(filter(None, hidden.values())):
        methods = " and ".join(method for method in lacking if hidden[method] == inside)
        one = " is" if " and " not in methods else " are"
        parts.append(f"{methods}{one} inside {inside}, indented one step too far")
    for method, there in _meant(layer).items():
        parts.append(f"it has {there}: is {method} meant?")
    return "; ".join(parts)


def _held(module: ModuleType) -> str | None:
    names = [target.name for target in _layers_in(module, "", None)]
    return f"it holds {', '.join(names)}" if names else None


def _file_of(thing: Any) -> str | None:
    try:
        return inspect.getsourcefile(thing)
    except TypeError:
        return None
