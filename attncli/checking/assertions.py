"""Assertions on somebody's layer, for tests of any kind: pytest's, unittest's, or none's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attncli.checking.derivatives.proof import gradcheck
from attncli.checking.diagnosing.examination import check
from attncli.errors import CodeError
from attncli.shown import Shown

__unittest = True  # unittest leaves the frames of such modules out of its traceback


def assert_correct(target: Any, **options: Any) -> None:
    """Raise AssertionError, with the diagnosis, unless a layer computes what it should.

    Parameters
    ----------
    target, **options
        As `attncli.check`.

    Raises
    ------
    AssertionError
        If it does not, or its code fails.
    TargetError
        If there is no such thing, or it is not clear which layer it is.

    Examples
    --------
    >>> from attncli.layers import TimeAttention, WeightSum
    >>> assert_correct(TimeAttention)
    >>> class Mine(WeightSum):
    ...     def forward(self, hs, a):
    ...         return super().forward(hs, a) / a.shape[1]
    >>> try:
    ...     assert_correct(Mine, layer="weight-sum")
    ... except AssertionError as error:
    ...     print("likely mistake: mean instead of sum over T" in str(error))
    True
    """
    __tracebackhide__ = True
    _require(check, target, options)


def assert_gradients(target: Any, **options: Any) -> None:
    """Raise AssertionError, with what is wrong, unless the gradients of a layer are right.

    Parameters
    ----------
    target, **options
        As `attncli.gradcheck`.

    Raises
    ------
    AssertionError
        If they are not, or its code fails.
    TargetError
        If there is no such thing, or it has no backward.

    Examples
    --------
    >>> from attncli.layers import TimeAttention
    >>> assert_gradients(TimeAttention)
    """
    __tracebackhide__ = True
    _require(gradcheck, target, options)


def _require(judge: Callable[..., Shown], target: Any, options: dict[str, Any]) -> None:
    __tracebackhide__ = True
    try:
        report = judge(target, **options)
    except CodeError as error:
        told = [str(error), *([error.hint] if error.hint else []), *error.trace]
        raise AssertionError("\n".join(told)) from None
    if not report:
        raise AssertionError(f"{report.line}\n\n{report}")
