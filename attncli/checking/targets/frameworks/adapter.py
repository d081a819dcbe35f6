"""What must be known of a framework to call code that is written for it, and NumPy's adapter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.wire import twin
from attncli.foreign import as_array

Pull = Callable[[Array], Sequence[Any]]
"""Gives the gradients of a call's inputs that belong to the gradient of its result."""


class Adapter:
    """NumPy's adapter, and what those of frameworks have to say otherwise.

    Attributes
    ----------
    name : str
        What the framework is called; its package has the same name in small letters.
    framework : module
        The package, as somebody's code has loaded it: nothing imports it here.
    """

    name = "NumPy"

    def __init__(self, framework: Any) -> None:
        self.framework = framework

    @property
    def devices(self) -> tuple[str, ...]:
        """What there is to compute on."""
        return ("cpu",)

    aliases: Mapping[str, str] = {}

    def place(self, device: str) -> str | None:
        """What it calls a device, whose number may be left out; None where that is not there.

        Examples
        --------
        >>> NUMPY.place("cpu"), NUMPY.place("cuda")
        ('cpu', None)
        """
        kind, _, number = device.partition(":")
        kind = self.aliases.get(kind, kind)
        name = kind if kind == "cpu" else f"{kind}:{number or 0}"
        return name if name in self.devices else None

    def owns(self, value: Any) -> bool:
        """Whether a value is one of its arrays."""
        return isinstance(value, np.ndarray)

    def hasten(self, folder: str) -> None:
        """Let calls in this process, which is there for them alone, take less time.

        What takes long may be kept in a folder, for other processes.
        """

    def take(self, array: Array, device: str | None = None) -> Any:
        """A new array of its, of the numbers in `array` and lying in memory as that does.

        Raises
        ------
        TargetError
            If it has no numbers of this dtype.
        """
        return twin(array)

    def refill(self, held: Any, new: Any, *, same: bool) -> Any:
        """Write an array into another's memory, and give that or, unless `same`, a new object.

        Give `new` where that cannot be.
        """
        if (held.shape, held.dtype, held.strides) != (new.shape, new.dtype, new.strides):
            return new
        held[...] = new
        return held if same else held[...]

    def numbers(self, value: Any) -> Any:
        """What its arrays hold as NumPy's, over the same memory if it can be."""
        return as_array(value)

    def write(self, held: Any, values: Array) -> None:
        """Write other numbers into an array."""
        held[...] = values

    def differentiate(
        self, function: Callable[..., Any], arrays: Sequence[Any], weights: Sequence[Any]
    ) -> tuple[Any, Pull | None, str]:
        """Call a function of arrays; give what it gives, and its gradients, or why there are none.

        The gradients are of the arrays, then of the weights that the function uses.
        """
        raise NotImplementedError

    def circumstances(self, seed: int | None, memory: float | None) -> AbstractContextManager[Any]:
        """Let its random numbers begin with a seed, and memory that nobody wrote hold a value."""
        return nullcontext()

    def understood(self, thing: Any) -> Any:
        """A callable of a kind of its own as a class or function like any other; else `thing`."""
        return thing

    def differentiates(self, layer: type[Any]) -> bool:
        """Whether instances of a class have no backward because the framework sees to it."""
        return False

    def started(self, instance: Any, device: str | None) -> Any:
        """An instance of somebody's class, made ready to be called."""
        return instance

    def makes_weights(self, instance: Any) -> bool:
        """Whether the first call of an instance makes weights of it, by the sizes that come."""
        return False


NUMPY = Adapter(np)


def as_function(thing: Any, call: Callable[..., Any], signature: inspect.Signature) -> Any:
    """A plain function that stands for a callable of another kind."""

    def function(*arguments: Any, **options: Any) -> Any:
        return call(*arguments, **options)

    function.__name__ = function.__qualname__ = thing.__name__
    function.__module__ = thing.__module__
    function.__doc__ = thing.__doc__
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
