"""Running an operation: its inputs, an engine, and results by name that can be walked back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attncli import layers
from attncli.arrays import Array, parts
from attncli.core import attention_backward, compute
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import AttnWarning, ParameterError, ShapeError
from attncli.operations.execution import Execution
from attncli.operations.operation import Operation, computable
from attncli.tensors import describe_shape

Tensors = dict[str, Array]
Back = Callable[[Array, Array | None], tuple[tuple[Array, ...], dict[str, Array | None]]]
"""From dout and dlogsumexp to the gradients in the order of the inputs, and to those of a floating
mask, of sinks and of slopes, by name; None for what is not there."""


@dataclass(frozen=True)
class Pass:
    """A forward that was run, and can be walked back.

    Attributes
    ----------
    operation : Operation
    results : dict of str to ndarray
        The result, and the weights where they were kept, by name.
    logsumexp : ndarray or None
        log Σ exp(scores) of every query, in the axes of the weights without the last one; None
        where there is no attention as a whole.
    engine : str
        Who computed it.
    dtype : dtype
        Of the results and the gradients.
    padding : ndarray of bool (N, T_dec) or None
        False where a decoder step takes no part.
    """

    operation: Operation
    results: Tensors
    engine: str
    dtype: np.dtype[Any]
    padding: Array | None
    back: Back
    logsumexp: Array | None = None

    @property
    def has_weights(self) -> bool:
        """Whether the weights are among the results."""
        return len(self.results) > 1

    @property
    def in_core(self) -> bool:
        """Whether an engine of the core computed it."""
        return self.engine in ("direct", "tiled")

    def backward(self, dout: Array, dlogsumexp: Array | None = None) -> Tensors:
        """Return the gradient of Σ dout ⊙ result with respect to every input, by name.

        With dlogsumexp, of Σ dout ⊙ result + Σ dlogsumexp ⊙ logsumexp.  With a floating mask,
        sinks or slopes also ``dmask``, ``dsinks`` and ``dalibi``, in the shapes that `run` took.

        Raises
        ------
        ShapeError
            If dout does not have the shape of the result, or dlogsumexp that of logsumexp.
        ParameterError
            If there is no logsumexp for a dlogsumexp.
        """
        expected = self.results[self.operation.result].shape
        if dout.shape != expected:
            axes = self.operation.axes("dout", len(expected))
            raise ShapeError(
                f"dout is {dout.shape}, expected the shape of the result, "
                f"{describe_shape(expected, axes)}"
            )
        if dlogsumexp is not None:
            if self.logsumexp is None:
                raise ParameterError(f"dlogsumexp has no meaning for {self.operation.name}")
            if dlogsumexp.shape != self.logsumexp.shape:
                raise ShapeError(
                    f"dlogsumexp is {dlogsumexp.shape}, expected the shape of logsumexp: "
                    f"{self.logsumexp.shape}"
                )
            # A row of −inf is that whatever changes: a step that takes no part, say.
            dlogsumexp = np.where(np.isneginf(self.logsumexp), 0, computable(dlogsumexp))
        with np.errstate(over="ignore", invalid="ignore"):
            gradients, beside = self.back(
                _padded(self.operation, "dout", computable(dout), self.padding), dlogsumexp
            )
            named = dict(zip(self.operation.gradients, gradients, strict=True))
            named |= {name: x for name, x in beside.items() if x is not None}
            named = {name: x.astype(self.dtype, copy=False) for name, x in named.items()}
        for name, gradient in named.items():
            _warn_of_overflow(name, gradient)
        return named


def run(
    operation: Operation,
    inputs: Mapping[str, Array],
    mask: Array | None = None,
    *,
    extras: Extras = Extras(),  # noqa: B008 (it is frozen)
    padding: Array | None = None,
    semantics: Semantics | None = None,
    execution: Execution | None = None,
) -> Pass:
    """Run an operation forward.

    Parameters
    ----------
    operation : Operation
    inputs : mapping of str to ndarray
        An array for each of its inputs. float16 is computed in float32 and cast back, integers
        are cast to float64.
    mask : ndarray, optional
        Broadcastable to the weights; boolean True = takes part, or floating and added to the
        scores.
    extras : Extras, optional
        Sinks, slopes, segments, sequences, lengths and dropout.
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
    sizes = operation.sizes(inputs)
    dtype = operation.result_dtype(inputs)
    given = {name: computable(inputs[name]) for name in operation.inputs}
    if 0 in sizes.values():  # nothing to compute with
        axis = next(axis for axis, size in sizes.items() if size == 0)
        warnings.warn(f"{axis} is 0: the result is empty", AttnWarning, stacklevel=2)
        results = {operation.result: np.zeros(operation.result_shape(inputs), dtype)}
        none = tuple(np.zeros_like(x) for x in given.values())
        return Pass(operation, results, "none", dtype, None, lambda dout, dlogsumexp: (none, {}))

    if "T_dec" not in sizes:
        padding = None
    given = {name: _padded(operation, name, x, padding) for name, x in given.items()}
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is warned of
        results, logsumexp, back, engine, blind = _computed(
            operation, given, mask, extras, semantics, execution
        )
    _warn_of_blind_rows(blind, padding)
    results = {
        name: _padded(operation, name, x, padding).astype(dtype, copy=False)
        for name, x in results.items()
    }
    _warn_of_overflow(operation.result, results[operation.result])
    if logsumexp is not None:
        if padding is not None:
            steps = padding.reshape(len(padding), *[1] * (logsumexp.ndim - 2), -1)
            logsumexp = np.where(steps, logsumexp, -np.inf)
        logsumexp = logsumexp.astype(dtype, copy=False)
    return Pass(operation, results, engine, dtype, padding, back, logsumexp)


def reference_function(
    operation: Operation,
    semantics: Semantics = Semantics(),  # noqa: B008 (it is frozen)
    extras: Extras = Extras(),  # noqa: B008 (it is frozen)
) -> Callable[..., Array]:
    """Return the reference's forward as a plain function of arrays, complex ones included."""

    def function(*arrays: Array) -> Array:
        inputs = dict(zip(operation.inputs, arrays, strict=True))
        how = Execution("reference")
        return _computed(operation, inputs, None, extras, semantics, how)[0][operation.result]

    return function


# Each way to compute gives (results, logsumexp, the way back, who computed, which rows see no key).
_Computed = tuple[Tensors, Array | None, Back, str, Array | None]


def _computed(
    operation: Operation,
    inputs: Tensors,
    mask: Array | None,
    extras: Extras,
    semantics: Semantics,
    execution: Execution,
) -> _Computed:
    if not operation.is_whole:
        if execution.engine not in ("auto", "reference"):
            raise ParameterError(
                f"{operation.name} has no {execution.engine} engine: {operation.not_whole}"
            )
        if execution.weights is not None and not operation.parameters:
            option = "--weights" if execution.weights else "--no-weights"
            raise ParameterError(
                f"{option} has no meaning for {operation.name}: {operation.not_whole}"
            )
        operation.require_options(semantics, extras)
        if semantics.given() or extras:
            sizes = operation.sizes(inputs)
            steps = sizes["T_dec"], sizes["T_enc"]
            lead = tuple(sizes[axis] for axis in operation.weights_axes[:-2])
            mask = Visibility.of(semantics, *steps, mask, extras.placed(lead, *steps)).as_mask()
        results, logsumexp, back, engine, blind = _by_layer(operation, inputs, mask)
        if operation.parameters and execution.weights is False:
            results = {operation.result: results[operation.result]}
        return results, logsumexp, back, engine, blind
    if execution.engine != "reference":
        return _by_core(operation, inputs, mask, extras, semantics, execution)
    results, logsumexp, back, engine, blind = _by_reference(
        operation, inputs, mask, extras, semantics
    )
    if execution.weights is False:
        results = {operation.result: results[operation.result]}
    return results, logsumexp, back, engine, blind


def _by_core(
    operation: Operation,
    inputs: Tensors,
    mask: Array | None,
    extras: Extras,
    semantics: Semantics,
    execution: Execution,
) -> _Computed:
    query, key, value = operation.to_core(inputs)
    query, key = operation.rotated(query, key, semantics, extras)
    place = execution.out
    if place is not None and place.dtype != np.result_type(query, key, value):
        place = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttnWarning)  # counted here, where padding is known
        out, cache = compute(
            query,
            key,
            value,
            mask=None if mask is None else operation.core_mask(mask),
            extras=operation.core_extras(extras),
            semantics=replace(semantics, scale=operation.scale(semantics, query.shape[-1])),
            threads=execution.threads,
            engine=execution.engine,
            weights=execution.weights,
            tile=execution.tile,
            out=None if place is None else operation.core_dout(place),
        )

    def back(
        dout: Array, dlogsumexp: Array | None
    ) -> tuple[tuple[Array, ...], dict[str, Array | None]]:
        if dlogsumexp is not None and operation.one_step:
            dlogsumexp = dlogsumexp[:, None]
        dquery, dkey, dvalue = attention_backward(operation.core_dout(dout), cache, dlogsumexp)
        dquery, dkey = operation.rotated(dquery, dkey, semantics, extras, inverse=True)
        dmask = None if cache.dmask is None or mask is None else cache.dmask.reshape(mask.shape)
        beside = {"dmask": dmask, "dsinks": cache.dsinks, "dalibi": cache.dalibi}
        return operation.from_core(dquery, dkey, dvalue), beside

    logsumexp = cache.logsumexp[:, 0] if operation.one_step else cache.logsumexp
    blind: Array | None = None
    if cache.operands.visibility:
        blind = cache.blind[:, 0] if operation.one_step else cache.blind
    return operation.results(out, cache.weights), logsumexp, back, cache.engine, blind


def _by_reference(
    operation: Operation,
    inputs: Tensors,
    mask: Array | None,
    extras: Extras,
    semantics: Semantics,
) -> _Computed:
    """Run the book's layer as far as it goes, or else the loop with every option."""
    as_the_book = mask is None or mask.dtype == bool
    as_the_book &= not semantics.given() and not extras
    if operation.layer is not None and as_the_book:
        return _by_layer(operation, inputs, mask)
    return _by_loop(operation, inputs, mask, extras, semantics)


def _by_layer(operation: Operation, inputs: Tensors, mask: Array | None) -> _Computed:
    """Run a layer as it is."""
    layer = operation.start(inputs)
    arguments = [inputs[name] for name in operation.arguments]
    if isinstance(layer, layers.Softmax):
        out = layer.forward(layers._masked(arguments[0], mask))
    else:
        out = layer.forward(*arguments, **({} if mask is None else {"mask": mask}))
    results = {operation.result: out}
    if isinstance(layer, layers.TimeAttention):
        results[operation.weights] = np.stack(layer.attention_weights or [], axis=1)
    elif operation.parameters or isinstance(layer, layers.Attention):
        results[operation.weights] = layer.attention_weight

    def back(
        dout: Array, dlogsumexp: Array | None
    ) -> tuple[tuple[Array, ...], dict[str, Array | None]]:
        gradients = layer.backward(dout)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return (*gradients, *(gradient.copy() for gradient in layer.grads)), {}

    blind: Array | None = None
    if mask is not None:
        hidden = np.logical_not(mask) if mask.dtype == bool else np.isneginf(mask)
        blind = np.asarray(np.broadcast_to(hidden, operation.weights_shape(inputs)).all(axis=-1))
    return results, None, back, "reference", blind


def _by_loop(
    operation: Operation,
    inputs: Tensors,
    mask: Array | None,
    extras: Extras,
    semantics: Semantics,
) -> _Computed:
    """Run the loop over decoder steps, with every option."""
    from attncli.operations.loop import OptionAttention  # slow, and seldom needed

    query, key, value = operation.to_core(inputs)
    query, key = operation.rotated(query, key, semantics, extras)
    loop = OptionAttention(semantics, operation.scale(semantics, query.shape[-1]))
    core_mask = None if mask is None else operation.core_mask(mask)
    out = loop.attend(query, key, value, core_mask, operation.core_extras(extras))

    def back(
        dout: Array, dlogsumexp: Array | None
    ) -> tuple[tuple[Array, ...], dict[str, Array | None]]:
        if dlogsumexp is not None and operation.one_step:
            dlogsumexp = dlogsumexp[:, None]
        dquery, dkey, dvalue, beside = loop.gradients(operation.core_dout(dout), dlogsumexp)
        dquery, dkey = operation.rotated(dquery, dkey, semantics, extras, inverse=True)
        if mask is not None and (dmask := beside["dmask"]) is not None:
            beside["dmask"] = dmask.reshape(mask.shape)
        return operation.from_core(dquery, dkey, dvalue), beside

    logsumexp = loop.logsumexp[:, 0] if operation.one_step else loop.logsumexp
    return operation.results(out, loop.weights), logsumexp, back, "reference", loop.blind


def _padded(operation: Operation, name: str, array: Array, padding: Array | None) -> Array:
    """Put zeros where a decoder step takes no part."""
    axes = operation.axes(name, array.ndim)
    if padding is None or axes is None or "T_dec" not in axes:
        return array
    N, T_dec = padding.shape
    takes_part = padding.reshape([{"N": N, "T_dec": T_dec}.get(axis, 1) for axis in axes])
    return np.where(takes_part, array, array.dtype.type(0))


def _warn_of_overflow(name: str, array: Array) -> None:
    count = array.size - sum(int(np.count_nonzero(np.isfinite(x))) for x in parts(array))
    warn_of_overflow(name, count, array.size, array.dtype)


def warn_of_overflow(name: str, count: int, size: int, dtype: np.dtype[Any]) -> None:
    """Say how many numbers of a result are not finite, if any."""
    if count:
        warnings.warn(
            f"{count} of {size} values of {name} are not finite: something on the way was "
            f"NaN, or more than {dtype} can hold",
            AttnWarning,
            stacklevel=4,
        )


def _warn_of_blind_rows(blind: Array | None, padding: Array | None) -> None:
    if blind is None:
        return
    if padding is not None:
        N, T_dec = padding.shape
        blind = blind & padding.reshape(N, *[1] * (blind.ndim - 2), T_dec)
    warn_of_blind_rows(int(blind.sum()), blind.size)


def warn_of_blind_rows(count: int, size: int) -> None:
    """Say how many rows see nothing, if any."""
    if count:
        have = "has" if count == 1 else "have"
        warnings.warn(
            f"{count} of {size} rows {have} every key masked: weights, output and gradient are 0",
            AttnWarning,
            stacklevel=4,
        )
