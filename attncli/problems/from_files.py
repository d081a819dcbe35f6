"""Reading a problem from files: which tensors there are, and which operation they imply."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from attncli.arrays import Array, Tokens
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import read_mask
from attncli.errors import (
    AttnError,
    AttnWarning,
    DataError,
    DtypeError,
    FileError,
    NamelessError,
    ParameterError,
    ShapeError,
)
from attncli.files.atomic import is_device
from attncli.files.contents import SHORT_NAMES, TensorFile, open_tensors
from attncli.files.dtypes import require_finite
from attncli.files.reading import Reading
from attncli.files.regions import Region, describe
from attncli.operations import OPERATIONS, WITH_WEIGHTS, Execution, Operation
from attncli.operations.layout import Layout
from attncli.problems.beside import (
    BESIDE,
    ELSEWHERE,
    computing_with,
    extras_of,
    fitted,
    in_dtype,
    lengths_that_fit,
    sizes_beside,
    tensors_of,
)
from attncli.problems.masks import MASKS, combine_masks, fitting_mask
from attncli.problems.problem import TOKEN_AXES, Claim, Problem
from attncli.problems.request import Request
from attncli.problems.setting import Setting
from attncli.spelling import renames
from attncli.tensors import default_axes, describe_shape

# What an engine that is far away reads itself, as much at a time as it needs.
_READ_IN_PARTS = ("mask", "keep", "dout", "dlogsumexp")
# Results that somebody else put into a file, and ours which they are compared with.
_CLAIMS = {
    "output": "out",
    "out": "out",
    "weights": "weights",
    "logsumexp": "logsumexp",
    "lse": "logsumexp",
}


def read_problem(request: Request) -> Problem:
    """Read the inputs of an operation from one file, from one for each tensor, or from both.

    Raises
    ------
    AttnError
        If they cannot be read, do not fit each other, or contradict an option.
    """
    whole = open_tensors(request.file, request.reading) if request.file is not None else None
    held = {name: (whole, name) for name in whole} if whole is not None else {}
    single = dataclasses.replace(request.reading, rename={})
    if request.reading.rename and whole is None:
        raise ParameterError("--rename has no meaning without FILE: single tensors need no name")
    for name, path in request.parts.items():
        if name in held:
            option = f"--{name.replace('_', '-')}"
            raise ParameterError(f"{option} {path}: {request.file} holds {name} too")
        held[name] = _single(name, path, single)
    if whole is not None:
        held |= _elsewhere(whole, held, {os.path.realpath(path) for path in request.files})
    origin = ", ".join([*([whole.label] if whole is not None else []), *request.parts.values()])
    options = whole.options if whole is not None else {}
    problem = _assemble(held, options, request, origin)
    idle = [name for name in request.parts if name in problem.unused]
    if idle:
        raise ParameterError(
            f"--{idle[0].replace('_', '-')} has no meaning here: {problem.operation.name} takes "
            f"{', '.join(problem.operation.inputs)}"
        )
    refuse_contradictions(request.sizes, problem.sizes, origin)
    if whole is not None:
        given = {**problem.semantics.given(), **problem.rotary, **request.extras.given()}
        _tell_of_the_ignored(whole, problem.unused, problem.operation, given)
    return problem


def _elsewhere(
    file: TensorFile, held: Container[str], named: Container[str] = ()
) -> dict[str, tuple[TensorFile, str]]:
    """Find the inputs of a run that lie outside of its folder, in files that somebody named.

    Raises
    ------
    FileError
        If nobody did: what a file says is no reason to read any other one.
    """
    found = {}
    for name, (path, theirs) in file.elsewhere.items():
        if name in held:
            continue
        beside = path.startswith(os.path.join(os.path.dirname(os.path.realpath(file.label)), ""))
        if path not in named and is_device(path) and not os.path.isdir(path):
            raise FileError(f"{file.label}: {name} is in {path}, which is no file")
        if path not in named and not beside:  # what is beside cannot be read, and says so below
            raise FileError(
                f"{file.label}: {name} is in {path}, which is not in its folder",
                hint=f"attn forward {shlex.quote(file.label)} --{name.replace('_', '-')} "
                f"{shlex.quote(path)}",
            )
        other = open_tensors(path, file.reading, follow=False)
        if theirs not in other:
            raise FileError(f"{path}: {theirs} is missing, the {name} of {file.label}")
        found[name] = other, theirs
    return found


def _tell_of_the_ignored(
    file: TensorFile, unused: Container[str], operation: Operation, given: Container[str]
) -> None:
    """Name what bears on the answer and is not computed with, and the option that does."""
    takes = {*operation.options, *(("mask", "lse") if operation.is_whole else ())}
    for name in ELSEWHERE:
        if name not in unused:
            continue
        array = file.numbers(name, allow_nonfinite=True)
        option = computing_with(name, array, file, takes, given)
        if option is not None:
            why = f"; {option} computes with it" if option else ": nothing here computes with it"
            message = f"{file.label}: {name} not used{why}"
            warnings.warn(message, AttnWarning, stacklevel=3)


def problem_in(file: TensorFile, **asked: Any) -> Problem:
    """Find the problem that an open file holds; `asked` are fields of `Request`.

    Raises
    ------
    AttnError
        If its tensors do not fit each other.
    """
    nothing: dict[str, Any] = {
        "layer": None,
        "dtype": None,
        "execution": Execution(weights=True),
        "semantics": Semantics(),
        "extras": Extras(),
        "heads": {},
        "layout": {},
        "rotary": {},
        "sizes": {},
        "seed": None,
        "parts": {},
    }
    request = Request(file=file.label, reading=file.reading, **{**nothing, **asked})
    held = {name: (file, name) for name in file}
    held |= _elsewhere(file, held)
    return _assemble(held, file.options, request, file.label)


def _assemble(
    held: Mapping[str, tuple[TensorFile, str]],
    options: Mapping[str, Any],
    request: Request,
    origin: str,
) -> Problem:
    """Load what an operation needs; `held` gives the file, and the name in it, of every tensor."""
    layer = request.layer or options.get("layer")
    held = _under_own_names(layer, held)
    setting = Setting.of(
        options, origin, layout=request.layout, heads=request.heads, rotary=request.rotary
    )
    packed: dict[str, Array] = {}
    far = request.execution.engine == "dask"  # which reads what is large where it is computed
    regions: dict[str, Region] = {}
    if "qkv" in held and not {"query", "key", "value"} <= held.keys():
        source, theirs = held["qkv"]
        if far:
            raise FileError(
                f"{origin}: qkv holds query, key and value in one array, which --engine dask does "
                "not read in parts",
                hint="--engine auto",
            )
        with in_file(origin):
            packed, setting = setting.unpacked(source.numbers(theirs, known_as="qkv"))
        held = {**held, **dict.fromkeys(packed, held["qkv"])}
    operation = _choose(layer, held, origin)

    def load(name: str) -> Array:
        source, theirs = held[name]
        if far and name in (*operation.inputs, *_READ_IN_PARTS):
            regions[name] = describe(source, theirs)
            dtype = request.dtype if name in operation.inputs else None
            return _stand_in(name, regions[name], dtype)
        # What is beside is never computed with unless finite: it says so itself, when placed.
        return source.numbers(theirs, known_as=name, allow_nonfinite=name in BESIDE)

    inputs = {name: packed[name] if name in packed else load(name) for name in operation.inputs}
    if request.dtype is not None and not far:
        with np.errstate(over="ignore"):  # what became infinite is found below
            inputs = {name: array.astype(request.dtype) for name, array in inputs.items()}
        if not request.reading.allow_nonfinite:
            for name, array in inputs.items():
                require_finite(array, f"{name} as {request.dtype}", origin)
    beside = {name: load(name) for name in _beside(operation, held, request.extras, origin)}
    shapes = {name: array.shape for name, array in inputs.items()}
    known = sizes_beside({**beside, **tensors_of(request.extras)})
    meant = setting.tell_of_reading(operation, shapes, known)
    ndims = {name: len(shape) for name, shape in shapes.items()}
    operation, layout = setting.applied(operation, ndims)
    layers = [] if layer else layers_in(held)
    with in_file(origin, hint=meant or next((f"--layer {name}" for name in layers), None)):
        inputs = layout.read(inputs)
        sizes, axes = operation.sizes(inputs), operation.mask_axes(inputs)
    _tell_of_positions(operation, held, sizes)
    # The results of a run are its own; those of anybody else are claims, to be held against ours.
    claims = {} if options or far else _CLAIMS
    claimed = [_claim(name, result, *held[name]) for name, result in claims.items() if name in held]
    for name in _CLAIMS if far and not options else ():
        if name in held:
            message = f"{origin}: {name} not compared: attn compare does, once the run is done"
            warnings.warn(message, AttnWarning, stacklevel=3)
    used = {*operation.inputs, *MASKS, *BESIDE, *TOKEN_AXES, *claims, "tokens", "options"}
    used |= {"dout", "dlogsumexp", *(["qkv"] if packed else [])}
    if "keep" in beside and "keep_prob" in held:
        options = {**options, "keep_prob": _single_number("keep_prob", load("keep_prob"), origin)}
        used.add("keep_prob")
    masks = {name: load(name) for name in _masks_for(operation, held, axes, sizes)}
    with in_file(origin):
        masks = {name: read_mask(name, mask) for name, mask in masks.items()}
        if "dec_mask" in masks:
            fitting_mask("dec_mask", masks, sizes)
        for name in masks:
            combine_masks({name: masks[name]}, axes, sizes)  # whether they fit
    semantics = _semantics(request, options, origin)
    with in_file(origin):
        extras = extras_of(beside)
    extras = extras._replace(**fitted(request.extras, sizes).given())
    _require_keep(semantics, extras, origin, [name for name in held if name not in used])
    problem = Problem(
        request=request,
        operation=operation,
        inputs=inputs,
        origin=origin,
        semantics=semantics,
        masks=masks,
        extras=in_dtype(extras, request.dtype),
        dout=load("dout") if "dout" in held else None,
        dlogsumexp=load("dlogsumexp") if "dlogsumexp" in held else None,
        tokens=read_tokens(held, sizes),
        claims=tuple(claimed),
        unused=tuple(name for name in held if name not in used),
        stored_seed=options.get("seed", 0),
        layout=layout,
        regions=regions,
    )
    fitting = lengths_that_fit(extras, sizes) if "kv_lengths" in beside else None
    with in_file(origin, hint=meant or fitting) if beside else contextlib.nullcontext():
        _ = problem.placed  # whether they fit
    return problem


def _stand_in(name: str, region: Region, dtype: str | None) -> Array:
    """Return what has the shape and the dtype of an array that is not read, and no size."""
    whole = name in ("mask", "keep") and region.dtype.kind in "biu"
    as_given = region.dtype if name == "mask" else np.dtype(bool)
    return np.broadcast_to(np.zeros((), as_given if whole else dtype or region.dtype), region.shape)


def _tell_of_positions(
    operation: Operation, held: Mapping[str, tuple[TensorFile, str]], sizes: Mapping[str, int]
) -> None:
    """Say so where query and key are turned by their steps, and the file has other positions."""
    for name in ("position_ids", "positions") if operation.rotation is not None else ():
        if name in held:
            source, theirs = held[name]
            array = source.numbers(theirs, known_as=name)
            steps = np.arange(sizes["T_enc"])
            if array.shape[-1:] != steps.shape or not (array == steps).all():
                message = (
                    f"{source.label}: {name} not used: query and key are turned by their steps"
                )
                warnings.warn(message, AttnWarning, stacklevel=4)


def _single_number(name: str, array: Array, origin: str) -> float:
    if array.size != 1:
        raise ShapeError(f"{origin}: {name} is {array.shape}, expected one number")
    return float(array.reshape(()))


def _claim(name: str, result: str, source: TensorFile, theirs: str) -> Claim:
    # NaN and Inf are what one may be looking for: nothing is computed with them.
    array = source.numbers(theirs, known_as=name, allow_nonfinite=True)
    return Claim(name, result, array, source.stored_dtype(theirs, array))


def _masks_for(
    operation: Operation, held: Mapping[str, Any], axes: tuple[str, ...], sizes: Mapping[str, int]
) -> Iterator[str]:
    """Name the masks that the operation takes; say which it does not."""
    for name in MASKS:
        if name not in held:
            continue
        own = default_axes(name) if name != "mask" else ("T_enc",)
        if axes and set(own) <= set(sizes):
            yield name
        else:
            message = f"{name} has no effect on {operation.name}"
            warnings.warn(message, AttnWarning, stacklevel=2)


def extras_in(file: TensorFile, operation: Operation) -> Extras:
    """Read the arrays of a file beside the inputs that the operation takes.

    Raises
    ------
    AttnError
        If of two that belong together one is missing, or they cannot be read.
    """
    names = _beside(operation, file, Extras(), file.label)
    beside = {name: file.numbers(name, allow_nonfinite=True) for name in names}
    with in_file(file.label):
        return extras_of(beside)


def _beside(operation: Operation, held: Container[str], asked: Extras, origin: str) -> list[str]:
    """Name the arrays beside the inputs that the operation takes; say which are not used, and why.

    Raises
    ------
    ParameterError
        If it takes none that an option asks for.
    """
    operation.require_options(Semantics(), asked)
    used = []
    instead = {name: name for name in asked.given()}
    if asked.cu_seqlens is not None:  # of keys too
        instead.setdefault("cu_seqlens_k", "cu_seqlens")
    for name in BESIDE:
        if name not in held:
            continue
        option = name.removesuffix("_dec").removesuffix("_enc")  # of segments
        if option not in operation.options:
            why = f"{name} has no effect on {operation.name}"
        elif option in instead:
            by = instead[option].replace("_", "-")
            why = f"{origin}: {name} not used: --{by} is in its place"
        else:
            used.append(name)
            continue
        warnings.warn(why, AttnWarning, stacklevel=3)
    return used


def _require_keep(semantics: Semantics, extras: Extras, origin: str, left: Iterable[str]) -> None:
    """Raise if there is half of dropout; say so where what stays is not scaled."""
    if semantics.keep_prob is not None and extras.keep is None:
        raise DataError(
            f"{origin}: keep is missing, which weights stay in dropout with --keep-prob "
            f"{semantics.keep_prob:g}",
            hint=renames(["keep"], left)
            or "--rename keep=THEIRS reads an array under another name",
        )
    if semantics.keep_prob is None and extras.keep is not None:
        message = f"{origin}: keep without --keep-prob: weights that stay are not scaled"
        warnings.warn(message, AttnWarning, stacklevel=3)


@contextlib.contextmanager
def in_file(label: str, *, hint: str | None = None) -> Iterator[None]:
    """Say of an error about tensors which file they are in; `hint` is for those without one."""
    try:
        yield
    except (ShapeError, DtypeError, DataError, ParameterError) as error:
        raise type(error)(f"{label}: {error}", hint=error.hint or hint) from None


def layout_of(file: TensorFile) -> Layout | None:
    """Return how the tensors of a run lie in its file; None where no run wrote it."""
    with contextlib.suppress(AttnError):
        operation = OPERATIONS.get(file.options.get("layer", ""))
        if operation is not None and (there := operation.of(file)) is not None:
            ndims = {name: len(file.shape(name)) for name in there.inputs}
            return Setting.of(file.options, file.label).applied(there, ndims)[1]
    return None


def semantics_in(file: TensorFile) -> Semantics:
    """Read the options of the run that wrote a file."""
    return _stored_semantics(file.options, file.label)


def _stored_semantics(options: Mapping[str, Any], origin: str) -> Semantics:
    names = [one.name for one in dataclasses.fields(Semantics)]
    try:
        return Semantics(**{name: options[name] for name in names if name in options})
    except ParameterError as error:
        raise DataError(f"{origin}: its options: {error}") from None


def _semantics(request: Request, options: Mapping[str, Any], origin: str) -> Semantics:
    """Give the options asked for; those not asked for as the run had them."""
    stored = _stored_semantics(options, origin)
    return stored.overridden(request.semantics)


def read_tokens(
    held: Mapping[str, tuple[TensorFile, str]], sizes: Mapping[str, int]
) -> dict[str, Tokens]:
    """Read the tokens of both axes; plain ``tokens`` serve every axis of their number.

    Raises
    ------
    ShapeError
        If those of an axis are not one a step.
    """
    tokens = {}
    axes = {name: axis for name, axis in TOKEN_AXES.items() if axis in sizes}
    for name, axis in axes.items():
        shape = sizes.get("N", 1), sizes[axis]
        own = name if name in held else "tokens"
        if own not in held:
            continue
        source, theirs = held[own]
        texts = source.tokens(theirs)
        if texts.shape in (shape, shape[1:]):
            tokens[name] = texts
        elif own == name:
            raise ShapeError(
                f"{source.label}: {theirs} is {texts.shape}, expected one token a step: "
                f"{describe_shape(shape, ('N', axis))} or {describe_shape(shape[1:], (axis,))}"
            )
    if "tokens" in held and axes and not tokens:
        source = held["tokens"][0]
        steps = " nor ".join(f"{axis} = {sizes[axis]}" for axis in sorted(axes.values()))
        warnings.warn(
            f"{source.label}: tokens is {source.shape('tokens')}, one a step of neither {steps}, "
            "and left out",
            AttnWarning,
            stacklevel=2,
        )
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
    weightless = [x for x in OPERATIONS.values() if not x.parameters]
    candidates = [OPERATIONS[layer]] if layer else weightless[::-1]
    for operation in candidates:
        if (found := operation.of(held)) is not None:
            if not layer:
                _tell_of_parameters(held, origin)
            return found
    if "" in held:
        raise NamelessError(
            f"{origin}: an .npy file holds one array without a name: --hs-enc FILE --hs-dec FILE "
            "say which it is"
        )
    missing, hint = _lacking(candidates, held)
    needed = " and ".join(candidates[0].needed)
    wanted = (
        f"{layer} needs {needed}"
        if layer
        else "expected hs_enc and hs_dec; query, key and value; hs and h; hs and a; or scores"
    )
    if missing:
        wanted = f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} missing: {wanted}"
    raise DataError(f"{origin}: {wanted}; it holds {', '.join(held) or 'nothing'}", hint=hint)


# What may stand for a tensor that is not there: steps that look at themselves, keys as values.
_STANDING_IN = {
    "hs_dec": "hs_enc",
    "hs_enc": "hs_dec",
    "query": "key",
    "key": "value",
    "value": "key",
}


def _lacking(
    candidates: Sequence[Operation], held: Mapping[str, tuple[TensorFile, str]]
) -> tuple[list[str], str]:
    """Say what the nearest operation lacks, and how it could be had."""
    known = {x for one in OPERATIONS.values() for x in one.inputs} | {*MASKS, *BESIDE, *_CLAIMS}
    known |= {*SHORT_NAMES, *TOKEN_AXES, "tokens", "options", "dout", "input_ids", "keep_prob"}
    left = [name for name in held if name not in known]
    lacking = [[x for x in one.needed if x not in held] for one in candidates]
    begun = [
        (missing, one)
        for missing, one in zip(lacking, candidates, strict=True)
        if len(missing) < len(one.needed)
    ]
    begun.sort(key=lambda found: len(found[0]))
    for missing in [*(found[0] for found in begun), *lacking]:
        if hint := renames(missing, left, last=len(missing) == 1 and bool(begun)):
            return missing, hint
    for missing, _ in begun:
        stands = {ours: _STANDING_IN.get(ours, "") for ours in missing}
        if all(other in held for other in stands.values()):
            # A name of the file's own goes on being read under ours only if that is said.
            both = {other: other for other in stands.values()} | stands
            found = {ours: held[other][0].called(held[other][1]) for ours, other in both.items()}
            pairs = (f"{ours}={theirs}" for ours, theirs in found.items())
            return missing, shlex.join(x for pair in pairs for x in ("--rename", pair))
    if held and set(held) <= set(MASKS):
        return [], shlex.join(["attn", "show-mask", next(iter(held.values()))[0].label])
    return begun[0][0] if begun else [], "--rename OURS=THEIRS reads an array under another name"


def _under_own_names(
    layer: Any, held: Mapping[str, tuple[TensorFile, str]]
) -> Mapping[str, tuple[TensorFile, str]]:
    """Give the arrays of a file by the names that a layer has for them: not every v is a value."""
    inputs = OPERATIONS[layer].inputs if layer in OPERATIONS else ()
    own = {long: short for short, long in SHORT_NAMES.items() if short in inputs}
    return {own.get(name, name): found for name, found in held.items()}


def layers_in(held: Mapping[str, Any]) -> list[str]:
    """Name the layers whose own weights are there, and all else that they compute with."""
    return [x for x in WITH_WEIGHTS if OPERATIONS[x].of(_under_own_names(x, held)) is not None]


def _tell_of_parameters(held: Mapping[str, Any], origin: str) -> None:
    """Say so where a file holds a layer's weights too, and nobody asked for that layer."""
    for name in layers_in(held):
        parameters = ", ".join(OPERATIONS[name].parameters)
        warnings.warn(
            f"{origin}: {parameters} not used; --layer {name} computes with them",
            AttnWarning,
            stacklevel=2,
        )


def refuse_contradictions(sizes: Mapping[str, int], found: Mapping[str, int], origin: str) -> None:
    """Raise if a size that was asked for is not the one that was found."""
    for option, size in sizes.items():
        for axis in ("T_dec", "T_enc") if option == "T" and "T_enc" not in sizes else (option,):
            axis = "T_dec" if axis == "T" else axis
            if axis in found and found[axis] != size:
                raise ParameterError(
                    f"--{option.replace('_', '-')} {size} contradicts {origin}: "
                    f"{axis} is {found[axis]}"
                )
