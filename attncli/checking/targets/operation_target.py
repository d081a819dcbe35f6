"""Our own operations as targets: the reference, and beside it every engine that the core has."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.targets.given import Shapes, Sizes
from attncli.checking.targets.target import Target
from attncli.core.engines import WAYS
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.operations import Execution, Operation, reference_function, run
from attncli.operations.layout import Layout

# Tiles small enough that several are merged even on small tensors.
_TILE = (2, 3)
ENGINES: Mapping[str, Execution] = {
    name: Execution(engine, tile=_TILE if engine == "tiled" else None, weights=weights)
    for name, (engine, weights) in WAYS.items()
}
"""The ways in which the core computes attention as a whole."""


def operation_target(
    operation: Operation,
    semantics: Semantics = Semantics(),  # noqa: B008 (it is frozen)
    extras: Extras = Extras(),  # noqa: B008 (it is frozen)
    layout: Layout | None = None,
) -> Target:
    """Make a target of an operation; where the core computes it, with every engine beside it.

    Sinks and slopes among the extras have gradients, so they are inputs of the target; the others
    stay as they are.  Inputs, result and gradients lie as `layout` says.

    Examples
    --------
    >>> from attncli.operations import OPERATIONS
    >>> target = operation_target(OPERATIONS["weight-sum"])
    >>> target.inputs, target.engine, target.others
    (('hs', 'a'), 'reference', ())
    >>> operation_target(OPERATIONS["scaled-dot-product"], extras=Extras(sinks=0.0)).inputs
    ('query', 'key', 'value', 'sinks')
    """
    operation.require_options(semantics, extras)
    options = semantics, extras, layout or Layout(operation)
    reference = _target(operation, "reference", Execution("reference"), *options)
    if not operation.is_whole:
        return reference
    others = tuple(
        _target(operation, name, execution, *options) for name, execution in ENGINES.items()
    )
    return replace(reference, others=others)


def _target(
    operation: Operation,
    engine: str,
    execution: Execution,
    semantics: Semantics,
    extras: Extras,
    layout: Layout,
) -> Target:
    beside = {
        name: np.shape(given) or (1,)
        for name, given in extras.given().items()
        if name in _DIFFERENTIABLE
    }

    def shape(sizes: Sizes) -> Shapes:
        H, heads = sizes["H"], operation.heads or 1
        beside_each_other = layout.heads.get("heads", 2)  # so that values can be split as well
        apart = {
            "H_v": H + beside_each_other,
            "H_dec": H + 1,
            "A": H + 3,
            "D": heads * (H // heads + 1),
        }
        return {**layout.shapes({**sizes, **apart}), **beside}  # so that mixing them up shows

    return Target(
        operation.name,
        operation.name,
        None,
        (*operation.inputs, *beside),
        {},
        lambda sizes, given, seed: _Run(
            operation, execution, semantics, extras, layout, tuple(beside)
        ),
        engine=engine,
        shape_with=shape,
    )


_DIFFERENTIABLE = ("sinks", "alibi")


@dataclass
class _Run:
    """An operation, run by one engine, as a layer."""

    operation: Operation
    execution: Execution
    semantics: Semantics
    extras: Extras
    layout: Layout
    beside: tuple[str, ...]

    def forward(self, *arrays: Array) -> Array:
        operation = self.operation
        inputs = dict(zip((*operation.inputs, *self.beside), arrays, strict=True))
        extras = self.extras._replace(**{name: inputs.pop(name) for name in self.beside})
        inputs = self.layout.read(inputs)
        if any(np.iscomplexobj(array) for array in arrays):
            out = reference_function(operation, self.semantics, extras)(*inputs.values())
            return self.layout.to_given(operation.result, out)
        self.done = run(
            operation, inputs, extras=extras, semantics=self.semantics, execution=self.execution
        )
        return self.layout.to_given(operation.result, self.done.results[operation.result])

    def backward(self, dout: Array) -> Any:
        layout = self.layout
        gradients = self.done.backward(layout.to_own(self.operation.result, dout))
        gradients = {name: layout.to_given(name, x) for name, x in gradients.items()}
        names = (*self.operation.gradients, *(f"d{name}" for name in self.beside))
        found = [gradients[name] for name in names]
        return found if len(found) > 1 else found[0]
