"""Attention you can run, prove, look at and measure."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from attncli.checking.check import check
    from attncli.checking.compare import assert_close, compare
    from attncli.checking.target_gradcheck import gradcheck_target as gradcheck

__all__ = ["__version__", "assert_close", "check", "compare", "gradcheck"]

# Imported when they are asked for: `attn --help` needs none of them, nor NumPy.
_PUBLIC = {
    "assert_close": "attncli.checking.compare:assert_close",
    "check": "attncli.checking.check:check",
    "compare": "attncli.checking.compare:compare",
    "gradcheck": "attncli.checking.target_gradcheck:gradcheck_target",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PUBLIC[name].split(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List the public names beside the loaded ones."""
    return sorted({*globals(), *_PUBLIC})
