"""What forward takes beside its tensors that no case has given another value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from attncli.checking.comparing.agreement import Tolerance, near
from attncli.checking.targets.arguments import beside
from attncli.checking.targets.target import real_array, same
from attncli.reports import Finding
from attncli.translation import Sentence

_ROUNDED = Tolerance.of_largest(1e-5, least=1e-3)
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
        if other is not None and _alike(results({name: other}), usual):
            continue
        shown = "VALUE" if isinstance(default, str) else other
        shown = f"random:{sizes['T_dec']},{sizes['T_enc']}" if shown is None else shown
        detail = Sentence(
            "{name} is left at {default}, and judged so alone: --arg {name}={shown}",
            name=name,
            default=repr(default),
            shown=shown,
        )
        yield Finding(
            name, "contract", "note", Sentence("{detail} gives it another value", detail=detail)
        )


def _alike(a: Any, b: Any) -> bool:
    """Whether results are the same but for rounding, which may differ in another order."""
    a, b = (x[0] if isinstance(x, tuple) and x else x for x in (a, b))
    left, right = real_array(a), real_array(b)
    if left is None or right is None or left.shape != right.shape:
        return same(a, b)
    return near(left, right, _ROUNDED).agrees


def _another(value: Any) -> Any:
    """Another value of the same kind; None where nothing says one."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else None
