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
from attncli.errors import DataError
from attncli.memory import require
from attncli.operations import OPERATIONS, Operation
from attncli.operations.steps import PRODUCTS, QKV, Calculation
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
    operation : Operation, optional
        What they are the inputs of; default: what their names say.

    Raises
    ------
    MemoryLimitError
        If the weights of the exact result would not fit.

    References
    ----------
    github.com/Dao-AILab/flash-attention, tests/test_flash_attn.py.
    """

    def __init__(
        self,
        inputs: Mapping[str, Array],
        claims: Semantics,
        max_memory: int | None = None,
        operation: Operation | None = None,
    ) -> None:
        self.inputs, self.claims, self.operation = inputs, claims, operation
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
                self.known[dtype] = evaluate(self.inputs, self.claims, own, dtype, self.operation)
        return self.known[dtype]


def evaluate(
    inputs: Mapping[str, Array],
    claims: Semantics,
    dtype: np.dtype[Any],
    rounded: str = "",
    operation: Operation | None = None,
) -> dict[str, Array]:
    """Evaluate attention, and its gradients if there is a ``dout``, as the formula reads.

    Every operation is in `dtype`; with `rounded` ``"bfloat16"`` each result is cut to that.
    """
    cut: Callable[[Array], Array] = _to_bfloat16 if rounded == "bfloat16" else np.asarray
    operation = operation or OPERATIONS["time-attention" if "hs_enc" in inputs else QKV]
    names = operation.inputs
    if missing := [name for name in names if name not in inputs]:
        raise DataError(
            f"the inputs lack {missing[0]}: expected query, key and value, or hs_enc and hs_dec"
        )
    mask = inputs.get("mask")
    if mask is not None:
        mask = mask.astype(dtype if mask.dtype.kind == "f" else bool)
    arrays = [cut(inputs[name].astype(dtype)) for name in names]
    if operation.rotation is not None:
        arrays[:2] = map(cut, operation.rotated(arrays[0], arrays[1], claims))
    calculation = Calculation(operation.name, arrays, claims, mask, PRODUCTS, rounded=cut)
    results = calculation.forward()
    results["output"] = results["out"]
    if "dout" not in inputs:
        return results
    if inputs["dout"].shape != results["out"].shape:
        found, expected = inputs["dout"].shape, results["out"].shape
        raise DataError(f"dout is {found}, expected the shape of the result, {expected}")
    gradients = calculation.backward(cut(inputs["dout"].astype(dtype)))
    if operation.rotation is not None:
        gradients[:2] = map(
            cut, operation.rotated(gradients[0], gradients[1], claims, inverse=True)
        )
    return results | {f"d{name}": x for name, x in zip(names, gradients, strict=True)}


def _to_bfloat16(x: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, keeping it as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)
