"""A reading judged on the whole file: every item, head and row, each at its own tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log
from typing import NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.budget import HALVES, PRECISIONS, allowances
from attncli.checking.comparing.drift import Throughout
from attncli.checking.conventions.arrangements import of_rows, of_weights
from attncli.checking.conventions.rows import Knobs, Rows
from attncli.checking.conventions.settings import Setting
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.operations import OPERATIONS
from attncli.operations.steps import QKV

_ROUNDINGS = 32  # of a row, in units of what each may be off by
_MOST = 1e-2  # whatever scores are
_AT_ONCE = 1 << 21  # scores

LSE_BASES = {"lse natural": 1.0, "lse in base 2": log(2), "lse in base 10": log(10)}
"""What a log-sum-exp may be the logarithm to, and what it is to be multiplied by."""

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
    """

    fails: Array
    distance: float = 0.0
    square: float = 0.0
    says: dict[str, str] = field(default_factory=dict)

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
) -> Verdict:
    """Hold what a reading predicts against what the file has.

    Parameters
    ----------
    setting : Setting
    knobs : Knobs
    low, high : int or None
        The band that is seen.
    results : Results
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
    off_by_base = {base: np.zeros(shape, bool) for base in LSE_BASES}
    farthest = dict.fromkeys(LSE_BASES, 0.0)
    total = count = 0.0
    for pairs, steps in _parts(N, heads, T_dec, T_enc, results.dtype):
        at = (pairs[:, :1], pairs[:, 1:], steps[None])
        rows = setting.rows(pairs, steps, turned).banded(low, high)
        found, _, logsum = rows.weights(knobs)
        seen = np.asarray(np.isfinite(rows.bias).any(axis=-1))
        predicted = knobs.factor * (found @ rows.value)
        if results.dtype in HALVES:
            room = _in_half(setting, turned, pairs, steps, rows, knobs, results.dtype)
        else:
            room = _exactly(rows, found, logsum, largest[at], results.dtype)
        if setting.arrangement.output is not None:
            off = np.abs(rows.output - predicted).max(axis=-1)
            wrong = ~(off <= abs(knobs.factor) * room.out)
            if not seen.all():
                wrong &= seen
                off = np.where(seen, off, 0.0)
                _look_at_empty(rows, seen, empties, results.dtype)
            held = np.where((wrong | ~seen)[..., None], predicted, rows.output)
            wrong |= room.drifting(held / (knobs.factor or 1.0))
            verdict.fails[at] |= wrong
            finite = off[np.isfinite(off)]
            verdict.distance = max(verdict.distance, float(finite.max(initial=0.0)))
            if finite.size < off.size:
                verdict.distance = np.inf
            total += float(np.sum(((rows.output - predicted) ** 2)[seen & ~wrong]))
            count += float(np.sum(seen & ~wrong)) * predicted.shape[-1]
        if weights is not None:
            off_weights = np.abs(weights[at] - found).max(axis=-1)
            verdict.fails[at] |= ~(off_weights <= room.weights) & seen
            if setting.arrangement.output is None:
                verdict.distance = max(
                    verdict.distance, float(np.nan_to_num(off_weights, nan=np.inf).max())
                )
                total, count = total + float(np.nansum(off_weights**2)), count + off_weights.size
        if lse is not None:
            for base, unit in LSE_BASES.items():
                with np.errstate(invalid="ignore"):
                    off_lse = np.abs(lse[at] * unit - logsum)
                same = lse[at] == logsum
                far = np.where(same, 0, off_lse)
                farthest[base] = max(farthest[base], float(np.nan_to_num(far, nan=np.inf).max()))
                off_by_base[base][at] = ~(same | (off_lse <= room.lse)) & (
                    seen | (knobs.sinks is not None)
                )
    if lse is not None:
        base = min(off_by_base, key=lambda one: int(off_by_base[one].sum()))
        if off_by_base[base].all():
            base = min(farthest, key=lambda one: farthest[one])
            by = f"off by up to {farthest[base]:.2g} if {base.removeprefix('lse ')}"
            verdict.says["lse"] = f"lse in no base ({by})"
        elif off_by_base[base].any():
            verdict.says["lse"] = f"{base}, off by up to {farthest[base]:.2g}"
        else:
            verdict.says["lse"] = base
        if setting.arrangement.output is None and results.weights is None:
            verdict.distance = farthest[base]
        verdict.fails |= off_by_base[base]
    if not any(empties.values()):
        verdict.fails |= _sees_nothing(setting, low, high)
    elif not empties["zeros"]:
        words = next(one for one, fits in empties.items() if fits)
        verdict.says["empty"] = f"rows without a key hold {words}"
    verdict.square = total / count if count else 0.0
    return verdict


class _Room(NamedTuple):
    """How far each row of some results may be off, and the output throughout."""

    out: Array
    weights: Array
    lse: Array
    throughout: Throughout | None = None
    unit: float = 0.0

    def drifting(self, output: Array) -> Array:
        """Say which rows belong to what is off throughout."""
        wrong = self.throughout and self.throughout.judge(output[None], self.unit, fitted=True)
        return wrong.rows[0] if wrong else np.zeros(output.shape[:-1], bool)


def _exactly(rows: Rows, weights: Array, logsum: Array, largest: Array, dtype: str) -> _Room:
    unit = PRECISIONS[dtype].unit
    error = np.minimum(unit * _ROUNDINGS * (1 + largest), _MOST)
    size = (weights @ np.abs(rows.value)).max(axis=-1)
    lse = 4 * error + 8 * unit * (1 + np.abs(logsum))
    return _Room(error * size + 1e-300, error * weights.max(axis=-1) + 1e-300, lse)


def _in_half(
    setting: Setting,
    turned: tuple[Array, Array],
    pairs: Array,
    steps: Array,
    rows: Rows,
    knobs: Knobs,
    dtype: str,
) -> _Room:
    """Give the budget of `attn compare` for some rows, each pair as a head."""
    items, heads = pairs.T
    served = setting.served(heads)
    inputs = {
        "query": turned[0][items, heads][None][:, :, steps],
        "key": turned[1][items, served][None],
        "value": rows.value[None],
    }
    found = allowances(
        OPERATIONS[QKV],
        inputs,
        dtype,
        Semantics(scale=knobs.scale, softcap=knobs.softcap),
        mask=rows.added(knobs.slopes)[None],
        extras=Extras(sinks=None if knobs.sinks is None else knobs.sinks[heads]),
    )
    allowed = [found[x].allowed[0] for x in ("out", "weights", "logsumexp")]
    out, weights = (x.max(axis=-1, initial=0) for x in allowed[:2])
    return _Room(out, weights, allowed[2], found["out"].throughout, PRECISIONS[dtype].unit)


def _parts(N: int, heads: int, T_dec: int, T_enc: int, dtype: str) -> Iterator[tuple[Array, Array]]:
    most = _AT_ONCE // 8 if dtype in HALVES else _AT_ONCE  # which are computed several times
    pairs = np.stack(np.meshgrid(np.arange(N), np.arange(heads), indexing="ij"), -1).reshape(-1, 2)
    rows_at_once = max(1, min(T_dec, most // max(1, T_enc)))
    pairs_at_once = max(1, most // max(1, rows_at_once * T_enc))
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


def _look_at_empty(rows: Rows, seen: Array, empties: dict[str, bool], dtype: str) -> None:
    """Say which of the usual things the rows hold that see nothing."""
    held = rows.output[~seen]
    mean = np.broadcast_to(rows.value.mean(axis=1)[:, None], rows.output.shape)[~seen]
    near = 2e-2 if dtype in HALVES else 1e-5
    room = near * (np.abs(rows.value).max() or 1.0)
    with np.errstate(invalid="ignore"):
        empties["zeros"] &= bool((np.abs(held) <= 1e-30).all())
        empties["the mean of all values"] &= bool((np.abs(held - mean) <= room).all())
        empties["NaN"] &= bool(np.isnan(held).all())


def _sees_nothing(setting: Setting, low: int | None, high: int | None) -> Array:
    N, heads, _, T_dec, T_enc = setting.arrangement.sizes
    found = np.zeros((N, heads, T_dec), bool)
    turned = setting.rotated()
    for pairs, steps in _parts(N, heads, T_dec, T_enc, "float64"):
        rows = setting.rows(pairs, steps, turned).banded(low, high)
        at = (pairs[:, :1], pairs[:, 1:], steps[None])
        found[at] = ~np.isfinite(rows.bias).any(axis=-1)
    return found
