"""Tensors of other libraries: taken as NumPy's arrays, and given back as they came.

Nothing is imported: whose tensors are handed to us is loaded already.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from attncli.arrays import Array
from attncli.errors import ParameterError


class Library(ABC):
    """A library and some of its tensors, by which results are made to look.

    Parameters
    ----------
    operands : mapping of str to object
        What a calculation is given, by name, by which the dtype of its results goes.
    beside : mapping of str to object
        What else it is given.
    """

    def __init__(self, operands: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
        given = {**operands, **beside}
        self.tensors = {name: x for name, x in given.items() if self.holds(x)}
        dtypes = {dtype_name(x) for name, x in self.tensors.items() if name in operands}
        # NumPy has no such dtype: numbers are widened, and what has no other is narrowed again.
        self.is_bfloat16 = dtypes == {"bfloat16"}

    @staticmethod
    @abstractmethod
    def holds(thing: Any) -> bool:
        """Whether something is a tensor of this library."""

    @staticmethod
    @abstractmethod
    def numbers(tensor: Any) -> Array:
        """Give a tensor as an array; bfloat16 may come as float32, which holds its numbers."""

    @abstractmethod
    def back(self, array: Array, *, rounded: bool = True) -> Any:
        """Give an array as a tensor; rounded to bfloat16 if that was the tensors' dtype."""

    def result(self, array: Array) -> Any:
        """Give what was computed from the tensors as one."""
        return self.back(array)

    def changed(self) -> str:
        """Name a tensor that was changed in place since, where that can be seen."""
        return ""


class Torch(Library):
    """PyTorch, whose gradients know nothing of what is computed here."""

    def __init__(self, operands: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
        super().__init__(operands, beside)
        self._differentiated = [x for x in self.tensors.values() if x.requires_grad]
        # Nobody's graph is to be held for as long as a cache lives.
        self.tensors = {name: x.detach() for name, x in self.tensors.items()}
        self._versions = self._counted()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._versions = self._counted()  # a copy counts from new

    def _counted(self) -> dict[str, int]:
        """How often each was changed that was not copied; in inference mode nobody counts."""
        return {
            name: x._version
            for name, x in self.tensors.items()
            if not x.is_inference() and x.device.type == "cpu" and dtype_name(x) != "bfloat16"
        }

    @staticmethod
    def holds(thing: Any) -> bool:  # noqa: D102 - as above
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(thing, getattr(torch, "Tensor", ()))

    @staticmethod
    def numbers(tensor: Any) -> Array:
        """Give a tensor of any device as an array, without the graph of its gradient."""
        tensor = tensor.detach().cpu()
        no_such_dtype = dtype_name(tensor).startswith(("bfloat16", "float8"))
        return np.asarray(tensor.float() if no_such_dtype else tensor)

    def back(self, array: Array, *, rounded: bool = True) -> Any:  # noqa: D102 - as above
        torch, device = sys.modules["torch"], next(iter(self.tensors.values())).device
        tensor = torch.from_numpy(np.asarray(array)).to(device)
        return tensor.to(torch.bfloat16) if rounded and self.is_bfloat16 else tensor

    def result(self, array: Array) -> Any:
        """Give what was computed as a tensor through which torch's own backward raises."""
        differentiated, self._differentiated = self._differentiated, []
        if not differentiated:
            return self.back(array)
        return _without_backward().apply(lambda: self.back(array), *differentiated)

    def changed(self) -> str:  # noqa: D102 - as above
        now = self._counted()
        return next((name for name, then in self._versions.items() if now[name] != then), "")


class Jax(Library):
    """JAX, whose arrays never change."""

    @staticmethod
    def holds(thing: Any) -> bool:  # noqa: D102 - as above
        jax = sys.modules.get("jax")
        return jax is not None and isinstance(thing, getattr(jax, "Array", ()))

    @staticmethod
    def numbers(tensor: Any) -> Array:  # noqa: D102 - as above
        if isinstance(tensor, sys.modules["jax"].core.Tracer):
            raise ParameterError(
                f"{tensor.aval.str_short()} is traced by JAX, inside jit, grad or vmap, and here "
                "numbers are computed with: jax.pure_callback calls what JAX does not see through, "
                "and attncli.attention_backward gives the gradients"
            )
        return np.asarray(tensor)

    def back(self, array: Array, *, rounded: bool = True) -> Any:  # noqa: D102 - as above
        return sys.modules["jax"].numpy.asarray(array)


_LIBRARIES: tuple[type[Library], ...] = (Torch, Jax)


def library_of(operands: Mapping[str, Any], **beside: Any) -> Library | None:
    """Give the library that the first operand is of, and keep its tensors that go with it.

    Parameters
    ----------
    operands : mapping of str to object
        Results have the dtype in which these meet.
    **beside
        What else a calculation is given, by name.

    Returns
    -------
    Library or None
        None of NumPy's arrays, and of what they can be made of.
    """
    found = holding(next(iter(operands.values())))
    return None if found is None else found(operands, beside)


def holding(thing: Any) -> type[Library] | None:
    """Give the library that a tensor is of; None of all else."""
    return next((one for one in _LIBRARIES if one.holds(thing)), None)


def dtype_name(tensor: Any) -> str:
    """Name the dtype of an array or a tensor.

    Examples
    --------
    >>> dtype_name(np.zeros(2))
    'float64'
    """
    dtype = tensor.dtype
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def to_numpy(thing: Any) -> Array:
    """Give anything that holds numbers as an array, without a copy where that can be.

    Examples
    --------
    >>> to_numpy([1, 2])
    array([1, 2])
    """
    if type(thing) is ndarray:  # nearly always, and no time is to be lost
        return thing
    library = holding(thing)
    if library is not None:
        return library.numbers(thing)
    if hasattr(thing, "__dlpack__") and not hasattr(thing, "__array__"):
        return np.from_dlpack(thing)
    return np.asarray(thing)


def as_array(thing: Any) -> Array:
    """Give numbers as `to_numpy` does, in a dtype of NumPy's own: bfloat16 is widened.

    Examples
    --------
    >>> as_array([[0.25, 0.75]])
    array([[0.25, 0.75]])
    """
    array = to_numpy(thing)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


@cache
def _without_backward() -> Any:
    """Make the function of torch's by which a result refuses to be differentiated."""

    class Attention(sys.modules["torch"].autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, make: Callable[[], Any], *inputs: Any) -> Any:
            return make()

        @staticmethod
        def backward(ctx: Any, *douts: Any) -> Any:
            raise ParameterError(
                "torch's backward() cannot go through attncli, which computes with NumPy: "
                "attncli.attention_backward(dout, cache) gives the gradients"
            )

    return Attention
