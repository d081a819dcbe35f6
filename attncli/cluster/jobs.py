"""From a problem to what a cluster computes: where its tensors lie, and where results go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.cluster.plan import Plan, index_of, plan
from attncli.cluster.tasks import Calculation, Stored
from attncli.core.operands import Shape, dtypes_of
from attncli.core.parts import Whole
from attncli.core.visibility import Visibility
from attncli.errors import ParameterError
from attncli.files.contents import open_tensors
from attncli.files.reading import Reading
from attncli.files.regions import Output, create, describe, write
from attncli.operations.layout import Order
from attncli.problems.beside import tensors_of
from attncli.problems.problem import Problem
from attncli.tensors import default_axes

_ANY = Reading(allow_nonfinite=True)


class _Result(NamedTuple):
    """An array that is to be written, in the axes of the core.

    Attributes
    ----------
    name : str
        As the file has it.
    shape, chunk : tuple of int
    order : Order or None
        How its axes lie in the file, if they are others.
    dtype : dtype
    """

    name: str
    shape: Shape
    chunk: Shape
    order: Order | None
    dtype: np.dtype[Any]

    @property
    def given(self) -> tuple[Shape, np.dtype[Any], Shape]:
        """Its shape, its dtype and its chunk as they are in the file."""
        order = self.order
        if order is None:
            return self.shape, self.dtype, self.chunk
        shape = order.to_given(np.broadcast_to(False, self.shape)).shape
        own = dict(zip(order.own, self.chunk, strict=True))
        if order.heads is not None:
            own[order.own[-1]] *= self.chunk[1]
        return shape, self.dtype, tuple(own[axis] for axis in order.axes)


@dataclass(frozen=True)
class Job:
    """A problem that is to be computed on a cluster.

    Attributes
    ----------
    problem : Problem
        Its large tensors are not read: `regions` says where they lie.
    command : str
        ``"forward"`` or ``"backward"``.
    path : str
        The file for the results.
    force : bool
        Whether it may be there.
    block : int or None
        The rows, and keys, of a tile, where it was said.
    """

    problem: Problem
    command: str
    path: str = ""
    force: bool = False
    block: int | None = None

    @property
    def backward(self) -> bool:
        """Whether it is walked back too."""
        return self.command == "backward"

    @cached_property
    def inputs(self) -> tuple[str, str, str]:
        """The names of the inputs that are query, key and value.

        Raises
        ------
        ParameterError
            If it is not attention as a whole.
        """
        operation = self.problem.operation
        if not operation.is_whole:
            raise ParameterError(
                f"{operation.name} has no dask engine: {operation.not_whole}",
                hint="--layer time-attention",
            )
        query, key, value = operation.operands
        return query, key, value

    @property
    def files(self) -> tuple[str, ...]:
        """The files that workers read."""
        return tuple({region.label: None for region in self.problem.regions.values()})

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """The shapes of query, key and value, in the axes of the core."""
        _ = self.inputs  # whether there are such
        query, key, value = self.problem.operation.to_core(self.problem.inputs)
        return query.shape, key.shape, value.shape

    @cached_property
    def visibility(self) -> Visibility:
        """What goes by steps."""
        problem, (query, key, _) = self.problem, self.shapes
        return Visibility.of(problem.semantics, query[-2], key[-2], None, problem.placed).by_step

    def plan(self, threads: int) -> Plan:
        """Cut it for so many tasks at a time.

        Raises
        ------
        ParameterError
            If the block does not fit how the inputs are stored, or there is nothing to compute.
        """
        for axis, size in self.problem.sizes.items():
            if size == 0:
                raise ParameterError(
                    f"{self.problem.origin}: {axis} is 0: there is nothing for a cluster to do",
                    hint="--engine auto",
                )
        problem, extras = self.problem, self.problem.extras
        mask = problem.masks.get("mask")
        beside = 0 if extras.keep is None else 1
        if mask is not None:
            beside += mask.itemsize * (1 + (self.backward and mask.dtype != bool))
        return plan(
            self.shapes, self.visibility, dtype=self._compute.name, threads=threads,
            backward=self.backward, block=self.block, chunk=self._chunk, beside=beside,
            sinks=extras.sinks is not None,
        )  # fmt: skip

    @property
    def _chunk(self) -> int:
        """How many steps of an input are stored together, at most."""
        found = 1
        for name in set(self.inputs):
            region = self.problem.regions.get(name)
            if region is not None and region.chunk is not None:
                axes = self.problem.layout.axes(name, len(region.shape)) or ()
                steps = [
                    n for n, axis in zip(region.chunk, axes, strict=False) if axis.startswith("T_")
                ]
                found = max(found, *steps, 1)
        return found

    @contextmanager
    def begun(self, cut: Plan, *, resume: bool = False) -> Iterator[tuple[Calculation, Output]]:
        """Begin the file of the results, and say what is to be computed into it."""
        results, beside = self._results(cut), self._beside
        arrays = {one.name: one.given for one in results.values()}
        arrays |= {name: (x.shape, x.dtype, x.shape) for name, x in beside.items()}
        if len(results) == 2 and self.path.endswith(".npy"):
            arrays = {self.problem.operation.result: results["out"].given}
        with ExitStack() as stack:
            output = create(
                self.path, arrays, self._attributes(cut), force=self.force, inputs=self.files,
                resume=resume,
            )  # fmt: skip
            stack.callback(output.release if resume else output.discard)
            folder = f"{output.temporary}.sums"
            os.makedirs(folder, exist_ok=True)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            for name in beside.keys() & output.regions.keys():
                write(output.regions[name], (), beside[name])
            # What is read back may be infinite: that is told.
            stored = {
                name: Stored(replace(output.regions[one.name], reading=_ANY), one.order)
                for name, one in results.items()
                if one.name in output.regions
            }
            compute = self._compute
            if self.backward and results["out"].dtype != compute:
                kept = {
                    name: results[name]._replace(order=None, dtype=compute)
                    for name in ("out", "logsumexp")
                }
                path = os.path.join(folder, "kept.zarr")
                other = stack.enter_context(
                    create(path, {name: one.given for name, one in kept.items()}, {})
                )
                stored |= {
                    f"kept-{name}": Stored(replace(other.regions[name], reading=_ANY))
                    for name in kept
                }
            yield self._calculation(stored, folder), output

    @property
    def _compute(self) -> np.dtype[Any]:
        return dtypes_of(*(self.problem.inputs[name].dtype for name in self.inputs))[0]

    @property
    def _beside(self) -> dict[str, Array]:
        """What the file of the results holds of the inputs: what lies in no other file."""
        problem = self.problem
        there = {**problem.masks, **tensors_of(problem.extras)}
        return {name: x for name, x in there.items() if name not in problem.regions}

    def _order(self, name: str, ndim: int) -> Order | None:
        """Return how a tensor lies that is not in the axes of the core."""
        order = self.problem.layout.order(name)
        if order is None and self.problem.operation.one_step:
            axes = _AXES_OF_ONE_STEP.get(name.removeprefix("d"), ())
            if len(axes) == ndim:
                own = _AXES_OF_STEPS[name.removeprefix("d")]
                return Order(axes, own)
        return order

    def _results(self, cut: Plan) -> dict[str, _Result]:
        problem, names, shapes = self.problem, self.inputs, self.shapes
        operation, lead = problem.operation, cut.lead
        dtype = operation.result_dtype(problem.inputs)
        rows, keys = min(cut.block[0], cut.T_dec), min(cut.block[1], cut.T_enc)
        box = tuple(slice(0, min(one)) for one in zip(cut.box, lead, strict=True))

        def result(name: str, shape: Shape, *chunk: int) -> _Result:
            at = index_of((*shape[: len(shape) - len(chunk)], 1, 1), lead, box)
            ndim = len(shape) - (operation.one_step and "T_dec" in self._steps(name))
            chunk = (*(one.stop for one in at), *chunk)
            return _Result(name, shape, tuple(max(1, n) for n in chunk),
                           self._order(name, ndim), dtype)  # fmt: skip

        H, H_v = cut.sizes
        found = {
            "out": result(operation.result, (*lead, cut.T_dec, H_v), rows, H_v),
            "logsumexp": result("logsumexp", (*lead, cut.T_dec), rows),
        }
        if not self.backward:
            return found
        found["dquery"] = result(f"d{names[0]}", shapes[0], rows, H)
        if names[1] == names[2]:
            found["dkey+dvalue"] = result(f"d{names[1]}", shapes[1], keys, H)
        else:
            found["dkey"] = result(f"d{names[1]}", shapes[1], keys, H)
            found["dvalue"] = result(f"d{names[2]}", shapes[2], keys, H_v)
        mask = problem.masks.get("mask")
        if mask is not None and mask.dtype != bool:
            shape = operation.core_mask(mask).shape if mask.ndim > 1 else mask.shape
            last = tuple(
                min(n, step)
                for n, step in zip(shape[-2:], (rows, keys)[-len(shape) :], strict=True)
            )
            found["dmask"] = result("dmask", shape, *last)
        for name in ("sinks", "alibi"):
            given = getattr(problem.extras, name)
            if given is not None:
                shape = np.shape(given)
                found[f"d{name}"] = _Result(f"d{name}", shape, shape, None, dtype)
        return found

    def _steps(self, name: str) -> tuple[str, ...]:
        return _AXES_OF_STEPS.get(name.removeprefix("d"), ())

    def _attributes(self, cut: Plan) -> dict[str, Any]:
        """What the file says beside: the options of the run, and where its inputs lie."""
        here = os.path.dirname(os.path.realpath(self.path))
        inputs = {}
        for name, region in self.problem.regions.items():
            if self.problem.request.is_random:
                continue  # what was drawn is gone with the run: the seed says it
            path = os.path.realpath(region.label)
            inside = os.path.commonpath([here, path]) == here
            inputs[name] = {
                "path": os.path.relpath(path, here) if inside else path,
                "name": region.name,
                "stamp": region.stamp,
            }
        options = self.problem.options(self.command) | {
            "engine": "dask", "block": list(cut.block), "inputs": inputs,
        }  # fmt: skip
        return {"options": json.dumps(options, ensure_ascii=False)}

    def _calculation(self, results: Mapping[str, Stored], folder: str) -> Calculation:
        problem, operation = self.problem, self.problem.operation
        core = dict(zip(("query", "key", "value"), self.inputs, strict=True))
        arrays = dict(zip(core, operation.to_core(problem.inputs), strict=True))
        inputs = {name: self._stored(theirs, arrays[name], folder) for name, theirs in core.items()}
        whole_axes = ("N", "heads")[: len(self.shapes[0]) - 2]
        axes = (*whole_axes, "T_dec", "T_enc")
        masks: dict[str, Stored] = {}
        for name, mask in problem.masks.items():
            own = default_axes(name)
            seen = mask if name == "mask" else mask.reshape(
                [mask.shape[own.index(axis)] if axis in own else 1 for axis in axes]
            )  # fmt: skip
            if name == "mask" and mask.ndim > 1:
                seen = operation.core_mask(mask)
            masks[name] = self._stored(name, seen, folder)
        extras = operation.core_extras(problem.extras)
        if extras.keep is not None:
            inputs["keep"] = self._stored("keep", np.asarray(extras.keep), folder)
            keep: Any = inputs["keep"]
            extras = extras._replace(keep=keep)
        if extras.segments is not None:
            paired = isinstance(extras.segments, tuple)
            ids = extras.segments if paired else (extras.segments, extras.segments)
            for side, array in zip(("dec", "enc"), ids, strict=True):
                name = f"segments_{side}"
                inputs[name] = self._stored(name, np.asarray(array), folder)
        if self.backward:
            dout = operation.core_dout(problem.layout.to_own("dout", problem.incoming()))
            inputs["dout"] = self._stored("dout", dout, folder)
        if self.backward and problem.dlogsumexp is not None:
            shape = (*self.problem.weights_shape[:-1],)
            rows = problem.gradient_of_rows(shape)
            assert rows is not None
            rows = problem.layout.to_own("dlogsumexp", rows)
            rows = rows[:, None] if operation.one_step else rows
            inputs["dlogsumexp"] = self._stored("dlogsumexp", rows, folder)
        scale = operation.scale(problem.semantics, self.shapes[0][-1])
        whole = Whole.of(
            inputs["query"], inputs["key"], inputs["value"],
            mask=_Combined.of(masks.values()) if masks else None, extras=extras,
            semantics=replace(problem.semantics, scale=scale),
        )  # fmt: skip
        return Calculation(
            whole, inputs, tuple(masks.values()), masks.get("dec_mask"), results,
            operation.rotation, folder,
        )  # fmt: skip

    def _stored(self, name: str, array: Array, folder: str) -> Stored:
        """Say where a tensor lies, of which `array` has the shape in the axes of the core."""
        region = self.problem.regions.get(name)
        if region is not None:
            return Stored(region, self._order(name, len(region.shape)), array.dtype)
        path = getattr(array, "filename", None) if isinstance(array, np.memmap) else None
        if path is None:
            path = os.path.join(folder, f"{name}.npy")
            np.save(path, array)
        file = open_tensors(os.fspath(path), _ANY)
        region = describe(file, next(iter(file)))
        if region.shape != array.shape:  # mapped, and seen in other axes
            path = os.path.join(folder, f"{name}.npy")
            np.save(path, array)
            file = open_tensors(path, _ANY)
            region = describe(file, next(iter(file)))
        return Stored(region)


@dataclass(frozen=True)
class _Combined:
    """What several masks are together."""

    shape: Shape
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, masks: Iterable[Stored]) -> _Combined:
        masks = tuple(masks)
        floating = [x.dtype for x in masks if x.dtype.kind == "f"]
        shape = np.broadcast_shapes(*(x.shape for x in masks))
        return cls(shape, floating[0] if floating else np.dtype(bool))


# Of the operation of one step, whose tensors have no axis of steps.
_AXES_OF_ONE_STEP = {
    "h": ("N", "H"), "out": ("N", "H"), "logsumexp": ("N",),
    "mask": ("N", "T_enc"), "keep": ("N", "T_enc"),
}  # fmt: skip
_AXES_OF_STEPS = {
    "h": ("N", "T_dec", "H"), "out": ("N", "T_dec", "H"), "logsumexp": ("N", "T_dec"),
    "mask": ("N", "T_dec", "T_enc"), "keep": ("N", "T_dec", "T_enc"),
}  # fmt: skip
