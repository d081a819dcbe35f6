"""What can be run, by name: each operation as data, and the table of them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attncli import layers
from attncli.arrays import Array
from attncli.core.extras import Extras
from attncli.core.rotary import Rotation, rotary
from attncli.core.semantics import Semantics
from attncli.core.visibility import positions
from attncli.errors import ParameterError, ShapeError
from attncli.tensors import agreed_sizes, axes_of, default_axes

Operands = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Operation:
    """Something that can be run forward and backward by its name.

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
    operands : tuple of str
        Which inputs are query, key and value; empty for a part of attention alone.
    options : tuple of str
        What it can be asked for beside its inputs.
    weights : str
        What the weights are called among its results.
    one_step : bool
        Whether query and result have no axis of decoder steps.
    heads : int or None
        How many a layer has.
    parameters : tuple of str
        Which inputs its constructor takes: the last ones.
    optional : tuple of str
        Which inputs may be missing, each only if those behind it are: the layer knows what then.
    axes_here : mapping of str to tuple of str
        The axes of inputs where their names do not say them, or something else.
    rotation : Rotation or None
        How query and key are turned by their positions before they meet.
    spread : tuple of str
        Axes along which the scores are spread out on the way, with or without a mask.
    """

    name: str
    inputs: tuple[str, ...]
    result: str
    result_axes: tuple[str, ...]
    weights_axes: tuple[str, ...] = ()
    layer: Any = None
    operands: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    weights: str = "weights"
    one_step: bool = False
    heads: int | None = None
    parameters: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    axes_here: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spread: tuple[str, ...] = ()
    rotation: Rotation | None = None

    @property
    def gradients(self) -> tuple[str, ...]:
        """The names of what ``backward`` returns, in order."""
        return tuple(f"d{name}" for name in self.inputs)

    @property
    def is_whole(self) -> bool:
        """Whether it is attention as a whole, which the core can run."""
        return bool(self.operands)

    @property
    def not_whole(self) -> str:
        """Why the core does not run it."""
        what = "a layer with weights of its own" if self.parameters else "a part of attention alone"
        return f"it is {what}"

    def require_options(self, semantics: Semantics, extras: Extras = Extras()) -> None:  # noqa: B008
        """Raise if it has none of an option that was given.

        Raises
        ------
        ParameterError
        """
        given = {**semantics.given(), **extras.given()}
        refused = [name.replace("_", "-") for name in given if name not in self.options]
        if refused and not self.is_whole:
            names = ", ".join(f"--{name}" for name in refused)
            whole = "time-attention" if "hs_enc" in self.inputs else "scaled-dot-product"
            raise ParameterError(
                f"{self.name} takes no {names}: {self.not_whole}", hint=f"--layer {whole}"
            )

    @property
    def needed(self) -> tuple[str, ...]:
        """The inputs that have to be there."""
        return tuple(name for name in self.inputs if name not in self.optional)

    def of(self, held: Container[str]) -> Operation | None:
        """Return this operation on the inputs that there are; None if one is missing."""
        there = [name in held for name in self.optional]
        missing = {
            name for name, is_there in zip(self.optional, there, strict=True) if not is_there
        }
        inputs = tuple(name for name in self.inputs if name not in missing)
        fits = there == sorted(there, reverse=True) and all(name in held for name in inputs)
        return replace(self, inputs=inputs) if fits else None

    def start(self, inputs: Mapping[str, Array]) -> Any:
        """Make its layer, with its parameters out of the inputs."""
        heads = () if self.heads is None else (self.heads,)
        return self.layer(*(inputs[name] for name in self.parameters), *heads)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Which inputs the layer's forward takes."""
        return self.inputs[: len(self.inputs) - len(self.parameters)]

    # What its inputs say.

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Give the shape of every input for sizes such as ``{"N": 3, "T_enc": 7, …}``.

        N, T_dec, T_enc and H have to be there; H_v, H_dec, A and D are as H unless they are.
        """
        H = sizes["H"]
        heads = self.heads or 1
        full = {"H_v": H, "H_dec": H, "A": H, "D": heads * max(1, H // heads), **sizes}
        shapes = {name: tuple(full[axis] for axis in self.input_axes(name)) for name in self.inputs}
        self._require_width(shapes)
        return shapes

    def _require_width(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise unless there are features to be turned."""
        if self.rotation is not None:
            for name in ("query", "key"):
                self.rotation.width_of(name, shapes[name])

    def input_axes(self, name: str) -> tuple[str, ...]:
        """Name the axes that an input has unless its number of axes says otherwise."""
        return self.axes_here.get(name) or default_axes(name)

    def axes(self, name: str, ndim: int) -> tuple[str, ...] | None:
        """Name the axes of one of this operation's tensors: an input, a result or a gradient."""
        if name.removeprefix("d") == "out" and ndim == len(self.result_axes):
            return self.result_axes
        own = self.axes_here.get(name) or self.axes_here.get(name.removeprefix("d"))
        if own is not None:
            return own if len(own) == ndim else None
        return axes_of(self.result if name == "dout" else name, ndim)

    def sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """Read the sizes off the inputs, and check that they agree.

        Raises
        ------
        ShapeError
            If an input has another number of axes, two inputs disagree, heads cannot be shared
            out, or T_enc is 0.
        """
        if self.layer is None and len({inputs[name].ndim for name in self.inputs}) > 1:
            shapes = ", ".join(f"{name} is {inputs[name].shape}" for name in self.inputs)
            raise ShapeError(f"{shapes}: expected as many axes in each")
        named = {}
        for name in self.inputs:
            shape = inputs[name].shape
            axes = self.axes(name, len(shape))
            if axes is None:
                expected = self.input_axes(name)
                raise ShapeError(
                    f"{name} is {shape}, expected {len(expected)} axes: ({', '.join(expected)})"
                )
            named[name] = axes, shape
        owners = agreed_sizes(named)
        if "T_enc" not in owners:  # the steps look at each other
            owners["T_enc"] = owners["T_dec"]
        if owners["T_enc"][0] == 0:
            name = owners["T_enc"][1]
            raise ShapeError(f"{name} is {inputs[name].shape}: T_enc = 0 leaves nothing to attend")
        sizes = {axis: size for axis, (size, _) in owners.items()}
        nothing = next((axis for axis, size in sizes.items() if size == 0), None)
        if nothing and all(sizes.get(axis, 1) for axis in (*self.result_axes, "heads")):
            name = owners[nothing][1]
            raise ShapeError(
                f"{name} is {inputs[name].shape}: {nothing} = 0 leaves nothing to score by"
            )
        if self.layer is not None and self.heads is not None:
            D, name = owners["D"]
            if D % self.heads or D == 0:
                fitting = (x for x in range(min(D, self.heads), 0, -1) if D % x == 0)
                raise ShapeError(
                    f"{name} is {inputs[name].shape}: D = {D} cannot be split into {self.heads} "
                    "heads",
                    hint=f"--heads {next(fitting)}" if D else None,
                )
            sizes["heads"] = self.heads
        self._require_width({name: array.shape for name, array in inputs.items()})
        shared = sizes.get("kv_heads", 1)
        if shared == 0 or sizes.get("heads", 1) % shared:
            raise ShapeError(
                f"query has {sizes['heads']} heads, key has {shared}: expected a "
                "divisor, so that every key head serves as many query heads"
            )
        return sizes

    def mask_axes(self, inputs: Mapping[str, Array]) -> tuple[str, ...]:
        """Name the axes of the weights, and so of a mask; empty where there are none."""
        if "scores" in self.inputs:  # of any number of axes
            return axes_of("scores", inputs["scores"].ndim) or ()
        if self.layer is None:
            return axes_of("weights", inputs["query"].ndim) or ()
        return self.weights_axes

    def weights_shape(self, inputs: Mapping[str, Array]) -> tuple[int, ...]:
        """Give the shape of the weights; empty where there are none."""
        sizes = self.sizes(inputs)
        return tuple(sizes[axis] for axis in self.mask_axes(inputs))

    def result_shape(self, inputs: Mapping[str, Array]) -> tuple[int, ...]:
        """Give the shape of the result."""
        sizes = self.sizes(inputs)
        if self.result == "weights":  # as many axes as the scores have
            return tuple(inputs["scores"].shape)
        if self.layer is not None:
            return tuple(sizes[axis] for axis in self.result_axes)
        return (*inputs["query"].shape[:-1], inputs["value"].shape[-1])

    def result_dtype(self, inputs: Mapping[str, Array]) -> np.dtype[Any]:
        """Give the dtype of the result and of the gradients."""
        return np.result_type(*(stored_dtype(inputs[name]) for name in self.inputs))

    # Between its own tensors and query, key and value.

    def scale(self, semantics: Semantics, H: int) -> float:
        """Return the factor of the scores: 1 for the book's layers, else 1/√H by default."""
        if semantics.scale is not None:
            return semantics.scale
        return 1.0 if self.layer is not None else float(max(1, H) ** -0.5)

    def to_core(self, inputs: Mapping[str, Array]) -> Operands:
        """Return query, key and value."""
        query, key, value = (inputs[name] for name in self.operands)
        return (query[:, None, :] if self.one_step else query), key, value

    def core_mask(self, mask: Array) -> Array:
        """Return a mask of the weights in the axes of the core's."""
        return mask[:, None, :] if self.one_step else mask

    def core_extras(self, extras: Extras) -> Extras:
        """Return the extras in the axes of the core's."""
        if not self.one_step or extras.keep is None or np.ndim(extras.keep) < 2:
            return extras
        return extras._replace(keep=np.asarray(extras.keep)[:, None, :])

    def core_dout(self, dout: Array) -> Array:
        """Return dout, or room for the result, in the axes of the core's output."""
        return dout[:, None, :] if self.one_step else dout

    def results(self, out: Array, weights: Array | None) -> dict[str, Array]:
        """Return the core's results in this operation's axes, by name."""
        results = {self.result: out[:, 0] if self.one_step else out}
        if weights is not None:
            results[self.weights] = weights[:, 0] if self.one_step else weights
        return results

    def from_core(self, dquery: Array, dkey: Array, dvalue: Array) -> tuple[Array, ...]:
        """Return the gradients in the order of the inputs; what was used twice gets both."""
        gradients: dict[str, Array] = {}
        if self.one_step:
            dquery = dquery[:, 0]
        for name, gradient in zip(self.operands, (dquery, dkey, dvalue), strict=True):
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return tuple(gradients[name] for name in self.inputs)

    def rotated(
        self,
        query: Array,
        key: Array,
        semantics: Semantics,
        extras: Extras = Extras(),  # noqa: B008 (it is frozen)
        *,
        inverse: bool = False,
    ) -> tuple[Array, Array]:
        """Turn the core's query and key, each by its positions; `inverse` turns gradients back."""
        if self.rotation is None:
            return query, key
        T_dec, T_enc = query.shape[-2], key.shape[-2]
        own, at = positions(semantics, T_dec, T_enc, extras.placed(query.shape[:-2], T_dec, T_enc))
        return (
            turned(self.rotation, query, own, inverse=inverse),
            turned(self.rotation, key, at, inverse=inverse),
        )


def turned(rotation: Rotation, x: Array, positions: Array, *, inverse: bool = False) -> Array:
    """Turn an array (…, T, H) by positions; one of complex numbers too, as a derivative has them.

    Examples
    --------
    >>> turned(Rotation(), np.array([[1j, 0]]), np.array([0]))
    array([[0.+1.j, 0.+0.j]])
    """
    if np.iscomplexobj(x):
        parts = (turned(rotation, part, positions, inverse=inverse) for part in (x.real, x.imag))
        real, imaginary = parts
        return real + 1j * imaginary
    return rotary(x, positions, inverse=inverse, **vars(rotation))


def stored_dtype(array: Array) -> np.dtype[Any]:
    """Return the native floating dtype of results from this array."""
    if array.dtype.kind == "f":
        return array.dtype.newbyteorder("=")
    return np.dtype(np.float64)


def computable(array: Array) -> Array:
    """Return the array in the dtype it is computed in."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(stored_dtype(array), copy=False)


_ROW = ("N", "T_enc")
_GRID = ("N", "T_dec", "T_enc")
_HIDING = ("causal", "align", "window", "segments", "cu_seqlens", "cu_seqlens_k", "kv_lengths")
_SCORING = ("scale", *_HIDING, "softcap", "keep_prob", "sinks", "alibi", "keep")
_STATES = ("hs_enc", "hs_dec")
_DECODER = {"hs_dec": ("N", "T_dec", "H_dec")}
_TO_HEADS = ("H", "D")

OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("softmax", ("scores",), "weights", _GRID, _GRID, layers.Softmax),
        Operation("weight-sum", ("hs", "a"), "out", ("N", "H"), (), layers.WeightSum),
        Operation("attention-weight", ("hs", "h"), "a", _ROW, _ROW, layers.AttentionWeight),
        Operation(
            "attention",
            ("hs", "h"),
            "out",
            ("N", "H"),
            _ROW,
            layers.Attention,
            operands=("h", "hs", "hs"),
            options=_SCORING,
            weights="a",
            one_step=True,
        ),
        Operation(
            "time-attention",
            ("hs_enc", "hs_dec"),
            "out",
            ("N", "T_dec", "H"),
            _GRID,
            layers.TimeAttention,
            operands=("hs_dec", "hs_enc", "hs_enc"),
            options=_SCORING,
        ),
        Operation(
            "scaled-dot-product",
            ("query", "key", "value"),
            "out",
            ("N", "T_dec", "H_v"),
            _GRID,
            operands=("query", "key", "value"),
            options=(*_SCORING, "heads", "rotary"),
        ),
        Operation(
            "luong",
            (*_STATES, "W"),
            "out",
            ("N", "T_dec", "H"),
            _GRID,
            layers.LuongAttention,
            options=_HIDING,
            parameters=("W",),
            axes_here={**_DECODER, "W": ("H_dec", "H")},
        ),
        Operation(
            "bahdanau",
            (*_STATES, "W_enc", "W_dec", "v"),
            "out",
            ("N", "T_dec", "H"),
            _GRID,
            layers.BahdanauAttention,
            options=_HIDING,
            parameters=("W_enc", "W_dec", "v"),
            axes_here={**_DECODER, "W_enc": ("H", "A"), "W_dec": ("H_dec", "A"), "v": ("A",)},
            spread=("H", "A"),
        ),
        Operation(
            "multi-head",
            ("query", "key", "value", "Wq", "Wk", "Wv", "Wo"),
            "out",
            ("N", "T_dec", "H"),
            ("N", "heads", "T_dec", "T_enc"),
            layers.MultiHeadAttention,
            options=(*_HIDING, "heads"),
            heads=2,
            parameters=("Wq", "Wk", "Wv", "Wo"),
            optional=("key", "value"),
            axes_here={
                "query": ("N", "T_dec", "H"),
                "key": ("N", "T_enc", "H"),
                "value": ("N", "T_enc", "H"),
                **dict.fromkeys(("Wq", "Wk", "Wv"), _TO_HEADS),
                "Wo": ("D", "H"),
            },
        ),
    )
}
"""Every operation by its name, from the innermost layer to the outermost, then those with weights.

The heads of a layer are those it has where nobody says how many.
"""

WITH_WEIGHTS = tuple(name for name, operation in OPERATIONS.items() if operation.parameters)
"""The layers with weights of their own."""
