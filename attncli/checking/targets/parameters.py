"""The weights of somebody's layer and their gradients, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

# How a gradient is called beside what it is the gradient of.
_FORMS = ("d{}", "d_{}", "grad_{}", "{}_grad", "g{}", "grad{}", "D{}")
_DEPTH = 3


class Weights(NamedTuple):
    """The weights of a layer.

    Attributes
    ----------
    names : tuple of str
    values : list
        Its arrays, of whatever framework.
    gradients : list
        None where there is none yet.
    """

    names: tuple[str, ...] = ()
    values: list[Any] = []  # noqa: RUF012 (it is never changed)
    gradients: list[Any] = []  # noqa: RUF012

    def only(self, names: Collection[str]) -> Weights:
        """Those of these names."""
        kept = [i for i, name in enumerate(self.names) if name in names]
        gradients = self.gradients if len(self.gradients) == len(self.names) else None
        return Weights(
            tuple(self.names[i] for i in kept),
            [self.values[i] for i in kept],
            self.gradients if gradients is None else [gradients[i] for i in kept],
        )


def weights_of(layer: Any, depth: int = _DEPTH) -> Weights:
    """Find the weights of a layer.

    In ``params`` and ``grads``, which are lists, or dicts by the same names; else in attributes
    beside which, or in whose backward, there is one for the gradient (``W`` and ``dW``); else in
    the layers that it is made of.

    Examples
    --------
    >>> class Affine:
    ...     def __init__(self): self.W, self.b, self.mask = np.ones((2, 2)), np.ones(2), np.ones(2)
    ...     def backward(self, dout): self.dW, self.db = dout, dout
    >>> weights_of(Affine()).names
    ('W', 'b')
    """
    held = getattr(layer, "__dict__", {})
    params, grads = _given(layer, "params"), _given(layer, "grads")
    if isinstance(params, (list, tuple)):
        names = held.get("param_names") or [f"params[{i}]" for i in range(len(params))]
        return Weights(tuple(names), list(params), _listed(grads))
    if isinstance(params, Mapping):
        arrays = {str(name): value for name, value in params.items() if _is_weight(value)}
        of = grads if isinstance(grads, Mapping) else {}
        return Weights(
            tuple(arrays), list(arrays.values()), [_gradient(name, of, name) for name in arrays]
        )
    names = _written(type(layer))
    arrays = {
        name: value
        for name, value in held.items()
        if _is_weight(value) and any(form.format(name) in {*held, *names} for form in _FORMS)
    }
    found = Weights(tuple(arrays), list(arrays.values()), [_gradient(x, held) for x in arrays])
    if found.names or not depth:
        return found
    inside = [
        (part, weights_of(one, depth - 1))
        for name, value in held.items()
        for part, one in _parts(name, value)
    ]
    return Weights(
        tuple(f"{part}.{name}" for part, one in inside for name in one.names),
        [value for _, one in inside for value in one.values],
        [gradient for _, one in inside for gradient in one.gradients],
    )


def _given(layer: Any, name: str) -> Any:
    try:
        return getattr(layer, name, None)
    except Exception:  # a property of theirs
        return None


def _listed(grads: Any) -> list[Any]:
    return list(grads) if isinstance(grads, (list, tuple)) else []


def _is_weight(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim in (1, 2)


def _gradient(name: str, held: Mapping[str, Any], *others: str) -> Any:
    names = (*(form.format(name) for form in _FORMS), *others)
    return next((held[x] for x in names if isinstance(held.get(x), np.ndarray)), None)


def _written(layer: type[Any]) -> set[str]:
    """The names of attributes that backward has to do with, its own or one that it inherits."""
    own = (vars(kind).get("backward") for kind in layer.__mro__)
    codes = (getattr(function, "__code__", None) for function in own)
    return {name for code in codes for name in getattr(code, "co_names", ())}


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """The layers that an attribute is, or holds."""
    several = list(value) if isinstance(value, (list, tuple)) else [value]
    names = [name] if several == [value] else [f"{name}[{i}]" for i in range(len(several))]
    return [
        (part, one)
        for part, one in zip(names, several, strict=True)
        if callable(getattr(one, "backward", None)) and not isinstance(one, type)
    ]
