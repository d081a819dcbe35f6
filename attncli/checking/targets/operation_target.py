"""Our own operations as targets: the reference, and beside it every engine that the core has."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.target import Shapes, Sizes, Target
from attncli.core.engines import WAYS
from attncli.operations import Execution, Operation, reference_function, run

# Tiles small enough that several are merged even on small tensors.
_TILE = (2, 3)
ENGINES: Mapping[str, Execution] = {
    name: Execution(engine, tile=_TILE if engine == "tiled" else None, weights=weights)
    for name, (engine, weights) in WAYS.items()
}
"""The ways in which the core computes attention as a whole."""


def operation_target(operation: Operation) -> Target:
    """Make a target of an operation; where the core computes it, with every engine beside it.

    Examples
    --------
    >>> from attncli.operations import OPERATIONS
    >>> target = operation_target(OPERATIONS["weight-sum"])
    >>> target.inputs, target.engine, target.others
    (('hs', 'a'), 'reference', ())
    """
    reference = _target(operation, "reference", Execution("reference"))
    if not operation.is_whole:
        return reference
    others = tuple(_target(operation, name, execution) for name, execution in ENGINES.items())
    return replace(reference, others=others)


def _target(operation: Operation, engine: str, execution: Execution) -> Target:
    def shape(sizes: Sizes) -> Shapes:
        H, heads = sizes["H"], operation.heads or 1
        apart = {"H_v": H + 2, "H_dec": H + 1, "A": H + 3, "D": heads * (H // heads + 1)}
        return operation.shapes({**sizes, **apart})  # so that mixing them up shows

    return Target(
        operation.name,
        operation.name,
        None,
        operation.inputs,
        {},
        lambda sizes, shapes, seed: _Run(operation, execution),
        engine=engine,
        shape_with=shape,
    )


class _Run:
    """An operation, run by one engine, as a layer."""

    def __init__(self, operation: Operation, execution: Execution) -> None:
        self.operation, self.execution = operation, execution

    def forward(self, *arrays: Array) -> Array:
        operation = self.operation
        if any(np.iscomplexobj(array) for array in arrays):
            return reference_function(operation)(*arrays)
        inputs = dict(zip(operation.inputs, arrays, strict=True))
        self.done = run(operation, inputs, execution=self.execution)
        return self.done.results[operation.result]

    def backward(self, dout: Array) -> Any:
        gradients = self.done.backward(dout)
        found = [gradients[name] for name in self.operation.gradients]
        return found if len(found) > 1 else found[0]
