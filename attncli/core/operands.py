"""What a caller hands in, checked and brought into one form for every engine.

Shapes.  ``query (…, T_dec, H)``, ``key (…, T_enc, H)``, ``value (…, T_enc, H_v)``.  The leading
axes broadcast as in NumPy: aligned at the right, an axis of size 1 stretches.  The last leading
axis of a query with at least two of them is the heads axis, and there key and value may also have
fewer heads, if their number divides the query's: key head ``i`` serves the query heads
``i·g … i·g+g−1``.  That case becomes plain broadcasting by splitting the heads axis into
(key heads, g), which is all the engines ever see.

Dtypes.  float16 and bfloat16 are computed in float32 and integers in float64.  Different dtypes
meet in the one that NumPy promotes them to.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from attncli.arrays import Array
from attncli.core.extras import NO_EXTRAS, NOTHING, Extras, Placed
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import DtypeError, ParameterError, ShapeError
from attncli.foreign import to_numpy

Shape = tuple[int, ...]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Operands(NamedTuple):
    """One attention call, ready to compute.

    All arrays have the compute dtype and the same number of leading axes, each of full size or 1.
    ``lead`` is what these broadcast to; ``public_lead`` is the same before heads were split.
    """

    query: Array
    key: Array
    value: Array
    visibility: Visibility
    sinks: Array | None  # broadcastable to the rows
    keep: Array | None  # broadcastable to the weights
    scale: float
    softcap: float | None
    lead: Shape
    public_lead: Shape
    shapes: tuple[Shape, Shape, Shape]  # of query, key and value as they were given
    given_shapes: dict[str, Shape]  # of the mask, sinks and slopes, where there are any
    keep_prob: float  # value is divided by it already
    dtype: np.dtype[Any]  # of the results

    @property
    def pair_nbytes(self) -> int:
        """How many bytes the weights of one (batch, head) pair take."""
        nbytes: int = self.query.shape[-2] * self.key.shape[-2] * self.query.itemsize
        return nbytes

    @property
    def weights_nbytes(self) -> int:
        """How many bytes all weights of the calculation take, kept or not."""
        return math.prod(self.lead) * self.pair_nbytes


def prepare(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: Array | None,
    extras: Extras | Placed,
    semantics: Semantics,
    sizes: tuple[int, int] | None = None,
    part: tuple[slice, slice] | None = None,
) -> Operands:
    """Check one call's arguments and return them in the form the engines expect.

    The mask is boolean or floating, as `attncli.core.visibility.read_mask` gives it.  Of a part of
    a calculation, some queries and keys out of T_dec and T_enc, all arrays hold what belongs to it.

    Raises
    ------
    ShapeError, DtypeError, ParameterError
        As `attncli.core.attention` says.
    """
    if not (type(query) is type(key) is type(value) is ndarray):
        query, key, value = to_numpy(query), to_numpy(key), to_numpy(value)
    shapes = query.shape, key.shape, value.shape
    public_lead, groups = fit(*shapes)
    compute, dtype = dtypes_of(query.dtype, key.dtype, value.dtype)

    T_dec, H = query.shape[-2:]
    T_enc = key.shape[-2]
    sizes = sizes or (T_dec, T_enc)
    scale, softcap = semantics.scale, semantics.softcap
    if scale is None:
        scale = H**-0.5 if compute.itemsize <= 8 else compute.type(H) ** -0.5
    given_shapes = {}
    if mask is not None:
        given_shapes["mask"] = mask.shape
        mask = _split(
            fitting_mask(mask, (*public_lead, T_dec, T_enc), compute), public_lead, groups
        )
    placed, keep_prob = NOTHING, semantics.keep_prob
    given = extras
    if extras is not NO_EXTRAS and extras:
        if isinstance(extras, Extras):
            extras = extras.placed(public_lead, T_dec, T_enc)
        placed = extras.split(lambda x: _split(x, public_lead, groups))
        for name in ("sinks", "alibi"):
            if (array := getattr(placed, name)) is not None:
                if array.dtype.kind == "c":
                    raise DtypeError(f"{name} is {array.dtype}, expected real numbers")
                given_shapes[name] = np.shape(getattr(given, name))
                placed = placed._replace(**{name: array.astype(compute, copy=False)})
    if keep_prob is not None and placed.keep is None:
        raise ParameterError(f"keep_prob is {keep_prob}, and there is no keep to go with it")
    usable_key = usable(key, compute)
    usable_value = usable_key if value is key else usable(value, compute)
    if keep_prob is not None:
        usable_value = usable_value / compute.type(keep_prob)
    return Operands(
        _split(usable(query, compute), public_lead, groups),
        _split(usable_key, public_lead, groups),
        _split(usable_value, public_lead, groups),
        Visibility.of(semantics, *sizes, mask, placed, part),
        None if placed.sinks is None else placed.sinks[..., 0],
        placed.keep,
        scale if compute.itemsize > 8 else float(scale),  # a NumPy scalar would set the dtype
        softcap if softcap is None else float(softcap),
        public_lead if groups == 1 else (*public_lead[:-1], public_lead[-1] // groups, groups),
        public_lead,
        shapes,
        given_shapes,
        1.0 if keep_prob is None else keep_prob,
        dtype,
    )


def prepare_dout(dout: ArrayLike, operands: Operands) -> Array:
    """Check the incoming gradient against the call it belongs to and bring it into its form.

    Raises
    ------
    ShapeError, DtypeError
        If it does not have the shape of ``out``, or no real dtype.
    """
    dout = to_numpy(dout)
    T_dec, H_v = operands.query.shape[-2], operands.value.shape[-1]
    expected = (*operands.public_lead, T_dec, H_v)
    if dout.shape != expected:
        raise ShapeError(f"dout is {dout.shape}, expected the shape of out: {expected}")
    dtypes_of(dout.dtype, dout.dtype, dout.dtype)
    dout = usable(dout, operands.query.dtype)
    return (
        dout if operands.lead == operands.public_lead else dout.reshape(*operands.lead, T_dec, H_v)
    )


def prepare_dlogsumexp(dlogsumexp: ArrayLike, operands: Operands) -> Array:
    """Check the incoming gradient of logsumexp and bring it into the engines' form.

    Raises
    ------
    ShapeError, DtypeError
        If it does not have the shape of ``logsumexp``, or no real dtype.
    """
    array = to_numpy(dlogsumexp)
    expected = (*operands.public_lead, operands.query.shape[-2])
    if array.shape != expected:
        raise ShapeError(
            f"dlogsumexp is {array.shape}, expected the shape of logsumexp: {expected}"
        )
    dtypes_of(array.dtype)
    array = array.astype(operands.query.dtype, copy=False)
    return array.reshape(*operands.lead, expected[-1])


def prepare_out(out: Array, operands: Operands) -> Array:
    """Check where a call is to put its result and return that place in the engines' shape.

    Raises
    ------
    ShapeError, DtypeError
        If it does not have the shape of the result, or not the dtype that is computed in.
    ParameterError
        If it shares memory with what it is computed from.
    """
    T_dec, H_v = operands.query.shape[-2], operands.value.shape[-1]
    expected = (*operands.public_lead, T_dec, H_v)
    if out.shape != expected:
        raise ShapeError(f"out is {out.shape}, expected the shape of the result: {expected}")
    if out.dtype != operands.query.dtype:
        raise DtypeError(f"out is {out.dtype}, expected {operands.query.dtype}, as is computed")
    inputs = {"query": operands.query, "key": operands.key, "value": operands.value}
    for name, x in {**inputs, "mask": operands.visibility.mask}.items():
        if x is not None and np.shares_memory(out, x):
            raise ParameterError(f"out shares memory with {name}, expected memory of its own")
    return out.reshape(*operands.lead, T_dec, H_v)  # splits an axis at most: never a copy


def fit(query: Shape, key: Shape, value: Shape) -> tuple[Shape, int]:
    """Return the leading axes of the result and how many query heads share one key head."""
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) < 2:
            raise ShapeError(f"{name} is {shape}, expected at least two axes: (…, T, H)")
    if query[-1] != key[-1]:
        raise _differ("key", key, "query", query, "H", -1)
    if key[-2] != value[-2]:
        raise _differ("value", value, "key", key, "T_enc", -2)
    if key[-2] == 0:
        raise ShapeError(f"key is {key}: T_enc is 0, and a softmax over no keys has no value")
    if query[-1] == 0:
        raise ShapeError(f"query is {query}: H is 0, so there is nothing to score by")
    if query[:-2] == key[:-2] == value[:-2]:
        return query[:-2], 1

    groups = 1
    if len(query) >= 4:
        shared = max(shape[-3] if len(shape) > 2 else 1 for shape in (key, value))
        if query[-3] > shared > 1:
            groups, rest = divmod(query[-3], shared)
            if rest:
                name, shape = ("key", key) if key[-3:-2] == (shared,) else ("value", value)
                raise ShapeError(
                    f"{name} is {shape}, query is {query}: "
                    f"{query[-3]} query heads cannot be shared out among {shared} {name} heads"
                )
    lead: list[int] = []
    for at in range(3, max(map(len, (query, key, value))) + 1):
        sizes = {}
        for name, shape in (("query", query), ("key", key), ("value", value)):
            size = shape[-at] if at <= len(shape) else 1
            sizes[name] = size * groups if at == 3 and name != "query" and size > 1 else size
        full = next((size for size in sizes.values() if size != 1), 1)
        if sizes["key"] not in (1, full):
            raise _differ("key", key, "query", query, _axis_name(at, len(query)), -at)
        if sizes["value"] not in (1, full):
            other, its = ("query", query) if sizes["key"] == 1 else ("key", key)
            raise _differ("value", value, other, its, _axis_name(at, len(its)), -at)
        lead.insert(0, full)
    return tuple(lead), groups


def _axis_name(at: int, ndim: int) -> str:
    """Name the axis `at` places from the end of an array with `ndim` axes."""
    if ndim == 3:
        return "N"
    if at == 3:
        return "the number of heads"
    return "N" if at == ndim == 4 else f"axis {-at}"


def _differ(name: str, shape: Shape, other: str, its: Shape, axis: str, at: int) -> ShapeError:
    return ShapeError(
        f"{name} is {shape}, {other} is {its}: {axis} differs ({shape[at]} and {its[at]})"
    )


@cache
def dtypes_of(*dtypes: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return (compute dtype, result dtype) of operands with these dtypes."""
    results, computes = [], []
    for dtype in dtypes:
        half = dtype == np.float16 or dtype.name == "bfloat16"
        if dtype.kind in "iub":
            result = np.dtype(np.float64)
        elif dtype.kind == "f" or half:
            result = dtype.newbyteorder("=")
        else:
            raise DtypeError(f"{dtype.name} values have no attention here, expected real numbers")
        results.append(result)
        computes.append(np.dtype(np.float32) if half else result)
    compute = np.result_type(*computes)
    # float16 beside bfloat16 has no common type of its own: their compute dtype is the result's.
    return compute, results[0] if len(set(results)) == 1 else compute


def usable(x: Array, dtype: DTypeLike) -> Array:
    """Return `x` in `dtype`, copied only where products would be slow on it, or round otherwise."""
    x = x.astype(dtype, copy=False)
    if x.flags.c_contiguous and x.flags.aligned:
        return x
    row, step = x.strides[-2:]
    rows_apart = row >= x.shape[-1] * x.itemsize and row % x.itemsize == 0
    if step == x.itemsize and rows_apart and x.flags.aligned:
        return x  # rows in one piece, any distance apart: what BLAS takes as it is
    return np.require(x, requirements=("C", "A"))


def _split(x: Array, lead: Shape, groups: int) -> Array:
    """Give `x` as many leading axes as `lead`, and split heads into (key heads, groups)."""
    missing = len(lead) + 2 - x.ndim
    if not missing and groups == 1:
        return x
    shape = (1,) * missing + x.shape
    if groups > 1:
        heads = shape[-3]
        # Heads of key and value are the shared ones already; each stretches over its group.
        split = (heads // groups, groups) if heads == lead[-1] else (heads, 1)
        shape = (*shape[:-3], *split, *shape[-2:])
    return x.reshape(shape)


def fitting_mask(mask: Array, scores: Shape, compute: np.dtype[Any]) -> Array:
    """Return a mask that fits `scores` as a boolean array or one of the compute dtype."""
    if mask.ndim > len(scores):
        raise ShapeError(f"mask is {mask.shape}, which has more axes than the scores: {scores}")
    for at in range(1, mask.ndim + 1):
        if mask.shape[-at] not in (1, scores[-at]):
            name = ("T_enc", "T_dec")[at - 1] if at < 3 else _axis_name(at, len(scores))
            raise _differ("mask", mask.shape, "the array of scores", scores, name, -at)
    if mask.dtype != bool:
        with np.errstate(over="ignore"):  # −1e300 means −inf to float32 as well
            mask = mask.astype(compute, copy=False)
    return np.atleast_2d(mask)
