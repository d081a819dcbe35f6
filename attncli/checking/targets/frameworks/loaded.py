"""Which frameworks there are, and which of them somebody's code has loaded.

The adapter of one is loaded only where its framework is.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from attncli.checking.targets.frameworks.adapter import NUMPY, Adapter
from attncli.errors import TargetError

ADAPTERS = {
    "torch": "attncli.checking.targets.frameworks.torch_adapter:TorchAdapter",
    "jax": "attncli.checking.targets.frameworks.jax_adapter:JaxAdapter",
}
"""The adapter of each framework, by the package that somebody's code imports."""

_made: dict[str, Adapter] = {}


def loaded() -> tuple[Adapter, ...]:
    """The adapters of the frameworks that are loaded in this process."""
    for package, place in ADAPTERS.items():
        if package in sys.modules and package not in _made:
            module, _, name = place.partition(":")
            _made[package] = getattr(importlib.import_module(module), name)(sys.modules[package])
    return tuple(_made.values())


def differentiates(layer: type[Any]) -> bool:
    """Whether instances of a class have no backward because a framework sees to it."""
    return any(adapter.differentiates(layer) for adapter in loaded())


def understood(thing: Any) -> Any:
    """What is given, or, of a kind that a framework has of its own, a class or function like it."""
    for adapter in loaded():
        thing = adapter.understood(thing)
    return thing


def owner(value: Any) -> Adapter:
    """The adapter of the framework whose array a value is; NumPy's where it is nobody's."""
    return next((adapter for adapter in loaded() if adapter.owns(value)), NUMPY)


def plain(value: Any, depth: int = 3) -> Any:
    """A value in which the arrays of frameworks are NumPy's."""
    if depth and type(value) in (list, tuple):
        return type(value)(plain(item, depth - 1) for item in value)
    if depth and type(value) is dict:
        return {name: plain(item, depth - 1) for name, item in value.items()}
    adapter = owner(value)
    if adapter is NUMPY and hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return value if adapter is NUMPY else adapter.numbers(value)


def candidates(function: Any, *, differentiable: bool, device: str | None) -> Iterator[Adapter]:
    """The adapters of whose arrays a function may take, the likeliest first.

    Parameters
    ----------
    function : callable
    differentiable : bool
        Whether a framework's arrays are of use: it has no backward of its own.
    device : str or None
        Where it has to compute.
    """
    function = inspect.unwrap(function)
    found = loaded()
    if device is not None:
        found = tuple(one for one in found if one.place(device))
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    roots = {_root(value) for value in [function, *names.values()]}
    near = [one for one in found if one.name.lower() in roots]
    far = [one for one in found if one not in near]
    numpy = [] if device is not None or _root(function) in ADAPTERS else [NUMPY]
    yield from (*near, *numpy, *far) if differentiable else (*numpy, *near, *far)


def _root(value: Any) -> str:
    """The package that a value is from."""
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return str(name).partition(".")[0]


def require_device(device: str) -> None:
    """Raise if no framework that is loaded knows a device.

    Raises
    ------
    TargetError
    """
    found = loaded()
    if not found:
        frameworks = " and ".join(ADAPTERS)
        raise TargetError(f"--device {device} is for code of {frameworks}: this loads neither")
    if not any(adapter.place(device) for adapter in found):
        there = list(dict.fromkeys(name for adapter in found for name in adapter.devices))
        raise TargetError(
            f"there is no device {device} here: there is {', '.join(there)}",
            hint=f"--device {there[-1]}",
        )
