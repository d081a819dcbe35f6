"""How exact a calculation could be expected to be: flash-attention's rule, per head and row.

A result may be twice as far from the exact one as the plain formula in the result's own precision
is, plus a unit in the last place.  Both are taken where they are judged: in the same head and row.

In a single row the roundings of one evaluation may happen to cancel.  So the formula is evaluated
several times, every number that is stored off at random by at most its rounding, and every sum of
products by what adding up makes of it; three standard deviations of the results are the error of
the plain formula.  This is stochastic arithmetic.  It knows a dtype's digits and smallest number,
but not its largest one, so that there is a budget also where the plain formula would overflow.

References
----------
github.com/Dao-AILab/flash-attention, tests/test_flash_attn.py.
Vignes, "A stochastic arithmetic for reliable scientific computation", 1993.
Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019: n products add up
to within a unit roundoff times √n times the sum of their sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import tiles
from attncli.checking.comparing.drift import Throughout
from attncli.checking.comparing.places import count_along_axes, places
from attncli.core.blocks import sum_to
from attncli.core.extras import Extras
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import DataError
from attncli.memory import require
from attncli.operations import Operation
from attncli.operations.layout import Layout
from attncli.operations.steps import PRODUCTS, QKV, Calculation, Steps, softmax
from attncli.reports import Budget, Drift, Element, TensorComparison
from attncli.tensors import axes_of

TIMES = 2
"""How many times the plain formula's error is allowed."""

DEVIATIONS = 3
"""How many standard deviations of what evaluations give are the error of the plain formula."""

DRAWS = 12
"""How often it is evaluated to know the deviation."""

_STEP = 1e-6  # of the scale, to see what changes with it
_ARRAYS = 14  # of the weights' size are held at once, forward and backward
ALIASES: Mapping[str, str] = {
    "output": "out",
    "lse": "logsumexp",
    "dq": "dquery",
    "dk": "dkey",
    "dv": "dvalue",
}
"""What results and gradients are called too."""


class Precision(NamedTuple):
    """What a floating dtype can hold, but for its largest number.

    Attributes
    ----------
    digits : int
        Binary ones.
    least : float
        Its smallest number.
    sums : dtype
        What products of such numbers are added up in.
    exact : dtype
        What is exact beside it.
    """

    digits: int
    least: float
    sums: np.dtype[Any]
    exact: np.dtype[Any]

    @property
    def unit(self) -> float:
        """The largest relative error of rounding."""
        return 2.0**-self.digits

    def holds(self, x: Array) -> bool:
        """Whether it can hold all numbers of an array; NaN and infinity are held by any.

        Examples
        --------
        >>> PRECISIONS["bfloat16"].holds(np.array([1.0, -3 * 2.0**-99, 2.0**127, np.inf]))
        True
        >>> PRECISIONS["bfloat16"].holds(np.array([1.001]))
        False
        """
        return all(self._holds(np.asarray(x[where])) for where in tiles(x.shape))

    def _holds(self, x: Array) -> bool:
        x = x[np.isfinite(x)].astype(self.exact)
        digits = np.ldexp(np.frexp(x)[0], self.digits)
        return bool((digits == np.floor(digits)).all() and (x % self.least == 0).all())


_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

PRECISIONS: Mapping[str, Precision] = {
    "bfloat16": Precision(8, 2.0**-133, _SINGLE, _DOUBLE),
    "float16": Precision(11, 2.0**-24, _SINGLE, _DOUBLE),
    "float32": Precision(24, 2.0**-149, _SINGLE, _DOUBLE),
    "float64": Precision(53, 2.0**-1074, _DOUBLE, np.dtype(np.longdouble)),
}
HALVES = ("bfloat16", "float16")


@dataclass(frozen=True)
class Allowance:
    """What is exact, and how far from it a result may be.

    Attributes
    ----------
    exact : ndarray
    straightforward, allowed : ndarray
        The error of the plain formula, and what a result may be off by: in the shape of `exact`,
        one number for every row of every head.
    throughout : Throughout or None
        How far it may be off throughout, where that is less: in half precision.
    """

    exact: Array
    straightforward: Array
    allowed: Array
    throughout: Throughout | None = field(kw_only=True, default=None)


def allowances(
    operation: Operation,
    inputs: Mapping[str, Array],
    dtype: str,
    semantics: Semantics = Semantics(),  # noqa: B008 (it is frozen)
    *,
    mask: Array | None = None,
    extras: Extras = Extras(),  # noqa: B008
    max_memory: int | None = None,
) -> dict[str, Allowance]:
    """Say how far from the exact results those of a calculation in `dtype` may be.

    Parameters
    ----------
    operation : Operation
        Attention as a whole: the book's, or the general one.
    inputs : mapping of str to ndarray
        The operation's; ``dout``, without which there are no gradients, and ``dlogsumexp``.
    dtype : str
        A key of `PRECISIONS`.
    semantics : Semantics
    mask : ndarray, optional
        Boolean or floating, broadcastable to the weights.
    extras : Extras, optional
    max_memory : int, optional
        The most bytes to take; default: what there is.

    Returns
    -------
    dict of str to Allowance
        The result, the weights, ``logsumexp``, and the gradients of inputs, sinks and slopes, by
        name.

    Raises
    ------
    DataError
        If an exact result is not finite: then nothing is known about it.
    MemoryLimitError
        If the weights of the exact result would not fit.

    Examples
    --------
    >>> from attncli.operations import OPERATIONS
    >>> key, value = np.zeros((1, 3, 2)), np.array([[[1.0], [2.0], [6.0]]])
    >>> inputs = {"query": key[:, :1], "key": key, "value": value}
    >>> found = allowances(OPERATIONS["scaled-dot-product"], inputs, "float16")["out"]
    >>> found.exact, bool(1e-3 < found.allowed < 2e-2)
    (array([[[3.]]]), True)
    """
    precision = PRECISIONS[dtype]
    query, key, _ = operation.to_core(inputs)
    shape = (*query.shape[:-1], key.shape[-2])
    nbytes = _ARRAYS * prod(shape) * precision.exact.itemsize
    require(nbytes, f"the exact result's weights {shape}", max_memory)
    placed = operation.core_extras(extras).placed(shape[:-2], *shape[-2:])
    mask = None if mask is None else operation.core_mask(mask)
    scale = operation.scale(semantics, query.shape[-1])
    core = dataclasses.replace(semantics, scale=scale)

    def evaluate(
        given: Mapping[str, Array], noise: Noise | None = None, core: Semantics = core
    ) -> dict[str, Array]:
        rounded, steps = (noise, noise.steps()) if noise else (np.asarray, PRODUCTS)
        query, key, value = operation.to_core(given)
        if operation.rotation is not None:
            query, key = map(rounded, operation.rotated(query, key, semantics, extras))
        calculation = Calculation(
            QKV, [query, key, value], core, mask, steps, extras=placed, rounded=rounded
        )
        results = calculation.forward()
        noted = calculation.noted
        results["logsumexp"] = (np.log(noted["total"]) + noted["largest"])[..., 0]
        if "dout" in given:
            rows = given.get("dlogsumexp")
            rows = rows[:, None] if rows is not None and operation.one_step else rows
            dquery, dkey, dvalue = calculation.backward(operation.core_dout(given["dout"]), rows)
            for name, terms in _terms(calculation).items():
                summed = noise.summed if noise else sum_to
                results[f"d{name}"] = summed(terms, np.shape(getattr(placed, name)))
            dquery, dkey = operation.rotated(dquery, dkey, semantics, extras, inverse=True)
            results |= {"dquery": dquery, "dkey": dkey, "dvalue": dvalue}
        return results

    names = [*operation.inputs, *(x for x in ("dout", "dlogsumexp") if x in inputs)]
    with np.errstate(all="ignore"):  # what is not finite is looked for
        wide = {name: inputs[name].astype(precision.exact) for name in names}
        exact = evaluate(wide)
        known = {name: np.isfinite(result) for name, result in exact.items()}
        known["logsumexp"] |= np.isneginf(exact["logsumexp"])  # of a row that sees nothing
        _require("the exact result", known)
        squares = {name: np.zeros_like(result) for name, result in exact.items()}
        throughout = {}
        if dtype in HALVES:
            own = _as_given(operation, extras, exact)
            more = dataclasses.replace(core, scale=scale * (1 + _STEP))
            moved = _as_given(operation, extras, evaluate(wide, core=more))
            throughout = {
                name: Throughout(x, (moved[name] - x) / _STEP, has_rows=name != "logsumexp")
                for name, x in own.items()
            }
        noise = Noise(precision)
        stored = {name: inputs[name].astype(precision.sums) for name in names}
        loose = {name for name in names if not precision.holds(inputs[name])}
        for _ in range(DRAWS):
            drawn = evaluate({x: noise(a) if x in loose else a for x, a in stored.items()}, noise)
            for name, total in squares.items():
                off = drawn[name] - exact[name]
                total += np.where(drawn[name] == exact[name], 0, off) ** 2
            _each(throughout, Throughout.add, _as_given(operation, extras, drawn))
        if throughout:
            nearest = Nearest(precision)
            plain = evaluate({x: nearest(a) for x, a in stored.items()}, nearest)
            _each(throughout, Throughout.plain, _as_given(operation, extras, plain))
        finite = {name: np.isfinite(total) for name, total in squares.items()}
        _require(f"the formula in {precision.sums}", finite)
    parts = zip(
        *(_allowance(x, exact[x], np.sqrt(squares[x] / DRAWS), precision) for x in exact),
        strict=True,
    )
    sides = [_as_given(operation, extras, dict(zip(exact, part, strict=True))) for part in parts]
    return {
        name: Allowance(*(side[name] for side in sides), throughout=throughout.get(name))
        for name in sides[0]
    }


def _each(
    throughout: Mapping[str, Throughout],
    note: Callable[[Throughout, Array], None],
    results: Mapping[str, Array],
) -> None:
    for name, one in throughout.items():
        note(one, results[name])


def _terms(c: Calculation) -> dict[str, Array]:
    """Give what the gradients of sinks and slopes are the sums of."""
    terms, extras = {}, c.extras
    if extras.sinks is not None:
        saved = np.log(c.noted["total"]) + c.noted["largest"]
        change = 0 if c.dlogsumexp is None else c.dlogsumexp[..., None]
        terms["sinks"] = np.exp(extras.sinks - saved) * (change - c.noted["rowsum"])
    if extras.alibi is not None:
        ones = extras._replace(alibi=np.ones_like(extras.alibi))
        distance = Visibility.of(c.semantics, c.T_dec, c.T_enc, extras=ones).whole()[0]
        dscores = c.noted["dscores" if c.capped is None else "dcapped"]
        terms["alibi"] = dscores * distance  # which is the bias of a slope of 1, below 0
    return terms


def _require(what: str, finite: Mapping[str, Array]) -> None:
    for name, where in finite.items():
        if not where.all():
            raise DataError(
                f"{name}: {what} is not finite, and so there is no budget",
                hint="without --budget, tolerances decide",
            )


def _allowance(
    name: str, exact: Array, deviation: Array, precision: Precision
) -> tuple[Array, Array, Array]:
    """Take the largest of a row for all of it."""
    size = np.where(np.isfinite(exact), np.abs(exact), 0)
    if name == "logsumexp":  # a sum near 1 has a logarithm near 0
        size = np.maximum(size, 1)
    else:
        deviation, size = (x.max(axis=-1, keepdims=True, initial=0) for x in (deviation, size))
    error = DEVIATIONS * deviation
    ulp = np.where(size, np.maximum(2 * precision.unit * size, precision.least), 0)
    error, allowed = (np.broadcast_to(x, exact.shape) for x in (error, TIMES * error + ulp))
    return exact, error, allowed


def _as_given(operation: Operation, extras: Extras, core: Mapping[str, Array]) -> dict[str, Array]:
    """Give what belongs to the core's results, in the operation's axes and by its names."""
    results = operation.results(core["out"], core["weights"])
    results["logsumexp"] = core["logsumexp"][:, 0] if operation.one_step else core["logsumexp"]
    if "dquery" in core:
        gradients = operation.from_core(core["dquery"], core["dkey"], core["dvalue"])
        results |= dict(zip(operation.gradients, gradients, strict=True))
    beside = {f"d{name}": np.shape(x) for name, x in extras.given().items() if name != "segments"}
    return results | {x: core[x].reshape(shape) for x, shape in beside.items() if x in core}


class Budgets:
    """What was computed from the same inputs, judged tensor by tensor.

    Parameters
    ----------
    operation, inputs, semantics, mask, extras, max_memory
        As `allowances`.
    layout : Layout, optional
        In which the results are judged.
    """

    def __init__(
        self,
        operation: Operation,
        inputs: Mapping[str, Array],
        *more: Any,
        layout: Layout | None = None,
        **how: Any,
    ):
        self.operation, self.inputs, self.more, self.how = operation, inputs, more, how
        self.layout = layout or Layout(operation)
        self.known: dict[str, dict[str, Allowance]] = {}

    def allowance(self, name: str, dtype: str) -> Allowance | None:
        """Say how far a tensor computed in `dtype` may be off; None if the inputs lead to none."""
        if dtype not in self.known:
            found = allowances(self.operation, self.inputs, dtype, *self.more, **self.how)
            self.known[dtype] = {name: self._as_given(name, one) for name, one in found.items()}
        return self.known[dtype].get(ALIASES.get(name, name))

    def _as_given(self, name: str, found: Allowance) -> Allowance:
        parts = found.exact, found.straightforward, found.allowed
        given = (self.layout.to_given(name, part) for part in parts)
        return Allowance(*given, throughout=found.throughout)

    def judge_all(
        self,
        compared: Sequence[TensorComparison],
        tensors: Mapping[str, tuple[Array, Array]],
        as_dtype: str | None = None,
    ) -> list[TensorComparison]:
        """Give comparisons with a budget where the inputs lead to the tensor.

        Parameters
        ----------
        compared : sequence of TensorComparison
            Their first dtype is that of the candidate, A.
        tensors : mapping of str to (ndarray, ndarray)
            A and B of each by its name.
        as_dtype : {"bfloat16", "float16"}, optional
            What A was computed in, where its numbers are held in a wider dtype.  Without it, they
            are taken for what holds them all.
        """
        operation = self.operation
        known = {operation.result, operation.weights, "logsumexp", *ALIASES, *operation.gradients}
        known |= {"dsinks", "dalibi"}
        judged = [one for one in compared if one.name in known and one.problem is None]
        half = as_dtype or widened(
            [tensors[one.name][0] for one in judged if one.dtypes[0] not in HALVES]
        )
        budgets = {}
        for one in judged:
            own = one.dtypes[0] if one.dtypes[0] in PRECISIONS else "float64"
            dtype = own if own in HALVES else half or own
            rows = self.allowance("logsumexp", dtype)
            if rows is not None and rows.exact.size and np.isneginf(rows.exact).all():
                raise DataError("no query sees any key: there is nothing to judge")
            found = self.judge(one.name, *tensors[one.name], dtype)
            if found is not None:
                assumed = dtype != own and as_dtype is None
                budgets[one.name] = dataclasses.replace(found, assumed=assumed)
        return [dataclasses.replace(one, budget=budgets.get(one.name)) for one in compared]

    def judge(self, name: str, a: Array, b: Array, dtype: str) -> Budget | None:
        """Judge the candidate A, computed in `dtype`; B is measured for information.

        Parameters
        ----------
        name : str
            ``out`` or ``output``, ``weights``, ``logsumexp`` or ``lse``, a gradient.
        a, b : ndarray
        dtype : str

        Returns
        -------
        Budget or None
            None where the inputs do not lead to a tensor of this name and shape.

        Raises
        ------
        DataError, MemoryLimitError
            As `allowances`.
        """
        found = self.allowance(name, dtype)
        if found is None or a.shape != found.exact.shape or not a.size:
            return None
        off, other = (_distance(x, found.exact) for x in (a, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.where(off == 0, 0, off / found.allowed)
        wrong = off > found.allowed
        place = np.unravel_index(excess.argmax(), excess.shape)
        axes = self.layout.axes(ALIASES.get(name, name), a.ndim) or axes_of(name, a.ndim)
        return Budget(
            dtype=dtype,
            exact_dtype=found.exact.dtype.name.replace("float128", "longdouble"),
            allowed=float(found.allowed[place]),
            straightforward=float(found.straightforward[place]),
            candidate=float(off[place]),
            other=float(other[place]),
            outside=int(wrong.sum()),
            worst=Element(tuple(map(int, place)), float(a[place]), float(found.exact[place])),
            places=places(count_along_axes(wrong), axes) if wrong.any() else (),
            drift=None if wrong.any() else self._drift(name, a, found, dtype),
        )

    def _drift(self, name: str, a: Array, found: Allowance, dtype: str) -> Drift | None:
        if found.throughout is None:
            return None
        name = ALIASES.get(name, name)
        own = self.layout.to_own(name, a)
        wrong = found.throughout.judge(own, PRECISIONS[dtype].unit)
        if wrong is None:
            return None
        where = places(count_along_axes(wrong.rows), self.operation.axes(name, own.ndim))
        return Drift(wrong.kind, wrong.value, wrong.allowed, where)


def widened(arrays: Sequence[Array]) -> str | None:
    """Name the half precision that holds all numbers of arrays, if one does."""
    return next((x for x in HALVES if arrays and all(map(PRECISIONS[x].holds, arrays))), None)


def _distance(x: Array, exact: Array) -> Array:
    """|x − exact|; infinite where one alone is not finite, or NaN."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(x.astype(exact.dtype) - exact)
    distance[x == exact] = 0  # −∞ beside −∞
    return np.where(np.isnan(distance), np.inf, distance)


class Noise:
    """Moves every number at random, by no more than storing it in a precision would.

    Examples
    --------
    >>> x = Noise(PRECISIONS["bfloat16"])(np.array([1.0, 0.0, -np.inf]))
    >>> bool(0 < abs(x[0] - 1) <= 2.0**-8), x[1:].tolist()
    (True, [0.0, -inf])
    """

    def __init__(self, precision: Precision) -> None:
        self.precision, self.random = precision, np.random.default_rng(0)

    @property
    def sums_are_exact(self) -> bool:
        """Whether sums are so much more exact than what is stored that they do not count."""
        return bool(self.precision.unit > np.finfo(self.precision.sums).epsneg)

    def __call__(self, x: Array) -> Array:
        """Move the numbers of an array."""
        most = np.maximum(np.abs(x) * x.dtype.type(self.precision.unit), self.precision.least / 2)
        most[~np.isfinite(x) | (x == 0)] = 0
        return np.asarray(x + self._of_size(most))

    def product(self, a: Array, b: Array) -> Array:
        """Multiply matrices; the sums are off where they are no more exact than what is stored."""
        product = np.asarray(a @ b)
        if self.sums_are_exact:
            return product
        most = self.precision.unit * a.shape[-1] ** 0.5 * (np.abs(a) @ np.abs(b))
        return product + self._of_size(most)

    def summed(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Sum over the axes on which an array of `shape` was broadcast, as `product` sums."""
        total = self(sum_to(x, shape))
        if not total.size or self.sums_are_exact:
            return total
        most = self.precision.unit * (x.size / total.size) ** 0.5 * sum_to(np.abs(x), shape)
        return total + self._of_size(most)

    def _of_size(self, most: Array) -> Array:
        """Draw numbers between −most and most."""
        noise = self.random.random(most.shape, np.float32)
        noise -= 0.5
        return np.asarray(most * (2 * noise))

    def steps(self) -> Steps:
        """Give the formula in the spelling that rounds most, by the steps that differ.

        The query is scaled; in backward weights are computed again, as exact as sums, from a saved
        logsumexp, and rowsums from out; it is known what a row of dscores sums to, and what
        rounding leaves of it may go, as automatic derivatives have it, where the largest score
        came from.
        """
        product = self.product
        epsneg = float(np.finfo(self.precision.sums).epsneg)
        off = 1 + float(self._of_size(np.array(2 * epsneg)))  # 1/√H comes in several roundings

        def weights(c: Calculation, scores: Array) -> Array:
            def note(name: str, x: Array) -> Array:  # the largest score is one of those stored
                return c.noted.setdefault(name, x) if name == "largest" else c.note(name, x)

            return softmax(scores, note=note, sink=c("sink"))

        def cache(c: Calculation) -> None:
            if self.sums_are_exact:
                return
            total = c.noted["total"]
            saved = self(np.log(total) + c.noted["largest"])
            scores = c("logits", c("query_key"))
            c.weights = np.where(total == 0, 0, np.exp(scores - saved))
            c.left = c("dropout", c.weights)

        def softmax_back(c: Calculation, dweights: Array) -> Array:
            rowsum = (c.noted["out"] * c.noted["dout"]).sum(axis=-1, keepdims=True)
            rowsum = c.note("rowsum", rowsum)
            change = 0 if c.dlogsumexp is None else c.dlogsumexp[..., None]
            dscores = c.weights * c.rounded(dweights - rowsum + change)
            # It sums to dlogsumexp; but for what a sink has of it.
            whole = np.where(c.noted["total"] == 0, 0, change)
            if c.extras.sinks is not None:
                whole = change + (rowsum - change) * (1 - c.weights.sum(axis=-1, keepdims=True))
            largest = c.weights.argmax(axis=-1, keepdims=True)
            there = np.take_along_axis(dscores, largest, axis=-1)
            there += self._of_size(dscores.sum(axis=-1, keepdims=True) - whole)
            np.put_along_axis(dscores, largest, there, axis=-1)
            return c.note("dscores" if c.capped is None else "dcapped", dscores)

        return {
            "factor": lambda c: c.scale * off,
            "query_key": lambda c: product(self(c.query * c("factor")), c.key.swapaxes(-1, -2)),
            "scaled": lambda c, scores: c.note("scores", scores),
            "softmax": weights,
            "cache": cache,
            "weights_value": lambda c: product(c.left, c.value),
            "weights_value_back": lambda c, dout: (
                c.note("dvalue", product(c.left.swapaxes(-1, -2), dout)),
                c.note("dweights", product(dout, c.value.swapaxes(-1, -2))),
            ),
            "softmax_back": softmax_back,
            "query_key_back": lambda c, dscores: (
                c.note("dkey", product(dscores.swapaxes(-1, -2), c.query)),
                c.note("dquery", product(dscores, c.key)),
            ),
        }


class Nearest(Noise):
    """Rounds every number to the nearest that a precision holds, of whatever size.

    Examples
    --------
    >>> Nearest(PRECISIONS["bfloat16"])(np.array([1.001, 3e39, -np.inf])).tolist()
    [1.0, 2.99873835849077e+39, -inf]
    """

    def __call__(self, x: Array) -> Array:
        """Round the numbers of an array."""
        one = x.dtype.type(1)
        step = np.maximum(np.ldexp(one, np.frexp(x)[1] - self.precision.digits), 0 * one)
        step = np.maximum(step, self.precision.least)
        return np.where(np.isfinite(x), np.rint(x / step) * step, x)

    def _of_size(self, most: Array) -> Array:
        return np.zeros_like(most)
