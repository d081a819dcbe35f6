"""Attention you can run, prove, look at and measure.

>>> import numpy as np
>>> import attncli
>>> out, cache = attncli.attention(np.eye(2), np.eye(2), np.eye(2))
>>> dquery, dkey, dvalue = attncli.attention_backward(out, cache)
>>> attncli.gradcheck().passed
True
>>> from attncli.layers import TimeAttention
>>> attncli.assert_gradients(TimeAttention)
>>> attncli.check(TimeAttention)  # doctest: +ELLIPSIS
<CheckReport ok: TimeAttention against time-attention, ... checks>
>>> attncli.assert_close(out, out + 1e-12)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attncli.shown import Shown
from attncli.version import __version__

if TYPE_CHECKING:
    from attncli.checking.assertions import assert_correct, assert_gradients
    from attncli.checking.comparing.comparison import assert_close
    from attncli.checking.derivatives.proof import gradcheck
    from attncli.checking.diagnosing.examination import check
    from attncli.core import attention, attention_backward, attention_weights
    from attncli.core.rotary import rotary
    from attncli.problems.dumped import convention
    from attncli.problems.pairing import compare
    from attncli.views.showing import show
    from attncli.views.watching import watch

__all__ = [
    "__version__",
    "assert_close",
    "assert_correct",
    "assert_gradients",
    "attention",
    "attention_backward",
    "attention_weights",
    "check",
    "compare",
    "convention",
    "gradcheck",
    "rotary",
    "show",
    "watch",
]

# Where each public name lives: imported when first used, so that `attn --help` needs no NumPy.
_HOMES = {
    "assert_close": "attncli.checking.comparing.comparison",
    "assert_correct": "attncli.checking.assertions",
    "assert_gradients": "attncli.checking.assertions",
    "attention": "attncli.core",
    "attention_backward": "attncli.core",
    "attention_weights": "attncli.core",
    "check": "attncli.checking.diagnosing.examination",
    "compare": "attncli.problems.pairing",
    "convention": "attncli.problems.dumped",
    "gradcheck": "attncli.checking.derivatives.proof",
    "rotary": "attncli.core.rotary",
    "show": "attncli.views.showing",
    "watch": "attncli.views.watching",
}


# What a report is drawn by: the ground knows of nothing above it.
Shown.views = staticmethod(lambda: import_module("attncli.views.drawn_reports"))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
