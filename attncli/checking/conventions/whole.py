"""A reading judged on the whole file: every item, head and row, each at its own tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from attncli.arrays import Array
from attncli.checking.conventions.arrangements import of_rows, of_weights
from attncli.checking.conventions.rows import Knobs, Rows, softmax
from attncli.checking.conventions.settings import Setting

EXACT = {"float32": 2.0**-24, "float64": 2.0**-53}
UNITS = {**EXACT, "float16": 2.0**-11, "bfloat16": 2.0**-8}
_ROUNDINGS = 32  # of a row, in units of what each may be off by
_MOST = 1e-2  # whatever scores are
_STRAIGHT = 2.0  # times the straightforward formula's error, in half precision
_AT_ONCE = 1 << 21  # scores

EMPTY = ("zeros", "the mean of all values", "NaN")
"""What a row may hold that sees no key at all."""


@dataclass(frozen=True)
class Results:
    """What a file holds that attention gives.

    Attributes
    ----------
    lse, weights : ndarray or None
    dtype : str
        The coarsest precision among inputs and results.
    """

    lse: Array | None
    weights: Array | None
    dtype: str


@dataclass
class Verdict:
    """What became of a reading.

    Attributes
    ----------
    fails : ndarray (N, heads, T_dec) of bool
    distance : float
        The largest difference in the output's unit, over all rows.
    square : float
        The mean square of the differences in the rows that hold.
    says : dict of str to str
        What was found beside: the base of the log-sum-exp, what rows without a key hold.
    broken : bool
        Whether the judgement was given up at the first failure.
    """

    fails: Array
    distance: float = 0.0
    square: float = 0.0
    says: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    @property
    def holds(self) -> bool:
        """Whether it holds everywhere."""
        return not self.fails.any()


def judge(
    setting: Setting,
    knobs: Knobs,
    low: int | None,
    high: int | None,
    results: Results,
    *,
    early: bool = False,
) -> Verdict:
    """Hold what a reading predicts against what the file has.

    Parameters
    ----------
    setting : Setting
    knobs : Knobs
    low, high : int or None
        The band that is seen.
    results : Results
    early : bool, default False
        Give up where it first fails.
    """
    N, heads, _, T_dec, T_enc = setting.arrangement.sizes
    shape = (N, heads, T_dec)
    verdict = Verdict(np.zeros(shape, bool))
    lse = None if results.lse is None else of_rows(results.lse, shape)
    weights = None if results.weights is None else of_weights(results.weights, (*shape, T_enc))
    if (results.lse is not None and lse is None) or (
        results.weights is not None and weights is None
    ):
        verdict.fails[:] = True
        verdict.distance = np.inf
        return verdict
    turned = setting.rotated()
    largest = _largest(setting, turned, knobs)
    empties = dict.fromkeys(EMPTY, True)
    bases = dict.fromkeys(("lse natural", "lse in base 2"), True)
    off_by_base = {base: np.zeros(shape, bool) for base in bases}
    total = count = 0.0
    for pairs, steps in _parts(N, heads, T_dec, T_enc):
        at = (pairs[:, :1], pairs[:, 1:], steps[None])
        rows = setting.rows(pairs, steps, turned).banded(low, high)
        found, _, logsum = rows.weights(knobs)
        seen = np.asarray(np.isfinite(rows.bias).any(axis=-1))
        error = np.minimum(UNITS[results.dtype] * _ROUNDINGS * (1 + largest[at]), _MOST)
        if setting.arrangement.output is not None:
            predicted = found @ rows.value
            off = np.abs(rows.output - predicted).max(axis=-1)
            allowed = _allowed(rows, found, predicted, error, results.dtype, knobs)
            wrong = ~(off <= allowed)
            if not seen.all():
                wrong &= seen
                off = np.where(seen, off, 0.0)
                _look_at_empty(rows, seen, empties, results.dtype)
            verdict.fails[at] |= wrong
            finite = off[np.isfinite(off)]
            verdict.distance = max(verdict.distance, float(finite.max(initial=0.0)))
            if finite.size < off.size:
                verdict.distance = np.inf
            total += float(np.sum(((rows.output - predicted) ** 2)[seen & ~wrong]))
            count += float(np.sum(seen & ~wrong)) * predicted.shape[-1]
        if weights is not None:
            off_weights = np.abs(weights[at] - found).max(axis=-1)
            verdict.fails[at] |= ~(off_weights <= _of_weights(found, error, results.dtype)) & seen
            if setting.arrangement.output is None:
                verdict.distance = max(
                    verdict.distance, float(np.nan_to_num(off_weights, nan=np.inf).max())
                )
                total, count = total + float(np.nansum(off_weights**2)), count + off_weights.size
        if lse is not None:
            room = 4 * error + 8 * UNITS[results.dtype] * (1 + np.abs(logsum))
            for base, unit in (("lse natural", 1.0), ("lse in base 2", np.log(2.0))):
                with np.errstate(invalid="ignore"):
                    off_lse = np.abs(lse[at] * unit - logsum)
                same = lse[at] == logsum
                off_by_base[base][at] = ~(same | (off_lse <= room)) & (
                    seen | (knobs.sinks is not None)
                )
        if early and verdict.fails.any():
            verdict.broken = True
            return verdict
    if lse is not None:
        base = min(off_by_base, key=lambda one: int(off_by_base[one].sum()))
        if off_by_base[base].all():
            verdict.says["lse"] = "lse in no base"
        else:
            verdict.says["lse"] = base
        verdict.fails |= off_by_base[base]
    if not any(empties.values()):
        verdict.fails |= _sees_nothing(setting, low, high)
    elif not empties["zeros"]:
        words = next(one for one, fits in empties.items() if fits)
        verdict.says["empty"] = f"rows without a key hold {words}"
    verdict.square = total / count if count else 0.0
    return verdict


def _parts(N: int, heads: int, T_dec: int, T_enc: int) -> Iterator[tuple[Array, Array]]:
    pairs = np.stack(np.meshgrid(np.arange(N), np.arange(heads), indexing="ij"), -1).reshape(-1, 2)
    rows_at_once = max(1, min(T_dec, _AT_ONCE // max(1, T_enc)))
    pairs_at_once = max(1, _AT_ONCE // max(1, rows_at_once * T_enc))
    for first in range(0, len(pairs), pairs_at_once):
        for start in range(0, T_dec, rows_at_once):
            yield (
                pairs[first : first + pairs_at_once],
                np.arange(start, min(T_dec, start + rows_at_once)),
            )


def _largest(setting: Setting, turned: tuple[Array, Array], knobs: Knobs) -> Array:
    """How large scores may be, for each row: (N, heads, T_dec)."""
    query, key = (np.sqrt(np.einsum("nhtd,nhtd->nht", x, x)) for x in turned)
    longest = key.max(axis=-1)[:, setting.group]
    return np.asarray(abs(knobs.scale) * query * longest[..., None])


def _allowed(
    rows: Rows, weights: Array, predicted: Array, error: Array, dtype: str, knobs: Knobs
) -> Array:
    """How far each row of the output may be off."""
    size = (weights @ np.abs(rows.value)).max(axis=-1)
    if dtype in EXACT:
        return np.asarray(error * size) + 1e-300
    cut = CUTS[dtype]
    straight = np.zeros(size.shape)
    sink = rows.sink(knobs)
    with np.errstate(all="ignore"):
        scores = cut(knobs.scale * cut(rows.products))
        if knobs.bend > 0:
            cap = knobs.bend**-0.5
            scores = cut(cap * cut(np.tanh(cut(scores / cap))))
        rough, _, _ = softmax(cut(scores + rows.bias), sink)
        straight = np.abs(cut(cut(rough) @ rows.value) - predicted).max(axis=-1)
    straight = np.nan_to_num(straight, nan=np.inf)
    # One row's rounding may be small by luck: what is usual in its head is allowed to each.
    share = straight / np.where(size > 0, size, 1)
    usual = np.quantile(np.where(np.isfinite(share), share, 0), 0.9, axis=-1, keepdims=True)
    share = np.maximum(np.where(np.isfinite(share), share, 0), usual)
    return np.asarray(size * (_STRAIGHT * share + 2 * UNITS[dtype]) + 1e-300)


def _of_weights(weights: Array, error: Array, dtype: str) -> Array:
    largest = weights.max(axis=-1)
    if dtype in EXACT:
        return np.asarray(error * largest + 1e-300)
    return np.asarray(largest * 8 * UNITS[dtype] + 1e-300)


def _to_bfloat16(x: Array) -> Array:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x).astype(np.float64)


def _to_float16(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float64)


CUTS: dict[str, Callable[[Array], Array]] = {"bfloat16": _to_bfloat16, "float16": _to_float16}


def _look_at_empty(rows: Rows, seen: Array, empties: dict[str, bool], dtype: str) -> None:
    """Say which of the usual things the rows hold that see nothing."""
    held = rows.output[~seen]
    mean = np.broadcast_to(rows.value.mean(axis=1)[:, None], rows.output.shape)[~seen]
    near = 1e-5 if dtype in EXACT else 2e-2
    room = near * (np.abs(rows.value).max() or 1.0)
    with np.errstate(invalid="ignore"):
        empties["zeros"] &= bool((np.abs(held) <= 1e-30).all())
        empties["the mean of all values"] &= bool((np.abs(held - mean) <= room).all())
        empties["NaN"] &= bool(np.isnan(held).all())


def _sees_nothing(setting: Setting, low: int | None, high: int | None) -> Array:
    N, heads, _, T_dec, T_enc = setting.arrangement.sizes
    found = np.zeros((N, heads, T_dec), bool)
    turned = setting.rotated()
    for pairs, steps in _parts(N, heads, T_dec, T_enc):
        rows = setting.rows(pairs, steps, turned).banded(low, high)
        at = (pairs[:, :1], pairs[:, 1:], steps[None])
        found[at] = ~np.isfinite(rows.bias).any(axis=-1)
    return found
