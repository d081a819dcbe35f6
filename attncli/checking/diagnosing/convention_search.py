"""Find the convention under which somebody computed attention: every combination is tried.

The first item of the batch is enough to tell them apart, and of long sequences a few rows.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import DataError, ShapeError
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Step
from attncli.reports import Convention, ConventionReport

_TOLERANCES = {
    dtype: Tolerance.of_largest(relative, equal_nan=False)
    for dtype, relative in (("float16", 5e-3), ("float32", 1e-4), ("float64", 1e-9))
}
_SOFTCAPS = (None, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
_ROWS = 24  # of a longer sequence: the first, the last and some between
_MOST = 3

_LAYOUTS: dict[int, dict[str, tuple[int, ...]]] = {
    4: {
        "(N, heads, T, H)": (0, 1, 2, 3),
        "(N, T, heads, H)": (0, 2, 1, 3),
        "(T, N, heads, H)": (1, 2, 0, 3),
        "(heads, N, T, H)": (1, 0, 2, 3),
    },
    3: {
        "(N, T, H)": (0, 1, 2),
        "(heads, T, H)": (0, 1, 2),
        "(T, N, H)": (1, 0, 2),
        "(T, heads, H)": (1, 0, 2),
    },
    2: {"(T, H)": (0, 1)},
}  # fmt: skip


class _Arrays(NamedTuple):
    """Query, key, value and output as (heads, T, H), of one item, and which rows are looked at."""

    query: Array
    key: Array
    value: Array
    output: Array
    rows: Array
    lead: tuple[int, ...]


def find_convention(
    tensors: Mapping[str, Array],
    claims: Semantics = Semantics(),  # noqa: B008 (it is frozen)
) -> ConventionReport:
    """Find the combination of options that leads from query, key and value to an output.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        ``query``, ``key``, ``value`` and ``output`` (or ``out``); ``mask`` or ``enc_mask`` if
        there was one.
    claims : Semantics, optional
        A scale and a softcap to try beside the usual ones.

    Returns
    -------
    ConventionReport

    Raises
    ------
    DataError
        If one of them is missing.
    ShapeError
        If no layout fits their shapes.

    Examples
    --------
    >>> from attncli.core import attention
    >>> from attncli.tensors import random_tensor
    >>> given = {x: random_tensor(x, (2, 5, 4)) for x in ("query", "key", "value")}
    >>> given["output"], _ = attention(**given, causal="upper_left")
    >>> find_convention(given).found[0].described
    'causal upper_left, scale 1/√H, layout (N, T, H)'
    """
    tensors = dict(tensors)
    if "out" in tensors:
        tensors.setdefault("output", tensors["out"])
    for name in ("query", "key", "value", "output"):
        if name not in tensors:
            held = ", ".join(tensors) or "nothing"
            raise DataError(
                f"{name} is missing: expected query, key, value and output, and there is {held}",
                hint="--rename output=THEIRS reads an array under another name",
            )
    tolerance = _TOLERANCES.get(tensors["output"].dtype.name, _TOLERANCES["float32"])
    tried, best = 0, []
    with np.errstate(all="ignore"):  # a wrong reading may give any numbers
        for layout, arrays in _readings(tensors):
            for convention in _conventions(layout, arrays, tensors, claims, tolerance):
                tried += 1
                best.append(convention)
    if not best:
        shapes = ", ".join(f"{x} {tensors[x].shape}" for x in ("query", "key", "value", "output"))
        raise ShapeError(f"no layout fits the shapes: {shapes}")
    found = [convention for convention in best if convention.distance <= tolerance.relative]
    # The simplest first: what has the fewest words, since each is one more assumption.
    found.sort(key=lambda convention: len(convention.described))
    nearest = min(best, key=lambda convention: convention.distance)
    return ConventionReport(tried, tolerance.relative, tuple(found[:_MOST]), nearest)


def _readings(tensors: Mapping[str, Array]) -> Iterator[tuple[str, _Arrays]]:
    """Read the axes in every way in which the shapes fit each other."""
    ndim = tensors["query"].ndim
    for layout, order in _LAYOUTS.get(ndim, {}).items():
        try:
            query, key, value, output = (
                tensors[x].transpose(order).astype(np.float64)
                for x in ("query", "key", "value", "output")
            )
        except ValueError:  # another number of axes
            continue
        lead = query.shape[:-2]
        if ndim == 4 and order[:2] == (1, 0) and 1 in lead:
            continue  # with one item or one head it is the first layout again
        if ndim == 3 and "heads" in layout and query.shape[0] == key.shape[0]:
            continue  # heads and items differ only where heads are grouped
        items_fit = ndim == 2 or "N" not in layout or query.shape[0] == key.shape[0]
        fits = (
            items_fit
            and query.shape[-1] == key.shape[-1]
            and key.shape[-2] == value.shape[-2]
            and output.shape == (*lead, query.shape[-2], value.shape[-1])
            and key.shape[:-2] == value.shape[:-2]
        )
        if not fits:
            continue
        if ndim == 4:
            query, key, value, output = (x[0] for x in (query, key, value, output))
        elif ndim == 2:
            query, key, value, output = (x[None] for x in (query, key, value, output))
        elif layout.startswith(("(N", "(T, N")):
            # Items are computed each by itself, so one is enough; heads may be grouped.
            query, key, value, output = (x[:1] for x in (query, key, value, output))
        if query.shape[0] % key.shape[0]:
            continue
        T_dec = query.shape[-2]
        rows = np.unique(np.linspace(0, T_dec - 1, min(T_dec, _ROWS)).astype(int))
        yield layout, _Arrays(query, key, value, output, rows, lead)


def _conventions(
    layout: str,
    arrays: _Arrays,
    tensors: Mapping[str, Array],
    claims: Semantics,
    tolerance: Tolerance,
) -> Iterator[Convention]:
    heads, T_dec, H = arrays.query.shape
    key_heads, T_enc = arrays.key.shape[:2]
    groups = heads // key_heads
    grouping = {"groups repeated": np.arange(heads) // groups}
    if groups == 1:
        grouping = {"": np.arange(heads)}
    elif key_heads > 1:
        grouping["groups tiled"] = np.arange(heads) % key_heads
    scales = {
        "scale 1/√H": H**-0.5, "scale 1": 1.0, "scale 1/H": 1 / H, "scale √H": H**0.5,
        "scale 1/√T": T_enc**-0.5, "scale 1/√(heads · H)": (heads * H) ** -0.5,
    }  # fmt: skip
    if claims.scale is not None:
        scales[f"scale {claims.scale:g}"] = claims.scale
    caps = dict.fromkeys((*_SOFTCAPS, claims.softcap))
    orders: dict[str, str | None] = {
        "": None,
        "causal upper_left": "upper_left",
        "causal lower_right": "lower_right",
    }
    if T_dec == T_enc:
        del orders["causal lower_right"]  # the same
    query = arrays.query[:, arrays.rows]
    for grouped, served in grouping.items():
        key, value = arrays.key[served], arrays.value[served]
        # What all readings have in common is computed once.
        scores = query @ key.swapaxes(-1, -2)
        masks = list(_masks(tensors, arrays))
        for (scale, factor), (causal, order), cap, (reading, mask) in product(
            scales.items(), orders.items(), caps, masks
        ):
            band = Visibility.of(Semantics(causal=order), T_dec, T_enc).pattern()[arrays.rows]
            steps = {**PRODUCTS, "query_key": _known(scores), "band": _known(band)}
            semantics = Semantics(scale=factor, softcap=cap)
            calculation = Calculation(QKV, (query, key, value), semantics, mask, steps)
            out = calculation.forward()["out"]
            yield Convention(
                scale,
                causal,
                reading,
                f"layout {layout}",
                grouped,
                "" if cap is None else f"softcap {cap:g}",
                near(out, arrays.output[:, arrays.rows], tolerance).relative,
            )


def _known(value: Array) -> Step:
    """Make the step that gives what is known already."""
    return lambda c: value


def _masks(tensors: Mapping[str, Array], arrays: _Arrays) -> Iterator[tuple[str, Array | None]]:
    """Read the mask in every way: in words, and what it is then."""
    mask = tensors.get("mask")
    if mask is None and "enc_mask" in tensors:
        mask = tensors["enc_mask"]
        if mask.ndim == 2:  # (N, T_enc)
            mask = mask[0] if mask.shape[0] == tensors["query"].shape[0] else mask
    if mask is None:
        yield "", None
        return
    T_dec, T_enc = arrays.query.shape[-2], arrays.key.shape[-2]
    for label, turned in (
        ("", mask),
        (" transposed", mask.swapaxes(-1, -2) if mask.ndim > 1 else None),
    ):
        if turned is None:
            continue
        if label and turned.shape == mask.shape and np.array_equal(turned, mask):
            continue
        part = _of_first_item(turned, arrays, T_dec, T_enc)
        if part is None:
            continue
        part = part[..., arrays.rows, :]
        if part.dtype.kind == "f":
            yield f"mask{label} added", part
        if part.dtype.kind in "biu" or np.isin(part, (0, 1)).all():
            keep = part.astype(bool)
            yield f"mask{label} True = takes part", keep
            yield f"mask{label} True = hidden", ~keep
    yield "mask ignored", None


def _of_first_item(mask: Array, arrays: _Arrays, T_dec: int, T_enc: int) -> Array | None:
    """Broadcast a mask to (heads or 1, T_dec, T_enc) of the first item, or give None."""
    heads = arrays.query.shape[0]
    if mask.ndim == 4:
        mask = mask[0]
    elif (mask.ndim == 3 and mask.shape[0] not in (1, heads)) or (
        mask.ndim == 3 and len(arrays.lead) > 1 and mask.shape[0] == arrays.lead[0]
    ):
        mask = mask[:1]
    try:
        return np.broadcast_to(mask, (mask.shape[0] if mask.ndim == 3 else 1, T_dec, T_enc))
    except ValueError:
        return None
