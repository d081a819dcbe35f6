"""Reading a problem from files: which tensors there are, and which operation they imply."""

from collections.abc import Mapping
from typing import Any

from attncli.arrays import Array, Tokens
from attncli.cli.problem import TOKEN_AXES, Problem
from attncli.errors import DataError, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.files.reading import Reading
from attncli.operations import OPERATIONS, Operation
from attncli.tensors import describe_shape

_MASKS = ("mask", "enc_mask", "dec_mask")


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
    used = {*operation.inputs, *_MASKS, *TOKEN_AXES, "dout", "options"}
    return Problem(
        operation=operation,
        inputs=inputs,
        masks={name: load(name) for name in _MASKS if name in held},
        dout=load("dout") if "dout" in held else None,
        tokens={
            name: _fitting_tokens(held[name][0], name, sizes)
            for name, axis in TOKEN_AXES.items()
            if name in held and axis in sizes
        },
        origin=origin,
        is_random=False,
        seed=seed,
        reading=reading,
        unused=tuple(name for name in held if name not in used),
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


def _fitting_tokens(source: TensorFile, name: str, sizes: Mapping[str, int]) -> Tokens:
    tokens = source.tokens(name)
    axis = TOKEN_AXES[name]
    expected = (sizes["N"], sizes[axis])
    if tokens.shape not in (expected, expected[1:]):
        raise ShapeError(
            f"{source.label}: {name} is {tokens.shape}, expected one token a step: "
            f"{describe_shape(expected, ('N', axis))} or {describe_shape(expected[1:], (axis,))}"
        )
    return tokens
