"""In which order the axes of given tensors come, and how heads lie in them: seen from our own axes.

Everything that computes has its tensors as (N, T, H), or as (N, heads, T, H) where there are heads.
An `Order` turns one tensor into these axes and back; a `Layout` has one for each that is not in
them already.  Neither copies where a view will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attncli.arrays import Array
from attncli.errors import ContradictionError, ParameterError, ShapeError
from attncli.operations.operation import Operation
from attncli.tensors import agreed_sizes, describe_shape

Words = tuple[str, ...]
"""Axes as somebody names them: of N, T or total, heads and H; 3 of query, key and value in one."""

PACKED = "3"
SIDE_BY_SIDE = "heads·H"
ALL = ""
"""The name under which `parse_layout` has the axes of every tensor."""

_WORDS = {
    "N": "N", "n": "N", "B": "N", "b": "N", "batch": "N",
    "T": "T", "t": "T", "S": "T", "s": "T", "L": "T", "seq": "T", "steps": "T",
    "total": "total", "tokens": "total",
    "heads": "heads", "H": "H", "D": "H", "d": "H",
    PACKED: PACKED, SIDE_BY_SIDE: SIDE_BY_SIDE, "heads*H": SIDE_BY_SIDE,
}  # fmt: skip
_NAMES = {"q": "query", "k": "key", "v": "value", "output": "out"}


def parse_layout(text: str) -> dict[str, Words]:
    """Read a layout: axes for all tensors, or for each by its name.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> parse_layout("T,N,H")
    {'': ('T', 'N', 'H')}
    >>> parse_layout("query=N,T,heads,H,key=N,T,heads·H")
    {'query': ('N', 'T', 'heads', 'H'), 'key': ('N', 'T', 'heads·H')}
    """
    found: dict[str, list[str]] = {}
    name = ALL
    for word in text.split(","):
        first, equals, second = (part.strip() for part in word.partition("="))
        if equals:
            name, first = _NAMES.get(first, first), second
        if equals and name in found:
            raise ParameterError(f"{name} is there twice in the layout {text!r}")
        found.setdefault(name, []).append(first)
    layout = {name: tuple(_WORDS.get(word, "") for word in words) for name, words in found.items()}
    for words in layout.values():
        steps = len({"T", "total"} & {*words})
        twice = SIDE_BY_SIDE in words and {"heads", "H"} & {*words}
        if (
            "" in words
            or len({*words}) < len(words)
            or steps != 1
            or not {"H", SIDE_BY_SIDE} & {*words}
            or twice
        ):
            raise ParameterError(
                f"{text!r} is not a layout such as N,T,heads,H: axes are N, T (or total), heads "
                "and H (or heads·H), T and H among them",
                hint="--layout N,T,heads,H",
            )
    return layout


def written(layout: Mapping[str, Words]) -> str:
    """Write a layout as `parse_layout` reads it.

    Examples
    --------
    >>> written({"query": ("T", "H"), "key": ("H", "T")})
    'query=T,H,key=H,T'
    """
    return ",".join(
        (f"{name}=" if name else "") + ",".join(words) for name, words in layout.items()
    )


@dataclass(frozen=True)
class Order:
    """The axes of one tensor as it was given.

    Attributes
    ----------
    axes : tuple of str
        Their names, as in (T_dec, N, H).
    own : tuple of str
        Ours, as in (N, T_dec, H); those that it lacks have length 1.
    heads : int or None
        How many lie beside each other in its last named one of them, H.

    Examples
    --------
    >>> import numpy as np
    >>> order = Order(("T_dec", "N", "H"), ("N", "heads", "T_dec", "H"), heads=3)
    >>> order.to_own(np.zeros((5, 2, 12))).shape
    (2, 3, 5, 4)
    >>> order.to_given(np.zeros((2, 3, 5, 4))).shape
    (5, 2, 12)
    """

    axes: tuple[str, ...]
    own: tuple[str, ...]
    heads: int | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Its axes; the one that holds all heads is named so."""
        if self.heads is None:
            return self.axes
        head, H = self.own[1], self.own[-1]
        return tuple(f"{head}·{axis}" if axis == H else axis for axis in self.axes)

    @property
    def _apart(self) -> tuple[str, ...]:
        """Its axes once heads have one of their own."""
        if self.heads is None:
            return self.axes
        at = self.axes.index(self.own[-1])
        return (*self.axes[:at], self.own[1], *self.axes[at:])

    def to_own(self, x: Array) -> Array:
        """Return the tensor in our axes: a view."""
        axes = self._apart
        if self.heads is not None:
            at, shape = self.axes.index(self.own[-1]), x.shape
            x = x.reshape(*shape[:at], self.heads, shape[at] // self.heads, *shape[at + 1 :])
        x = x.transpose([axes.index(axis) for axis in self.own if axis in axes])
        return x[tuple(slice(None) if axis in axes else None for axis in self.own)]

    def to_given(self, x: Array) -> Array:
        """Return a tensor in our axes as this one was given."""
        axes = self._apart
        x = x[tuple(slice(None) if axis in axes else 0 for axis in self.own)]
        kept = [axis for axis in self.own if axis in axes]
        x = x.transpose([kept.index(axis) for axis in axes])
        if self.heads is not None:
            at, shape = self.axes.index(self.own[-1]), x.shape
            x = x.reshape(*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
        return x

    def place(self, item: int, head: int, steps: slice | Array, H: int) -> tuple[Any, ...]:
        """Return the index of some steps of one head, whose size is H: what is left are two axes.

        They are steps and features, in the order that `upright` says.
        """
        first, last = (head * H, (head + 1) * H) if self.heads is not None else (0, H)
        at = {"N": item, "heads": head, "kv_heads": head, self.own[-1]: slice(first, last)}
        return tuple(at.get(axis, steps) for axis in self.axes)

    @property
    def upright(self) -> bool:
        """Whether its steps come before its features."""
        return self.axes.index(self.own[-2]) < self.axes.index(self.own[-1])

    def require(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise unless a tensor of this shape has such axes.

        Raises
        ------
        ShapeError
        """
        if len(shape) != len(self.axes):
            usual = _USUAL.get(len(shape))
            raise ShapeError(
                f"{name} is {shape}, expected {len(self.axes)} axes: ({', '.join(self.named)})",
                hint=f"--layout {','.join(usual)}" if usual else None,
            )
        width = shape[self.axes.index(self.own[-1])]
        if self.heads is not None and width % self.heads:
            raise ShapeError(f"{name} is {shape}: {width} cannot be split into {self.heads} heads")


@dataclass(frozen=True)
class Layout:
    """The axes of an operation's tensors as they were given.

    Attributes
    ----------
    operation : Operation
    orders : dict of str to Order
        For each input, and for the result, that is not in our axes already.
    words : dict of str to tuple of str
        The layout that was asked for.
    heads : dict of str to int
        ``heads`` and ``kv_heads``, as far as they were asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from attncli.operations.operation import OPERATIONS
    >>> layout = Layout.of(OPERATIONS["time-attention"], {"": ("T", "N", "H")})
    >>> layout.to_own("hs_dec", np.zeros((5, 2, 3))).shape
    (2, 5, 3)
    >>> layout.axes("dhs_enc", 3), layout.axes("weights", 3)
    (('T_enc', 'N', 'H'), ('N', 'T_dec', 'T_enc'))
    """

    operation: Operation
    orders: Mapping[str, Order] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        operation: Operation,
        words: Mapping[str, Words],
        heads: Mapping[str, int] | None = None,
        ndims: Mapping[str, int] | None = None,
    ) -> Layout:
        """Make the layout of an operation's tensors.

        Parameters
        ----------
        operation : Operation
        words : mapping of str to tuple of str
            As `parse_layout` gives it.
        heads : mapping of str to int, optional
            How many ``heads`` and ``kv_heads`` there are; where no axis holds them, they lie beside
            each other in the one of H.
        ndims : mapping of str to int, optional
            How many axes the inputs have that nobody says the axes of.

        Raises
        ------
        ParameterError
            If the operation has no such tensors, or no heads.
        """
        heads, ndims = heads or {}, ndims or {}
        general = operation.layer is None
        if not words and not (heads and general):
            return cls(operation, heads=heads)
        movable = [name for name in operation.inputs if _is_movable(operation.input_axes(name))]
        result = [operation.result] if _is_movable(operation.result_axes) else []
        unknown = [name for name in words if name not in (ALL, *movable, *result)]
        if unknown or not movable:
            of = f" {unknown[0]}=…" if unknown else ""
            takes = ", ".join(movable) or "nothing whose axes could be in another order"
            raise ParameterError(
                f"--layout{of} has no meaning for {operation.name}: it has {takes}"
            )
        if any(PACKED in one for one in words.values()):
            raise ParameterError(
                "--layout: 3 is an axis of qkv, which holds query, key and value in one array"
            )
        if not general and any("heads" in one for one in words.values()):
            raise ContradictionError(f"--layout: {operation.name} has no axis of heads", "--layout")

        asked = {}
        for name in movable:
            usual = _USUAL[3 if heads else ndims.get(name, 3)]
            one = words.get(name) or words.get(ALL) or usual
            if SIDE_BY_SIDE in one and not heads:
                raise ParameterError(
                    f"--layout {','.join(one)}: nothing says how many heads there are",
                    hint="--heads 2",
                )
            asked[name] = tuple("H" if axis == SIDE_BY_SIDE else axis for axis in one)
        leads = next((name for name in movable if "T_dec" in operation.input_axes(name)), None)
        if result and leads is not None:
            asked[operation.result] = words.get(operation.result) or asked[leads]
        several = (bool(heads) and general) or any("heads" in one for one in asked.values())
        orders = {}
        for name, one in asked.items():
            is_result = name == operation.result
            _, T, H = operation.result_axes if is_result else operation.input_axes(name)
            shared = general and name in operation.operands[1:]
            head = "kv_heads" if shared else "heads"
            own = ("N", head, T, H) if several else ("N", T, H)
            axes = tuple({"T": T, "total": T, "heads": head, "H": H}.get(x, x) for x in one)
            count = heads.get("heads")
            count = heads.get("kv_heads", count) if shared else count
            fused = several and "heads" not in one and count is not None
            orders[name] = Order(axes, own, count if fused else None)
        if leads in orders and "N" not in orders[leads].axes:
            rows = orders[leads].own[:-1]  # as (N, heads, T_dec)
            orders["logsumexp"] = Order(rows[1:], rows)
        return cls(operation, orders, words, heads)

    def order(self, name: str) -> Order | None:
        """Return the order of a tensor, or of the gradient of one; None if it is in our axes."""
        return self.orders.get(name) or self.orders.get(name.removeprefix("d"))

    def axes(self, name: str, ndim: int) -> tuple[str, ...] | None:
        """Name the axes of an input, a result or a gradient as it was given."""
        order = self.order(name)
        return self.operation.axes(name, ndim) if order is None else order.named

    def to_own(self, name: str, x: Array) -> Array:
        """Return a tensor, or the gradient of one, in our axes."""
        order = self.order(name)
        return x if order is None else order.to_own(x)

    def to_given(self, name: str, x: Array) -> Array:
        """Return a tensor in our axes, or the gradient of one, as it is given."""
        order = self.order(name)
        return x if order is None else order.to_given(x)

    def read(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the inputs in our axes.

        Raises
        ------
        ShapeError
            If one has other axes, or two disagree.
        ParameterError
            If there are more or fewer heads than were asked for.
        """
        given = {name: self.orders[name] for name in inputs if name in self.orders}
        for name, order in given.items():
            order.require(name, inputs[name].shape)
        agreed = agreed_sizes(
            {name: (order.named, inputs[name].shape) for name, order in given.items()}
        )
        for axis, asked in self.heads.items():
            size, owner = agreed.get(axis, (asked, ""))
            if size != asked:
                raise ParameterError(
                    f"--heads says {asked} {axis}, and {owner} is "
                    f"{describe_shape(inputs[owner].shape, given[owner].named)}"
                )
        return {name: self.to_own(name, x) for name, x in inputs.items()}

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Give the shapes of inputs, as they would be given, for sizes as `Operation.shapes` takes.

        H is the size of a head, or of all where they lie beside each other.
        """
        heads = self.heads.get("heads", _HEADS)
        beside = {"heads": heads, "kv_heads": self.heads.get("kv_heads", heads)}
        shapes = self.operation.shapes(sizes)
        for name in shapes.keys() & self.orders.keys():
            order = self.orders[name]
            full = {
                **beside,
                **dict(zip(self.operation.input_axes(name), shapes[name], strict=True)),
            }
            if order.heads is not None:
                full[order.own[-1]] = full[order.own[-1]] * order.heads // heads
            shapes[name] = tuple(full[axis] for axis in order.axes)
        return shapes


_USUAL: Mapping[int, Words] = {2: ("T", "H"), 3: ("N", "T", "H"), 4: ("N", "heads", "T", "H")}
_HEADS = 2  # of random tensors, where nobody says how many


def _is_movable(axes: tuple[str, ...]) -> bool:
    """Whether these are (N, T, H): what a layout can give in another order."""
    return len(axes) == 3 and axes[0] == "N" and axes[1].startswith("T_") and "T_" not in axes[2]


def unpacked(qkv: Array, words: Words, heads: Mapping[str, int]) -> dict[str, Array]:
    """Return query, key and value out of one array.

    Raises
    ------
    ShapeError
        If it does not hold all three.

    Examples
    --------
    >>> import numpy as np
    >>> parts = unpacked(np.zeros((5, 2, 48)), ("T", "N", "H"), {"heads": 4, "kv_heads": 1})
    >>> [part.shape for part in parts.values()]
    [(5, 2, 32), (5, 2, 8), (5, 2, 8)]
    """
    described = f"qkv is {describe_shape(qkv.shape, words)}"
    if len(words) != qkv.ndim:
        raise ShapeError(
            f"qkv is {qkv.shape}, expected {len(words)} axes: ({', '.join(words)})",
            hint="--layout N,T,3,heads,H",
        )
    if PACKED in words:
        at = words.index(PACKED)
        if qkv.shape[at] != 3:
            raise ShapeError(f"{described}, expected 3 of query, key and value")
        parts = list(np.moveaxis(qkv, at, 0))
    else:
        at = words.index("heads" if "heads" in words else "H")
        query, shared = heads.get("heads", 1), heads.get("kv_heads", heads.get("heads", 1))
        width, rest = divmod(qkv.shape[at], query + 2 * shared)
        if rest:
            raise ShapeError(
                f"{described}: {words[at]} cannot be split into query, key and value of "
                f"{query}, {shared} and {shared} heads"
            )
        parts = np.split(qkv, [width * query, width * (query + shared)], axis=at)
    return dict(zip(("query", "key", "value"), parts, strict=True))


def packed_words(shape: tuple[int, ...]) -> Words:
    """Say what the axes of query, key and value in one array are likely to be.

    Raises
    ------
    ShapeError
        If there is no telling.

    Examples
    --------
    >>> packed_words((2, 5, 3, 6, 4)), packed_words((2, 5, 72))
    (('N', 'T', '3', 'heads', 'H'), ('N', 'T', 'H'))
    """
    for words in _PACKED:
        if len(words) == len(shape) and (PACKED not in words or shape[words.index(PACKED)] == 3):
            return words
    usual = {4: "N,T,heads,H"}.get(len(shape), "N,T,3,heads,H")
    raise ShapeError(
        f"qkv is {shape}, and nothing says which axis is what", hint=f"--layout {usual}"
    )


_PACKED: tuple[Words, ...] = (
    ("N", "T", PACKED, "heads", "H"),
    (PACKED, "N", "heads", "T", "H"),
    ("N", PACKED, "heads", "T", "H"),
    ("N", "T", PACKED, "H"),
    ("total", PACKED, "heads", "H"),
    ("N", "T", "H"),
)


def readings(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    known: Mapping[str, int],
) -> tuple[Words | None, list[Words]]:
    """Say whether these shapes fit each other as they usually lie, and in which other layouts.

    Parameters
    ----------
    query, key, value : tuple of int
    known : mapping of str to int
        Sizes that are known otherwise: of query's ``heads``, and ``total`` of packed queries.

    Examples
    --------
    >>> readings((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4), {})
    (('N', 'heads', 'T', 'H'), [])
    >>> readings((2, 5, 3, 4), (2, 7, 3, 4), (2, 7, 3, 4), {})
    (None, [('N', 'T', 'heads', 'H')])
    >>> both = (2, 5, 3, 4), (2, 5, 3, 4), (2, 5, 3, 4)
    >>> readings(*both, {})
    (('N', 'heads', 'T', 'H'), [('N', 'T', 'heads', 'H')])
    >>> readings(*both, {"heads": 5})
    (('N', 'heads', 'T', 'H'), [])
    """
    if not len(query) == len(key) == len(value):
        return None, []
    usual, *others = _READINGS.get(len(query), [()])
    if "total" in known and len(query) == 3:
        others.insert(0, ("total", "heads", "H"))
    fitting = [
        words
        for words in others
        if _fit(words, query, key, value, known)
        and not any(word == "T" and size == 1 for word, size in zip(words, key, strict=True))
    ]  # of a single key all weights are 1: nobody has that
    return usual if usual and _fit(usual, query, key, value, known) else None, fitting


_READINGS: Mapping[int, list[Words]] = {
    3: [("N", "T", "H"), ("T", "N", "H")],
    4: [("N", "heads", "T", "H"), ("N", "T", "heads", "H")],
}


def _fit(
    words: Words,
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    known: Mapping[str, int],
) -> bool:
    names = ["T" if word == "total" else word for word in words]
    q, k, v = (
        {"N": 1, "heads": 1, **dict(zip(names, x, strict=True))} for x in (query, key, value)
    )
    return (
        q["N"] == k["N"] == v["N"]
        and q["H"] == k["H"]
        and k["T"] == v["T"]
        and k["heads"] == v["heads"] > 0
        and q["heads"] % k["heads"] == 0
        and known.get("heads", q["heads"]) in (1, q["heads"])
        and known.get("total", q["T"]) == q["T"]
    )
