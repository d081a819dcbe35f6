"""What can be run, by name: each layer with its inputs, its results and its gradients."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli import layers
from attncli.arrays import Array
from attncli.errors import AttnWarning, DtypeError, ShapeError
from attncli.tensors import axes_of, default_axes, describe_shape

Tensors = dict[str, Array]


@dataclass(frozen=True)
class Operation:
    """A layer that can be run by its name.

    Attributes
    ----------
    name : str
        As it is written on the command line.
    layer : type
        The class in `attncli.layers`.
    inputs : tuple of str
        The names of ``forward``'s arguments, in order.
    result : str
        The name of what ``forward`` returns.
    result_axes : tuple of str
        Its axes.
    run : callable
        ``run(layer, inputs, mask)`` returns the results by name.
    mask_axes : tuple of str
        The axes of the mask that ``forward`` takes; empty where it takes none.
    """

    name: str
    layer: type[Any]
    inputs: tuple[str, ...]
    result: str
    result_axes: tuple[str, ...]
    run: Callable[[Any, list[Array], Array | None], Tensors]
    mask_axes: tuple[str, ...] = ()

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of what ``backward`` returns, in order."""
        return tuple(f"d{name}" for name in self.inputs)

    @property
    def sizes_needed(self) -> tuple[str, ...]:
        """The sizes that decide the shapes of the inputs."""
        return tuple(dict.fromkeys(axis for name in self.inputs for axis in default_axes(name)))

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Give the shape of every input for sizes such as ``{"N": 3, "T_enc": 7, …}``."""
        return {name: tuple(sizes[axis] for axis in default_axes(name)) for name in self.inputs}

    def axes(self, name: str, ndim: int) -> tuple[str, ...] | None:
        """Name the axes of one of this operation's tensors: an input, a result or a gradient."""
        if name.removeprefix("d") == "out":
            return self.result_axes
        if name == "dout":
            name = self.result
        return axes_of(name, ndim)

    def sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """Read the sizes off the inputs, and check that they agree.

        Raises
        ------
        ShapeError
            If an input has another number of axes, two inputs disagree, or T_enc is 0.
        """
        owners: dict[str, tuple[int, str]] = {}
        for name in self.inputs:
            shape = inputs[name].shape
            axes = axes_of(name, len(shape))
            if axes is None:
                expected = default_axes(name)
                raise ShapeError(
                    f"{name} is {shape}, expected {len(expected)} axes: ({', '.join(expected)})"
                )
            for axis, size in zip(axes, shape, strict=True):
                known, owner = owners.setdefault(axis, (size, name))
                if size != known:
                    raise ShapeError(
                        f"{owner} is {inputs[owner].shape}, {name} is {shape}: "
                        f"{axis} differs ({known} and {size})"
                    )
        if owners["T_enc"][0] == 0:
            name = owners["T_enc"][1]
            raise ShapeError(f"{name} is {inputs[name].shape}: T_enc = 0 leaves nothing to attend")
        return {axis: size for axis, (size, _) in owners.items()}

    def _result_shape(
        self, inputs: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> tuple[int, ...]:
        if self.result == "weights":  # as many axes as the scores have
            return tuple(inputs["scores"].shape)
        return tuple(sizes[axis] for axis in self.result_axes)

    def mask(self, tensors: Mapping[str, Array]) -> Array | None:
        """Combine ``mask``, ``enc_mask`` and ``dec_mask`` into the one mask of this operation.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The inputs, and the masks to read; True = takes part. 0/1 integers count as booleans,
            a floating ``mask`` is added to the scores.

        Returns
        -------
        ndarray of `mask_axes`, bool or floating, or None
            None where there is no mask.

        Raises
        ------
        ShapeError, DtypeError
            If a mask does not fit.
        """
        sizes = self.sizes(tensors)
        mask_axes = self.mask_axes
        if "scores" in self.inputs:  # may have any number of axes
            mask_axes = axes_of("mask", tensors["scores"].ndim) or ()
        shape = tuple(sizes[axis] for axis in mask_axes)
        combined: Array | None = None
        for name in ("mask", "enc_mask", "dec_mask"):
            axes = mask_axes if name == "mask" else default_axes(name)
            if name not in tensors or not axes or not set(axes) <= set(mask_axes):
                continue
            mask = _boolean_or_floating(name, tensors[name])
            if name != "mask":
                _expect_axes(name, mask, axes, sizes)
                # Put an axis of length one wherever this mask says nothing.
                mask = mask.reshape([sizes[x] if x in axes else 1 for x in mask_axes])
            try:
                mask = np.broadcast_to(mask, shape)
            except ValueError:
                expected = describe_shape(shape, mask_axes)
                raise ShapeError(
                    f"{name} is {mask.shape}, expected a shape that broadcasts to {expected}"
                ) from None
            if combined is None:
                combined = mask
            elif combined.dtype == bool:
                combined = combined & mask
            else:
                combined = np.where(mask, combined, -np.inf)
        return combined

    def forward(
        self,
        inputs: Mapping[str, Array],
        mask: Array | None = None,
        *,
        padding: Array | None = None,
    ) -> "Pass":
        """Run forward.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            An array for each name in `inputs`. float16 is computed in float32 and cast back,
            integers are cast to float64.
        mask : ndarray, optional
            Of `mask_axes`; boolean True = takes part, or floating and added to the scores.
        padding : ndarray of bool, optional
            Rows known to be padding (False), of which no warning is due: (N, T_dec).

        Warns
        -----
        AttnWarning
            If other rows have every key masked: their weights, outputs and gradients are 0. If N
            or T_dec is 0: the result is empty.

        Raises
        ------
        ShapeError
            If the shapes do not fit.
        """
        sizes = self.sizes(inputs)
        arguments = [_computable(inputs[name]) for name in self.inputs]
        stored = np.result_type(*(_stored_dtype(inputs[name]) for name in self.inputs))
        if mask is not None:
            _warn_of_masked_rows(mask, padding)
        layer = self.layer()
        if 0 in sizes.values():  # nothing to run the layer on
            axis = next(axis for axis, size in sizes.items() if size == 0)
            warnings.warn(f"{axis} is 0: the result is empty", AttnWarning, stacklevel=2)
            shape = self._result_shape(inputs, sizes)
            return Pass(
                self, None, stored, {self.result: np.zeros(shape, stored)}, tuple(arguments)
            )
        results = self.run(layer, arguments, mask)
        cast = {name: result.astype(stored, copy=False) for name, result in results.items()}
        return Pass(self, layer, stored, cast, tuple(arguments))


@dataclass(frozen=True)
class Pass:
    """A forward that was run, and can be walked back.

    Attributes
    ----------
    operation : Operation
    layer : object or None
        The layer instance, holding what its backward needs; None where N or T_dec is 0.
    dtype : dtype
        Of the results and the gradients.
    results : dict of str to ndarray
        The result, and the attention weights where there are any.
    arguments : tuple of ndarray
        What the layer computed with.
    """

    operation: Operation
    layer: Any
    dtype: np.dtype[Any]
    results: Tensors
    arguments: tuple[Array, ...]

    def backward(self, dout: Array) -> Tensors:
        """Return the gradient of Σ dout ⊙ result with respect to every input, by name.

        Raises
        ------
        ShapeError
            If dout does not have the shape of the result.
        """
        expected = self.results[self.operation.result].shape
        if dout.shape != expected:
            axes = self.operation.axes("dout", len(expected))
            raise ShapeError(
                f"dout is {dout.shape}, expected the shape of the result, "
                f"{describe_shape(expected, axes)}"
            )
        if self.layer is None:
            gradients: Any = tuple(np.zeros_like(argument) for argument in self.arguments)
        else:
            gradients = self.layer.backward(_computable(dout))
        if not isinstance(gradients, tuple):
            gradients = (gradients,)
        return {
            name: gradient.astype(self.dtype, copy=False)
            for name, gradient in zip(self.operation.gradients, gradients, strict=True)
        }


def _run_softmax(layer: layers.Softmax, inputs: list[Array], mask: Array | None) -> Tensors:
    (scores,) = inputs
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return {"weights": layer.forward(scores)}


def _run_weight_sum(layer: layers.WeightSum, inputs: list[Array], mask: Array | None) -> Tensors:
    return {"out": layer.forward(*inputs)}


def _run_attention_weight(
    layer: layers.AttentionWeight, inputs: list[Array], mask: Array | None
) -> Tensors:
    hs, h = inputs
    return {"a": layer.forward(hs, h, mask)}


def _run_attention(layer: layers.Attention, inputs: list[Array], mask: Array | None) -> Tensors:
    hs, h = inputs
    out = layer.forward(hs, h, mask)
    return {"out": out, "a": layer.attention_weight}


def _run_time_attention(
    layer: layers.TimeAttention, inputs: list[Array], mask: Array | None
) -> Tensors:
    hs_enc, hs_dec = inputs
    out = layer.forward(hs_enc, hs_dec, mask)
    return {"out": out, "weights": np.stack(layer.attention_weights or [], axis=1)}


_ROW = ("N", "T_enc")
_GRID = ("N", "T_dec", "T_enc")

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("softmax", layers.Softmax, ("scores",), "weights", _GRID, _run_softmax, _GRID),
        Operation("weight-sum", layers.WeightSum, ("hs", "a"), "out", ("N", "H"), _run_weight_sum),
        Operation(
            "attention-weight",
            layers.AttentionWeight,
            ("hs", "h"),
            "a",
            _ROW,
            _run_attention_weight,
            _ROW,
        ),
        Operation(
            "attention", layers.Attention, ("hs", "h"), "out", ("N", "H"), _run_attention, _ROW
        ),
        Operation(
            "time-attention",
            layers.TimeAttention,
            ("hs_enc", "hs_dec"),
            "out",
            ("N", "T_dec", "H"),
            _run_time_attention,
            _GRID,
        ),
    )
}
"""Every operation by its name, from the innermost layer to the outermost."""


def _computable(array: Array) -> Array:
    """The array in the dtype it is computed in."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(_stored_dtype(array), copy=False)


def _stored_dtype(array: Array) -> np.dtype[Any]:
    """The native floating dtype of results from this array."""
    if array.dtype.kind == "f":
        return array.dtype.newbyteorder("=")
    return np.dtype(np.float64)


def _boolean_or_floating(name: str, mask: Array) -> Array:
    if mask.dtype == bool or (name == "mask" and mask.dtype.kind == "f"):
        return mask
    if mask.dtype.kind in "iuf" and np.isin(mask, (0, 1)).all():
        return mask.astype(bool)
    expected = "bool or 0/1 (True = takes part)" + (", or floating" if name == "mask" else "")
    raise DtypeError(f"{name} is {mask.dtype} with other values than 0 and 1, expected {expected}")


def _expect_axes(name: str, array: Array, axes: tuple[str, ...], sizes: Mapping[str, int]) -> None:
    expected = tuple(sizes[axis] for axis in axes)
    if array.shape != expected:
        raise ShapeError(f"{name} is {array.shape}, expected {describe_shape(expected, axes)}")


def _warn_of_masked_rows(mask: Array, padding: Array | None) -> None:
    seen = mask if mask.dtype == bool else mask != -np.inf
    empty = ~seen.any(axis=-1)
    if padding is not None:
        empty &= padding
    if count := int(empty.sum()):
        have = "has" if count == 1 else "have"
        warnings.warn(
            f"{count} of {empty.size} rows {have} every key masked: "
            "weights, output and gradient are 0",
            AttnWarning,
            stacklevel=3,
        )
