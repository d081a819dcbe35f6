"""Attention you can run, prove, look at and measure.

>>> import numpy as np
>>> import attncli
>>> out, cache = attncli.attention(np.eye(2), np.eye(2), np.eye(2))
>>> dquery, dkey, dvalue = attncli.attention_backward(out, cache)
>>> attncli.gradcheck().passed
True
>>> from attncli.layers import TimeAttention
>>> attncli.gradcheck(TimeAttention).passed, attncli.check(TimeAttention).passed
(True, True)
>>> attncli.assert_close(out, out + 1e-12)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attncli.attention import attention_backward, attention_weights
    from attncli.checking.comparing.compare import assert_close, compare
    from attncli.checking.derivatives.target_gradcheck import gradcheck
    from attncli.checking.diagnosing.check import check

__version__ = "0.1.0"

# Where each public name lives: imported when first used, so that `attn --help` needs no NumPy.
_PUBLIC = {
    "attention_backward": "attncli.attention",
    "attention_weights": "attncli.attention",
    "assert_close": "attncli.checking.comparing.compare",
    "check": "attncli.checking.diagnosing.check",
    "compare": "attncli.checking.comparing.compare",
    "gradcheck": "attncli.checking.derivatives.target_gradcheck",
}

__all__ = [
    "__version__",
    "assert_close",
    "attention_backward",
    "attention_weights",
    "check",
    "compare",
    "gradcheck",
]


def __getattr__(name: str) -> Any:
    if name == "attention":  # the package, which can be called
        return import_module("attncli.attention")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
