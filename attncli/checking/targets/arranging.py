"""Targets whose tensors have other axes than ours: turned, heads side by side, items packed.

To the caller everything is (N, heads, T, H), or (N, T, H), whatever the code takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np

from attncli.arrays import Array
from attncli.checking.comparing.rounding import HALF
from attncli.checking.targets.arguments import beside, meanings
from attncli.checking.targets.given import Given, Sizes
from attncli.checking.targets.target import Around, Layer, Target, real_array
from attncli.core.rotary import STYLES
from attncli.errors import ParameterError, TargetError
from attncli.operations import OPERATIONS
from attncli.operations.layout import ALL, PACKED, SIDE_BY_SIDE, Words, written
from attncli.operations.steps import QKV
from attncli.tensors import axes_of

_INPUTS = OPERATIONS[QKV].inputs
_OWN = ("N", "heads", "T", "H")
_BOOKS = ("N", "T", "H")
_APART = {"total": ("N", "T"), SIDE_BY_SIDE: ("heads", "H"), PACKED: ()}
# Of longer ones, no sequence is longer still.
_LONG = 64
# What is said of every item has no place where items are packed.
_OF_ITEMS = ("mask", "padding", "bias", "kv_lengths", "segments", "keep")


def holds_all(target: Target) -> bool:
    """Whether its only input is query, key and value in one array."""
    return [meanings(name) for name in target.inputs] == [("qkv",)]


def usual_layouts(target: Target) -> tuple[Words, ...]:
    """In which layouts its tensors may come, where they cannot come in ours; the likeliest first.

    Empty for what takes query, key and value by themselves, not packed.
    """
    packed = any(beside(name) == "cu_seqlens" and x is ... for name, x in target.options.items())
    if holds_all(target):
        return (_VARLEN_OF_ALL if packed else _OF_ALL) + (_OF_ALL if packed else _VARLEN_OF_ALL)
    return _VARLEN if packed else ()


_OF_ALL = (
    ("N", "T", PACKED, "heads", "H"), ("N", PACKED, "heads", "T", "H"), ("N", "T", PACKED, "H"),
    (PACKED, "N", "heads", "T", "H"), ("N", "T", PACKED, SIDE_BY_SIDE),
    ("T", "N", PACKED, "heads", "H"), (PACKED, "N", "T", "heads", "H"),
)  # fmt: skip
_VARLEN_OF_ALL = (("total", PACKED, "heads", "H"),)
_VARLEN = (("total", "heads", "H"), ("heads", "total", "H"), ("total", SIDE_BY_SIDE))


def arranged(
    target: Target, layout: Mapping[str, Words], names: Sequence[str] | None = None
) -> Target:
    """Give the target arrays in a layout, which to the caller are ours.

    Parameters
    ----------
    target : Target
    layout : mapping of str to tuple of str
        As `attncli.operations.layout.parse_layout` gives it; "" is for all tensors.
    names : sequence of str, optional
        The inputs, as we call them.

    Raises
    ------
    ParameterError
        If there are no such tensors or axes.
    """
    of_all = holds_all(target)
    if not layout and usual_layouts(target):
        layout = {ALL: usual_layouts(target)[0]}
    if not layout or target.is_arranged:
        return target
    names = names or [target.known_as(name) or name for name in target.inputs]
    names = _INPUTS if of_all else names
    queries = next((x for x in names if "T_dec" in (axes_of(x, 3) or ())), names[0])
    asked = {name: layout.get(name, layout.get(ALL)) for name in names}
    asked["out"] = layout.get("out", asked[queries])
    unknown = layout.keys() - {ALL, *asked}
    three = [PACKED in words for name, words in layout.items() if name != "out"]
    general = {*names} == {*_INPUTS}
    unfit = {*chain(*layout.values())} - {
        *(_OWN if general else _BOOKS),
        *(_APART if general else ()),
    }
    if unknown or unfit or three != [of_all] * len(three) or (of_all and ALL not in layout):
        takes = "qkv" if of_all else ", ".join(names)
        raise ParameterError(
            f"--layout {written(layout)}: {target.where} takes {takes} and gives out, "
            f"each of N, T, heads and H{' (and 3)' * of_all}",
            hint=f"--layout {'N,T,3,heads,H' if of_all else 'N,T,heads,H'}",
        )
    forms = {name: _Form(words) for name, words in asked.items() if words is not None}
    packed = any("total" in form.words for form in forms.values())
    meant = {beside(name) for name in target.options}
    single = packed and "cu_seqlens" in meant and "cu_seqlens_k" not in meant
    alike = of_all or single

    def start(sizes: Sizes, given: Given, seed: int) -> Any:
        if any(SIDE_BY_SIDE in form.words for form in forms.values()) and "heads" in sizes:
            sizes = {**sizes, "H": sizes["H"] * sizes["heads"]}
        layer = target.having(given).start(sizes, seed=seed)
        at = layout[ALL].index(PACKED) if of_all else None
        return _Arranged(layer, [forms.get(name) for name in names], forms.get("out"), at, single)

    shapes = {
        theirs: tuple(target.given.shapes[theirs][i] for i in forms[ours].order)
        for theirs, ours in zip(target.inputs, names, strict=True)
        if theirs in target.given.shapes and ours in forms
        and len(forms[ours].order) == len(target.given.shapes[theirs])
    } if not of_all else {}  # fmt: skip
    return replace(
        target,
        inputs=_INPUTS if of_all else target.inputs,
        takes=() if of_all else target.takes,
        options={
            x: y for x, y in target.options.items() if not packed or beside(x) not in _OF_ITEMS
        },
        given=replace(target.given, layout=layout, shapes={**target.given.shapes, **shapes}),
        start_with=start,
        is_arranged=True,
        is_alike=alike,
        renew=lambda: arranged(target.anew(), layout, names),
    )


@dataclass(frozen=True)
class _Form:
    """The axes of one tensor as the code takes it; those of what holds all three but for the 3."""

    words: Words

    @property
    def plain(self) -> Words:
        return tuple(word for word in self.words if word != PACKED)

    @property
    def apart(self) -> Words:
        """Its axes where each of ours has one."""
        return tuple(chain(*(_APART.get(word, (word,)) for word in self.words)))

    @property
    def order(self) -> tuple[int, ...]:
        """Where our axes are among these."""
        return tuple(self.apart.index(axis) for axis in _OWN if axis in self.apart)

    def theirs(self, array: Array, items: "_Items | None", *, fill: bool = True) -> Array:
        """An array of ours as they take it."""
        if array.ndim != len(self.order):
            if self.apart == self.words and "heads" not in self.words:
                return array  # one step of the book's
            raise TargetError(f"an array of {array.ndim} axes is none of {','.join(self.words)}")
        x = array.transpose(np.argsort(self.order))
        if "heads" in self.apart and SIDE_BY_SIDE in self.words:
            at = self.apart.index("heads")
            x = x.reshape(*x.shape[:at], -1, *x.shape[at + 2 :])
        if "total" in self.words and items is not None:
            x = items.packed(x, self.plain.index("total"), fill=fill)
        return np.ascontiguousarray(x) if array.flags.c_contiguous else x

    def ours(self, value: Any, heads: int, items: "_Items | None") -> Any:
        """What they give as an array of ours; as it is where it has other axes."""
        array = real_array(value)
        if array is None or array.ndim != len(self.plain):
            return value
        if "total" in self.words and items is not None:
            at = self.plain.index("total")
            if array.shape[at] != items.total:
                return value
            array = items.unpacked(array, at)
        if SIDE_BY_SIDE in self.words:
            at = self.apart.index("heads")
            if array.shape[at] % heads:
                return value
            array = array.reshape(*array.shape[:at], heads, -1, *array.shape[at + 1 :])
        return array.transpose(self.order)


@dataclass(frozen=True)
class _Items:
    """Items one behind the other, with others between them that are looked at by nobody.

    So none begins at a multiple of its length, and what mixes them shows.

    Attributes
    ----------
    lengths : tuple of int
        Of each sequence, the others among them.
    which : tuple of int
        Which of them are the items.
    """

    lengths: tuple[int, ...]
    which: tuple[int, ...]

    @classmethod
    def of(cls, N: int, T: int, first: int, second: int) -> "_Items":
        """Put one sequence before all items, and one behind the first if its length is not 0."""
        beside = [second] * bool(second)
        lengths = (first, T, *beside, *[T] * (N - 1))
        return cls(lengths, (1, *range(2 + len(beside), N + 1 + len(beside))))

    @property
    def starts(self) -> Array:
        """Where each begins, and where the last ends."""
        return np.array([0, *accumulate(self.lengths)], np.int32)

    @property
    def total(self) -> int:
        return sum(self.lengths)

    def packed(self, x: Array, at: int, *, fill: bool) -> Array:
        """Put the items, which are axis `at` and steps behind it, one behind the other."""
        parts, item = [], 0
        for number, length in enumerate(self.lengths):
            one = x.take(item if number in self.which else 0, axis=at)
            if number in self.which:
                item += 1
            else:  # numbers of the same size, and no gradient of them
                one = one.take(np.arange(length)[::-1] % one.shape[at], axis=at)
                one = one if fill else np.zeros_like(one)
            parts.append(one)
        return np.concatenate(parts, axis=at)

    def unpacked(self, x: Array, at: int) -> Array:
        """The items of what lies so."""
        starts = self.starts
        steps = [np.arange(starts[i], starts[i + 1]) for i in self.which]
        return np.stack([x.take(one, axis=at) for one in steps], axis=at)


class _Arranged(Around):
    """A layer that takes and gives arrays in other forms than ours."""

    def __init__(
        self, layer: Layer, forms: Sequence[_Form | None], out: _Form | None, three: int | None,
        single: bool,
    ) -> None:  # fmt: skip
        super().__init__(layer)
        self._forms, self._out, self._three, self._single = forms, out, three, single
        self._heads, self._items = [1, 1, 1], list[_Items | None]()

    def forward(self, *arrays: Array, **options: Any) -> Any:
        """Run forward."""
        self._heads = [array.shape[1] if array.ndim > 3 else 1 for array in arrays]
        self._items = self._packing(arrays)
        pairs = zip(arrays, self._forms, self._items, strict=True)
        theirs = [array if form is None else form.theirs(array, x) for array, form, x in pairs]
        if self._three is not None:
            if len({array.shape for array in arrays}) > 1:
                raise TargetError("query, key and value in one array are of one shape")
            theirs = [np.stack(theirs, axis=self._three)]
        result = self._layer.forward(*theirs, **{**self._counted(), **options})
        self._seen(arrays)
        return (
            result if self._out is None else self._out.ours(result, self._heads[0], self._items[0])
        )

    def _seen(self, arrays: Sequence[Array]) -> None:
        facts = self._layer.facts
        whole = tuple(range(len(arrays))) if self._three is not None and facts.changed else ()
        self.facts = facts._replace(changed=whole or facts.changed)

    def _packing(self, arrays: Sequence[Array]) -> list[_Items | None]:
        """How the items of each are packed."""
        if not any(form is not None and "total" in form.words for form in self._forms):
            return [None] * len(arrays)
        N, T_dec, T_enc = arrays[0].shape[0], arrays[0].shape[-2], arrays[-1].shape[-2]
        longer = max(T_dec, T_enc) <= _LONG
        alike = self._three is not None or self._single
        keys = (2, (max(T_dec, T_enc) + 2) * longer)
        queries = keys if alike else (1, (T_dec + 1) * longer)
        return [_Items.of(N, T_dec, *queries), *[_Items.of(N, T_enc, *keys)] * (len(arrays) - 1)]

    def _counted(self) -> dict[str, Any]:
        """What says how many heads there are, and where the items begin."""
        known: dict[str, Any] = {"heads": self._heads[0], "kv_heads": self._heads[-1]}
        if self._items[0] is not None and self._items[-1] is not None:
            for end, items in (("", self._items[0]), ("_k", self._items[-1])):
                known["cu_seqlens" + end] = items.starts
                known["max_seqlen" + end] = max(items.lengths)
        side_by_side = any(x is not None and SIDE_BY_SIDE in x.words for x in self._forms)
        return {
            name: known[meaning]
            for name, default in self.target.options.items()
            if (meaning := beside(name)) in known
            and (default is ... or side_by_side or "seqlen" in meaning)
        }

    def backward(self, dout: Array) -> Any:
        """Run backward."""
        out = self._out
        theirs = dout if out is None else out.theirs(dout, self._items[0], fill=False)
        result = self._layer.backward(theirs)
        self.facts = self._layer.facts
        if self._three is not None:
            whole = real_array(result[0] if isinstance(result, (tuple, list)) else result)
            if whole is None or whole.ndim <= self._three or whole.shape[self._three] != 3:
                return result
            result = tuple(np.moveaxis(whole, self._three, 0))
        if isinstance(result, (tuple, list)) and len(self._forms) > 1:
            pairs = zip(result, self._forms, self._heads, self._items, strict=False)
            return tuple(
                value if form is None else form.ours(value, heads, x)
                for value, form, heads, x in pairs
            )
        form = self._forms[0]
        return result if form is None else form.ours(result, self._heads[0], self._items[0])

    def logsumexp(self, rows: tuple[int, ...]) -> tuple[Any, bool]:
        """What the last forward gave for every row, which may lie as our rows do or as theirs."""
        if self._out is None or len(self._out.order) != len(rows) + 1:
            return self._layer.logsumexp(rows)
        theirs = tuple(x for x in self._out.plain if x not in ("H", SIDE_BY_SIDE))
        if SIDE_BY_SIDE in self._out.words:
            theirs += ("heads",)
        ours = tuple(x for x in _OWN[:-1] if len(rows) == 3 or x != "heads")
        packed = ("heads", "total") if "total" in theirs else ours
        sizes = dict(zip(ours, rows, strict=True))
        if (items := self._items[0]) is not None:
            sizes["total"] = items.total
        for words in dict.fromkeys((packed, theirs)):
            array, named = self._layer.logsumexp(tuple(sizes[word] for word in words))
            if array is not None:
                return _Form(words).ours(array, 1, items), named
        return None, False


class Tables(NamedTuple):
    """How cos and sin are given to code that turns query and key by them.

    Attributes
    ----------
    style : {"halves", "interleaved"}
        Which features are a pair, as of `attncli.rotary`.
    axes : tuple of str
    once : bool
        Whether they have one number a pair, else one a feature.
    """

    style: str
    axes: Words
    once: bool

    @property
    def described(self) -> str:
        """Say it in a line."""
        axes = ", ".join(self.axes[:-1])
        return f"({axes}, {'H/2' if self.once else 'H'}), pairs {self.style}"

    def turn(self, x: Array, cos: Array, sin: Array) -> Array:
        """Turn features by angles of which these are the cosines and sines, a pair's each."""
        half = x.shape[-1] // 2
        if self.style == "halves":
            a, b = x[..., :half], x[..., half:]
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
        a, b = x[..., ::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)

    def given(self, table: Array, N: int) -> Array:
        """A table of (T, H/2) as the code is given it."""
        if not self.once:
            halves = self.style == "halves"
            table = np.concatenate([table] * 2, axis=-1) if halves else table.repeat(2, axis=-1)
        lead = tuple(N if axis == "N" else 1 for axis in self.axes[:-2])
        return np.array(np.broadcast_to(table, (*lead, *table.shape)))


TABLES = tuple(
    Tables(style, axes, once)
    for style in STYLES
    for axes in (("T", "H"), ("N", "T", "H"), ("1", "1", "T", "H"))
    for once in (False, True)
)
"""As what cos and sin may be taken."""


def takes_tables(target: Target) -> bool:
    """Whether it must be given cosines and sines, by which it turns query and key."""
    required = {beside(name) for name, default in target.options.items() if default is ...}
    return {"cos", "sin"} <= required


def turning(target: Target, tables: Tables) -> Target:
    """Give the target cosines and sines, and query and key that are turned back by them.

    So what it computes is what is to be computed if, and only if, it turns them as it should.
    """
    names = {beside(name): name for name in target.options if beside(name) in ("cos", "sin")}

    def start(sizes: Sizes, given: Given, seed: int) -> Any:
        return _Turning(target.having(given).start(sizes, seed=seed), tables, names)

    return replace(
        target,
        options={x: y for x, y in target.options.items() if x not in names.values()},
        start_with=start,
        is_alike=True,
        blocks={"H": 2},
        renew=lambda: turning(target.anew(), tables),
    )


class _Turning(Around):
    """A layer that turns query and key by what it is given."""

    def __init__(self, layer: Layer, tables: Tables, names: Mapping[str, str]) -> None:
        super().__init__(layer)
        self._tables, self._names = tables, names
        self._cos = self._sin = np.zeros((0, 0))

    def forward(self, *arrays: Array, **options: Any) -> Any:
        """Run forward."""
        query, key, *rest = arrays
        dtype = query.dtype if query.dtype.name in ("float32", *HALF) else np.dtype(np.float64)
        T, H = key.shape[-2:]
        if H % 2:
            raise TargetError(f"H = {H}: there are pairs of features to be turned")
        # What is turned back is rounded, for which half precision has no numbers to spare.
        base = 0.0 if dtype.name in HALF else 1e4 ** (-2 / H)
        angles = np.arange(T)[:, None] * base ** np.arange(H // 2) * (dtype.name not in HALF)
        self._cos, self._sin = (f(angles).astype(dtype) for f in (np.cos, np.sin))
        cos, sin = (x.astype(np.float64) for x in (self._cos, self._sin))
        kind = dtype if query.dtype.kind in "iuf" else query.dtype
        turned = [self._tables.turn(x, cos, -sin).astype(kind) for x in (query, key)]
        tables = {
            self._names[name]: self._tables.given(table, len(query) if query.ndim > 2 else 1)
            for name, table in (("cos", self._cos), ("sin", self._sin))
        }
        result = self._layer.forward(*turned, *rest, **tables, **options)
        self.facts = self._layer.facts
        return result

    def backward(self, dout: Array) -> Any:
        """Run backward."""
        result = self._layer.backward(dout)
        self.facts = self._layer.facts
        if not isinstance(result, (tuple, list)) or len(result) < 2:
            return result
        return tuple(
            self._back(value) if number < 2 else value for number, value in enumerate(result)
        )

    def _back(self, value: Any) -> Any:
        array = real_array(value)
        T, half = self._cos.shape
        if array is None or array.shape[-2:] != (T, 2 * half):
            return value
        cos, sin = (x.astype(np.float64) for x in (self._cos, self._sin))
        return self._tables.turn(array, cos, sin).astype(array.dtype)
