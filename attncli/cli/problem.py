"""What `forward` and `backward` are to compute: an operation and its tensors, drawn or read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli import __version__
from attncli.errors import DataError, ParameterError, ShapeError
from attncli.files.contents import Reading, TensorFile, open_tensors
from attncli.memory import require
from attncli.operations import OPERATIONS, Operation, Pass
from attncli.tensors import describe_shape, random_tensor

Array = NDArray[Any]

_DEFAULT_SIZES = {"N": 3, "T": 5, "H": 4}
_SIZE_ORDER = ("N", "heads", "T_dec", "T_enc", "H")
_MASKS = ("mask", "enc_mask", "dec_mask")
_TOKEN_AXES = {"tokens_enc": "T_enc", "tokens_dec": "T_dec"}


@dataclass(frozen=True)
class Problem:
    """An operation and the tensors it is to be run on.

    Attributes
    ----------
    operation : Operation
    inputs : dict of str to ndarray
        One for each of the operation's inputs.
    masks : dict of str to ndarray
        mask, enc_mask and dec_mask, as far as there are any.
    dout : ndarray or None
        The incoming gradient, where a file has one.
    tokens : dict of str to ndarray of str
        ``tokens_enc`` and ``tokens_dec``, as far as there are any.
    origin : str
        Where the tensors come from.
    seed : int
        Of everything random.
    reading : Reading
        How files are read, and how much memory there is.
    """

    operation: Operation
    inputs: dict[str, Array]
    masks: dict[str, Array]
    dout: Array | None
    tokens: dict[str, NDArray[np.str_]]
    origin: str
    seed: int
    reading: Reading = field(default_factory=Reading)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that the inputs have."""
        found = self.operation.sizes(self.inputs)
        return {axis: found[axis] for axis in _SIZE_ORDER if axis in found}

    @property
    def axis_tokens(self) -> dict[str, NDArray[np.str_]]:
        """The tokens by the axis they label."""
        return {_TOKEN_AXES[name]: texts for name, texts in self.tokens.items()}

    def forward(self) -> Pass:
        """Run forward, after making sure that the results fit into memory."""
        sizes = self.sizes
        if {"N", "T_dec", "T_enc"} <= set(sizes):
            shape = (sizes["N"], sizes["T_dec"], sizes["T_enc"])
            itemsize = max(array.dtype.itemsize for array in self.inputs.values())
            # They are kept by the layers, once more as the result, and in between once more.
            require(3 * prod(shape) * itemsize, f"weights {shape}", self.reading.max_memory)
        mask = self.operation.mask({**self.inputs, **self.masks})
        return self.operation.forward(self.inputs, mask, padding=self.masks.get("dec_mask"))

    def gradient_in(self, forward: Pass) -> Array:
        """Return dout: the file's, or a random one of the shape of the result."""
        result = forward.results[self.operation.result]
        if self.dout is not None:
            return self.dout
        return random_tensor("dout", result.shape, seed=self.seed, dtype=result.dtype)

    def options(self, command: str) -> dict[str, Any]:
        """Return what a run file says of the run beside its tensors."""
        return {
            "attn": __version__,
            "command": command,
            "layer": self.operation.name,
            "seed": self.seed,
            "source": self.origin,
        }


def random_problem(
    layer: str | None, sizes: Mapping[str, int], seed: int, dtype: str | None, reading: Reading
) -> Problem:
    """Draw the inputs of an operation at random.

    Raises
    ------
    MemoryLimitError
        If they do not fit.
    """
    operation = OPERATIONS[layer or "time-attention"]
    given = {**_DEFAULT_SIZES, **sizes}
    full = {
        "N": given["N"],
        "T_dec": given["T"],
        "T_enc": given.get("T_enc", given["T"]),
        "H": given["H"],
    }
    shapes = operation.shapes(full)
    for name, shape in shapes.items():
        axes = operation.axes(name, len(shape))
        what = f"random {name} {describe_shape(shape, axes)}"
        require(8 * prod(shape), what, reading.max_memory, hint="smaller --N, --T or --H")
    inputs = {
        name: random_tensor(name, shape, seed=seed, dtype=dtype or "float64")
        for name, shape in shapes.items()
    }
    return Problem(operation, inputs, {}, None, {}, f"random, seed {seed}", seed, reading)


def read_problem(
    file: str | None,
    parts: Mapping[str, str],
    layer: str | None,
    sizes: Mapping[str, int],
    seed: int,
    dtype: str | None,
    reading: Reading,
) -> Problem:
    """Read the inputs of an operation from one file, from one for each tensor, or from both.

    Raises
    ------
    AttnError
        If they cannot be read, do not fit each other, or contradict an option.
    """
    whole = open_tensors(file, reading) if file is not None else None
    held = {name: (whole, name) for name in whole} if whole is not None else {}
    for name, path in parts.items():
        if name in held:
            raise ParameterError(f"--{name.replace('_', '-')} {path}: {file} holds {name} too")
        held[name] = _single(name, path, reading)
    origin = whole.label if whole is not None else ", ".join(parts.values())
    options = whole.options if whole is not None else {}
    problem = _assemble(held, layer or options.get("layer"), dtype, seed, origin, reading)
    _refuse_contradictions(sizes, problem.sizes, origin)
    return problem


def problem_in(file: TensorFile, layer: str = "time-attention") -> Problem:
    """Find the problem that an open file holds.

    Raises
    ------
    AttnError
        If its tensors do not fit each other.
    """
    held = {name: (file, name) for name in file}
    return _assemble(held, layer, None, 0, file.label, file.reading)


def _assemble(
    held: Mapping[str, tuple[TensorFile, str]],
    layer: str | None,
    dtype: str | None,
    seed: int,
    origin: str,
    reading: Reading,
) -> Problem:
    """Load what an operation needs; `held` gives the file, and the name in it, of every tensor."""
    operation = _choose(layer, held, origin)

    def load(name: str) -> Array:
        source, theirs = held[name]
        return source.numbers(theirs)

    inputs = {name: load(name) for name in operation.inputs}
    if dtype is not None:
        inputs = {name: array.astype(dtype) for name, array in inputs.items()}
    sizes = operation.sizes(inputs)
    return Problem(
        operation=operation,
        inputs=inputs,
        masks={name: load(name) for name in _MASKS if name in held},
        dout=load("dout") if "dout" in held else None,
        tokens={
            name: _fitting_tokens(held[name][0], name, sizes)
            for name, axis in _TOKEN_AXES.items()
            if name in held and axis in sizes
        },
        origin=origin,
        seed=seed,
        reading=reading,
    )


def _single(name: str, path: str, reading: Reading) -> tuple[TensorFile, str]:
    """Find the array that a file given for one tensor holds."""
    source = open_tensors(path, reading)
    held = list(source)
    if name in held:
        return source, name
    if len(held) == 1:
        return source, held[0]
    raise DataError(f"{source.label}: expected one array, or one named {name}; it holds: {held}")


def _choose(layer: str | None, held: Mapping[str, Any], origin: str) -> Operation:
    """Choose the operation by its name, or the outermost one whose inputs are there."""
    if layer is not None and layer not in OPERATIONS:
        raise DataError(f"{origin}: its options name the layer {layer}, which is not known")
    candidates = [OPERATIONS[layer]] if layer else list(OPERATIONS.values())[::-1]
    for operation in candidates:
        if all(name in held for name in operation.inputs):
            return operation
    if "" in held:
        raise DataError(
            f"{origin}: an .npy file holds one array without a name",
            hint="say which it is: --hs-enc FILE --hs-dec FILE",
        )
    names = ", ".join(held) or "nothing"
    wanted = (
        f"{layer} needs {' and '.join(candidates[0].inputs)}"
        if layer
        else "expected hs_enc and hs_dec, hs and h, hs and a, or scores"
    )
    raise DataError(
        f"{origin}: {wanted}; it holds {names}",
        hint="--rename OURS=THEIRS reads an array under another name",
    )


def _refuse_contradictions(sizes: Mapping[str, int], found: Mapping[str, int], origin: str) -> None:
    for option, size in sizes.items():
        for axis in ("T_dec", "T_enc") if option == "T" and "T_enc" not in sizes else (option,):
            axis = "T_dec" if axis == "T" else axis
            if axis in found and found[axis] != size:
                raise ParameterError(
                    f"--{option.replace('_', '-')} {size} contradicts {origin}: "
                    f"{axis} is {found[axis]}"
                )


def _fitting_tokens(source: TensorFile, name: str, sizes: Mapping[str, int]) -> NDArray[np.str_]:
    tokens = source.tokens(name)
    axis = _TOKEN_AXES[name]
    expected = (sizes["N"], sizes[axis])
    if tokens.shape not in (expected, expected[1:]):
        raise ShapeError(
            f"{source.label}: {name} is {tokens.shape}, expected one token a step: "
            f"{describe_shape(expected, ('N', axis))} or {describe_shape(expected[1:], (axis,))}"
        )
    return tokens
