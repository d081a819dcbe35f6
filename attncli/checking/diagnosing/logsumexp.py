"""The log-sum-exp that a target gives beside out: of these scores, or of which others."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import near
from attncli.checking.comparing.rounding import UNITS, beyond
from attncli.checking.diagnosing.cases import Case
from attncli.checking.diagnosing.observing import Observation
from attncli.operations.steps import PRODUCTS, Calculation, Steps
from attncli.reports import Finding
from attncli.translation import Sentence

NAME = "log-sum-exp"
# As of `attncli.checking.comparing.rounding`.
_TIMES = 4.0


class _Row:
    """The quantities of which one may stand in the place of the log-sum-exp of every row."""

    def __init__(self, case: Case, steps: Steps = {}) -> None:  # noqa: B006 (it is only read)
        inputs = [array.astype(np.float64) for array in case.inputs]
        mask, extras = case.mask, case.placed
        self.chain = Calculation(
            case.layer, inputs, case.claims, mask, {**PRODUCTS, **steps}, extras=extras
        )
        self.chain.forward()
        self.largest, self.total = (self.chain.noted[name][..., 0] for name in ("largest", "total"))

    @property
    def logsumexp(self) -> Array:
        """Natural; −∞ of a row that sees nothing."""
        return np.asarray(self.largest + np.log(self.total))

    def off(self, unit: float) -> Array:
        """How far it may be off by rounding."""
        c = self.chain
        products = np.abs(c.query) @ np.abs(c.key).swapaxes(-1, -2)
        sums = 1 + np.sqrt(c.H)
        scores = np.abs(np.where(np.isfinite(c.noted["masked"]), c.noted["masked"], 0))
        sizes = (sums * abs(c.scale) * products + 2 * scores).max(axis=-1)
        return np.asarray(_TIMES * unit * (sizes + np.log(c.T_enc) + 1))


def _of(value: Callable[[_Row], Array], **steps: Any) -> Callable[[Case], Array]:
    return lambda case: value(_Row(case, steps))


def _unseeing(c: Calculation) -> Array:
    return np.ones((c.T_dec, c.T_enc), bool)


# By the finding that it is, which names a mistake of the catalogue.
_WRONG: Mapping[str, Callable[[Case], Array]] = {
    "of base 2": _of(lambda row: row.logsumexp / np.log(2.0)),
    "halved": _of(lambda row: row.logsumexp / 2),
    "with its sign reversed": _of(lambda row: -row.logsumexp),
    "of scores that are not scaled": _of(lambda row: row.logsumexp, factor=lambda c: 1.0),
    "of base 2 in part": _of(lambda row: row.largest + np.log2(row.total)),
    "of a mean": _of(lambda row: row.logsumexp - np.log(row.chain.T_enc)),
    "of keys that are hidden": _of(lambda row: row.logsumexp, band=_unseeing),
    "without the sink": _of(lambda row: row.logsumexp, sink=lambda c: None),
    "without the maximum": _of(lambda row: np.log(row.total)),
}
# What may stand there with the same right, where nothing calls it a log-sum-exp.
_OTHERS: tuple[Callable[[Case], Array], ...] = (
    _of(lambda row: row.largest),
    _of(lambda row: row.total),
    _of(lambda row: np.exp(row.logsumexp)),
)


def judge_logsumexp(seen: Iterable[Observation]) -> Iterator[Finding]:
    """Judge what was given for the log-sum-exp in every case.

    Where nothing calls it that, it is one if it is right in the first case, or a known mistake.
    """
    given = [
        one
        for one in seen
        if one.logsumexp is not None and not (one.forward_fault or one.case.lenient)
    ]
    if not given:
        return
    wrong = [one for one in given if not _agrees(one, _Row(one.case).logsumexp)]
    if not wrong:
        yield Finding(NAME, "contract", "ok", "")
        return
    kind = next((kind for kind, of in _WRONG.items() if _all_are(given, of)), None)
    first = given[0]
    if kind is None and first in wrong and not first.is_called_that:
        if not any(_all_are(given, of) for of in _OTHERS):
            detail = "what comes beside out for every row is no log-sum-exp of its scores"
            yield Finding(NAME, "contract", "note", detail)
        return
    where = ", ".join(one.case.name for one in wrong[:3]) + ", …" * (len(wrong) > 3)
    name = f"{NAME} {kind}" if kind else NAME
    yield Finding(
        name, "contract", "wrong", Sentence("beside out it is another ({where})", where=where)
    )


def _all_are(given: list[Observation], of: Callable[[Case], Array]) -> bool:
    return all(_agrees(one, of(one.case)) for one in given)


def _agrees(seen: Observation, right: Array) -> bool:
    found = np.asarray(seen.logsumexp)
    precision = "float32" if found.dtype == np.float32 else seen.case.precision
    unit = max(UNITS[precision], UNITS[seen.case.precision])
    # A row that sees nothing has none; some write a large number there.
    judged = np.isfinite(right) | np.isnan(found)
    found, right = (np.where(judged, x, 0).astype(np.float64) for x in (found, right))
    off = _Row(seen.case).off(unit) * (1 + np.abs(right) / np.maximum(np.abs(right), 1))
    return near(beyond(found, right, off), right, seen.case.tolerance).agrees
