"""Reading a problem from files: which tensors there are, and which operation they imply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attncli.arrays import Array, Tokens
from attncli.cli.problem import TOKEN_AXES, Problem, with_heads
from attncli.cli.request import Request
from attncli.errors import DataError, ParameterError, ShapeError
from attncli.files.contents import TensorFile, open_tensors
from attncli.files.reading import Reading
from attncli.operations import OPERATIONS, Execution, Operation, Semantics
from attncli.operations.masks import MASKS, fitting_mask
from attncli.tensors import describe_shape


def read_problem(request: Request) -> Problem:
    """Read the inputs of an operation from one file, from one for each tensor, or from both.

    Raises
    ------
    AttnError
        If they cannot be read, do not fit each other, or contradict an option.
    """
    whole = open_tensors(request.file, request.reading) if request.file is not None else None
    held = {name: (whole, name) for name in whole} if whole is not None else {}
    for name, path in request.parts.items():
        if name in held:
            option = f"--{name.replace('_', '-')}"
            raise ParameterError(f"{option} {path}: {request.file} holds {name} too")
        held[name] = _single(name, path, request.reading)
    origin = whole.label if whole is not None else ", ".join(request.parts.values())
    options = whole.options if whole is not None else {}
    problem = _assemble(held, options, request, origin)
    _refuse_contradictions(request.sizes, problem.sizes, origin)
    return problem


def problem_in(file: TensorFile) -> Problem:
    """Find the problem that an open file holds, computed by default options.

    Raises
    ------
    AttnError
        If its tensors do not fit each other.
    """
    request = Request(
        file=file.label,
        layer=None,
        dtype=None,
        execution=Execution(),
        semantics=Semantics(),
        heads={},
        sizes={},
        seed=None,
        parts={},
        reading=file.reading,
    )
    return _assemble({name: (file, name) for name in file}, file.options, request, file.label)


def _assemble(
    held: Mapping[str, tuple[TensorFile, str]],
    options: Mapping[str, Any],
    request: Request,
    origin: str,
) -> Problem:
    """Load what an operation needs; `held` gives the file, and the name in it, of every tensor."""
    heads = request.heads or {
        name: options[name] for name in ("heads", "kv_heads") if isinstance(options.get(name), int)
    }
    operation = with_heads(_choose(request.layer or options.get("layer"), held, origin), heads)

    def load(name: str) -> Array:
        source, theirs = held[name]
        return source.numbers(theirs)

    inputs = {name: load(name) for name in operation.inputs}
    if request.dtype is not None:
        inputs = {name: array.astype(request.dtype) for name, array in inputs.items()}
    sizes = operation.sizes(inputs)
    claims = [] if options else ["output", "weights"]
    claimed = {name: load(name) for name in claims if name in held}
    used = {*operation.inputs, *MASKS, *TOKEN_AXES, *claims, "tokens", "dout", "options"}
    return Problem(
        request=request,
        operation=operation,
        inputs=inputs,
        origin=origin,
        semantics=_semantics(request, options, origin),
        masks=_masks(held, load, sizes),
        dout=load("dout") if "dout" in held else None,
        tokens=_tokens(held, sizes),
        claimed=claimed,
        unused=tuple(name for name in held if name not in used),
    )


def _masks(
    held: Mapping[str, Any], load: Callable[[str], Array], sizes: Mapping[str, int]
) -> dict[str, Array]:
    masks = {name: load(name) for name in MASKS if name in held}
    if "dec_mask" in masks and "T_dec" in sizes:
        masks["dec_mask"] = fitting_mask("dec_mask", masks, sizes)
    return masks


def _semantics(request: Request, options: Mapping[str, Any], origin: str) -> Semantics:
    """The options asked for; those not asked for as the run had them."""
    stored = {name: options[name] for name in Semantics.__dataclass_fields__ if name in options}
    try:
        return Semantics(**{**stored, **request.semantics.given()})
    except TypeError:
        raise DataError(f"{origin}: its options hold a {stored} that no run writes") from None


def _tokens(
    held: Mapping[str, tuple[TensorFile, str]], sizes: Mapping[str, int]
) -> dict[str, Tokens]:
    """The tokens of both axes; plain ``tokens`` serve every axis of their number."""
    tokens = {}
    for name, axis in TOKEN_AXES.items():
        if axis not in sizes:
            continue
        if name in held:
            tokens[name] = _fitting_tokens(held[name][0], name, sizes, axis)
        elif "tokens" in held:
            shared = held["tokens"][0].tokens("tokens")
            if shared.shape in ((sizes[axis],), (sizes.get("N"), sizes[axis])):
                tokens[name] = shared
    return tokens


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
        else "expected hs_enc and hs_dec; query, key and value; hs and h; hs and a; or scores"
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


def _fitting_tokens(source: TensorFile, name: str, sizes: Mapping[str, int], axis: str) -> Tokens:
    tokens = source.tokens(name)
    expected = (sizes.get("N", 1), sizes[axis])
    if tokens.shape not in (expected, expected[1:]):
        raise ShapeError(
            f"{source.label}: {name} is {tokens.shape}, expected one token a step: "
            f"{describe_shape(expected, ('N', axis))} or {describe_shape(expected[1:], (axis,))}"
        )
    return tokens
