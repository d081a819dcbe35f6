"""What forward takes beside its tensors that no case has given another value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from attncli.checking.targets.arguments import beside
from attncli.checking.targets.target import same
from attncli.reports import Finding

# What these do is known, and turned off.
_OFF = ("dropout", "training", "deterministic", "returns", "module", "grouped", "align")


def untried(
    options: Mapping[str, Any],
    tried: Collection[str],
    results: Callable[[Mapping[str, Any]], Any],
    sizes: Mapping[str, int],
) -> Iterator[Finding]:
    """Give a note on every option that may change the answer, and was left as it is.

    Parameters
    ----------
    options : mapping of str to object
        The options of forward, and their defaults.
    tried : collection of str
        Those that it has taken with other values.
    results : callable
        ``results(options)`` gives what comes out with these.
    sizes : mapping of str to int
    """
    usual = results({})
    for name, default in options.items():
        if name in tried or beside(name) in _OFF or default is ...:
            continue
        other = _another(default)
        if other is not None and same(results({name: other}), usual):
            continue
        shown = "VALUE" if isinstance(default, str) else other
        shown = f"random:{sizes['T_dec']},{sizes['T_enc']}" if shown is None else shown
        detail = f"{name} is left at {default!r}, and judged so alone: --arg {name}={shown}"
        yield Finding(name, "contract", "note", f"{detail} gives it another value")


def _another(value: Any) -> Any:
    """Another value of the same kind; None where nothing says one."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else None
