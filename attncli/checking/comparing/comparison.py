"""How far two tensors are apart, where, and at what tolerance they would agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import TORCH, Tolerance, computed_in, tiles
from attncli.checking.comparing.blindness import blind_to
from attncli.checking.comparing.places import patterns, places
from attncli.checking.comparing.tally import Tally, bin_values
from attncli.errors import DtypeError, ParameterError, ShapeError
from attncli.foreign import dtype_name, holding, to_numpy
from attncli.reports import CompareReport, TensorComparison
from attncli.tensors import axes_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Tensors: TypeAlias = "ArrayLike | Mapping[str, ArrayLike] | Sequence[ArrayLike]"

_QUANTILES = (0.5, 0.9, 0.99, 1.0)
# Patterns such as a transposition are looked for in tensors up to this size.
_SMALL = 1 << 20
_COARSEST_FIRST = ("bfloat16", "float16", "float32", "float64")


def compare_all(
    a: Tensors, b: Tensors, *, statistics: bool = True, **tolerances: Any
) -> CompareReport:
    """Compare two tensors, two mappings name by name, or two sequences: as `attncli.compare`."""
    ours, theirs = _by_name(a, b)
    common = [name for name in ours if name in theirs]
    if not common:
        raise ParameterError(
            f"no name in common: A holds {', '.join(ours) or 'nothing'}, "
            f"B holds {', '.join(theirs) or 'nothing'}"
        )
    compared = []
    for name in common:
        (left, dtype), (right, other) = (_array(name, side[name]) for side in (ours, theirs))
        how = {"statistics": statistics, "blindness": statistics, **tolerances}
        how |= {"dtypes": (dtype, other)}
        compared.append(compare_tensors(name, left, right, **how))
    return CompareReport(
        tuple(compared),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
    )


def assert_close(
    actual: Tensors,
    expected: Tensors,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
) -> None:
    """Raise AssertionError, with the message of ``attn compare``, unless two tensors agree.

    Parameters
    ----------
    actual, expected, rtol, atol, equal_nan
        As `attncli.compare`.

    Examples
    --------
    >>> assert_close([1.0, 2.0], [1.0, 2.0 + 1e-9])
    >>> assert_close((np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(3)))
    >>> try:
    ...     assert_close([1.0, 2.0], [1.0, 2.5])
    ... except AssertionError as error:
    ...     print(error)
    array: 1 of 2 elements outside rtol 1e-07, atol 1e-07
      largest |a - b| 0.5 at [1]: 2.0, expected 2.5
      only at axis 0, index 1 of 2
      would pass at atol 0.5 or rtol 0.2
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    tolerances = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    report = compare_all(actual, expected, statistics=False, **tolerances)
    failed = [describe(tensor) for tensor in report.tensors if not tensor.passed]
    failed += [
        [f"only in {side}: {', '.join(names)}"]
        for side, names in (("A", report.only_a), ("B", report.only_b))
        if names
    ]
    if failed:
        raise AssertionError("\n".join(line for lines in failed for line in lines))


def compare_tensors(
    name: str,
    a: Array,
    b: Array,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    dtypes: tuple[str, str] | None = None,
    axes: Sequence[str] | None = None,
    statistics: bool = False,
    blindness: bool = False,
    progress: Callable[[int], None] | None = None,
) -> TensorComparison:
    """Compare two tensors tile by tile; of mapped files only a tile is in memory at a time.

    Parameters
    ----------
    name : str
        Known names have known axes, which the places of errors are described by.
    a, b : ndarray
    rtol, atol, equal_nan
        As `attncli.compare`.
    dtypes : pair of str, optional
        What the numbers were before they were widened; default: the arrays' own dtypes.
    axes : sequence of str, optional
        The names of the axes, where they are not those that a tensor of this name has.
    statistics : bool, default False
        Whether to tell how the distances are distributed, which takes about as long again.
    blindness : bool, default False
        Whether to tell what else would agree at a tolerance that was given.
    progress : callable, optional
        Called with the number of elements after each tile.

    Raises
    ------
    DtypeError
        If a tensor does not hold real numbers.
    ParameterError
        If a tolerance is negative or NaN.
    """
    dtypes = dtypes or (_name(a.dtype), _name(b.dtype))
    a, b = (x.astype(np.float32) if x.dtype.name == "bfloat16" else x for x in (a, b))
    for array in (a, b):
        if array.dtype.kind not in "biuf":
            raise DtypeError(f"{name} is {array.dtype}, expected real numbers")
    tolerance = Tolerance.of_dtypes(*dtypes, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if a.shape != b.shape:
        problem = f"shapes differ: {a.shape} and {b.shape}"
        return TensorComparison(
            name,
            (a.shape, b.shape),
            dtypes,
            problem=problem,
            rtol=tolerance.relative,
            atol=tolerance.absolute,
        )
    # Walking along memory, whichever order it is in.
    turned = a.ndim > 1 and all(x.flags.f_contiguous and not x.flags.c_contiguous for x in (a, b))
    left, right = (a.T, b.T) if turned else (np.atleast_1d(a), np.atleast_1d(b))

    steps = _coarser(*dtypes) if statistics else None
    tally = Tally(left.shape, tolerance, tolerance.floor(b), steps)
    common = computed_in(a.dtype, b.dtype)
    for where in tiles(left.shape):
        part_a, part_b = (np.asarray(x[where]).astype(common, copy=False) for x in (left, right))
        if part_a.size:
            tally.add(part_a, part_b, where)
        if progress is not None:
            progress(part_a.size)
    axes = axes or axes_of(name, b.ndim)
    report = _report(name, a, b, dtypes, tally, turned, axes)
    if not blindness or (rtol is None and atol is None):
        return report
    usual = Tolerance.of_dtypes(*dtypes, equal_nan=equal_nan)
    return replace(report, blind=blind_to(b, tolerance, usual, axes))


def describe(tensor: TensorComparison) -> list[str]:
    """Say in a few lines how two tensors differ.

    Examples
    --------
    >>> describe(compare_tensors("h", np.zeros((1, 2)), np.zeros((2, 1))))
    ['h: shapes differ: (1, 2) and (2, 1)']
    """
    if tensor.problem is not None:
        return [f"{tensor.name}: {tensor.problem}"]
    lines = [
        f"{tensor.name}: {tensor.outside} of {tensor.elements} elements outside "
        f"rtol {tensor.rtol:g}, atol {tensor.atol:g}"
    ]
    if (worst := tensor.worst_absolute) is not None:
        lines.append(
            f"  largest |a - b| {tensor.max_absolute:.6g} at {list(worst.index)}: "
            f"{worst.a!r}, expected {worst.b!r}"
        )
    if tensor.nonfinite:
        first = tensor.nonfinite[0]
        counts = {"in A": tensor.nan_a, "in B": tensor.nan_b, "in both": tensor.nan_both}
        nans = ", ".join(f"{count} NaN {where}" for where, count in counts.items() if count)
        infinities = f"{tensor.infinite} infinite" if tensor.infinite else ""
        what = ", ".join(filter(None, (nans, infinities)))
        lines.append(f"  {what}; the first at {list(first.index)}: {first.a!r}, {first.b!r}")
    lines += [f"  {place}" for place in tensor.places]
    if np.isfinite(tensor.needed_atol):
        relative = f" or rtol {tensor.needed_rtol:g}" if tensor.needed_rtol < np.inf else ""
        lines.append(f"  would pass at atol {tensor.needed_atol:g}{relative}")
    return lines


def _report(
    name: str,
    a: Array,
    b: Array,
    dtypes: tuple[str, str],
    tally: Tally,
    turned: bool,
    axes: Sequence[str] | None,
) -> TensorComparison:
    shape = a.shape

    def as_given(element: Any) -> Any:
        if element is None or not (turned or shape == ()):
            return element
        return type(element)(element.index[::-1] if shape else (), element.a, element.b)

    found: tuple[str, ...] = ()
    if tally.outside:
        counts = tally.wrong_along[::-1] if turned else tally.wrong_along
        found = places(counts, axes)
        if a.size <= _SMALL:
            found += patterns(np.asarray(a), np.asarray(b))
    count, tolerance = max(1, tally.finite), tally.tolerance
    return TensorComparison(
        name=name,
        shapes=(a.shape, b.shape),
        dtypes=dtypes,
        axes=None if axes is None else tuple(axes),
        elements=a.size,
        rtol=tolerance.relative,
        atol=tolerance.absolute,
        torch_defaults=tolerance == Tolerance.of_dtypes(*dtypes, equal_nan=tolerance.equal_nan),
        outside=tally.outside,
        max_absolute=max(0.0, tally.max_absolute),
        mean_absolute=tally.sum_absolute / count,
        max_relative=max(0.0, tally.max_relative),
        mean_relative=tally.sum_relative / count,
        worst_absolute=as_given(tally.worst_absolute),
        worst_relative=as_given(tally.worst_relative),
        ulp_dtype=tally.ulp_dtype or "",
        ulps=_quantiles(tally),
        histogram=_decades(tally),
        nan_a=tally.nan_a,
        nan_b=tally.nan_b,
        nan_both=tally.nan_both,
        infinite=tally.infinite,
        nonfinite=tuple(map(as_given, tally.nonfinite)),
        places=found,
        needed_atol=_rounded_up(tally.needed_atol) if tally.outside else 0.0,
        needed_rtol=_rounded_up(tally.needed_rtol) if tally.outside else 0.0,
    )


def _quantiles(tally: Tally) -> tuple[tuple[float, float], ...]:
    total = int(tally.ulp_bins.sum())
    if not total:
        return ()
    reached = np.cumsum(tally.ulp_bins)
    values = bin_values()
    return tuple((q, float(values[np.searchsorted(reached, q * total)])) for q in _QUANTILES)


def _decades(tally: Tally) -> tuple[tuple[int | None, int], ...]:
    """Gather the fine bins into powers of ten."""
    filled = np.flatnonzero(tally.absolute_bins)
    # The largest number of each bin decides, so that 10^k stays in its decade: numbers within one
    # percent below it share its bin, and are counted there.  The last bin is of all beyond.
    ends = np.append(bin_values()[1:], np.inf)
    largest = np.nextafter(np.fmin(ends, np.finfo(np.float32).max), 0.0)
    found: dict[int | None, int] = {}
    for index in filled.tolist():
        decade = None if index == 0 else int(np.floor(np.log10(largest[index])))
        found[decade] = found.get(decade, 0) + int(tally.absolute_bins[index])
    return tuple(found.items())


def _rounded_up(value: float) -> float:
    """Round up to three digits, so that the tolerance shown does pass."""
    if not np.isfinite(value) or value <= 0:
        return max(value, 0.0)
    step = 10.0 ** (np.floor(np.log10(value)) - 2)
    if step < np.finfo(np.float64).tiny:  # subnormal: there are no three digits
        return value
    return float(f"{np.ceil(value / step * (1 - 1e-12)) * step:.3g}")


def _by_name(a: Tensors, b: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bring both sides to the same form: tensors by their names."""
    named = [isinstance(side, Mapping) for side in (a, b)]
    if all(named):
        return dict(cast(Any, a)), dict(cast(Any, b))
    if any(named):
        raise ParameterError("one is a mapping of tensors and the other is none")
    # A list of arrays beside one array is that array in parts.
    if _holds_arrays(a) and _holds_arrays(b):
        return _numbered(a), _numbered(b)
    return {"array": a}, {"array": b}


def _holds_arrays(tensors: Any) -> bool:
    """Whether these are several arrays, and not the numbers of one."""
    return isinstance(tensors, (tuple, list)) and any(
        (isinstance(one, np.ndarray) or holding(one)) and one.ndim for one in tensors
    )


def _numbered(arrays: Any) -> dict[str, Any]:
    return {f"[{number}]": array for number, array in enumerate(arrays)}


def _array(name: str, value: Any) -> tuple[Array, str]:
    """Give a tensor as an array, and its dtype before it was widened for NumPy."""
    try:
        array, library = to_numpy(value), holding(value)
    except ValueError:
        raise ShapeError(
            f"{name} is a sequence of unequal lengths, expected one tensor",
            hint="where both sides are sequences of arrays, or dicts, they are compared one by one",
        ) from None
    return array, _name(array.dtype) if library is None else dtype_name(value)


def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.name in TORCH or dtype.kind != "f" else "longdouble"


def _coarser(*dtypes: str) -> str:
    """The dtype with the larger steps; float64 for what has none of its own."""
    floating = [dtype for dtype in _COARSEST_FIRST if dtype in dtypes]
    if floating:
        return floating[0]
    return "float64" if "longdouble" in dtypes else dtypes[0]
