"""An operation: inputs, results and gradients by name, run by whichever engine is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attncli.arrays import Array, parts
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.operations.execution import Execution
from attncli.operations.forward import Forward
from attncli.tensors import axes_of, default_axes, describe_shape

Tensors = dict[str, Array]


@dataclass(frozen=True)
class Operation:
    """Something that can be run forward and backward by its name.

    This class runs the parts of attention, which have the book's layer as their only engine; the
    subclasses in `attncli.operations.whole` are attention as a whole.

    Attributes
    ----------
    name : str
        As it is written on the command line.
    inputs : tuple of str
        The names of the inputs, in order.
    result : str
        The name of the result.
    result_axes : tuple of str
        Its axes, unless the inputs have other ones.
    weights_axes : tuple of str
        The axes of the weights, and so of a mask; empty where there is no softmax.
    layer : type or None
        The class in `attncli.layers` that does the same.
    """

    name: str
    inputs: tuple[str, ...]
    result: str
    result_axes: tuple[str, ...]
    weights_axes: tuple[str, ...] = ()
    layer: Any = None

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of what ``backward`` returns, in order."""
        return tuple(f"d{name}" for name in self.inputs)

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Give the shape of every input for sizes such as ``{"N": 3, "T_enc": 7, …}``."""
        return {name: tuple(sizes[axis] for axis in default_axes(name)) for name in self.inputs}

    def axes(self, name: str, ndim: int) -> tuple[str, ...] | None:
        """Name the axes of one of this operation's tensors: an input, a result or a gradient."""
        if name.removeprefix("d") == "out" and ndim == len(self.result_axes):
            return self.result_axes
        return axes_of(self.result if name == "dout" else name, ndim)

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

    def weights_shape(self, inputs: Mapping[str, Array]) -> tuple[int, ...]:
        """Give the shape of the weights; empty where there are none."""
        sizes = self.sizes(inputs)
        return tuple(sizes[axis] for axis in self.mask_axes(inputs))

    def forward(
        self,
        inputs: Mapping[str, Array],
        mask: Array | None = None,
        *,
        padding: Array | None = None,
        semantics: Semantics | None = None,
        execution: Execution | None = None,
    ) -> Pass:
        """Run forward.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            An array for each name in `inputs`. float16 is computed in float32 and cast back,
            integers are cast to float64.
        mask : ndarray, optional
            Broadcastable to the weights; boolean True = takes part, or floating and added to the
            scores.
        padding : ndarray of bool (N, T_dec), optional
            False where a decoder step takes no part: weights, output and gradient are 0 there.
        semantics : Semantics, optional
        execution : Execution, optional

        Warns
        -----
        AttnWarning
            If other rows see no key: their weights, outputs and gradients are 0. If N or T_dec is
            0: the result is empty. If the result holds NaN or infinity.

        Raises
        ------
        ShapeError
            If the shapes do not fit.
        ParameterError
            If this operation has no such option or engine.
        """
        semantics, execution = semantics or Semantics(), execution or Execution()
        sizes = self.sizes(inputs)
        dtype = np.result_type(*(_stored_dtype(inputs[name]) for name in self.inputs))
        arguments = [computable(inputs[name]) for name in self.inputs]
        if 0 in sizes.values():  # nothing to compute with
            axis = next(axis for axis, size in sizes.items() if size == 0)
            warnings.warn(f"{axis} is 0: the result is empty", AttnWarning, stacklevel=2)
            shape = self._result_shape(inputs, sizes)
            gradients = tuple(np.zeros_like(argument) for argument in arguments)
            empty = Forward({self.result: np.zeros(shape)}, lambda dout: (gradients, None), "none")
            return Pass(self, dtype, empty, None)

        rows = None
        if padding is not None and "T_dec" in sizes:
            arguments = [
                np.where(_along(padding, self.axes(name, x.ndim)), x, 0) if "T_dec" in axes else x
                for name, x in zip(self.inputs, arguments, strict=True)
                if (axes := self.axes(name, x.ndim)) is not None
            ]
            rows = padding
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is warned of
            result = self._run(arguments, mask, semantics, execution)
        _warn_of_blind_rows(result.blind, rows)
        done = Pass(self, dtype, result, rows)
        _warn_of_overflow(self.result, done.results[self.result])
        return done

    def describe_result(self, inputs: Mapping[str, Array]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and the dtype that the result of `forward` will have."""
        dtype = np.result_type(*(_stored_dtype(inputs[name]) for name in self.inputs))
        return self._result_shape(inputs, self.sizes(inputs)), dtype

    def function(self) -> Callable[..., Array]:
        """Return forward as a plain function of arrays, complex ones included: the reference's."""

        def function(*inputs: Array) -> Array:
            result: Array = self.layer().forward(*inputs)
            return result

        return function

    def _run(
        self, inputs: list[Array], mask: Array | None, semantics: Semantics, execution: Execution
    ) -> Forward:
        if execution.engine not in ("auto", "reference"):
            raise ParameterError(
                f"{self.name} has no {execution.engine} engine: it is a part of attention alone"
            )
        from attncli.operations.reference import run_layer  # slow to load, and seldom needed

        return run_layer(self, inputs, mask, semantics, execution)

    def mask_axes(self, inputs: Mapping[str, Array]) -> tuple[str, ...]:
        """Name the axes that a mask may have: those of the weights; none if there are none."""
        if "scores" in self.inputs:  # of any number of axes
            return axes_of("scores", inputs["scores"].ndim) or ()
        return self.weights_axes

    def _result_shape(
        self, inputs: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> tuple[int, ...]:
        if self.result == "weights":  # as many axes as the scores have
            return tuple(inputs["scores"].shape)
        return tuple(sizes[axis] for axis in self.result_axes)


@dataclass(frozen=True)
class Pass:
    """A forward that was run, and can be walked back.

    Attributes
    ----------
    operation : Operation
    dtype : dtype
        Of the results and the gradients.
    run : Forward
        What the engine gave.
    padding : ndarray of bool (N, T_dec) or None
        False where a decoder step takes no part.
    """

    operation: Operation
    dtype: np.dtype[Any]
    run: Forward
    padding: Array | None

    @property
    def engine(self) -> str:
        """Who computed it."""
        return self.run.engine

    @property
    def results(self) -> Tensors:
        """The result, and the attention weights where they were kept, by name."""
        return {name: self._given(name, array) for name, array in self.run.results.items()}

    def backward(self, dout: Array) -> Tensors:
        """Return the gradient of Σ dout ⊙ result with respect to every input, by name.

        With a floating mask also ``dmask``, in the shape of the mask that `forward` took.

        Raises
        ------
        ShapeError
            If dout does not have the shape of the result.
        """
        expected = self.run.results[self.operation.result].shape
        if dout.shape != expected:
            axes = self.operation.axes("dout", len(expected))
            raise ShapeError(
                f"dout is {dout.shape}, expected the shape of the result, "
                f"{describe_shape(expected, axes)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            gradients, dmask = self.run.backward(self._given("dout", computable(dout), cast=False))
            named = dict(zip(self.operation.gradients, gradients, strict=True))
            if dmask is not None:
                named["dmask"] = dmask
            named = {name: x.astype(self.dtype, copy=False) for name, x in named.items()}
        for name, gradient in named.items():
            _warn_of_overflow(name, gradient)
        return named

    def _given(self, name: str, array: Array, *, cast: bool = True) -> Array:
        """The array in the dtype of results, with zeros where a step takes no part."""
        axes = self.operation.axes(name, array.ndim)
        if self.padding is not None and axes is not None and "T_dec" in axes:
            array = np.where(_along(self.padding, axes), array, array.dtype.type(0))
        return array.astype(self.dtype, copy=False) if cast else array


def _along(padding: Array, axes: tuple[str, ...] | None) -> Array:
    """The (N, T_dec) padding with an axis of length one wherever it says nothing."""
    assert axes is not None
    N, T_dec = padding.shape
    return padding.reshape([{"N": N, "T_dec": T_dec}.get(axis, 1) for axis in axes])


def computable(array: Array) -> Array:
    """Return the array in the dtype it is computed in."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(_stored_dtype(array), copy=False)


def _stored_dtype(array: Array) -> np.dtype[Any]:
    """The native floating dtype of results from this array."""
    if array.dtype.kind == "f":
        return array.dtype.newbyteorder("=")
    return np.dtype(np.float64)


def _warn_of_overflow(name: str, array: Array) -> None:
    if count := array.size - sum(int(np.count_nonzero(np.isfinite(x))) for x in parts(array)):
        warnings.warn(
            f"{count} of {array.size} values of {name} are not finite: something on the way was "
            f"NaN, or more than {array.dtype} can hold",
            AttnWarning,
            stacklevel=3,
        )


def _warn_of_blind_rows(blind: Array | None, padding: Array | None) -> None:
    if blind is None:
        return
    if padding is not None:
        N, T_dec = padding.shape
        blind = blind & padding.reshape(N, *[1] * (blind.ndim - 2), T_dec)
    if count := int(blind.sum()):
        have = "has" if count == 1 else "have"
        warnings.warn(
            f"{count} of {blind.size} rows {have} every key masked: "
            "weights, output and gradient are 0",
            AttnWarning,
            stacklevel=3,
        )
