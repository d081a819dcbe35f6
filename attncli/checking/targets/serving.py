"""The process in which a target runs: it loads the target, and answers calls.

Whether anything is right is decided in the process that asks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import replace
from typing import Any

from attncli.checking.targets import arguments
from attncli.checking.targets.discovery import discover
from attncli.checking.targets.frameworks.loaded import loaded, plain, require_device
from attncli.checking.targets.given import Given
from attncli.checking.targets.target import Layer, Target, all_having
from attncli.checking.targets.their_code import Printed, text_of
from attncli.checking.targets.wire import decode, encode
from attncli.errors import CodeError, TargetError
from attncli.memory import read_system
from attncli.processes import Channel, serve_forks


def main(number: str) -> None:
    """Be copied for every target."""
    serve_forks(number, answer)


def answer(channel: Channel) -> None:
    """Answer requests until nobody is there any more."""
    serving = _Serving()
    while True:
        request, parts = channel.receive()
        told: dict[str, Any] = {}
        carried: list[Any] = []
        try:
            told["value"] = getattr(serving, request.pop("do"))(request, parts, carried)
            told["facts"] = serving.facts
        except BaseException as error:  # KeyboardInterrupt, and exits that are meant for us
            told = {"error": _told(error)}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # both may be theirs by now
                stream.flush()
        channel.send(told, carried)


class _Serving:
    """The targets of a text and their instances; each method answers one kind of request."""

    def __init__(self) -> None:
        self.targets: tuple[Target, ...] = ()
        self.layers: list[Layer] = []
        self.facts: Any = None

    def load(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Load what a text names, and describe it."""
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.environ.setdefault("MPLBACKEND", "agg")  # a window would wait for somebody to close it
        sys.path[:], sys.argv[:] = request["path"], [request["text"]]
        _limit_memory(request["memory"])
        printed, began = Printed(always=True), time.monotonic()
        given = Given.read(request["given"], parts)
        interpreted = given.device is None and _interpret_kernels()
        discovered, notes = discover(request["text"])
        if loaded():  # a framework takes as much as all else by being loaded
            _limit_memory(request["memory"])
        if given.device is not None:
            require_device(given.device)
        elif request["scratch"]:
            for adapter in loaded():
                adapter.hasten(request["scratch"])
        if interpreted and "triton" in sys.modules:
            notes = [*notes, f"{request['text']}: {_INTERPRETED}"]
        found = all_having(discovered, given)
        self.targets = tuple(replace(one, printed=printed) for one in found)
        described = [_described(target, carried) for target in self.targets]
        return {"seconds": time.monotonic() - began, "targets": described, "notes": notes}

    def start(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Make an instance, and give its number."""
        target = self.targets[request["target"]].having(Given.read(request["given"], parts))
        target.calls.set(request["circumstances"])
        self.layers.append(target.start(request["sizes"], seed=request["seed"]))
        return len(self.layers) - 1

    def call(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Run forward or backward."""
        layer = self.layers[request["layer"]]
        layer.target.calls.set(request["circumstances"])
        arrays = [decode(told, parts) for told in request["arrays"]]
        if request["method"] == "forward":
            options = {name: decode(told, parts) for name, told in request["options"].items()}
            result = layer.forward(*arrays, **options)
        else:
            result = layer.backward(*arrays)
        self.facts = layer.facts
        return encode(result, carried)

    def held(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Give an attribute of an instance."""
        return encode(self.layers[request["layer"]].held(request["name"]), carried)

    def logsumexp(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Give what forward gave beside out for every row, and whether it is called that."""
        found = self.layers[request["layer"]].logsumexp(tuple(request["rows"]))
        return encode(found, carried)

    def weights(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Give the weights of an instance, and their gradients."""
        names, *arrays = self.layers[request["layer"]].weights()
        return encode((names, *map(plain, arrays)), carried)

    def names(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Give the names of an instance's attributes."""
        return self.layers[request["layer"]].names()

    def identity(self, request: Any, parts: Any, carried: list[Any]) -> Any:
        """Give the addresses of a list and its arrays."""
        return self.layers[request["layer"]].identity(request["name"])

    def assign(self, request: Any, parts: Any, carried: list[Any]) -> None:
        """Write into a parameter."""
        values = decode(request["values"], parts)
        self.layers[request["layer"]].assign(request["number"], values)


def _described(target: Target, carried: list[Any]) -> dict[str, Any]:
    return {
        "name": target.name,
        "where": target.where,
        "file": target.file,
        "takes": arguments.told(target.takes, carried),
        "made_of": arguments.told(target.made_of, carried),
        "has_backward": target.has_backward,
        "frameworks": target.frameworks,
        "fault": None if target.fault is None else _told(target.fault),
    }


def _told(error: BaseException) -> dict[str, Any]:
    if not isinstance(error, TargetError):
        error = CodeError(f"raises {type(error).__name__}: {text_of(error)}")
    kind = type(error).__name__
    return {"says": str(error), "hint": error.hint, "trace": error.trace, "kind": kind}


def _interpret_kernels() -> bool:
    """Let Triton run kernels in its interpreter where there is no GPU; it asks while it is loaded.

    The interpreter is told of by its environment, so that nothing else has to be known of it.
    """
    there = any(map(os.path.exists, _GPUS))
    if there or "TRITON_INTERPRET" in os.environ:
        return False
    os.environ["TRITON_INTERPRET"] = "1"
    return True


# Files of devices that Triton compiles for: of NVIDIA, under Windows, of AMD.
_GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_INTERPRETED = "there is no GPU here: Triton runs in its interpreter (TRITON_INTERPRET=1)"


def _limit_memory(memory: int) -> None:
    """Let it take so many bytes more than it has, in no file more, and leave no core behind."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError):  # where there is a lower limit, which stays
        resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    # Of the address space much is never used: what threads and libraries reserve is no memory.
    which = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    _, hard = resource.getrlimit(which)
    limit = _taken() + memory
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows it and refuses it
        resource.setrlimit(which, (limit, hard))


def _taken() -> int:
    for line in read_system("/proc/self/status").splitlines():
        if line.startswith("VmData"):
            return int(line.split()[1]) * 1024
    return 1 << 30
