"""The axes of somebody's tensors, read in every way in which their shapes fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np

from attncli.arrays import Array
from attncli.errors import DataError, ShapeError
from attncli.operations.layout import ALL, Words, written

# The orders that axes are written in; "heads·H" are heads that lie beside each other.
_ORDERS = {
    4: (
        "N heads T H", "N T heads H", "T N heads H", "heads N T H", "T heads N H", "heads T N H",
        "N heads H T",
    ),
    3: ("N T H", "heads T H", "T heads H", "T N H", "N T heads·H", "T N heads·H"),
    2: ("T H", "T heads·H"),
}  # fmt: skip
_OF_ROWS = {
    3: ("N heads T", "N T heads", "heads N T", "T N heads", "T heads N"),
    2: ("heads T", "T heads", "N T", "T N"),
    1: ("T",),
}
_CANONICAL = ("N", "heads", "T", "H")


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The tensors as (N, heads, T, H), and the orders of axes that they came in.

    Attributes
    ----------
    query, key, value : ndarray
    output : ndarray or None
    orders : tuple of str
        Of the query, of key and value, and of the output.
    """

    query: Array
    key: Array
    value: Array
    output: Array | None
    orders: tuple[str, str, str]

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """N, heads, kv_heads, T_dec and T_enc."""
        N, heads, T_dec, _ = self.query.shape
        return N, heads, self.key.shape[1], T_dec, self.key.shape[2]

    @property
    def kinds(self) -> int:
        """How many orders of axes there are among the tensors: each more is one assumption."""
        return len(set(self.orders))

    @property
    def axes(self) -> dict[str, Words]:
        """The axes of each tensor, as ``--layout`` takes them."""
        query, key, out = self.orders
        orders = {"query": query, "key": key, "value": key.replace("H T", "T H"), "out": out}
        return {name: tuple(x.replace("heads·H", "H").split()) for name, x in orders.items()}

    def is_in(self, layout: Mapping[str, Words]) -> bool:
        """Whether the tensors have the axes that are known."""
        return all(
            words == tuple("T" if axis == "total" else axis for axis in asked)
            for name, words in self.axes.items()
            if (asked := layout.get(name) or layout.get(ALL))
        )

    @property
    def described(self) -> str:
        """The layouts in words."""
        heads = f" of {self.query.shape[1]} heads" if "·" in "".join(self.orders) else ""
        query, key, output = (f"({order.replace(' ', ', ')})" for order in self.orders)
        if self.kinds == 1:
            return f"layout {query}{heads}"
        query += heads if "·" in query else ""
        if query == key:
            return f"layout of the inputs {query}, of the output {output}"
        if query == output:
            return f"layout of query and output {query}, of key and value {key}"
        return f"layout of query {query}, of key and value {key}, of the output {output}"


def arrangements(
    tensors: Mapping[str, Array],
    *,
    by_head: bool,
    layout: Mapping[str, Words] = MappingProxyType({}),
) -> list[Arrangement]:
    """Read the axes in every way in which the shapes fit, the simplest first.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        ``query``, ``key``, ``value``, and ``out`` if there is one.
    by_head : bool
        Whether something else in the file goes by item or head: then (N, T, H) and (heads, T, H)
        are not the same.
    layout : mapping of str to tuple of str, optional
        Axes that are known, by name; `ALL` of all tensors.

    Raises
    ------
    ShapeError
        If none fits.
    DataError
        If there is one key for each query, so that there is nothing to read.

    Examples
    --------
    >>> x = np.zeros((2, 5, 3, 4))
    >>> [one.described for one in arrangements(dict.fromkeys(("query", "key", "value", "out"), x),
    ...                                        by_head=False)][:2]
    ['layout (N, heads, T, H)', 'layout (N, T, heads, H)']
    """
    found = [one for one in _fitting(tensors) if one.is_in(layout)]
    if not layout:
        found = [one for one in found if not _is_double(one, by_head)]
    if not found:
        said = f"--layout {written(layout)} does not fit" if layout else "no layout fits"
        raise ShapeError(f"{said} the shapes: {_shapes(tensors)}")
    longest = [one for one in found if one.key.shape[2] > 1]
    if not longest or any(_is_bare(one) for one in found if one not in longest):
        raise DataError("there is one key: each output is its value, whatever was computed")
    places = {order: number for group in _ORDERS.values() for number, order in enumerate(group)}
    return sorted(longest, key=lambda one: (one.kinds, sum(places[x] for x in one.orders)))


def _shapes(tensors: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {x.shape}" for name, x in tensors.items())


def _is_bare(one: Arrangement) -> bool:
    """Whether each output is the value of the only key there is, and not of others as well."""
    if one.output is None or np.ptp(one.value) == 0:
        return False
    value = np.repeat(one.value, one.query.shape[1] // one.value.shape[1], axis=1)
    return bool(np.allclose(one.output, value, rtol=1e-6, atol=0.0))


def _fitting(tensors: Mapping[str, Array]) -> Iterator[Arrangement]:
    query, key, value, out = (tensors.get(x) for x in ("query", "key", "value", "out"))
    assert query is not None
    assert key is not None
    assert value is not None
    if key.ndim != value.ndim:
        return
    for own, theirs in product(_ORDERS.get(query.ndim, ()), _ORDERS.get(key.ndim, ())):
        if own.endswith(" T"):
            continue  # a key that is transposed already is known, a query is not
        for heads, H in _heads(query, own):
            q = as_canonical(query, own, heads)
            kv_heads = key.shape[-1] // H if "·" in theirs else 1
            if "·" in theirs and (kv_heads * H != key.shape[-1] or value.shape[-1] % kv_heads):
                continue
            k = as_canonical(key, theirs, kv_heads)
            v = as_canonical(value, theirs.replace("H T", "T H"), kv_heads)
            fits = k.shape[0] == q.shape[0] and k.shape[-1] == q.shape[-1]
            fits = fits and v.shape[:3] == k.shape[:3] and q.shape[1] % k.shape[1] == 0
            if not fits:
                continue
            if out is None:
                yield Arrangement(q, k, v, None, (own, theirs, own))
                continue
            shape = (*q.shape[:3], v.shape[-1])
            for order in _ORDERS.get(out.ndim, ()):
                if "·" in order and out.shape[-1] != shape[1] * shape[-1]:
                    continue
                if order.endswith(" T"):
                    continue
                o = as_canonical(out, order, shape[1])
                if o.shape == shape:
                    yield Arrangement(q, k, v, o, (own, theirs, order))


def _heads(query: Array, order: str) -> Iterator[tuple[int, int]]:
    """Give how many heads a query may have, and their size."""
    size = query.shape[-1]
    if "·" not in order:
        yield 1, size
        return
    for heads in range(2, size // 2 + 1):
        if size % heads == 0:
            yield heads, size // heads


def _is_double(one: Arrangement, by_head: bool) -> bool:
    """Whether it is the same calculation as a simpler one."""
    N, heads, kv_heads, _, _ = one.sizes
    orders = set(one.orders)
    if heads == 1 and "·" in "".join(orders):
        return True
    alike = heads == kv_heads and not by_head  # each item and head is computed by itself
    if one.query.ndim == 4 and len(one.orders[0].split()) < 4:
        # Of three axes, items are meant where they come first, and heads where they do not.
        return "T N H" in orders or (alike and orders == {"heads T H"})
    order = one.orders[0]
    items_first = order.find("N") < order.find("heads")
    return len(order.split()) == 4 and not items_first and (alike or 1 in (N, heads))


def as_canonical(x: Array, order: str, heads: int = 1) -> Array:
    """Return an array as (N, heads, T, H), or (N, heads, T) if its order has no H."""
    if "·" in order:
        x = x.reshape(*x.shape[:-1], heads, -1)
        order = order.replace("heads·H", "heads H")
    names = order.split()
    wanted = [name for name in _CANONICAL if name in names]
    x = x.transpose([names.index(name) for name in wanted])
    for axis, name in enumerate(_CANONICAL[:2]):
        if name not in names:
            x = np.expand_dims(x, axis)
    return x


def of_rows(x: Array, shape: tuple[int, int, int]) -> Array | None:
    """Read one number a row, as a log-sum-exp is, as (N, heads, T_dec); None if it does not fit."""
    for order in _OF_ROWS.get(x.ndim, ()):
        found = as_canonical(x, order)
        if found.shape == shape:
            return found
    return None


def of_weights(x: Array, shape: tuple[int, int, int, int]) -> Array | None:
    """Read weights as (N, heads, T_dec, T_enc); None if they do not fit."""
    for lead in ("N heads", "heads N") if x.ndim == 4 else ("N", "heads") if x.ndim == 3 else ("",):
        found = as_canonical(x, f"{lead} T H".strip())
        if found.shape == shape:
            return found
    return None
