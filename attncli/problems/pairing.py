"""Comparing two files: which tensors go together, and walking through large ones."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from attncli.arrays import Array
from attncli.checking.comparing.budget import ALIASES
from attncli.checking.comparing.comparison import Tensors, compare_all, compare_tensors
from attncli.core.semantics import Semantics
from attncli.errors import AttnWarning, DataError, ParameterError
from attncli.files.contents import TensorFile, hold_tensors, open_tensors
from attncli.files.dtypes import to_numbers
from attncli.files.mapped import release
from attncli.files.reading import Reading
from attncli.problems.from_files import in_file, layout_of, problem_in
from attncli.reports import CompareReport
from attncli.spelling import nearest

# Pages that were read are given back every so many elements.
_RELEASED_AFTER = 1 << 22


@dataclass(frozen=True)
class Selected:
    """Which tensors to compare.

    Attributes
    ----------
    only, ignore : tuple of str
        Names as A has them; no `only` means all.
    names : dict of str to str
        A tensor of A and its name in B.
    """

    only: tuple[str, ...]
    ignore: tuple[str, ...]
    names: dict[str, str]


def compare(
    a: Tensors | str | os.PathLike[str],
    b: Tensors | str | os.PathLike[str],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
) -> CompareReport:
    """Compare two tensors, two mappings of them name by name, two sequences of them, or two files.

    Parameters
    ----------
    a, b : array_like, mapping of str to array_like, sequence of ndarray, str or path
        The candidate and what is expected, of NumPy, torch or JAX: ``numpy.load("run.npz")`` is
        such a mapping, and what backward returns such a sequence, compared one by one.  A tensor
        that only one of them has is a difference.  A text is a file's name, and may stand beside
        what is at hand.
    rtol, atol : float, optional
        An element passes if |a − b| ≤ atol + rtol · |b|.  Defaults: those of
        ``torch.testing.assert_close`` for the dtypes, the larger where they differ.
    equal_nan : bool, default False
        Whether NaN equals NaN.

    Returns
    -------
    CompareReport
        ``report.passed`` is the verdict; ``report.tensors[0].worst_absolute`` where to look.

    Raises
    ------
    AttnError
        If a file cannot be read.
    DtypeError
        If a tensor does not hold real numbers.
    ParameterError
        If a tolerance is negative, or the two have no name in common.
    ShapeError
        If a sequence is no tensor, since its parts are of unequal lengths.

    Examples
    --------
    >>> report = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.5])
    >>> report.passed, report.tensors[0].worst_absolute
    (False, Element(index=(2,), a=3.0, b=3.5))
    >>> compare([1.0, 2.0], [1.0, 2.1], atol=0.2).passed
    True
    """
    tolerances: dict[str, Any] = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    if not (isinstance(a, (str, os.PathLike)) or isinstance(b, (str, os.PathLike))):
        return compare_all(a, b, **tolerances)
    every, reading = Selected((), (), {}), Reading()
    return compare_files(
        _file(a, "A"), _file(b, "B"), every, None, Semantics(), {}, reading,
        lambda done, total: None, **tolerances,
    )  # fmt: skip


def _file(side: Any, label: str) -> str | TensorFile:
    """A file's name, or what is at hand as if it were in one."""
    if isinstance(side, (str, os.PathLike)):
        return os.fspath(side)
    return hold_tensors(side if isinstance(side, Mapping) else {"": side}, label)


def compare_files(
    a: str | TensorFile,
    b: str | TensorFile,
    selected: Selected,
    inputs: str | None,
    claims: Semantics,
    how: Mapping[str, Any],
    reading: Reading,
    progress: Callable[[int, int], None],
    *,
    statistics: bool = True,
    **tolerances: Any,
) -> CompareReport:
    """Compare the tensors of two files; how distances are distributed, only if that is asked for.

    Raises
    ------
    AttnError
        If a file cannot be read, or there is nothing to compare.
    """
    if inputs is None and (claims != Semantics() or any(how.values())):
        asked = {**how, **how["extras"].given(), "extras": None}
        option = next((name for name, x in asked.items() if x), "").replace("_", "-")
        said = claims.described() or f"--{option}"
        raise ParameterError(f"{said}: has a meaning with --budget only")
    # NaN and Inf are what one may be looking for.
    reading = replace(reading, allow_nonfinite=True)
    files = (_Numbers(a, reading), _Numbers(b, replace(reading, rename={})))
    pairs, only_a, only_b = _pairs(files[0], files[1], selected)
    problem = None
    if inputs is not None:
        held = open_tensors(inputs, replace(reading, allow_nonfinite=False, rename={}))
        problem = problem_in(held, semantics=claims, **how)

    layout = layout_of(files[0].file) if problem is None else problem.layout
    compared = []
    total = sum(min(_size(files[0], ours), _size(files[1], theirs)) for ours, theirs in pairs)
    done = 0

    def advance(elements: int) -> None:
        nonlocal done
        done += elements
        progress(done, total)

    for ours, theirs in pairs:
        left, right = files[0].load(ours), files[1].load(theirs)
        dtypes = (files[0].dtype(ours, left), files[1].dtype(theirs, right))
        axes = None if layout is None else layout.axes(ALIASES.get(ours, ours), left.ndim)
        compared.append(
            compare_tensors(
                ours, left, right, dtypes=dtypes, axes=axes, statistics=statistics, blindness=True,
                progress=_walking(left, right, advance), **tolerances,
            )
        )  # fmt: skip
    if problem is not None:
        tensors = {ours: (files[0].load(ours), files[1].load(theirs)) for ours, theirs in pairs}
        budgets = problem.budgets()
        with in_file(held.label):
            compared = budgets.judge_all(compared, tensors, reading.as_dtype)
        if not any(tensor.budget or not tensor.elements for tensor in compared):
            raise DataError(
                f"{inputs}: leads to none of the tensors compared ({', '.join(tensors)})"
            )
    for one in compared:
        if one.blind and one.budget is None:
            warnings.warn(
                f"{one.name}: at this tolerance {', '.join(one.blind)} would agree as well; "
                "--budget allows what rounding explains",
                AttnWarning,
                stacklevel=3,
            )
    return CompareReport(tuple(compared), only_a, only_b)


class _Numbers:
    """The tensors of a file that hold numbers; one without a name is called after its file."""

    def __init__(self, file: str | TensorFile, reading: Reading) -> None:
        self.file = open_tensors(file, reading) if isinstance(file, str) else file
        named = isinstance(file, str) and file != "-"
        self.nameless = PurePath(str(file)).stem if named else "array"
        self.names = {
            entry or self.nameless: entry
            for entry in self.file
            if self.file.entries[entry].dtype.kind not in "USO"
        }

    def load(self, name: str) -> Array:
        """Load or map a tensor; only what no tile can be taken of is converted as a whole."""
        entry = self.file.entries[self.names[name]]
        array = entry.load(self.file.reading.max_memory)
        if array.dtype.kind in "biuf":
            return array
        return to_numbers(array, name, self.file.label, as_dtype=self.file.reading.as_dtype)

    def dtype(self, name: str, loaded: Array) -> str:
        """Name what the numbers are in the file."""
        return self.file.stored_dtype(self.names[name], loaded)


def _size(file: _Numbers, name: str) -> int:
    size = 1
    for length in file.file.shape(file.names[name]):
        size *= length
    return size


def _pairs(
    a: _Numbers, b: _Numbers, selected: Selected
) -> tuple[list[tuple[str, str]], tuple[str, ...], tuple[str, ...]]:
    """Say which tensors are compared, and which names either file alone has."""
    for name in selected.only:
        if name not in a.names:
            near = nearest(name, a.names)
            raise ParameterError(f"--only {name}: {_holds(a)}", hint=near and f"--only {near}")
    for name, theirs in selected.names.items():
        for one, file in ((name, a), (theirs, b)):
            if one not in file.names:
                ours, other = nearest(name, a.names), nearest(theirs, b.names)
                hint = f"--map {ours}={other}" if ours and other else None
                raise ParameterError(f"--map {one}: {_holds(file)}", hint=hint)
    if len(a.names) == len(b.names) == 1 and not (selected.names or selected.ignore):
        return [(next(iter(a.names)), next(iter(b.names)))], (), ()

    wanted = selected.only or tuple(name for name in a.names if name not in selected.ignore)
    pairs = [(name, selected.names.get(name, name)) for name in wanted]
    common = [(ours, theirs) for ours, theirs in pairs if theirs in b.names]
    if selected.only and len(common) < len(pairs):
        missing = next(theirs for _, theirs in pairs if theirs not in b.names)
        raise ParameterError(f"--only {missing}: {_holds(b)}")
    if not wanted and a.names:
        raise DataError(f"nothing is left to compare: {a.file.label} holds {', '.join(a.names)}")
    if not common:
        raise DataError(
            f"{a.file.label} and {b.file.label} have no tensor in common: the first holds "
            f"{', '.join(a.names) or 'none'}, the second {', '.join(b.names) or 'none'}",
            hint=_mapped(a, b),
        )
    if selected.only or "" in (*a.names.values(), *b.names.values()):
        return common, (), ()  # a file of a single array says by itself what is compared
    taken = {theirs for _, theirs in common}
    return (
        common,
        tuple(ours for ours, theirs in pairs if theirs not in b.names),
        tuple(name for name in b.names if name not in taken and name not in selected.ignore),
    )


def _mapped(a: _Numbers, b: _Numbers) -> str:
    """Say which tensors of two files may be the same under other names."""
    found = {name: nearest(name, b.names) for name in a.names}
    pairs = {ours: theirs for ours, theirs in found.items() if theirs}
    pairs = pairs or dict(zip(a.names, b.names, strict=False))
    return " ".join(f"--map {shlex.quote(f'{ours}={theirs}')}" for ours, theirs in pairs.items())


def _holds(file: _Numbers) -> str:
    return f"{file.file.label} holds {', '.join(file.names) or 'no tensor'}"


def _walking(a: Array, b: Array, advance: Callable[[int], None]) -> Callable[[int], None]:
    """Tell of progress, and keep no more of mapped files in memory than is being read."""
    since = 0

    def step(elements: int) -> None:
        nonlocal since
        since += elements
        if since >= _RELEASED_AFTER:
            advance(since)
            release(a)
            release(b)
            since = 0

    return step
