"""How exact a calculation could be expected to be: the rule of flash-attention's own tests.

A candidate may be at most twice as far from the exact result as a straightforward evaluation in
the candidate's own dtype is.  Rounding is unavoidable, and this measures how much of it.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.agreement import Tolerance, near
from attncli.core.semantics import Semantics
from attncli.core.visibility import Visibility
from attncli.errors import DataError
from attncli.memory import require
from attncli.reports import Budget

ALLOWED = 2.0
"""How many times the straightforward evaluation's error is allowed."""

_ROLES = (("query", "key"), ("hs_dec", "hs_enc"))
_ARRAYS = 6  # of the weights' size are held at once, forward and backward


class Budgets:
    """What was computed from the same inputs, judged tensor by tensor.

    Parameters
    ----------
    inputs : mapping of str to ndarray
        ``query``, ``key``, ``value`` or ``hs_enc``, ``hs_dec``; ``mask`` and ``dout`` if any.
    claims : Semantics
    max_memory : int, optional
        The most bytes to take; default: what there is.

    Raises
    ------
    MemoryLimitError
        If the weights of the exact result would not fit.

    References
    ----------
    github.com/Dao-AILab/flash-attention, tests/test_flash_attn.py.
    """

    def __init__(
        self, inputs: Mapping[str, Array], claims: Semantics, max_memory: int | None = None
    ) -> None:
        self.inputs, self.claims = inputs, claims
        self.known: dict[str, dict[str, Array]] = {}
        query, key = (inputs.get(x, inputs.get(y)) for x, y in zip(*_ROLES, strict=True))
        if query is not None and key is not None:
            shape = (*query.shape[:-1], key.shape[-2])
            nbytes = _ARRAYS * prod(shape) * np.dtype(np.longdouble).itemsize
            require(nbytes, f"the exact result's weights {shape}", max_memory)

    def judge(self, name: str, a: Array, b: Array, dtype: str) -> Budget | None:
        """Judge the candidate A, whose own dtype is `dtype`; B is measured for information.

        Parameters
        ----------
        name : str
            ``out``, ``weights``, or a gradient such as ``dquery`` or ``dhs_enc``.
        a, b : ndarray
        dtype : str

        Returns
        -------
        Budget or None
            None where the inputs do not lead to a tensor of this name.

        Raises
        ------
        DataError
            If the straightforward evaluation overflows: any error would be within its budget.
        """
        exact_dtype = "longdouble" if dtype == "float64" else "float64"
        exact = self._evaluated(exact_dtype).get(name)
        if exact is None or a.shape != exact.shape:
            return None
        straightforward = near(self._evaluated(dtype)[name], exact, Tolerance()).absolute
        if not np.isfinite(straightforward):
            raise DataError(
                f"{name}: a straightforward evaluation in {dtype} gives numbers that are not "
                "finite, and so no budget",
                hint="without --budget, tolerances decide",
            )
        return Budget(
            allowed=ALLOWED * straightforward,
            straightforward=straightforward,
            candidate=near(a, exact, Tolerance()).absolute,
            other=near(b, exact, Tolerance()).absolute,
            exact_dtype=exact_dtype,
        )

    def _evaluated(self, dtype: str) -> dict[str, Array]:
        if dtype not in self.known:
            own = np.dtype("float32" if dtype == "bfloat16" else dtype)
            with np.errstate(all="ignore"):  # what overflows is told by the numbers
                self.known[dtype] = evaluate(self.inputs, self.claims, own, dtype)
        return self.known[dtype]


def evaluate(
    inputs: Mapping[str, Array], claims: Semantics, dtype: np.dtype[Any], rounded: str = ""
) -> dict[str, Array]:
    """Evaluate attention, and its gradients if there is a ``dout``, as the formula reads.

    Every operation is in `dtype`; with `rounded` ``"bfloat16"`` each result is cut to that.
    """
    cut: Callable[[Array], Array] = _to_bfloat16 if rounded == "bfloat16" else np.asarray
    book = "hs_enc" in inputs
    names = ("hs_dec", "hs_enc", "hs_enc") if book else ("query", "key", "value")
    if missing := [name for name in names if name not in inputs]:
        raise DataError(
            f"the inputs lack {missing[0]}: expected query, key and value, or hs_enc and hs_dec"
        )
    query, key, value = (cut(inputs[name].astype(dtype)) for name in names)
    groups = query.shape[-3] // key.shape[-3] if query.ndim > 3 else 1
    key, value = (x.repeat(groups, axis=-3) if groups > 1 else x for x in (key, value))
    scale = claims.scale if claims.scale is not None else 1 if book else query.shape[-1] ** -0.5

    scores = cut(cut(query @ key.swapaxes(-1, -2)) * dtype.type(scale))
    slope = np.ones_like(scores)
    if claims.softcap is not None:
        bent = cut(np.tanh(scores / dtype.type(claims.softcap)))
        scores, slope = cut(bent * dtype.type(claims.softcap)), cut(1 - bent * bent)
    T_dec, T_enc = scores.shape[-2:]
    bias, seen = Visibility.of(claims, T_dec, T_enc, inputs.get("mask")).whole()
    if bias is not None:
        scores = cut(scores + bias.astype(dtype))
    if seen is not None:
        scores = np.where(seen, scores, dtype.type(-np.inf))
    largest = scores.max(axis=-1, keepdims=True)
    exps = cut(np.exp(scores - np.where(np.isfinite(largest), largest, 0)))
    total = cut(exps.sum(axis=-1, keepdims=True))
    weights = cut(exps / np.where(total == 0, dtype.type(1), total))
    results = {"out": cut(weights @ value), "weights": weights}
    results["output"] = results["out"]
    if "dout" not in inputs:
        return results

    if inputs["dout"].shape != results["out"].shape:
        found, expected = inputs["dout"].shape, results["out"].shape
        raise DataError(f"dout is {found}, expected the shape of the result, {expected}")
    dout = cut(inputs["dout"].astype(dtype))
    dweights = cut(dout @ value.swapaxes(-1, -2))
    shared = cut((weights * dweights).sum(axis=-1, keepdims=True))
    dscores = cut(cut(weights * cut(dweights - shared)) * slope * dtype.type(scale))
    dvalue = cut(weights.swapaxes(-1, -2) @ dout)
    dkey, dquery = cut(dscores.swapaxes(-1, -2) @ query), cut(dscores @ key)
    if groups > 1:
        dkey, dvalue = (
            cut(x.reshape(*x.shape[:-3], -1, groups, *x.shape[-2:]).sum(axis=-3))
            for x in (dkey, dvalue)
        )
    if book:
        return results | {"dhs_enc": cut(dkey + dvalue), "dhs_dec": dquery}
    return results | {"dquery": dquery, "dkey": dkey, "dvalue": dvalue}


def _to_bfloat16(x: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, keeping it as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)
