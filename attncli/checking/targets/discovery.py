"""Finding targets: classes and functions in somebody's file or module, and what they lack."""

import ast
import difflib
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from attncli.checking.targets.frameworks.loaded import differentiates, understood
from attncli.checking.targets.importing import import_source, python_in
from attncli.checking.targets.sources import Passed, said_of, source_of
from attncli.checking.targets.target import Target, are_known_inputs, known_inputs, layer_named
from attncli.errors import CodeError, NoLayerError, TargetError
from attncli.spelling import nearest

_METHODS = ("forward", "backward")
_EXPECTED = "expected a class with forward and backward, or a pair of functions"
# How alike a name must be for the other one to be meant.
_ALIKE = 0.75
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
# The first or last word of a function's name, which says which one of a pair it is.
_ROLES = {"forward": "forward", "fwd": "forward", "backward": "backward", "bwd": "backward"}
_MISSPELT = "backward, misspelt"
# What is in the names that people give to attention.
_ATTENDS = ("attention", "attend", "attn", "sdpa")


class Found(NamedTuple):
    """What a text names.

    Attributes
    ----------
    targets : list of Target
        What is incomplete has a fault.
    notes : list of str
        What should be said beside them, a line each.
    """

    targets: list[Target]
    notes: list[str]


def discover(text: str) -> Found:
    """Find the targets that a text names; their code is loaded into this process.

    Parameters
    ----------
    text : str
        A file, a notebook or a module, and the name of one thing in it; without a name it is every
        class and pair of functions that looks like a layer.

    Raises
    ------
    CodeError
        If loading it fails.
    TargetError
        If there is no such thing, or no layer.
    """
    source = source_of(text)
    place, (module, failed, passed, stood_in) = source.place, import_source(source)
    file = getattr(module, "__file__", None)
    notes = [f"{place}: {', '.join(stood_in)} not found: attn's own stand in"] * bool(stood_in)
    if source.name:
        notes += [str(error) for _, error, _ in failed]
        try:
            return Found([_named(module, source.name, place, file, notes)], notes)
        except TargetError:
            for _, error, _ in failed:  # it may have been defined there
                raise error from None
            raise
    targets, others = _layers_in(module, place, file)
    for cell, error, rest in failed:
        if _may_define_layers(rest):
            targets.append(Target.broken(cell, f"{place} {cell}", file, error))
        else:  # what it did with the layers is no layer
            notes.append(str(error))
    passed += others
    said = said_of(place, passed) if passed else ""
    if not targets:
        raise NoLayerError(
            f"{place}: no layer found: expected a class with forward and backward, or functions "
            "NAME and NAME_backward",
            hint=f"{said}; {place}:NAME checks any of them" if said else None,
        )
    return Found(targets, [*notes, said] if said else notes)


def may_hold_layers(path: str) -> bool:
    """Whether a file may define what `discover` finds: by its text, nothing of it is run."""
    try:
        return _may_define_layers(python_in(path))
    except (SyntaxError, ValueError, OSError, CodeError):
        return True  # loading it says why


def _may_define_layers(text: str) -> bool:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            inside = [one.name for one in ast.walk(node) if isinstance(one, ast.FunctionDef)]
            methods = [one for one in inside for meant in _METHODS if _alike(one, meant)]
            if methods or "__call__" in inside or layer_named(node.name):
                return True
        elif isinstance(node, ast.FunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            if _parted(node.name)[1] or are_known_inputs(names):
                return True
    return False


def target_of_object(thing: Any) -> Target:
    """Make a target of a class, an instance, or a function or a pair of them.

    Raises
    ------
    TargetError
        If it is none of these.
    """
    thing = understood(thing)
    if isinstance(thing, tuple) and len(thing) == 2 and all(map(callable, thing)):
        where = _name_of(thing[0])
        return Target.from_functions(*thing, name=where, where=where, file=_file_of(thing[0]))
    if not _means_to_be_a_layer(thing) if inspect.isclass(thing) else not _can_run(thing):
        raise TargetError(f"{thing!r} is no layer: {_EXPECTED}")
    name, module = _name_of(thing), sys.modules.get(getattr(thing, "__module__", None) or "")
    return _target(thing, name, name, _file_of(thing), vars(module) if module else {})


def _name_of(thing: Any) -> str:
    thing = getattr(thing, "func", thing)  # of a partial
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def _file_of(thing: Any) -> str | None:
    thing = inspect.unwrap(getattr(thing, "func", thing))
    for one in (thing, type(thing)):
        try:
            return inspect.getsourcefile(one)
        except (TypeError, OSError):  # what is typed in has none
            continue
    return None


def _named(module: ModuleType, name: str, place: str, file: str | None, notes: list[str]) -> Target:
    """The target of a name in a module, or of two functions by what their names have in common."""
    *outer, last = name.split(".")
    holder: Any = module
    for one in outer:
        holder = getattr(holder, one, None)
    thing, names = understood(getattr(holder, last, None)), {} if outer else vars(module)
    forward, backward = _pair(last, names)
    if forward and (thing is None or last == backward):
        last, thing = forward, names[forward]
    if thing is None:
        raise _nameless(module, place, name)
    if backward and (name != forward or _parted(name)[1]):
        notes.append(f"{place}:{name}: {forward} goes with {backward}")
    return _target(thing, last, f"{place}:{name}", file, names)


def _layers_in(module: ModuleType, place: str, file: str | None) -> tuple[list[Target], Passed]:
    """The layers that a module defines itself, in its order, and what else it defines."""
    names = vars(module)
    found: dict[str, Target] = {}
    helpers: dict[str, Target] = {}
    passed: dict[str, str] = {}
    for name, thing in [(name, understood(thing)) for name, thing in names.items()]:
        if getattr(thing, "__module__", None) != module.__name__ or name.startswith("_"):
            continue
        forward, backward = _pair(name, names)
        whole = backward != "" and name == forward
        if inspect.isclass(thing):
            if not _means_to_be_a_layer(thing):
                passed[name] = "no forward"
                continue
        elif not _is_function(thing) or (forward and name == backward):
            continue
        elif not whole and not known_inputs(thing):
            lacks = "backward, and no query, key and value" if forward else "forward of its name"
            passed[name] = f"no {lacks}"
            continue
        target = _target(thing, name, f"{place}:{name}", file, names)
        if "takes no array" in str(target.fault):
            helpers[name], passed[name] = target, "forward takes no array"
        elif whole or inspect.isclass(thing) or any(part in name.lower() for part in _ATTENDS):
            found[name] = target
        else:
            helpers[name], passed[name] = target, "no backward"
    if not found:  # as long as there is a layer, they help it
        right = {name: target for name, target in helpers.items() if target.fault is None}
        found = right or helpers
    return list(found.values()), [(name, passed[name]) for name in passed if name not in found]


def _target(
    thing: Any, name: str, where: str, file: str | None, names: Mapping[str, Any]
) -> Target:
    """The target of anything that can be one; `names` are those that it stands among.

    What it lacks is its fault.
    """
    if not _can_run(thing):
        raise TargetError(f"{where}: is {type(thing).__name__}, {_EXPECTED}")
    try:
        if inspect.isclass(thing):
            _require_methods(thing, where)
            return Target.from_class(thing, where=where, file=file)
        if any(callable(getattr(thing, method, None)) for method in _METHODS):
            return Target.from_instance(thing, where=where, file=file)
        forward, partner = _pair(name, names)
        partner = partner if name == forward else ""
        if partner and _parted(partner)[1] == _MISSPELT:
            meant = f"{name.removesuffix('_forward')}_backward"
            raise CodeError(f"{where}: there is {partner}: is {meant} meant?")
        backward = names.get(partner)
        return Target.from_functions(thing, backward, name=name, where=where, file=file)
    except TargetError as error:
        return Target.broken(name, where, file, error)


def _can_run(thing: Any) -> bool:
    return callable(thing) or callable(getattr(thing, "forward", None))


def _require_methods(layer: type[Any], where: str) -> None:
    lacking = [name for name in _METHODS if not callable(_method(layer, name))]
    alone = differentiates(layer) or known_inputs(_method(layer, "forward"))
    if lacking and (lacking != ["backward"] or not alone):
        raise CodeError(f"{where}: {_what_is_there_instead(layer, lacking)}")


@functools.cache
def _parted(name: str) -> tuple[str, str]:
    """What a function's name is about, and its role in a pair.

    Examples
    --------
    >>> _parted("my_attention_fwd"), _parted("softmaxBackward"), _parted("softmax")
    (('my_attention', 'forward'), ('softmax', 'backward'), ('softmax', ''))
    """
    begin, words = name[: len(name) - len(name.lstrip("_"))], _WORD.findall(name)
    for i in (-1, 0) if words else ():
        word = words[i].lower()
        role = _ROLES.get(word) or (_MISSPELT if _alike(word, "backward") else "")
        if role:
            del words[i]
            return begin + "_".join(words), role
    return name, ""


def _pair(name: str, names: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the forward and the backward that a function is one of; else empty."""
    stem = _parted(name)[0]
    roles: dict[str, str] = {}
    for other, thing in names.items():
        if stem in other and _is_function(thing) and _parted(other)[0] == stem:
            roles.setdefault(_parted(other)[1], other)
    forward = roles.get("forward", roles.get("", ""))
    return forward, roles.get("backward", roles.get(_MISSPELT, ""))


def _is_function(thing: Any) -> bool:
    """Whether it is called by itself: a function, also one that is wrapped."""
    return not inspect.isclass(thing) and (
        inspect.isroutine(thing)
        or isinstance(thing, functools.partial)
        or callable(getattr(thing, "__wrapped__", None))
    )


def _method(thing: Any, name: str) -> Any:
    """A method by its name; ``__call__`` of their own is a forward."""
    found = getattr(thing, name, None)
    if found is None and name == "forward" and inspect.isclass(thing):
        found = next(
            (vars(one)["__call__"] for one in thing.mro() if "__call__" in vars(one)), None
        )
    return found


def _means_to_be_a_layer(thing: type[Any]) -> bool:
    named = layer_named(thing.__name__)
    if named is not None and named.replace("-", "") == thing.__name__.lower().replace("_", ""):
        return True
    has = [
        name for name in _METHODS if callable(getattr(thing, name, None)) or _hidden(thing, name)
    ]
    if has == ["forward"]:
        alone = differentiates(thing) or known_inputs(_method(thing, "forward"))
        return alone or _meant(thing) != {}
    return bool(has)


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


def _nameless(module: ModuleType, place: str, name: str) -> TargetError:
    """Say what a module holds instead of a name: what may be meant by it, or every layer."""
    says = f"{place}: holds nothing named {name}"
    can_run = [one for one in dir(module) if callable(getattr(module, one, None))]
    if (near := nearest(name, can_run)) is not None:
        return TargetError(says, hint=f"is {place}:{near} meant?")
    names = [target.name for target in _layers_in(module, place, None)[0]]
    if not names:
        return TargetError(says)
    return TargetError(f"{says}; it holds {', '.join(names)}", hint=f"is {place} meant?")
