"""JAX: arrays that cannot be written, functions that are differentiated by jax.vjp."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.frameworks.adapter import Adapter, Pull, as_function
from attncli.errors import CodeError

# JAX compiles every step of a function for all shapes anew, which takes longer than the function as
# a whole.  But compiled so it runs once alone, so inputs of the first shapes go step by step.
_BY_STEPS = 2
# What is compiled again, since its Python runs again, is found where it was kept before.
_QUICKLY = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_disable_most_optimizations": True,
}  # fmt: skip
# Of so many shapes what was compiled is kept: of each it takes tens of megabytes.
_KEPT = 16


class JaxAdapter(Adapter):
    """What there is to know of JAX."""

    name = "JAX"
    aliases: Mapping[str, str] = {"cuda": "gpu", "rocm": "gpu"}

    def __init__(self, framework: Any) -> None:
        super().__init__(framework)
        self._seen: set[Any] = set()
        self._compiled: set[Any] = set()

    @property
    def devices(self) -> tuple[str, ...]:
        """What there is to compute on."""
        return tuple("cpu" if one.platform == "cpu" else f"{one.platform}:{one.id}"
                     for one in self.framework.devices())  # fmt: skip

    def owns(self, value: Any) -> bool:
        """Whether a value is an array of JAX."""
        return isinstance(value, self.framework.Array)

    def hasten(self, folder: str) -> None:
        """Compile what is the same once, for processes that share a folder, and in less time."""
        for name, value in {"jax_compilation_cache_dir": folder, **_QUICKLY}.items():
            with contextlib.suppress(AttributeError):  # of another version
                self.framework.config.update(name, value)
        with contextlib.suppress(ImportError, AttributeError):  # what was compiled already, was not
            place = "jax.experimental.compilation_cache.compilation_cache"
            importlib.import_module(place).reset_cache()

    def take(self, array: Array, device: str | None = None) -> Any:
        """A new array."""
        if (
            array.dtype.name in ("float64", "complex128")
            and not self.framework.config.jax_enable_x64
        ):
            raise CodeError(f"JAX has no {array.dtype} here: jax_enable_x64 is off")
        self._compiled.add(array.shape)
        if len(self._compiled) > _KEPT:
            self.framework.clear_caches()
            self._compiled.clear()
        return self.framework.device_put(np.array(array), self._device(device))

    def refill(self, held: Any, new: Any, *, same: bool) -> Any:
        """Give the new one: none can be written into."""
        return new

    def differentiate(
        self, function: Callable[..., Any], arrays: Sequence[Any], weights: Sequence[Any]
    ) -> tuple[Any, Pull | None, str]:
        """Call a function through jax.vjp; where it cannot be traced, plainly."""
        jax = self.framework
        floating = [jax.numpy.issubdtype(array.dtype, jax.numpy.floating) for array in arrays]
        moved = [i for i, one in enumerate(floating) if one]

        def of_floating(*given: Any) -> Any:
            whole = dict(enumerate(arrays)) | dict(zip(moved, given, strict=True))
            return function(*(whole[i] for i in range(len(arrays))))

        shapes = tuple(array.shape for array in arrays)
        whole = shapes not in self._seen and len(self._seen) >= _BY_STEPS
        try:
            out, of = self._traced(of_floating, [arrays[i] for i in moved], whole=whole)
        except Exception as error:
            out = function(*arrays)
            return out, None, f"jax.vjp cannot be taken of it ({type(error).__name__})"

        self._seen |= set() if whole else {shapes}

        def pull(dout: Array) -> list[Any]:
            given = jax.device_put(dout.astype(out.dtype), next(iter(out.devices())))
            through = jax.jit(lambda of, dout: of(dout)) if whole else lambda of, dout: of(dout)
            found = iter(jax.block_until_ready(through(of, given)))
            return [next(found) if one else None for one in floating]

        return out, pull, ""

    def _traced(
        self, function: Callable[..., Any], arrays: Sequence[Any], *, whole: bool
    ) -> tuple[Any, Any]:
        """What a function gives, and the way back; compiled as a whole where that can be."""
        jax = self.framework
        if whole:
            try:
                found = jax.jit(lambda *given: jax.vjp(function, *given))(*arrays)
            except Exception:  # it decides by the numbers
                found = jax.vjp(function, *arrays)
        else:
            found = jax.vjp(function, *arrays)
        out, of = found
        return jax.block_until_ready(out), of

    def understood(self, thing: Any) -> Any:
        """What jax.jit and the like make of a function, as a function."""
        wrapped = getattr(thing, "__wrapped__", None)
        if wrapped is None or inspect.isfunction(thing) or inspect.isclass(thing):
            return thing
        return as_function(thing, thing, inspect.signature(wrapped))

    def _device(self, device: str | None) -> Any:
        name = device and self.place(device)
        names = self.devices
        return self.framework.devices()[names.index(name)] if name else None
