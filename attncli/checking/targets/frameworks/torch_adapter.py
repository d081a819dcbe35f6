"""PyTorch: tensors, modules and functions with a backward of their own; gradients by autograd."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.frameworks.adapter import Adapter, Pull, as_function

_CUT_OFF = "out is cut off from the inputs (no_grad, detach or .data): autograd has no gradient"


class TorchAdapter(Adapter):
    """What there is to know of PyTorch."""

    name = "torch"

    @property
    def aliases(self) -> Mapping[str, str]:  # type: ignore[override]
        """A GPU is what it is called here."""
        return {"gpu": next((x.partition(":")[0] for x in self.devices if x != "cpu"), "gpu")}

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """What there is to compute on."""
        torch, found = self.framework, ["cpu"]
        for kind in ("cuda", "mps", "xpu"):
            there = getattr(torch, kind, None)
            if there is not None and there.is_available():
                found += [f"{kind}:{number}" for number in range(there.device_count())]
        return tuple(found)

    def owns(self, value: Any) -> bool:
        """Whether a value is a tensor."""
        return isinstance(value, self.framework.Tensor)

    def take(self, array: Array, device: str | None = None) -> Any:
        """A new tensor."""
        torch = self.framework
        dtype = getattr(torch, array.dtype.name)
        strides = [step // array.itemsize for step in array.strides]
        tensor = torch.empty_strided(array.shape, [abs(step) for step in strides], dtype=dtype)
        plain = np.ascontiguousarray(array)
        if array.dtype.name == "bfloat16":
            tensor.copy_(torch.from_numpy(plain.view(np.int16)).view(torch.bfloat16))
        else:
            tensor.copy_(torch.from_numpy(plain))
        return tensor.to(device and self.place(device))

    def refill(self, held: Any, new: Any, *, same: bool) -> Any:
        """Write a tensor into another's memory."""
        alike = (held.shape, held.dtype, held.stride()) == (new.shape, new.dtype, new.stride())
        if not alike:
            return new
        plain = held.detach_().copy_(new)
        return plain if same else self.framework.empty_like(new).set_(plain)

    def write(self, held: Any, values: Array) -> None:
        """Write other numbers into a tensor."""
        with self.framework.no_grad():
            held.copy_(self.take(np.asarray(values)))

    def differentiate(
        self, function: Callable[..., Any], arrays: Sequence[Any], weights: Sequence[Any]
    ) -> tuple[Any, Pull | None, str]:
        """Call a function of tensors that need gradients, and let autograd give these."""
        leaves: list[Any] = [
            tensor.detach().clone().requires_grad_() if tensor.dtype.is_floating_point else None
            for tensor in arrays
        ]
        for tensor, leaf in zip(arrays, leaves, strict=True):
            if leaf is not None:
                tensor.copy_(leaf)  # no leaf: code may write into what it is given
        leaves += [weight for weight in weights if self.owns(weight) and weight.requires_grad]
        out = function(*arrays)
        self._wait(out)
        if not self.owns(out) or not out.requires_grad:
            return out, None, _CUT_OFF

        def pull(dout: Array) -> list[Any]:
            into = [leaf for leaf in leaves if leaf is not None]
            found = iter(_gradients(self.framework, out, into, self.take(dout).to(out)))
            self._wait(out)
            return [None if leaf is None else next(found) for leaf in leaves]

        return out, pull, ""

    def _wait(self, out: Any) -> None:
        """Let what a device has been told be done, so that its errors are raised here."""
        if self.owns(out) and out.device.type != "cpu":
            getattr(self.framework, out.device.type).synchronize()

    @contextmanager
    def circumstances(self, seed: int | None, memory: float | None) -> Iterator[None]:
        """Seed what is random, and fill what torch.empty and its kind give."""
        if seed is not None:
            torch = self.framework  # torch.manual_seed takes a traceback for devices to come
            seeds = torch if len(self.devices) > 1 else torch.default_generator
            seeds.manual_seed(seed)
        with nullcontext() if memory is None else _fresh_memory(self.framework, memory):
            yield

    def understood(self, thing: Any) -> Any:
        """An autograd.Function, or its apply, as a function of what its forward takes."""
        function_kind: Any = self.framework.autograd.Function
        if getattr(thing, "__name__", "") == "apply":
            thing = getattr(thing, "__self__", thing)
        if not (isinstance(thing, type) and issubclass(thing, function_kind)):
            return thing
        kind: Any = thing
        signature = inspect.signature(kind.forward)
        if kind.setup_context is function_kind.setup_context:
            without_context = list(signature.parameters.values())[1:]
            signature = signature.replace(parameters=without_context)

        def call(*arguments: Any, **options: Any) -> Any:
            bound = signature.bind(*arguments, **options)
            bound.apply_defaults()
            return kind.apply(*bound.args)

        return as_function(kind, call, signature)

    def differentiates(self, layer: type[Any]) -> bool:
        """Whether a class is a module's."""
        return issubclass(layer, self.framework.nn.Module)

    def started(self, instance: Any, device: str | None) -> Any:
        """A module as a layer, as it is used after training, in float64 where that is there."""
        if isinstance(instance, _Module):
            return _Module(instance._module)
        if not isinstance(instance, self.framework.nn.Module):
            return instance
        module = instance.eval()
        return _Module(module.double() if device is None else module.to(self.place(device)))

    def makes_weights(self, instance: Any) -> bool:
        """Whether it has a LazyLinear or the like."""
        if not isinstance(instance, _Module):
            return False
        return any(map(self.framework.nn.parameter.is_lazy, instance._module.parameters()))


class _Module:
    """A module as a layer, whose weights are of the dtype that it is given."""

    def __init__(self, module: Any) -> None:
        self._module = module
        named = {
            name: p
            for name, p in module.named_parameters()
            if p.requires_grad and not hasattr(p, "materialize")
        }
        self.params, self.param_names = list(named.values()), tuple(named)

    def forward(self, *arrays: Any, **options: Any) -> Any:
        """Call it."""
        return self._module.to(arrays[0].dtype)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _gradients(torch: Any, out: Any, leaves: Sequence[Any], dout: Any) -> list[Any]:
    """The gradients of leaves; zeros of what out does not depend on."""
    try:
        found = torch.autograd.grad(out, leaves, dout, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "checkpoint" not in str(error).lower():
            raise
        for leaf in leaves:
            leaf.grad = None
        out.backward(dout, retain_graph=True)
        found = tuple(leaf.grad for leaf in leaves)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, found, strict=True)
    ]


def _fresh_memory(torch: Any, value: float) -> Any:
    """Let memory that nobody has written hold a value."""
    tensor = torch.Tensor
    makers = (torch.empty, torch.empty_like, torch.empty_strided, tensor.new_empty,
              tensor.new_empty_strided)  # fmt: skip

    class FreshMemory(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            made = function(*arguments, **(options or {}))
            if function in makers and made.dtype.is_floating_point:
                with torch.no_grad():
                    made.fill_(value)
            return made

    return FreshMemory()
