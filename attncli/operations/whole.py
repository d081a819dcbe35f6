"""Attention as a whole: the operations that the core can run, in terms of query, key and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attncli.arrays import Array
from attncli.core.semantics import Semantics
from attncli.errors import ShapeError
from attncli.operations.execution import Execution
from attncli.operations.forward import Forward, Gradients
from attncli.operations.operation import Operation
from attncli.tensors import axes_of

Operands = tuple[Array, Array, Array]


class WholeAttention(Operation):
    """Attention on decoder states and encoder states: the book's `TimeAttention`.

    query = hs_dec, key = value = hs_enc, scale = 1; so dhs_enc = dkey + dvalue.
    """

    def scale(self, semantics: Semantics, H: int) -> float:
        """Return the factor of the scores."""
        return 1.0 if semantics.scale is None else semantics.scale

    def to_core(self, inputs: list[Array]) -> Operands:
        """Return query, key and value."""
        hs_enc, hs_dec = inputs
        return hs_dec, hs_enc, hs_enc

    def core_mask(self, mask: Array) -> Array:
        """Return the mask in the axes of the core's weights."""
        return mask

    def core_dout(self, dout: Array) -> Array:
        """Return dout in the axes of the core's output."""
        return dout

    def core_results(self, out: Array, weights: Array | None) -> dict[str, Array]:
        """Return the results by name."""
        return {"out": out} if weights is None else {"out": out, "weights": weights}

    def from_core(self, dquery: Array, dkey: Array, dvalue: Array) -> Gradients:
        """Return the gradients in the order of the inputs."""
        return dkey + dvalue, dquery

    def _run(
        self, inputs: list[Array], mask: Array | None, semantics: Semantics, execution: Execution
    ) -> Forward:
        if execution.engine == "reference":
            from attncli.operations.reference import run_loop  # slow to load, and seldom needed

            result = run_loop(self, inputs, mask, semantics, execution)
            if execution.keep_weights is False:
                result = result._replace(results={"out": result.results["out"]})
            return result
        from attncli.operations.core import run_core

        return run_core(self, inputs, mask, semantics, execution)


class SingleStep(WholeAttention):
    """The book's `Attention`: one decoder state h instead of several."""

    def to_core(self, inputs: list[Array]) -> Operands:
        """Return query, key and value."""
        hs, h = inputs
        return h[:, None, :], hs, hs

    def core_mask(self, mask: Array) -> Array:
        """Return the mask in the axes of the core's weights."""
        return mask[:, None, :]

    def core_dout(self, dout: Array) -> Array:
        """Return dout in the axes of the core's output."""
        return dout[:, None, :]

    def core_results(self, out: Array, weights: Array | None) -> dict[str, Array]:
        """Return the results by name."""
        results = {"out": out[:, 0]}
        return results if weights is None else {**results, "a": weights[:, 0]}

    def from_core(self, dquery: Array, dkey: Array, dvalue: Array) -> Gradients:
        """Return the gradients in the order of the inputs."""
        return dkey + dvalue, dquery[:, 0]


@dataclass(frozen=True)
class ScaledDotProduct(WholeAttention):
    """The general operation: query, key and value of their own; heads, possibly shared.

    Attributes
    ----------
    heads, kv_heads : int or None
        Where the inputs are (N, T, heads · H): how many heads their last axis holds. Results and
        gradients come back in the same layout.
    """

    heads: int | None = None
    kv_heads: int | None = None

    def scale(self, semantics: Semantics, H: int) -> float:
        """Return the factor of the scores."""
        return float(H**-0.5) if semantics.scale is None else semantics.scale

    def sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """Read the sizes off the inputs, and check that they agree.

        Raises
        ------
        ShapeError
            If two inputs disagree, heads cannot be shared out, or T_enc is 0.
        """
        ndims = {inputs[name].ndim for name in self.inputs}
        if len(ndims) > 1:
            shapes = ", ".join(f"{name} is {inputs[name].shape}" for name in self.inputs)
            raise ShapeError(f"{shapes}: expected as many axes in each")
        if self.heads is None:
            sizes = super().sizes(inputs)
        else:
            split = dict(zip(self.inputs, self._split(inputs), strict=True))
            sizes = super().sizes(split)
        if sizes.get("kv_heads", 1) == 0 or sizes.get("heads", 1) % sizes.get("kv_heads", 1):
            raise ShapeError(
                f"query has {sizes['heads']} heads, key has {sizes['kv_heads']}: expected a "
                "divisor, so that every key head serves as many query heads"
            )
        return sizes

    def function(self) -> Callable[..., Array]:
        """Return forward as a plain function of arrays, complex ones included: the reference's."""

        def function(query: Array, key: Array, value: Array) -> Array:
            from attncli.operations.reference import TimeLoop

            operands = self.to_core([query, key, value])
            loop = TimeLoop(Semantics(), self.scale(Semantics(), operands[0].shape[-1]))
            return self.core_results(loop.forward(*operands, None), None)["out"]

        return function

    def to_core(self, inputs: list[Array]) -> Operands:
        """Return query, key and value."""
        if self.heads is None:
            query, key, value = inputs
            return query, key, value
        return self._split(dict(zip(self.inputs, inputs, strict=True)))

    def core_dout(self, dout: Array) -> Array:
        """Return dout in the axes of the core's output."""
        return dout if self.heads is None else split_heads("dout", dout, self.heads)

    def core_results(self, out: Array, weights: Array | None) -> dict[str, Array]:
        """Return the results by name."""
        return super().core_results(out if self.heads is None else merge_heads(out), weights)

    def from_core(self, dquery: Array, dkey: Array, dvalue: Array) -> Gradients:
        """Return the gradients in the order of the inputs."""
        gradients = (dquery, dkey, dvalue)
        return gradients if self.heads is None else tuple(map(merge_heads, gradients))

    def _split(self, inputs: Mapping[str, Array]) -> Operands:
        assert self.heads is not None
        if inputs["query"].ndim != 3:
            raise ShapeError(
                f"query is {inputs['query'].shape}, expected (N, T_dec, heads · H) for --heads"
            )
        shared = self.kv_heads or self.heads
        return (
            split_heads("query", inputs["query"], self.heads),
            split_heads("key", inputs["key"], shared),
            split_heads("value", inputs["value"], shared),
        )

    def mask_axes(self, inputs: Mapping[str, Array]) -> tuple[str, ...]:
        """Name the axes that a mask may have: those of the weights."""
        ndim = 4 if self.heads is not None else inputs["query"].ndim
        return axes_of("weights", ndim) or ()

    def _result_shape(
        self, inputs: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> tuple[int, ...]:
        width = inputs["value"].shape[-1]
        if self.heads is not None:
            width = width // (self.kv_heads or self.heads) * self.heads
        return (*inputs["query"].shape[:-1], width)


def split_heads(name: str, x: Array, heads: int) -> Array:
    """Turn (N, T, heads · H) into (N, heads, T, H), without a copy.

    Raises
    ------
    ShapeError
        If the last axis cannot be split.

    Examples
    --------
    >>> import numpy as np
    >>> split_heads("query", np.zeros((2, 5, 12)), 3).shape
    (2, 3, 5, 4)
    """
    N, T, width = x.shape
    if width % heads:
        raise ShapeError(f"{name} is {x.shape}: {width} cannot be split into {heads} heads")
    return x.reshape(N, T, heads, width // heads).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """Turn (N, heads, T, H) into (N, T, heads · H).

    Examples
    --------
    >>> import numpy as np
    >>> merge_heads(np.zeros((2, 3, 5, 4))).shape
    (2, 5, 12)
    """
    N, heads, T, H = x.shape
    return x.swapaxes(1, 2).reshape(N, T, heads * H)
