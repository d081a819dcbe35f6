"""What somebody dumped from their own code, and by which semantics it was computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.readings import find_convention, require
from attncli.core.semantics import Semantics
from attncli.errors import DataError, ParameterError
from attncli.files.contents import TensorFile, hold_tensors, open_tensors
from attncli.files.reading import Reading
from attncli.operations.layout import Words, parse_layout
from attncli.problems.beside import BESIDE, SPELLINGS
from attncli.problems.from_files import in_file
from attncli.reports import ConventionReading, ConventionReport

_RESULTS = ("out", "lse", "weights")
# What a file may call the tensors that a convention is read from, by our names.
NAMES: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "hs_dec"),
    "key": ("key", "hs_enc"),
    "value": ("value", "hs_enc"),
    "out": ("out", "output", "o", "attn_output"),
    "lse": ("lse", "logsumexp"),
    "weights": ("weights", "attn_weights", "attention_weights"),
    **{name: (name,) for name in ("mask", "enc_mask", *BESIDE) if name != "keep"},
}
_READ = ("hs_dec", "hs_enc", "output", "logsumexp")  # by ``attn forward`` too
_SAMPLE = 64  # numbers that are no accident


def convention(
    dumped: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    /,
    *,
    scale: float | None = None,
    causal: str | None = None,
    align: str | None = None,
    window: int | tuple[int, int] | None = None,
    softcap: float | None = None,
    layout: str | None = None,
    rename: Mapping[str, str] | None = None,
    **tensors: Any,
) -> ConventionReport:
    """Find by which semantics somebody's results follow from their inputs.

    Parameters
    ----------
    dumped : str, path, or mapping of str to array_like, optional
        A file, or tensors by name; what ``numpy.load`` gives is such a mapping.
    scale, causal, align, window, softcap
        What is known already, as `attncli.attention` has it: readings that differ are left out.
    layout : str, optional
        The axes, if they are known: as ``"N,T,heads,H"``, or ``"query=…,key=…"``.
    rename : mapping of str to str, optional
        Our name of a tensor, and the one that it goes by.
    **tensors
        The tensors instead: ``q=…, k=…, v=…, out=…``, and whatever bears on the result, as
        ``attn guide files`` names it.  Arrays of NumPy, torch or JAX.

    Returns
    -------
    ConventionReport
        True if a reading holds for the whole; ``report.readings`` lists them, the simplest first.

    Raises
    ------
    AttnError
        If there are not both inputs and a result, they do not fit, or a file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from attncli.core import attention
    >>> q, k, v = np.random.default_rng(0).normal(size=(3, 2, 3, 7, 5))
    >>> out, _ = attention(q, k, v, causal="upper_left", scale=0.3)
    >>> report = convention(q=q, k=k, v=v, out=out)
    >>> report.readings[0].options["causal"], round(report.readings[0].options["scale"], 6)
    ('upper_left', 0.3)
    """
    reading = Reading(rename=rename or {})
    claims = Semantics(scale, causal, align, window, softcap)
    axes = None if layout is None else parse_layout(layout)
    if isinstance(dumped, (str, os.PathLike)):
        if tensors:
            raise ParameterError(f"{', '.join(tensors)}: expected a file, or tensors, not both")
        return read_convention(os.fspath(dumped), reading, claims, axes)
    held = hold_tensors({**(dumped or {}), **tensors}, "the tensors", reading)
    return _convention_in(held, claims, axes)


def read_convention(
    name: str, reading: Reading, claims: Semantics, layout: Mapping[str, Words] | None = None
) -> ConventionReport:
    """Find by which semantics the results in a file follow from its inputs.

    Raises
    ------
    AttnError
        If it does not hold both, or they do not fit each other.
    """
    return replace(_convention_in(open_tensors(name, reading), claims, layout), file=name)


def _convention_in(
    file: TensorFile, claims: Semantics, layout: Mapping[str, Words] | None
) -> ConventionReport:
    found = dict(_found(file))
    held = {
        # Of a mask −inf is a number, whatever it is called.
        ours: file.numbers(
            theirs,
            known_as=ours if ours == "mask" else theirs,
            allow_nonfinite=ours in (*_RESULTS, "value"),
        )
        for ours, theirs in found.items()
    }
    stored = {ours: file.stored_dtype(theirs, held[ours]) for ours, theirs in found.items()}
    notes = []
    dtype = _coarsest(stored)
    if dtype not in ("bfloat16", "float16") and (narrow := _narrow(held)):
        notes.append(f"the results hold {narrow} numbers, and are judged at that precision")
        dtype = narrow
    unused = [x for x in file if x not in found.values() and x not in ("options", "dout")]
    unused = [x for x in unused if not x.startswith("tokens")]
    if unused:
        notes.append(f"not used: {', '.join(unused)}")
    with in_file(file.label):
        require(held, unused)
        report = find_convention(held, dtype, claims, layout)
    readings = tuple(_finished(one, found, file.reading) for one in report.readings)
    return replace(report, readings=readings, notes=(*report.notes, *notes))


def _finished(
    one: ConventionReading, found: Mapping[str, str], reading: Reading
) -> ConventionReading:
    """Give the command what it takes to read the file as it was read here."""
    if one.command is None:
        return one
    given = [f"--rename {ours}={theirs}" for ours, theirs in reading.rename.items()]
    renamed = {x: theirs for x, theirs in found.items() if theirs not in (x, *_READ)}
    given += [f"--rename {ours}={theirs}" for ours, theirs in renamed.items()]
    given += [f"--as-dtype {reading.as_dtype}"] * (reading.as_dtype is not None)
    if found["query"] == "hs_dec" and "--scale" not in one.command:  # the book's is 1
        given.append(f"--scale {one.options['scale']!r}")
    return replace(one, command=" ".join([*given, one.command]).strip())


def _found(file: TensorFile) -> Iterator[tuple[str, str]]:
    taken = set[str]()
    for ours, own in NAMES.items():
        names = (*own, *(theirs for theirs, name in SPELLINGS.items() if name == ours))
        here = [name for name in names if name in file]
        if len(here) > 1 and ours in _RESULTS:
            raise DataError(f"{file.label}: {here[0]} and {here[1]} are one and the same result")
        if here and not (ours in ("mask", "enc_mask") and here[0] in taken):
            taken.add(here[0])
            yield ours, here[0]


def _coarsest(stored: Mapping[str, str]) -> str:
    """Name the coarsest precision among inputs and results."""
    held = [stored[x] for x in ("query", "key", "value", *_RESULTS) if x in stored]
    return next((one for one in ("bfloat16", "float16", "float32") if one in held), "float64")


def _narrow(held: Mapping[str, Array]) -> str:
    """Say which half precision the numbers of a wider array are of, if all of them are."""
    results = [held[x] for x in _RESULTS if x in held]
    for name, digits in (("bfloat16", 8), ("float16", 11)):
        narrow = True
        for x in results:
            numbers = x[np.isfinite(x) & (x != 0)].astype(np.float64)
            mantissas = np.frexp(numbers)[0] * 2.0**digits
            # Numbers of few digits, such as 0.5, may be so by themselves.
            varied = np.unique(mantissas).size > min(_SAMPLE, numbers.size // 2)
            narrow &= varied and bool((mantissas == np.round(mantissas)).all())
        if narrow and results:
            return name
    if results and all(x.dtype == np.float64 for x in results):
        wide = [x[np.isfinite(x)] for x in results]
        if all((x == x.astype(np.float32)).all() for x in wide) and any(x.size for x in wide):
            return "float32"
    return ""
